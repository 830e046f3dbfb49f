"""All windows of a stage at once, as arrays: checked for size first, then gathered in blocks.

The memory is that of the result, of one block, and of the rows that the windows keep scaled.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from btc_datamodule.checks import check_whole_number, format_size
from btc_datamodule.errors import ConfigError
from btc_datamodule.windows.arrays import Arrays, view_tensor
from btc_datamodule.windows.dataset import WindowDataset

MAX_BYTES = 1 << 31
"""2 GiB."""

BLOCK_BYTES = 1 << 25
"""What is gathered at once: 32 MiB."""


def collect_arrays(windows: WindowDataset, stage: str, max_bytes: int = MAX_BYTES) -> Arrays:
    """Gather all windows of a stage, in order of time, with what a transform makes of them.

    Args:
        windows: of the stage.
        stage: which, for errors.
        max_bytes: what the arrays may take together.

    Raises:
        ConfigError: if they would take more, or a transform gives other rows than it was given.
    """
    if check_whole_number("max_bytes", max_bytes) < 1:
        raise ConfigError(f"max_bytes is {max_bytes!r}: it must be a whole number from 1 up")
    empty = _make_empty(windows)
    count, each = len(windows), sum(_count_bytes(field[np.newaxis]) for field in empty)
    _check_size(windows, stage, each, max_bytes)
    parts = [np.zeros((count, *field.shape), field.dtype) for field in empty] if not count else []
    step = max(1, BLOCK_BYTES // each)
    for low in range(0, count, step):
        positions = np.arange(low, min(low + step, count), dtype=np.int64)
        made = windows[positions].numpy()
        block = (made.x, made.y, made.observed, made.origin_time)
        if any(len(field) != len(positions) for field in block):
            raise ConfigError(
                f"the transform gave {made} for {len(positions):,} samples: arrays need a row of "
                "each"
            )
        if not parts:
            _check_size(windows, stage, sum(_count_bytes(field[:1]) for field in block), max_bytes)
            parts = [np.empty((count, *field.shape[1:]), field.dtype) for field in block]
        for whole, field in zip(parts, block, strict=True):
            whole[low : low + len(positions)] = field
    x, y, observed, times = parts
    return Arrays(x, y, observed, times, tuple(windows.table.features))


def _make_empty(windows: WindowDataset) -> Sequence[NDArray[Any]]:
    """A sample of zeros: what one takes, before a transform."""
    return [view_tensor(torch.zeros(shape, dtype=dtype))[0] for dtype, shape in windows.describe(1)]


def _count_bytes(row: NDArray[Any]) -> int:
    return prod(row.shape) * row.itemsize


def _check_size(windows: WindowDataset, stage: str, each: int, max_bytes: int) -> None:
    """Raise ``ConfigError`` if all windows take more than they may, of ``each`` bytes."""
    size, stride = len(windows) * each, "stride" if stage == "train" else "eval_stride"
    if size > max_bytes:
        fewer = "" if stage == "predict" else f"raise `{stride}`, "
        bars, features = windows.shape.lookback, len(windows.table.features)
        raise ConfigError(
            f"the arrays of {stage} would take {format_size(size)} ({len(windows):,} samples, "
            f"{bars} bars of {features} features), more than the {format_size(max_bytes)} of "
            f"`max_bytes`: {fewer}shorten `lookback`, take fewer features, go through the batches "
            "of a loader by `batch.numpy()`, or raise `max_bytes`"
        )
