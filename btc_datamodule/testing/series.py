"""Candles for tests, the same each time: a random walk, and ways to take bars out of it."""

from datetime import datetime

import numpy as np

from btc_datamodule.candles.series import Candles


def random_walk(start: str, bars: int, interval: int, seed: int = 0) -> Candles:
    """Make ``bars`` candles in a row from ``start`` (ISO 8601, UTC); a seed decides their values.

    Args:
        start: opening of the first bar.
        bars: how many.
        interval: seconds of a bar.
        seed: another seed, other prices; the same seed, the same candles.
    """
    rng = np.random.default_rng(seed)
    first = int(datetime.fromisoformat(f"{start}+00:00").timestamp())
    close = np.round(8000 * np.exp(np.cumsum(rng.normal(0, 0.002, bars))), 2)
    opened = np.concatenate([[8000.0], close[:-1]])
    wick = np.round(rng.uniform(0, 5, (2, bars)), 2)
    columns = {
        "open_time": first + interval * np.arange(bars),
        "open": opened,
        "high": np.round(np.maximum(opened, close) + wick[0], 2),
        "low": np.round(np.minimum(opened, close) - wick[1], 2),
        "close": close,
        "volume": np.round(rng.exponential(10, bars), 8),
    }
    return Candles(interval, columns)


def without(candles: Candles, *spans: tuple[int, int]) -> Candles:
    """Take the bars out of ``candles`` that open in one of the half-open spans (epoch seconds)."""
    kept = np.ones(len(candles), dtype=bool)
    for start, end in spans:
        kept &= (candles.open_time < start) | (candles.open_time >= end)
    return Candles(candles.interval, {name: v[kept] for name, v in candles.columns.items()})
