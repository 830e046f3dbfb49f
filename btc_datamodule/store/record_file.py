"""The file of records: what is known beside the candles, on disk as HDF5.

Owns what is in ``records.h5``, its atomic write and its checked read, as ``candle_file`` does for
candles. Receives ``RecordSet``s, gives back ``RecordSet``s.

Layout, schema 1::

    /records/time       (N,) int64, epoch seconds UTC: what a record is about; never falling
    /records/known_at   (N,) int64: from when on it could be known; rising among those of one time
    /records/<column>   (N,) float64; NaN: no value
    /covered            spans of the times of records
    /provenance
    attributes          schema, source, series, interval (0 if irregular), rows, digest, revision;
                        columns (JSON: names of the values in order); longest_delay, pending;
                        offset where the interval is not on the usual grid
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from btc_datamodule.candles.records import (
    INSTANTS,
    RecordDigest,
    RecordSet,
    check_grid,
    is_column_name,
)
from btc_datamodule.candles.timeline import LONGEST_DURATION, Interval, Span, get_offset
from btc_datamodule.disk.hdf5 import advise_repair, explain_damage, open_hdf5, read_attribute
from btc_datamodule.disk.stored import Stored
from btc_datamodule.errors import StoreError
from btc_datamodule.store.series_file import (
    CHUNK_ROWS,
    HDF5_CHUNK_ROWS,
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

SCHEMA = 1

LAYOUT = Layout("file of records", SCHEMA, "records", "records", INSTANTS, INSTANTS)


@dataclass(frozen=True)
class RecordHeader(Header):
    """Everything about a file of records but its records: as of candles, but for these.

    Attributes:
        interval: seconds, and the grid; None where records follow none.
        columns: ``INSTANTS``, and the columns of values in order.
        span: from the first time to just past the last; (0, 0) if empty.
        digest: see ``candles.records.RecordDigest``.
        longest_delay: seconds from the time of a record until it was known, at most; 0 if empty.
        pending: when the first of the records becomes known that were left out, as they were not
            known yet when the source was read; 0 for none.
    """

    interval: Interval | None  # type: ignore[assignment]  # of candles there always is one
    longest_delay: int
    pending: int

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the columns of values."""
        return self.columns[len(INSTANTS) :]


class RecordReader:
    """An open file of records, read in chunks. Use as a context manager.

    Raises:
        StoreError: if the file is missing, is not HDF5, or is no file of records of this schema.
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

    def __enter__(self) -> "RecordReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def find(self, time: int) -> int:
        """The number of the first record whose time is ``time`` or later; of rows if none is."""
        with explain_damage(self.path):
            return bisect_left(self._columns["time"], time)

    def rows(self, low: int, high: int) -> RecordSet:
        """Records by their numbers, [low, high), as far as there are any."""
        low, high = (min(max(0, each), self.header.rows) for each in (low, high))
        with explain_damage(self.path):
            columns = {name: data[low : max(low, high)] for name, data in self._columns.items()}
            records = RecordSet(columns)
            if self.header.interval:
                check_grid(records, self.header.interval, "records")
            return records

    def slice(self, start: int, end: int) -> RecordSet:
        """The records whose time is in [start, end)."""
        return self.rows(self.find(start), self.find(end))

    def chunks(self) -> Iterator[RecordSet]:
        """All records in order, ``CHUNK_ROWS`` at a time."""
        for low in range(0, self.header.rows, CHUNK_ROWS):
            yield self.rows(low, low + CHUNK_ROWS)

    def marks(self) -> list[int]:
        """Instants that part the records into pieces of ``CHUNK_ROWS``, or more of one time."""
        with explain_damage(self.path):
            times = self._columns["time"]
            return [int(times[low]) for low in range(0, self.header.rows, CHUNK_ROWS)]

    def make_check(self) -> ContentCheck:
        """A check of its content, to be fed all its records in order."""
        header = self.header
        digest = RecordDigest(header.interval or 0, header.values)
        return ContentCheck(self.path, LAYOUT, header.digest, digest)


def read_records(path: str | Path) -> RecordSet:
    """All records of a file at once.

    Raises:
        StoreError: if the file is missing, damaged, no file of records of this schema, or does
            not hold the records that were written to it.
    """
    path = Path(path)
    with RecordReader(path) as reader, explain_damage(path):
        header, low, check = reader.header, 0, reader.make_check()
        columns = {
            name: np.empty(header.rows, LAYOUT.choose_dtype(name)) for name in header.columns
        }
        for chunk in reader.chunks():  # what is no record ends it before memory is full
            for name, column in columns.items():
                column[low : low + len(chunk)] = chunk[name]
            low += len(chunk)
            check.update(chunk)
        check.require()
        return RecordSet(columns)


def read_record_header(path: Path) -> RecordHeader:
    """The header of a file of records."""
    with RecordReader(path) as reader:
        return reader.header


def check_record_series(
    path: Path, header: RecordHeader, source: str, series: str, interval: int | None
) -> None:
    """Raise ``StoreError`` unless the file holds the records that are meant."""
    check_identity(path, header, (source, series, interval), "records")


def write_record_set(
    path: Path, records: RecordSet, *, source: str, series: str, interval: int | None
) -> None:
    """Write a file of records that nobody was asked for: uncompressed, for a short while."""
    write_records(
        path,
        [records],
        source=source,
        series=series,
        interval=interval,
        columns=records.values,
        covered=[records.span] if len(records) else [],
        revision="",
        provenance=[],
        compress=False,
        most_rows=len(records),
    )


def write_records(
    path: Path,
    chunks: Iterable[RecordSet],
    *,
    source: str,
    series: str,
    interval: int | None,
    columns: Iterable[str],
    covered: Iterable[Span],
    revision: str,
    provenance: Iterable[Provenance],
    pending: int = 0,
    compress: bool = True,
    most_rows: int = HDF5_CHUNK_ROWS,
) -> None:
    """Write a file of records atomically.

    Args:
        path: where it shall be; a file there is replaced at the very end.
        chunks: the records in order, in chunks of any size.
        source: see ``RecordHeader``, as are the arguments that follow.
        series: folder name of the series.
        interval: seconds; None where records follow none.
        columns: names of values in order; NaN where a chunk lacks one.
        covered: spans answered for.
        revision: "" for none.
        provenance: in order of retrieval.
        pending: see ``RecordHeader``.
        compress: gzip; without it, faster and larger.
        most_rows: of all chunks together, if that is known to be few.

    Raises:
        StoreError: if a column cannot be called so, or the file cannot be written.
    """
    values = [name for name in dict.fromkeys(columns) if name not in INSTANTS]
    for name in values:
        if not is_column_name(name):
            raise StoreError(f"{path} cannot be written: no column can be called {name!r:.80}")
    digest = RecordDigest(interval or 0, values)
    longest = 0

    def take(chunk: RecordSet) -> RecordSet:
        nonlocal longest
        digest.update(chunk)
        longest = max(longest, int((chunk.known_at - chunk.time).max(initial=0)))
        return chunk

    def describe(rows: int) -> dict[str, Any]:
        attributes = {
            "source": source,
            "series": series,
            "interval": int(interval or 0),
            "rows": rows,
            "digest": digest.hexdigest(),
            "revision": revision,
            "columns": json.dumps(values),
            "longest_delay": longest,
            "pending": pending,
        }
        if interval and get_offset(interval) != get_offset(int(interval)):
            return attributes | {"offset": get_offset(interval)}
        return attributes

    write_columns(
        path,
        LAYOUT,
        [*INSTANTS, *values],
        map(take, chunks),
        describe,
        covered=covered,
        provenance=provenance,
        compress=compress,
        most_rows=most_rows,
    )


def _find_columns(path: Path, file: "h5py.File") -> dict[str, Stored]:
    """The columns of an open file of records, all of one length."""
    find_group(path, file, LAYOUT)
    names = json.loads(read_attribute(path, file, "columns", str))
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not known or len(set(names)) < len(names) or not all(map(is_column_name, names)):
        raise StoreError(f"{path}: 'columns' is no list of names: {advise_repair(path)}")
    return open_columns(path, file, LAYOUT, (*INSTANTS, *names))


def _read_header(path: Path, file: "h5py.File", columns: Mapping[str, Stored]) -> RecordHeader:
    rows = len(columns["time"])
    first, last = read_ends(path, LAYOUT, columns["time"])
    return RecordHeader(
        source=read_attribute(path, file, "source", str),
        series=read_attribute(path, file, "series", str),
        interval=_read_interval(path, file),
        columns=tuple(columns),
        rows=rows,
        span=(first, last + 1) if rows else (0, 0),
        covered=read_covered(path, file),
        digest=read_attribute(path, file, "digest", str),
        revision=read_attribute(path, file, "revision", str),
        provenance=read_provenance(path, file),
        longest_delay=read_attribute(path, file, "longest_delay", int),
        pending=read_attribute(path, file, "pending", int),
    )


def _read_interval(path: Path, file: "h5py.File") -> Interval | None:
    seconds: int = read_attribute(path, file, "interval", int)
    if not 0 <= seconds <= LONGEST_DURATION:
        raise StoreError(f"{path}: interval is {seconds}: {advise_repair(path)}")
    offset = read_attribute(path, file, "offset", int) if "offset" in file.attrs else None
    return Interval(seconds, offset) if seconds else None
