"""The targets of each stage against those that the loaders hand out."""

from pathlib import Path

import numpy as np
import pytest

from btc_datamodule import (
    BTCDataModule,
    CumulativeReturn,
    Direction,
    LogReturn,
    Target,
    TripleBarrier,
)
from btc_datamodule.overview import labels
from btc_datamodule.overview.labels import Labels, describe_labels, name_classes
from tests.factories import HOUR, make_datamodule


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


def describe(folder: Path, target: Target) -> tuple[BTCDataModule, Labels]:
    dm = make_datamodule(folder, target=target)
    return dm, describe_labels(dm.stages)


def test_values_are_counted_in_bins_that_all_stages_share(folder: Path) -> None:
    dm, found = describe(folder, LogReturn())
    assert [each.stage for each in found.stages] == ["train", "val", "test"]
    assert found.classes == ()
    for each in found.stages:
        y = dm.dataset(each.stage)[:].y.numpy().ravel().astype(np.float64)
        assert each.windows == len(dm.dataset(each.stage))
        assert each.counts.sum() + each.below + each.above == len(y)
        assert each.below == (y < found.edges[0]).sum()
        np.testing.assert_allclose(each.mean, y.mean(), rtol=1e-3, atol=1e-9)
        np.testing.assert_allclose(each.deviation, y.std(), rtol=1e-5)
    train = found.get("train")
    assert train is not None
    assert train.share.sum() == pytest.approx(
        1 - (train.below + train.above) / (train.windows * dm.horizon)
    )


def test_classes_are_counted_by_their_names(folder: Path) -> None:
    dm, found = describe(folder, Direction(classes=True))
    assert found.classes == ("not up", "up")
    for each in found.stages:
        y = dm.dataset(each.stage)[:].y.numpy()
        assert each.counts.tolist() == np.bincount(y, minlength=2).tolist()
    assert found.extremes == ()
    assert found.get("predict") is None


def test_labels_that_are_no_classes_are_named_too() -> None:
    assert name_classes(Direction()) == ("down", "flat", "up")
    assert name_classes(Direction(classes=True, dead_zone=0.1)) == ("down", "flat", "up")
    assert name_classes(TripleBarrier()) == ("lower barrier", "neither", "upper barrier")


def test_classes_of_ones_own_are_numbers() -> None:
    class Quarters(CumulativeReturn):
        n_classes = 4

    assert name_classes(Quarters()) == ("0", "1", "2", "3")


def test_extremes_are_the_largest_and_smallest_and_share_no_bar(folder: Path) -> None:
    dm, found = describe(folder, LogReturn())
    for stage in ("train", "val", "test"):
        batch = dm.dataset(stage)[:]
        y = batch.y.numpy().reshape(len(batch.y), -1)
        own = [each for each in found.extremes if each.stage == stage]
        assert own[0].value == pytest.approx(y.max())
        assert own[-1].value == pytest.approx(y.min())
        at = batch.origin_time.tolist().index(own[0].origin_time)
        assert y[at].max() == pytest.approx(own[0].value)
        times = np.sort([each.origin_time for each in own[:3]])
        assert (np.diff(times) >= 3 * HOUR).all()


def test_of_very_many_windows_each_nth_is_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "MOST_NUMBERS", 500)
    dm, found = describe(folder, LogReturn())
    train = found.get("train")
    assert train is not None
    size = len(dm.dataset("train"))
    assert train.every == -(-size * 4 // 500)
    counted = train.counts.sum() + train.below + train.above
    assert counted == 3 * -(-size // train.every)
