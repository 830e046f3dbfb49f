"""How series are read: long bars once however often wanted, dense records a few at a time."""

from typing import Any

import numpy as np
import pytest

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.features import clocks, joined
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.clocks import LongBarClock, RecordClock, Rows
from btc_datamodule.features.joined import JoinedSeries
from tests.features.clocks import Series, make_candles

FIVE, HOUR = 300, 3600


def make_hours(seed: int, rows: int = 600) -> Series:
    beside = Beside("hour", Interval(HOUR), ("close",), is_candles=True, max_age=2 * HOUR)
    return Series(beside, make_candles(np.random.default_rng(seed), FIVE, 10 * FIVE, rows))


def open_hours(series: Series, end: int) -> LongBarClock:
    clock = series.open(end)
    assert isinstance(clock, LongBarClock)
    return clock


def assert_same_rows(found: Rows, wanted: Rows) -> None:
    assert found.columns.keys() == wanted.columns.keys()
    for ours, theirs in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name, values in wanted.columns.items():
        np.testing.assert_array_equal(found.columns[name], values, err_msg=name)


@pytest.mark.parametrize("kept", [0, 5, 1000])
@pytest.mark.parametrize("seed", range(2))
def test_long_bars_are_the_same_in_whatever_order_they_are_read(
    monkeypatch: pytest.MonkeyPatch, seed: int, kept: int
) -> None:
    monkeypatch.setattr(clocks, "KEPT_ROWS", kept)
    monkeypatch.setattr(clocks, "JOINED_ROWS", 30)
    rng = np.random.default_rng(seed)
    series = make_hours(seed)
    clock = open_hours(series, 600 * FIVE)
    for _ in range(30):
        low, high = np.sort(rng.integers(0, 45, 2)).tolist()
        assert_same_rows(clock.read(low, high), open_hours(series, 600 * FIVE).read(low, high))


def test_short_bars_are_read_once_by_features_of_any_lookback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = open_hours(make_hours(1), 600 * FIVE)
    read: list[int] = []
    real = clock.grid.read_bars

    def count(reader: Any, low: int, high: int) -> Any:
        read.append(high - low)
        return real(reader, low, high)

    object.__setattr__(clock.grid, "read_bars", count)
    for low in range(0, 40, 4):
        for lookback in (3, 24, 1):
            clock.read(max(0, low - lookback), low + 4)
    assert sum(read) == 40 * 12


def test_dense_records_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of records without an interval only their file knows how many there are beside a bar."""
    times = np.sort(np.random.default_rng(0).integers(0, 400 * FIVE, 20_000))
    times = np.unique(times)
    held = RecordSet({"time": times, "known_at": times, "value": np.sin(times)})
    beside = Beside("ticks", None, ("value",), is_candles=False, max_age=None)
    closes = FIVE * np.arange(1, 401)
    [feature] = resolve(["mean = ticks.value.rolling_mean(10)"], {"ticks": beside}, Interval(FIVE))
    wanted = JoinedSeries({"ticks": Series(beside, held).open(0)}).compute(feature, closes)
    at = np.searchsorted(times, closes, side="right")
    by_hand = [held["value"][max(0, end - 10) : end].mean() for end in at]
    np.testing.assert_allclose(wanted.values, by_hand)
    monkeypatch.setattr(joined, "BLOCK_ROWS", 1000)
    sizes: list[int] = []
    real = RecordClock.read_known

    def count(clock: RecordClock, low: int, instant: int) -> RecordSet:
        found = real(clock, low, instant)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(RecordClock, "read_known", count)
    found = JoinedSeries({"ticks": Series(beside, held).open(0)}).compute(feature, closes)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert max(sizes) < 1500 < len(times)
