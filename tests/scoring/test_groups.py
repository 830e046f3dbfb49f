"""Samples by when they are."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from btc_datamodule import BTCDataModule, CombinatorialPurged, ConfigError, CumulativeReturn
from btc_datamodule.scoring.card import open_fold
from btc_datamodule.scoring.groups import compare_paths, list_groups, score_groups
from btc_datamodule.scoring.money import compute_overfitting
from btc_datamodule.scoring.samples import list_samples
from tests.scoring.test_score import make, score


def test_each_sample_is_in_one_group_of_each_kind(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn(), start="2019-11-01", end="2020-02-01")
    found = score(dm, list_samples(dm.stages, "test").truth)
    for by in ("fold", "year", "volatility", "hour"):
        groups = list_groups(found, by)
        assert (np.sum([*groups.values()], axis=0) == 1).all()
    hours = list_groups(found, "hour")
    for at in (0, 7, 100):
        when = datetime.fromtimestamp(int(found.origin_time[at]), UTC)
        assert hours[when.strftime("%a %H")][at]
    assert {*list_groups(found, "year")} == {"2020"}
    counts = [int(rows.sum()) for rows in list_groups(found, "volatility").values()]
    assert max(counts) - min(counts) <= 2


def test_a_group_is_measured_as_if_it_were_all_there_is(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    truth = list_samples(dm.stages, "test").truth
    found = score(dm, np.zeros_like(truth))
    frame = score_groups(found, "volatility")
    assert frame["volatility"].to_list() == ["low", "middle", "high"]
    rows = list_groups(found, "volatility")["high"]
    assert frame["mae"][2] == pytest.approx(np.abs(found.truth[rows]).mean())
    assert frame["mae"][0] < frame["mae"][2]
    assert frame["samples"].sum() == len(truth)
    few = score_groups(found, "hour")
    assert few["difference"].null_count() == len(few), "of ten samples or fewer nothing is tested"


def test_what_there_is_to_group_by_is_told(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    found = score(dm, list_samples(dm.stages, "test").truth)
    by: Any = "month"
    with pytest.raises(ConfigError, match="choose one of fold, year, volatility, hour, path"):
        list_groups(found, by)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[BTCDataModule, dict[int, Any]]:
    """A combinatorial split of 4 groups by 2, and forecasts of its 6 folds."""
    folder = tmp_path_factory.mktemp("paths")
    dm = make(folder, target=CumulativeReturn(), split=CombinatorialPurged(4, 2))
    given = {}
    for fold in range(6):
        stages = open_fold(dm.stages, fold)
        samples = list_samples(stages, "test")
        said = np.random.default_rng(fold).normal(size=samples.truth.shape)
        given[fold] = {"origin_time": samples.origin_time, "forecast": said}
    return dm, given


def test_a_path_has_of_each_group_the_forecasts_that_stitching_takes(
    paths: tuple[BTCDataModule, dict[int, Any]],
) -> None:
    dm, given = paths
    card = dm.score({"m": given}, cost=0)
    groups = list_groups(card.score, "path")
    frames = [
        pl.DataFrame({"origin_time": each["origin_time"], "f": each["forecast"][:, 0]})
        for _, each in sorted(given.items())
    ]
    split = dm.split
    assert isinstance(split, CombinatorialPurged)
    stitched = split.stitch(frames, dm.table.span, dm.interval, 1)
    assert [*groups] == ["0", "1", "2"]
    for rows, wanted in zip(groups.values(), stitched, strict=True):
        assert card.score.origin_time[rows].tolist() == wanted["origin_time"].to_list()
        assert card.score.forecasts["m"][rows, 0].tolist() == wanted["f"].to_list()
    frame = card.by("path")
    assert frame["net"].to_list() == frame["gross"].to_list()
    assert frame["hold"].n_unique() == 1
    again = len(card.score.truth) - frame["samples"][0]
    assert card.score.notes[-1].startswith(f"{again:,} of the samples are of origins that an earl")
    assert card.score.overlap == 4 * 3
    assert "net" in card.tell("path").splitlines()[0]


def test_overfitting_is_told_over_paths_and_of_all_forecasts_path_by_path(
    paths: tuple[BTCDataModule, dict[int, Any]],
) -> None:
    dm, given = paths
    alone = dm.score({"m": given}).ledger
    assert alone is not None
    groups = list_groups(alone.score, "path").values()
    nets = [replace(alone, rows=rows).runs["m"].net for rows in groups]
    assert len({len(each) for each in nets}) == 1
    assert compare_paths(alone) == compute_overfitting(np.stack(nets, axis=1))
    other = {fold: {**each, "forecast": -each["forecast"] + 1e-3} for fold, each in given.items()}
    both = dm.score({"m": given, "other": other})
    assert both.ledger is not None
    of_paths = [
        replace(both.ledger, rows=rows).compute_overfitting()
        for rows in list_groups(both.score, "path").values()
    ]
    assert compare_paths(both.ledger) == pytest.approx(np.mean(of_paths))  # type: ignore[arg-type]
    assert "among the forecasts, path by path: " in str(both)
    part = dm.score({"m": {fold: given[fold] for fold in (0, 1)}})
    with pytest.raises(ConfigError, match=r"all 6 folds are needed: those of 2, 3, 4, 5 are not"):
        part.by("path")
    assert part.ledger is not None
    assert compare_paths(part.ledger) is None


def test_other_splits_have_no_paths(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    found = score(dm, list_samples(dm.stages, "test").truth)
    with pytest.raises(ConfigError, match="by is 'path', which test of CombinatorialPurged has"):
        list_groups(found, "path")
