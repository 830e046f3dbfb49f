"""The order ``block``, for a feature file larger than memory.

The order permutes blocks of ``BLOCK_WINDOWS`` windows that follow each other in the file, and mixes
``POOL_BLOCKS`` of them at a time. The file is then read in long runs, a pool ahead of its use, and
two windows of one batch come from any of the blocks of a pool, which lie anywhere in the file.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.windows.permutation import mix_int, permute

Spans = tuple[tuple[int, int], ...]

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


class BatchRequest(NamedTuple):
    """A batch to gather, and spans to read from disk meanwhile.

    Attributes:
        positions: (B,) int64.
        ahead: half-open spans of positions that will be asked for soon.
    """

    positions: NDArray[np.int64]
    ahead: Spans


@dataclass(frozen=True, slots=True)
class Run:
    """Batches of one length that follow each other in an epoch.

    Attributes:
        positions: (n, B) int64, of each of n batches.
        ahead: for each of them what a ``BatchRequest`` has; None where nothing is to be read ahead.
    """

    positions: NDArray[np.int64]
    ahead: tuple[Spans, ...] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def cut(self, low: int, high: int) -> "Run":
        """Some of the batches: [low, high)."""
        return Run(self.positions[low:high], self.ahead and self.ahead[low:high])

    def list_requests(self) -> "list[NDArray[np.int64]] | list[BatchRequest]":
        """Each batch by itself: a ``BatchRequest`` where something is to be read ahead."""
        if self.ahead is None:
            return list(self.positions)
        return list(map(BatchRequest, self.positions, self.ahead))


class BlockOrder:
    """The order ``block`` of one epoch: blocks in random order, mixed a pool at a time.

    Args:
        size: number of windows.
        seed: together with the epoch decides the order.
        epoch: number of the epoch, from 0 on.
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
        pools = self.find_pools(positions)
        for pool in np.unique(pools).tolist():
            first, end = self._pools[pool : pool + 2].tolist()
            inside = pools == pool
            seed = mix_int(self._seed) ^ mix_int(pool + 1)
            mixed[inside] = first + permute(
                positions[inside] - first, end - first, seed, self._epoch
            )
        slot = np.searchsorted(self._starts, mixed, side="right") - 1
        return self._blocks[slot] * self._block + mixed - self._starts[slot]

    def find_pools(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the pool that each position lies in."""
        return np.searchsorted(self._pools, positions, side="right") - 1

    def find_first_block(self, position: int) -> int:
        """The number, in their order, of the first block of the pool that a position lies in."""
        return int(self.find_pools(np.array([position]))[0]) * self._pool

    def count_due(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
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

    def list_spans(self, first: int, end: int) -> Spans:
        """The windows of the blocks from the first to before the end, in their order."""
        starts = (self._blocks[first:end] * self._block).tolist()
        return tuple((start, min(start + self._block, self._size)) for start in starts)


class BlockAnnouncer:
    """Batches of an epoch in the order ``block``, in which each block is announced once.

    A block is announced before a batch needs it, in the ``ahead`` of its ``Run``.

    Args:
        blocks: the order of the epoch.
    """

    def __init__(self, blocks: BlockOrder) -> None:
        self.blocks = blocks
        self._announced = 0  # how many, in their order

    def announce(self, places: NDArray[np.int64]) -> Run:
        """The batches at some places in the epoch, (n, B), later ones than those before."""
        due = self.blocks.count_due(places[:, -1]).tolist()
        self._announced = max(self._announced, self.blocks.find_first_block(int(places[0, 0])))
        begins = [self._announced, *due[:-1]]
        self._announced = due[-1]
        positions = self.blocks(places.reshape(-1)).reshape(places.shape)
        return Run(positions, tuple(map(self.blocks.list_spans, begins, due)))
