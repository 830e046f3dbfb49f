"""What stands in the rows of a table: when a bar opens, which row is a bar, which is finished.

Owns the meaning of rows. Receives a ``RawTable`` and what the user said of it, gives back columns
of candles as they came, in any order, with repeats. What was left out or put right is told in
notes.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import PRICES
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import CandleError, SourceError
from btc_datamodule.escaping import escape
from btc_datamodule.sources.columns import normalise
from btc_datamodule.sources.files.markets import choose_series
from btc_datamodule.sources.files.naming import (
    ColumnNames,
    Roles,
    Stamp,
    find_roles,
    name_column,
)
from btc_datamodule.sources.files.numbers import NumberColumn, read_number_columns
from btc_datamodule.sources.files.openings import find_openings, find_spacing
from btc_datamodule.sources.files.raw import RawTable
from btc_datamodule.sources.files.times import (
    MICRO,
    RowError,
    TimeReading,
    Times,
    read_times,
    refuse_text,
)
from btc_datamodule.sources.files.volumes import describe_unread, settle_volumes

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

ROUNDING = 1e-6
"""The share of a price by which a high may lie below open or close, as some files round."""

MOST_FAULTS = 100
"""Times that are none which are left out, one after the other."""

ADVICE = ": set `source.drop_invalid: true` to leave such rows out"

NEARLY_ALL = 0.95
"""The share of rows from which on what is told of them is no repair: the file is another one."""


@dataclass(frozen=True)
class Reading:
    """What a user says about a file.

    Attributes:
        columns: see ``naming.ColumnNames``.
        symbol: of the market whose rows are wanted.
        time_format: how times are written, as of ``strptime``.
        timezone: of times that name none.
        stamp: whether a time is a bar's opening or its close.
        decimal: what parts decimals, "." or ",".
        drop_invalid: whether rows that make no sense are left out, with a note.
    """

    columns: ColumnNames = None
    symbol: str | None = None
    time_format: str | None = None
    timezone: str | None = None
    stamp: Stamp | None = None
    decimal: str | None = None
    drop_invalid: bool = False


class Bars(NamedTuple):
    """The rows of a table that are bars, in the file's order.

    Attributes:
        columns: ``open_time`` int64 epoch seconds, the others float64; each (N,). No volume where
            the file has none.
        rows: (N,) int64, the number of each bar's row in the file.
        spacing: seconds between most bars; 0 where there are less than two.
        notes: what was left out or decided, one sentence each.
        naive: whether the times name no zone and none was said.
        market: what the column of symbols says; "" if there is none.
        label: the file, for errors.
    """

    columns: dict[str, NDArray[Any]]
    rows: NDArray[np.int64]
    spacing: int
    notes: tuple[str, ...]
    naive: bool
    market: str
    label: str


def read_bars(table: RawTable, reading: Reading, interval: int, end: int, where: str) -> Bars:
    """Read the bars of a table.

    Args:
        table: as it stands in a file.
        reading: what the user says about it.
        interval: seconds between the bars that are wanted.
        end: epoch seconds; a bar that opens then or later is not closed yet.
        where: the file, for errors and notes.

    Raises:
        SourceError: if the columns cannot be told.
        CandleError: naming the first row that is no bar.
    """
    roles = find_roles(
        table,
        reading.columns,
        where,
        symbol=reading.symbol,
        time_format=reading.time_format,
        timezone=reading.timezone,
    )
    log.debug("reads: %s", _describe_reading(table, roles, reading, where))
    frame = table.frame
    numbers = np.arange(frame.height, dtype=np.int64) + table.first_row
    kept, market = choose_series(frame, table, roles, reading.symbol, where)
    if kept is not None:
        frame, numbers = frame.filter(kept), numbers[kept]
    values = _read_values(frame, table, roles, reading.decimal, where)
    rows = _Rows(frame, numbers, values, roles, where)
    form = TimeReading(reading.time_format, reading.timezone, interval)
    times = _read_times(rows, form, reading.drop_invalid)
    spacing = find_spacing(times)
    micros, stamp_notes = find_openings(times, roles, reading.stamp, spacing or interval, where)
    chosen, row_notes = _choose_rows(rows, times.known, micros, end, reading.drop_invalid)

    bars = {name: values[roles.prices[name]][0][chosen] for name in PRICES}
    told, volume_notes = settle_volumes(
        {place: values[place][0][chosen] for place in (*roles.volumes, *roles.quotes)},
        {place: name_column(table, place) for place in (*roles.volumes, *roles.quotes)},
        roles, bars, spacing or interval, where,
    )  # fmt: skip
    told, ticks_notes = _refuse_empty_volume(told, frame, table, chosen, where)
    unread = describe_unread(told, bars, table, roles, where)
    others = {name: values[place][0][chosen] for name, place in roles.others.items()}
    rounding = _mend_rounding(bars, where)
    decided = (*roles.notes, *times.notes, *stamp_notes)
    return Bars(
        {"open_time": micros[chosen] // MICRO, **bars, **told, **others},
        numbers[chosen],
        spacing,
        (*table.notes, *decided, *row_notes, *volume_notes, *ticks_notes, *unread, *rounding),
        times.naive,
        market,
        where,
    )


def _describe_reading(table: RawTable, roles: Roles, reading: Reading, where: str) -> str:
    """A line on what is taken for what."""
    places: dict[str, tuple[int, ...]] = {
        "open_time": roles.time,
        **{name: (place,) for name, place in (roles.prices | roles.others).items()},
        "volume": roles.volumes,
        "quote_volume": roles.quotes,
    }
    told = [
        f"{name} from {' or '.join(name_column(table, place) for place in found)}"
        for name, found in places.items()
        if found
    ]
    parted = f", parted by {table.separator!r}" if table.separator else ""
    zone = f"times that name no zone are in {reading.timezone or 'UTC'}"
    return escape(f"{where}: {table.frame.height:,} rows{parted}; {', '.join(told)}; {zone}")


class _Rows(NamedTuple):
    """The rows of one series of a table: as they stand, their numbers in the file, and as numbers.

    ``values`` has for each place of a column of numbers (N,) float64, NaN where the file has
    nothing, and what was read.
    """

    frame: "pl.DataFrame"
    numbers: NDArray[np.int64]
    values: dict[int, tuple[NDArray[np.float64], NumberColumn]]
    roles: Roles
    where: str


def _read_times(rows: _Rows, form: TimeReading, drop_invalid: bool) -> Times:
    """Read the times of rows; of a time and a number that are none, the first row is told.

    With ``drop_invalid`` a time that is none, of ``MOST_FAULTS`` at most, counts as not known.
    """
    import polars as pl

    columns = [rows.frame[f"{place}"] for place in rows.roles.time]
    for _ in range(MOST_FAULTS if drop_invalid else 1):
        try:
            return read_times(columns, form, rows.where, 0)
        except RowError as error:
            fault = error
        if drop_invalid:
            at = np.arange(len(rows.numbers)) == fault.row
            columns = [column.to_frame().with_columns(
                pl.when(pl.lit(pl.Series(~at))).then(pl.col(column.name))
            ).to_series() for column in columns]  # fmt: skip
    _find_bad_texts(rows, np.arange(len(rows.numbers)) < fault.row, drop_invalid)
    problem = str(fault).removeprefix(f"{rows.where}, row {fault.row}: ")
    raise CandleError(f"{rows.where}, row {rows.numbers[fault.row]}: {problem}{ADVICE}") from None


def _choose_rows(
    rows: _Rows,
    timed: NDArray[np.bool_],
    micros: NDArray[np.int64],
    end: int,
    drop_invalid: bool,
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which rows are bars, and notes on those that are none.

    Args:
        rows: of the table.
        timed: whether each has a time.
        micros: when it opens, microseconds since 1970.
        end: epoch seconds; what opens then or later is cut first, whatever it holds.
        drop_invalid: leave out rows that make no sense.

    Raises:
        CandleError: naming the first row that makes no sense.
        SourceError: if nearly all rows are none.
    """
    values, roles = rows.values, rows.roles
    unpriced = np.sum([np.isnan(values[roles.prices[name]][0]) for name in PRICES], axis=0)
    empty = unpriced == len(PRICES)
    late = timed & ~empty & (micros >= end * MICRO)
    unfinished = _find_unfinished(rows.frame, roles) & ~empty & ~late
    wanted = ~late & ~unfinished

    invalid = _find_bad_texts(rows, wanted, drop_invalid)
    told = ["a number is none"] if invalid.any() else []

    def refuse(bad: NDArray[np.bool_], describe: Callable[[int], str]) -> None:
        if (bad & wanted & ~invalid).any():
            i = int(np.argmax(bad & wanted & ~invalid))
            problem = f"{rows.where}, row {rows.numbers[i]}: {describe(i)}"
            if not drop_invalid:
                raise CandleError(f"{problem}{ADVICE}")
            told.append(problem)
            invalid[bad & wanted] = True

    volumes = [values[place][0] > 0 for place in (*roles.volumes, *roles.quotes)]
    traded = np.any(volumes or [np.zeros(len(empty), np.bool_)], axis=0)
    refuse((unpriced > 0) & ~empty, lambda _: "some of open, high, low and close are not known")
    refuse(~timed & ~empty, lambda _: "there are prices and no time")
    refuse(empty & traded, lambda _: "there is a volume and no price")
    time = rows.frame[f"{roles.time[0]}"]
    split = timed & ~empty & (micros % MICRO != 0)
    refuse(split, lambda i: f"open_time {_show(time, i)} is not on a whole second")

    counts = {
        "rows without any price were read as bars without trades": empty & timed,
        "rows with neither time nor prices were left out": empty & ~timed,
        "bars that are not closed yet were left out": late,
        "bars that the file itself calls unfinished were left out": unfinished,
        f"rows that are no bars were left out, such as {next(iter(told), '')}": invalid,
    }
    _refuse_nearly_all(counts, len(empty), rows.where)
    notes = (f"{rows.where}: {int(odd.sum())} {text}" for text, odd in counts.items() if odd.any())
    return ~empty & wanted & ~invalid, tuple(notes)


def _read_values(
    frame: "pl.DataFrame", table: RawTable, roles: Roles, decimal: str | None, where: str
) -> dict[int, tuple[NDArray[np.float64], NumberColumn]]:
    """The columns of numbers by their places: float64, NaN where the file has nothing."""
    places = list(
        dict.fromkeys(
            (*roles.prices.values(), *roles.volumes, *roles.quotes, *roles.others.values())
        )
    )
    try:
        read = read_number_columns(
            [frame[f"{place}"] for place in places], table.separator, decimal
        )
    except ValueError as error:
        raise CandleError(f"{where}: {error}") from None
    return {
        place: (column.values.fill_null(np.nan).to_numpy(), column)
        for place, column in zip(places, read, strict=True)
    }


def _find_bad_texts(
    rows: _Rows, wanted: NDArray[np.bool_], drop_invalid: bool
) -> NDArray[np.bool_]:
    """The rows with a text that is no number, of those that are wanted.

    Raises:
        CandleError: for the first of them, unless ``drop_invalid``.
    """
    import polars as pl

    values, roles, where = rows.values, rows.roles, rows.where
    named = {place: name for name, place in (roles.prices | roles.others).items()}
    faults: list[RowError] = []
    invalid = np.zeros(len(wanted), dtype=np.bool_)
    for place, (_, column) in values.items():
        if not column.bad.any():
            continue
        name = named.get(place, "volume")
        if column.text.dtype != pl.String:
            raise CandleError(f"{where}: column {name} holds {column.text.dtype}, not numbers")
        bad = column.bad & pl.Series(wanted)
        if drop_invalid:
            invalid |= bad.to_numpy()
            continue
        try:
            refuse_text(column.text, bad, name, "which is not a number", where, 0)
        except RowError as fault:
            problem = str(fault).removeprefix(f"{where}, row {fault.row}: ")
            faults.append(RowError(where, int(rows.numbers[fault.row]), problem))
    if faults:
        raise CandleError(f"{min(faults, key=lambda fault: fault.row)}{ADVICE}")
    return invalid


def _find_unfinished(frame: "pl.DataFrame", roles: Roles) -> NDArray[np.bool_]:
    """Which rows a column of the file calls unfinished."""
    import polars as pl

    if roles.finished is None:
        return np.zeros(frame.height, dtype=np.bool_)
    told = frame[f"{roles.finished}"].cast(pl.String, strict=False).str.to_lowercase()
    return told.is_in(["0", "0.0", "false", "no"]).fill_null(False).to_numpy()


def _refuse_nearly_all(counts: dict[str, NDArray[np.bool_]], rows: int, where: str) -> None:
    """Raise if what is told of odd rows is told of nearly all."""
    for text, odd in counts.items():
        if rows >= 20 and odd.sum() > NEARLY_ALL * rows and "closed" not in text:
            raise SourceError(
                f"{where}: {int(odd.sum())} of its {rows} rows are {text}: is it the file that you "
                "mean, and are its columns those that `columns` says?"
            )


def _refuse_empty_volume(
    told: dict[str, NDArray[np.float64]],
    frame: "pl.DataFrame",
    table: RawTable,
    chosen: NDArray[np.bool_],
    where: str,
) -> tuple[dict[str, NDArray[np.float64]], tuple[str, ...]]:
    """Leave out a volume of noughts beside which ticks were counted: it was not recorded."""
    names = [normalise(name) for name in table.names or []]
    if "tickvol" not in names and "tickvolume" not in names:
        return told, ()
    place = next(i for i, name in enumerate(names) if name in ("tickvol", "tickvolume"))
    ticks = read_number_columns([frame[f"{place}"]])[0].values.fill_null(0).to_numpy()[chosen]
    if ("volume" in told and (np.nan_to_num(told["volume"]) > 0).any()) or not (ticks > 0).any():
        return told, ()
    note = (
        f"{where}: there is no volume, only ticks were counted: volume is not known "
        f'(`columns: {{"{name_column(table, place)}": volume}}` takes the ticks for it)'
    )
    return {}, (note,)


def _mend_rounding(bars: dict[str, NDArray[np.float64]], where: str) -> tuple[str, ...]:
    """Widen highs and lows that lie short of open or close by no more than rounding."""
    above = np.maximum(bars["open"], bars["close"])
    below = np.minimum(bars["open"], bars["close"])
    slack = ROUNDING * np.where(np.isfinite(above), above, 0)
    high = (bars["high"] < above) & (bars["high"] >= above - slack)
    low = (bars["low"] > below) & (bars["low"] <= below + slack)
    count = int((high | low).sum())
    if not count:
        return ()
    bars["high"] = np.where(high, above, bars["high"])
    bars["low"] = np.where(low, below, bars["low"])
    return (
        f"{where}: in {count} rows high or low lies short of open or close by a rounding error, "
        "and was put right",
    )


def _show(column: "pl.Series", row: int) -> str:
    """A time as it stands in the file."""
    if column.dtype.is_temporal():
        ticks = {"ms": 10**3, "us": 10**6, "ns": 10**9}.get(
            getattr(column.dtype, "time_unit", ""), 1
        )
        return f"{format_instant(int(column.to_physical()[row]) // ticks)} and a part of a second"
    return str(column[row])[:60]
