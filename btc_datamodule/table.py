"""The feature file: features of every row of the regular grid, ready to be memory-mapped.

Built once from the candle file, in blocks, so memory does not depend on the length of history;
disposable, as it can always be built again. Its name carries a key made of everything that its
content depends on, so a file with the right name has the right content.

Layout, schema 1 (all datasets contiguous and unfiltered, little-endian)::

    /x          (T, F) float32   features; 0 where the row was not observed
    /observed   (T,)   uint8     1 where the bar was observed and every feature has a value
    /<column>   (T,)   float64   open, high, low, close, volume, for targets; NaN in outages
    /outages    (n, 2) int64     runs of rows that were not observed
    /unobserved (m, 2) int64     runs of rows where ``observed`` is 0
    attributes  schema, key, first, interval, features, warm_up, present, no_trade, holes

A ``Table`` holds a path and what the file says about itself, never a handle: it can be pickled,
forked and spawned. Each process maps the bytes on first use.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from btc_datamodule.errors import ConfigError, StoreError
from btc_datamodule.features import Feature, check_lookback, frame, warm_up
from btc_datamodule.grid import Grid, Runs, join_runs, mask_of, runs_of
from btc_datamodule.store import (
    BLOCK_ROWS,
    CandleReader,
    Header,
    attribute,
    check_schema,
    damage_named,
    open_hdf5,
    plain_dataset,
    replacing,
)
from btc_datamodule.timeline import Span

SCHEMA = 1
BAR_COLUMNS = ("open", "high", "low", "close", "volume")
KEPT_SECONDS = 86_400
CHECKED_ROWS = 24
"""Rows of each block on which the look-ahead check computes every feature again."""


@dataclass(frozen=True)
class Recipe:
    """All that a feature file's content depends on beside the candles.

    Attributes:
        features: the columns of ``x``.
        max_fill: longest hole, in bars, that is taken as time without trades.
        span: candles outside it (epoch seconds) are left out.
    """

    features: tuple[Feature, ...]
    max_fill: int
    span: Span

    def key(self, header: Header) -> str:
        """Name of the content that this recipe makes of the candle file with ``header``."""
        parts = [
            SCHEMA,
            header.digest,
            header.interval,
            self.max_fill,
            max(self.span[0], header.span[0]),
            min(self.span[1], header.span[1]),
            *(feature.definition() for feature in self.features),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Table:
    """A feature file, as found when it was opened.

    Attributes:
        path: the file.
        key: see ``Recipe.key``.
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
            shapes = {"x": (rows, len(features)), **dict.fromkeys(_SINGLE, (rows,))}
            offsets = {}
            for name, shape in shapes.items():
                data = plain_dataset(path, file, name)
                dtype = np.dtype(_DTYPES[name])
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
            self._maps[name] = np.memmap(self.path, _DTYPES[name], "r", self.offsets[name], shape)
        return self._maps[name]


_DTYPES = {"x": "<f4", "observed": "u1", **dict.fromkeys(BAR_COLUMNS, "<f8")}
_SINGLE = ("observed", *BAR_COLUMNS)


def table_path(candle_path: Path, key: str) -> Path:
    """Where the feature file with a key lies."""
    return candle_path.with_name(f"features-{key}.h5")


def build(candle_path: Path, recipe: Recipe) -> Path:
    """Build the feature file for a recipe unless it is there; give its path.

    Feature files that were made from candles as they no longer are, and that nobody has opened
    for ``KEPT_SECONDS``, are removed: a series that is updated for months must not fill the disk.

    Raises:
        LookAheadError: if a feature breaks its law on the real rows.
        ConfigError: if a feature needs a column that the candles lack, or no candle is in span.
    """
    with CandleReader(candle_path) as reader:
        path = table_path(candle_path, recipe.key(reader.header))
        with FileLock(candle_path.with_name("features.lock")):
            if not path.exists():
                _check_columns(recipe.features, reader.header)
                _remove_stale(candle_path, reader.header)
                _write(path, reader, recipe)
    return path


def _check_columns(features: Sequence[Feature], header: Header) -> None:
    for feature in features:
        absent = [name for name in feature.needs if name not in header.columns]
        if absent:
            raise ConfigError(
                f"feature {feature.name!r} needs {', '.join(absent)}, which candles from "
                f"{header.source!r} do not have: take it out of `features`"
            )


def _mark_used(path: Path) -> None:
    """Set the time of last access, which file systems do not keep reliably by themselves."""
    with suppress(OSError):  # on a read-only share nothing is ever removed either
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _remove_stale(candle_path: Path, header: Header) -> None:
    for path in candle_path.parent.glob("features-*.h5"):
        if time.time() - path.stat().st_atime < KEPT_SECONDS:
            continue
        try:
            with open_hdf5(path) as file:
                stale = file.attrs.get("candles") != header.digest
        except StoreError:
            stale = True
        if stale:
            path.unlink()


def _write(path: Path, reader: CandleReader, recipe: Recipe) -> None:
    grid = Grid.of(reader, recipe.span, recipe.max_fill)
    warm = warm_up(recipe.features)
    if grid.rows <= warm:
        raise ConfigError(
            f"the features need {warm} bars of history and there are {grid.rows} bars: widen "
            "`start` and `end`, or choose features with a shorter lookback"
        )
    unobserved: list[Runs] = []
    with replacing(path) as file:
        shapes = {"x": (grid.rows, len(recipe.features)), **dict.fromkeys(_SINGLE, (grid.rows,))}
        data = {
            name: file.create_dataset(name, shape=shape, dtype=_DTYPES[name])
            for name, shape in shapes.items()
        }
        for low in range(0, grid.rows, BLOCK_ROWS):
            high = min(low + BLOCK_ROWS, grid.rows)
            x, bars = _block(reader, grid, recipe.features, low, high)
            observed = np.isfinite(x).all(axis=1)
            observed &= ~mask_of(grid.outages, low, high)
            observed[: max(0, warm - low)] = False
            x[~observed] = 0
            data["x"][low:high] = x
            data["observed"][low:high] = observed
            for name in BAR_COLUMNS:
                data[name][low:high] = bars[name]
            unobserved.append(runs_of(~observed, low))
        file["outages"] = grid.outages.astype("<i8")
        file["unobserved"] = join_runs(unobserved).astype("<i8")
        file.attrs.update(
            {
                "schema": SCHEMA,
                "key": recipe.key(reader.header),
                "candles": reader.header.digest,
                "first": grid.first,
                "interval": grid.interval,
                "features": json.dumps([feature.name for feature in recipe.features]),
                "warm_up": warm,
                "present": grid.present,
                "no_trade": grid.no_trade,
                "holes": grid.holes,
            }
        )


def _block(
    reader: CandleReader, grid: Grid, features: Sequence[Feature], low: int, high: int
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float64]]]:
    """Features and bars of rows [low, high), the features checked for look-ahead."""
    early = max(0, low - warm_up(features))
    bars = grid.bars(reader, early, high)
    table = frame(grid.times(early, high), bars)
    x = np.empty((high - low, len(features)), dtype=np.float32)
    for column, feature in enumerate(features):
        values = feature(table)
        check_lookback(feature, table, values, _rows_to_check(grid, early, low, high))
        with np.errstate(over="ignore"):  # too large for float32 counts as not observed
            x[:, column] = values[low - early :]
    return x, {name: bars[name][low - early :] for name in BAR_COLUMNS}


def _rows_to_check(grid: Grid, early: int, low: int, high: int) -> list[int]:
    """Rows on which to test the law, counted from ``early``: random ones, and next to outages."""
    rng = np.random.default_rng(low)
    spread = rng.integers(low, high, CHECKED_ROWS)
    near = grid.outages[(grid.outages[:, 0] >= low) & (grid.outages[:, 1] < high)].ravel()
    edges = np.concatenate([[low, high - 1], near[:CHECKED_ROWS], near[:CHECKED_ROWS] - 1])
    rows = np.unique(np.concatenate([spread, edges]))
    return [int(row) - early for row in rows if low <= row < high]
