"""What the files of series have in common: columns in one group, spans answered for, provenance.

``candle_file`` and ``record_file`` are the two kinds. Owns what both are written and read by;
knows nothing of what a row means. What a file says of itself is not believed: sizes, names and
kinds are looked at before anything is read.

Layout::

    /<group>/<column>   (N,) int64 or float64, chunked, gzip, Fletcher-32 on each chunk; some
                        columns with their bytes shuffled first
    /covered            (n, 2) int64: spans asked for and answered; what is absent there is a hole
    /provenance         (m,) JSON texts: which origin gave which span, when
    attributes          schema, rows, and those of the kind

A write goes through ``disk.hdf5``: a reader sees the old content or the new, never a half.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import (
    TIMES,
    Interval,
    Span,
    format_instant,
    format_interval,
)
from btc_datamodule.disk.chunks import Columns as Rows
from btc_datamodule.disk.chunks import write_packed
from btc_datamodule.disk.hdf5 import (
    advise_repair,
    check_schema,
    is_inside,
    read_attribute,
    replace_hdf5,
)
from btc_datamodule.disk.stored import Stored
from btc_datamodule.errors import StoreError

if TYPE_CHECKING:
    import h5py

HDF5_CHUNK_ROWS = 1 << 15
"""Rows that HDF5 compresses, checks and reads as one."""

CHUNK_ROWS = 1 << 18
"""Rows that are read from a file, or written to one, at once: 16 MiB of eight columns."""

MOST_SPANS = 100_000
"""Covered spans of a file. There is one for each stretch that a source has answered for, few in
all; each costs time and memory in every process that opens the file."""


@dataclass(frozen=True)
class Provenance:
    """Where the rows of one span came from, and when.

    Attributes:
        origin: a URL, or a file's name.
        span: the half-open span answered, epoch seconds.
        rows: candles or records in that answer.
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
        digest: SHA-256 of the content, see ``candles.digest``.
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


@dataclass(frozen=True)
class Layout:
    """How the rows of a kind of file are laid out.

    Attributes:
        kind: of file, for errors: "candle file".
        schema: version of the layout.
        group: that the columns are in.
        rows: what a row is called, of several: "candles".
        instants: columns that are int64, epoch seconds UTC, the first of them in order; all others
            are float64.
        shuffled: columns whose bytes are shuffled before gzip.
    """

    kind: str
    schema: int
    group: str
    rows: str
    instants: tuple[str, ...]
    shuffled: tuple[str, ...]

    def choose_dtype(self, column: str) -> "np.dtype[Any]":
        """The type of a column."""
        return np.dtype("<i8" if column in self.instants else "<f8")


def write_columns(
    path: Path,
    layout: Layout,
    names: Iterable[str],
    chunks: Iterable[Rows],
    describe: Callable[[int], Mapping[str, Any]],
    *,
    covered: Iterable[Span],
    provenance: Iterable[Provenance],
    compress: bool,
    others: Callable[[], Mapping[str, NDArray[Any]]] = dict,
    most_rows: int = HDF5_CHUNK_ROWS,
) -> None:
    """Write a file atomically.

    Args:
        path: where it shall be; a file there is replaced at the very end.
        layout: of its columns.
        names: of its columns.
        chunks: rows in order, in chunks of any size.
        describe: gives the attributes beside the schema, of the number of rows, once all chunks
            are written.
        covered: spans answered for.
        provenance: in order of retrieval.
        compress: gzip; without it, faster and larger.
        others: gives datasets beside the columns, once all chunks are written.
        most_rows: of all chunks together; a chunk of HDF5 that is not compressed takes its whole
            size on disk, however few rows it has.
    """
    with replace_hdf5(path) as (file, check):
        group = file.create_group(layout.group)
        data = {
            name: group.create_dataset(
                name,
                shape=(0,),
                maxshape=(None,),
                chunks=(min(max(most_rows, 1), HDF5_CHUNK_ROWS),),
                dtype=layout.choose_dtype(name),
                shuffle=compress and name in layout.shuffled,
                compression="gzip" if compress else None,
                compression_opts=4 if compress else None,
                fletcher32=True,
            )
            for name in names
        }
        rows = (write_packed if compress else write_plain)(data, chunks, check)
        spans = np.array(list(covered), dtype="<i8").reshape(-1, 2)
        if len(spans) > MOST_SPANS:
            raise StoreError(f"{path} cannot be written: {_describe_spans(len(spans))}")
        records = [json.dumps(asdict(record)).encode() for record in provenance]
        texts = np.array(records, dtype=f"S{max([1, *map(len, records)])}")
        for name, values in {"covered": spans, "provenance": texts, **others()}.items():
            shape = (None, *values.shape[1:])
            file.create_dataset(name, data=values, maxshape=shape, chunks=True, fletcher32=True)
        file.attrs.update({"schema": layout.schema, **describe(rows)})


def write_plain(
    datasets: "Mapping[str, h5py.Dataset]", chunks: Iterable[Rows], check: Callable[[], None]
) -> int:
    """Fill empty datasets by HDF5 itself; give the number of rows."""
    rows = 0
    for chunk in chunks:
        for name, dataset in datasets.items():
            dataset.resize((rows + len(chunk),))
            dataset[rows:] = chunk[name]
        rows += len(chunk)
        check()
    return rows


def find_group(path: Path, file: "h5py.File", layout: Layout) -> "h5py.Group":
    """The group of the columns of an open file, which lies in the file itself.

    Raises:
        StoreError: if there is none, or the file is of another kind.
    """
    import h5py

    check_schema(path, file, layout.schema, layout.kind)
    group = file[layout.group] if is_inside(file, layout.group) else None
    if not isinstance(group, h5py.Group):
        raise StoreError(f"{path} has no group {layout.group!r}: {advise_repair(path)}")
    return group


def open_columns(
    path: Path, file: "h5py.File", layout: Layout, names: Iterable[str]
) -> dict[str, Stored]:
    """The columns of an open file, all of the length and the type that they must have."""
    rows: int = read_attribute(path, file, "rows", int)
    columns = {name: Stored(path, file, f"{layout.group}/{name}") for name in names}
    for name, dataset in columns.items():
        if dataset.shape != (rows,) or dataset.dtype != layout.choose_dtype(name):
            raise StoreError(
                f"{path}: column {name!r} does not hold {rows} numbers of type "
                f"{layout.choose_dtype(name).name}: {advise_repair(path)}"
            )
    return columns


def read_ends(path: Path, layout: Layout, times: Stored) -> Span:
    """The first and the last of the times in order; (0, 0) if there are none.

    Raises:
        StoreError: if one is not among ``TIMES``.
    """
    first, last = (int(times[0]), int(times[-1])) if len(times) else (0, 0)
    if not TIMES[0] <= first <= last < TIMES[1]:
        raise StoreError(
            f"{path} is damaged: {advise_repair(path)} ({layout.rows} from {format_instant(first)} "
            f"to {format_instant(last)})"
        )
    return first, last


def read_covered(path: Path, file: "h5py.File") -> tuple[Span, ...]:
    """The spans that a source has answered for."""
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


def read_provenance(path: Path, file: "h5py.File") -> tuple[Provenance, ...]:
    """Where the rows came from."""
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


def check_identity(
    path: Path,
    header: Header,
    wanted: tuple[str, str, int | None],
    rows: str,
    advice: str = "put it back where it belongs",
) -> None:
    """Raise ``StoreError`` unless a file holds what is meant.

    Args:
        path: the file.
        header: of it.
        wanted: name of a source, name of a series, interval; None where it has none.
        rows: what its rows are called.
        advice: what to do with a file that is not meant.
    """
    if (header.source, header.series, header.interval) != wanted:
        found = (f"{header.source:.80}", f"{header.series:.80}", header.interval)
        holds, is_not = (
            f"{source} {series}{f' {format_interval(interval)}' if interval else ''}"
            for source, series, interval in (found, wanted)
        )
        raise StoreError(
            f"{path} holds {holds} {rows}, not {is_not}: {advice}, and run `btc-datamodule prepare`"
        )


class Digest(Protocol):
    """A digest of rows that is fed in chunks of any size."""

    def update(self, rows: Any, /) -> None:
        """Take the next rows in order."""
        ...

    def hexdigest(self) -> str:
        """The digest of all rows so far."""
        ...


class Check(Protocol):
    """A check of the content of a file, fed with all its rows in order."""

    def update(self, rows: Any, /) -> None:
        """Take the next rows in order."""
        ...

    def require(self) -> None:
        """Raise ``StoreError`` unless the rows are those that were written."""
        ...


@dataclass(frozen=True)
class ContentCheck:
    """A check that a file holds the rows that were written to it, fed with all of them.

    Attributes:
        path: the file.
        layout: of it.
        said: the digest that the file says it has.
        digest: of the rows so far.
    """

    path: Path
    layout: Layout
    said: str
    digest: Digest

    def update(self, rows: Any) -> None:
        """Take the next rows in order."""
        self.digest.update(rows)

    def require(self) -> None:
        """Raise ``StoreError`` unless the digest of all rows is the one that the file says."""
        if self.digest.hexdigest() != self.said:
            raise StoreError(
                f"{self.path}: the {self.layout.rows} are not those that were written: "
                f"{advise_repair(self.path)}"
            )
