"""The order of columns without names: told by the rows where only one fits, refused elsewhere."""

from itertools import accumulate
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.columns import LAYOUTS
from btc_datamodule.sources.files.layouts import ORDERS, describe_first_row, guess_order
from btc_datamodule.sources.files.raw import RawTable, make_frame

# Hours of March 2025: open, high, low, close, volume, quote volume.
BARS = [
    (84349.95, 84628.93, 83824.78, 83857.92, 636.60016, 53599194.4492667),
    (83857.91, 84870.68, 83845.86, 84656.93, 1147.78686, 96683386.7871548),
    (84656.93, 85678.11, 84358.34, 85240.46, 2313.11212, 196753110.676496),
    (85240.45, 85511.91, 84961.44, 85330.84, 1000.29878, 85219432.4166),
    (85330.84, 85342.7, 84815.28, 85034.01, 765.2, 65100000.0),
]
FIELDS = ("open", "high", "low", "close", "volume", "quote_volume")
START = 1740787200


def table(order: tuple[str, ...], *more: Any, times: bool = True) -> RawTable:
    """Rows without names, columns in this order, then more of them."""
    columns: list[list[Any]] = [[START + 3600 * i for i in range(len(BARS))]] if times else []
    columns += [[bar[FIELDS.index(name)] for bar in BARS] for name in order]
    columns += [list(values) for values in more]
    return RawTable(None, make_frame([pl.Series(values) for values in columns]))


@pytest.mark.parametrize("order", list(ORDERS))
def test_the_only_order_that_fits_the_rows_is_taken_with_a_note(order: tuple[str, ...]) -> None:
    names, notes = guess_order(table((*order, "volume")), "a.csv")
    assert names == ("open_time", *order, "volume")
    told = ", ".join(names)
    assert notes == (
        f"a.csv: has no header; the order of columns that its rows fit is {told}: `columns` says "
        "it for certain",
    )


def test_two_columns_of_a_date_and_a_time_of_day_are_the_time() -> None:
    frame = table((*FIELDS[:5],), times=False).frame
    clocks = [f"{i:02d}:00" for i in range(len(BARS))]
    columns = [pl.Series(["2025.03.01"] * 5), pl.Series(clocks), *frame.get_columns()]
    names, _ = guess_order(RawTable(None, make_frame(columns)), "a.csv")
    assert names == ("open_time", "open_time", *FIELDS[:5])


def test_a_second_volume_is_the_quote_volume_only_where_the_ratio_is_the_price() -> None:
    names, _ = guess_order(table(FIELDS), "a.csv")
    assert names == ("open_time", *FIELDS)
    trades = [131136, 187988, 284913, 175578, 99999]
    names, notes = guess_order(table(FIELDS[:5], trades), "a.csv")
    assert names == ("open_time", *FIELDS[:5], "")
    assert "(`columns: kraken` reads more)" in notes[0]


def test_klines_of_binance_are_known_by_their_close_time_without_a_note() -> None:
    closes = [START + 3600 * i + 3599 for i in range(5)]
    rest = [[bar[5] for bar in BARS], [1] * 5, [0.5] * 5, [1.0] * 5, [0] * 5]
    assert guess_order(table(FIELDS[:5], closes, *rest), "a.csv") == (LAYOUTS["binance"], ())


@pytest.mark.parametrize(
    "rows",
    [
        table((*FIELDS[:5],), times=False),  # no time
        table(("open", "high", "low")),  # too few columns
        table(("volume", "close", "high", "low", "open")),  # another order
        RawTable(None, make_frame([pl.Series([START, START + 3600]), *[pl.Series([1.0] * 2)] * 5])),
    ],
)
def test_where_no_order_or_several_fit_the_advice_is_to_say_it(rows: RawTable) -> None:
    with pytest.raises(SourceError) as caught:
        guess_order(rows, "a.csv")
    width = rows.frame.width
    assert f"set `columns` to the names of its {width} columns in order, or to one of kraken" in (
        str(caught.value)
    )
    assert "\n" not in str(caught.value)


def test_the_mean_price_of_kraken_is_not_taken_for_the_volume() -> None:
    """Its answers are time, open, high, low, close, vwap, volume, count."""
    means = [round(bar[5] / bar[4], 1) for bar in BARS]
    volumes = [bar[4] for bar in BARS]
    try:
        names, _ = guess_order(table(FIELDS[:4], means, volumes, [7] * 5), "a.json")
    except SourceError:
        return  # to ask is as good
    assert names[5] != "volume"
    assert names[6] == "volume"


def test_a_close_that_stands_before_the_open_is_not_taken_for_it() -> None:
    """A bar opens where the one before closed: so close, high, low, open is no other order."""
    for order in (("close", "high", "low", "open"), ("close", "open", "high", "low")):
        try:
            names, _ = guess_order(table((*order, "volume")), "a.csv")
        except SourceError:
            continue
        assert names[1:5] == order


def test_the_first_row_is_shown_shortened() -> None:
    rows = RawTable(None, make_frame([pl.Series(["x" * 200]), pl.Series([None], dtype=pl.Int64)]))
    assert describe_first_row(rows) == repr("x" * 97 + "...")
    assert describe_first_row(rows, 1) == "''"
    assert describe_first_row(table(FIELDS), 1) == "'84349.95'"
    empty = RawTable(None, make_frame([pl.Series([], dtype=pl.Int64)]))
    assert describe_first_row(empty) == "missing"


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.floats(100, 1000), *[st.floats(0.125, 50)] * 3), min_size=12),
    st.sampled_from(list(ORDERS)),
)
def test_an_order_that_is_guessed_makes_every_row_a_candle(
    rows: list[tuple[float, float, float, float]], order: tuple[str, ...]
) -> None:
    ladder = ("low", "open", "close", "high")
    bars = [dict(zip(ladder, accumulate(row), strict=True)) for row in rows]
    prices = [pl.Series([bar[name] for bar in bars]) for name in order]
    times = pl.Series([START + 3600 * i for i in range(len(rows))])
    try:
        names, _ = guess_order(RawTable(None, make_frame([times, *prices])), "a.csv")
    except SourceError:
        return
    found = {name: prices[names.index(name) - 1] for name in FIELDS[:4]}
    assert (found["high"] >= found["open"]).all()
    assert (found["low"] <= found["close"]).all()
