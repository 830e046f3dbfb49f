"""Batches with ``mask: feature``: what was observed of each feature, on host and device."""

import pickle
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from btc_datamodule import Batch, BTCDataModule, FractionSplit, Simulator
from btc_datamodule.features.checking import SegmentChecks
from tests.factories import HOUR, START, InMemory, hourly, make_datamodule, make_model, make_trainer
from tests.features.tables import PATCHY

CLOSES = [100, 110, 121, 133, None, None, None, 160, 170, 180, 190, 200, 210, 220, 230, 240]
"""Of rows 4 to 6 there is no candle; with ``max_fill`` 1 rows 5 and 6 are an outage."""

FEATURES = ["log_return", "day_sin", PATCHY, "slow = close / close.shift(2) - 1"]

make = partial(
    make_datamodule,
    source=Simulator(seed=3, outages_per_year=100, no_trade=0.02),
    features=FEATURES,
    mask="feature",
    min_observed=0.3,
    split=FractionSplit(0.2, 0.2),
)


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    """That windows are left out is meant here."""
    with warnings.catch_warnings():
        for message in ("windows are left out", "`mask: feature` with"):
            warnings.filterwarnings("ignore", message=message)
        yield


def all_of(dm: BTCDataModule, stage: Any = "train") -> Batch:
    dataset = dm.dataset(stage)
    return dataset[np.arange(len(dataset))]


def assert_same(one: Batch, other: Batch) -> None:
    for left, right in zip(one, other, strict=True):
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
        assert left.numpy().tobytes() == right.numpy().tobytes()


# --- content ------------------------------------------------------------------------------------


def test_masks_and_inputs_are_exact(tmp_path: Path) -> None:
    dm = make(
        tmp_path,
        source=InMemory(hourly(CLOSES)),
        features=["log_return", PATCHY, "slow = close / close.shift(2) - 1"],
        lookback=4,
        horizon=1,
        max_fill=1,
        min_observed=0.25,
        scaling="none",
        batch_size=1,
        split=FractionSplit(0.1, 0.1),
    )
    batch = all_of(dm)
    at = ((batch.origin_time - START) // HOUR).tolist()
    # Patchy is known in rows 0, 1, 5, 6, 10, 11, of which two are an outage; and in 15.
    assert at == [10, 11]  # the target of 12 is one of val
    assert batch.observed.shape == batch.x.shape == (2, 4, 3)
    assert batch.observed[0].tolist() == [  # rows 7 to 10
        [False, False, False],
        [True, False, False],
        [True, False, True],
        [True, True, True],
    ]
    due = [
        [0, 0, 0],
        [np.log(170 / 160), 0, 0],
        [np.log(180 / 170), 0, 180 / 160 - 1],
        [np.log(190 / 180), 190, 190 / 170 - 1],
    ]
    np.testing.assert_allclose(batch.x[0], due, rtol=1e-5)


@pytest.mark.each_value
@pytest.mark.parametrize("undefined", ["drop", "flag"])
@pytest.mark.parametrize("scaling", ["train", "robust", "window", "none"])
def test_the_scaled_value_is_handed_out_where_observed_and_else_0(
    tmp_path: Path, scaling: str, undefined: str
) -> None:
    dm = make(tmp_path, scaling=scaling, undefined=undefined)
    batch, table = all_of(dm), dm.table
    assert batch.observed.shape == batch.x.shape == (len(batch.x), 12, dm.n_features)
    rows = (batch.origin_time.numpy()[:, None] - table.first) // HOUR + np.arange(-11, 1)
    seen = table.observed[rows] == 1
    np.testing.assert_array_equal(batch.observed, seen)
    raw = table.x[rows].astype(np.float64)
    counts = seen & ~np.isnan(raw)
    values = np.where(counts, raw, 0)
    if scaling == "window":
        number = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        values = np.where(counts, raw - values.sum(axis=1, keepdims=True) / number, 0)
        spread = np.sqrt((values**2).sum(axis=1, keepdims=True) / number)
        due = values / np.maximum(spread, 0.01 * np.array(dm.scaler.scale))
    else:
        due = np.where(counts, (raw - dm.scaler.center) / dm.scaler.scale, 0)
    np.testing.assert_allclose(batch.x, due, rtol=1e-4, atol=1e-4)
    assert (batch.x.numpy()[~counts] == 0).all()
    assert (counts.any(axis=1)).all(), "of each feature there is something"


def test_where_all_must_be_observed_the_mask_is_made_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"features": ["log_return", "volatility"], "min_observed": 1.0}
    dm, bars = make(tmp_path, **given), make(tmp_path, mask="bar", **given)
    read: set[str] = set()
    check = SegmentChecks.check_segment

    def noted(self: SegmentChecks, names: Any, segment: int) -> None:
        read.update(names)
        check(self, names, segment)

    monkeypatch.setattr(SegmentChecks, "check_segment", noted)
    windows = dm.dataset("train")
    windows.ahead_bytes = 0
    batch = windows[np.arange(len(windows))]
    assert read == {"x", "close"}
    assert batch.observed.all()
    assert batch.observed.shape == batch.x.shape
    batch.observed[0] = False  # it is the batch's own
    assert windows[np.arange(1)].observed.all()
    of_bars = all_of(bars)
    for one, other in zip(batch[:2], of_bars[:2], strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes()


# --- the same in every way ----------------------------------------------------------------------


@pytest.mark.parametrize("undefined", ["drop", "flag"])
@pytest.mark.parametrize("scaling", ["robust", "window"])
def test_rows_scaled_ahead_single_samples_and_pickled_windows_are_the_same_bits(
    tmp_path: Path, scaling: str, undefined: str
) -> None:
    dm = make(tmp_path, scaling=scaling, undefined=undefined)
    whole, late = all_of(dm, "val"), dm.dataset("val")
    late.ahead_bytes = 0
    assert_same(whole, late[np.arange(len(late))])
    again = pickle.loads(pickle.dumps(late))
    assert_same(whole, Batch(*map(torch.stack, zip(*map(again.__getitem__, range(len(again)))))))  # noqa: B905
    collated = next(iter(DataLoader(late, batch_size=len(late))))
    assert_same(whole, collated)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_batches_are_the_same_for_any_workers(tmp_path: Path, method: Any) -> None:
    def batches(**workers: Any) -> list[Batch]:
        dm = make(tmp_path, end="2021-03-20", **workers)
        return [Batch(*map(Tensor.clone, batch)) for batch in dm.train_dataloader()]

    alone, shared = batches(), batches(num_workers=2, start_method=method)
    assert len(alone) == len(shared) > 3
    for one, other in zip(alone, shared, strict=True):
        assert_same(one, other)


def centred(batch: Batch) -> Batch:
    """A transform: x less the mean of what is observed, of each feature by itself."""
    count = batch.observed.sum(dim=-2, keepdim=True).clamp(min=1)
    mean = batch.x.sum(dim=-2, keepdim=True) / count
    return batch._replace(x=(batch.x - mean).masked_fill(~batch.observed, 0.0))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"undefined": "flag", "scaling": "robust"},
        {"min_observed": 1.0, "features": ["log_return", "volatility"]},
        {"transform": centred, "shuffle": "block"},
    ],
    ids=["masked", "flagged", "complete", "transformed"],
)
def test_a_device_gives_the_bits_of_the_host(
    tmp_path: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btc_datamodule.windows.device.COPIED_BYTES", 100 * 16)
    host, device = (make(tmp_path, gather=where, **given) for where in ("host", "device"))
    for stage in ("train", "val", "predict"):
        count = 0
        loaders = (getattr(dm, f"{stage}_dataloader")() for dm in (host, device))
        for one, starts in zip(*loaders, strict=True):
            other = device.transfer_batch_to_device(starts, torch.device("cpu"), 0)
            assert_same(one, other)
            assert (one.x[~one.observed] == 0).all()
            count += 1
        assert count


def test_a_device_without_room_gets_the_bits_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btc_datamodule.windows.device.DEVICE_SHARE", 0.0)
    dm = make(tmp_path, gather="device", shuffle="none")
    starts = next(iter(dm.train_dataloader()))
    with pytest.warns(UserWarning, match=r"MB of rows do not fit on cpu"):
        batch = dm.transfer_batch_to_device(starts, torch.device("cpu"), 0)
    assert_same(batch, next(iter(make(tmp_path, shuffle="none").train_dataloader())))


# --- the whole way ------------------------------------------------------------------------------


def test_a_model_trains_on_a_feature_that_is_there_now_and_then(tmp_path: Path) -> None:
    bars = make(tmp_path, mask="bar", min_observed=0.3, lookback=8, horizon=1, ready=False)
    dm = make(tmp_path, lookback=8, horizon=1, transform=centred)
    model = make_model(dm)
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, datamodule=dm)
    assert torch.isfinite(trainer.callback_metrics["val_loss"])
    (tested,) = trainer.test(model, datamodule=dm, verbose=False)
    assert np.isfinite(tested["test_loss"])
    forecasts: Any = trainer.predict(model, datamodule=dm)
    assert sum(len(each["origin_time"]) for each in forecasts) == len(dm.dataset("predict"))
    bars.prepare_data()
    bars.setup()
    assert len(dm.dataset("train")) > 1.5 * len(bars.dataset("train"))
    assert dm.audit(ask_source=False).passed
