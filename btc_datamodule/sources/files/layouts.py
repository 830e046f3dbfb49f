"""The order of columns in a table that names nothing, told by its rows.

A high is the highest price of a bar and a low the lowest: of the orders in use (Kraken's and most
others', Bitfinex's, Coinbase's) only one fits rows whose prices move. Open and close are told apart
by how bars follow each other.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import CandleError, SourceError
from btc_datamodule.sources.columns import LAYOUTS, LEFT_OUT
from btc_datamodule.sources.files.numbers import read_number_columns
from btc_datamodule.sources.files.raw import RawTable
from btc_datamodule.sources.files.times import TimeReading, classify, read_times

if TYPE_CHECKING:
    import polars as pl

ORDERS = (
    ("open", "high", "low", "close"),
    ("open", "close", "high", "low"),
    ("low", "high", "open", "close"),
    ("close", "high", "low", "open"),
    ("close", "open", "high", "low"),
    ("low", "high", "close", "open"),
)
"""Orders of prices in use; the last three are the first ones with open and close exchanged."""


def guess_order(table: RawTable, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Guess what the columns of a table without names are.

    Returns:
        A name per column, and a note on how they were told.

    Raises:
        SourceError: if no order, or more than one, fits the rows.
    """
    kinds = [classify(series) for series in table.frame.get_columns()]
    if kinds and _is_kline(table):
        return LAYOUTS["binance"], ()
    times = 2 if kinds[:2] == ["date", "clock"] else int(kinds[0] in ("instant", "date"))
    numbers = _read_numbers(table, times)
    if not times or len(numbers) < 4:
        _refuse(table, where, "")
    prices = np.array(numbers[:4])
    moving = prices[:, np.ptp(prices, axis=0) > 0]
    fits = {order: _fit(moving, order) for order in ORDERS[:3]}
    best = max(fits, key=lambda order: fits[order])
    others = max(fit for order, fit in fits.items() if order != best)
    if not moving.shape[1] or fits[best] < 0.99 or others > 0.5:
        _refuse(table, where, ", and its rows do not tell which column is which")
    if _is_reversed(table, times, prices, best, where):
        best = ORDERS[ORDERS.index(best) + 3]
    volumes = _guess_volumes(prices, numbers[4:])
    if volumes is None:
        _refuse(table, where, ", and the volume may stand after a count of trades")
    names = ("open_time",) * times + best + (volumes or ())
    names += (LEFT_OUT,) * (len(kinds) - len(names))
    told = ", ".join(name or "not read" for name in names)
    more = best == ORDERS[0] and names[times + 4 :] == ("volume", LEFT_OUT)
    note = (
        f"{where}: has no header; the order of columns that its rows fit is {told}"
        f"{' (`columns: kraken` reads more)' * more}: `columns` says it for certain"
    )
    return names, (note,)


def _is_reversed(
    table: RawTable, times: int, prices: NDArray[np.float64], order: tuple[str, ...], where: str
) -> bool:
    """Whether bars follow each other only if their opens are closes: each opens near the last."""
    reading = TimeReading(None, None, 0)
    try:
        columns = [series.head(prices.shape[1]) for series in table.frame.get_columns()[:times]]
        at = np.argsort(read_times(columns, reading, where, 0).micros, kind="stable")
    except CandleError:  # which is told when the times are read
        return False
    opened, closed = prices[order.index("open")][at], prices[order.index("close")][at]
    usual = float(np.nansum(np.abs(opened[1:] - closed[:-1])))
    other = float(np.nansum(np.abs(closed[1:] - opened[:-1])))
    return other < usual / 2


def _guess_volumes(
    prices: NDArray[np.float64], numbers: list[NDArray[np.float64]]
) -> tuple[str, ...] | None:
    """Which of the columns after the prices are volumes; a mean price may stand before them.

    None where trades may stand before the volume.
    """
    names = [LEFT_OUT] * len(numbers)
    low, high = prices.min(axis=0) * 0.98, prices.max(axis=0) * 1.02
    skipped = 0
    if len(numbers) > 1:
        mean = numbers[0]
        inside = (mean >= low) & (mean <= high)
        skipped = int(bool(inside[mean > 0].any()) and bool(inside[mean > 0].mean() > 0.9))
    for i in range(skipped, min(len(numbers), 4)):
        for j in range(skipped, min(len(numbers), 4)):
            if i != j and LEFT_OUT == names[i] == names[j] and not any(names):
                some = (numbers[i] > 0) & (numbers[j] > 0)
                ratio = numbers[j][some] / numbers[i][some]
                inside = (ratio >= low[some]) & (ratio <= high[some])
                if len(ratio) and inside.mean() > 0.9:
                    names[i], names[j] = "volume", "quote_volume"
    if numbers[skipped:] and not any(names):
        counts = (numbers[skipped] % 1 == 0).all() and (numbers[skipped] > 0).any()
        if counts and len(numbers) > skipped + 1 and (numbers[skipped + 1] % 1 > 0).any():
            return None
        names[skipped] = "volume"
        if skipped and len(numbers) == 3 and (numbers[2] % 1 == 0).all():  # as Kraken answers
            names[2] = "trades"
    return tuple(names)


def describe_first_row(table: RawTable, place: int | None = None) -> str:
    """The first row of a table, or of one column, for an error."""
    if not table.frame.height:
        return "missing"
    frame = table.frame.head(1)
    frame = frame if place is None else frame.select(f"{place}")
    text = ",".join(map(_show, frame.get_columns()))
    return repr(text if len(text) <= 100 else f"{text[:97]}...")


def _show(series: "pl.Series") -> str:
    """The first value of a column; an instant far out, which Python cannot show, as its number."""
    value = series.to_physical()[0] if series.dtype.is_temporal() else series[0]
    return "" if value is None else f"{value}"


def _refuse(table: RawTable, where: str, why: str) -> None:
    raise SourceError(
        f"{where}: no header; the first row is {describe_first_row(table)}{why}: set `columns` to "
        f"the names of its {table.frame.width} columns in order, or to one of {', '.join(LAYOUTS)}"
    )


def _read_numbers(table: RawTable, times: int) -> list[NDArray[np.float64]]:
    """The columns of numbers after the times, up to the first that is none."""
    columns: list[NDArray[np.float64]] = []
    for series in table.frame.get_columns()[times:]:
        try:
            read = read_number_columns([series.head(100_000)], table.separator)[0]
        except ValueError:  # no numbers, or such as are told when they are read
            break
        if read.bad.any() or read.values.null_count() == len(read.values):
            break
        columns.append(read.values.fill_null(np.nan).to_numpy())
    return columns


def _fit(prices: NDArray[np.float64], order: tuple[str, ...]) -> float:
    """The share of bars that are candles if their prices stand in this order."""
    if not prices.shape[1]:
        return 0.0
    opened, high, low, close = (prices[order.index(n)] for n in ("open", "high", "low", "close"))
    fine = (low <= np.minimum(opened, close)) & (high >= np.maximum(opened, close))
    return float(np.mean(fine))


def _is_kline(table: RawTable) -> bool:
    """Whether rows are klines of Binance: 12 numbers, the 7th a time shortly after the 1st."""
    if table.frame.width != len(LAYOUTS["binance"]) or not table.frame.height:
        return False
    try:
        row: list[Any] = [float(value) for value in table.frame.row(0)]
    except (TypeError, ValueError):
        return False
    return bool(1e9 < row[0] < row[6] < row[0] * 1.01)
