"""Rows as overlapping windows, without a copy, and the copy of some of these windows.

A window is one item of some kilobytes, so that it is copied by one memcpy. There are two ways to
copy many. Numpy does it in the thread that asks. Torch shares a large copy out among its threads,
which is faster on an idle machine; on a busy one the thread that has to wait for a core makes all
others wait for it, for milliseconds where the copy itself takes less than one. So small copies are
never shared out, and of large ones it is measured, as they are made, which way is faster just now
(``benchmarks/threads.py``). The bytes are the same.
"""

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SPLIT_BYTES = 1 << 20
"""Copies of fewer bytes, 1 MiB, are never shared out among threads."""

PIECE_BYTES = 1 << 18
"""What one thread gathers at once, and then moves to a place that it is given: 256 KiB."""

TRIED_EVERY = 100
"""After so many copies the way that was slower is tried again."""

WEIGHT = 0.25
"""Of the newest time in the mean of a way."""

ALONE_ELEMENTS = 1 << 14
"""Torch shares out an operation on 32,768 elements or more: parts are kept well below."""


class Overlapping:
    """Contiguous (T, ...) rows as n = T - length + 1 overlapping windows, only ever to be read.

    Windows share their rows, which may be a file mapped read-only.

    Args:
        rows: of any type.
        length: rows of a window.

    Attributes:
        items: (n,) void, a window each.
        tensor: (n, length * numbers of a row).
    """

    def __init__(self, rows: NDArray[Any], length: int) -> None:
        self.items = view_items(rows, length)
        self.tensor = view_windows(rows, length)
        self.dtype = rows.dtype

    def __len__(self) -> int:
        return len(self.tensor)

    def copy(self, starts: NDArray[np.int64]) -> NDArray[Any]:
        """Copy some windows, in this thread: (len(starts), width)."""
        return self.items[starts].view(self.dtype).reshape(len(starts), self.tensor.shape[1])

    def copy_to(self, starts: NDArray[np.int64], made: Tensor, split: bool) -> None:
        """Copy some windows into a contiguous tensor (len(starts), width).

        Args:
            starts: none of them negative.
            made: the tensor.
            split: whether torch may share the copy out among its threads.
        """
        if split or torch.get_num_threads() == 1:
            torch.index_select(self.tensor, 0, torch.from_numpy(starts), out=made)
            return
        items = view_items(made.numpy(), 1)
        step = max(1, PIECE_BYTES // self.items.itemsize)
        for low in range(0, len(starts), step):
            items[low : low + step] = self.items[starts[low : low + step]]


class Choice:
    """Whether to share a copy out among threads: what was faster of late, on this machine."""

    def __init__(self) -> None:
        self._times: dict[bool, float] = {}  # seconds for a window, by whether it was shared out
        self._count = 0

    def choose(self) -> bool:
        """Whether to share out the next copy."""
        if torch.get_num_threads() == 1:
            return False
        for split in (False, True):
            if split not in self._times:
                return split
        self._count += 1
        faster = self._times[True] < self._times[False]
        return faster != (self._count % TRIED_EVERY == 0)

    def record(self, split: bool, seconds: float) -> None:
        """Take note of how long a window took."""
        before = self._times.get(split, seconds)
        self._times[split] = before + WEIGHT * (seconds - before)


def split_alone(x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Parts of tensors (B, ...) along B that are small enough for torch to stay in one thread.

    Large ones, of ``SPLIT_BYTES`` or more, are one part.
    """
    each = max(1, x[:1].numel())
    if x.numel() * x.itemsize >= SPLIT_BYTES or each > ALONE_ELEMENTS:
        return iter([(x, *others)])
    return zip(*(torch.split(field, ALONE_ELEMENTS // each) for field in (x, *others)), strict=True)


def split_apart(field: Tensor, count: int) -> Iterator[Tensor]:
    """Equal parts of a tensor along its first axis, each of which may be written into by itself."""
    if count == 1:
        return iter([field])
    return split_array(view_as(field, find_word(field.dtype)).numpy(), count, field.dtype)


def split_array(array: NDArray[Any], count: int, dtype: torch.dtype) -> Iterator[Tensor]:
    """Equal parts of an array along its first axis, as tensors.

    To torch no part is a view of anything, and has a storage of its own size.

    Args:
        array: of the ``find_word`` of a type.
        count: of parts.
        dtype: that type.
    """
    parts = map(torch.from_numpy, array.reshape(count, len(array) // count, *array.shape[1:]))
    return parts if find_word(dtype) == dtype else (view_as(part, dtype) for part in parts)


def view_as(field: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor as another type of the same size; itself if it has that type."""
    return field if field.dtype == dtype else field.view(dtype).data


@cache
def find_word(dtype: torch.dtype) -> torch.dtype:
    """The type itself, or where numpy does not know it a whole number of the same size."""
    try:
        torch.empty(0, dtype=dtype).numpy()
    except TypeError:
        return {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    return dtype


@cache
def find_array_type(dtype: torch.dtype) -> np.dtype[Any]:
    """The numpy type of the ``find_word`` of a type."""
    return torch.empty(0, dtype=find_word(dtype)).numpy().dtype


def view_windows(rows: NDArray[Any], length: int) -> Tensor:
    """A view of contiguous (T, ...) rows as (T - length + 1, length * row) overlapping windows.

    Only ever to be read: windows share their rows, which may be a file mapped read-only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of rows that are read-only
        flat = torch.from_numpy(rows).view(-1)
    width = flat.numel() // len(rows)
    return flat.as_strided((len(rows) - length + 1, length * width), (width, 1))


def view_items(rows: NDArray[Any], length: int) -> NDArray[Any]:
    """A view of contiguous (T, ...) rows as (T - length + 1,) overlapping windows, an item each.

    Indexing it copies each window with one memcpy; ``.view(dtype)`` gives the numbers back.
    """
    stride = rows.strides[0]
    return np.ndarray(
        shape=(len(rows) - length + 1,),
        dtype=np.dtype((np.void, stride * length)),
        buffer=rows,
        strides=(stride,),
    )
