"""``RecordSet``: what is known beside the candles, and for each record since when.

Funding rates, open interest, premiums, releases of statistics: records with columns of their own.
Owns what a record is. Receives numpy columns, gives back checked ones, as ``series`` does for
candles. A ``RecordSet`` that exists is valid: constructing one checks it.

A record is about an instant, ``time``, and could be known from ``known_at`` on. Of one time there
may be several records: each that became known later revises those before it. Records with an
interval lie on its grid, and ``time`` is then the beginning of the period that they are about, as
the open time of a bar is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.errors import RecordError

INSTANTS = ("time", "known_at")
"""The columns that every record has: int64, epoch seconds UTC."""


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
            name: np.asarray(given[name]).astype(
                np.int64 if name in INSTANTS else np.float64, copy=False
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
