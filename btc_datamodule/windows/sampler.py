"""Sampling: in which order windows are seen, as a pure function of (seed, epoch, position).

No permutation is ever stored: ``permute`` sends any positions to their place at once, by tables of
a few times the square root of as many numbers as there are windows: 3 MB for a billion of them,
made in 2 ms. The sampler yields whole batches of positions, and
each rank takes its slice of every global batch, so the global order depends only on the seed,
the epoch and the global batch size.

``full`` permutes all windows. ``block`` is for a feature file larger than memory: it permutes
blocks of ``BLOCK_WINDOWS`` windows that follow each other in the file, and mixes ``POOL_BLOCKS``
of them at a time. The file is then read in long runs, a pool ahead of its use, and two windows
of one batch come from any of the blocks of a pool, which lie anywhere in the file. ``none`` is
the order of time.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler

Shuffle = Literal["full", "block", "none"]

PERMUTED_AT_ONCE = 1 << 14
"""Positions permuted together: fixed costs vanish, and the arrays still fit the cache."""

BLOCK_WINDOWS = 1 << 15
"""Windows of a block, at a stride of 1: 0.8 MB of rows of 6 features.

Longer ones are hardly faster, and mix less. From a cold file, windows of 64 rows at a stride of
64, where the disk decides, came at 0.86 of the speed of the order of time with blocks of 2^15
windows in pools of 32, at 1.14 with 2^17 in pools of 8; in other runs at 0.98 and 0.87: the disk
was a shared one. At a stride of 1 memory decides, and 20 MB/s of disk are all it takes.
``benchmarks/shuffle.py --block 32768 131072 --pool 8 32``.
"""

POOL_BLOCKS = 32
"""Blocks that are mixed with each other: a million windows in all, 25 MB of rows of 6 features.

The more there are the closer a batch is to a random one. On a series whose volatility keeps for
days, the variance of the batch means of |y| was 14 times that under ``full``, against 53 times
with as many windows in 8 blocks, and 491 times in the order of time (same benchmark).
"""

_MASK = (1 << 64) - 1
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def permute(positions: NDArray[np.int64], size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Where a random permutation of ``range(size)`` sends ``positions``.

    Args:
        positions: (n,) int64 in [0, size).
        size: how many there are in all.
        seed: one permutation per seed and epoch.
        epoch: as above.

    Returns:
        (n,) int64; over all positions, each number of ``range(size)`` exactly once.
    """
    return _network(size, seed, epoch).send(positions)


def permute_run(start: int, count: int, size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The same for the positions [start, start + count), in less time."""
    network = _network(size, seed, epoch)
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
        bits: as above.
        first: (2^bits,) what is added to left, by right.
        second: (2a,) what is added to right, by left, whose sums are not brought below a.
        third: (2^(bits + 1),) what is added to left, by right, likewise.
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
        return self._sent((positions >> self.bits) + self.first.take(right), right)

    def send_run(self, start: int, count: int) -> NDArray[np.int64]:
        """Where ``count`` positions from ``start`` on go, at most ``PERMUTED_AT_ONCE`` of them."""
        lefts, rights = self._runs
        left, at = divmod(start, 1 << self.bits)
        return self._sent(lefts[at : at + count], rights[at : at + count], left)

    @cached_property
    def _runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Both halves after the first round, of positions from 0 on: a run is a slice of them."""
        positions = np.arange((1 << self.bits) + PERMUTED_AT_ONCE, dtype=np.int64)
        right = positions & ((1 << self.bits) - 1)
        return (positions >> self.bits) + self.first.take(right), right

    def _sent(
        self, left: NDArray[np.int64], right: NDArray[np.int64], more: int = 0
    ) -> NDArray[np.int64]:
        """What becomes of pairs (left + more, right) after the first round."""
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
def _network(size: int, seed: int, epoch: int) -> _Network:
    bits = (size - 1).bit_length() // 2
    b = 1 << bits
    a = -(-size // b)
    rounds = []
    for i, (items, values) in enumerate(((b, a), (a, b), (b, a))):
        key = _mix_int(_mix_int(seed) ^ _mix_int((epoch << 8) + i))
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


def _mix_int(value: int) -> int:
    """The same of one number; a Python integer is cheaper than an array of one."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    for shift, factor in _STEPS:
        value = (value ^ (value >> shift)) * factor & _MASK
    return value ^ (value >> 31)


class Request(NamedTuple):
    """A batch to gather, and what to read from disk meanwhile.

    Attributes:
        positions: (B,) int64.
        ahead: half-open spans of positions that will be asked for soon.
    """

    positions: NDArray[np.int64]
    ahead: tuple[tuple[int, int], ...]


class BlockOrder:
    """The order ``block`` of one epoch: blocks in random order, mixed a pool at a time.

    Args:
        size: number of windows.
        seed: one order per seed and epoch.
        epoch: as above.
        block: windows in a block.
        pool: blocks in a pool.
    """

    def __init__(
        self, size: int, seed: int, epoch: int, block: int = BLOCK_WINDOWS, pool: int = POOL_BLOCKS
    ) -> None:
        count = -(-size // block)
        self._blocks = permute(np.arange(count, dtype=np.int64), count, seed, epoch)
        sizes = np.minimum(block, size - self._blocks * block)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._pools = np.append(self._starts[:-1:pool], size)
        self._size, self._seed, self._epoch = size, seed, epoch
        self._block, self._pool = block, pool

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which windows stand at ``positions``."""
        mixed = np.empty_like(positions)
        pools = self.pool_of(positions)
        for pool in np.unique(pools).tolist():
            first, end = self._pools[pool : pool + 2].tolist()
            inside = pools == pool
            seed = _mix_int(self._seed) ^ _mix_int(pool + 1)
            mixed[inside] = first + permute(
                positions[inside] - first, end - first, seed, self._epoch
            )
        slot = np.searchsorted(self._starts, mixed, side="right") - 1
        return self._blocks[slot] * self._block + mixed - self._starts[slot]

    def pool_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the pool that each position lies in."""
        return np.searchsorted(self._pools, positions, side="right") - 1

    def first_of_pool(self, position: int) -> int:
        """The number, in their order, of the first block of the pool that a position lies in."""
        return int(self.pool_of(np.array([position]))[0]) * self._pool

    def due(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many blocks, in their order, are to be in memory or on their way at ``positions``.

        All of a position's pool; of the next one the more the further it lies into its own, and
        all from the middle on. Asked for all at once, they would fill the disk's queue, and whoever
        asks waits until there is room in it.
        """
        slots = np.searchsorted(self._starts, positions, side="right") - 1
        pools, inside = np.divmod(slots, self._pool)
        due: NDArray[np.int64] = (pools + 1) * self._pool
        due += np.minimum(2 * (inside + 1), self._pool)
        return np.minimum(due, len(self._blocks), out=due)

    def spans(self, first: int, end: int) -> tuple[tuple[int, int], ...]:
        """The windows of the blocks from the first to before the end, in their order."""
        starts = (self._blocks[first:end] * self._block).tolist()
        return tuple((start, min(start + self._block, self._size)) for start in starts)


class Announced:
    """Batches of an epoch in the order ``block``, each block announced once before it is needed."""

    def __init__(self, blocks: BlockOrder) -> None:
        self.blocks = blocks
        self._announced = 0  # how many, in their order

    def batches(self, start: int, count: int, length: int) -> Iterator[Request]:
        """``count`` batches from a place in the epoch on, later ones than those before."""
        places = np.arange(start, start + count * length, dtype=np.int64)
        due = self.blocks.due(places[length - 1 :: length]).tolist()
        self._announced = max(self._announced, self.blocks.first_of_pool(start))
        for batch, end in zip(self.blocks(places).reshape(count, length), due, strict=True):
            yield Request(batch, self.blocks.spans(self._announced, end))
            self._announced = end


class WindowSampler(DistributedSampler[NDArray[np.int64] | Request]):
    """Yields batches of positions, for this rank, as int64 arrays.

    For ``DataLoader(dataset, sampler=sampler, batch_size=None)``. Being a ``DistributedSampler``
    Lightning neither replaces nor wraps it, and calls ``set_epoch``.

    Args:
        size: number of windows.
        batch_size: windows in a batch of one rank.
        shuffle: see the module; with "block" the batches are ``Request``s.
        seed: of the order.
        drop_last: leave out the end of the epoch that fills no global batch (train). Otherwise
            (evaluation) the ranks share it: each window is seen once, and some ranks may have
            a batch less.
        num_replicas: ranks.
        rank: this rank.
        block: windows in a block, with "block".
        pool: blocks in a pool, likewise.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        shuffle: Shuffle,
        seed: int = 0,
        drop_last: bool,
        num_replicas: int = 1,
        rank: int = 0,
        block: int = BLOCK_WINDOWS,
        pool: int = POOL_BLOCKS,
    ) -> None:
        super().__init__(
            cast("Dataset[NDArray[np.int64] | Request]", range(size)),  # only its length is used
            num_replicas=num_replicas,
            rank=rank,
            shuffle=shuffle != "none",
            seed=seed,
            drop_last=drop_last,
        )
        self.size = size
        self.batch_size = batch_size
        self.order = shuffle
        self.block = block
        self.pool = pool
        self._skipped = 0

    def skip(self, batches: int) -> None:
        """Begin the next iteration, and that alone, after so many batches."""
        self._skipped = batches

    def __iter__(self) -> Iterator[NDArray[np.int64] | Request]:
        skipped, self._skipped = self._skipped, 0
        length, whole = self.batch_size, self.batch_size * self.num_replicas
        full, rest = divmod(self.size, whole)
        batches = self._batches()
        # The batches of one rank follow each other; those of several do not.
        at_once = max(1, PERMUTED_AT_ONCE // length) if self.num_replicas == 1 else 1
        for first in range(skipped, full, at_once):
            count = min(at_once, full - first)
            yield from batches(first * whole + self.rank * length, count, length)
        start, end = self._share(rest)
        if not self.drop_last and start < end and skipped <= full:
            yield from batches(full * whole + start, 1, end - start)

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size * self.num_replicas)
        return full + (not self.drop_last and self._share(rest)[0] < self._share(rest)[1])

    def _batches(self) -> Callable[[int, int, int], Iterable[NDArray[np.int64] | Request]]:
        """A function from a place in the epoch, a number of batches and their length to these."""
        size, seed, epoch = self.size, self.seed, self.epoch
        if self.order == "block" and size:
            return Announced(BlockOrder(size, seed, epoch, self.block, self.pool)).batches
        if self.order == "full":
            return lambda start, count, length: permute_run(
                start, count * length, size, seed, epoch
            ).reshape(count, length)
        return lambda start, count, length: np.arange(
            start, start + count * length, dtype=np.int64
        ).reshape(count, length)

    def _share(self, rest: int) -> tuple[int, int]:
        """This rank's part of a ragged last global batch of ``rest`` windows."""
        return (
            self.rank * rest // self.num_replicas,
            (self.rank + 1) * rest // self.num_replicas,
        )
