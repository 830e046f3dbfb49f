"""The candle file: candles on disk as HDF5, the truth that everything else is made from.

Owns the layout, the atomic write and the checked read of ``candles.h5``. Receives ``Candles``,
gives back ``Candles``; knows nothing of the network or torch. ``update`` tells how a file comes to
hold the candles of a source.

Layout, schema 1::

    /candles/<column>   (N,) int64 or float64, chunked, gzip, Fletcher-32 on each chunk; columns
                        in ``SHUFFLED`` with their bytes shuffled first
    /covered            (n, 2) int64: spans asked for and answered; a bar absent there is a hole
    /provenance         (m,) JSON texts: which origin gave which span, when
    attributes          schema, source, series, interval, rows, digest, revision; offset where
                        bars do not open on the usual grid

A write goes through ``disk.hdf5``: a reader sees the old content or the new, never a half.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
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
    format_instant,
    format_interval,
    get_offset,
)
from btc_datamodule.disk.hdf5 import (
    advise_repair,
    check_schema,
    explain_damage,
    is_inside,
    open_hdf5,
    read_attribute,
    replace_hdf5,
)
from btc_datamodule.disk.stored import Stored
from btc_datamodule.errors import StoreError
from btc_datamodule.public import public

if TYPE_CHECKING:
    import h5py

SCHEMA = 1
HDF5_CHUNK_ROWS = 1 << 15
"""Rows that HDF5 compresses, checks and reads as one."""

CHUNK_ROWS = 1 << 18
"""Rows that are read from a file, or written to one, at once: 16 MiB of eight columns."""

MOST_SPANS = 100_000
"""Covered spans of a file. There is one for each stretch that a source has answered for, few in
all; each costs time and memory in every process that opens the file."""

TIMES: Span = (-2_208_988_800, 7_258_118_400)
"""Instants that candles may open at, 1900 to 2200: two of them a billion years apart would be a
grid without end."""

SHUFFLED = ("open_time", "quote_volume", "trades")
"""Columns whose bytes are shuffled before gzip. Other columns are mostly decimals of few digits,
whose eight bytes come again as a whole: shuffling these too made files 16 to 32 % larger
(``python benchmarks/ingest.py --compression``)."""


@dataclass(frozen=True)
class Provenance:
    """Where the candles of one span came from, and when.

    Attributes:
        origin: a URL, or a file's name.
        span: the half-open span answered, epoch seconds.
        rows: candles in that answer.
        retrieved: ISO 8601 time, UTC.
        checksum: of the bytes that the answer came in; "" where the origin gives none.
    """

    origin: str
    span: Span
    rows: int
    retrieved: str
    checksum: str = ""


@dataclass(frozen=True)
class Header:
    """Everything about a candle file but its candles.

    Attributes:
        source: name of the source.
        series: name of the series under the source.
        interval: seconds, and the grid.
        columns: stored columns, in order.
        rows: number of candles.
        span: from the first bar's opening to the last bar's close; (0, 0) if empty.
        covered: spans that the source has answered for, sorted and disjoint.
        digest: SHA-256 of the content, see ``candles.series.ContentDigest``.
        revision: ``Source.revision`` at the last update, "" if it has none.
        provenance: in order of retrieval.
    """

    source: str
    series: str
    interval: Interval
    columns: tuple[str, ...]
    rows: int
    span: Span
    covered: tuple[Span, ...]
    digest: str
    revision: str
    provenance: tuple[Provenance, ...]


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
        columns = {name: np.empty(header.rows, _choose_dtype(name)) for name in header.columns}
        for chunk in reader.chunks():  # what is no candle ends it before memory is full
            for name, column in columns.items():
                column[low : low + len(chunk)] = chunk[name]
            low += len(chunk)
            digest.update(chunk)
        check_digest(path, header, digest)
        return Candles(header.interval, columns)


def check_digest(path: Path, header: Header, digest: ContentDigest) -> None:
    """Raise ``StoreError`` unless the digest of all candles of a file is the one it says."""
    if digest.hexdigest() != header.digest:
        raise StoreError(
            f"{path}: the candles are not those that were written: {advise_repair(path)}"
        )


def read_header(path: Path) -> Header:
    """The header of a candle file."""
    with CandleReader(path) as reader:
        return reader.header


def check_series(path: Path, header: Header, source: str, series: str, interval: int) -> None:
    """Raise ``StoreError`` unless the file holds the candles that are meant."""
    holds = (header.source, header.series, header.interval)
    if holds != (source, series, interval):
        raise StoreError(
            f"{path} holds {header.source:.80} {header.series:.80} "
            f"{format_interval(header.interval)} "
            f"bars, not {source} {series} {format_interval(interval)}: put it back where it "
            "belongs, and run `btc-datamodule prepare`"
        )


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
    names = [name for name in COLUMNS if name in REQUIRED or name in wanted]
    digest = ContentDigest(interval)
    rows = 0
    with replace_hdf5(path) as (file, check):
        group = file.create_group("candles")
        data = {
            name: group.create_dataset(
                name,
                shape=(0,),
                maxshape=(None,),
                chunks=(HDF5_CHUNK_ROWS,),
                dtype=_choose_dtype(name),
                shuffle=compress and name in SHUFFLED,
                compression="gzip" if compress else None,
                compression_opts=4 if compress else None,
                fletcher32=True,
            )
            for name in names
        }
        for chunk in chunks:
            for name, dataset in data.items():
                dataset.resize((rows + len(chunk),))
                dataset[rows:] = chunk[name]
            digest.update(chunk)
            rows += len(chunk)
            check()
        spans = np.array(list(covered), dtype="<i8").reshape(-1, 2)
        if len(spans) > MOST_SPANS:
            raise StoreError(f"{path} cannot be written: {_describe_spans(len(spans))}")
        records = [json.dumps(asdict(record)).encode() for record in provenance]
        texts = np.array(records, dtype=f"S{max([1, *map(len, records)])}")
        for name, values in (("covered", spans), ("provenance", texts)):
            shape = (None, *values.shape[1:])
            file.create_dataset(name, data=values, maxshape=shape, chunks=True, fletcher32=True)
        file.attrs.update(
            {
                "schema": SCHEMA,
                "source": source,
                "series": series,
                "interval": int(interval),
                "rows": rows,
                "digest": digest.hexdigest(),
                "revision": revision,
            }
        )
        if get_offset(interval) != get_offset(int(interval)):
            file.attrs["offset"] = get_offset(interval)


def _find_columns(path: Path, file: "h5py.File") -> dict[str, Stored]:
    """The columns of an open candle file, all of one length."""
    import h5py

    check_schema(path, file, SCHEMA, "candle file")
    group = file["candles"] if is_inside(file, "candles") else None
    if not isinstance(group, h5py.Group):
        raise StoreError(f"{path} has no group 'candles': {advise_repair(path)}")
    missing = [name for name in REQUIRED if not is_inside(group, name)]
    if missing:
        raise StoreError(f"{path} lacks the column {', '.join(missing)}: {advise_repair(path)}")
    rows: int = read_attribute(path, file, "rows", int)
    columns = {
        name: Stored(path, file, f"candles/{name}")
        for name in COLUMNS
        if group.id.links.exists(name.encode())
    }
    for name, dataset in columns.items():
        if dataset.shape != (rows,) or dataset.dtype != _choose_dtype(name):
            raise StoreError(
                f"{path}: column {name!r} does not hold {rows} numbers of type "
                f"{_choose_dtype(name).name}: {advise_repair(path)}"
            )
    return columns


def _read_header(path: Path, file: "h5py.File", columns: Mapping[str, Stored]) -> Header:
    times, rows = columns["open_time"], len(columns["open_time"])
    first, last = (int(times[0]), int(times[-1])) if rows else (0, 0)
    interval = _read_interval(path, file, first if rows else None)
    if not TIMES[0] <= first <= last < TIMES[1]:
        raise StoreError(
            f"{path} is damaged: {advise_repair(path)} (candles from {format_instant(first)} to "
            f"{format_instant(last)})"
        )
    return Header(
        source=read_attribute(path, file, "source", str),
        series=read_attribute(path, file, "series", str),
        interval=interval,
        columns=tuple(columns),
        rows=rows,
        span=(first, last + interval) if rows else (0, 0),
        covered=_read_covered(path, file),
        digest=read_attribute(path, file, "digest", str),
        revision=read_attribute(path, file, "revision", str),
        provenance=_read_provenance(path, file),
    )


def _read_interval(path: Path, file: "h5py.File", first: int | None) -> Interval:
    """The interval with its grid; the weeks of version 0.1 began on Thursdays, and say nothing."""
    seconds: int = read_attribute(path, file, "interval", int)
    if not 1 <= seconds <= LONGEST_DURATION:
        raise StoreError(f"{path}: interval is {seconds}: {advise_repair(path)}")
    if "offset" in file.attrs:
        return Interval(seconds, read_attribute(path, file, "offset", int))
    return Interval(seconds, first if seconds % WEEK == 0 else None)


def _read_covered(path: Path, file: "h5py.File") -> tuple[Span, ...]:
    stored = Stored(path, file, "covered")
    if stored.dtype != np.dtype("<i8") or stored.shape[1:] != (2,):
        raise StoreError(f"{path}: 'covered' holds no spans: {advise_repair(path)}")
    if len(stored) > MOST_SPANS:
        raise StoreError(
            f"{path}: 'covered' has {_describe_spans(len(stored))}: {advise_repair(path)}"
        )
    spans: list[Span] = []
    for piece in stored.read_small():
        if (piece[:, 0] >= piece[:, 1]).any():
            raise StoreError(
                f"{path}: 'covered' has a span that ends before it begins: {advise_repair(path)}"
            )
        spans += map(tuple, piece.tolist())
    return tuple(spans)


def _describe_spans(number: int) -> str:
    return f"{number:,} spans asked for and answered, of which {MOST_SPANS:,} may be"


def _read_provenance(path: Path, file: "h5py.File") -> tuple[Provenance, ...]:
    stored = Stored(path, file, "provenance")
    if stored.dtype.kind != "S" or len(stored.shape) != 1:
        raise StoreError(f"{path}: 'provenance' holds no texts: {advise_repair(path)}")
    records: list[Provenance] = []
    for piece in stored.read_small():
        for record in map(json.loads, piece):
            made = Provenance(**{**record, "span": tuple(record["span"])})
            numbers, texts = (*made.span, made.rows), (made.origin, made.retrieved, made.checksum)
            kinds = {*map(type, numbers)}, {*map(type, texts)}
            if len(made.span) != 2 or kinds != ({int}, {str}):
                raise StoreError(
                    f"{path}: 'provenance' says of record {len(records)} what cannot be: "
                    f"{advise_repair(path)}"
                )
            records.append(made)
    return tuple(records)


def _choose_dtype(column: str) -> "np.dtype[Any]":
    return np.dtype("<i8" if column == "open_time" else "<f8")
