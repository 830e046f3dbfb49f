"""The permutation of windows, as a pure function of (seed, epoch, position).

No permutation is ever stored: ``permute`` sends any positions to their place at once, by tables of
a few times the square root of as many numbers as there are windows: 3 MB for a billion of them,
made in 2 ms.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

PERMUTED_AT_ONCE = 1 << 14
"""Positions permuted together: fixed costs vanish, and the arrays still fit the cache."""

_MASK = (1 << 64) - 1
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def permute(positions: NDArray[np.int64], size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Where a random permutation of ``range(size)`` sends ``positions``.

    Args:
        positions: (n,) int64 in [0, size).
        size: how many there are in all.
        seed: together with the epoch decides the permutation.
        epoch: number of the epoch, from 0 on.

    Returns:
        (n,) int64; over all positions, each number of ``range(size)`` exactly once.
    """
    return _make_network(size, seed, epoch).send(positions)


def permute_run(start: int, count: int, size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """What ``permute`` gives for the positions [start, start + count), in less time."""
    network = _make_network(size, seed, epoch)
    if count <= PERMUTED_AT_ONCE:
        return network.send_run(start, count)
    starts = range(start, start + count, PERMUTED_AT_ONCE)
    counts = [min(PERMUTED_AT_ONCE, start + count - each) for each in starts]
    return np.concatenate(list(map(network.send_run, starts, counts)))


@dataclass(frozen=True, eq=False)
class _Network:
    """A Feistel network over pairs (left, right), left < a and right < 2^bits.

    a * 2^bits lies just above the size; what falls past the size goes through again (cycle
    walking) until it does not. In each of three rounds one half is moved on by a random number
    that stands at the other half's place in a table, so that a position costs a few look-ups. A
    fourth round leaves the statistics of batches as they are, which differ from those of true
    permutations in one thing: of the pairs of positions that lie a multiple of 2^bits apart, one
    in 2^bits more than by chance come to lie within 2^bits windows of each other.

    Attributes:
        size: numbers permuted.
        bits: of the right half.
        first: (2^bits,) numbers added to left in the first round, by right.
        second: (2a,) numbers added to right in the second round, by left; sums in left are not
            brought below a before.
        third: (2^(bits + 1),) numbers added to left in the third round, by right; sums in right
            are not brought below 2^bits before.
        lefts: (3a,) the left half of a number, for each sum.
    """

    size: int
    bits: int
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    third: NDArray[np.int64]
    lefts: NDArray[np.int64]

    def send(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where any positions go."""
        right = positions & ((1 << self.bits) - 1)
        return self._finish((positions >> self.bits) + self.first.take(right), right)

    def send_run(self, start: int, count: int) -> NDArray[np.int64]:
        """Where ``count`` positions from ``start`` on go, at most ``PERMUTED_AT_ONCE`` of them."""
        lefts, rights = self._runs
        left, at = divmod(start, 1 << self.bits)
        return self._finish(lefts[at : at + count], rights[at : at + count], left)

    @cached_property
    def _runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Both halves after the first round, of positions from 0 on: a run is a slice of them."""
        positions = np.arange((1 << self.bits) + PERMUTED_AT_ONCE, dtype=np.int64)
        right = positions & ((1 << self.bits) - 1)
        return (positions >> self.bits) + self.first.take(right), right

    def _finish(
        self, left: NDArray[np.int64], right: NDArray[np.int64], more: int = 0
    ) -> NDArray[np.int64]:
        """Take pairs (left + more, right) through the second and the third round."""
        result = self.second[more:].take(left)
        result += right
        left = self.third.take(result) + left
        result &= (1 << self.bits) - 1
        result += self.lefts[more:].take(left)
        outside = np.flatnonzero(result >= self.size)
        if outside.size:
            result[outside] = self.send(result[outside])
        return result


@lru_cache(maxsize=4)  # a pool of blocks and the next; the order of blocks; another epoch
def _make_network(size: int, seed: int, epoch: int) -> _Network:
    bits = (size - 1).bit_length() // 2
    b = 1 << bits
    a = -(-size // b)
    rounds = []
    for i, (items, values) in enumerate(((b, a), (a, b), (b, a))):
        key = mix_int(mix_int(seed) ^ mix_int((epoch << 8) + i))
        noise = _mix(np.arange(items, dtype=np.uint64) ^ np.uint64(key))
        # The upper 32 bits, brought into range by multiplication (Lemire, 2019).
        table = (noise >> np.uint64(32)) * np.uint64(values) >> np.uint64(32)
        rounds.append(table.astype(np.int64))
    first, second, third = rounds
    lefts = np.arange(a, dtype=np.int64) << bits
    return _Network(size, bits, first, np.tile(second, 2), np.tile(third, 2), np.tile(lefts, 3))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014), in place."""
    for shift, factor in _STEPS:
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)
    return values


def mix_int(value: int) -> int:
    """The finaliser of SplitMix64 of one number: cheaper than an array of one."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    for shift, factor in _STEPS:
        value = (value ^ (value >> shift)) * factor & _MASK
    return value ^ (value >> 31)
