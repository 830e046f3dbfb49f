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

Schema 1 has another digest and no segments. It is read, and written anew by the next write.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.digest import (
    SIZE,
    ContentDigest,
    Segments,
    WholeDigest,
    number_segment,
    span_segment,
)
from btc_datamodule.candles.series import COLUMNS, REQUIRED, Candles, find_holes
from btc_datamodule.candles.timeline import (
    LONGEST_DURATION,
    TIMES,
    WEEK,
    Interval,
    Span,
    floor_to,
    get_offset,
)
from btc_datamodule.disk.hdf5 import (
    advise_repair,
    explain_damage,
    is_inside,
    open_hdf5,
    read_attribute,
)
from btc_datamodule.disk.stored import Stored
from btc_datamodule.errors import StoreError
from btc_datamodule.public import public
from btc_datamodule.store.series_file import (
    CHUNK_ROWS,
    ContentCheck,
    Header,
    Layout,
    Provenance,
    check_identity,
    find_group,
    open_columns,
    read_covered,
    read_ends,
    read_provenance,
    write_columns,
)

if TYPE_CHECKING:
    import h5py

SCHEMA = 2

SHUFFLED = ("open_time", "quote_volume", "trades")
"""Columns whose bytes are shuffled before gzip. Other columns are mostly decimals of few digits,
whose eight bytes come again as a whole: shuffling these too made files 16 to 32 % larger
(``python benchmarks/ingest.py --compression``)."""

LAYOUT = Layout("candle file", SCHEMA, "candles", "candles", ("open_time",), SHUFFLED)

WHOLE_LAYOUT = replace(LAYOUT, schema=1)


class CandleReader:
    """An open candle file, read in chunks. Use as a context manager.

    Raises:
        StoreError: if the file is missing, is not HDF5, or is not a candle file of this schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_hdf5(path)
        try:
            with explain_damage(path):
                layout = _choose_layout(path, self._file)
                self._columns = _find_columns(path, self._file, layout)
                self.header = _read_header(path, self._file, self._columns)
                self.segments = (
                    _read_segments(path, self._file, self.header) if layout is LAYOUT else None
                )
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "CandleReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def slice(self, start: int, end: int) -> Candles:
        """The candles that open in [start, end)."""
        with explain_damage(self.path):
            low, high = (bisect_left(self._columns["open_time"], when) for when in (start, end))
            return self._read_rows(low, high)

    def chunks(self) -> Iterator[Candles]:
        """All candles in order of time, ``CHUNK_ROWS`` at a time."""
        for low in range(0, self.header.rows, CHUNK_ROWS):
            with explain_damage(self.path):
                yield self._read_rows(low, min(low + CHUNK_ROWS, self.header.rows))

    def holes(self) -> NDArray[np.int64]:
        """(n, 2) int64: the absent runs between first and last bar, as ``Candles.holes``."""
        found, last = [np.zeros((0, 2), dtype=np.int64)], np.zeros(0, dtype=np.int64)
        for low in range(0, self.header.rows, CHUNK_ROWS):
            with explain_damage(self.path):
                times = self._columns["open_time"][low : low + CHUNK_ROWS]
            found.append(find_holes(np.concatenate([last, times]), self.header.interval))
            last = times[-1:]
        return np.concatenate(found)

    def marks(self) -> list[int]:
        """Instants that part the time that it spans into pieces of ``CHUNK_ROWS`` bars at most."""
        step = CHUNK_ROWS * self.header.interval
        start, end = self.header.span
        return list(range(floor_to(start, step), end, step))

    def make_check(self) -> ContentCheck:
        """A check of its content, to be fed all its candles in order."""
        kind = ContentDigest if self.segments else WholeDigest
        return ContentCheck(self.path, LAYOUT, self.header.digest, kind(self.header.interval))

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

    def _read_rows(self, low: int, high: int) -> Candles:
        return Candles(
            self.header.interval, {name: data[low:high] for name, data in self._columns.items()}
        )


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
    """
    wanted = set(columns)
    digest = ContentDigest(interval)

    def take(chunk: Candles) -> Candles:
        digest.update(chunk)
        return chunk

    def describe(rows: int) -> dict[str, Any]:
        attributes = {
            "source": source,
            "series": series,
            "interval": int(interval),
            "rows": rows,
            "digest": digest.hexdigest(),
            "revision": revision,
        }
        if get_offset(interval) != get_offset(int(interval)):
            return attributes | {"offset": get_offset(interval)}
        return attributes

    write_columns(
        path,
        LAYOUT,
        [name for name in COLUMNS if name in REQUIRED or name in wanted],
        map(take, chunks),
        describe,
        covered=covered,
        provenance=provenance,
        compress=compress,
        others=lambda: _list_arrays(digest.get_segments()),
    )


def _list_arrays(segments: Segments) -> dict[str, NDArray[Any]]:
    """The datasets in which segments are stored."""
    return {"segments": segments.numbers.astype("<i8"), "digests": segments.digests}


def _choose_layout(path: Path, file: "h5py.File") -> Layout:
    """That of schema 1 if the file says so, or else that of today."""
    says = "schema" in file.attrs and read_attribute(path, file, "schema", int)
    return WHOLE_LAYOUT if says == WHOLE_LAYOUT.schema else LAYOUT


def _find_columns(path: Path, file: "h5py.File", layout: Layout) -> dict[str, Stored]:
    """The columns of an open candle file, all of one length."""
    group = find_group(path, file, layout)
    missing = [name for name in REQUIRED if not is_inside(group, name)]
    if missing:
        raise StoreError(f"{path} lacks the column {', '.join(missing)}: {advise_repair(path)}")
    names = [name for name in COLUMNS if group.id.links.exists(name.encode())]
    return open_columns(path, file, layout, names)


def _read_header(path: Path, file: "h5py.File", columns: Mapping[str, Stored]) -> Header:
    rows = len(columns["open_time"])
    first, last = read_ends(path, LAYOUT, columns["open_time"])
    interval = _read_interval(path, file, first if rows else None)
    return Header(
        source=read_attribute(path, file, "source", str),
        series=read_attribute(path, file, "series", str),
        interval=interval,
        columns=tuple(columns),
        rows=rows,
        span=(first, last + interval) if rows else (0, 0),
        covered=read_covered(path, file),
        digest=read_attribute(path, file, "digest", str),
        revision=read_attribute(path, file, "revision", str),
        provenance=read_provenance(path, file),
    )


def _read_segments(path: Path, file: "h5py.File", header: Header) -> Segments:
    """The segments of the content digest, of which the digest that the file says is made.

    Raises:
        StoreError: if it is not.
    """
    numbers, digests = Stored(path, file, "segments"), Stored(path, file, "digests")
    shape = (len(numbers), len(COLUMNS), SIZE)
    kinds = (numbers.dtype, digests.dtype) == (np.dtype("<i8"), np.dtype("u1"))
    if numbers.shape[1:] or digests.shape != shape or not kinds:
        raise StoreError(f"{path}: 'digests' holds no digests: {advise_repair(path)}")
    segments = Segments(
        header.interval,
        np.concatenate([np.zeros(0, np.int64), *numbers.read_small()]),
        np.concatenate([np.zeros((0, *shape[1:]), np.uint8), *digests.read_small()]),
    )
    rising = (np.diff(segments.numbers) > 0).all()
    if not rising or segments.hexdigest() != header.digest:
        raise StoreError(f"{path}: its digest is not that of its segments: {advise_repair(path)}")
    return segments


def _read_interval(path: Path, file: "h5py.File", first: int | None) -> Interval:
    """The interval with its grid; the weeks of version 0.1 began on Thursdays, and say nothing."""
    seconds: int = read_attribute(path, file, "interval", int)
    if not 1 <= seconds <= LONGEST_DURATION:
        raise StoreError(f"{path}: interval is {seconds}: {advise_repair(path)}")
    if "offset" in file.attrs:
        return Interval(seconds, read_attribute(path, file, "offset", int))
    return Interval(seconds, first if seconds % WEEK == 0 else None)
