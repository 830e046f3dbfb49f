"""The candle file: candles on disk as HDF5, the truth that everything else is made from.

Owns what is in ``candles.h5``, its atomic write and its checked read. Receives ``Candles``, gives
back ``Candles``; knows nothing of the network or torch. ``update`` tells how a file comes to hold
the candles of a source, ``series_file`` what it has in common with files of records.

Layout, schema 1::

    /candles/<column>   (N,) int64 or float64; columns in ``SHUFFLED`` with their bytes shuffled
    /covered            a bar absent in a span there is a hole
    /provenance
    attributes          schema, source, series, interval, rows, digest, revision; offset where
                        bars do not open on the usual grid
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import COLUMNS, REQUIRED, Candles, ContentDigest, find_holes
from btc_datamodule.candles.timeline import (
    LONGEST_DURATION,
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
    Header,
    Layout,
    Provenance,
    check_identity,
    check_rows_digest,
    find_group,
    open_columns,
    read_covered,
    read_ends,
    read_provenance,
    write_columns,
)

if TYPE_CHECKING:
    import h5py

SCHEMA = 1

SHUFFLED = ("open_time", "quote_volume", "trades")
"""Columns whose bytes are shuffled before gzip. Other columns are mostly decimals of few digits,
whose eight bytes come again as a whole: shuffling these too made files 16 to 32 % larger
(``python benchmarks/ingest.py --compression``)."""

LAYOUT = Layout("candle file", SCHEMA, "candles", "candles", ("open_time",), SHUFFLED)


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
                self._columns = _find_columns(path, self._file)
                self.header = _read_header(path, self._file, self._columns)
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
        header, low = reader.header, 0
        digest = ContentDigest(header.interval)
        columns = {
            name: np.empty(header.rows, LAYOUT.choose_dtype(name)) for name in header.columns
        }
        for chunk in reader.chunks():  # what is no candle ends it before memory is full
            for name, column in columns.items():
                column[low : low + len(chunk)] = chunk[name]
            low += len(chunk)
            digest.update(chunk)
        check_digest(path, header, digest)
        return Candles(header.interval, columns)


def check_digest(path: Path, header: Header, digest: ContentDigest) -> None:
    """Raise ``StoreError`` unless the digest of all candles of a file is the one it says."""
    check_rows_digest(path, LAYOUT, header.digest, digest.hexdigest())


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
    )


def _find_columns(path: Path, file: "h5py.File") -> dict[str, Stored]:
    """The columns of an open candle file, all of one length."""
    group = find_group(path, file, LAYOUT)
    missing = [name for name in REQUIRED if not is_inside(group, name)]
    if missing:
        raise StoreError(f"{path} lacks the column {', '.join(missing)}: {advise_repair(path)}")
    names = [name for name in COLUMNS if group.id.links.exists(name.encode())]
    return open_columns(path, file, LAYOUT, names)


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


def _read_interval(path: Path, file: "h5py.File", first: int | None) -> Interval:
    """The interval with its grid; the weeks of version 0.1 began on Thursdays, and say nothing."""
    seconds: int = read_attribute(path, file, "interval", int)
    if not 1 <= seconds <= LONGEST_DURATION:
        raise StoreError(f"{path}: interval is {seconds}: {advise_repair(path)}")
    if "offset" in file.attrs:
        return Interval(seconds, read_attribute(path, file, "offset", int))
    return Interval(seconds, first if seconds % WEEK == 0 else None)
