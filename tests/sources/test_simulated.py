"""Simulated records: the same whatever is asked for, known when they say, led by the price."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule import (
    RecordSource,
    SimulatedFunding,
    SimulatedOpenInterest,
    SimulatedPremium,
    Simulator,
)
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import concatenate
from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.errors import ConfigError
from btc_datamodule.sources import simulator
from btc_datamodule.testing import RecordSourceContract

HOUR, DAY = 3600, 86400
SPAN = (parse_instant("2019-11-25"), parse_instant("2020-02-05"))
ROUGH = SimulatedOpenInterest(seed=3, missing=0.1, late=0.2, revised=0.3)
SOURCES: dict[str, RecordSource] = {
    "funding": SimulatedFunding(seed=3),
    "open interest": SimulatedOpenInterest(seed=3),
    "open interest, rough": ROUGH,
    "premium": SimulatedPremium(seed=3),
    "premium of four hours": SimulatedPremium(seed=3, interval="4h"),
    "premium of a day": SimulatedPremium(seed=3, interval="1d"),
}
each_source = pytest.mark.parametrize("name", SOURCES)


def records(source: RecordSource, span: Span = SPAN) -> RecordSet:
    """All of a span, checked as one."""
    found = [block.records for block in source.blocks(span)]
    names = ("time", "known_at", *source.columns)
    return RecordSet({name: np.concatenate([each[name] for each in found]) for name in names})


@cache
def whole(name: str) -> RecordSet:
    return records(SOURCES[name])


@cache
def prices(seed: int, interval: int) -> dict[int, float]:
    """Log prices of two years and the week before by the instant at which a bar closes."""
    span = (parse_instant("2017-12-25"), parse_instant("2020-01-01"))
    bars = concatenate([block.candles for block in Simulator(seed).blocks(interval, span)])
    closed = (bars.open_time + interval).tolist()
    return dict(zip(closed, np.log(bars["close"]).tolist(), strict=True))


TWO_YEARS = (parse_instant("2018-01-01"), parse_instant("2019-12-31"))


def moves(seed: int, interval: int, end: NDArray[np.int64], seconds: int) -> NDArray[np.float64]:
    """Log returns over some seconds up to each instant."""
    price = prices(seed, interval)
    return np.array([price[at] - price[at - seconds] for at in end.tolist()])


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def assert_identical(a: RecordSet, b: RecordSet) -> None:
    assert list(a.columns) == list(b.columns)
    for name, values in a.columns.items():
        np.testing.assert_array_equal(values, b[name], err_msg=name)


class TestSimulatedFunding(RecordSourceContract):
    span = ("2009-12-20", "2010-02-03T07:00")  # from before its first record

    def make(self) -> RecordSource:
        return SimulatedFunding(seed=3)


class TestSimulatedOpenInterest(RecordSourceContract):
    span = ("2009-12-31", "2010-01-04T07:05")

    def make(self) -> RecordSource:
        return ROUGH


class TestSimulatedPremium(RecordSourceContract):
    span = ("2009-12-31", "2010-01-04T07:00")

    def make(self) -> RecordSource:
        return SimulatedPremium(seed=3, interval="15m")


# --- what holds for all ---------------------------------------------------------------------------


@each_source
@settings(max_examples=20)
@given(edges=st.tuples(*[st.integers(SPAN[0], SPAN[1] - 1)] * 2).map(sorted))
def test_any_part_of_a_span_holds_bit_for_bit_the_records_of_the_whole(
    name: str, edges: list[int]
) -> None:
    start, end = edges[0], edges[1] + 1
    assert_identical(records(SOURCES[name], (start, end)), whole(name).slice(start, end))


@each_source
@pytest.mark.parametrize("block_bars", [1, 2**12])
def test_the_size_of_blocks_does_not_change_the_records(
    name: str, block_bars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator, "BLOCK_BARS", block_bars)
    assert_identical(records(SOURCES[name]), whole(name))


@each_source
def test_blocks_tile_the_span_and_hold_the_records_of_theirs(name: str) -> None:
    source = SOURCES[name]
    start, end = parse_instant("2018-03-05T17:07:11Z"), parse_instant("2020-12-24T05:00:00Z")
    at = start
    for block in source.blocks((start, end)):
        assert block.span[0] == at < block.span[1]
        at = block.span[1]
        assert len(block.records.slice(*block.span)) == len(block.records) <= 2**18
        assert block.records.values == source.columns
        assert block.origin == f"simulator {source.series}"
        assert block.answered
    assert at == end


def test_long_spans_come_in_many_blocks() -> None:
    sizes = [len(block.records) for block in SOURCES["open interest"].blocks((0, 1_700_000_000))]
    assert len(sizes) > 10
    assert max(sizes) <= 2**17


@each_source
def test_before_its_first_day_a_source_is_known_to_have_nothing(name: str) -> None:
    source = SOURCES[name]
    assert source.first == parse_instant("2010-01-01") == Simulator.first
    span = (parse_instant("2009-12-30"), source.first + 2 * DAY)
    nothing, some = source.blocks(span)
    assert (nothing.span, some.span) == ((span[0], source.first), (source.first, span[1]))
    assert len(nothing.records) == 0
    assert nothing.records.values == source.columns
    first_days = some.records.take(some.records.time < source.first + 300)
    assert len(first_days) >= 1
    assert all(np.isfinite(some.records[column]).all() for column in source.columns)
    assert list(source.blocks((span[0], span[0]))) == []


@each_source
def test_times_of_records_with_an_interval_lie_on_its_grid(name: str) -> None:
    source, found = SOURCES[name], whole(name)
    if source.interval is None:
        assert name == "funding"
        return
    assert (found.time % source.interval == 0).all()
    assert (found.known_at >= found.time + source.interval).all()


@pytest.mark.parametrize(
    "make",
    [SimulatedFunding, SimulatedOpenInterest, SimulatedPremium],
    ids=lambda made: made.__name__,
)
def test_another_seed_gives_other_records(make: Callable[[int], RecordSource]) -> None:
    one, other = records(make(0)), records(make(1))
    for column in make(0).columns:
        if column != "interval_hours":
            changes = np.diff(one[column]), np.diff(other[column])
            assert abs(correlation(*changes)) < (0.2 if len(one) < 1000 else 0.03)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: SimulatedFunding(seed=-1), "^seed -1: give a whole number"),
        (lambda: SimulatedFunding(seed=2**63), "^seed .*: give a whole number"),
        (lambda: SimulatedOpenInterest(seed=0.5), "^seed 0.5: give a whole number"),  # type: ignore[arg-type]
        (lambda: SimulatedPremium(seed=True, interval="x"), "^interval 'x' is not understood"),
        (lambda: SimulatedOpenInterest(missing=1.0), "^missing 1.0: .* 0 <= missing < 1$"),
        (lambda: SimulatedOpenInterest(missing=-0.1), "^missing -0.1: .* 0 <= missing < 1$"),
        (lambda: SimulatedOpenInterest(missing=math.nan), "^missing nan: .* 0 <= missing < 1$"),
        (lambda: SimulatedOpenInterest(late=1.1), "^late 1.1: .* 0 <= late <= 1$"),
        (lambda: SimulatedOpenInterest(revised=-1.0), "^revised -1.0: .* 0 <= revised <= 1$"),
        (lambda: SimulatedPremium(interval="7m"), "^interval 7m: .* divides a day evenly"),
        (lambda: SimulatedPremium(interval="2d"), "^interval 2d: .* divides a day evenly"),
        (lambda: SimulatedPremium(interval="1h+5m"), r"^interval 1h\+5m: .* divides a day evenly"),
        (lambda: SimulatedPremium(interval=0), "^interval 0: .* divides a day evenly"),
        (lambda: SimulatedPremium(interval=True), "^interval True is not understood"),
    ],
)
def test_a_bad_argument_is_named_with_what_to_give(make: Callable[[], Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make()


def test_the_folder_tells_series_with_different_parameters_apart() -> None:
    assert SimulatedFunding().series == "BTC-SIM-0-funding"
    assert SimulatedOpenInterest().series == "BTC-SIM-0-oi"
    assert ROUGH.series == "BTC-SIM-3-oi-missing0.1-late0.2-revised0.3"
    assert SimulatedOpenInterest(7, late=1).series == "BTC-SIM-7-oi-late1"
    assert SimulatedPremium(2).series == "BTC-SIM-2-premium-5m"
    assert SimulatedPremium(interval=3600).series == "BTC-SIM-0-premium-1h"
    assert {source.name for source in SOURCES.values()} == {"simulator"}


# --- funding --------------------------------------------------------------------------------------


def test_funding_is_paid_every_eight_hours_and_in_the_middle_of_a_month_every_four() -> None:
    found = whole("funding")
    np.testing.assert_array_equal(found.known_at, found.time)
    days = np.arange(SPAN[0], SPAN[1], DAY)
    often = [11 <= int(str(np.datetime64(int(day), "s"))[8:10]) <= 20 for day in days]
    expected = [
        day + hour * HOUR
        for day, is_often in zip(days.tolist(), often, strict=True)
        for hour in range(0, 24, 4 if is_often else 8)
    ]
    assert found.time.tolist() == expected
    assert set(np.diff(found.time) // HOUR) == {4, 8}
    np.testing.assert_array_equal(found["interval_hours"][1:], np.diff(found.time) / HOUR)
    source = SOURCES["funding"]
    assert (source.interval, source.covers) == (None, 8 * HOUR)
    assert source.columns == ("rate", "interval_hours")


@pytest.mark.parametrize("seed", range(4))
def test_funding_wanders_about_its_usual_rate_and_leans_with_the_price(seed: int) -> None:
    found = records(SimulatedFunding(seed), TWO_YEARS)
    rate = found["rate"] * 8 / found["interval_hours"]
    np.testing.assert_allclose(found["rate"], np.round(found["rate"], 8), rtol=0, atol=1e-15)
    assert rate.mean() == pytest.approx(0.0001, abs=0.00003)
    assert np.median(found["rate"][found["interval_hours"] == 4]) < 0.7 * np.median(rate)
    assert 0.05 < (rate < 0).mean() < 0.35
    assert np.abs(rate).max() <= 0.003
    before = moves(seed, HOUR, found.time, 8 * HOUR)
    assert 0.4 < correlation(rate, before) < 0.9
    after = moves(seed, HOUR, found.time[:-30] + 8 * HOUR, 8 * HOUR)
    assert abs(correlation(rate[:-30], after)) < 0.12


# --- open interest --------------------------------------------------------------------------------


def test_open_interest_is_known_at_the_end_of_its_five_minutes() -> None:
    source, found = SOURCES["open interest"], whole("open interest")
    assert source.interval == 300
    np.testing.assert_array_equal(found.time, np.arange(*SPAN, 300))
    np.testing.assert_array_equal(found.known_at, found.time + 300)
    worth = found["sum_open_interest_value"] / found["sum_open_interest"]
    price = [prices(3, 300)[at] for at in found.known_at[:10_000].tolist()]
    np.testing.assert_allclose(worth[:10_000], np.exp(price), rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_open_interest_follows_the_price_and_longs_leave_as_it_rises(seed: int) -> None:
    found = records(SimulatedOpenInterest(seed), TWO_YEARS)
    interest, longs = found["sum_open_interest"], found["count_long_short_ratio"]
    assert 5_000 < interest.min() < interest.max() < 500_000
    assert 0.3 < longs.min() < 1.2 < longs.max() < 5
    now, day = (moves(seed, 300, found.known_at, seconds) for seconds in (300, DAY))
    change = np.diff(np.log(interest))
    assert 0.25 < correlation(change, now[1:]) < 0.7
    assert abs(correlation(change[:-1], now[2:])) < 0.02  # it does not run ahead
    assert -0.7 < correlation(np.log(longs), day) < -0.15
    assert abs(correlation(np.log(longs[:-288]), day[288:])) < 0.1


def test_missing_late_and_revised_records_are_as_many_as_asked_for() -> None:
    right, rough = whole("open interest"), whole("open interest, rough")
    time, times = np.unique(rough.time, return_counts=True)
    assert 1 - len(time) / len(right) == pytest.approx(0.1, abs=0.01)
    assert set(times) == {1, 2}
    assert (times == 2).mean() == pytest.approx(0.3, abs=0.01)
    is_first = np.concatenate([[True], rough.time[1:] != rough.time[:-1]])
    delay = rough.known_at - rough.time - 300
    assert (delay[is_first] > 0).mean() == pytest.approx(0.2, abs=0.01)
    assert 3500 < delay[is_first].max() <= HOUR
    again = np.flatnonzero(~is_first)
    after = rough.known_at[again] - rough.known_at[again - 1]
    assert 1 <= after.min() < 600
    assert 23 * HOUR < after.max() <= DAY


def test_a_revision_has_the_right_values_and_what_it_revises_is_off_by_up_to_two_percent() -> None:
    right, rough = whole("open interest"), whole("open interest, rough")
    is_last = np.concatenate([rough.time[1:] != rough.time[:-1], [True]])
    at = np.searchsorted(right.time, rough.time)
    for name in SOURCES["open interest"].columns:
        np.testing.assert_array_equal(rough[name][is_last], right[name][at][is_last])
        error = rough[name][~is_last] / right[name][at][~is_last] - 1
        assert 0.019 < np.abs(error).max() <= 0.0200001
        assert abs(np.median(error)) < 0.002


@pytest.mark.parametrize("argument", ["missing", "late", "revised"])
def test_a_larger_share_adds_to_a_smaller_one(argument: str) -> None:
    few, many = (
        records(SimulatedOpenInterest(seed=3, **{argument: share})) for share in (0.1, 0.4)
    )
    if argument == "missing":
        assert set(many.time) < set(few.time)
    elif argument == "late":
        is_late = few.known_at > few.time + 300
        np.testing.assert_array_equal(few.known_at[is_late], many.known_at[is_late])
    else:
        pairs = [
            set(zip(each.time.tolist(), each.known_at.tolist(), strict=True))
            for each in (few, many)
        ]
        assert pairs[0] < pairs[1]


# --- premium --------------------------------------------------------------------------------------


def test_a_premium_is_signed_and_its_bars_follow_each_other() -> None:
    for name in ("premium", "premium of four hours", "premium of a day"):
        source, found = SOURCES[name], whole(name)
        opened, high, low, close = (found[column] for column in ("open", "high", "low", "close"))
        np.testing.assert_array_equal(found.known_at, found.time + (source.interval or 0))
        np.testing.assert_array_equal(opened[1:], close[:-1])
        assert (low <= np.minimum(opened, close)).all()
        assert (high >= np.maximum(opened, close)).all()
        assert 0.2 < (close < 0).mean() < 0.8
        assert np.abs(close).max() < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_a_premium_leans_with_the_price_of_the_hour_before(seed: int) -> None:
    found = records(SimulatedPremium(seed), TWO_YEARS)
    hour = moves(seed, 300, found.known_at, HOUR)
    assert 0.4 < correlation(found["close"], hour) < 0.95
    assert abs(correlation(found["close"][:-12], hour[12:])) < 0.03


def test_the_bars_of_a_premium_may_be_given_as_text_or_in_seconds() -> None:
    minutes, seconds = SimulatedPremium(interval="15m"), SimulatedPremium(interval=900)
    assert minutes == seconds
    assert minutes.interval == 900
    assert type(minutes.interval) is int
