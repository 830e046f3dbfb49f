"""Other bars, other records, and other times at which something became known."""

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import OPTIONAL, Candles
from btc_datamodule.features.varying import change_bars, vary_frames, vary_rows
from tests.factories import HOUR, T0, candles_of
from tests.features.series import NAN, frame_beside, frame_of

ROWS = 2000
Floats = NDArray[np.float64]


def make_values() -> dict[str, Floats]:
    """Columns of records of all kinds, NaN in some rows."""
    rng = np.random.default_rng(2)
    signed = rng.normal(0, 1e-4, ROWS)
    signed[::9] = 0
    values = {
        "rate": signed,
        "ratio": rng.lognormal(0, 0.1, ROWS),
        "interest": rng.lognormal(11, 1, ROWS),
        "debt": -rng.lognormal(0, 1, ROWS),
        "count": np.where(rng.random(ROWS) < 0.9, 0.0, 3.0),
        "still": np.full(ROWS, 7.0),
        "zero": np.zeros(ROWS),
        "nothing": np.full(ROWS, NAN),
        "open": signed + 1,
        "close": signed,
    }
    for values_of in values.values():
        values_of[5::11] = NAN
    return values


def make_records() -> RecordSet:
    times = T0 + HOUR * np.arange(ROWS)
    return RecordSet({"time": times, "known_at": times + HOUR, **make_values()})


@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_changed_records_are_records_with_other_values_in_those_rows_alone(strength: float) -> None:
    records, rows = make_records(), np.arange(ROWS) >= 700
    changed = RecordSet(change_bars(records.columns, strength, rows))  # checks them
    assert (changed.time == records.time).all()
    assert (changed.known_at == records.known_at).all()
    for name in records.values:
        old, new = records[name], changed[name]
        np.testing.assert_array_equal(new[:700], old[:700])
        np.testing.assert_array_equal(np.isnan(new), np.isnan(old))
        known = rows & ~np.isnan(old)
        assert (new[known] != old[known]).all(), f"{name}: zeros too"


def test_other_values_are_of_the_same_kind_of_size_and_sign() -> None:
    records = make_records()
    changed = change_bars(records.columns, 0.1, np.ones(ROWS, dtype=bool))
    for name in ("rate", "ratio", "interest", "debt", "still", "close"):
        old, new = (np.nanmedian(np.abs(each[name])) for each in (records, changed))
        assert 0.5 < new / old < 2
    for name in ("ratio", "interest", "count", "still", "zero"):
        assert not (changed[name] < 0).any()
    assert not (changed["debt"] > 0).any()
    flipped = np.sign(changed["rate"]) != np.sign(records["rate"])
    assert 0.02 < flipped[records["rate"] != 0].mean() < 0.3


def test_the_same_rows_get_the_same_others() -> None:
    columns = make_records().columns
    one, two = (change_bars(columns, 1.0, np.arange(ROWS) % cut == 0) for cut in (2, 3))
    for name in columns:
        np.testing.assert_array_equal(one[name][::6], two[name][::6])


def test_candles_that_are_given_with_the_time_they_are_known_stay_candles() -> None:
    candles = candles_of(np.ones(ROWS, dtype=bool), optional=OPTIONAL)
    rows = np.ones(ROWS, dtype=bool)
    columns = {**candles.columns, "known_at": candles.open_time + HOUR}
    changed = change_bars(columns, 1.0, rows)
    assert (changed["known_at"] == columns["known_at"]).all()
    assert (changed["close"] != candles["close"]).all()
    del changed["known_at"]
    Candles(HOUR, changed)  # checks them


def test_other_rows_of_records_are_unknown_wherever_those_before_were() -> None:
    columns = {name: each for name, each in make_values().items() if name != "nothing"}
    for values in columns.values():
        values[::2] = NAN
    others = vary_rows(columns)
    for values in others.values():
        for rows in (slice(0, None, 2), slice(1, None, 2)):
            assert 0.02 < np.isnan(values[rows]).mean() < 0.09
    only = {"nothing": np.full(3, NAN)}
    assert np.isnan(vary_rows(only)["nothing"]).all()


# --- frames ---------------------------------------------------------------------------------------


def make_beside() -> list[pl.DataFrame]:
    rng = np.random.default_rng(4)
    close = rng.lognormal(9, 0.1, ROWS).tolist()
    ages = np.where(rng.random(ROWS) < 0.5, 0, rng.integers(1, 30, ROWS) / 4)
    ages[:20] = NAN
    rate = np.where(rng.random(ROWS) < 0.1, NAN, rng.normal(size=ROWS))
    return [frame_of(ROWS, close=close), frame_beside(ages.tolist(), rate=rate.tolist())]


def test_other_frames_have_the_same_rows_and_other_values() -> None:
    frames = make_beside()
    bars, beside = varied = vary_frames(frames)
    assert [each.schema for each in varied] == [each.schema for each in frames]
    assert (bars["open_time"] == frames[0]["open_time"]).all()
    for one, other in zip(frames, varied, strict=True):
        for name in set(one.columns) - {"open_time", "time", "known_at", "age"}:
            assert not (one[name] == other[name]).fill_null(False).any()
    assert beside["rate"].is_nan().sum() == 0, "nothing is null"


def test_series_beside_each_other_are_not_changed_alike() -> None:
    close = np.random.default_rng(2).lognormal(9, 0.1, ROWS).tolist()
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    bars, beside = vary_frames([frame_of(ROWS, **prices), frame_beside([0.0] * ROWS, **prices)])
    both = (bars["close"].is_not_null() & beside["close"].is_not_null()).to_numpy()
    ratio = (bars["close"] / beside["close"]).to_numpy()[both]
    assert np.std(np.log(ratio)) > 0.05
    assert (bars["close"].is_null() != beside["close"].is_null()).any()


def test_what_is_known_of_a_series_keeps_its_times_consistent() -> None:
    bars, beside = vary_frames(make_beside())
    known = beside["known_at"].is_not_null()
    for name in ("time", "age", "rate"):
        assert (beside[name].is_not_null() == known).all()
    closes = bars["open_time"] + HOUR
    ages = ((closes - beside["known_at"]) / HOUR).filter(known)
    np.testing.assert_allclose(ages.to_numpy(), beside["age"].filter(known).to_numpy(), atol=1e-3)
    assert ((beside["known_at"] - beside["time"]).filter(known) == HOUR).all()
    before = make_beside()[1]["age"]
    older, newer = (beside["age"] > before).mean(), (beside["age"] < before).mean()
    assert min(float(older or 0), float(newer or 0)) > 0.03  # type: ignore[arg-type]


def test_records_on_their_own_clock_keep_their_times() -> None:
    records = pl.DataFrame(make_records().columns).with_columns(pl.col(pl.Float64).fill_nan(None))
    (varied,) = vary_frames([records])
    assert varied.schema == records.schema
    for name in ("time", "known_at"):
        assert (varied[name] == records[name]).all()
    assert not (varied["rate"] == records["rate"]).fill_null(False).any()


def test_frames_without_rows_or_of_one_or_of_nothing_known() -> None:
    bars, beside = make_beside()
    for rows in (0, 1, 5):  # of the first, nothing is known beside them
        one, other = vary_frames([bars[:rows], beside[:rows]])
        assert one.height == other.height == rows
        assert other["known_at"].null_count() == rows
