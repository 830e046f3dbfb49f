"""Klines of Binance's archive, from the bytes of a file to candles or to records.

Trades, mark prices, index prices and premiums come in the same 12 columns. Their times are in
milliseconds or microseconds. Known damage is settled by rule and noted: rows off the grid, outside
the period or of longer bars are left out, bars that closed too early are kept. A file of which no
row would be left is an error.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.records import make_empty as make_no_records
from btc_datamodule.candles.series import PRICES, Candles, make_empty
from btc_datamodule.candles.tidying import tidy
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.sources.binance.tidying import Rows, make_records
from btc_datamodule.sources.binance.zips import (
    BadFileError,
    CsvForm,
    compute_size_limit,
    read_table,
)
from btc_datamodule.sources.columns import LAYOUTS, LEFT_OUT, recognise

if TYPE_CHECKING:
    import polars as pl

INTERVALS = (60, 180, 300, 900, 1800, *(hours * 3600 for hours in (1, 2, 4, 6, 8, 12, 24)))
"""Seconds of the bars that there are of every kind: 1m to 1d."""


def _is_header(fields: Sequence[str]) -> bool:
    found = recognise(fields)
    found[7:8] = found[7:8] and ["quote_volume"]  # of coin-margined files that of the base coin
    return tuple(found) == LAYOUTS["binance"]


FORM = CsvForm(
    cells={
        "open_time": "int",
        **dict.fromkeys((*PRICES, "volume"), "float"),
        "close_time": "int",
        **dict.fromkeys(("quote_volume", "trades", "taker_buy_volume"), "float"),
        "taker_buy_quote_volume": "float",
        "ignore": "text",
    },
    is_header=_is_header,
    row="a candle",
    unread=("ignore",),
)
"""The 12 columns. In coin-margined files volume and taker_buy_volume count contracts, and what is
called quote_volume and taker_buy_quote_volume here is in the base coin."""


def read_klines(
    body: bytes,
    name: str,
    period: Span,
    interval: int,
    url: str,
    *,
    in_contracts: bool = False,
    drop_invalid: bool = False,
) -> tuple[Candles, tuple[str, ...]]:
    """Read the candles in a zip, and notes on what was left out or looks odd.

    Args:
        body: the zip.
        name: of the file, for notes.
        period: the half-open span (epoch seconds) that the file is about.
        interval: seconds of a bar.
        url: of the file, for errors.
        in_contracts: whether its volumes count contracts, as those of coin-margined futures do;
            the candles then have those of the base coin, and no ``quote_volume``.
        drop_invalid: leave out rows that are no candles, with a note that counts them.

    Raises:
        BadFileError: if it is no zip of one plain kline CSV of a fitting size.
        CandleError: naming the first row that is no candle.
    """
    where = f"binance {name}"
    table, notes = _read_bars(body, where, period, interval, url)
    if table is None:
        return make_empty(interval), notes
    columns = {name: table[name].to_numpy() for name in LAYOUTS["binance"] if name != LEFT_OUT}
    if in_contracts:
        columns["volume"] = columns.pop("quote_volume")
        columns["taker_buy_volume"] = table["taker_buy_quote_volume"].to_numpy()
    rows = table["row"].to_numpy()
    candles, repaired = tidy(columns, interval, where, rows, drop_invalid=drop_invalid)
    return candles, (*notes, *repaired)


def read_kline_records(
    body: bytes,
    name: str,
    period: Span,
    interval: int,
    url: str,
    *,
    is_signed: bool = False,
    drop_invalid: bool = False,
) -> tuple[RecordSet, tuple[str, ...]]:
    """Read the bars in a zip as records, known at their closes; see ``read_klines``.

    Args:
        body: the zip.
        name: of the file, for notes.
        period: the half-open span (epoch seconds) that the file is about.
        interval: seconds of a bar.
        url: of the file, for errors.
        is_signed: whether the values may be negative or zero, as those of a premium.
        drop_invalid: leave out rows that are no bars, with a note that counts them.

    Returns:
        Records with the columns ``PRICES``: volumes and counts of these files say nothing.

    Raises:
        BadFileError: if it is no zip of one plain kline CSV of a fitting size.
        RecordError: naming the first row that is no bar.
    """
    where = f"binance {name}"
    table, notes = _read_bars(body, where, period, interval, url)
    if table is None:
        return make_no_records(PRICES), notes
    time = table["open_time"].to_numpy()
    columns = {
        "time": time,
        "known_at": time + interval,
        **{name: table[name].to_numpy() for name in PRICES},
    }
    rows = Rows(columns, table["row"].to_numpy(), where)
    faults = _find_faults(columns, is_signed=is_signed)
    records, repaired = make_records(rows, faults, drop_invalid=drop_invalid)
    return records, (*notes, *repaired)


def _find_faults(
    columns: dict[str, NDArray[Any]], *, is_signed: bool
) -> dict[str, NDArray[np.bool_]]:
    """The ways in which rows can fail to be bars of a price or a premium: (N,) which ones do."""
    opened, high, low, close = (columns[name] for name in PRICES)
    faults = {}
    for name in PRICES:
        faults[f"{name} is not a number"] = ~np.isfinite(columns[name])
        if not is_signed:
            faults[f"{name} is not above zero"] = columns[name] <= 0
    faults["high is below open, low or close"] = high < np.maximum(np.maximum(opened, close), low)
    faults["low is above open or close"] = low > np.minimum(opened, close)
    return faults


def _read_bars(
    body: bytes, where: str, period: Span, interval: int, url: str
) -> "tuple[pl.DataFrame | None, tuple[str, ...]]":
    """Read the rows that are bars of the period, times in epoch seconds; None if there are none."""
    import polars as pl

    table = read_table(body, FORM, compute_size_limit(period, interval), url)
    if table is None:
        return None, (f"{where}: holds no rows",)
    table, notes = _sift(table, period, interval, url)
    table = table.with_columns(pl.col("open_time") // 10**6)
    return table, tuple(f"{where}: {note}" for note in notes)


def _sift(
    table: "pl.DataFrame", period: Span, interval: int, url: str
) -> "tuple[pl.DataFrame, list[str]]":
    """Leave out rows that are no bars of the file's period; count what was odd, as notes.

    The times of the rows that come back are in microseconds.
    """
    import polars as pl

    def to_micros(name: str) -> pl.Expr:  # until the year 5138, milliseconds stay below 1e14
        time = pl.col(name)
        return pl.when(time < 10**14).then(time * 1000).otherwise(time)

    table = table.with_columns(to_micros("open_time"), to_micros("close_time"))
    opened, step, height = pl.col("open_time"), interval * 10**6, table.height
    start, end = (second * 10**6 for second in period)
    oddities = {
        "open outside its period and were left out": (opened < start) | (opened >= end),
        "open off the grid and were left out": opened % step != 0,
        "close too late for bars of this length and were left out": (
            pl.col("close_time") > opened + step
        ),
        "close too early and were kept": pl.col("close_time") < opened + step - 1000,
    }
    notes = []
    for text, odd in oddities.items():
        rows = table.filter(odd)
        if rows.height:
            first = format_instant(rows["open_time"][0] // 10**6)
            notes.append(f"{rows.height} of {height} rows {text}, the first at {first}")
            if text.endswith("left out"):
                table = table.filter(~odd)
            if not table.height:  # of another period, another unit, another length of bars
                raise BadFileError(url, f"{'; '.join(notes)}: is it another file?")
    return table, notes
