"""Series beside the candles, in memory: of every kind, with outages, late and revised records."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import Candles
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.clocks import BarClock, Clock, LongBarClock, RecordClock
from btc_datamodule.features.grid import Grid


class CandlesInMemory:
    """Candles as an open candle file gives them."""

    path = "memory"

    def __init__(self, candles: Candles) -> None:
        self.candles = candles
        self.header = SimpleNamespace(
            interval=candles.interval, span=candles.span, rows=len(candles)
        )

    def slice(self, start: int, end: int) -> Candles:
        return self.candles.slice(start, end)


class RecordsInMemory:
    """Records as an open file of records gives them."""

    def __init__(self, records: RecordSet) -> None:
        self.records = records

    def find(self, time: int) -> int:
        return int(np.searchsorted(self.records.time, time))

    def rows(self, low: int, high: int) -> RecordSet:
        return self.records.take(np.arange(low, min(high, len(self.records))))


@dataclass(frozen=True)
class Series:
    """A series of a test.

    Attributes:
        beside: what it is.
        content: its candles, shorter ones where they are joined to its rows, or its records.
    """

    beside: Beside
    content: Candles | RecordSet

    def cut(self, instant: int) -> "Series | None":
        """What is known of it at an instant; None where there is nothing."""
        if isinstance(self.content, RecordSet):
            known = self.content.take(self.content.known_at <= instant)
            return Series(self.beside, known)
        interval = self.content.interval
        closed = self.content.slice(0, max(0, instant - int(interval) + 1))
        return Series(self.beside, closed) if len(closed) else None

    def open(self, end: int, max_fill: int = 3) -> Clock:
        """Its clock, as ``StoredBeside.open`` gives it."""
        reader: Any
        if isinstance(self.content, RecordSet):
            reader = RecordsInMemory(self.content)
            return RecordClock(self.beside, reader)
        reader = CandlesInMemory(self.content)
        grid = Grid.of(reader, (0, end), max_fill).extend(end)
        joined = self.beside.interval != self.content.interval
        return (LongBarClock if joined else BarClock)(self.beside, reader, grid)


def make_candles(
    rng: np.random.Generator, interval: int, first: int, rows: int, absent: float = 0.1
) -> Candles:
    """Candles with single bars and outages missing."""
    close = 100 * np.exp(np.cumsum(0.01 * rng.normal(size=rows)))
    opened = np.concatenate([close[:1], close[:-1]])
    kept = rng.uniform(size=rows) >= absent
    for start in rng.integers(0, rows, 2):
        kept[start : start + rng.integers(0, 12)] = False
    kept[0] = True
    columns = {
        "open_time": first + interval * np.arange(rows),
        "open": opened,
        "high": np.maximum(opened, close) * 1.01,
        "low": np.minimum(opened, close) * 0.99,
        "close": close,
        "volume": rng.uniform(1, 2, rows),
    }
    return Candles(interval, {name: values[kept] for name, values in columns.items()})


def make_records(
    rng: np.random.Generator, step: int, interval: int | None, rows: int, first: int = 0
) -> RecordSet:
    """Records of which some are late, some revised, some blank and some absent."""
    slots = np.sort(rng.choice(2 * rows, rows, replace=False))
    late = np.where(rng.uniform(size=rows) < 0.3, rng.integers(0, 6 * step, rows), 0)
    time = first + slots * step
    known_at = time + (interval or 0) + late
    again = rng.uniform(size=rows) < 0.2
    revised = known_at[again] + rng.integers(1, 6 * step, again.sum())
    time, known_at = np.append(time, time[again]), np.append(known_at, revised)
    values = rng.uniform(1, 2, len(time))
    values[rng.uniform(size=len(time)) < 0.1] = np.nan
    order = np.lexsort((known_at, time))
    return RecordSet({"time": time[order], "known_at": known_at[order], "value": values[order]})
