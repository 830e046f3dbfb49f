"""Rows of the archive as records: checked, in order, each once, and nothing settled in silence."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import INSTANTS, RecordSet
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import RecordError
from btc_datamodule.sources.binance.zips import BadFileError


class Rows(NamedTuple):
    """Rows of a file as they came.

    Attributes:
        columns: as ``RecordSet.columns``, in any order, with repeats: (N,) each.
        numbers: (N,) their numbers in the file.
        where: what errors and notes name: the file.
        apart: columns by which repeats are not compared.
    """

    columns: Mapping[str, NDArray[Any]]
    numbers: NDArray[Any]
    where: str
    apart: tuple[str, ...] = ()

    def take(self, chosen: NDArray[Any]) -> "Rows":
        """Some of the rows, as a mask or as numbers in order."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        return self._replace(columns=columns, numbers=self.numbers[chosen])

    def describe_first(self, bad: NDArray[np.bool_], problem: str) -> str:
        """The number, the time and the problem of the first row of a mask."""
        i = int(np.argmax(bad))
        time = format_instant(int(self.columns["time"][i]))
        return f"{self.where}, row {self.numbers[i]} ({time}): {problem}"

    def match(self, other: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(N,) whether each row has the values of the row at the place that ``other`` names."""
        same = np.ones(len(self.numbers), dtype=bool)
        for name, values in self.columns.items():
            if name not in INSTANTS and name not in self.apart:
                with np.errstate(invalid="ignore"):
                    same &= (values == values[other]) | (np.isnan(values) & np.isnan(values[other]))
        return same


def leave_out(
    rows: Rows, oddities: Mapping[str, NDArray[np.bool_]], url: str
) -> tuple[Rows, tuple[str, ...]]:
    """Leave out rows that are none of the file's own, and count them, as notes.

    Args:
        rows: as they came.
        oddities: what is odd about them, in words, and (N,) which rows are.
        url: of the file, for errors.

    Raises:
        BadFileError: if no row is left.
    """
    count = len(rows.numbers)
    told = []
    for text, odd in oddities.items():
        if odd.any():
            first = format_instant(int(rows.columns["time"][np.argmax(odd)]))
            told.append(f"{int(odd.sum())} of {count} rows {text}, the first at {first}")
    odd = np.logical_or.reduce(list(oddities.values()))
    if odd.all():  # of another period, product or unit
        raise BadFileError(url, f"{'; '.join(told)}: is it another file?")
    return rows.take(~odd), tuple(f"{rows.where}: {each}: left out" for each in told)


def make_records(
    rows: Rows, faults: Mapping[str, NDArray[np.bool_]], *, drop_invalid: bool
) -> tuple[RecordSet, tuple[str, ...]]:
    """Make records of rows, and notes on what was left out.

    Rows are sorted. Those that say of one time the same as the one before them are left out, and
    counted. One that became known later and says something else is a revision, and stays. Of rows
    that say different things at once none can be chosen.

    Args:
        rows: as they came.
        faults: the ways in which rows can fail to be records, in words, and (N,) which ones do.
        drop_invalid: leave out rows that fail, and those that contradict each other, with notes.

    Raises:
        RecordError: naming the first row that fails, or that contradicts another, unless
            ``drop_invalid``; and if no row is left.
    """
    notes: list[str] = []

    def drop(bad: NDArray[np.bool_], told: str) -> Rows:
        if not drop_invalid or bad.all():
            raise RecordError(told)
        notes.append(f"{int(bad.sum())} rows that are no records were left out, such as {told}")
        return rows.take(~bad)

    failing = [(problem, bad) for problem, bad in faults.items() if bad.any()]
    if failing:
        problem, first = failing[0]
        bad = np.logical_or.reduce([each for _, each in failing])
        rows = drop(bad, rows.describe_first(first, problem))
    rows = rows.take(np.lexsort((rows.columns["known_at"], rows.columns["time"])))
    at_once = _find_groups(rows.columns["time"], rows.columns["known_at"])
    torn = np.zeros(len(at_once), dtype=bool)
    torn[at_once[~rows.match(at_once)]] = True
    if torn.any():
        bad = torn[at_once]
        rows = drop(bad, rows.describe_first(bad, "another row says something else of this time"))
        at_once = _find_groups(rows.columns["time"], rows.columns["known_at"])
    is_first = at_once == np.arange(len(at_once))
    once = rows.take(is_first)
    before = np.maximum(np.arange(len(once.numbers)) - 1, 0)
    again = (np.diff(once.columns["time"], prepend=-1) == 0) & once.match(before)
    repeated = int((~is_first).sum() + again.sum())
    if repeated:
        notes.append(f"{rows.where}: {repeated} rows repeat another one and were left out")
    return RecordSet(once.take(~again).columns), tuple(notes)


def _find_groups(*keys: NDArray[Any]) -> NDArray[np.intp]:
    """(N,) the place of the first of the rows with the keys of each row; rows sorted by them."""
    starts = np.zeros(len(keys[0]), dtype=bool)
    starts[:1] = True
    for key in keys:
        starts[1:] |= key[1:] != key[:-1]
    places: NDArray[np.intp] = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    return places
