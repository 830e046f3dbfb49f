"""The feature file as opened: features of every row of the regular grid, mapped into memory.

Owns the memory map, and which rows were found to be as written; what lies where in the file is
told in ``layout``, how one is built in ``build``. It is disposable: it can always be built again.

What is known of segments spares reading them: statistics and the digest of any run of rows are made
of the segments that lie inside it and of the bytes at its two ends (``fitted``).

What the file says of itself is compared with its digest when it is opened, its arrays segment by
segment as they are read (``checking``).

A ``Table`` can be pickled, forked and spawned: each process maps the bytes on first use. As long as
it lives the file counts as in use (``disk.in_use``).
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs, count_rows
from btc_datamodule.candles.timeline import Interval, Span, format_interval, format_span
from btc_datamodule.checks import list_first
from btc_datamodule.disk.hdf5 import check_schema, explain_damage, open_hdf5, read_attribute
from btc_datamodule.disk.in_use import Identity, UsedFile, use_file
from btc_datamodule.errors import StoreError, UnreadableError
from btc_datamodule.features.cells import Cells
from btc_datamodule.features.checking import Place, SegmentChecks, Unread
from btc_datamodule.features.contents import read_contents
from btc_datamodule.features.grid import find_outages
from btc_datamodule.features.layout import (
    DTYPES,
    REACH,
    SCHEMA,
    MaskOf,
    find_segment,
    hash_array,
    shape_array,
    split_segments,
)
from btc_datamodule.features.moments import Moments, select_counted

_NAME = re.compile(r"features-[0-9a-f]{16}\.h5")

READ_AHEAD_BYTES = 1 << 17
"""Of each request: the kernel reads no more than its read-ahead window at once."""


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """A feature file as it was when it was opened.

    Attributes:
        path: the file.
        key: see ``build.Recipe.compute_key``.
        candles: digest of the candle file.
        first: open time of row 0, epoch seconds UTC.
        interval: seconds, and the grid, which row 0 is on.
        rows: T.
        features: names of the columns of ``x``.
        warm_up: rows at the start whose features lack history.
        holes: runs of rows whose bars the candle file does not have.
        max_fill: rows of each hole that are filled, from its first; the others are an outage.
        mask: whether ``observed`` is of bars or of single features.
        flag: whether the last feature says where others are undefined.
        beside: path and digest of each file of another series.
        checked: see ``Recipe.list_identities``.
        unobserved: runs of rows of which not all is observed.
        unobserved_cells: the rows in which each feature is not observed; none with ``mask`` bar.
        undefined: the rows in which each feature has no value though all that it is made of is
            known.
        valued: (f,) int64, rows in which each feature has a value; not of the flag.
        present: rows whose bar the candle file has.
        moments: of what is observed of ``x`` in each segment.
        digests: (s, n, 32) uint8, SHA-256 of each segment of the first n arrays of ``DTYPES``.
        digest: of the whole file, see ``combine_digests``.
        checks: which segments are known to be as written, and the files that the arrays lie in.
    """

    path: Path
    key: str
    candles: str
    first: int
    interval: Interval
    rows: int
    features: tuple[str, ...]
    warm_up: int
    holes: Runs
    max_fill: int
    mask: MaskOf
    flag: bool
    beside: tuple[tuple[str, str], ...]
    checked: tuple[str, ...]
    unobserved: Runs
    unobserved_cells: Cells
    undefined: Cells
    valued: NDArray[np.int64]
    present: int
    moments: tuple[Moments, ...]
    digests: NDArray[np.uint8]
    digest: str
    checks: SegmentChecks
    _maps: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        absent = self.rows - self.present
        return (
            f"Table({str(self.path)!r}: {self.rows:,} rows of {format_interval(self.interval)}, "
            f"{format_span(self.span)}, {absent:,} absent, holes: {len(self.holes):,}; "
            f"{len(self.features):,} features: {list_first(self.features)})"
        )

    @classmethod
    def open(cls, path: Path, digest: str | None = None) -> "Table":
        """Open a feature file: read its attributes, its small datasets and where its arrays lie.

        Args:
            path: the file.
            digest: which the file must have; None for any.

        Raises:
            StoreError: if it is missing, not HDF5, no feature file of this schema or of this
                digest, or what it says of itself is not what was written.
            UnreadableError: if it cannot be read now.
        """
        used = use_file(path)
        with open_hdf5(path) as file, explain_damage(path):
            if used is not None and not used.is_same(file.id.get_vfd_handle()):
                return cls.open(path, digest)  # it was replaced just now
            _mark_used(path)
            identity = _identify(path, used)
            check_schema(path, file, SCHEMA, "feature file")
            read = read_contents(path, file)
        places = [
            Place(path, used, identity, each.extents)
            if each.path == path
            else Place(each.path, each.used, _identify(each.path, each.used), each.extents, True)
            for each in read.arrays
        ]
        told, small = read.told, read.small
        if digest not in (None, told["digest"]):
            raise StoreError(
                f"{path} is another file than when it was opened: prepare and setup again"
            )
        return cls(
            path=path,
            key=told["key"],
            candles=told["candles"],
            first=told["first"],
            interval=read.interval,
            rows=read.shape[0],
            features=read.features,
            warm_up=told["warm_up"],
            holes=small["holes"],
            max_fill=told["max_fill"],
            mask=told["mask"],
            flag=bool(told["flag"]),
            beside=read.beside,
            checked=read.checked,
            unobserved=small["unobserved"],
            unobserved_cells=small["unobserved_cells"],
            undefined=small["undefined"],
            valued=small["valued"],
            present=told["present"],
            moments=tuple(
                map(Moments, *(small[f"segment_{what}"] for what in ("count", "mean", "squares")))
            ),
            digests=small["segment_digest"],
            digest=told["digest"],
            checks=SegmentChecks(
                read.names,
                tuple(places),
                read.edges,
                small["segment_digest"],
                told["first"],
                read.interval,
                head=used,
            ),
        )

    def __reduce__(self) -> tuple[Any, tuple[Path, str]]:
        return Table.open, (self.path, self.digest)

    def map(self, name: str) -> NDArray[Any]:
        """One of the arrays of ``DTYPES``, mapped read-only, and not checked: see ``watch``."""
        # A fork inherits this object, and the mapping with it: every process makes its own.
        if self._maps.get("process") != os.getpid():
            self._maps.clear()
            self._maps["process"] = os.getpid()
        if name not in self._maps:
            place = self.checks.find_place(name)
            offset = place.extents[name].offset
            shape = shape_array(name, (self.rows, len(self.features)), self.mask)
            # Of the very file that was opened, whatever has taken its name since.
            with (
                explain_damage(self.path),
                place.open_file() as descriptor,
                os.fdopen(os.dup(descriptor), "rb") as file,
            ):
                self._maps[name] = np.memmap(file, DTYPES[name], "r", offset, shape)
        mapped: NDArray[Any] = self._maps[name]
        return mapped

    def read(self, name: str, rows: slice) -> NDArray[Any]:
        """A slice of rows of an array, mapped read-only.

        Raises:
            StoreError: if what is there is not what was written.
        """
        low, high, _ = rows.indices(self.rows)
        self.checks.require((name,), low, high)
        return self.map(name)[rows]

    def array(self, name: str) -> NDArray[Any]:
        """One of the arrays of ``DTYPES``, as ``read`` gives it: all of it is checked once."""
        return self.read(name, slice(None))

    def pick(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Some rows of an array, in any order: a copy of them, of any shape.

        Raises:
            StoreError: if what is there is not what was written.
        """
        self.watch((name,), np.stack([rows.ravel(), rows.ravel() + 1], axis=1)).check_all()
        picked: NDArray[Any] = self.map(name)[rows]
        return picked

    @property
    def x(self) -> NDArray[np.float32]:
        """(T, F) float32 features, mapped read-only."""
        return self.array("x")

    @property
    def observed(self) -> NDArray[np.uint8]:
        """(T,) or with ``mask`` feature (T, F) uint8, 1 where observed, mapped read-only."""
        return self.array("observed")

    @property
    def has_reach(self) -> bool:
        """Whether features see covariates, so that ``reach`` is there."""
        return REACH in self.checks.names

    @property
    def reach(self) -> NDArray[np.int64] | None:
        """(T,) int64, the earliest instant of another series that anything in a row hangs on.

        Mapped read-only. None where no feature is made of another series.
        """
        return self.array(REACH) if self.has_reach else None

    def bars(self, column: str) -> NDArray[np.float64]:
        """(T,) float64 of one of ``BAR_COLUMNS``, mapped read-only."""
        return self.array(column)

    def segments(self, low: int, high: int) -> Iterator[slice]:
        """Rows [low, high) cut where segments begin: whole ones, and a part of one at each end."""
        return split_segments(self.first, self.interval, low, high)

    def observed_rows(self, rows: slice) -> NDArray[np.float32]:
        """What statistics are of in some rows: (n, F) float32, see ``select_counted``."""
        seen = self.read("observed", rows).view(np.bool_)
        return select_counted(self.read("x", rows), seen, flagged=self.is_flagged)

    @property
    def is_flagged(self) -> bool:
        """Whether ``x`` may be NaN where it is observed: see ``undefined``."""
        return self.flag and len(self.undefined) > 0

    def get_moments(self, rows: slice) -> Moments:
        """Moments of what is observed in a slice from ``segments``; part of one is read."""
        number = self._find_segment(rows)
        return Moments.of(self.observed_rows(rows)) if number is None else self.moments[number]

    def get_digest(self, name: str, rows: slice) -> bytes:
        """SHA-256 of an array in a slice from ``segments``; part of one is read."""
        number = self._find_segment(rows)
        if number is None:
            return hash_array(self.read(name, rows))
        known: bytes = self.digests[number, list(DTYPES).index(name)].tobytes()
        return known

    def _find_segment(self, rows: slice) -> int | None:
        """The number of the segment that has exactly these rows; None if there is none."""
        return find_segment(self.first, self.interval, rows)

    def watch(self, names: Iterable[str], runs: Runs) -> Unread:
        """What is still to be checked of some arrays in runs of rows, for ``map``."""
        return Unread(self.checks, tuple(names), runs)

    def read_ahead(self, low: int, high: int, names: Iterable[str]) -> None:
        """Ask the system to read rows [low, high) of some arrays, without waiting for them."""
        if not hasattr(os, "posix_fadvise"):  # macOS, Windows: they are read when they are used
            return
        low, high = max(low, 0), min(high, self.rows)
        for name in names:
            place = self.checks.find_place(name)
            offset, width = place.extents[name]
            start, end = offset + low * width, offset + high * width
            with place.open_file() as file:
                for at in range(start, end, READ_AHEAD_BYTES):
                    size = min(READ_AHEAD_BYTES, end - at)
                    os.posix_fadvise(file, at, size, os.POSIX_FADV_WILLNEED)

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


def locate_table(candle_path: Path, key: str) -> Path:
    """Where the feature file with a key lies."""
    return candle_path.with_name(f"features-{key}.h5")


def open_whole(path: Path, key: str) -> Table | None:
    """The feature file at ``path``; None unless it can be opened and has the key.

    Raises:
        UnreadableError: if that cannot be told now.
    """
    if not path.exists():
        return None
    try:
        table = Table.open(path)
    except UnreadableError:
        raise
    except StoreError:
        return None
    return table if table.key == key else None


def list_tables(candle_path: Path) -> list[Path]:
    """The feature files beside a candle file, by their names: another's file is none of them."""
    found = candle_path.parent.glob("features-*.h5")
    return sorted(path for path in found if _NAME.fullmatch(path.name))


def is_outdated(path: Path) -> bool:
    """Whether a file is a feature file of an earlier schema: whole, but of no use any more."""
    with suppress(StoreError), open_hdf5(path) as file, explain_damage(path):
        return read_attribute(path, file, "schema", int) in range(1, SCHEMA)
    return False


def _identify(path: Path, used: UsedFile | None) -> Identity:
    return Identity.of(path.stat() if used is None else os.fstat(used.descriptor))


def _mark_used(path: Path) -> None:
    """Set the time of last access, which file systems do not keep reliably by themselves."""
    with suppress(OSError):  # on a read-only share nothing is ever removed either
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
