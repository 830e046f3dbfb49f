"""Labels as classes 0..C-1 for ``cross_entropy``: the whole way, and what is never scaled."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from btc_datamodule import (
    Batch,
    BTCDataModule,
    ConfigError,
    Direction,
    DummyModule,
    LogReturn,
    Target,
    TripleBarrier,
)
from btc_datamodule.evaluation.scaling import Scaler
from btc_datamodule.plain import describe, repr_as_before
from tests.factories import make_datamodule, make_model, make_trainer

CLASSES: list[Target] = [
    Direction(classes=True),
    Direction(0.002, classes=True),
    TripleBarrier(up=1.5, down=1.0, volatility_bars=6, classes=True),
]
SIGNS: list[Target] = [Direction(), Direction(0.002), TripleBarrier(1.5, 1.0, 6)]
ALL = pytest.mark.parametrize(("target", "sign"), list(zip(CLASSES, SIGNS, strict=True)), ids=repr)


def bars(*closes: list[float]) -> NDArray[np.float64]:
    return np.array(closes, dtype=np.float64)[:, :, np.newaxis]


@dataclass(frozen=True)
class Steps(Target):
    """Classes of one's own, one for each target bar: 0 fell, 1 stayed, 2 rose."""

    gives: Any = np.int32

    n_classes = 3

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (horizon,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.integer]:
        moves = np.sign(np.diff(bars[:, :, 0], axis=1))
        made: NDArray[np.integer] = np.where(np.isnan(moves), -100, moves + 1).astype(self.gives)
        return made


# --- by hand ------------------------------------------------------------------------------------


def test_direction_without_a_dead_zone_has_two_classes_and_no_change_is_not_up() -> None:
    y = Direction(classes=True)(bars([100, 101], [100, 99], [100, 100], [100, math.nan]))
    assert y.dtype == np.int64
    assert y.tolist() == [1, 0, 0, -100]
    assert Direction(classes=True).n_classes == 2


def test_direction_with_a_dead_zone_has_three_classes_down_flat_and_up() -> None:
    target = Direction(0.05, classes=True)
    y = target(bars([100, 110], [100, 90], [100, 101], [math.nan, 101]))
    assert y.tolist() == [2, 0, 1, -100]
    assert target.n_classes == 3
    assert Direction(1e-9, classes=True)(bars([100, 100])).tolist() == [1]


@ALL
def test_the_classes_are_the_labels_counted_from_0(target: Target, sign: Target) -> None:
    rng = np.random.default_rng(0)
    closes = np.exp(rng.normal(0, 0.003, (500, target.reference_bars + 4)).cumsum(axis=1))
    whole = np.stack([closes * 1.002, closes * 0.998, closes], axis=2)
    whole[::7, -1] = np.nan
    given = whole if len(target.columns) == 3 else whole[:, :, 2:]
    y, labels = target(given), sign(given)[:, 0]
    assert y.shape == (500, *target.shape(4)) == (500,)
    assert ((y == -100) == np.isnan(labels)).all()
    known = y != -100
    if target.n_classes == 2:
        assert (y[known] == (labels[known] > 0)).all()
    else:
        assert (y[known] == labels[known] + 1).all()
        assert set(y[known].tolist()) == {0, 1, 2}


def test_what_is_known_without_data_sizes_the_model() -> None:
    dm = BTCDataModule(target=TripleBarrier(classes=True))
    assert (dm.n_classes, dm.target_shape) == (3, ())
    assert BTCDataModule(target=Direction()).n_classes is None
    with pytest.raises(ConfigError, match=r"target.classes is 1: it must be true or false"):
        Direction(classes=1)  # type: ignore[arg-type]


# --- the whole way ------------------------------------------------------------------------------


@ALL
def test_batches_samples_and_collated_samples_have_int64_classes(
    tmp_path: Path, target: Target, sign: Target
) -> None:
    dm = make_datamodule(tmp_path, target=target)
    signs = make_datamodule(tmp_path, target=sign)
    batch = next(iter(dm.val_dataloader()))
    labels = next(iter(signs.val_dataloader())).y[:, 0]
    assert (batch.y.dtype, batch.y.shape) == (torch.int64, (32,))
    due = (labels > 0).long() if dm.n_classes == 2 else labels.long() + 1
    assert batch.y.tolist() == due.tolist()
    windows = dm.dataset("val")
    assert (windows[3].y.dtype, windows[3].y.shape) == (torch.int64, ())
    collated = next(iter(DataLoader(windows, batch_size=32)))
    assert all(torch.equal(ours, its) for ours, its in zip(batch, collated, strict=True))
    assert isinstance(collated, Batch)
    last = list(dm.predict_dataloader())[-1].y
    assert last[-3:].tolist() == [-100] * 3, "the future of the last origins is not known"
    assert cross_entropy(torch.zeros(len(last), 3), last).isfinite()


def test_windows_gathered_on_the_device_have_the_same_classes(tmp_path: Path) -> None:
    make = partial(make_datamodule, tmp_path, target=CLASSES[2], shuffle="none")
    host, device = make(), make(gather="device")
    for one, starts in zip(host.train_dataloader(), device.train_dataloader(), strict=True):
        other = device.transfer_batch_to_device(starts, "cpu", 0)
        assert other.y.dtype == torch.int64
        assert torch.equal(one.y, other.y)


@pytest.mark.parametrize("target", [*CLASSES, Steps()], ids=repr)
def test_a_dummy_model_learns_them_and_predicts_classes(tmp_path: Path, target: Target) -> None:
    dm = make_datamodule(tmp_path, target=target)
    model, trainer = make_model(dm), make_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, datamodule=dm)
    (tested,) = trainer.test(model, datamodule=dm, verbose=False)
    with torch.no_grad():
        due = [(model(each.x), each.y) for each in dm.test_dataloader()]
    logits, y = (torch.cat(each) for each in zip(*due, strict=True))
    assert tested["test_loss"] == pytest.approx(cross_entropy(logits, y).item())
    first: Any = (trainer.predict(model, datamodule=dm) or [])[0]
    assert first["forecast"].dtype == torch.int64
    assert first["forecast"].shape == (32, *dm.target_shape)
    assert first["probability"].shape == (32, dm.n_classes, *dm.target_shape)
    assert torch.allclose(first["probability"].sum(dim=1), torch.ones(first["forecast"].shape))


def test_a_dummy_model_that_was_not_told_of_the_classes_says_so(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, target=CLASSES[0])
    model = DummyModule(dm.n_features, dm.lookback, dm.horizon)
    with pytest.raises(ConfigError, match=r"give it `n_classes=dm\.n_classes`"):
        make_trainer(tmp_path, max_epochs=1).fit(model, datamodule=dm)


def test_the_audit_holds_on_classes(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, target=CLASSES[2], end="2021-03-12")
    found = dm.audit(ask_source=False)
    assert (found.failed, found.unchecked) == ((), ())


def test_the_audit_finds_classes_that_are_known_at_the_origin(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, target=Known())
    assert "targets are not known at the origin" in dm.audit(ask_source=False).failed


@dataclass(frozen=True)
class Known(Steps):
    """Whether the bar before the origin rose, -100 where the future is not known."""

    reference_bars = 2

    def shape(self, horizon: int) -> tuple[int, ...]:
        return ()

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.integer]:
        made = np.sign(bars[:, 1, 0] - bars[:, 0, 0]) + 1
        return np.where(np.isnan(bars).any(axis=(1, 2)), -100, made).astype(np.int64)


def test_no_prices_can_be_told_from_classes(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, target=CLASSES[1])
    batch = next(iter(dm.val_dataloader()))
    with pytest.raises(ConfigError, match="no prices can be told from the target Direction"):
        dm.to_prices(batch.y, batch.origin_time)
    assert torch.equal(dm.inverse_transform(batch.y), batch.y)


@pytest.mark.parametrize(
    ("gives", "what"), [(np.float64, r"float64 such as \["), (np.uint8, r"uint8 such as .*156")]
)
def test_classes_that_are_no_whole_numbers_in_range_are_refused(
    tmp_path: Path, gives: Any, what: str
) -> None:
    dm = make_datamodule(tmp_path, target=Steps(gives))
    last = np.arange(len(dm.dataset("predict")))[-2:]
    with pytest.raises(ConfigError, match=rf"Steps gave {what}.*numbers from 0 to 2, or -100"):
        dm.dataset("predict")[last]


def test_a_target_without_an_axis_that_has_no_classes_is_refused() -> None:
    @dataclass(frozen=True)
    class Flat(LogReturn):
        def shape(self, horizon: int) -> tuple[int, ...]:
            return ()

    with pytest.raises(ConfigError, match="a shape of one axis or more, unless it says its `n_cl"):
        BTCDataModule(target=Flat())


# --- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [*CLASSES, Steps()], ids=repr)
def test_class_weights_are_balanced_over_the_train_windows(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btc_datamodule.windows.dataset.TARGET_BYTES", 4000)  # many chunks
    dm = make_datamodule(tmp_path, target=target)
    windows = dm.dataset("train")
    counts = np.bincount(
        windows[np.arange(len(windows))].y.reshape(-1), minlength=dm.n_classes or 0
    )
    due = [counts.sum() / (dm.n_classes * n) if n else 0 for n in counts]
    assert dm.class_weights.dtype == torch.float32
    assert dm.class_weights.tolist() == pytest.approx(due)
    assert (dm.class_weights * torch.from_numpy(counts)).sum() == pytest.approx(
        counts.sum() * np.count_nonzero(counts) / dm.n_classes
    )


def test_a_class_that_train_does_not_have_weighs_nothing(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, target=Direction(10.0, classes=True))
    assert dm.class_weights.tolist() == pytest.approx([0, 1 / 3, 0])


def test_weights_of_a_target_without_classes_are_an_error_that_names_one_that_has(
    tmp_path: Path,
) -> None:
    dm = make_datamodule(tmp_path, target=Direction())
    with pytest.raises(ConfigError, match=r"has no classes to weigh: choose Direction\(classes=T"):
        _ = dm.class_weights


# --- never scaled -------------------------------------------------------------------------------


@pytest.mark.each_value
@pytest.mark.parametrize("target", [*CLASSES, *SIGNS, Steps()], ids=repr)
@pytest.mark.parametrize("scaling", ["train", "robust"])
def test_labels_are_never_scaled_and_it_is_said(
    tmp_path: Path, target: Target, scaling: Any
) -> None:
    with pytest.warns(UserWarning, match=f"`target_scaling: {scaling}` leaves the labels of targ"):
        dm = make_datamodule(tmp_path, target=target, target_scaling=scaling)
    plain = make_datamodule(tmp_path, target=target)
    assert dm.target_scaler.method == "none"
    every = np.arange(len(dm.dataset("test")))
    assert torch.equal(dm.dataset("test")[every].y, plain.dataset("test")[every].y)


def test_a_checkpoint_whose_labels_were_scaled_goes_on_as_it_was(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="leaves the labels"):
        dm = make_datamodule(tmp_path, target=Direction(), target_scaling="train")
    state = dm.state_dict()
    state["target_scaler"] = {"method": "train", "center": [0.25], "scale": [0.5]}
    plain = next(iter(dm.val_dataloader())).y
    dm.load_state_dict(state)
    assert dm.target_scaler == Scaler("train", (0.25,), (0.5,))
    scaled = next(iter(dm.val_dataloader())).y
    assert torch.equal(scaled, (plain - 0.25) / 0.5)
    assert torch.equal(dm.inverse_transform(scaled), plain)


# --- checkpoints of before ----------------------------------------------------------------------


def test_what_checkpoints_compare_is_as_it_was_before_there_were_classes() -> None:
    assert describe(Direction(0.5)) == "Direction(dead_zone=0.5)"
    assert repr_as_before(Direction()) == "Direction(dead_zone=0.0)"
    assert repr_as_before(TripleBarrier()) == "TripleBarrier(up=2.0, down=2.0, volatility_bars=24)"
    assert describe(Direction(classes=True)) == "Direction(dead_zone=0, classes=True)"
    settings = BTCDataModule(target=Direction()).settings
    settings.check_same({"target": "Direction(dead_zone=0.0)"}, "a checkpoint of 0.1")
    with pytest.raises(ConfigError, match="was trained with other data settings: target was"):
        BTCDataModule(target=Direction(classes=True)).settings.check_same(
            {"target": "Direction(dead_zone=0.0)"}, "a checkpoint of 0.1"
        )
