"""Sampling: in which order windows are seen, as a pure function of (seed, epoch, position).

No permutation is ever stored: ``permute`` sends any positions to their place at once, in memory
that does not depend on how many there are. The sampler yields whole batches of positions, and
each rank takes its slice of every global batch, so the global order depends only on the seed,
the epoch and the global batch size.

``full`` permutes all windows. ``block`` is for a feature file larger than memory: it permutes
blocks of ``BLOCK_WINDOWS`` windows that follow each other in the file, and mixes ``POOL_BLOCKS``
of them at a time. The file is then read in long runs, a pool ahead of its use, and two windows
of one batch come from any of the blocks of a pool, which lie anywhere in the file. ``none`` is
the order of time.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler

Shuffle = Literal["full", "block", "none"]

ROUNDS = 4
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

    A Feistel network over pairs (left, right) with left < a and right < b, a * b just above
    ``size``; what falls past ``size`` goes through again (cycle walking) until it does not.

    Args:
        positions: (n,) int64 in [0, size).
        size: how many there are in all.
        seed: one permutation per seed and epoch.
        epoch: as above.

    Returns:
        (n,) int64; over all positions, each number of ``range(size)`` exactly once.
    """
    a = math.isqrt(size - 1) + 1
    b = -(-size // a)
    keys = [_mix_int(_mix_int(seed) ^ _mix_int((epoch << 8) + i)) for i in range(ROUNDS)]
    result = _feistel(positions, a, b, keys)
    while (outside := np.flatnonzero(result >= size)).size:
        result[outside] = _feistel(result[outside], a, b, keys)
    return result


def _feistel(positions: NDArray[np.int64], a: int, b: int, keys: list[int]) -> NDArray[np.int64]:
    left, right = (part.astype(np.uint64) for part in np.divmod(positions, b))
    for i, key in enumerate(keys):
        if i % 2:
            _add(right, _mix(left ^ np.uint64(key)), np.uint64(b))
        else:
            _add(left, _mix(right ^ np.uint64(key)), np.uint64(a))
    return (left * np.uint64(b) + right).astype(np.int64)


def _add(half: NDArray[np.uint64], noise: NDArray[np.uint64], size: np.uint64) -> None:
    """Move ``half`` on by ``noise`` modulo ``size`` (below 2^32), in place.

    The upper 32 bits of the noise are brought into range by multiplication (Lemire, 2019):
    half the time of a division.
    """
    noise >>= np.uint64(32)
    noise *= size
    noise >>= np.uint64(32)
    half += noise
    half -= size * (half >= size)


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
        slices = self._slices(skipped)
        blocks: BlockOrder | None = None
        if self.order == "block" and self.size:
            blocks = BlockOrder(self.size, self.seed, self.epoch, self.block, self.pool)
        announced = 0  # blocks that have been asked to be read ahead
        while some := list(islice(slices, max(1, PERMUTED_AT_ONCE // self.batch_size))):
            positions = np.concatenate([np.arange(*each, dtype=np.int64) for each in some])
            if blocks is not None:
                ahead = blocks.due(np.array([end - 1 for _, end in some])).tolist()
                first = blocks.pool_of(positions[:1])[0] * self.pool  # later than 0 after a skip
                announced = max(announced, int(first))
                positions = blocks(positions)
            elif self.order == "full":
                positions = permute(positions, self.size, self.seed, self.epoch)
            batches = np.split(positions, np.cumsum([end - start for start, end in some])[:-1])
            if blocks is None:
                yield from batches
                continue
            for batch, due in zip(batches, ahead, strict=True):
                yield Request(batch, blocks.spans(announced, due))
                announced = due

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size * self.num_replicas)
        return full + (not self.drop_last and self._share(rest)[0] < self._share(rest)[1])

    def _slices(self, first: int) -> Iterator[tuple[int, int]]:
        """This rank's part of each global batch from ``first`` on, as [start, end) of places."""
        whole = self.batch_size * self.num_replicas
        full, rest = divmod(self.size, whole)
        for batch in range(first, full):
            start = batch * whole + self.rank * self.batch_size
            yield start, start + self.batch_size
        start, end = self._share(rest)
        if not self.drop_last and start < end and first <= full:
            yield full * whole + start, full * whole + end

    def _share(self, rest: int) -> tuple[int, int]:
        """This rank's part of a ragged last global batch of ``rest`` windows."""
        return (
            self.rank * rest // self.num_replicas,
            (self.rank + 1) * rest // self.num_replicas,
        )
