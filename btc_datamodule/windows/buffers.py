"""A pool of memory for large batches, used again as soon as nobody holds the batch.

What an allocator gives for tens of megabytes is fresh from the system each time: every page of it
must be cleared before it can be written, which takes as long as gathering the batch. Where an
earlier batch has been let go, its memory is taken instead. Whoever holds a batch, or any view of
one of its tensors, keeps its memory.

For a GPU batches are gathered straight into pinned memory. Torch keeps a stock of pinned memory by
itself, and uses none of it again before the transfer from it is over.
"""

import time
import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btc_datamodule.windows.overlapping import SPLIT_BYTES, Choice, Overlapping, split_alone

RECYCLED_BYTES = 1 << 25
"""Smaller tensors, below 32 MiB, are left to the allocator, which keeps their memory by itself."""

KEPT = 2
"""How many pieces of memory may wait to be used again."""


class BufferPool:
    """Makes tensors, and takes back their memory when they are gone. Safe between threads.

    Args:
        pinned: whether the tensors are to lie in pinned memory, which takes a GPU.
    """

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self._waiting: list[NDArray[np.uint8]] = []
        self._choice = Choice()

    def is_small(self, windows: Overlapping, starts: NDArray[np.int64]) -> bool:
        """Whether the copy of some windows is no more than ``windows.copy(starts)``."""
        return not self.pinned and len(starts) * windows.items.itemsize < SPLIT_BYTES

    def select(
        self, windows: Overlapping, starts: NDArray[np.int64], made: Tensor | None = None
    ) -> Tensor:
        """Copy some windows of float32 into ``made`` or a new tensor: (len(starts), width)."""
        size = len(starts) * windows.items.itemsize
        is_large = size >= SPLIT_BYTES
        split = is_large and self._choice.choose()
        begin = time.perf_counter()
        if made is None and not (split or self.pinned) and size < RECYCLED_BYTES:
            made = torch.from_numpy(windows.copy(starts))
        else:
            if made is None:
                made = self.allocate(len(starts), windows.tensor.shape[1])
            windows.copy_to(starts, made, split)
        if is_large:
            self._choice.record(split, (time.perf_counter() - begin) / len(starts))
        return made

    def convert(self, values: Tensor, dtype: torch.dtype, made: Tensor | None = None) -> Tensor:
        """A (count, width) tensor in another type, in ``made`` or a new one."""
        if made is None:
            made = self.allocate(len(values), values.shape[1], dtype)
        for source, target in split_alone(values, made):
            target.copy_(source)
        return made

    def allocate(self, count: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A (count, width) tensor, not filled: with whatever was in its memory before.

        Args:
            count: of rows.
            width: of each.
            dtype: float32 or bfloat16.
        """
        if self.pinned:
            return torch.empty((count, width), dtype=dtype, pin_memory=True)
        # numpy has no bfloat16
        word: type[np.generic] = np.float32 if dtype == torch.float32 else np.int16
        size = dtype.itemsize * count * width
        if size < RECYCLED_BYTES:  # numpy is quicker than torch to get memory: 5 of 26 µs
            made = torch.from_numpy(np.empty((count, width), dtype=word))
            return made if dtype == torch.float32 else made.view(dtype)
        try:
            memory = self._waiting.pop()
        except IndexError:
            memory = np.empty(size, dtype=np.uint8)
        if len(memory) < size:
            memory = np.empty(size, dtype=np.uint8)
        # The tensor, and every view of the tensor, holds this array; when the last of them goes so
        # does the array, and its memory comes back.
        lent = memory[:size].view(word).reshape(count, width)
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return torch.from_numpy(lent).view(dtype)

    def _take_back(self, memory: NDArray[np.uint8]) -> None:
        if len(self._waiting) < KEPT:
            self._waiting.append(memory)
