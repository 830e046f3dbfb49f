"""What tests do with files of records: a source that serves them, and what a file holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from btc_datamodule import RecordBlock, RecordSource, SourceError
from btc_datamodule.candles.records import RecordDigest, RecordSet
from btc_datamodule.candles.timeline import Span
from btc_datamodule.store.record_file import write_records
from tests.factories import HOUR, T0

COLUMNS = ("rate", "premium")


def records_of(hours: Any, delay: int = 600, seed: int = 0) -> RecordSet:
    """Records at hours from ``T0`` on, known ``delay`` seconds later; every fifth has no premium.

    A record's values depend on its hour and ``seed`` alone.
    """
    number = np.asarray(hours, dtype=np.float64)
    time = (T0 + HOUR * number).astype(np.int64)
    premium = np.where(number % 5 == 0, np.nan, np.cos(number + seed))
    return RecordSet(
        {
            "time": time,
            "known_at": time + delay,
            "rate": np.sin(number * 12.9 + seed),
            "premium": premium,
        }
    )


def revise(records: RecordSet, row: int, later: int, **values: float) -> RecordSet:
    """Records with one more: that of a row, known ``later`` seconds after it, with other values."""
    one = {name: column[row] for name, column in records.columns.items()}
    one |= {"known_at": one["known_at"] + later, **values}
    columns = {name: np.append(column, one[name]) for name, column in records.columns.items()}
    order = np.lexsort((columns["known_at"], columns["time"]))
    return RecordSet({name: column[order] for name, column in columns.items()})


def hours(low: float, high: float) -> Span:
    return T0 + int(low * HOUR), T0 + int(high * HOUR)


HELD = revise(records_of(np.delete(np.arange(60), [7, 8, 9, 21, 40])), 12, 7200, rate=9.0)


@dataclass(frozen=True)
class Scripted(RecordSource):
    """Serves from ``held`` in blocks of hours, and keeps the spans that it was asked for."""

    held: RecordSet = field(default_factory=lambda: HELD)
    block_hours: int = 10
    fail_after: int | None = None
    token: str | None = None
    step: int | None = None
    asked: list[Span] = field(default_factory=list)

    name: ClassVar[str] = "scripted"

    @property
    def series(self) -> str:
        return "funding"

    @property
    def columns(self) -> tuple[str, ...]:
        return COLUMNS

    @property
    def interval(self) -> int | None:
        return self.step

    @property
    def revision(self) -> str | None:
        return self.token

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        self.asked.append(span)
        start, end = self.held.span if self.token else span
        given = 0
        while start < end:
            if given == self.fail_after:
                raise SourceError("scripted: the wire was cut")
            stop = min(end, start + self.block_hours * HOUR)
            yield RecordBlock((start, stop), self.held.slice(start, stop), "script")
            given += 1
            start = stop
        if given == self.fail_after:
            raise SourceError("scripted: the wire was cut")


def digest_of(*parts: RecordSet, interval: int = 0) -> str:
    digest = RecordDigest(interval, COLUMNS)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def write(path: Path, *parts: RecordSet, **changes: Any) -> Path:
    """A file of the records of all parts."""
    settings: dict[str, Any] = {
        "source": "scripted",
        "series": "funding",
        "interval": None,
        "columns": COLUMNS,
        "covered": [],
        "revision": "",
        "provenance": [],
    }
    write_records(path, parts, **settings | changes)
    return path


def assert_same(a: RecordSet, b: RecordSet) -> None:
    """The same records bit for bit, in the same columns."""
    assert set(a.columns) == set(b.columns)
    for name in a.columns:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
