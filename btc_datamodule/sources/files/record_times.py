"""When records are: what each row of a table is about, and since when it was known.

A date without a time of day is the beginning of that day, UTC or of ``timezone``, for what a record
is about; as the time of a publication it is the end: nobody can tell that it was known before.
Fractions of seconds are rounded down for the one, and up for the other.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import CandleError, RecordError, SourceError
from btc_datamodule.sources.columns import normalise
from btc_datamodule.sources.files.clocks import has_clock
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

DAY = 86_400

_DAY_NUMBERS = 10**8
"""Numbers below it are dates: digits of one, or days as spreadsheets count them."""

_OFFSET = r"\s*[+-]\d{1,2}:?\d{2}$"
"""From UTC, at the end of a time."""


class RecordReading(NamedTuple):
    """What a user says about a file of records.

    Attributes:
        time: name of the column of what records are about.
        known_at: name of the column of since when they were known; None where ``delay`` says.
        delay: seconds from the time, or the end of the period, until they were known.
        interval: seconds of the period that a record is about; 0 for none.
        time_format: how times are written, as of ``strptime``.
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


def read_instants(table: RawTable, reading: RecordReading, where: str) -> Instants:
    """Read when the rows of a table are.

    Args:
        table: as it stands in a file.
        reading: what the user says about it.
        where: the file, for errors and notes.

    Raises:
        SourceError: if a column is not there.
        RecordError: naming the first time that is none.
    """
    try:
        column = table.frame[f"{find_column(table, reading.time, 'time', where)}"]
        form = _make_form(reading, reading.time, "time")
        times = read_times([column], form, where, table.first_row)
        if reading.known_at is not None:
            known_at, has_known_at, notes = _read_known_at(table, reading, where)
        else:
            known_at = _round_up(times.micros) + reading.interval + reading.delay
            has_known_at, notes = times.known, ()
            days = not reading.interval and _find_days(column, form, times).any()
            if days:
                notes = (
                    f"{where}: {reading.time!r} has days without a time of day, and `delay` counts "
                    "from where they begin: set `interval: 1d` if a record tells of its whole day",
                )
    except CandleError as error:
        raise RecordError(*error.args) from None
    return Instants(
        times.micros // MICRO, known_at, times.known, has_known_at, (*times.notes, *notes)
    )


def _make_form(reading: RecordReading, name: str, argument: str) -> TimeReading:
    step = reading.interval or DAY
    return TimeReading(reading.time_format, reading.timezone, step, f"{name!r}", argument)


def _round_up(micros: NDArray[np.int64]) -> NDArray[np.int64]:
    seconds: NDArray[np.int64] = -(-micros // MICRO)
    return seconds


def _read_known_at(
    table: RawTable, reading: RecordReading, where: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_], tuple[str, ...]]:
    """Since when rows were known, where that is told, and notes; days count from their end."""
    import polars as pl

    name = reading.known_at or ""
    column = table.frame[f"{find_column(table, name, 'known_at', where)}"]
    form = _make_form(reading, name, "known_at")
    times = read_times([column], form, where, table.first_row)
    shown = times
    if reading.timezone is not None:
        shown = read_times([column], form._replace(timezone=None), where, table.first_row)
    days = _find_days(column, form, shown)
    if not days.any():
        return _round_up(times.micros), times.known, times.notes
    after = shown.micros + DAY * MICRO
    local = days & (shown.micros != times.micros)
    if local.any():  # a day of a zone may have 23 hours, or 25
        nights = pl.Series(after).set(pl.Series(~local), None).cast(pl.Datetime("us"))
        over = read_times([nights], form._replace(form=None), where, table.first_row).micros
        after = np.where(local, over, after)
    note = (
        f"{where}: {int(days.sum())} of {name!r} are days without a time of day: what they tell of "
        "counts as known from the end of the day on (of times that are midnight in every row, a "
        "zone such as Z says that they are instants)"
    )
    return _round_up(np.where(days, after, times.micros)), times.known, (*times.notes, note)


def _find_days(column: "pl.Series", form: TimeReading, shown: Times) -> NDArray[np.bool_]:
    """Which times are days without a time of day: (N,) bool.

    So are times that name no zone and are midnight all of them.

    Args:
        column: as it stands in a file.
        form: how it is read.
        shown: what its clocks show.
    """
    import polars as pl

    if shown.naive and not (shown.micros[shown.known] % (DAY * MICRO)).any():
        return shown.known
    days = pl.zeros(len(column), pl.Boolean, eager=True)
    if column.dtype == pl.String:
        text = strip_text(column)
        numbers = text.cast(pl.Float64, strict=False)
        days = numbers.is_null() & ~text.str.replace(_OFFSET, "").str.contains(CLOCK)
        if form.form is not None:
            return shown.known & (not has_clock(form.form))
    elif column.dtype.is_numeric():
        numbers = column.cast(pl.Float64)
    else:
        return shown.known & False
    whole = (numbers < _DAY_NUMBERS) & (numbers == numbers.floor())
    found: NDArray[np.bool_] = (days | whole).fill_null(False).to_numpy()
    return found & shown.known
