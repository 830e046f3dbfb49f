"""A source that serves candles from memory, for tests that need exact ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from btc_datamodule import Block, Candles, Source
from btc_datamodule.candles.timeline import Span

HOUR = 3600
START = 1_577_836_800  # 2020-01-01T00:00:00Z


@dataclass(frozen=True, eq=False)
class Memory(Source):
    """Serves ``candles``; what they lack is answered to be absent."""

    candles: Candles
    label: str = "memory"

    name: ClassVar[str] = "memory"

    @property
    def series(self) -> str:
        return self.label

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield Block(span, self.candles.slice(*span), "memory")


def hourly(closes: Sequence[float | None], start: int = START) -> Candles:
    """Hourly bars with these closes from ``start`` on; None for an absent bar.

    Each opens at the close of the bar before it; high and low lie 1 % outside; the volume of
    the bar in row r is r + 1.
    """
    rows = [row for row, close in enumerate(closes) if close is not None]
    close = np.array([close for close in closes if close is not None], dtype=np.float64)
    opened = np.concatenate([close[:1], close[:-1]])
    return Candles(
        HOUR,
        {
            "open_time": start + HOUR * np.array(rows, dtype=np.int64),
            "open": opened,
            "high": np.maximum(opened, close) * 1.01,
            "low": np.minimum(opened, close) * 0.99,
            "close": close,
            "volume": np.array(rows, dtype=np.float64) + 1,
        },
    )


def random_hourly(present: Sequence[bool], seed: int) -> Candles:
    """Hourly bars on a random walk, with the bars absent where ``present`` is false."""
    steps = np.random.default_rng(seed).normal(0, 0.01, len(present))
    closes = 7000 * np.exp(np.cumsum(steps))
    return hourly([c if p else None for c, p in zip(closes.tolist(), present, strict=True)])
