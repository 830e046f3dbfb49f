"""The join: a bar takes the latest value that was known at its close, for every kind of series."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import PRICES, Candles
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.features.asof import NEVER, Joined, join_feature, join_rows
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.clocks import Clock, Rows
from btc_datamodule.features.states import Events
from tests.factories import HOUR, START, hourly
from tests.features.clocks import Series, make_candles, make_records
from tests.marks import keep_some

MAIN = 300
"""Seconds of a bar of the candles that are joined to."""

KINDS = ("same", "longer", "shorter", "joined", "irregular", "regular", "coarse")
PRICE_COLUMNS = (*PRICES, "volume")


def make_series(kind: str, rng: np.random.Generator) -> Series:
    """A series of a kind, with everything that may happen to it."""
    first = MAIN * 100 + int(rng.integers(0, 50)) * MAIN
    bars = {"same": MAIN, "longer": 4 * MAIN, "shorter": MAIN // 5}
    max_age = None if rng.uniform() < 0.2 else int(rng.integers(1, 6 * MAIN))
    if kind in bars:
        interval = Interval(bars[kind])
        candles = make_candles(rng, bars[kind], first - first % bars[kind], 120)
        age = 2 * interval if max_age is None else max_age
        return Series(Beside("s", interval, PRICE_COLUMNS, True, age), candles)
    if kind == "joined":
        candles = make_candles(rng, MAIN, first, 150)
        interval = Interval(6 * MAIN)
        return Series(Beside("s", interval, PRICE_COLUMNS, True, 2 * interval), candles)
    if kind == "irregular":
        records = make_records(rng, int(rng.integers(1, 2 * MAIN)), None, 60, first)
        return Series(Beside("s", None, ("value",), False, max_age, covers=MAIN), records)
    grid = Interval(MAIN if kind == "regular" else 3 * MAIN)
    records = make_records(rng, int(grid), grid, 60, first - first % grid)
    return Series(Beside("s", grid, ("value",), False, max_age), records)


class WeighedSum:
    """The sum of the last rows, each weighed by how far back it lies; undefined where small."""

    def __init__(self, column: str, lookback: int) -> None:
        self.column, self.lookback = column, lookback

    def __call__(self, rows: Rows) -> NDArray[np.float64]:
        return self.compute(rows.columns[self.column])

    def compute(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.full(len(column), np.nan)
        if len(column) >= self.lookback:
            windows = np.lib.stride_tricks.sliding_window_view(column, self.lookback)
            total = np.zeros(len(windows))
            for back in range(self.lookback):  # in the same steps wherever the frame begins
                total = total + windows[:, -1 - back] * (1 + back)
            found[self.lookback - 1 :] = np.where(total % 1 < 0.1, np.nan, total)
        return found


def join(
    series: Series, closes: NDArray[np.int64], lookback: int, clock: Clock | None = None
) -> Joined:
    column = "close" if series.beside.is_candles else "value"
    clock = series.open(int(closes[-1])) if clock is None else clock
    return join_feature(clock, closes, lookback, WeighedSum(column, lookback), (column,))


def list_cases(seed: int) -> Iterator[tuple[Series, NDArray[np.int64], int]]:
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        yield make_series(kind, rng), MAIN * np.arange(130, 330), int(rng.integers(1, 6))


@pytest.mark.parametrize("seed", keep_some(range(60), 5))  # 60 x 7 kinds x 24 = 10,080 cuts
def test_a_bar_is_that_of_what_was_known_at_its_close_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for series, closes, lookback in list_cases(seed):
        clock = series.open(int(closes[-1]))
        whole, rows = join(series, closes, lookback, clock), join_rows(clock, closes)
        for at in rng.integers(0, len(closes), 24):
            known = series.cut(int(closes[at]))
            if known is None:
                assert np.isnan(whole.values[at])
                continue
            clock = known.open(int(closes[at]))
            alone = join(known, closes[at : at + 1], lookback, clock)
            for ours, theirs in zip(whole, alone, strict=True):
                np.testing.assert_array_equal(ours[at : at + 1], theirs)
            row = join_rows(clock, closes[at : at + 1])
            assert rows.some[at] == row.some[0]
            if rows.some[at]:
                assert rows.rows.time[at] == row.rows.time[0]
                for name, values in row.rows.columns.items():
                    np.testing.assert_array_equal(values, rows.rows.columns[name][at : at + 1])


@pytest.mark.parametrize("seed", range(20))
def test_it_does_not_matter_where_the_bars_are_cut(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    for series, closes, lookback in list_cases(seed):
        clock = series.open(int(closes[-1]))
        whole, rows = join(series, closes, lookback, clock), join_rows(clock, closes)
        cuts = np.sort(rng.integers(1, len(closes), 3))
        split = [part for part in np.split(closes, cuts) if len(part)]
        with monkeypatch.context() as few:  # records are read, of a series that is a short one
            few.setattr("btc_datamodule.features.states.FIRST_READ", 1)
            few.setattr("btc_datamodule.features.states.WINDOW_ROWS", 7)
            parts = [join(series, part, lookback, clock) for part in split]
            beside = [join_rows(clock, part) for part in split]
        for ours, theirs in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(ours, np.concatenate(theirs))
        np.testing.assert_array_equal(rows.age, np.concatenate([part.age for part in beside]))
        since = np.concatenate([part.rows.since for part in beside])
        np.testing.assert_array_equal(rows.rows.since, since)


def find_by_hand(series: Series, close: int, lookback: int) -> tuple[float, int]:
    """The value that enters a bar, and since when it is known, record by record."""
    records, grid = series.content, series.beside.interval
    assert isinstance(records, RecordSet)
    columns = records.known_at, records.time, records["value"]
    told = sorted(zip(*(column.tolist() for column in columns), strict=True))
    if grid is None:
        told = [each for each in told if np.isfinite(each[2])]
    known: dict[int, float] = {}
    best = (np.nan, 0)
    for now in sorted({each[0] for each in told if each[0] <= close}):
        new = {time: value for when, time, value in told if when == now}
        known |= new
        if grid is None:
            events = sorted(known)[-lookback:]
        else:
            events = [max(known) - grid * back for back in range(lookback)][::-1]
        if len(events) < lookback or events[0] < min(known) or max(new) < events[0]:
            continue
        values = np.array([known.get(event, np.nan) for event in events])
        value = WeighedSum("value", lookback).compute(values)[-1]
        if np.isfinite(value):
            best = (float(value), now)
    max_age = series.beside.max_age
    return (np.nan, 0) if max_age is not None and close - best[1] > max_age else best


@pytest.mark.parametrize("seed", range(12))
def test_records_are_joined_as_by_hand(seed: int) -> None:
    for series, closes, lookback in list_cases(seed):
        if isinstance(series.content, RecordSet):
            joined = join(series, closes, lookback)
            for at in range(0, len(closes), 7):
                value, known_at = find_by_hand(series, int(closes[at]), lookback)
                assert (joined.values[at], joined.heard_at[at]) == (
                    pytest.approx(value, rel=1e-12, nan_ok=True),
                    known_at,
                )


@pytest.mark.parametrize("seed", range(12))
def test_bars_are_as_old_as_the_last_that_was_there(seed: int) -> None:
    """A bar that is filled is no news, and one of an outage is not there."""
    rng = np.random.default_rng(seed)
    for kind in ("same", "longer", "shorter"):
        series = make_series(kind, rng)
        candles, max_age = series.content, series.beside.max_age
        assert isinstance(candles, Candles)
        closes, interval = MAIN * np.arange(90, 330), int(candles.interval)
        for given in (max_age, None):
            beside = replace(series.beside, max_age=given)
            clock = Series(beside, candles).open(int(closes[-1]), max_fill=3)
            rows, joined = join_rows(clock, closes), join(Series(beside, candles), closes, 1, clock)
            last = np.searchsorted(candles.open_time, closes - interval, side="right") - 1
            heard_at = candles.open_time[last] + interval
            some = (last >= 0) & ((given is None) | (closes - heard_at <= (given or 0)))
            np.testing.assert_array_equal(rows.some, some)
            np.testing.assert_array_equal(rows.age, np.where(some, closes - heard_at, np.nan))
            wanted = np.where(some, candles["close"][last], np.nan)
            np.testing.assert_array_equal(rows.rows.columns["close"], wanted)
            absent = np.minimum((closes - heard_at) // interval, 3)
            wanted = np.where(some, heard_at + (absent - 1) * interval, 0)
            np.testing.assert_array_equal(rows.rows.time, wanted)
            told = np.isfinite(joined.values)
            assert (closes[told] - joined.heard_at[told] >= rows.age[told]).all()
            assert given is None or (closes[told] - joined.heard_at[told] <= given).all()


def test_a_bar_of_an_outage_says_nothing_whatever_a_feature_makes_of_it() -> None:
    candles = hourly([7, 8, *[None] * 8, 9])
    clock = Series(Beside("s", Interval(HOUR), PRICE_COLUMNS, True, None), candles).open(
        START + 11 * HOUR
    )
    closes = START + HOUR * np.arange(1, 12)

    def count(rows: Rows) -> NDArray[np.float64]:
        return (rows.time - START) / HOUR

    joined = join_feature(clock, closes, 1, count, None)
    np.testing.assert_array_equal(joined.values, [0, 1, 2, 3, 4, *[4] * 5, 10])
    np.testing.assert_array_equal((joined.heard_at - START) / HOUR, [1, *[2] * 9, 11])


def test_a_long_bar_is_known_anew_if_any_short_one_of_it_is_there() -> None:
    candles = hourly([7, 7, 7, 7, None, None, 8, None, *[None] * 8, 9])
    beside = Beside("s", Interval(4 * HOUR), PRICE_COLUMNS, True, None)
    clock = Series(beside, candles).open(START + 17 * HOUR)
    rows = join_rows(clock, START + HOUR * np.array([3, 4, 7, 8, 11, 12, 16]))
    np.testing.assert_array_equal(rows.age / HOUR, [np.nan, 0, 3, 0, 3, 5, 9])


def record(time: list[int], known_at: list[int], values: list[float]) -> RecordSet:
    return RecordSet(
        {"time": np.array(time), "known_at": np.array(known_at), "value": np.array(values)}
    )


def test_nothing_is_known_before_the_first_record() -> None:
    records = record([900], [1_000], [7.5])
    series = Series(Beside("s", None, ("value",), False, None), records)
    joined = join(series, np.array([600, 900, 1_200, 10**9]), 1)
    np.testing.assert_array_equal(joined.values, [np.nan, np.nan, 7.5, 7.5])
    np.testing.assert_array_equal(joined.heard_at, [0, 0, 1_000, 1_000])
    np.testing.assert_array_equal(joined.since, [NEVER, NEVER, 900, 900])


def test_a_value_grows_too_old() -> None:
    records = record([900], [900], [7.5])
    series = Series(Beside("s", None, ("value",), False, 600), records)
    joined = join(series, np.array([1_200, 1_500, 1_800]), 1)
    np.testing.assert_array_equal(joined.values, [7.5, 7.5, np.nan])


def test_a_record_of_long_ago_makes_nothing_newer() -> None:
    time, known_at = [300, 600, 900], [4_000, 600, 900]
    records = record(time, known_at, [1.0, 2.25, 3.0])
    series = Series(Beside("s", None, ("value",), False, None), records)
    joined = join(series, np.array([900, 4_200]), 2)
    np.testing.assert_array_equal(joined.heard_at, [900, 900])
    np.testing.assert_array_equal(joined.values, [7.5, 7.5])


def test_a_revision_of_the_row_before_changes_the_value() -> None:
    time, known_at = [300, 300, 600], [300, 1_200, 600]
    records = record(time, known_at, [1.25, 5.25, 3.0])
    series = Series(Beside("s", None, ("value",), False, None), records)
    joined = join(series, np.array([600, 900, 1_200]), 2)
    np.testing.assert_array_equal(joined.values, [5.5, 5.5, 13.5])


@pytest.mark.parametrize("covers", [0, 900])
def test_that_there_is_nothing_hangs_on_the_record_that_is_not_there(covers: int) -> None:
    time = [300, 600, 3_000]  # those of 900 to 2,700 are absent
    closes = np.array([1_500, 3_000])
    grid = None if covers else Interval(300)
    records = record(time, [each + (grid or 0) for each in time], [1.0, 2.0, 3.0])
    series = Series(Beside("s", grid, ("value",), False, 400, covers), records)
    joined, rows = join(series, closes, 1), join_rows(series.open(3_000), closes)
    oldest = closes - 400 - 1 - (covers or 300)
    for values, since in ((joined.values, joined.since), (rows.age, rows.rows.since)):
        assert np.isnan(values[0])
        assert since[0] == oldest[0]


def test_windows_of_late_records_are_found_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    find_known = Events.find_known

    def count(self: Events, *given: NDArray[np.int64]) -> NDArray[np.int64]:
        calls.append(len(given))
        return find_known(self, *given)

    monkeypatch.setattr(Events, "find_known", count)
    rng = np.random.default_rng(0)
    time = 300 * np.arange(1, 2_001)
    late = time + rng.integers(0, 30 * 300, len(time))
    records = RecordSet({"time": time, "known_at": late, "value": rng.uniform(1, 2, len(time))})
    series = Series(Beside("s", None, ("value",), False, None), records)
    closes = time[100:]
    joined = join(series, closes, 5)
    assert len(calls) < 20
    for at in range(0, len(closes), 190):
        value, known_at = find_by_hand(series, int(closes[at]), 5)
        assert joined.heard_at[at] == known_at
        assert joined.values[at] == pytest.approx(value, rel=1e-12)
