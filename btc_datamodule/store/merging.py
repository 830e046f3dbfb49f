"""Merging: a file and the answers that came since, as one series.

Files are read in windows of ``CHUNK_ROWS`` rows and never all at once; rows that disagree, and
rows that the source no longer has, are noted on the way. Nothing is taken from a file whose
content does not have the digest that was written with it. ``Merge`` keeps what is stored;
``Replacement`` is for a source that is read whole, and compares.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import Span, format_instant, unite
from btc_datamodule.store.forms import Content, Form
from btc_datamodule.store.series_file import Check, Header, Provenance


class Merge:
    """A file and its parts as one series; counts what disagrees on the way.

    Earlier files win over later ones, or later ones if ``refresh``. A file is open only while it
    is read: HDF5 keeps 8 MiB of each column of an open one, and a history of a billion bars comes
    in thousands of parts. Once ``chunks`` is through, ``added`` is how many rows are not stored.
    """

    def __init__(self, form: Form, stored: Path | None, parts: list[Path], refresh: bool) -> None:
        self.form = form
        self.files = parts if stored is None else [stored, *parts]
        self.headers: list[Header] = []
        self.refresh = refresh
        self._checks: list[Check] = []
        marks: set[int] = set()
        for file in self.files:
            with form.open(file) as reader:
                self.headers.append(reader.header)
                self._checks.append(reader.make_check())
                marks.update(reader.marks())
        self._marks = sorted(marks)
        self._fetched_anew = [] if stored is None or not refresh else self.headers[1:]
        self.added = -sum(header.rows for header in self.headers[: len(self.files) - len(parts)])
        self._changed: set[int] = set()
        self._withdrawn: list[int] = []

    def chunks(self) -> Iterator[Content]:
        """The union of the files in order, in windows of about ``CHUNK_ROWS`` rows of each.

        Raises:
            StoreError: if a file does not hold the rows that were written to it.
        """
        form = self.form
        ends = [header.span[1] for header in self.headers if header.rows]
        for start, end in pairwise([*self._marks, max(ends, default=0)]):
            found: list[Any] = []
            for file, header, check in zip(self.files, self.headers, self._checks, strict=True):
                if header.rows and header.span[0] < end and start < header.span[1]:
                    with form.open(file) as reader:
                        found.append(reader.slice(start, end))
                    check.update(found[-1])
            if not found:
                continue
            chunk, *others = found
            for other in others:
                chunk, differing = form.merge(chunk, other, self.refresh)
                self._changed.update(differing.tolist())
            if self._fetched_anew:
                self._note_withdrawn(found[0], found[1:])
            if len(chunk):
                self.added += len(chunk)
                yield chunk
        for check in self._checks:
            check.require()

    def describe(self) -> Iterator[str]:
        """Notes for a person, one sentence each, once ``chunks`` is through."""
        content = f"{self.form.content}s"
        if self._changed:
            first = format_instant(min(self._changed))
            what = "replaced"
            if not self.refresh:
                what = "kept as stored; `refresh: true` takes the new values"
            yield (
                f"{len(self._changed)} {content} came back different from what is stored, the "
                f"first at {first}: {what}"
            )
        if self._withdrawn:
            yield (
                f"{len(self._withdrawn)} stored {content} are not in the answer any more, the "
                f"first at {format_instant(self._withdrawn[0])}: kept"
            )

    def _note_withdrawn(self, stored: Content, fetched: list[Content]) -> None:
        """Remember stored rows that were asked for again and not answered."""
        for span in unite(span for header in self._fetched_anew for span in header.covered):
            lacking = self.form.find_lacking(stored.slice(*span), fetched)
            self._withdrawn += lacking.tolist()


class _Tally:
    """How many rows something holds of, and the time of the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0

    def add(self, times: NDArray[np.int64]) -> None:
        """Take the times of more rows, later ones than before."""
        if len(times) and not self.count:
            self.first = int(times[0])
        self.count += len(times)


class Replacement:
    """What a source that is read whole says now, in place of what is stored; counts what changes.

    Attributes:
        headers: of the parts, of which all is made that is written.
        added: rows that are not stored, once ``chunks`` is through.
    """

    def __init__(self, form: Form, stored: Path | None, parts: list[Path]) -> None:
        self.form = form
        self._merge = Merge(form, None, parts, refresh=True)
        self.headers = self._merge.headers
        self._stored = stored
        self._changed, self._gone, self._new, self._filled = (_Tally() for _ in range(4))

    @property
    def added(self) -> int:
        """Rows that are not stored."""
        return self._new.count

    def chunks(self) -> Iterator[Content]:
        """What the source says, in order of time; compared with what is stored on the way."""
        if self._stored is None:
            for chunk in self._merge.chunks():
                self._new.add(self.form.get_keys(chunk)[0])
                yield chunk
            return
        with self.form.open(self._stored) as reader:
            start, end = reader.header.span
            marks, nothing = reader.marks(), reader.slice(0, 0)
            for chunk in self._merge.chunks():
                start = min(start, chunk.span[0]) if reader.header.rows else chunk.span[0]
                self._compare(reader, marks, chunk, (start, chunk.span[1]))
                start = chunk.span[1]
                yield chunk
            self._compare(reader, marks, nothing, (start, end))

    def describe(self) -> Iterator[str]:
        """A note for a person on what has changed; what was added at the end is no change."""
        found = [
            f"{tally.count} {self.form.content}s {what}, the first at {format_instant(tally.first)}"
            for tally, what in (
                (self._changed, "differ"),
                (self._gone, "are gone"),
                (self._filled, "are new before the end of what was stored"),
            )
            if tally.count
        ]
        if found:
            yield (
                f"it says something else than when it was last read: {'; '.join(found)}: what it "
                "says now replaces what was stored"
            )

    def _compare(self, reader: Any, marks: list[int], now: Content, span: Span) -> None:
        """Count what is different in a span as it is stored and as it is said now."""
        start, end = span
        if start >= end:
            return
        inside = [mark for mark in marks if start < mark < end]
        for low, high in pairwise([start, *inside, end]):
            old, new = reader.slice(low, high), now.slice(low, high)
            added = self.form.find_lacking(new, [old])
            self._changed.add(self.form.merge(old, new, False)[1])
            self._gone.add(self.form.find_lacking(old, [new]))
            self._new.add(added)
            self._filled.add(added[added < reader.header.span[1]])


def join_provenance(records: list[Provenance]) -> list[Provenance]:
    """Records of which neighbours of the same origin are joined, so that pages do not pile up."""
    result: list[Provenance] = []
    for record in records:
        last = result[-1] if result else None
        same = last and (last.origin, last.checksum) == (record.origin, record.checksum)
        if last and same and last.span[1] == record.span[0]:
            result[-1] = replace(
                record, span=(last.span[0], record.span[1]), rows=last.rows + record.rows
            )
        else:
            result.append(record)
    return result
