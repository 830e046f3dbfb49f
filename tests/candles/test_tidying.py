"""Rows as they came, put in order: which of two rows of one bar stays, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.candles.series import COLUMNS, OPTIONAL, PRICES, REQUIRED, Candles, make_empty
from btc_datamodule.candles.tidying import tidy
from btc_datamodule.errors import CandleError
from tests.factories import HOUR, T0, candles_of
from tests.helpers import assert_same


def bars(count: int = 6, **columns: Any) -> dict[str, Any]:
    """Valid columns, as lists that a test can spoil."""
    valid = candles_of(np.ones(count, dtype=bool), optional=OPTIONAL)
    return {name: valid[name].tolist() for name in COLUMNS} | columns


def test_rows_in_any_order_come_out_sorted_without_a_word() -> None:
    valid = candles_of(np.ones(6, dtype=bool), optional=["trades"])
    order = [3, 0, 5, 1, 4, 2]
    series, notes = tidy({k: v[order] for k, v in valid.columns.items()}, HOUR, "a.csv")
    assert_same(series, valid)
    assert notes == ()


def test_exact_repeats_are_dropped_and_counted() -> None:
    valid = candles_of(np.ones(4, dtype=bool))
    rows = [0, 1, 1, 2, 2, 2, 3]
    series, notes = tidy({k: v[rows] for k, v in valid.columns.items()}, HOUR, "a.csv")
    assert_same(series, valid)
    assert notes == (
        "a.csv: 3 rows repeat an open time; the finished and most complete of each was kept: 3 "
        "differ from it by rounding at most",
    )


def unfinished(candles: Candles, row: int, share: float) -> dict[str, float]:
    """A bar as it looked before it was finished: the same open, less range and volume."""
    bar = {name: float(values[row]) for name, values in candles.columns.items()}
    close = bar["open"] + share * (bar["close"] - bar["open"])
    top, bottom = max(bar["open"], close), min(bar["open"], close)
    return bar | {
        "close": close,
        "high": top + share * (bar["high"] - top),
        "low": bottom - share * (bottom - bar["low"]),
        "volume": share * bar["volume"],
    }


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("volume", [False, True])
def test_the_finished_bar_stays_wherever_it_stands(first: bool, volume: bool) -> None:
    valid = candles_of(np.ones(8, dtype=bool), optional=["trades"])
    early = [unfinished(valid, row, 0.2 + 0.1 * row) for row in (0, 3, 5, 7)]
    rows = {
        name: np.concatenate(
            [[bar[name] for bar in early], values] if first else [values, [b[name] for b in early]]
        )
        for name, values in valid.columns.items()
        if volume or name != "volume"
    }
    rows["trades"] = np.where(np.arange(12) % 2 == first, np.nan, rows["trades"])
    series, notes = tidy(rows, HOUR, "a.csv")
    assert series["close"].tolist() == valid["close"].tolist()
    (note,) = notes
    assert note.startswith("a.csv: 4 rows repeat an open time; the finished and most complete of")
    assert not volume or note.endswith(
        "kept: 4 are of bars not finished yet, which stand there finished too"
    )


def test_of_rows_that_differ_by_rounding_the_one_that_knows_most_stays() -> None:
    columns = {
        "open_time": np.array([T0, T0, T0]),
        **{name: np.array([100.0, 100.01, 100.02]) for name in PRICES},
        "volume": np.array([1.0, 1.0001, 1.0]),
        "trades": np.array([math.nan, 7.0, 8.0]),
        "quote_volume": np.array([5.0, 6.0, math.nan]),
    }
    series, _ = tidy(columns, HOUR, "a.csv")
    assert {name: series[name].tolist() for name in ("close", "trades", "quote_volume")} == {
        "close": [100.01],
        "trades": [7.0],
        "quote_volume": [6.0],
    }


def test_a_few_rows_that_do_not_agree_are_told_with_the_worst() -> None:
    valid = candles_of(np.ones(40, dtype=bool))
    rows = [*range(40), 7, 9]
    columns = {name: values[rows] for name, values in valid.columns.items()}
    for name in PRICES:
        columns[name] = columns[name] * np.where(np.arange(42) == 40, 1.02, 1.0)
        columns[name] = columns[name] * np.where(np.arange(42) == 41, 1.04, 1.0)
    columns["volume"] = np.where(np.arange(42) >= 40, 0.01, columns["volume"])
    series, (note,) = tidy(columns, HOUR, "a.csv")
    assert_same(series, valid)
    assert "2 do not agree with it (two rows for 2020-01-01T09:00:00Z, 9 and 41, close at" in note
    columns["close"][41] = columns["high"][41] = columns["close"][9] * 1.2
    with pytest.raises(
        CandleError, match=r"a\.csv: two rows for .*, 9 and 41, close at .*: remove the wrong one"
    ):
        tidy(columns, HOUR, "a.csv")


@pytest.mark.parametrize("gap", [1.002, 1.02])
def test_two_markets_in_one_table_are_an_error(gap: float) -> None:
    one = candles_of(np.ones(30, dtype=bool))
    columns = {name: np.repeat(values, 2) for name, values in one.columns.items()}
    for name in PRICES:
        columns[name] = columns[name] * np.tile([1.0, gap], 30)
    columns["volume"] = columns["volume"] * np.tile([1.0, 0.7], 30)
    with pytest.raises(CandleError, match=r"of its 30 bars 30 stand there more than once with"):
        tidy(columns, HOUR, "a.csv")


def test_hours_whose_time_of_day_was_lost_are_an_error() -> None:
    hours = candles_of(np.ones(24 * 20, dtype=bool))
    columns = dict(hours.columns) | {"open_time": hours.open_time // 86_400 * 86_400}
    with pytest.raises(CandleError, match="or was the time of day lost"):
        tidy(columns, 86_400, "a.csv")


def test_a_volume_that_only_some_rows_have_is_an_error_and_none_at_all_is_not() -> None:
    columns = bars()
    columns["volume"][3] = math.nan
    with pytest.raises(CandleError, match=r"row 3 \(.*\): volume is not a number"):
        tidy(columns, HOUR, "a.csv")
    assert len(tidy(columns, HOUR, "a.csv", drop_invalid=True)[0]) == 5
    columns["volume"] = [math.nan] * 6
    assert "volume" not in tidy(columns, HOUR, "a.csv")[0].columns


def test_leaving_out_nearly_all_rows_is_no_repair() -> None:
    valid = candles_of(np.ones(40, dtype=bool))
    columns = dict(valid.columns) | {"high": np.where(np.arange(40) == 5, valid["high"], 1.0)}
    with pytest.raises(CandleError, match="and so it is in 39 of 40 rows"):
        tidy(columns, HOUR, "a.csv", drop_invalid=True)


def test_a_bad_row_is_named_as_it_came_not_as_it_was_sorted() -> None:
    columns = {name: np.asarray(values)[::-1] for name, values in bars().items()}
    columns["high"] = np.where(np.arange(6) == 1, 1.0, columns["high"])
    with pytest.raises(CandleError, match=r"^a\.csv, row 31 \(2020-01-01T04:00:00Z\): high is"):
        tidy(columns, HOUR, "a.csv", np.arange(30, 36))


def test_tidying_nothing_gives_nothing() -> None:
    series, notes = tidy(make_empty(HOUR).columns, HOUR, "a.csv")
    assert (len(series), notes) == (0, ())


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.2, 0.5, 1.0])), max_size=12))
def test_each_open_time_comes_out_once_as_far_on_as_any(rows: list[tuple[int, float]]) -> None:
    whole = candles_of(np.ones(7, dtype=bool))
    made = [unfinished(whole, bar, share) for bar, share in rows]
    columns = {name: np.array([bar[name] for bar in made]) for name in [*REQUIRED, "volume"]}
    series, notes = tidy(columns, HOUR, "a.csv")
    best = {bar: max(share for other, share in rows if other == bar) for bar, _ in rows}
    assert series.open_time.tolist() == [T0 + bar * HOUR for bar in sorted(best)]
    expected = [unfinished(whole, bar, best[bar])["close"] for bar in sorted(best)]
    assert series["close"].tolist() == expected
    repeats = len(rows) - len(best)
    assert [note.split()[1] for note in notes] == ([str(repeats)] if repeats else [])


def test_rows_that_are_no_candles_can_be_left_out_and_are_counted() -> None:
    columns = bars(6)
    columns["close"][1] = math.nan
    columns["high"][1] = -1.0
    columns["volume"][4] = -2.0
    candles, notes = tidy(columns, HOUR, "here", drop_invalid=True)
    whole = candles_of(np.ones(6, dtype=bool), optional=OPTIONAL)
    kept = [0, 2, 3, 5]
    assert_same(candles, Candles(HOUR, {name: whole[name][kept] for name in COLUMNS}))
    assert notes == (
        "2 rows that are no candles were left out, such as here, row 1 "
        "(2020-01-01T01:00:00Z): high is not above zero (high -1)",
    )


def test_leaving_out_what_is_no_candle_says_nothing_of_a_wrong_grid() -> None:
    columns = bars(6)
    columns["open_time"][2] += 60
    with pytest.raises(CandleError, match=r"row 2 .*is `interval` right"):
        tidy(columns, HOUR, "here", drop_invalid=True)
