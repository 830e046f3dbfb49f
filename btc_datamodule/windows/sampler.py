"""Sampling: in which order windows are seen, as a pure function of (seed, epoch, position).

The sampler yields whole batches of positions, and each rank takes its slice of every global batch,
so the global order depends only on the seed, the epoch and the global batch size. How many ranks
there are it asks when it is iterated, and when its length is asked for: when a loader is made by
hand, before a Trainer or Fabric has started the ranks, nobody knows.

``full`` permutes all windows (``permutation``). ``block`` is for a feature file larger than memory
(``blocks``). ``none`` is the order of time.
"""

from collections.abc import Callable, Iterator
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler, SequentialSampler

from btc_datamodule.windows.blocks import (
    BLOCK_WINDOWS,
    POOL_BLOCKS,
    BatchRequest,
    BlockAnnouncer,
    BlockOrder,
    Run,
)
from btc_datamodule.windows.permutation import PERMUTED_AT_ONCE, permute, permute_run

Shuffle = Literal["full", "block", "none"]
"""Order of train windows: random, anew each epoch; so too, within a million windows at a time, for
files larger than memory; or by time."""

Positions = NDArray[np.int64] | BatchRequest
"""A batch to gather: its positions, and with the order ``block`` what to read meanwhile."""


Ranks = Callable[[], tuple[int, int]]
"""Says how many ranks there are, and which this is."""


def be_alone() -> tuple[int, int]:
    """The ``Ranks`` of one process."""
    return 1, 0


class WindowSampler(DistributedSampler[Positions]):
    """Yields batches of positions, for this rank, as int64 arrays.

    For ``DataLoader(dataset, sampler=sampler, batch_size=None)``. Being a ``DistributedSampler``
    Lightning neither replaces nor wraps it, and calls ``set_epoch``.

    Args:
        size: number of windows.
        batch_size: windows in a batch of one rank.
        shuffle: see the module; with "block" the batches are ``BatchRequest``s.
        seed: together with the epoch decides the order.
        drop_last: leave out the end of the epoch that fills no global batch (train). Otherwise
            (evaluation) the ranks share it: each window is seen once, and some ranks may have
            a batch less.
        ranks: asked for the ranks at each iteration, and for each length.
        block: windows in a block, with "block".
        pool: blocks in a pool, with "block".
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        shuffle: Shuffle,
        seed: int = 0,
        drop_last: bool,
        ranks: Ranks = be_alone,
        block: int = BLOCK_WINDOWS,
        pool: int = POOL_BLOCKS,
    ) -> None:
        # DistributedSampler's own would ask for the ranks, and keep the answer.
        self.dataset = cast("Dataset[Positions]", range(size))
        self.epoch = 0
        self.shuffle = shuffle != "none"
        self.seed = seed
        self.drop_last = drop_last
        self.ranks = ranks
        self.size = size
        self.batch_size = batch_size
        self.order = shuffle
        self.block = block
        self.pool = pool
        self._skipped = 0

    def skip(self, batches: int) -> None:
        """Begin the next iteration, and that alone, after so many batches."""
        self._skipped = batches

    def __iter__(self) -> Iterator[Positions]:
        for run in self.iterate_runs():
            yield from run.list_requests()

    def iterate_runs(self) -> Iterator[Run]:
        """The same batches, several at a time: what is done for many at once costs less."""
        skipped, self._skipped = self._skipped, 0
        ranks, rank = self.ranks()
        length, whole = self.batch_size, self.batch_size * ranks
        full, rest = divmod(self.size, whole)
        find_batches = self._choose_order()
        at_once = max(1, PERMUTED_AT_ONCE // length)
        for first in range(skipped, full, at_once):
            count = min(at_once, full - first)
            yield find_batches(first * whole + rank * length, count, whole, length)
        start, end = rank * rest // ranks, (rank + 1) * rest // ranks
        if not self.drop_last and start < end and skipped <= full:
            yield find_batches(full * whole + start, 1, whole, end - start)

    def __len__(self) -> int:
        """Batches of this rank; 1 for one that has none beside others that have one.

        A Trainer refuses a loader of length 0 on one rank alone, and takes no harm from one that
        ends early.
        """
        ranks, rank = self.ranks()
        full, rest = divmod(self.size, self.batch_size * ranks)
        if self.drop_last:
            return full
        start, end = rank * rest // ranks, (rank + 1) * rest // ranks
        return full + (start < end or 0 < self.size < ranks)

    @property
    def num_replicas(self) -> int:  # type: ignore[override]  # what torch calls it, to be read
        """How many ranks there are now."""
        return self.ranks()[0]

    @property
    def rank(self) -> int:  # type: ignore[override]
        """Which of them this is."""
        return self.ranks()[1]

    def _choose_order(self) -> Callable[[int, int, int, int], Run]:
        """The order of this epoch.

        Returns:
            A function from a place in the epoch, a number of batches, how many places lie from one
            to the next, and the length of each, to these batches.
        """
        size, seed, epoch = self.size, self.seed, self.epoch
        if self.order == "block" and size:
            announcer = BlockAnnouncer(BlockOrder(size, seed, epoch, self.block, self.pool))
            return lambda *batches: announcer.announce(_list_places(*batches))
        if self.order == "none":
            return lambda *batches: Run(_list_places(*batches))

        def find_batches(start: int, count: int, step: int, length: int) -> Run:
            if step == length:  # they follow each other
                places = permute_run(start, count * length, size, seed, epoch)
            else:
                places = permute(
                    _list_places(start, count, step, length).reshape(-1), size, seed, epoch
                )
            return Run(places.reshape(count, length))

        return find_batches


def _list_places(start: int, count: int, step: int, length: int) -> NDArray[np.int64]:
    """(count, length): each row follows ``step`` after the one before."""
    rows = np.arange(start, start + count * step, step, dtype=np.int64)
    return rows[:, np.newaxis] + np.arange(length, dtype=np.int64)


class InOrderSampler(WindowSampler, SequentialSampler):  # type: ignore[misc]  # yields batches
    """A ``WindowSampler`` with ``shuffle="none"``.

    It is a ``SequentialSampler`` too: in the place of any other sampler
    ``Trainer(overfit_batches=...)`` puts one that yields single positions.
    """
