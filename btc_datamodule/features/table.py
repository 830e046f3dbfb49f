"""The feature file: features of every row of the regular grid, ready to be memory-mapped.

Owns the layout, the memory map and the digest of ``features-<key>.h5``; how one is built is told
in ``build``. It is disposable, as it can always be built again.

Layout, schema 4 (all datasets contiguous and unfiltered, little-endian)::

    /x               (T, F) float32   features; 0 where the row was not observed
    /observed        (T,)   uint8     1 where the bar was observed and every feature has a value
    /<column>        (T,)   float64   open, high, low, close, volume, for targets; NaN in outages
    /holes           (n, 2) int64     runs of rows for which there is no candle
    /unobserved      (m, 2) int64     runs of rows where ``observed`` is 0
    /segment_count   (s,)   int64     observed rows in each segment
    /segment_mean    (s, F) float64   mean of each feature over the observed rows of a segment
    /segment_squares (s, F) float64   sum of the squared deviations from that mean
    /segment_digest  (s, 7, 32) uint8 SHA-256 of the bytes of x, observed, open, ... volume
    attributes       schema, key, candles (digest of the candle file), first, interval, features,
                     warm_up, present, max_fill, digest (see ``combine_digests``)

What is known of segments spares reading them: statistics and the digest of any run of rows are made
of the segments that lie inside it and of the bytes at its two ends (``fitted``). Segments are cut
by the clock (``split_segments``): no candle that is added, older or newer, moves their edges.

A ``Table`` holds a path and what the file says about itself, never a handle: it can be pickled,
forked and spawned. Each process maps the bytes on first use.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs, count_rows
from btc_datamodule.candles.timeline import Interval, Span, format_interval, format_span
from btc_datamodule.checks import shorten
from btc_datamodule.disk.hdf5 import (
    check_schema,
    explain_damage,
    find_dataset,
    open_hdf5,
    read_attribute,
)
from btc_datamodule.errors import StoreError
from btc_datamodule.features.grid import find_outages
from btc_datamodule.features.moments import Moments

if TYPE_CHECKING:
    import h5py

SCHEMA = 4
SEGMENT_ROWS = 1 << 18
"""Rows of a segment: built at once, with moments and a digest of their own."""

BAR_COLUMNS = ("open", "high", "low", "close", "volume")
SINGLE_COLUMNS = ("observed", *BAR_COLUMNS)
READ_AHEAD_BYTES = 1 << 17
"""Of each request: the kernel reads no more than its read-ahead window at once."""

DTYPES = {"x": "<f4", "observed": "u1", **dict.fromkeys(BAR_COLUMNS, "<f8")}
"""Type of each array with a row per bar."""

SEGMENT_DTYPES = {
    **{"segment_count": "<i8", "segment_mean": "<f8", "segment_squares": "<f8"},
    "segment_digest": "u1",
}
"""Type of each array with an item per segment."""


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """A feature file as it was when it was opened.

    Attributes:
        path: the file.
        key: see ``build.Recipe.compute_key``.
        first: open time of row 0, epoch seconds UTC.
        interval: seconds, and the grid, which row 0 is on.
        rows: T.
        features: names of the columns of ``x``.
        warm_up: rows at the start whose features lack history.
        holes: runs of rows whose bars the candle file does not have.
        max_fill: rows of each hole that are filled, from its first; the others are an outage.
        unobserved: runs of rows where ``observed`` is 0.
        present: rows whose bar the candle file has.
        moments: of the observed rows of ``x`` in each segment.
        digests: (s, 7, 32) uint8, SHA-256 of each segment of the arrays of ``DTYPES``.
    """

    path: Path
    key: str
    first: int
    interval: Interval
    rows: int
    features: tuple[str, ...]
    warm_up: int
    holes: Runs
    max_fill: int
    unobserved: Runs
    present: int
    moments: tuple[Moments, ...]
    digests: NDArray[np.uint8]
    offsets: dict[str, int]
    _maps: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        absent = self.rows - self.present
        return (
            f"Table({str(self.path)!r}: {self.rows:,} rows of {format_interval(self.interval)}, "
            f"{format_span(self.span)}, {absent:,} absent, holes: {len(self.holes):,}; "
            f"{len(self.features):,} features: {shorten(self.features)})"
        )

    @classmethod
    def open(cls, path: Path) -> "Table":
        """Open a feature file: read its attributes, its small datasets and where its arrays lie.

        Raises:
            StoreError: if it is missing, not HDF5, or no feature file of this schema.
        """
        with open_hdf5(path) as file, explain_damage(path):
            _mark_used(path)
            check_schema(path, file, SCHEMA, "feature file")
            features = tuple(json.loads(read_attribute(path, file, "features", str)))
            x = find_dataset(path, file, "x")
            rows = int(x.shape[0])
            shapes = {"x": (rows, len(features)), **dict.fromkeys(SINGLE_COLUMNS, (rows,))}
            offsets = {}
            for name, shape in shapes.items():
                data = find_dataset(path, file, name)
                dtype = np.dtype(DTYPES[name])
                if data.shape != shape or data.dtype != dtype or data.chunks is not None:
                    raise StoreError(
                        f"{path}: {name!r} is not a contiguous {shape} array of {dtype.name}: "
                        "delete the file and run `btc-datamodule prepare`"
                    )
                offsets[name] = int(data.id.get_offset())
            first = read_attribute(path, file, "first", int)
            interval = Interval(read_attribute(path, file, "interval", int), first)
            count, mean, squares, digests = _read_segments(
                path, file, len(list(split_segments(first, interval, 0, rows))), len(features)
            )
            return cls(
                path=path,
                features=features,
                rows=rows,
                offsets=offsets,
                moments=tuple(map(Moments, count.tolist(), mean, squares)),
                digests=digests,
                holes=find_dataset(path, file, "holes")[()],
                max_fill=read_attribute(path, file, "max_fill", int),
                unobserved=find_dataset(path, file, "unobserved")[()],
                key=read_attribute(path, file, "key", str),
                first=first,
                interval=interval,
                warm_up=read_attribute(path, file, "warm_up", int),
                present=read_attribute(path, file, "present", int),
            )

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Table.open, (self.path,)

    def array(self, name: str) -> NDArray[Any]:
        """One of the arrays of ``DTYPES``, mapped read-only."""
        shape = (self.rows, len(self.features)) if name == "x" else (self.rows,)
        mapped: NDArray[Any] = self._map(name, shape)
        return mapped

    @property
    def x(self) -> NDArray[np.float32]:
        """(T, F) float32 features, mapped read-only."""
        return self.array("x")

    @property
    def observed(self) -> NDArray[np.uint8]:
        """(T,) uint8, 1 where observed, mapped read-only."""
        return self.array("observed")

    def bars(self, column: str) -> NDArray[np.float64]:
        """(T,) float64 of one of ``BAR_COLUMNS``, mapped read-only."""
        return self.array(column)

    def segments(self, low: int, high: int) -> Iterator[slice]:
        """Rows [low, high) cut where segments begin: whole ones, and a part of one at each end."""
        return split_segments(self.first, self.interval, low, high)

    def observed_rows(self, rows: slice) -> NDArray[np.float32]:
        """(n, F) float32: the observed rows among ``rows`` of ``x``."""
        values: NDArray[np.float32] = self.x[rows][self.observed[rows].view(np.bool_)]
        return values

    def get_moments(self, rows: slice) -> Moments:
        """Moments of the observed rows in a slice from ``segments``; part of one is read."""
        number = self._find_segment(rows)
        return Moments.of(self.observed_rows(rows)) if number is None else self.moments[number]

    def get_digest(self, name: str, rows: slice) -> bytes:
        """SHA-256 of an array in a slice from ``segments``; part of one is read."""
        number = self._find_segment(rows)
        if number is None:
            return hash_array(self.array(name)[rows])
        known: bytes = self.digests[number, list(DTYPES).index(name)].tobytes()
        return known

    def _find_segment(self, rows: slice) -> int | None:
        """The number of the segment that has exactly these rows; None if there is none."""
        before = _count_rows_before(self.first, self.interval)
        number, rest = divmod(rows.start + before, SEGMENT_ROWS)
        return number if rest == 0 and rows.stop - rows.start == SEGMENT_ROWS else None

    def read_ahead(self, low: int, high: int, names: Iterable[str]) -> None:
        """Ask the system to read rows [low, high) of some arrays, without waiting for them."""
        if not hasattr(os, "posix_fadvise"):  # macOS, Windows: they are read when they are used
            return
        low, high = max(low, 0), min(high, self.rows)
        file = os.open(self.path, os.O_RDONLY)
        try:
            for name in names:
                width = np.dtype(DTYPES[name]).itemsize * (len(self.features) if name == "x" else 1)
                start, end = (self.offsets[name] + row * width for row in (low, high))
                for at in range(start, end, READ_AHEAD_BYTES):
                    size = min(READ_AHEAD_BYTES, end - at)
                    os.posix_fadvise(file, at, size, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)

    @property
    def span(self) -> Span:
        """From the first bar's opening to the last bar's close."""
        return self.first, self.find_time(self.rows)

    @cached_property
    def outages(self) -> Runs:
        """Runs of rows of which no bar is known: NaN in the columns of bars."""
        return find_outages(self.holes, self.max_fill)

    @property
    def filled(self) -> int:
        """Rows without a candle that are filled as time without trades."""
        return count_rows(self.holes) - count_rows(self.outages)

    def find_present(self, row: int) -> int:
        """The first row at or after ``row`` whose bar the candle file has, or one past the end."""
        hole = int(np.searchsorted(self.holes[:, 0], row, side="right")) - 1
        return max(row, int(self.holes[hole, 1])) if hole >= 0 else row

    def find_row(self, instant: int) -> int:
        """The first row that opens at or after an instant; may lie outside the table."""
        return -((self.first - instant) // self.interval)

    def find_time(self, row: int) -> int:
        """Open time of a row, epoch seconds UTC."""
        return self.first + row * self.interval

    def _map(self, name: str, shape: tuple[int, ...]) -> Any:
        # A fork inherits this object, and the mapping with it: every process makes its own.
        if self._maps.get("process") != os.getpid():
            self._maps.clear()
            self._maps["process"] = os.getpid()
        if name not in self._maps:
            self._maps[name] = np.memmap(self.path, DTYPES[name], "r", self.offsets[name], shape)
        return self._maps[name]


def locate_table(candle_path: Path, key: str) -> Path:
    """Where the feature file with a key lies."""
    return candle_path.with_name(f"features-{key}.h5")


def split_segments(first: int, interval: int, low: int, high: int) -> Iterator[slice]:
    """Rows [low, high) of a grid in segments of ``SEGMENT_ROWS``, fewer at the two ends.

    A segment begins with each bar whose number since the epoch is a multiple of ``SEGMENT_ROWS``.

    Args:
        first: open time of row 0.
        interval: seconds.
        low: first row.
        high: row past the last.
    """
    before = _count_rows_before(first, interval)
    while low < high:
        end = min(high, low + SEGMENT_ROWS - (low + before) % SEGMENT_ROWS)
        yield slice(low, end)
        low = end


def _count_rows_before(first: int, interval: int) -> int:
    """Rows of the first segment that lie before row 0."""
    return first // interval % SEGMENT_ROWS


def hash_array(values: NDArray[Any]) -> bytes:
    """SHA-256 of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()


def combine_digests(
    segments: NDArray[np.uint8],
    shape: tuple[int, ...],
    small: Mapping[str, NDArray[Any]],
    attributes: Mapping[str, Any],
) -> str:
    """The digest of a whole feature file, made of the digests of its segments.

    Args:
        segments: (s, 7, 32) SHA-256 of each segment of the arrays of ``DTYPES``.
        shape: (T, F), that of ``x``.
        small: the other datasets, which count with all their bytes.
        attributes: of the file; ``digest`` itself does not count.

    Returns:
        SHA-256 as a hexadecimal text.
    """
    digest = hashlib.sha256(f"{shape}".encode())
    for number, (name, code) in enumerate(DTYPES.items()):
        digest.update(f"{name} {code}".encode())
        digest.update(segments[:, number].tobytes())
    for name in sorted(small):
        digest.update(f"{name} {small[name].shape} {small[name].dtype.str}".encode())
        digest.update(small[name].tobytes())
    for name in sorted(attributes.keys() - {"digest"}):
        digest.update(f"{name} {attributes[name]}".encode())
    return digest.hexdigest()


def compute_digest(path: Path, file: "h5py.File") -> str:
    """The digest of an open feature file from every byte in it, read a segment at a time."""
    data = {name: find_dataset(path, file, name) for name in DTYPES}
    first, interval = (read_attribute(path, file, name, int) for name in ("first", "interval"))
    digests = [
        [hash_array(dataset[rows]) for dataset in data.values()]
        for rows in split_segments(first, interval, 0, data["x"].shape[0])
    ]
    small = (*SEGMENT_DTYPES, "holes", "unobserved")
    return combine_digests(
        stack_digests(digests),
        data["x"].shape,
        {name: find_dataset(path, file, name)[()] for name in small},
        file.attrs,
    )


def stack_digests(digests: Sequence[Sequence[bytes]]) -> NDArray[np.uint8]:
    """(s, 7, 32) uint8 of the SHA-256 of each segment of the arrays of ``DTYPES``."""
    joined = b"".join(each for segment in digests for each in segment)
    return np.frombuffer(joined, "u1").reshape(len(digests), len(DTYPES), -1)


def is_outdated(path: Path) -> bool:
    """Whether a file is a feature file of an earlier schema: whole, but of no use any more."""
    with suppress(StoreError), open_hdf5(path) as file, explain_damage(path):
        schema = file.attrs.get("schema")
        return not np.ndim(schema) and schema in range(1, SCHEMA)
    return False


def _read_segments(
    path: Path, file: "h5py.File", n_segments: int, n_features: int
) -> list[NDArray[Any]]:
    """The checked arrays of ``SEGMENT_DTYPES``."""
    items = ((), (n_features,), (n_features,), (len(DTYPES), 32))
    found = []
    for (name, code), item in zip(SEGMENT_DTYPES.items(), items, strict=True):
        data, dtype, shape = find_dataset(path, file, name), np.dtype(code), (n_segments, *item)
        if data.shape != shape or data.dtype != dtype:
            raise StoreError(
                f"{path}: {name!r} is not a {shape} array of {dtype.name}: delete the file and "
                "run `btc-datamodule prepare`"
            )
        found.append(data[()])
    return found


def _mark_used(path: Path) -> None:
    """Set the time of last access, which file systems do not keep reliably by themselves."""
    with suppress(OSError):  # on a read-only share nothing is ever removed either
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
