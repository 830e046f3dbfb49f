"""Clocks: the rows of a series beside the candles, as they are stored, and when each is known.

Owns how such a series is read. Its rows are bars of a regular grid, read (``BarClock``) or joined
from shorter ones (``LongBarClock``), or its records (``RecordClock``). Each row has a ``known_at``,
and ``since``: the earliest instant that anything in it hangs on. What is asked for is read, and
no more: memory does not depend on the length of a series.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import OPTIONAL, PRICES
from btc_datamodule.candles.timeline import Interval, ceil_to
from btc_datamodule.errors import ConfigError
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.grid import Grid
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.locating import check_there
from btc_datamodule.store.record_file import RecordReader

JOINED_ROWS = 1 << 18
"""Short bars that are joined to longer ones at once."""

KEPT_ROWS = 1 << 16
"""Long bars that are kept for the next reading, beside those that were read last."""


class Rows(NamedTuple):
    """Consecutive rows of a series.

    Attributes:
        time: (n,) int64, open times of bars.
        known_at: (n,) int64, from when on each row is known.
        heard_at: (n,) int64, in order, from when on it is aged: of an absent bar the close of the
            last that was there, of any other row ``known_at``.
        since: (n,) int64, the earliest instant that anything in a row, or that is not, hangs on.
        columns: (n,) float64 each, NaN where there is none.
    """

    time: NDArray[np.int64]
    known_at: NDArray[np.int64]
    heard_at: NDArray[np.int64]
    since: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]]

    def slice(self, low: int, high: int | None = None) -> "Rows":
        """Rows by their numbers, [low, high)."""
        own = slice(low, high)
        columns = {name: values[own] for name, values in self.columns.items()}
        time, known_at, heard_at, since = (each[own] for each in self[:4])
        return Rows(time, known_at, heard_at, since, columns)


def stack_rows(parts: Sequence[Rows]) -> Rows:
    """Rows that follow each other."""
    if len(parts) == 1:
        return parts[0]
    names = parts[0].columns
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
    time, known_at, heard_at, since = map(
        np.concatenate, zip(*(part[:4] for part in parts), strict=True)
    )
    return Rows(time, known_at, heard_at, since, columns)


@dataclass(frozen=True)
class StoredBeside:
    """A covariate, and where its rows are stored.

    Attributes:
        beside: what is known of it before it is read.
        path: its candle file, or file of records.
        base: interval of the candles in the file where they are joined to the longer ones of the
            covariate; None where they are its rows themselves.
        max_fill: bars of each hole, from its first, that are taken as time without trades.
    """

    beside: Beside
    path: Path
    base: Interval | None
    max_fill: int

    def read_digest(self) -> str:
        """The digest of its file.

        Raises:
            NotPreparedError: if it is not there.
            StoreError: if it is damaged.
        """
        with self.open_reader() as reader:
            digest: str = reader.header.digest
        return digest

    def definition(self) -> list[Any]:
        """What its rows depend on beside the content of the file."""
        beside, grid = self.beside, self.beside.interval
        offset = None if grid is None else grid.offset
        return [beside.name, grid, offset, beside.max_age, beside.covers, self.base, self.max_fill]

    @contextmanager
    def open_reader(self) -> Iterator[CandleReader | RecordReader]:
        """Its file, open.

        Raises:
            NotPreparedError: if it is missing.
            StoreError: if it is damaged.
        """
        check_there(self.path, self.beside.name)
        kind = CandleReader if self.beside.is_candles else RecordReader
        with kind(self.path) as reader:
            yield reader

    def make_clock(self, reader: CandleReader | RecordReader, end: int) -> "Clock":
        """Its rows that are known at ``end``.

        Raises:
            ConfigError: if there is nothing in its file before ``end``.
        """
        if isinstance(reader, RecordReader):
            return RecordClock(self.beside, reader)
        try:
            grid = Grid.of(reader, (0, end), self.max_fill).extend(end)
        except ConfigError as error:
            raise ConfigError(f"covariate {self.beside.name!r}: {error}") from None
        return (BarClock if self.base is None else LongBarClock)(self.beside, reader, grid)


class Clock(ABC):
    """A series that is open to be read: a ``GridClock`` or a ``RecordClock``.

    Attributes:
        beside: what it is.
    """

    def __init__(self, beside: Beside) -> None:
        self.beside = beside

    @abstractmethod
    def count_rows(self, start: int, end: int) -> int:
        """About how many rows there are from one instant to another."""

    @abstractmethod
    def look_back(self, instant: int) -> int:
        """Seconds before an instant within which something became known, if nothing is absent."""


class GridClock(Clock, ABC):
    """A series whose rows are those of a regular grid, each known once it is over."""

    @property
    @abstractmethod
    def first(self) -> int:
        """Open time of row 0."""

    @abstractmethod
    def read(self, low: int, high: int) -> Rows:
        """Rows [low, high); none of them lies before row 0."""

    @property
    def interval(self) -> Interval:
        """Of its rows."""
        assert self.beside.interval is not None
        return self.beside.interval

    def count_known(self, instant: int) -> int:
        """How many rows are known at an instant."""
        return max(0, (instant - self.first) // self.interval)

    def count_rows(self, start: int, end: int) -> int:
        """About how many rows there are from one instant to another."""
        return (end - start) // self.interval

    def look_back(self, instant: int) -> int:
        """Two rows."""
        return 2 * self.interval


class BarClock(GridClock):
    """Candles, one a row; holes as the grid of the main candles has them."""

    def __init__(self, beside: Beside, reader: CandleReader, grid: Grid) -> None:
        super().__init__(beside)
        self.grid = grid
        self.reader = reader

    @property
    def first(self) -> int:
        """Open time of row 0."""
        return self.grid.first

    def read(self, low: int, high: int) -> Rows:
        """Rows [low, high)."""
        grid = self.grid
        time, newest = grid.times(low, high), grid.find_newest(low, high)
        heard_at = grid.first + grid.interval * (newest + 1)
        since = grid.first + grid.interval * grid.find_oldest(low, newest)
        bars = grid.read_bars(self.reader, low, high)
        return Rows(time, time + grid.interval, heard_at, since, bars)


class LongBarClock(BarClock):
    """Bars joined from shorter ones, as ``Candles.resample`` does: of those that there are.

    A long bar of which all short ones are absent is filled as these are, or in an outage too.
    """

    def __init__(self, beside: Beside, reader: CandleReader, grid: Grid) -> None:
        super().__init__(beside, reader, grid)
        self._kept, self._kept_from = self._join(0, 0), 0

    @cached_property
    def first(self) -> int:
        """Open time of row 0: of the first long bar of which all short ones are on the grid."""
        return ceil_to(self.grid.first, self.interval)

    def read(self, low: int, high: int) -> Rows:
        """Rows [low, high): those that were read last are not joined again."""
        begin, end = self._kept_from, self._kept_from + len(self._kept.time)
        if not begin <= low <= end:
            begin = end = low
            self._kept = self._join(low, low)
        each = self.interval // self.grid.interval
        step = max(1, JOINED_ROWS // each)
        more = [self._join(at, min(at + step, high)) for at in range(end, high, step)]
        kept = stack_rows([self._kept, *more])
        found = kept.slice(low - begin, high - begin)
        drop = max(0, min(low - begin, len(kept.time) - KEPT_ROWS))
        self._kept, self._kept_from = kept.slice(drop, len(kept.time)), begin + drop
        return found

    def _join(self, low: int, high: int) -> Rows:
        """Rows [low, high), of their short bars."""
        each = self.interval // self.grid.interval
        skipped = (self.first - self.grid.first) // self.grid.interval
        short = super().read(skipped + low * each, skipped + high * each)
        known = np.isfinite(short.columns["close"]).reshape(-1, each)
        present = known & (short.since == short.time).reshape(-1, each)
        known = np.where(present.any(axis=1, keepdims=True), present, known)
        row = np.arange(len(known))
        begin, end = known.argmax(axis=1), each - 1 - known[:, ::-1].argmax(axis=1)
        some = known.any(axis=1)
        columns: dict[str, NDArray[np.float64]] = {}
        for name in (*PRICES, *OPTIONAL):
            bars = short.columns[name].reshape(-1, each)
            match name:
                case "open":
                    joined = bars[row, begin]
                case "close":
                    joined = bars[row, end]
                case "high":
                    joined = np.where(known, bars, -np.inf).max(axis=1)
                case "low":
                    joined = np.where(known, bars, np.inf).min(axis=1)
                case _:
                    joined = np.where(known, bars, 0.0).sum(axis=1)
            columns[name] = np.where(some, joined, np.nan)
        time = self.first + self.interval * np.arange(low, high, dtype=np.int64)
        # The first short bar's, be it there or not: who looks back needs it to be told.
        heard_at = np.where(present.any(axis=1), time + self.interval, short.heard_at[::each])
        return Rows(time, time + self.interval, heard_at, short.since[::each], columns)


class RecordClock(Clock):
    """Records, which may come late, in another order than their times, or be revised."""

    def __init__(self, beside: Beside, reader: RecordReader) -> None:
        super().__init__(beside)
        self.reader = reader

    def read_known(self, low: int, instant: int) -> RecordSet:
        """The records from row ``low`` on that are known at an instant."""
        high = self.reader.find(instant + 1)
        records = self.reader.rows(low, max(low, high))
        return records.take(records.known_at <= instant)

    def find(self, instant: int) -> int:
        """The first row whose time is ``instant`` or later."""
        return self.reader.find(instant)

    def count_rows(self, start: int, end: int) -> int:
        """How many records are about a time from one instant to another."""
        return self.find(end) - self.find(start)

    def look_back(self, instant: int) -> int:
        """Two rows of the grid, or to the newest record."""
        if self.beside.interval is not None:
            return 2 * self.beside.interval
        newest = max(0, self.find(instant + 1) - 1)
        times = self.reader.rows(newest, newest + 1).time
        return max(1, instant - int(times[0])) if len(times) else 1

    def find_event(self, row: int) -> int:
        """The first row of the same time as ``row``."""
        time = self.reader.rows(row, row + 1).time
        return self.reader.find(int(time[0])) if len(time) else row

    def to_rows(self, records: RecordSet) -> Rows:
        """Records as rows."""
        columns = {name: records[name] for name in self.beside.columns}
        known_at, since = records.known_at, records.time - self.beside.covers
        return Rows(records.time, known_at, known_at, since, columns)
