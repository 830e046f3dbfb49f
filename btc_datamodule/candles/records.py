"""``RecordSet``: what is known beside the candles, and for each record since when.

Funding rates, open interest, premiums, releases of statistics: records with columns of their own.
Owns what a record is. Receives numpy columns, gives back checked ones, as ``series`` does for
candles. A ``RecordSet`` that exists is valid: constructing one checks it.

A record is about an instant, ``time``, and could be known from ``known_at`` on. Of one time there
may be several records: each that became known later revises those before it. Records with an
interval lie on its grid, and ``time`` is then the beginning of the period that they are about, as
the open time of a bar is.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import Span, format_instant, format_interval, get_offset
from btc_datamodule.errors import RecordError
from btc_datamodule.public import public

INSTANTS = ("time", "known_at")
"""The columns that every record has: int64, epoch seconds UTC."""


@public
@dataclass(frozen=True, eq=False)
class RecordSet:
    """Records of one series, by time, and those of one time by when they became known.

    Attributes:
        columns: ``INSTANTS``, int64, then values, float64, NaN where there is none: (N,) each.

    Raises:
        RecordError: naming the first row and time that breaks the contract.
    """

    columns: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        given = self.columns
        missing = [name for name in INSTANTS if name not in given]
        if missing:
            raise RecordError(f"records: no column {', '.join(missing)}: has {', '.join(given)}")
        names = [*INSTANTS, *(name for name in given if name not in INSTANTS)]
        columns = {
            name: (
                _to_instants(name, given[name])
                if name in INSTANTS
                else np.asarray(given[name]).astype(np.float64, copy=False)
            )
            for name in names
        }
        check_records(columns, "records")
        object.__setattr__(self, "columns", columns)

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """One column; values that the set does not have read as NaN."""
        if name in self.columns:
            return self.columns[name]
        return np.full(len(self), np.nan)

    @property
    def time(self) -> NDArray[np.int64]:
        """(N,) int64, epoch seconds UTC: what each record is about."""
        return self.columns["time"]

    @property
    def known_at(self) -> NDArray[np.int64]:
        """(N,) int64, epoch seconds UTC: from when on each record could be known."""
        return self.columns["known_at"]

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the columns of values."""
        return tuple(name for name in self.columns if name not in INSTANTS)

    @property
    def span(self) -> Span:
        """From the first time to just past the last; (0, 0) if there are no records."""
        if not len(self):
            return (0, 0)
        return int(self.time[0]), int(self.time[-1]) + 1

    def slice(self, start: int, end: int) -> "RecordSet":
        """The records whose time is in [start, end)."""
        low, high = np.searchsorted(self.time, [start, end])
        return trust({name: values[low:high] for name, values in self.columns.items()})

    def take(self, rows: NDArray[Any]) -> "RecordSet":
        """Some rows, as a mask or as numbers in order."""
        return trust({name: values[rows] for name, values in self.columns.items()})


def _to_instants(name: str, given: Any) -> NDArray[np.int64]:
    """Epoch seconds as int64.

    Raises:
        RecordError: naming the first that is on no whole second: cut off, it would be earlier.
    """
    values = np.asarray(given)
    if values.dtype.kind not in "iuf":
        raise RecordError(f"records: {name} is {values.dtype}: give whole epoch seconds")
    with np.errstate(invalid="ignore"):
        whole: NDArray[np.int64] = values.astype(np.int64, copy=False)
    bad = whole != values
    if bad.any():
        row = int(np.argmax(bad))
        raise RecordError(
            f"records, row {row}: {name} is {values[row]}: give whole epoch seconds, `known_at` "
            "rounded up"
        )
    return whole


def check_records(columns: Mapping[str, NDArray[Any]], where: str) -> None:
    """Raise ``RecordError`` for the first row that is no record, or out of order.

    Args:
        columns: ``INSTANTS`` and values.
        where: what the error names, a file for instance.
    """
    shapes = {values.shape for values in columns.values()}
    time, known_at = columns["time"], columns["known_at"]
    if len(shapes) > 1 or time.ndim != 1:
        raise RecordError(f"{where}: columns are not of one length (shapes {sorted(shapes)})")
    same = time[1:] == time[:-1]
    falling = (time[1:] < time[:-1]) | (same & (known_at[1:] <= known_at[:-1]))
    faults = {
        "it would be known before the time that it is about": known_at < time,
        "times must not fall, and each record of one time must become known later than the one "
        "before": np.concatenate([[False], falling])[: len(time)],
    }
    for name in columns.keys() - {*INSTANTS}:
        faults[f"{name} is infinite"] = np.isinf(columns[name])
    for problem, bad in faults.items():
        if bad.any():
            row = int(np.argmax(bad))
            when, known = (format_instant(int(each[row])) for each in (time, known_at))
            raise RecordError(f"{where}, row {row}, {when} (known at {known}): {problem}")


def trust(columns: Mapping[str, NDArray[Any]]) -> RecordSet:
    """Make a ``RecordSet`` of columns that are known to be valid, without checking them again."""
    records = object.__new__(RecordSet)
    object.__setattr__(records, "columns", dict(columns))
    return records


def make_empty(values: Sequence[str]) -> RecordSet:
    """A set without records."""
    instants = {name: np.zeros(0, np.int64) for name in INSTANTS}
    return trust(instants | {name: np.zeros(0) for name in values})


def is_column_name(name: str) -> bool:
    """Whether values can be called so: the name is that of a dataset in a file, too."""
    plain = name.isprintable() and name.strip() == name and "/" not in name
    return plain and name not in ("", ".", *INSTANTS)


def check_grid(records: RecordSet, interval: int, where: str) -> None:
    """Raise ``RecordError`` for the first record that is not one of an interval.

    Args:
        records: any.
        interval: seconds, and the grid.
        where: what the error names.
    """
    text = format_interval(interval)
    faults = {
        f"its time is not on the grid of {text}": (records.time - get_offset(interval)) % interval
        != 0,
        f"it would be known before its {text} are over": records.known_at < records.time + interval,
    }
    for problem, bad in faults.items():
        if bad.any():
            row = int(np.argmax(bad))
            raise RecordError(
                f"{where}, row {row}, {_describe(records, row)}: {problem}: time is the beginning "
                "of the period that a record is about"
            )


def _describe(records: RecordSet, row: int) -> str:
    time, known_at = (format_instant(int(each[row])) for each in (records.time, records.known_at))
    return f"{time} (known at {known_at})"


def list_values(parts: Iterable[RecordSet]) -> tuple[str, ...]:
    """The columns of values that any of some sets has, each once."""
    return tuple(dict.fromkeys(name for part in parts for name in part.values))


def concatenate(parts: Sequence[RecordSet]) -> RecordSet:
    """One set of sets that follow each other in time; values that one does not have become NaN."""
    names = (*INSTANTS, *list_values(parts))
    return RecordSet({name: np.concatenate([part[name] for part in parts]) for name in names})


def _match(one: RecordSet, other: RecordSet) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows of two sets that have the time and the ``known_at`` of a row of the other."""
    time, known_at = (np.concatenate([one[name], other[name]]) for name in INSTANTS)
    order = np.lexsort((known_at, time))
    same = (np.diff(time[order]) == 0) & (np.diff(known_at[order]) == 0)
    first = np.flatnonzero(same)  # a set has each pair once, and the order is stable
    return order[first], order[first + 1] - len(one)


def merge(
    stored: RecordSet, fetched: RecordSet, refresh: bool
) -> tuple[RecordSet, NDArray[np.int64]]:
    """Union of two sets, and the times of records in which they disagree.

    A record is that of its time and its ``known_at``: one of the same time that became known at
    another instant is a revision, and both are kept. Where both have a record with different
    values, the stored one stays, or the fetched one replaces it if ``refresh``. What one does not
    know (NaN, or no such column) is taken from the other, and is no disagreement.
    """
    if not len(stored) and stored.columns.keys() <= fetched.columns.keys():
        return fetched, np.zeros(0, np.int64)
    first, second = (fetched, stored) if refresh else (stored, fetched)
    at_first, at_second = _match(first, second)
    extra = np.ones(len(second), dtype=bool)
    extra[at_second] = False
    time, known_at = (np.concatenate([first[name], second[name][extra]]) for name in INSTANTS)
    order = np.lexsort((known_at, time))
    differs = np.zeros(len(at_first), dtype=bool)
    columns: dict[str, NDArray[Any]] = {"time": time[order], "known_at": known_at[order]}
    for name in list_values((stored, fetched)):
        ours, theirs = first[name].copy(), second[name]
        old, new = ours[at_first], theirs[at_second]
        differs |= (old != new) & ~np.isnan(old) & ~np.isnan(new)
        ours[at_first] = np.where(np.isnan(old), new, old)
        columns[name] = np.concatenate([ours, theirs[extra]])[order]
    return trust(columns), first.time[at_first[differs]]


def find_lacking(records: RecordSet, others: Iterable[RecordSet]) -> NDArray[np.int64]:
    """The times of the records that none of some others has, revised or not."""
    left = np.ones(len(records), dtype=bool)
    for other in others:
        left[_match(records, other)[0]] = False
    return records.time[left]


class RecordDigest:
    """SHA-256 of records, fed in chunks, independent of their sizes and of compression.

    Args:
        interval: of the records, seconds; 0 for none.
        values: names of their columns of values.
    """

    def __init__(self, interval: int, values: Iterable[str]) -> None:
        self._interval = interval
        self._columns = {name: hashlib.sha256() for name in (*INSTANTS, *sorted(values))}
        self._known = set(INSTANTS)

    def update(self, records: RecordSet) -> None:
        """Take the next records in order."""
        for name, digest in self._columns.items():
            values = records[name]
            if name not in INSTANTS:  # equal values have equal bytes: one zero, one NaN
                unknown = np.isnan(values)
                values = np.where(unknown, np.nan, values) + 0.0
                self._known |= set() if unknown.all() else {name}
            little = values.astype("<i8" if name in INSTANTS else "<f8")
            digest.update(np.ascontiguousarray(little).tobytes())

    def hexdigest(self) -> str:
        """The digest of all records so far; a column that is NaN throughout counts as absent."""
        columns = {
            name: digest.hexdigest()
            for name, digest in self._columns.items()
            if name in self._known
        }
        return hashlib.sha256(json.dumps([int(self._interval), columns]).encode()).hexdigest()
