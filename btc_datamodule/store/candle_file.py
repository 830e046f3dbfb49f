"""The candle file: candles on disk as HDF5, the truth that everything else is made from.

Owns what is in ``candles.h5``, its atomic write and its checked read. Receives ``Candles``, gives
back ``Candles``; knows nothing of the network or torch. ``update`` tells how a file comes to hold
the candles of a source, ``series_file`` what it has in common with files of records.

Layout, schema 2::

    /candles/<column>   (N,) int64 or float64; columns in ``SHUFFLED`` with their bytes shuffled
    /covered            a bar absent in a span there is a hole
    /provenance
    /segments           (S,) int64: numbers of the segments of the content digest that have bars
    /digests            (S, C, 32) uint8: the digest of each column in each, as ``digest.Segments``
    attributes          schema, source, series, interval, rows, digest, revision; offset where
                        bars do not open on the usual grid

Schema 1 has another digest and no segments. It is read, and written anew by the next write. A
large file may have a *tail*: a file of the same layout beside it, see ``tail``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.digest import ContentDigest, number_segment, span_segment
from btc_datamodule.candles.series import COLUMNS, REQUIRED, Candles, concatenate, find_holes
from btc_datamodule.candles.timeline import TIMES, Span, floor_to
from btc_datamodule.disk.hdf5 import explain_damage
from btc_datamodule.public import public
from btc_datamodule.store.candle_layout import LAYOUT, describe_series, list_arrays
from btc_datamodule.store.series_file import (
    CHUNK_ROWS,
    HDF5_CHUNK_ROWS,
    Check,
    ContentCheck,
    Header,
    Provenance,
    check_identity,
    write_columns,
)
from btc_datamodule.store.tail import open_files


class CandleReader:
    """A candle file and its tail, open, and read as one in chunks. Use as a context manager.

    Attributes:
        path: the candle file.
        files: it and, if it has one, its tail.
        header: of all of it.
        segments: of the content digest; None of a file of schema 1.

    Raises:
        StoreError: if the file is missing, is not HDF5, or is not a candle file of this schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        base, tail = open_files(path)
        self.files = [base] if tail is None else [base, tail]
        self.header = base.header
        self.segments = base.segments
        if tail is not None:
            last = tail if tail.rows else base
            self.header = replace(
                tail.header,
                rows=base.rows + tail.rows,
                span=(base.header.span[0], last.header.span[1]),
            )
            assert base.segments is not None
            assert tail.segments is not None
            self.segments = base.segments.followed_by(tail.segments)

    def __enter__(self) -> "CandleReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self.files:
            file.close()

    def slice(self, start: int, end: int) -> Candles:
        """The candles that open in [start, end)."""
        low, high = (sum(file.find(when) for file in self.files) for when in (start, end))
        return self._read_rows(low, high)

    def chunks(self) -> Iterator[Candles]:
        """All candles in order of time, ``CHUNK_ROWS`` at a time."""
        for low in range(0, self.header.rows, CHUNK_ROWS):
            yield self._read_rows(low, min(low + CHUNK_ROWS, self.header.rows))

    def holes(self) -> NDArray[np.int64]:
        """(n, 2) int64: the absent runs between first and last bar, as ``Candles.holes``."""
        found, last = [np.zeros((0, 2), dtype=np.int64)], np.zeros(0, dtype=np.int64)
        for file in self.files:
            for low in range(0, file.rows, CHUNK_ROWS):
                times = file.read_times(low, min(low + CHUNK_ROWS, file.rows))
                found.append(find_holes(np.concatenate([last, times]), self.header.interval))
                last = times[-1:]
        return np.concatenate(found)

    def marks(self) -> list[int]:
        """Instants that part the time that it spans into pieces of ``CHUNK_ROWS`` bars at most."""
        step = CHUNK_ROWS * self.header.interval
        start, end = self.header.span
        return list(range(floor_to(start, step), end, step))

    def make_check(self) -> Check:
        """A check of its content, to be fed all its candles in order."""
        base, *tails = self.files
        if not tails or not tails[0].rows:
            return base.make_check()
        (tail,) = tails
        return PairCheck(base.make_check(), tail.make_check(), tail.header)

    def digest_before(self, instant: int) -> str:
        """The digest that the candles which open before an instant have as a file of their own.

        Read are only those of the segment that the instant lies in; of a file of schema 1, all.
        """
        interval = self.header.interval
        digest = ContentDigest(interval)
        if self.segments is None:
            for chunk in self.chunks():
                digest.update(chunk.slice(TIMES[0], instant))
            return digest.hexdigest()
        number = number_segment(instant, interval)
        digest.update(self.slice(span_segment(number, interval)[0], instant))
        before = self.segments.take_before(number)
        return before.followed_by(digest.get_segments()).hexdigest()

    def check_since(self, instant: int) -> None:
        """Compare the candles from the segment of an instant on with their digests.

        Those of a file of schema 1 are not looked at: it has one digest of all.

        Raises:
            StoreError: if they are not what was written.
        """
        if self.segments is None:
            return
        interval = self.header.interval
        segments = self.segments.take_from(number_segment(instant, interval))
        check = ContentCheck(self.path, LAYOUT, segments.hexdigest(), ContentDigest(interval))
        for number in segments.numbers.tolist():
            check.update(self.slice(*span_segment(number, interval)))
        check.require()

    def _read_rows(self, low: int, high: int) -> Candles:
        found, before = list[Candles](), 0
        for file in self.files:
            rows = (min(max(0, row - before), file.rows) for row in (low, high))
            found.append(file.read_rows(*rows))
            before += file.rows
        parts = [part for part in found if len(part)] or found[:1]
        return concatenate(parts) if len(parts) > 1 else parts[0]


class PairCheck:
    """A check that a file and its tail hold what was written to them; the file is checked first."""

    def __init__(self, base: ContentCheck, tail: ContentCheck, header: Header) -> None:
        self._base, self._tail, self._start = base, tail, header.span[0]
        number = number_segment(self._start, header.interval)
        self._shared = span_segment(number, header.interval)[0]

    def update(self, candles: Candles) -> None:
        """Take the next candles in order of time."""
        self._base.update(candles.slice(TIMES[0], self._start))
        self._tail.update(candles.slice(self._shared, TIMES[1]))

    def require(self) -> None:
        """Raise ``StoreError``, naming the file, unless both have the digests that they say."""
        self._base.require()
        self._tail.require()


@public
def read_candles(path: str | Path) -> Candles:
    """All candles of a candle file at once.

    Raises:
        StoreError: if the file is missing, damaged, not a candle file of this schema, or does not
            hold the candles that were written to it.
    """
    path = Path(path)
    with CandleReader(path) as reader, explain_damage(path):
        header, low, check = reader.header, 0, reader.make_check()
        columns = {
            name: np.empty(header.rows, LAYOUT.choose_dtype(name)) for name in header.columns
        }
        for chunk in reader.chunks():  # what is no candle ends it before memory is full
            for name, column in columns.items():
                column[low : low + len(chunk)] = chunk[name]
            low += len(chunk)
            check.update(chunk)
        check.require()
        return Candles(header.interval, columns)


def read_header(path: Path) -> Header:
    """The header of a candle file."""
    with CandleReader(path) as reader:
        return reader.header


def check_series(path: Path, header: Header, source: str, series: str, interval: int) -> None:
    """Raise ``StoreError`` unless the file holds the candles that are meant."""
    check_identity(path, header, (source, series, interval), "bars")


def write_series(path: Path, candles: Candles, *, source: str, series: str) -> None:
    """Write a candle file of candles that nobody was asked for: uncompressed, for a short while."""
    write_candles(
        path,
        [candles],
        source=source,
        series=series,
        interval=candles.interval,
        columns=candles.columns,
        covered=[candles.span],
        revision="",
        provenance=[],
        compress=False,
        most_rows=len(candles),
    )


def write_candles(
    path: Path,
    chunks: Iterable[Candles],
    *,
    source: str,
    series: str,
    interval: int,
    columns: Iterable[str],
    covered: Iterable[Span],
    revision: str,
    provenance: Iterable[Provenance],
    compress: bool = True,
    most_rows: int = HDF5_CHUNK_ROWS,
) -> None:
    """Write a candle file atomically.

    Args:
        path: where it shall be; a file there is replaced at the very end.
        chunks: the candles in order of time, in chunks of any size.
        source: see ``Header``, as are the arguments that follow.
        series: folder name of the series.
        interval: seconds.
        columns: optional columns beside the required ones; NaN where a chunk lacks one.
        covered: spans answered for.
        revision: "" for none.
        provenance: in order of retrieval.
        compress: gzip; without it, faster and larger.
        most_rows: of all chunks together, if that is known to be few.
    """
    wanted = set(columns)
    digest = ContentDigest(interval)

    def take(chunk: Candles) -> Candles:
        digest.update(chunk)
        return chunk

    write_columns(
        path,
        LAYOUT,
        [name for name in COLUMNS if name in REQUIRED or name in wanted],
        map(take, chunks),
        lambda rows: describe_series(
            source, series, interval, rows=rows, digest=digest.hexdigest(), revision=revision
        ),
        covered=covered,
        provenance=provenance,
        compress=compress,
        most_rows=most_rows,
        others=lambda: list_arrays(digest.get_segments()),
    )
