"""What stands in the columns of a file: which instant a time is, which row is a bar.

Times may be numbers in seconds, milliseconds, microseconds or nanoseconds, told apart row by row
since real files mix them, or ISO 8601 texts, or the instants of an Arrow file; UTC unless they
say otherwise.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import PRICES
from btc_datamodule.errors import CandleError
from btc_datamodule.sources.columns import FileTable

if TYPE_CHECKING:
    import polars as pl

_ISO_TIME = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2}))?(?:\.(\d+))?)?"
    r"(?: ?(?:Z|UTC|([+-])(\d{2}):?(\d{2})))?$"
)


class _RowError(CandleError):
    """A value that cannot be read, and the number of its row: the first such row is reported."""

    def __init__(self, where: str, row: int, problem: str) -> None:
        super().__init__(f"{where}, row {row}: {problem}")
        self.row = row


def read_candle_columns(
    table: FileTable, where: str, end: int
) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.int64], list[str]]:
    """Read the bars of a table.

    Args:
        table: columns as they stand in a file.
        where: the file, for errors and notes.
        end: epoch seconds; a bar that opens then or later is not closed yet.

    Returns:
        The columns, ``open_time`` int64 epoch seconds and the others float64, each (N,); (N,) int64
        the number of each bar's row in the file; notes on what was left out.

    Left out, with a note: rows without any price (nothing was traded, as some files spell it),
    and bars that open at or after ``end``, which are not closed yet.
    """
    faults: list[_RowError] = []
    columns: dict[str, NDArray[np.float64]] = {}
    for name in table.frame.columns:
        try:
            if name == "open_time":
                time, timed = _read_epoch_seconds(table.frame[name], where, table.first_row)
            else:
                columns[name] = _read_numbers(table.frame[name], where, table.first_row)
        except _RowError as fault:
            faults.append(fault)
    if faults:
        raise CandleError(str(min(faults, key=lambda fault: fault.row)))
    rows = np.arange(len(time), dtype=np.int64) + table.first_row
    unpriced = np.sum([np.isnan(columns[name]) for name in PRICES], axis=0)
    empty = unpriced == len(PRICES)

    def refuse(bad: NDArray[np.bool_], problem: str) -> None:
        if bad.any():
            raise CandleError(f"{where}, row {rows[np.argmax(bad)]}: {problem}")

    refuse((unpriced > 0) & ~empty, "some of open, high, low and close are not known")
    refuse(~timed & ~empty, "there are prices and no time")
    refuse(empty & (columns["volume"] > 0), "there is a volume and no price")
    late = timed & ~empty & (time >= end)
    notes = [
        f"{where}: {count} {text}"
        for count, text in (
            (int((empty & timed).sum()), "rows without any price were read as bars without trades"),
            (int((empty & ~timed).sum()), "rows with neither time nor prices were left out"),
            (int(late.sum()), "bars that are not closed yet were left out"),
        )
        if count
    ]
    if notes:
        kept = ~empty & ~late
        time, rows = time[kept], rows[kept]
        columns = {name: values[kept] for name, values in columns.items()}
    return {"open_time": time, **columns}, rows, notes


def _read_numbers(series: "pl.Series", where: str, first_row: int) -> NDArray[np.float64]:
    """Read a column of numbers: (N,) float64, NaN where the file has nothing."""
    import polars as pl

    if series.dtype == pl.String:
        text = _strip_text(series)
        numbers = text.cast(pl.Float64, strict=False)
        _refuse_text(text, numbers.is_null(), "which is not a number", where, first_row)
    elif series.dtype.is_numeric() or series.dtype == pl.Null:
        numbers = series.cast(pl.Float64)
    else:
        raise CandleError(f"{where}: column {series.name} holds {series.dtype}, not numbers")
    return numbers.fill_null(np.nan).to_numpy()


def _read_epoch_seconds(
    series: "pl.Series", where: str, first_row: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read a column of times: (N,) int64 epoch seconds, and (N,) bool where the file has one.

    Raises:
        CandleError: naming the first time that is none, or is not on a whole second.
    """
    import polars as pl

    kind = series.dtype
    if kind == pl.String:
        text = _strip_text(series)
        seconds, whole = _parse_seconds(text)
        _refuse_text(text, seconds.is_null(), "which is not a time", where, first_row)
    elif kind == pl.Date:
        seconds, whole = series.to_physical().cast(pl.Int64) * 86_400, None
    elif isinstance(kind, pl.Datetime):
        ticks = {"ms": 10**3, "us": 10**6, "ns": 10**9}[kind.time_unit]
        count = series.to_physical()
        seconds, whole = count // ticks, count % ticks == 0
    elif kind.is_numeric() or kind == pl.Null:
        seconds, whole = _scale_to_seconds(series)
    else:
        raise CandleError(f"{where}: column open_time holds {kind}, not times")
    if whole is not None and not whole.fill_null(True).all():
        i = (~whole.fill_null(True)).arg_max() or 0
        raise _RowError(where, first_row + i, f"open_time {series[i]} is not on a whole second")
    known = seconds.is_not_null().to_numpy()
    return seconds.fill_null(0).to_numpy(), known


def _scale_to_seconds(series: "pl.Series") -> tuple["pl.Series", "pl.Series"]:
    """Scale times in s, ms, us or ns, told apart by their size, to seconds.

    Until the year 5138 seconds stay below 1e11; from 1973 on, milliseconds are above it. The same
    steps of a thousand part the finer units. Integers stay integers; in float64 each of these
    units is exact on whole seconds.

    Returns:
        Int64 epoch seconds, null where the time is; and whether each was a whole second.
    """
    import polars as pl

    if not series.dtype.is_integer():
        series = series.cast(pl.Float64).fill_nan(None)
    values = series.to_numpy() if not series.null_count() else series.fill_null(0).to_numpy()
    ticks = np.ones(len(values), dtype=np.int64)
    for limit in (10**11, 10**14, 10**17):
        ticks[values >= limit] *= 1000
    with np.errstate(invalid="ignore"):  # an infinite time is no whole second
        whole = values % ticks == 0
        whole &= values < 2**63
    seconds = np.where(whole, values, 0) // ticks
    known = series.is_not_null()
    return (
        pl.Series(series.name, seconds.astype(np.int64)).set(~known, None),
        pl.Series(series.name, whole),
    )


def _parse_seconds(text: "pl.Series") -> tuple["pl.Series", "pl.Series"]:
    """Parse texts that are numbers or ISO 8601 times.

    Returns:
        Int64 epoch seconds, null for any other text; and whether each was a whole second.
    """
    import polars as pl

    integers, whole_integers = _scale_to_seconds(text.cast(pl.Int64, strict=False))
    floats, whole_floats = _scale_to_seconds(text.cast(pl.Float64, strict=False))
    parts = text.str.extract_groups(_ISO_TIME).struct.unnest()
    day, minute, second, fraction, sign, hours, minutes = (parts[name] for name in parts.columns)
    clock = day + "T" + minute.fill_null("00:00") + ":" + second.fill_null("00")
    local = clock.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="ms").dt.epoch("s")
    offset = hours.cast(pl.Int64) * 3600 + minutes.cast(pl.Int64) * 60
    offset = (offset * (sign + "1").cast(pl.Int64)).fill_null(0)
    whole_clock = fraction.fill_null("0").str.contains(r"^0+$")
    frame = pl.DataFrame({"i": integers, "f": floats, "l": local - offset})
    seconds = frame.select(pl.coalesce("i", "f", "l")).to_series()
    cut = pl.DataFrame({"i": whole_integers, "f": whole_floats, "c": whole_clock})
    return seconds, cut.select(pl.all_horizontal("i", "f", "c")).to_series()


def _strip_text(text: "pl.Series") -> "pl.Series":
    """Strip spaces around texts; null where nothing is left, or "nan" or "nat" is."""
    stripped = text.str.strip_chars()
    return stripped.set(stripped.str.to_lowercase().is_in(["", "nan", "nat"]), None)


def _refuse_text(
    text: "pl.Series", unread: "pl.Series", problem: str, where: str, first_row: int
) -> None:
    """Raise ``CandleError`` for the first text that could not be read as what it should be."""
    bad = unread & text.is_not_null()
    if bad.any():
        i = bad.arg_max() or 0
        raise _RowError(where, first_row + i, f"{text.name} is {text[i][:60]!r}, {problem}")
