"""Randomness that is counted, not drawn: each number is a function of its place and a key.

What the simulator is made of. The uniform number for place i under a key is a hash of both, as in
SplitMix64 (Steele, Lea & Flood 2014): any stretch of places, asked for in any order, holds the
numbers that any other stretch holds there. What else is drawn is made of such numbers, one by one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of the Student variates. The spread of volatility fattens the tails too: hourly returns come to an
# excess kurtosis of about 16 (median of 30 seeds). With 6 it reached 377, an hour of +80 %.
FREEDOM = 8.0


def draw_uniform(index: range, *key: int) -> Floats:
    """Draw uniform numbers in the open interval (0, 1), each a function of index and key.

    Args:
        index: places.
        key: whole numbers, 0 <= part < 2**64.
    """
    state = np.zeros(1, np.uint64)
    for part in key:
        state = _mix(state + np.uint64(part) + np.uint64(0x9E3779B97F4A7C15))
    counter = np.arange(index.start, index.stop, dtype=np.uint64)
    counter *= np.uint64(0x9E3779B97F4A7C15)
    bits = _mix(counter + state)
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def draw_student(size: Floats, angle: Floats) -> Floats:
    """Draw Student t variates of variance one from two uniforms each (Bailey 1994, polar form)."""
    radius = np.sqrt((FREEDOM - 2) * (size ** (-2 / FREEDOM) - 1))
    return radius * np.cos(2 * np.pi * angle)


def draw_noise(time: NDArray[np.int64], periods: Sequence[int], scale: float, *key: int) -> Floats:
    """Draw value noise at sorted times: for each period, values on its grid, joined by lines.

    ``scale`` is the standard deviation of the values on the grids. Sums over octaves vary on all
    scales, as the volatility of markets does: its memory fades slowly.
    """
    total = np.zeros(len(time))
    for period in periods:
        grid = range(int(time[0]) // period, int(time[-1]) // period + 2)
        values = (draw_uniform(grid, *key, period) - 0.5) * (scale * np.sqrt(12))
        total += np.interp(time, np.arange(grid.start, grid.stop) * period, values)
    return total


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64, in place: each bit in stirs each bit out."""
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state
