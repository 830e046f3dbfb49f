"""Rows as they were written: a segment is compared with its digest before a process reads it.

What a feature file says of itself is checked when it is opened (``table``). Its arrays are large,
so that they are checked a segment at a time, each once in a process, and only those that are read;
a forked process knows what its parent has checked. A file whose time of writing or size changes
under a process that uses it is checked again. Of a rows file (``rows_file``) the size alone counts:
rows that are added to it move its time of writing, and change nothing of those that are read.

The bytes come by plain reads: unlike a memory map, these say what is wrong with a disk, and where
a file has become too short.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.disk.hdf5 import advise_repair, explain_trouble
from btc_datamodule.disk.in_use import Identity, UsedFile
from btc_datamodule.errors import StoreError, UnreadableError


class AlteredError(StoreError):
    """Rows are not what was written."""


READ_BYTES = 1 << 20
"""That are read and hashed at once: they stay in the processor's cache."""


class Extent(NamedTuple):
    """Where an array lies in a file: its first byte, and the bytes of a row."""

    offset: int
    width: int


@dataclass(eq=False)
class Place:
    """A file that arrays of a feature file lie in: itself, or a rows file.

    Attributes:
        path: the file.
        used: it as it was opened; None to open it by its name.
        identity: of the content that has been checked.
        extents: of the arrays that lie in it, by name.
        grows: whether it is a rows file.
    """

    path: Path
    used: UsedFile | None
    identity: Identity
    extents: Mapping[str, Extent]
    grows: bool = False

    def notice_change(self) -> bool:
        """Whether the file was written to since this was last asked."""
        identity = self.identity if self.used is None else self.used.identify()
        written, self.identity = self.identity, identity
        if identity == written:
            return False
        return not (self.grows and identity._replace(changed=written.changed) == written)

    @contextmanager
    def open_file(self) -> Iterator[int]:
        """A descriptor of the very file that was opened; of the one of its name without locks."""
        if self.used is not None:
            yield self.used.descriptor
            return
        file = os.open(self.path, os.O_RDONLY)
        try:
            yield file
        finally:
            os.close(file)

    def hash(self, offset: int, size: int) -> bytes:
        """SHA-256 of some bytes of the file; of fewer where it ends.

        Raises:
            UnreadableError: if the disk does not give them.
        """
        digest = hashlib.sha256()
        try:
            with self.open_file() as file:
                while size and (piece := _read(file, min(size, READ_BYTES), offset)):
                    digest.update(piece)
                    offset, size = offset + len(piece), size - len(piece)
        except OSError as error:
            told = f"{self.path} cannot be read ({error.strerror}): mend the disk, and try again"
            raise UnreadableError(explain_trouble(self.path, error) or told) from error
        return digest.digest()


@dataclass(eq=False)
class SegmentChecks:
    """Which segments of the arrays of a feature file this process has found to be as written.

    Attributes:
        names: of the arrays.
        places: the files that they lie in.
        edges: (s + 1,) int64, the row at which each segment begins, and the one past the last.
        digests: (s, arrays, 32) uint8, SHA-256 of each segment of each array.
        first: open time of row 0.
        interval: seconds.
        generation: counts how often a file has changed.
        head: the feature file, kept in use, wherever its arrays lie.
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]
    edges: NDArray[np.int64]
    digests: NDArray[np.uint8]
    first: int
    interval: int
    generation: int = 0
    head: UsedFile | None = None
    fine: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.fine = np.zeros((len(self.names), len(self.edges) - 1), dtype=np.bool_)

    def find_place(self, name: str) -> Place:
        """The file that an array lies in."""
        return next(place for place in self.places if name in place.extents)

    def list_places(self, names: Iterable[str]) -> list[Place]:
        """The files that some arrays lie in."""
        return [place for place in self.places if not place.extents.keys().isdisjoint(names)]

    def notice_changes(self, places: Iterable[Place]) -> int:
        """Forget what has been checked if a file was written to since; give the generation."""
        for place in places:
            if place.notice_change():
                self.fine[:] = False
                self.generation += 1
        return self.generation

    def require(self, names: Sequence[str], low: int, high: int) -> None:
        """Make sure that rows [low, high) of some arrays are as written.

        Raises:
            AlteredError: if they are not.
            UnreadableError: if the disk does not give them.
        """
        self.notice_changes(self.list_places(names))
        low, high = max(low, 0), min(high, int(self.edges[-1]))
        if low < high:
            first, last = self.find_segments(np.array([low, high - 1])).tolist()
            for segment in range(first, last + 1):
                self.check_segment(names, segment)

    def find_segments(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The segment that each of some rows lies in; of rows outside, the nearest."""
        found = self.edges.searchsorted(rows, side="right") - 1
        return found.clip(0, len(self.edges) - 2)

    def check_segment(self, names: Sequence[str], segment: int) -> None:
        """Compare a segment of some arrays with their digests, unless that has been done."""
        for number, name in enumerate(self.names):
            if name in names and not self.fine[number, segment]:
                low, high = self.edges[segment : segment + 2].tolist()
                place = self.find_place(name)
                offset, width = place.extents[name]
                found = place.hash(offset + low * width, (high - low) * width)
                if found != self.digests[segment, number].tobytes():
                    start, end = (self.first + row * self.interval for row in (low, high))
                    raise AlteredError(
                        f"{place.path}: {name!r} between {format_instant(start)} and "
                        f"{format_instant(end)} is not what was written: "
                        f"{advise_repair(place.path)}"
                    )
                self.fine[number, segment] = True


class Unread:
    """The segments that some windows are made of, until each has been checked.

    Args:
        checks: of the feature file.
        names: the arrays that are read.
        runs: rows that the windows reach over, in any order.
    """

    def __init__(self, checks: SegmentChecks, names: Sequence[str], runs: Runs) -> None:
        self.checks = checks
        self.names = tuple(names)
        self.places = checks.list_places(names)
        self.runs = runs
        self._begin()

    def check_all(self) -> None:
        """Check all of them at once."""
        if self.checks.notice_changes(self.places) != self.generation:
            self._begin()
        self.check_segments(np.flatnonzero(self.pending))

    def check(self, first: NDArray[np.int64], length: int) -> None:
        """Check what windows of ``length`` rows are made of that begin at rows ``first``.

        Raises:
            StoreError: if it is not as written.
        """
        if self.checks.notice_changes(self.places) != self.generation:
            self._begin()
        if self.left:
            self.check_segments(np.flatnonzero(self._mark(first, first + length) & self.pending))

    def check_segments(self, segments: NDArray[np.int64]) -> None:
        """Check some segments, and cross them off."""
        for segment in segments.tolist():
            self.checks.check_segment(self.names, segment)
            self.pending[segment] = False
        self.left = bool(self.pending.any())

    def _begin(self) -> None:
        self.generation = self.checks.generation
        self.pending = self._mark(self.runs[:, 0], self.runs[:, 1])
        self.pending &= bool(self.names)
        self.left = bool(self.pending.any())

    def _mark(self, first: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which segments have rows of any of [first, end)."""
        size = len(self.checks.edges) - 1
        opens = np.bincount(self.checks.find_segments(first), minlength=size)
        closes = np.bincount(self.checks.find_segments(end - 1), minlength=size)
        marked: NDArray[np.bool_] = (np.cumsum(opens) - np.cumsum(closes) + closes) > 0
        return marked


def _read(file: int, size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):  # which no other process that has the same descriptor disturbs
        return os.pread(file, size, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, size)
