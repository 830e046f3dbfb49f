"""What a candle is: errors that find the row, repairs that are counted, and the laws of merging."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.candles.series import (
    COLUMNS,
    OPTIONAL,
    PRICES,
    REQUIRED,
    Candles,
    check_candles,
    concatenate,
    make_empty,
    merge,
)
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import CandleError
from tests.factories import HOUR, T0, candles_of, changed
from tests.helpers import assert_same, digest_of

MASKS = st.lists(st.booleans(), max_size=12).map(lambda rows: np.array(rows, dtype=bool))
SOME_OPTIONAL = st.sets(st.sampled_from(OPTIONAL)).map(sorted)


def bars(count: int = 6, **columns: Any) -> dict[str, Any]:
    """Valid columns, as lists that a test can spoil."""
    valid = candles_of(np.ones(count, dtype=bool), optional=OPTIONAL)
    return {name: valid[name].tolist() for name in COLUMNS} | columns


def spoiled(name: str, row: int, value: float) -> dict[str, Any]:
    columns = bars()
    columns[name][row] = value
    return columns


# --- the contract -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", PRICES)
def test_a_value_that_is_no_number_is_found(name: str, value: float) -> None:
    with pytest.raises(CandleError) as caught:
        Candles(HOUR, spoiled(name, 3, value))
    assert str(caught.value) == (f"candles, row 3 (2020-01-01T03:00:00Z): {name} is not a number")


@pytest.mark.parametrize("value", [0.0, -5.5])
@pytest.mark.parametrize("name", PRICES)
def test_a_price_must_be_above_zero(name: str, value: float) -> None:
    with pytest.raises(CandleError) as caught:
        Candles(HOUR, spoiled(name, 2, value))
    shown = f"{name} is not above zero ({name} {value:.10g})"
    assert str(caught.value) == f"candles, row 2 (2020-01-01T02:00:00Z): {shown}"


@pytest.mark.parametrize("name", OPTIONAL)
def test_amounts_must_not_be_negative(name: str) -> None:
    with pytest.raises(CandleError) as caught:
        Candles(HOUR, spoiled(name, 5, -1.5))
    shown = f"{name} is negative ({name} -1.5)"
    assert str(caught.value) == f"candles, row 5 (2020-01-01T05:00:00Z): {shown}"


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_column_may_be_unknown_but_not_infinite(name: str) -> None:
    assert math.isnan(Candles(HOUR, spoiled(name, 1, math.nan))[name][1])
    with pytest.raises(CandleError, match=rf"row 1 \(2020-01-01T01:00:00Z\): {name} is infinite"):
        Candles(HOUR, spoiled(name, 1, math.inf))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ((10, 8, 9, 9), "high is below low (high 8, low 9)"),
        ((11, 10, 8, 9), "high is below open or close (open 11, high 10, close 9)"),
        ((9, 10, 8, 11), "high is below open or close (open 9, high 10, close 11)"),
        ((8, 10, 9, 9), "low is above open or close (open 8, low 9, close 9)"),
        ((9, 10, 9, 8), "low is above open or close (open 9, low 9, close 8)"),
    ],
)
def test_prices_that_contradict_each_other_are_shown(
    values: tuple[float, ...], problem: str
) -> None:
    columns = bars()
    for name, value in zip(PRICES, values, strict=True):
        columns[name][4] = value
    with pytest.raises(CandleError) as caught:
        Candles(HOUR, columns)
    assert str(caught.value) == f"candles, row 4 (2020-01-01T04:00:00Z): {problem}"


def test_a_bar_off_the_grid_asks_whether_the_interval_is_right() -> None:
    with pytest.raises(CandleError) as caught:
        Candles(HOUR, spoiled("open_time", 2, T0 + 2 * HOUR + 60))
    assert str(caught.value) == (
        "candles, row 2 (2020-01-01T02:01:00Z): the bar does not open on the 1h grid: "
        "is `interval` right?"
    )


def test_open_times_between_whole_seconds_are_not_cut_off_in_silence() -> None:
    times = np.array([T0, T0 + HOUR]) + 0.5
    with pytest.raises(CandleError):
        Candles(HOUR, bars(2, open_time=times))


@pytest.mark.parametrize("late", [1, 3])
def test_open_times_must_increase(late: int) -> None:
    with pytest.raises(CandleError) as caught:
        Candles(HOUR, spoiled("open_time", 4, T0 + late * HOUR))
    assert str(caught.value) == (
        f"candles, row 4 ({format_instant(T0 + late * HOUR)}): "
        "open times must increase, each bar once"
    )


def test_the_first_of_several_bad_rows_is_named_by_the_number_it_is_called() -> None:
    columns = spoiled("close", 2, math.nan)
    columns["close"][4] = math.nan
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    with pytest.raises(CandleError, match=r"^prices\.csv, row 102 \(2020-01-01T02:00:00Z\)"):
        check_candles(arrays, HOUR, "prices.csv", np.arange(100, 106))


def test_a_missing_column_is_named_beside_those_that_are_there() -> None:
    columns = bars()
    del columns["low"], columns["volume"], columns["trades"]
    there = "open_time, open, high, close, quote_volume, taker_buy_volume"
    with pytest.raises(CandleError) as caught:
        Candles(HOUR, columns)
    assert str(caught.value) == f"candles: no column low (there are: {there})"


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(CandleError, match="columns are not of one length"):
        Candles(HOUR, bars(6, volume=[1.0]))


def test_a_column_of_pairs_is_refused() -> None:
    with pytest.raises(CandleError):
        Candles(HOUR, bars(6, volume=np.ones((6, 2))))


# --- reading ------------------------------------------------------------------------------------


def test_columns_have_their_types_and_an_absent_one_reads_as_nan() -> None:
    series = Candles(HOUR, bars(3, trades=[1, 2, 3], quote_volume=[4, 5, 6]))
    assert series.open_time.tolist() == [T0, T0 + HOUR, T0 + 2 * HOUR]
    assert series.open_time.dtype == np.int64
    assert {series[name].dtype for name in COLUMNS[1:]} == {np.dtype(np.float64)}
    assert series["trades"].tolist() == [1.0, 2.0, 3.0]
    without = changed(series, trades=None)
    assert "trades" not in without.columns
    assert np.isnan(without["trades"]).tolist() == [True] * 3


def test_holes_are_the_runs_between_first_and_last_bar() -> None:
    series = candles_of([T0, T0 + HOUR, T0 + 3 * HOUR, T0 + 7 * HOUR])
    assert series.holes().tolist() == [
        [T0 + 2 * HOUR, T0 + 3 * HOUR],
        [T0 + 4 * HOUR, T0 + 7 * HOUR],
    ]
    assert series.span == (T0, T0 + 8 * HOUR)


@given(MASKS)
def test_holes_and_bars_together_are_the_whole_grid(mask: np.ndarray[Any, Any]) -> None:
    series = candles_of(mask)
    absent = [t for start, end in series.holes().tolist() for t in range(start, end, HOUR)]
    start, end = series.span
    assert sorted([*absent, *series.open_time.tolist()]) == list(range(start, end, HOUR))


@given(MASKS, st.integers(-2, 14), st.integers(-2, 14), st.integers(-1, 1))
def test_a_slice_holds_the_bars_that_open_inside(
    mask: np.ndarray[Any, Any], low: int, high: int, shift: int
) -> None:
    series = candles_of(mask)
    start, end = T0 + low * HOUR + shift, T0 + max(low, high) * HOUR + shift
    part = series.slice(start, end)
    wanted = (series.open_time >= start) & (series.open_time < end)
    assert_same(part, Candles(HOUR, {k: v[wanted] for k, v in series.columns.items()}))


def test_no_bars_are_a_series_too() -> None:
    none = make_empty(HOUR)
    assert (len(none), none.span, none.holes().shape) == (0, (0, 0), (0, 2))
    assert_same(none, changed(candles_of(np.zeros(4, dtype=bool)), volume=None))
    assert len(concatenate([none, none])) == 0


def test_a_polars_frame_has_the_same_columns() -> None:
    series = candles_of(np.ones(3, dtype=bool), optional=["trades"])
    frame = series.to_polars()
    assert frame.columns == [*REQUIRED, "volume", "trades"]
    assert frame["open_time"].to_list() == series.open_time.tolist()
    assert frame["close"].to_list() == series["close"].tolist()


# --- merging ------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(MASKS, MASKS, st.booleans())
def test_a_merge_is_the_union_of_the_bars_and_one_side_wins(
    in_stored: np.ndarray[Any, Any], in_fetched: np.ndarray[Any, Any], refresh: bool
) -> None:
    stored, fetched = candles_of(in_stored, seed=1), candles_of(in_fetched, seed=2)
    merged, differing = merge(stored, fetched, refresh)
    sides = {t: (stored, i) for i, t in enumerate(stored.open_time.tolist())}
    news = {t: (fetched, i) for i, t in enumerate(fetched.open_time.tolist())}
    expected = sides | news if refresh else news | sides
    assert merged.open_time.tolist() == sorted(expected)
    for name in REQUIRED[1:]:
        values = [expected[t][0][name][expected[t][1]] for t in sorted(expected)]
        assert merged[name].tolist() == values
    assert differing.tolist() == sorted(set(sides) & set(news))


@settings(max_examples=40)
@given(MASKS, SOME_OPTIONAL, st.booleans())
def test_merging_a_series_with_itself_changes_nothing(
    mask: np.ndarray[Any, Any], optional: list[str], refresh: bool
) -> None:
    series = candles_of(mask, optional=optional)
    merged, differing = merge(series, series, refresh)
    assert_same(merged, series)
    assert differing.tolist() == []


@settings(max_examples=60)
@given(MASKS, MASKS, MASKS, st.permutations(range(3)), st.booleans())
def test_parts_that_agree_merge_to_the_same_in_any_order_and_grouping(
    a: np.ndarray[Any, Any],
    b: np.ndarray[Any, Any],
    c: np.ndarray[Any, Any],
    order: list[int],
    refresh: bool,
) -> None:
    parts = [candles_of(mask, seed=5, optional=["trades"]) for mask in (a, b, c)]
    left = merge(merge(parts[0], parts[1], refresh)[0], parts[2], refresh)[0]
    right = merge(parts[0], merge(parts[1], parts[2], refresh)[0], refresh)[0]
    x, y, z = (parts[i] for i in order)
    shuffled, differing = merge(merge(x, y, refresh)[0], z, refresh)
    assert_same(left, right)
    assert_same(left, shuffled)
    assert differing.tolist() == []


@pytest.mark.parametrize("refresh", [False, True])
def test_exactly_the_bars_that_changed_are_told(refresh: bool) -> None:
    stored = candles_of(np.ones(6, dtype=bool), optional=["trades"])
    trades = stored["trades"].copy()
    trades[4] += 1
    volume = stored["volume"].copy()
    volume[1] = np.nextafter(volume[1], 0)
    merged, differing = merge(stored, changed(stored, trades=trades, volume=volume), refresh)
    assert differing.tolist() == [T0 + HOUR, T0 + 4 * HOUR]
    assert merged["trades"].tolist() == (trades if refresh else stored["trades"]).tolist()
    assert merged["volume"].tolist() == (volume if refresh else stored["volume"]).tolist()


def test_what_one_side_does_not_know_is_taken_from_the_other_and_is_no_disagreement() -> None:
    stored = candles_of(np.ones(3, dtype=bool), optional=["trades"])
    unknown = changed(stored, trades=[math.nan, 2.0, math.nan])
    known = changed(stored, trades=[1.0, 2.0, math.nan])
    assert merge(unknown, unknown, False)[1].tolist() == []
    without = Candles(HOUR, {name: known[name] for name in REQUIRED})
    for one, other in ((unknown, known), (known, unknown), (without, known), (known, without)):
        for refresh in (False, True):
            joined, disagreeing = merge(one, other, refresh)
            assert disagreeing.tolist() == []
            assert joined["trades"][:2].tolist() == [1.0, 2.0]
            assert math.isnan(joined["trades"][2])


def test_a_column_that_one_side_lacks_is_nan_on_its_bars() -> None:
    first = candles_of([T0, T0 + HOUR], optional=["trades"])
    second = candles_of([T0 + 2 * HOUR], optional=["quote_volume"])
    for joined in (merge(first, second, False)[0], concatenate([first, second])):
        assert set(joined.columns) == {*REQUIRED, "volume", "trades", "quote_volume"}
        assert joined["trades"][:2].tolist() == first["trades"].tolist()
        assert joined["quote_volume"][2] == second["quote_volume"][0]
        assert np.isnan(joined["trades"]).tolist() == [False, False, True]
        assert np.isnan(joined["quote_volume"]).tolist() == [True, True, False]


def test_parts_out_of_order_are_no_series() -> None:
    early, late = candles_of([T0]), candles_of([T0 + HOUR])
    with pytest.raises(CandleError, match="open times must increase"):
        concatenate([late, early])


# --- the digest of the content ------------------------------------------------------------------


@settings(max_examples=40)
@given(MASKS, SOME_OPTIONAL, st.lists(st.integers(0, 12), max_size=4))
def test_the_digest_does_not_depend_on_how_the_bars_came_in(
    mask: np.ndarray[Any, Any], optional: list[str], cuts: list[int]
) -> None:
    whole = candles_of(mask, optional=optional)
    edges = [T0 + cut * HOUR for cut in (0, *sorted(cuts), 12)]
    parts = [whole.slice(a, b) for a, b in pairwise(edges)]
    assert digest_of(*parts) == digest_of(whole)


def test_a_column_of_nan_counts_as_absent() -> None:
    plain = candles_of(np.ones(5, dtype=bool), optional=["quote_volume"])
    padded = changed(plain, trades=np.full(5, math.nan))
    assert digest_of(padded) == digest_of(plain)
    assert digest_of(changed(plain, trades=[math.nan] * 4 + [0.0])) != digest_of(plain)
    late = candles_of(np.arange(5) > 2, optional=["quote_volume"])
    early = changed(plain.slice(T0, T0 + 3 * HOUR), quote_volume=None)
    explicit = changed(early, quote_volume=np.full(3, math.nan))
    assert digest_of(early, late) == digest_of(explicit, late)


@pytest.mark.parametrize("name", COLUMNS[1:])
def test_the_last_bit_of_any_value_is_in_the_digest(name: str) -> None:
    series = candles_of(np.ones(4, dtype=bool), optional=OPTIONAL)
    values = series[name].copy()
    values[2] = np.nextafter(values[2], math.inf if name == "high" else 0)
    other = object.__new__(Candles)
    other.__dict__.update(interval=HOUR, columns={**series.columns, name: values})
    assert digest_of(other) != digest_of(series)


def test_times_and_interval_are_in_the_digest() -> None:
    daily = [T0, T0 + 86400]
    series = candles_of(daily, 86400)
    finer = Candles(HOUR, series.columns)
    moved = changed(series, open_time=series.open_time + 86400)
    assert len({digest_of(series), digest_of(finer), digest_of(moved)}) == 3
