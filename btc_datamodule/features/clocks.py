"""Clocks: the rows of a series beside the candles, as they are stored, and when each is known.

Owns how such a series is read. Its rows are bars of a regular grid, read (``BarClock``) or joined
from shorter ones (``LongBarClock``), or its records (``RecordClock``). Each row has a ``known_at``,
and ``since``: the earliest instant that anything in it hangs on. What is asked for is read, and
no more: memory does not depend on the length of a series.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
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
from btc_datamodule.errors import ConfigError, NotPreparedError
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.grid import Grid
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.locating import check_there, is_there
from btc_datamodule.store.record_file import RecordReader


class Rows(NamedTuple):
    """Consecutive rows of a series.

    Attributes:
        time: (n,) int64, open times of bars.
        known_at: (n,) int64, from when on each row is known.
        since: (n,) int64, the earliest instant that anything in a row, or that is not, hangs on.
        columns: (n,) float64 each, NaN where there is none.
    """

    time: NDArray[np.int64]
    known_at: NDArray[np.int64]
    since: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]]


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
        if not is_there(self.path):
            raise NotPreparedError(
                f"covariate {self.beside.name!r}: {self.path} does not exist: run `btc-datamodule "
                "prepare`, or prepare_data(), first"
            )
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


class Clock:
    """A series that is open to be read: a ``GridClock`` or a ``RecordClock``.

    Attributes:
        beside: what it is.
    """

    def __init__(self, beside: Beside) -> None:
        self.beside = beside


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
        time = self.grid.times(low, high)
        since = self.grid.first + self.grid.interval * self.grid.find_oldest(low, high)
        bars = self.grid.read_bars(self.reader, low, high)
        return Rows(time, time + self.grid.interval, since, bars)


class LongBarClock(BarClock):
    """Bars joined from shorter ones, as ``Candles.resample`` does: of those that there are.

    A long bar of which all short ones are absent is filled as these are, or in an outage too.
    """

    @cached_property
    def first(self) -> int:
        """Open time of row 0: of the first long bar of which all short ones are on the grid."""
        return ceil_to(self.grid.first, self.interval)

    def read(self, low: int, high: int) -> Rows:
        """Rows [low, high)."""
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
        return Rows(time, time + self.interval, short.since[::each], columns)


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

    def find_event(self, row: int) -> int:
        """The first row of the same time as ``row``."""
        time = self.reader.rows(row, row + 1).time
        return self.reader.find(int(time[0])) if len(time) else row

    def to_rows(self, records: RecordSet) -> Rows:
        """Records as rows."""
        columns = {name: records[name] for name in self.beside.columns}
        return Rows(records.time, records.known_at, records.time - self.beside.covers, columns)
