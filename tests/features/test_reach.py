"""How far back a row reaches, as walls are told: to what it is made of, and what is not there."""

from typing import Any

import numpy as np
import pytest

from btc_datamodule import Feature
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.features.asof import NEVER, join_feature, join_rows
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.clocks import Rows
from btc_datamodule.features.joined import JoinedSeries
from tests.factories import HOUR, START, hourly
from tests.features.clocks import Series

COLUMNS = ("open", "high", "low", "close", "volume")


def at(hours: float) -> int:
    return START + round(hours * HOUR)


def candles_beside(content: Candles, hours: int = 1, max_age: int | None = 2) -> Series:
    """A series in bars of some hours, joined of hours where they are more."""
    age = None if max_age is None else max_age * HOUR
    return Series(Beside("s", Interval(hours * HOUR), COLUMNS, True, age), content)


def records_beside(
    *told: tuple[float, float, float], step: int | None = None, max_age: int | None = None
) -> Series:
    """A series of records: (time, known at, value), in hours."""
    time, known_at, value = zip(*told, strict=True)
    columns = {
        "time": np.array([*map(at, time)]),
        "known_at": np.array([*map(at, known_at)]),
        "value": np.array(value),
    }
    age = None if max_age is None else max_age * HOUR
    interval = None if step is None else Interval(step * HOUR)
    return Series(Beside("s", interval, ("value",), False, age), RecordSet(columns))


def find_reach(series: Series, closes: list[float], lookback: int = 1) -> list[float | None]:
    """Hours that rows reach back to, when a feature of a column is joined to them."""
    column = "close" if series.beside.is_candles else "value"
    whens = np.array([*map(at, closes)])

    def take(rows: Rows) -> Any:
        return rows.columns[column]

    joined = join_feature(series.open(int(whens[-1])), whens, lookback, take, (column,))
    return [None if each == NEVER else (each - START) / HOUR for each in joined.since.tolist()]


def test_a_bar_that_is_filled_reaches_back_to_that_which_it_repeats() -> None:
    """One of an outage to the first that it would repeat, had there been a bar."""
    series = candles_beside(hourly([7, 7, 7, *[None] * 6, 7]), max_age=1)
    closes = [float(row + 1) for row in range(10)]
    # With max_fill 3 the rows from 3 to 5 repeat row 2, and those from 6 to 8 are not known: the
    # first of them may take what row 5 says, which is an hour old.
    assert find_reach(series, closes) == [0, 1, 2, 2, 2, 2, 2, 3, 4, 9]
    assert find_reach(candles_beside(hourly([7] * 9)), closes[:9], lookback=3)[2:] == [*range(7)]


def test_a_longer_bar_reaches_back_to_its_opening_whatever_was_there_of_it() -> None:
    series = candles_beside(hourly([7, 7, 7, 7, *[None] * 5, 7, 7, 7]), 4, max_age=8)
    # The bar from 8 to 12 is made of hours from 9 on; the one from 4 to 8 repeats hour 3.
    assert find_reach(series, [4.0, 8.0, 12.0]) == [0, 3, 8 - 3]


def test_that_there_is_nothing_hangs_on_all_that_would_not_be_too_old() -> None:
    second = 1 / HOUR
    series = records_beside((1, 1, 5.0), (9, 9, 6.0), max_age=3)
    found = find_reach(series, [0.0, 1.0, 4.0, 5.0, 8.0, 9.0])
    assert found == [None, 1, 1, pytest.approx(2 - second), pytest.approx(5 - second), 9]
    rows = join_rows(series.open(at(9)), np.array([at(0), at(4), at(5), at(9)]))
    assert rows.some.tolist() == [False, True, False, True]
    assert rows.rows.since.tolist() == [NEVER, at(1), at(2) - 1, at(9)]


def test_a_value_that_is_not_defined_hangs_on_its_rows_too() -> None:
    series = records_beside(
        (0, 1, 5.0), (1, 2, 6.0), (2, 3, np.nan), (6, 7, 7.0), step=1, max_age=1
    )
    # At 5 nothing has become known for an hour; at 4 only what has no value, of rows from 0 on.
    assert find_reach(series, [3.0, 4.0, 5.0], lookback=2)[:2] == [0, 1]


def test_of_any_age_that_there_is_nothing_hangs_on_where_the_series_begins() -> None:
    series = records_beside((2, 2, 5.0), (4, 4, 5.0), (6, 6, 5.0))
    assert find_reach(series, [1.0, 3.0, 5.0, 7.0], lookback=3) == [None, 2, 2, 2]


def test_a_window_is_whole_once_so_much_was_known() -> None:
    """A record of before the first one, which comes later, makes no earlier window whole."""
    series = records_beside((0, 9, 5.0), (1, 2, 6.0), (2, 3, 7.0), step=1)

    def take(rows: Rows) -> Any:
        return np.nan_to_num(rows.columns["value"], nan=1.0)

    closes = np.array([at(2), at(3), at(9)])
    joined = join_feature(series.open(at(9)), closes, 2, take, None)
    np.testing.assert_array_equal(joined.values, [np.nan, 7.0, 7.0])
    assert joined.since.tolist() == [at(1)] * 3


def test_a_feature_of_a_series_reaches_back_to_what_it_sees_beside_it() -> None:
    eth = candles_beside(hourly([7] * 12))
    funding = records_beside((-3, -3, 5.0), (5, 5, 6.0))
    clocks = {"eth": eth.open(at(12)), "funding": funding.open(at(12))}

    def lean(bars: Any, beside: Any) -> Any:
        return bars["close"] * beside["value"]

    feature = Feature("lean", 2, lean, series="eth", beside=("funding",))
    found = JoinedSeries(clocks).compute(feature, np.array([at(row) for row in range(2, 11)]))
    # The value at 7 is made of the bars from 5 on, when the second rate is known: that tells of 5.
    assert [(each - START) // HOUR for each in found.since.tolist()] == [-3] * 5 + [5] * 4
