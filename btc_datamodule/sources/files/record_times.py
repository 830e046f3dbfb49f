"""When records are: what each row of a table is about, and since when it was known.

A date without a time of day is the beginning of that day, UTC or of ``timezone``, for what a record
is about; as the time of a publication it is the end: nobody can tell that it was known before. So
it is with months and quarters, and with an hour that clocks show twice. Fractions of seconds are
rounded down for the one, and up for the other.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_interval
from btc_datamodule.errors import CandleError, RecordError, SourceError
from btc_datamodule.sources.columns import normalise
from btc_datamodule.sources.files.clocks import has_clock, parse_texts
from btc_datamodule.sources.files.naming import refuse_zone, says_utc
from btc_datamodule.sources.files.periods import Periods, find_periods
from btc_datamodule.sources.files.raw import RawTable
from btc_datamodule.sources.files.times import (
    CLOCK,
    MICRO,
    TimeReading,
    Times,
    read_times,
    strip_text,
)

if TYPE_CHECKING:
    import polars as pl

HOUR, DAY = 3600, 86_400

NO_STEP = 10**6 * DAY
"""In the place of an interval where there is none: by how dates follow each other nobody can tell
whether the day or the month comes first, as days of two months may be first days of months too."""

_DAY_NUMBERS = 10**8
"""Numbers below it are dates: digits of one, or days as spreadsheets count them."""

_PERIODS = ((1, ("month", 31 * DAY)), (3, ("quarter", 92 * DAY)), (2**62, ("year", 366 * DAY)))
"""How many months follow each other at most, and what period of how many seconds they begin."""

_OFFSET = r"\s*[+-]\d{1,2}:?\d{2}$"
"""From UTC, at the end of a time."""


class RecordReading(NamedTuple):
    """What a user says about a file of records.

    Attributes:
        time: name of the column of what records are about.
        known_at: name of the column of since when they were known; None where ``delay`` says.
        delay: seconds from the time, or the end of the period, until they were known.
        interval: seconds of the period that a record is about; 0 for none.
        time_format: how times are written, as of ``strptime``; of ``time`` and ``known_at`` that
            which is written so, if only one is.
        timezone: of times that name none.
        decimal: what parts decimals, "." or ",".
    """

    time: str
    known_at: str | None
    delay: int
    interval: int
    time_format: str | None = None
    timezone: str | None = None
    decimal: str | None = None


class Instants(NamedTuple):
    """When the rows of a table are.

    Attributes:
        time: (N,) int64 epoch seconds, what each is about; 0 where the file does not say.
        known_at: (N,) int64, since when each was known; 0 where the file does not say.
        has_time: (N,) bool, where there is a time.
        has_known_at: (N,) bool, where there is a ``known_at``.
        notes: what had to be decided, one sentence each.
    """

    time: NDArray[np.int64]
    known_at: NDArray[np.int64]
    has_time: NDArray[np.bool_]
    has_known_at: NDArray[np.bool_]
    notes: tuple[str, ...]


def list_names(table: RawTable, where: str) -> list[str]:
    """The names of the columns of a table.

    Raises:
        SourceError: if it has none.
    """
    if table.names is None:
        raise SourceError(
            f"{where}: its columns have no names, by which records are read: put a line of names "
            "above its rows"
        )
    return table.names


def find_column(table: RawTable, name: str, argument: str, where: str) -> int:
    """The place of a column by its name, or by what its name is but for case and punctuation.

    Raises:
        SourceError: if there is none, or more than one; with the ``argument`` that names it.
    """
    names = list_names(table, where)
    exact = [place for place, each in enumerate(names) if each == name]
    alike = [place for place, each in enumerate(names) if normalise(each) == normalise(name)]
    found = exact or alike
    if len(found) == 1:
        return found[0]
    many = f"{len(found)} columns" if found else "no column"
    raise SourceError(
        f"{where}: it has {many} {name!r}, which `{argument}` names: it has {', '.join(names)}"
    )


class _Column(NamedTuple):
    """A column of times: as it stands in the file, and how it is to be read.

    Attributes:
        cells: (N,) of any type.
        form: what is known about them.
        where: the file, for errors and notes.
        first_row: number of the first row.
    """

    cells: "pl.Series"
    form: TimeReading
    where: str
    first_row: int

    def read(self) -> Times:
        """Read the times as they are written."""
        return read_times([self.cells], self.form, self.where, self.first_row)

    def read_days(self, days: "pl.Series") -> Times:
        """Read when days begin, given as dates in place of what stands there: (N,)."""
        return read_times([days], self.form._replace(form=None), self.where, self.first_row)

    def show(self) -> Times:
        """Read what the clocks show, of whatever zone they are."""
        return self._replace(form=self.form._replace(timezone=None)).read()

    def find_periods(self) -> Periods | None:
        """The months, quarters or years that stand there."""
        return find_periods(self.cells, self.form.form)

    def note(self, text: str) -> str:
        """A sentence about this column."""
        return f"{self.where}: {text}"


def read_instants(table: RawTable, reading: RecordReading, where: str) -> Instants:
    """Read when the rows of a table are.

    Args:
        table: as it stands in a file.
        reading: what the user says about it.
        where: the file, for errors and notes.

    Raises:
        SourceError: if a column is not there, or is called by a zone and none was said.
        RecordError: naming the first time that is none.
    """
    try:
        time, *published = _find_columns(table, reading, where)
        periods = time.find_periods()
        times = time.read() if periods is None else time.read_days(periods.first)
        if published:
            known_at, has_known_at, notes = _read_known_at(published[0])
        else:
            known_at, notes = _add_delay(time, times, periods, reading)
            has_known_at = times.known
    except CandleError as error:
        raise RecordError(*error.args) from None
    return Instants(
        times.micros // MICRO, known_at, times.known, has_known_at, (*times.notes, *notes)
    )


def _find_columns(table: RawTable, reading: RecordReading, where: str) -> list[_Column]:
    """The column of what records are about, and of when they were published if there is one."""
    columns = []
    for argument, name in (("time", reading.time), ("known_at", reading.known_at)):
        if name is None:
            continue
        place = find_column(table, name, argument, where)
        written = list_names(table, where)[place]
        refuse_zone(written, reading.timezone, where)
        zone = None if says_utc(written) else reading.timezone
        step = reading.interval or NO_STEP
        form = TimeReading(
            reading.time_format, zone, step, f"{name!r}", argument,
            latest=argument == "known_at",
        )  # fmt: skip
        columns.append(_Column(table.frame[f"{place}"], form, where, table.first_row))
    fits = [_is_written(column) for column in columns]
    if not any(fits):
        return columns
    return [
        column if so else column._replace(form=column.form._replace(form=None))
        for column, so in zip(columns, fits, strict=True)
    ]


def _is_written(column: _Column) -> bool:
    """Whether any cell is written as ``time_format`` says."""
    import polars as pl

    form, cells = column.form.form, column.cells
    if form is None or not (cells.dtype == pl.String or cells.dtype.is_numeric()):
        return False
    text = cells if cells.dtype == pl.String else cells.cast(pl.Int64, strict=False).cast(pl.String)
    read = parse_texts(strip_text(text), form, 0).seconds
    return read.null_count() < len(read)


def _round_up(micros: NDArray[np.int64]) -> NDArray[np.int64]:
    seconds: NDArray[np.int64] = -(-micros // MICRO)
    return seconds


def _add_delay(
    column: _Column, times: Times, periods: Periods | None, reading: RecordReading
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Since when rows were known that are about these times, and notes."""
    over, delay = times.micros, reading.interval + reading.delay
    late = column._replace(form=column.form._replace(latest=True))
    if periods is not None:
        note = f"{reading.time!r} has {periods.kind}, and `delay` counts from their end"
        return _round_up(late.read_days(periods.after).micros) + delay, (column.note(note),)
    shown, notes = times, []
    if column.form.timezone is not None:
        shown, second = column.show(), late.read().micros
        alone = ~np.isin(second, times.micros)  # of those that are not, the order of rows tells
        over = np.where(alone, second, times.micros)
        if alone.any():
            notes.append(
                column.note("`delay` counts from the second of those that stand there once")
            )
    days = _find_days(column, shown) | _find_midnights(column, times)
    local = bool((times.micros[times.known] % (DAY * MICRO)).any())
    period, length = _guess_period(shown)
    length += HOUR * local  # a day may have 25 hours
    if days.any() and not reading.interval and delay < length:
        longer = format_interval(delay + length)
        mend = "`interval: 1d`" if period == "day" and not local else f"`delay: {longer}`"
        note = (
            f"{reading.time!r} has days without a time of day, and `delay` counts from where "
            f"they begin: set {mend} if a record tells of its whole {period}"
        )
        notes.append(column.note(note))
    return _round_up(over) + delay, tuple(notes)


def _guess_period(shown: Times) -> tuple[str, int]:
    """What days may be the beginning of, as they follow each other, and its length at most.

    Args:
        shown: what clocks show.
    """
    days = np.unique(shown.micros[shown.known] // (DAY * MICRO)).astype("datetime64[D]")
    months = np.unique(days.astype("datetime64[M]"))
    if len(days) < 2 or (days != days.astype("datetime64[M]")).any():
        return "day", DAY
    step = int(np.diff(months).astype(np.int64).min())
    return next(each for most, each in _PERIODS if step <= most)


def _read_known_at(
    column: _Column,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], tuple[str, ...]]:
    """Since when rows were known, where that is told, and notes; days count from their end."""
    import polars as pl

    name = column.form.name
    periods = column.find_periods()
    if periods is not None:
        times = column.read_days(periods.after)
        note = f"{name} has {periods.kind}: what they tell of counts as known from their end on"
        return _round_up(times.micros), times.known, (*times.notes, column.note(note))
    times = shown = column.read()
    if column.form.timezone is not None:
        shown = column.show()
    days = _find_days(column, shown)
    if not days.any():
        note = (
            f"{name} is midnight, UTC, in every row, and numbers are instants: if they are days, "
            "write them as dates, which count from their end"
        )
        told = (column.note(note),) if _find_midnights(column, times).any() else ()
        return _round_up(times.micros), times.known, (*times.notes, *told)
    after = shown.micros + DAY * MICRO
    local = days & (shown.micros != times.micros)
    if local.any():  # a day of a zone may have 23 hours, or 25
        nights = pl.Series(after).set(pl.Series(~local), None).cast(pl.Datetime("us"))
        after = np.where(local, column.read_days(nights).micros, after)
    note = (
        f"{int(days.sum())} of {name} are days without a time of day: what they tell of "
        "counts as known from the end of the day on (of times that are midnight in every row, a "
        "zone such as Z says that they are instants)"
    )
    known_at = _round_up(np.where(days, after, times.micros))
    return known_at, times.known, (*times.notes, column.note(note))


def _find_days(column: _Column, shown: Times) -> NDArray[np.bool_]:
    """Which times are days without a time of day: (N,) bool.

    So are times that name no zone and are midnight all of them.

    Args:
        column: as it stands in a file.
        shown: what its clocks show.
    """
    import polars as pl

    if shown.naive and _are_midnights(shown):
        return shown.known
    numbers = _read_numbers(column.cells)
    days = pl.zeros(len(numbers), pl.Boolean, eager=True)
    if column.cells.dtype == pl.String:
        if column.form.form is not None:
            return shown.known & (not has_clock(column.form.form))
        text = strip_text(column.cells)
        days = numbers.is_null() & ~text.str.replace(_OFFSET, "").str.contains(CLOCK)
    whole = (numbers < _DAY_NUMBERS) & (numbers == numbers.floor())
    found: NDArray[np.bool_] = (days | whole).fill_null(False).to_numpy()
    return found & shown.known


def _find_midnights(column: _Column, times: Times) -> NDArray[np.bool_]:
    """Which times are numbers, if all are midnight, UTC: (N,) bool."""
    numbers = _read_numbers(column.cells).is_not_null().to_numpy()
    return numbers & times.known & _are_midnights(times)


def _are_midnights(times: Times) -> bool:
    return not (times.micros[times.known] % (DAY * MICRO)).any()


def _read_numbers(cells: "pl.Series") -> "pl.Series":
    """Float64 (N,) of cells that are numbers; null for any other."""
    import polars as pl

    if cells.dtype == pl.String:
        return strip_text(cells).cast(pl.Float64, strict=False)
    if cells.dtype.is_numeric():
        return cells.cast(pl.Float64)
    return pl.select(pl.repeat(None, len(cells), dtype=pl.Float64)).to_series()
