"""Hypothesis strategies: candles that keep the contract and nothing but the contract."""

import numpy as np
from hypothesis import strategies as st

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import parse_instant

LEVELS = (1e-8, 1.0, 6e4, 1e9)
"""Prices to start from: a fraction of a cent to what no coin has reached."""

MOVES = (0.0, 1e-5, 0.01, 0.7)
"""Standard deviation of a bar's log return: a market that stands still, to one gone mad."""


@st.composite
def candles(
    draw: st.DrawFn,
    *,
    interval: int = 3600,
    start: str = "2020-01-01",
    min_bars: int = 1,
    max_bars: int = 200,
    longest_hole: int = 12,
    optional: bool = True,
) -> Candles:
    """Valid candles, with holes, bars of no volume or no range, and extreme values.

    Shrinks towards few bars in a row at a price of 1.

    Args:
        draw: given by Hypothesis.
        interval: seconds.
        start: open time of the first bar, ISO 8601, UTC.
        min_bars: rows of the regular grid, from first to last bar, at least.
        max_bars: rows of the regular grid at most.
        longest_hole: bars absent in a row, at most, where two holes do not meet; 0 for no holes.
        optional: whether there may be ``quote_volume``, ``trades`` and ``taker_buy_volume``,
            with values that are not known (NaN) among them.
    """
    size = draw(st.integers(min_bars, max_bars))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = np.ones(size, dtype=bool)
    if longest_hole and size > 2:
        hole = st.tuples(st.integers(1, size - 2), st.integers(1, longest_hole))
        for low, length in draw(st.lists(hole, max_size=4)):
            present[low : min(low + length, size - 1)] = False
    move, wick = draw(st.sampled_from(MOVES)), draw(st.sampled_from(MOVES))
    steps = np.clip(np.cumsum(rng.normal(0, move, size)), -15, 15)
    close = draw(st.sampled_from(LEVELS)) * np.exp(steps)
    opened = np.where(rng.random(size) < 0.8, np.append(close[:1], close[:-1]), close)
    high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, wick, size)))
    low_price = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, wick, size)))
    traded = rng.random(size) >= draw(st.sampled_from([0.0, 0.3, 1.0]))
    volume = rng.exponential(draw(st.sampled_from([1e-8, 50.0, 1e12])), size) * traded
    columns = {
        "open_time": parse_instant(start) + interval * np.arange(size),
        "open": opened,
        "high": high,
        "low": low_price,
        "close": close,
        "volume": volume,
    }
    if optional and draw(st.booleans()):
        known = np.where(rng.random(size) < draw(st.sampled_from([0.0, 0.2])), np.nan, 1.0)
        columns["quote_volume"] = volume * close * known
        columns["trades"] = rng.integers(1, 100, size) * traded * known
        columns["taker_buy_volume"] = volume * rng.random(size) * known
    return Candles(interval, {name: values[present] for name, values in columns.items()})
