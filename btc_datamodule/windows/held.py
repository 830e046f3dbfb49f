"""What a device holds, and the gather there: one kernel where there is Triton, else plain torch.

All that a batch is made of lies on the device: the rows, scaled, and of each stage where its
windows start and their targets. A gather is given positions and copies memory. It is done in words
as wide as a row divides into, since a GPU moves eight bytes at a time as quickly as four.
"""

import warnings
from functools import cached_property
from importlib.util import find_spec
from math import prod
from typing import Any

import torch
from torch import Tensor

from btc_datamodule.errors import get_first_line
from btc_datamodule.windows.batch import Batch

WORDS = (torch.int64, torch.int32, torch.int16, torch.uint8)
"""Types that rows are copied as, whatever they hold."""

TOGETHER_BYTES = 1 << 26
"""Of ``x`` of batches that are gathered together, 64 MiB.

To ask a GPU for anything takes longer than to gather a small batch there.
"""

TOGETHER_BYTES_CPU = 1 << 20
"""Likewise on a CPU, whose cache they should not leave before they are used."""

BLOCK = 512
"""Words that a program of the kernel copies at once."""

WARPS = 4
"""Groups of 32 threads that do it."""

TRIED_WINDOWS = 64
"""Windows that the kernel gathers once, to be compared with those of plain torch."""


class HeldStage:
    """The windows of a stage on a device.

    Args:
        starts: (n,) int64, the first row of each.
        y: (n, *target shape); None if the targets are not there.
    """

    def __init__(self, starts: Tensor, y: Tensor | None) -> None:
        self.starts = starts
        self.y = starts.new_empty((len(starts), 0), dtype=torch.float32) if y is None else y
        self.has_y = y is not None

    @cached_property
    def y_words(self) -> Tensor:
        """``y`` as (n, words) of int32, for the kernel."""
        return self.y.view(len(self.y), prod(self.y.shape[1:])).view(torch.int32)


class Held:
    """Rows on a device, and the windows of stages in them.

    Args:
        x: (T, F) float32 or bfloat16, on the device.
        observed: (T, 1) or (T, F) bool; None if all is observed.
        lookback: rows of a window.
        by_feature: whether ``Batch.observed`` has an item for each feature.
        first: the time of the last row of the window that starts at row 0, epoch seconds UTC.
        interval: seconds from one row to the next.

    Attributes:
        stages: by name; whoever brings one there adds it.
        kernel: gathers a batch in one launch; None for plain torch.
    """

    def __init__(
        self,
        x: Tensor,
        observed: Tensor | None,
        *,
        lookback: int,
        by_feature: bool,
        first: int,
        interval: int,
    ) -> None:
        self.x = x
        self.first = first
        self.interval = interval
        self.stages: dict[str, HeldStage] = {}
        self.kernel = find_kernel(x.device)
        self._size = (lookback, x.shape[1])
        self._seen = self._size if by_feature else self._size[:1]
        self._words = view_words(x)
        self._bytes = x.new_empty((0, 1), dtype=torch.bool) if observed is None else observed
        self._x = view_overlapping(self._words, lookback)
        self._observed = (
            None if observed is None else view_overlapping(view_words(observed), lookback)
        )
        row, seen_row = self._words.shape[1], self._bytes.shape[1]
        self._sizes = {
            "x_row": row,
            "x_window": lookback * row,
            "seen_row": seen_row,
            "seen_window": lookback * (x.shape[1] if by_feature else 1),
            "is_complete": observed is None,
        }

    def count_together(self, length: int) -> int:
        """How many batches of a length take no more than ``TOGETHER_BYTES``; at least 1."""
        size = max(1, length) * self._size[0] * self._size[1] * self.x.itemsize
        limit = TOGETHER_BYTES_CPU if self.x.device.type == "cpu" else TOGETHER_BYTES
        return max(1, limit // size)

    def gather(
        self, stage: str, positions: Tensor, at: int, length: int, count: int = 1
    ) -> list[Batch]:
        """Batches of windows of a stage that follow each other, each apart from the others.

        Args:
            stage: its name.
            positions: (n,) int64 on the device, of windows of the stage.
            at: where in them those of the first batch begin.
            length: windows of each batch, B.
            count: batches.

        Returns:
            The batches; ``y`` is (B, 0) where the targets are not on the device.
        """
        gather = self._gather_plainly if self.kernel is None else self._launch
        made = gather(self.stages[stage], positions, at, length * count)
        if count == 1:
            return [made]
        parts = (field.view(count, length, *field.shape[1:]).unbind() for field in made)
        # ``data``: to autograd none is a part of anything, and each may be written into by itself.
        return [Batch(*(part.data for part in batch)) for batch in zip(*parts, strict=True)]

    def add(self, name: str, stage: HeldStage) -> None:
        """Take the windows of a stage, and try the kernel on some of them.

        If it fails plain torch gathers from here on, and a warning says so.
        """
        self.stages[name] = stage
        if self.kernel is None or not len(stage.starts):
            return
        places = torch.linspace(0, len(stage.starts) - 1, TRIED_WINDOWS, dtype=torch.float64)
        given = stage, places.long().to(self.x.device), 1, TRIED_WINDOWS - 1
        try:
            pairs = zip(self._launch(*given), self._gather_plainly(*given), strict=True)
            same = all(torch.equal(*(_list_bytes(each) for each in pair)) for pair in pairs)
            reason = "" if same else "its windows are not those of plain torch"
        except Exception as error:  # whatever a compiler or a driver raises
            reason = f"{type(error).__name__}: {get_first_line(error)}"
        if reason:
            self.kernel = None
            warnings.warn(
                f"Triton does not work on {self.x.device} ({reason}): plain torch gathers the "
                "windows, which takes longer",
                stacklevel=2,
            )

    def _gather_plainly(self, stage: HeldStage, positions: Tensor, at: int, count: int) -> Batch:
        """``gather`` with plain torch."""
        index = positions.narrow(0, at, count)
        starts = stage.starts.index_select(0, index)
        x = self._x.index_select(0, starts).view(self.x.dtype).view(count, *self._size)
        if self._observed is None:
            observed = torch.ones((count, *self._seen), dtype=torch.bool, device=x.device)
        else:
            seen = self._observed.index_select(0, starts).view(torch.bool)
            observed = seen.view(count, *self._seen)
        y = stage.y.index_select(0, index)
        return Batch(x, y, observed, starts.mul_(self.interval).add_(self.first))

    def _launch(self, stage: HeldStage, positions: Tensor, at: int, count: int) -> Batch:
        """``gather`` with the kernel."""
        x, y, sizes = self.x, stage.y, self._sizes
        made = Batch(
            x.new_empty((count, *self._size)),
            y.new_empty((count, *y.shape[1:])),
            self._bytes.new_empty((count, *self._seen)),
            positions.new_empty(count),
        )
        pieces = -(-sizes["x_window"] // BLOCK) + 1
        if self.kernel is not None and count:
            with torch.cuda.device(x.get_device()):
                self.kernel[(count, pieces)](
                    positions,
                    at,
                    stage.starts,
                    self._words,
                    self._bytes,
                    stage.y_words,
                    made.x,
                    made.observed,
                    made.y,
                    made.origin_time,
                    self.interval,
                    self.first,
                    y_item=stage.y_words.shape[1],
                    block=BLOCK,
                    num_warps=WARPS,
                    **sizes,
                )
        return made


def find_kernel(device: torch.device) -> Any:
    """The kernel for a device; None where there is none, or no Triton."""
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    from btc_datamodule.windows.kernel import copy_windows

    return copy_windows


def view_words(rows: Tensor) -> Tensor:
    """A view of contiguous (T, n) rows as the widest words that a row divides into."""
    if rows.device.type not in ("cpu", "cuda"):  # others need not copy every type
        return rows
    size = rows.shape[1] * rows.itemsize
    return rows.view(next(word for word in WORDS if size % word.itemsize == 0))


def view_overlapping(rows: Tensor, length: int) -> Tensor:
    """A view of (T, n) rows as (T - length + 1, length * n) overlapping windows."""
    width = rows.shape[1]
    return rows.as_strided((len(rows) - length + 1, length * width), (width, 1))


def _list_bytes(values: Tensor) -> Tensor:
    return values.flatten().view(torch.uint8)
