"""The feature file: features of every row of the regular grid, ready to be memory-mapped.

Owns the layout, the memory map and the digest of ``features-<key>.h5``; how one is built is told
in ``build``. It is disposable, as it can always be built again.

Layout, schema 1 (all datasets contiguous and unfiltered, little-endian)::

    /x          (T, F) float32   features; 0 where the row was not observed
    /observed   (T,)   uint8     1 where the bar was observed and every feature has a value
    /<column>   (T,)   float64   open, high, low, close, volume, for targets; NaN in outages
    /outages    (n, 2) int64     runs of rows that were not observed
    /unobserved (m, 2) int64     runs of rows where ``observed`` is 0
    attributes  schema, key, candles (digest of the candle file), first, interval, features,
                warm_up, present, no_trade, holes, digest (of all the above)

A ``Table`` holds a path and what the file says about itself, never a handle: it can be pickled,
forked and spawned. Each process maps the bytes on first use.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import StoreError
from btc_datamodule.grid import Runs
from btc_datamodule.store import (
    BLOCK_ROWS,
    attribute,
    check_schema,
    damage_named,
    open_hdf5,
    plain_dataset,
)
from btc_datamodule.timeline import Span

if TYPE_CHECKING:
    import h5py

SCHEMA = 1
BAR_COLUMNS = ("open", "high", "low", "close", "volume")
SINGLE_COLUMNS = ("observed", *BAR_COLUMNS)
READ_AHEAD_BYTES = 1 << 17
"""Of each request: the kernel reads no more than its read-ahead window at once."""

DTYPES = {"x": "<f4", "observed": "u1", **dict.fromkeys(BAR_COLUMNS, "<f8")}
"""Type of each array with a row per bar."""


@dataclass(frozen=True, eq=False)
class Table:
    """A feature file, as found when it was opened.

    Attributes:
        path: the file.
        key: see ``build.Recipe.key``.
        first: open time of row 0, epoch seconds UTC.
        interval: seconds.
        rows: T.
        features: names of the columns of ``x``.
        warm_up: rows at the start whose features lack history.
        outages: runs of rows whose bars were not observed.
        unobserved: runs of rows where ``observed`` is 0.
        present: rows whose bar the candle file has.
        no_trade: rows filled as bars without trades.
        holes: holes in the candles, of either kind.
    """

    path: Path
    key: str
    first: int
    interval: int
    rows: int
    features: tuple[str, ...]
    warm_up: int
    outages: Runs
    unobserved: Runs
    present: int
    no_trade: int
    holes: int
    offsets: dict[str, int]
    _maps: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def open(cls, path: Path) -> "Table":
        """Read what a feature file says about itself.

        Raises:
            StoreError: if it is missing, not HDF5, or no feature file of this schema.
        """
        with open_hdf5(path) as file, damage_named(path):
            _mark_used(path)
            check_schema(path, file, SCHEMA, "feature file")
            features = tuple(json.loads(attribute(path, file, "features", str)))
            x = plain_dataset(path, file, "x")
            rows = int(x.shape[0])
            shapes = {"x": (rows, len(features)), **dict.fromkeys(SINGLE_COLUMNS, (rows,))}
            offsets = {}
            for name, shape in shapes.items():
                data = plain_dataset(path, file, name)
                dtype = np.dtype(DTYPES[name])
                if data.shape != shape or data.dtype != dtype or data.chunks is not None:
                    raise StoreError(
                        f"{path}: {name!r} is not a contiguous {shape} array of {dtype.name}: "
                        "delete the file and run `btc-datamodule prepare`"
                    )
                offsets[name] = int(data.id.get_offset())
            return cls(
                path=path,
                features=features,
                rows=rows,
                offsets=offsets,
                outages=plain_dataset(path, file, "outages")[()],
                unobserved=plain_dataset(path, file, "unobserved")[()],
                key=attribute(path, file, "key", str),
                first=attribute(path, file, "first", int),
                interval=attribute(path, file, "interval", int),
                warm_up=attribute(path, file, "warm_up", int),
                present=attribute(path, file, "present", int),
                no_trade=attribute(path, file, "no_trade", int),
                holes=attribute(path, file, "holes", int),
            )

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Table.open, (self.path,)

    @property
    def x(self) -> NDArray[np.float32]:
        """(T, F) float32 features, mapped read-only."""
        mapped: NDArray[np.float32] = self._map("x", (self.rows, len(self.features)))
        return mapped

    @property
    def observed(self) -> NDArray[np.uint8]:
        """(T,) uint8, 1 where observed, mapped read-only."""
        mapped: NDArray[np.uint8] = self._map("observed", (self.rows,))
        return mapped

    def bars(self, column: str) -> NDArray[np.float64]:
        """(T,) float64 of one of ``BAR_COLUMNS``, mapped read-only."""
        mapped: NDArray[np.float64] = self._map(column, (self.rows,))
        return mapped

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
        return self.first, self.time_of(self.rows)

    def row_of(self, instant: int) -> int:
        """The first row that opens at or after an instant; may lie outside the table."""
        return -((self.first - instant) // self.interval)

    def time_of(self, row: int) -> int:
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


def table_path(candle_path: Path, key: str) -> Path:
    """Where the feature file with a key lies."""
    return candle_path.with_name(f"features-{key}.h5")


def content_digest(path: Path, file: "h5py.File") -> str:
    """SHA-256 of all arrays and attributes of an open feature file, read in blocks."""
    digest = hashlib.sha256()
    for name in (*DTYPES, "outages", "unobserved"):
        data = plain_dataset(path, file, name)
        digest.update(f"{name} {data.shape} {data.dtype.str}".encode())
        for low in range(0, data.shape[0], BLOCK_ROWS):
            digest.update(np.ascontiguousarray(data[low : low + BLOCK_ROWS]).data)
    for name in sorted(file.attrs):
        if name != "digest":
            digest.update(f"{name} {file.attrs[name]}".encode())
    return digest.hexdigest()


def _mark_used(path: Path) -> None:
    """Set the time of last access, which file systems do not keep reliably by themselves."""
    with suppress(OSError):  # on a read-only share nothing is ever removed either
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
