"""Exact content of windows on a series small enough to work out by hand."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from btc_datamodule import (
    Batch,
    BTCDataModule,
    CumulativeReturn,
    DateSplit,
    LogReturn,
    OHLCPath,
    Target,
)
from btc_datamodule.candles.series import PRICES
from btc_datamodule.candles.timeline import format_instant
from tests.factories import HOUR, START, InMemory, hourly, make_datamodule

UP = math.log(1.1)

# Row 3 is absent: one bar, which max_fill=1 takes as time without trades. Rows 6 and 7 are
# absent: the first is filled too, the second an outage. Every price is 10 % above the one before
# it, but those of filled bars and across the outage.
#          0    1    2    3     4      5       6     7     8    9    10   11     12      13
CLOSES = [100, 110, 121, None, 133.1, 146.41, None, None, 200, 220, 242, 266.2, 292.82, 322.102]


def instant(row: int) -> str:
    return format_instant(START + row * HOUR)


def datamodule(folder: Path, **arguments: Any) -> BTCDataModule:
    """Train owns targets in rows [0, 11), val in [11, 13), test in row 13."""
    settings: dict[str, Any] = {
        "source": InMemory(hourly(CLOSES)),
        "start": instant(0),
        "end": instant(14),
        "features": ["log_return", "log_volume"],
        "lookback": 2,
        "horizon": 1,
        "split": DateSplit(val=instant(11), test=instant(13)),
        "max_fill": 1,
        "scaling": "none",
        "shuffle": "none",
        "batch_size": 1,
    }
    return make_datamodule(folder, **settings | arguments)


def longer(folder: Path, **arguments: Any) -> BTCDataModule:
    """The same with bars up to row 29; val owns rows [11, 20), test [20, 30)."""
    more = [322.102 * 1.1**n for n in range(1, 17)]
    split = DateSplit(val=instant(11), test=instant(20))
    source = InMemory(hourly([*CLOSES, *more]))
    return datamodule(folder, source=source, end=instant(30), split=split, **arguments)


def rows_of(times: torch.Tensor) -> list[int]:
    return ((times - START) // HOUR).tolist()


def all_of(dm: BTCDataModule, stage: Any) -> Batch:
    dataset = dm.dataset(stage)
    return dataset[np.arange(len(dataset))]


def test_each_stage_has_the_windows_that_the_rules_leave_it(tmp_path: Path) -> None:
    dm = datamodule(tmp_path)
    # Of rows 3 and 6 there is no candle. 7 and 8 are not observed (the return at 8 spans the
    # outage), 9 has row 8 among its inputs, 10 has its target in val.
    assert rows_of(all_of(dm, "train").origin_time) == [2, 4, 5]
    assert rows_of(all_of(dm, "val").origin_time) == [10, 11]
    assert rows_of(all_of(dm, "test").origin_time) == [12]
    assert rows_of(all_of(dm, "predict").origin_time) == [12, 13]


def test_inputs_targets_and_masks_are_exact(tmp_path: Path) -> None:
    batch = all_of(datamodule(tmp_path), "train")
    expected = [
        [[UP, math.log1p(2)], [UP, math.log1p(3)]],  # rows 1 and 2
        [[0.0, 0.0], [UP, math.log1p(5)]],  # 3, without trades, and 4
        [[UP, math.log1p(5)], [UP, math.log1p(6)]],  # 4 and 5
    ]
    np.testing.assert_allclose(batch.x, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(batch.y[:, :, 0], [[0.0], [UP], [0.0]], rtol=1e-6, atol=1e-7)
    assert batch.observed.all()
    assert batch.origin_time.tolist() == [START + row * HOUR for row in (2, 4, 5)]
    assert [field.dtype for field in batch] == [
        torch.float32,
        torch.float32,
        torch.bool,
        torch.int64,
    ]


def test_unobserved_inputs_are_masked_and_zero_after_scaling(tmp_path: Path) -> None:
    dm = datamodule(tmp_path, min_observed=0.5, scaling="train")
    batch = all_of(dm, "train")
    assert rows_of(batch.origin_time) == [2, 4, 5, 9]
    assert batch.observed.tolist() == [[True, True], [True, True], [True, True], [False, True]]
    assert batch.x[3, 0].tolist() == [0.0, 0.0]
    assert (batch.x[3, 1] != 0).all()


def test_the_scaler_is_fitted_on_observed_train_rows_only(tmp_path: Path) -> None:
    dm = datamodule(tmp_path, scaling="train")
    # Train rows are 0 to 10; 0 is warm-up, 3 and 6 are filled, 7 is an outage, 8 spans it.
    returns = np.array([UP, UP, 0.0, UP, UP, 0.0, UP, UP])
    volumes = np.log1p([2, 3, 0, 5, 6, 0, 10, 11])
    np.testing.assert_allclose(dm.scaler.center, [returns.mean(), volumes.mean()], rtol=1e-6)
    np.testing.assert_allclose(dm.scaler.scale, [returns.std(), volumes.std()], rtol=1e-6)


def test_a_gap_moves_the_target_and_a_longer_horizon_widens_it(tmp_path: Path) -> None:
    dm = longer(tmp_path, gap=1, horizon=2)
    batch = all_of(dm, "train")
    # Targets o+2 and o+3, measured from o+1; those of origins 4 to 6 touch the outage.
    assert rows_of(batch.origin_time) == [2]
    np.testing.assert_allclose(batch.y[0, :, 0], [UP, UP], rtol=1e-6)  # rows 4 and 5, from row 3


def test_predict_gives_nan_for_a_future_that_is_not_known(tmp_path: Path) -> None:
    batch = all_of(datamodule(tmp_path), "predict")
    assert batch.y[0, 0, 0].item() == pytest.approx(UP)
    assert torch.isnan(batch.y[1]).all()
    assert torch.isfinite(batch.x).all()


def partly_known(folder: Path, target: Target, gap: int) -> tuple[Batch, list[list[float]]]:
    """What predict gives at the end of 40 bars, and the prices of the samples by definition.

    Of each sample (reference bar, 4 target bars): (n, 5, [open, high, low, close]). Row 31 is
    absent and filled, 33 and 34 are absent: one filled, one an outage.
    """
    closes = [None if row in (31, 33, 34) else 100.0 * 1.01**row for row in range(40)]
    candles = hourly(closes)
    dm = datamodule(
        folder,
        source=InMemory(candles),
        end=instant(40),
        split=DateSplit(val=instant(20), test=instant(30)),
        horizon=4,
        gap=gap,
        target=target,
        min_observed=0.5,
    )
    known = {
        (time - START) // HOUR: [float(candles[name][at]) for name in PRICES]
        for at, time in enumerate(candles.open_time.tolist())
    }
    known |= {filled: [known[filled - 1][-1]] * 4 for filled in (31, 33)}
    batch = all_of(dm, "predict")
    rows = [row + gap for row in rows_of(batch.origin_time)]
    unknown = [math.nan] * 4
    bars = [[known.get(row + ahead, unknown) for ahead in range(5)] for row in rows]
    return batch, bars  # type: ignore[return-value]


@pytest.mark.parametrize("gap", [0, 2])
def test_of_a_future_that_is_known_in_part_predict_gives_that_part(
    tmp_path: Path, gap: int
) -> None:
    """At the end of the candles y is NaN for the bars that are not known alone."""
    batch, known = partly_known(tmp_path / "returns", LogReturn(), gap)
    origins, bars = rows_of(batch.origin_time), np.array(known)
    assert origins == [row for row in range(29 - gap, 40) if row not in (31, 33, 34, 35)]
    closes = bars[:, :, 3]
    np.testing.assert_allclose(batch.y[:, :, 0], np.log(closes[:, 1:] / closes[:, :-1]), rtol=1e-4)
    path, _ = partly_known(tmp_path / "path", OHLCPath(), gap)
    np.testing.assert_allclose(path.y, np.log(bars[:, 1:] / closes[:, :1, np.newaxis]), rtol=1e-5)
    whole, _ = partly_known(tmp_path / "whole", CumulativeReturn(), gap)
    np.testing.assert_allclose(whole.y[:, 0], np.log(closes[:, -1] / closes[:, 0]), rtol=1e-5)

    beyond = [row + gap + 4 > 39 for row in origins]
    assert whole.y[beyond].isnan().all()
    seen = path.y[beyond].isfinite().all(dim=2)
    assert (seen.any(dim=1) & ~seen.all(dim=1)).any(), "some have a known and an unknown bar"


def test_a_stage_scores_each_bar_once_and_leaves_out_less_than_a_window_at_its_end(
    tmp_path: Path,
) -> None:
    closes = [100.0 * 1.01**row for row in range(40)]
    dm = datamodule(
        tmp_path,
        source=InMemory(hourly(closes)),
        end=instant(40),
        horizon=4,
        split=DateSplit(val=instant(20), test=instant(30)),
    )
    first_targets = [row + 1 for row in rows_of(all_of(dm, "val").origin_time)]
    assert first_targets == [20, 24]  # to row 27; 28 and 29 are of no window
    (val,) = dm.describe().filter(stage="val").iter_rows(named=True)
    assert (val["windows"], val["eligible"], val["scored"], val["unscored"]) == (2, 7, 8, 2)
    assert rows_of(all_of(dm, "train").origin_time) == list(range(2, 16))


def test_a_purge_leaves_out_bars_before_the_end_of_a_stage(tmp_path: Path) -> None:
    dm = longer(tmp_path, purge=7)
    assert rows_of(all_of(dm, "train").origin_time) == [2]  # targets in rows before 11 - 7
    assert rows_of(all_of(dm, "val").origin_time) == [10, 11]  # 20 - 7
    assert rows_of(all_of(dm, "test").origin_time)[-1] == 28  # nothing comes after test


def test_one_sample_is_its_row_of_the_batch(tmp_path: Path) -> None:
    dm = datamodule(tmp_path, scaling="train")
    dataset, batch = dm.dataset("train"), all_of(dm, "train")
    assert len(dataset) == 3
    for i in (0, 1, 2, -1):
        assert all(torch.equal(one, many[i]) for one, many in zip(dataset[i], batch, strict=True))
    assert len(list(dataset)) == 3, "iteration ends with the last"  # type: ignore[call-overload]
    for outside in (3, -4):
        with pytest.raises(
            IndexError, match=f"position {outside} lies outside a dataset of 3 windows"
        ):
            dataset[outside]


@pytest.mark.parametrize("min_observed", [1.0, 0.5])
def test_rows_scaled_ahead_and_batches_scaled_after_are_the_same_bits(
    tmp_path: Path, min_observed: float
) -> None:
    dm = datamodule(tmp_path, scaling="train", min_observed=min_observed)
    ahead, after = dm.dataset("train"), dm.dataset("train")
    after.ahead_bytes = 0
    every = np.arange(len(ahead))
    for one, other in zip(ahead[every], after[every], strict=True):
        assert torch.equal(one.contiguous().view(torch.uint8), other.view(torch.uint8))
    assert after._get_views().x.tensor.data_ptr() == dm.table.x.ctypes.data
    assert ahead._get_views().x.tensor.data_ptr() != dm.table.x.ctypes.data
    assert len(after._get_views().x) == 14 - 1
    assert len(ahead._get_views().x) == len(range(1, 6 if min_observed == 1 else 10)) - 1


def test_a_transform_sees_every_batch_and_sample(tmp_path: Path) -> None:
    def double(batch: Batch) -> Batch:
        return batch._replace(x=batch.x * 2)

    plain, doubled = (datamodule(tmp_path, transform=t).dataset("train") for t in (None, double))
    assert torch.equal(doubled[1].x, plain[1].x * 2)
    assert torch.equal(doubled[np.array([0, 2])].x, plain[np.array([0, 2])].x * 2)


def test_a_batch_owns_its_memory(tmp_path: Path) -> None:
    dataset = datamodule(tmp_path).dataset("train")
    dataset[np.array([0, 1])].x.fill_(99)
    assert dataset[np.array([0, 1])].x.max() < 3


def test_a_dataset_pickles_small_and_without_a_map(tmp_path: Path) -> None:
    dataset = datamodule(tmp_path).dataset("train")
    before = dataset[np.arange(3)]
    text = pickle.dumps(dataset)
    assert len(text) < 3000
    assert b"memmap" not in text
    after = pickle.loads(text)[np.arange(3)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
