"""What stands in the rows of a table of records: when they are, and their values.

Owns the meaning of rows. Receives a ``RawTable`` and what the user said of it, gives back columns
of records as they came, in any order, with repeats; ``join_rows`` makes one set of several. What
was left out or put right is told in notes.
"""

import re
from collections.abc import Callable, Sequence
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import INSTANTS, RecordSet, is_column_name, trust
from btc_datamodule.candles.timeline import TIMES, format_instant, format_interval, get_offset
from btc_datamodule.errors import RecordError, SourceError
from btc_datamodule.sources.columns import normalise
from btc_datamodule.sources.files.numbers import NumberColumn, read_number_columns
from btc_datamodule.sources.files.raw import RawTable
from btc_datamodule.sources.files.record_times import (
    HOUR,
    RecordReading,
    find_column,
    list_names,
    read_instants,
)

if TYPE_CHECKING:
    import polars as pl

AGE = "age"
"""What features call something else, and no column can be called."""

_NO_VALUE = (".", "..", ":")
"""What FRED, the World Bank and Eurostat write for no value, beside what candle files do."""


class Rows(NamedTuple):
    """Rows of a table that are records, in the file's order.

    Attributes:
        columns: those of a ``RecordSet``, (N,) each.
        numbers: (N,) int64, the number of each row in the file.
        notes: what was left out or decided, one sentence each.
        label: the file, for errors.
    """

    columns: dict[str, NDArray[Any]]
    numbers: NDArray[np.int64]
    notes: tuple[str, ...]
    label: str

    def refuse(self, bad: NDArray[np.bool_], describe: Callable[[int], str]) -> None:
        """Raise ``RecordError`` for the first bad row."""
        if bad.any():
            i = int(np.argmax(bad))
            raise RecordError(f"{self.label}, row {self.numbers[i]}: {describe(i)}")


def list_values(table: RawTable, reading: RecordReading, where: str) -> tuple[str, ...]:
    """The names of the columns that hold numbers alone, without those of times, as words.

    Raises:
        SourceError: if there is none, or one cannot be named.
    """
    names = list_names(table, where)
    plain = [normalise(name) for name in names]
    times = {find_column(table, reading.time, "time", where)}
    if reading.known_at is not None:
        times.add(find_column(table, reading.known_at, "known_at", where))
    found = []
    for place, name in enumerate(names):
        if place in times or name in ("", *INSTANTS):
            continue
        column = table.frame[f"{place}"]
        try:
            read = _read_columns([column], table, reading)[0]
        except ValueError:  # which is told if it is asked for
            continue
        if not read.bad.any() and read.values.null_count() < len(column):
            found.append(name)
    if not found:
        raise SourceError(
            f"{where}: no column beside its times holds numbers alone: name those to take in "
            f"`columns`: it has {', '.join(names)}"
        )
    words = [_make_word(name) if plain.count(normalise(name)) == 1 else name for name in found]
    for word, name in zip(words, found, strict=True):
        problem = explain_name(word or name)
        if problem:
            raise SourceError(f"{where}: {problem}")
    return tuple(words)


def explain_name(name: str) -> str:
    """Why a column of values cannot be called so; "" if it can."""
    word = _make_word(name)
    if word == name and is_column_name(name) and name != AGE:
        return ""
    mend = "rename that column in the file, or name others in `columns`"
    if word not in (name, ""):
        mend = f"call it {word} in `columns`, by which it is found too, or rename it in the file"
    return f"values cannot be called {name!r:.80}, as features name them: {mend}"


def _make_word(name: str) -> str:
    """What features can call a column, by which ``find_column`` finds it; "" for nothing."""
    if name.isascii() and name.isidentifier() and not iskeyword(name):
        return name
    word = re.sub(r"[^A-Za-z0-9]+", "_", re.sub(r"^\d+\.\s*", "", name)).strip("_")
    if not word or normalise(word) != normalise(name):
        return ""
    return f"_{word}" if word[0].isdigit() else f"{word}_" if iskeyword(word) else word


def read_rows(
    table: RawTable, reading: RecordReading, names: Sequence[str], end: int, where: str
) -> Rows:
    """Read the records of a table.

    Args:
        table: as it stands in a file.
        reading: what the user says about it.
        names: of the columns of values.
        end: epoch seconds; a record of a time then or later is left out.
        where: the file, for errors and notes.

    Raises:
        SourceError: if a column is not there.
        RecordError: naming the first row that is no record.
    """
    numbers = np.arange(table.frame.height, dtype=np.int64) + table.first_row
    values = _read_values(table, reading, names, where)
    at = read_instants(table, reading, where)
    rows = Rows({"time": at.time, "known_at": at.known_at, **values}, numbers, (), where)
    empty = np.all([np.isnan(column) for column in values.values()], axis=0)
    late = at.has_time & (at.time >= end)
    unknown = at.has_time & ~at.has_known_at & ~late
    rows.refuse(~at.has_time & ~empty, lambda _: "it has values and no time")
    rows.refuse(
        unknown & ~empty,
        lambda _: (
            f"it has values, and {reading.known_at!r} does not say since when they were known"
        ),
    )
    wanted = at.has_time & at.has_known_at & ~late
    _check(rows, wanted, reading)
    counts = {
        "rows with neither time nor values were left out": ~at.has_time,
        "rows that have no values yet and were not published were left out": unknown,
        "records of times that are yet to come were left out": late,
    }
    notes = [f"{where}: {int(odd.sum())} {text}" for text, odd in counts.items() if odd.any()]
    return Rows(
        {name: column[wanted] for name, column in rows.columns.items()},
        numbers[wanted],
        (*table.notes, *at.notes, *notes),
        where,
    )


def _read_columns(
    columns: "list[pl.Series]", table: RawTable, reading: RecordReading
) -> list[NumberColumn]:
    """Columns of numbers; see ``read_number_columns``."""
    return read_number_columns(columns, table.separator, reading.decimal, _NO_VALUE)


def _read_values(
    table: RawTable, reading: RecordReading, names: Sequence[str], where: str
) -> dict[str, NDArray[np.float64]]:
    """The columns of values, NaN where the file has nothing.

    Raises:
        RecordError: naming the first row with a text that is no number.
    """
    places = [find_column(table, name, "columns", where) for name in names]
    columns = [table.frame[f"{place}"] for place in places]
    try:
        read = _read_columns(columns, table, reading)
    except ValueError as error:
        raise RecordError(f"{where}: {error}") from None
    faults = [
        (int(column.bad.arg_max() or 0), name, column)
        for name, column in zip(names, read, strict=True)
        if column.bad.any()
    ]
    if faults:
        row, name, column = min(faults, key=lambda fault: fault[0])
        raise RecordError(
            f"{where}, row {row + table.first_row}: {name} is {str(column.text[row])[:60]!r}, "
            "which is not a number: mend it, or leave that column out of `columns`"
        )
    return {
        name: column.values.fill_null(np.nan).to_numpy()
        for name, column in zip(names, read, strict=True)
    }


def _check(rows: Rows, wanted: NDArray[np.bool_], reading: RecordReading) -> None:
    """Raise ``RecordError`` for the first row that is wanted and no record."""
    time, known_at, *values = rows.columns.values()
    step = reading.interval
    text = format_interval(step) if step else ""

    def tell(i: int, problem: str) -> str:
        return (
            f"{format_instant(int(time[i]))}, known at {format_instant(int(known_at[i]))}: "
            f"{problem}"
        )

    away = (np.minimum(time, known_at) < TIMES[0]) | (np.maximum(time, known_at) >= TIMES[1])
    rows.refuse(wanted & away, lambda i: tell(i, "that is centuries away: is it damaged?"))
    if step:
        rows.refuse(
            wanted & ((time - get_offset(step)) % step != 0),
            lambda i: tell(i, f"no period of {text} begins then: {_advise(reading)}"),
        )
    rows.refuse(
        wanted & (known_at < time + step),
        lambda i: tell(
            i,
            f"it would be known before its {text} are over: leave `interval` out if `time` is not "
            "the beginning of a period"
            if step
            else "it would be known before the time that it is about: is that the end of a period, "
            "or one of another time zone?",
        ),
    )
    infinite = np.any([np.isinf(column) for column in values], axis=0)
    rows.refuse(wanted & infinite, lambda i: tell(i, "a value is infinite"))


def _advise(reading: RecordReading) -> str:
    """What to write in place of an interval on whose grid times do not lie."""
    if reading.known_at is not None:
        return "leave `interval` out"
    local = reading.timezone is not None
    longer = reading.interval + reading.delay + (HOUR if local else 0)  # a day may have 25 hours
    return (
        "leave `interval` out and, where a period does begin then, add the length of the longest "
        f"to `delay`: `delay: {format_interval(longer)}` or more"
    )


def join_rows(tables: Sequence[Rows], label: str) -> tuple[RecordSet, tuple[str, ...]]:
    """One set of the rows of all tables, each record once; and notes on what was repaired.

    Args:
        tables: rows as they stand in files.
        label: all files, for errors.

    Raises:
        RecordError: naming two rows of one time and ``known_at`` with different values.
        SourceError: if there is no record.
    """
    notes = [note for table in tables for note in table.notes]
    names = list(tables[0].columns)
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in names}
    order = np.lexsort((columns["known_at"], columns["time"]))  # stable: as they came
    columns = {name: column[order] for name, column in columns.items()}
    again = np.zeros(len(order), dtype=np.bool_)
    again[1:] = np.all([np.diff(columns[name]) == 0 for name in INSTANTS], axis=0)
    for name in names[len(INSTANTS) :]:
        values = columns[name]
        differs = np.zeros(len(order), dtype=np.bool_)
        differs[1:] = (np.diff(values) != 0) & ~(np.isnan(values[1:]) & np.isnan(values[:-1]))
        if (again & differs).any():
            i = int(np.argmax(again & differs))
            first, second = (_name_row(tables, int(place)) for place in order[i - 1 : i + 1])
            time, known_at = (format_instant(int(columns[each][i])) for each in INSTANTS)
            raise RecordError(
                f"{first} and {second}: both are about {time} and known at {known_at}, and {name} "
                f"is {values[i - 1]:.10g} and {values[i]:.10g}: remove the wrong one; a revision "
                "is known later"
            )
    if again.any():
        notes.append(f"{label}: {int(again.sum())} rows that repeat another were left out")
    if not len(order):
        raise SourceError(f"{label}: holds no record: {'; '.join(notes) or 'no rows'}")
    return trust({name: column[~again] for name, column in columns.items()}), tuple(notes)


def _name_row(tables: Sequence[Rows], place: int) -> str:
    """What to call a row, by its place among those of all tables."""
    for table in tables:
        if place < len(table.numbers):
            return f"{table.label}, row {table.numbers[place]}"
        place -= len(table.numbers)
    raise IndexError(place)
