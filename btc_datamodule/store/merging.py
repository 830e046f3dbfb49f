"""Merging: a candle file and the answers that came since, as one series.

Files are read in windows of ``CHUNK_ROWS`` bars and never all at once; candles that disagree, and
candles that the source no longer has, are noted on the way. Nothing is taken from a file whose
content does not have the digest that was written with it. ``Merge`` keeps what is stored;
``Replacement`` is for a source that is read whole, and compares.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import Candles, ContentDigest, make_empty, merge
from btc_datamodule.candles.timeline import floor_to, format_instant, unite
from btc_datamodule.store.candle_file import CandleReader, check_digest, read_header
from btc_datamodule.store.series_file import CHUNK_ROWS, Header, Provenance


class Merge:
    """A candle file and its parts as one series; counts what disagrees on the way.

    Earlier files win over later ones, or later ones if ``refresh``. A file is open only while it
    is read: HDF5 keeps 8 MiB of each column of an open one, and a history of a billion bars comes
    in thousands of parts. Once ``chunks`` is through, ``added`` is how many bars are not stored.
    """

    def __init__(
        self, stored: Path | None, parts: list[Path], interval: int, refresh: bool
    ) -> None:
        self.files = parts if stored is None else [stored, *parts]
        self.headers = [read_header(file) for file in self.files]
        self.interval = interval
        self.refresh = refresh
        self._fetched_anew = [] if stored is None or not refresh else self.headers[1:]
        self._before = self.headers[: len(self.files) - len(parts)]
        self.added = -sum(header.rows for header in self._before)
        self._changed: set[int] = set()
        self._withdrawn: list[int] = []

    def chunks(self) -> Iterator[Candles]:
        """The union of the files in order of time, in windows of ``CHUNK_ROWS`` bars.

        Raises:
            StoreError: if a file does not hold the candles that were written to it.
        """
        digests = [ContentDigest(self.interval) for _ in self.files]
        step = CHUNK_ROWS * self.interval
        for start in self._find_starts(step):
            chunk, found = make_empty(self.interval), []
            for file, header, digest in zip(self.files, self.headers, digests, strict=True):
                if header.rows and header.span[0] < start + step and start < header.span[1]:
                    with CandleReader(file) as reader:
                        found.append(reader.slice(start, start + step))
                    digest.update(found[-1])
                    chunk, differing = merge(chunk, found[-1], self.refresh)
                    self._changed.update(differing.tolist())
            if self._fetched_anew and found:
                self._note_withdrawn(found[0], found[1:])
            if len(chunk):
                self.added += len(chunk)
                yield chunk
        for file, header, digest in zip(self.files, self.headers, digests, strict=True):
            check_digest(file, header, digest)

    def describe(self) -> Iterator[str]:
        """Notes for a person, one sentence each, once ``chunks`` is through."""
        if self._changed:
            first = format_instant(min(self._changed))
            what = "replaced"
            if not self.refresh:
                what = "kept as stored; `refresh: true` takes the new values"
            yield (
                f"{len(self._changed)} candles came back different from what is stored, the first "
                f"at {first}: {what}"
            )
        if self._withdrawn:
            yield (
                f"{len(self._withdrawn)} stored candles are not in the answer any more, the first "
                f"at {format_instant(self._withdrawn[0])}: kept"
            )
        before = _list_services(self._before)
        others = _list_services(self.headers[len(self._before) :]) - before
        if before and others:
            yield (
                f"new candles come from {', '.join(sorted(others))}, those stored from "
                f"{', '.join(sorted(before))}: in one file they are right only if these are one "
                "exchange, such as a mirror; if not (a sandbox), set another `data_dir`"
            )

    def _find_starts(self, step: int) -> list[int]:
        """Starts of the windows of ``step`` seconds in which any file has candles, in order."""
        spans = [header.span for header in self.headers if header.rows]
        return sorted(
            {
                window
                for start, end in spans
                for window in np.arange(floor_to(start, step), end, step).tolist()
            }
        )

    def _note_withdrawn(self, stored: Candles, fetched: list[Candles]) -> None:
        """Remember stored bars that were asked for again and not answered."""
        answered = unite(span for header in self._fetched_anew for span in header.covered)
        asked = [stored.slice(*span).open_time for span in answered]
        kept = np.concatenate([np.zeros(0, np.int64), *(part.open_time for part in fetched)])
        for times in asked:
            self._withdrawn += np.setdiff1d(times, kept).tolist()


def _list_services(headers: Sequence[Header]) -> set[str]:
    """The scheme and host of all origins that are at a URL."""
    origins = [record.origin for header in headers for record in header.provenance]
    found = [re.search(r"https?://[^/\s]+", origin) for origin in origins]
    return {each[0] for each in found if each}


class _Tally:
    """How many bars something holds of, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0

    def add(self, times: NDArray[np.int64]) -> None:
        """Take the open times of more bars, later ones than before."""
        if len(times) and not self.count:
            self.first = int(times[0])
        self.count += len(times)


class Replacement:
    """What a source that is read whole says now, in place of what is stored; counts what changes.

    Attributes:
        headers: of the parts, of which all is made that is written.
        added: bars that are not stored, once ``chunks`` is through.
    """

    def __init__(self, stored: Path | None, parts: list[Path], interval: int) -> None:
        self._merge = Merge(None, parts, interval, refresh=True)
        self.headers = self._merge.headers
        self._stored = stored
        self._step = CHUNK_ROWS * interval
        self._changed, self._gone, self._new, self._filled = (_Tally() for _ in range(4))

    @property
    def added(self) -> int:
        """Bars that are not stored."""
        return self._new.count

    def chunks(self) -> Iterator[Candles]:
        """What the source says, in order of time; compared with what is stored on the way."""
        if self._stored is None:
            for chunk in self._merge.chunks():
                self._new.add(chunk.open_time)
                yield chunk
            return
        with CandleReader(self._stored) as reader:
            start, end = reader.header.span
            empty = make_empty(self._merge.interval)
            for chunk in self._merge.chunks():
                start = min(start, chunk.span[0]) if reader.header.rows else chunk.span[0]
                self._compare(reader, chunk, start, chunk.span[1])
                start = chunk.span[1]
                yield chunk
            self._compare(reader, empty, start, end)

    def describe(self) -> Iterator[str]:
        """A note for a person on what has changed; what was added at the end is no change."""
        found = [
            f"{tally.count} candles {what}, the first at {format_instant(tally.first)}"
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

    def _compare(self, reader: CandleReader, now: Candles, start: int, end: int) -> None:
        """Count what is different between [start, end) as it is stored and as it is said now."""
        for low in range(start, end, self._step):
            high = min(low + self._step, end)
            old, new = reader.slice(low, high), now.slice(low, high)
            both, at_old, at_new = np.intersect1d(
                old.open_time, new.open_time, assume_unique=True, return_indices=True
            )
            differs = np.zeros(len(both), dtype=bool)
            for name in old.columns.keys() & new.columns.keys():
                one, other = old[name][at_old], new[name][at_new]
                differs |= (one != other) & ~np.isnan(one) & ~np.isnan(other)
            added = np.setdiff1d(new.open_time, both, assume_unique=True)
            self._changed.add(both[differs])
            self._gone.add(np.setdiff1d(old.open_time, both, assume_unique=True))
            self._new.add(added)
            self._filled.add(added[added < reader.header.span[1]])


def join_records(records: list[Provenance]) -> list[Provenance]:
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
