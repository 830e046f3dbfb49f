"""Small batches made several at a time, and handed out one by one.

What a batch takes beside its bytes is Python, some 40 microseconds however small it is: as much as
copying 64 windows of 256 x 6. So positions, targets, masks and times of up to 64 batches are made
in one go. Their inputs, nearly all of their bytes, are gathered as they are asked for, those of the
smallest some at once (``dataset.INPUT_BYTES``). A batch that is kept keeps no more of others than
that and ``TOGETHER_BYTES``.

A batch is bit for bit what it would be alone: a target of this package computes each sample by
itself. Of a user's own nobody knows (a matrix product may round otherwise for more rows), so that
its batches are made one by one.
"""

from collections.abc import Iterable, Iterator
from math import prod

from btc_datamodule.evaluation.targets import Target
from btc_datamodule.windows.batch import Batch
from btc_datamodule.windows.blocks import Run
from btc_datamodule.windows.dataset import WindowDataset

TOGETHER = 64
"""Batches that are made at once, at most."""

TOGETHER_BYTES = 1 << 20
"""Of what they take beside their inputs, 1 MiB, with the bars that targets are made of."""


def iterate_batches(windows: WindowDataset, runs: Iterable[Run]) -> Iterator[Batch]:
    """The batches of some runs, one by one."""
    for part in cut_runs(windows, runs):
        yield from windows.gather_run(part)


def cut_runs(windows: WindowDataset, runs: Iterable[Run]) -> Iterator[Run]:
    """The same batches, no more at a time than are made at once."""
    for run in runs:
        count = count_together(windows, run.positions.shape[1])
        for low in range(0, len(run), count):
            yield run.cut(low, low + count)


def count_together(windows: WindowDataset, length: int) -> int:
    """How many batches of ``length`` windows are made at once; at least 1."""
    target, shape = windows.target, windows.shape
    if type(target).__module__ != Target.__module__:
        return 1
    bars = (shape.reference_bars + shape.horizon) * len(target.columns)
    each = prod(windows.mask_shape) + 8 * (bars + prod(target.shape(shape.horizon)) + 1)
    return max(1, min(TOGETHER, TOGETHER_BYTES // max(1, length * each)))
