"""Digests of candles: SHA-256 of what they say, whatever way they came in and are stored.

The digest of a series is made of those of *segments*: bars by ``DIGEST_ROWS``, cut by the clock
and not by their number, so that bars added at the end change the last segment only. It follows
from the candles alone: not from chunks, compression, or the order in which they were fetched.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import COLUMNS, OPTIONAL, REQUIRED, Candles, trust
from btc_datamodule.candles.timeline import Span, get_offset

DIGEST_ROWS = 1 << 15
"""Bars of a segment, if none is absent."""

SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True, eq=False)
class Segments:
    """The digests of the segments of a series that have bars.

    Attributes:
        interval: of the bars, with their grid.
        numbers: (S,) int64, rising: how many segments after the one of the epoch each is.
        digests: (S, C, 32) uint8, SHA-256 of the values of each of ``COLUMNS`` in it; zeros where
            all are NaN.
    """

    interval: int
    numbers: NDArray[np.int64]
    digests: NDArray[np.uint8]

    def hexdigest(self) -> str:
        """The digest of the series; a column that is NaN throughout counts as absent."""
        whole = hashlib.sha256(f"{int(self.interval)}".encode())
        known = np.any(self.digests, axis=2)
        for column, name in enumerate(COLUMNS):
            has = known[:, column]
            if name in REQUIRED or has.any():
                whole.update(f"{name}:{has.sum()}:".encode())
                whole.update(self.numbers[has].astype("<i8").tobytes())
                whole.update(self.digests[has, column].tobytes())
        return whole.hexdigest()

    def take_before(self, number: int) -> "Segments":
        """Those of smaller numbers."""
        count = int(np.searchsorted(self.numbers, number))
        return Segments(self.interval, self.numbers[:count], self.digests[:count])

    def take_from(self, number: int) -> "Segments":
        """Those of this number and larger ones."""
        count = int(np.searchsorted(self.numbers, number))
        return Segments(self.interval, self.numbers[count:], self.digests[count:])

    def followed_by(self, later: "Segments") -> "Segments":
        """These up to where others begin, and the others."""
        if not len(later.numbers):
            return self
        kept = self.take_before(int(later.numbers[0]))
        return Segments(
            self.interval,
            np.concatenate([kept.numbers, later.numbers]),
            np.concatenate([kept.digests, later.digests]),
        )


def number_segment(instant: int, interval: int) -> int:
    """The number of the segment of the bar that opens at an instant, or that it lies in."""
    return (instant - get_offset(interval)) // int(interval) // DIGEST_ROWS


def span_segment(number: int, interval: int) -> Span:
    """From when to when the bars of a segment open."""
    length = DIGEST_ROWS * int(interval)
    start = number * length + get_offset(interval)
    return start, start + length


class ContentDigest:
    """The digest of candles of schema 2, fed in chunks of any size."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._numbers: list[int] = []
        self._done: list[bytes] = []
        self._running: dict[str, Any] = {}
        self._known: set[str] = set()

    def update(self, candles: Candles) -> None:
        """Take the next bars in order of time."""
        for number, part in _split(candles, self._interval):
            if not self._numbers or self._numbers[-1] != number:
                self._done += self._finish()
                self._numbers.append(number)
                self._running = {name: hashlib.sha256() for name in COLUMNS}
                self._known = {*REQUIRED}
            for name, digest in self._running.items():
                values = part[name]
                if name in OPTIONAL and name not in self._known and np.isfinite(values).any():
                    self._known.add(name)
                digest.update(_encode(name, values))

    def get_segments(self) -> Segments:
        """The digests of the segments of all bars so far."""
        found = np.frombuffer(b"".join([*self._done, *self._finish()]), np.uint8)
        return Segments(
            self._interval,
            np.array(self._numbers, dtype=np.int64),
            found.reshape(-1, len(COLUMNS), SIZE),
        )

    def hexdigest(self) -> str:
        """The digest of all bars so far; a column that is NaN throughout counts as absent."""
        return self.get_segments().hexdigest()

    def _finish(self) -> list[bytes]:
        """The digests of the columns in the running segment; none before the first bar."""
        nothing = bytes(SIZE)
        return [
            digest.digest() if name in self._known else nothing
            for name, digest in self._running.items()
        ]


class WholeDigest:
    """The digest of candles of schema 1: of all bars, without segments."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._columns = {name: hashlib.sha256() for name in COLUMNS}
        self._known = dict.fromkeys(OPTIONAL[1:], False)  # of a series without volume: NaN

    def update(self, candles: Candles) -> None:
        """Take the next bars in order of time."""
        for name, digest in self._columns.items():
            if name in self._known:
                self._known[name] |= bool(np.isfinite(candles[name]).any())
            digest.update(_encode(name, candles[name]))

    def hexdigest(self) -> str:
        """The digest of all bars so far; a column that is NaN throughout counts as absent."""
        whole = hashlib.sha256(f"{self._interval}".encode())
        for name, digest in self._columns.items():
            if self._known.get(name, True):
                whole.update(f"{name}:{digest.hexdigest()}".encode())
        return whole.hexdigest()


def _split(candles: Candles, interval: int) -> Iterator[tuple[int, Candles]]:
    """The bars of each segment, with its number."""
    numbers = (candles.open_time - get_offset(interval)) // int(interval) // DIGEST_ROWS
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
    for low, high in pairwise([*starts.tolist(), len(numbers)]):
        yield (
            int(numbers[low]),
            trust(interval, {name: values[low:high] for name, values in candles.columns.items()}),
        )


def _encode(name: str, values: NDArray[Any]) -> bytes:
    """The bytes of a column, equal of equal values: there are one zero and one NaN."""
    if name == "open_time":
        return np.ascontiguousarray(values.astype("<i8")).tobytes()
    values = np.where(np.isnan(values), np.nan, values) + 0.0
    return np.ascontiguousarray(values.astype("<f8")).tobytes()
