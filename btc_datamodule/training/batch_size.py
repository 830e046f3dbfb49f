"""A batch size that is looked for in a fit stays one that train can fill.

``BatchSizeFinder`` and ``Tuner.scale_batch_size`` double ``batch_size`` until memory runs out, or
until it reaches the windows of the dataset. A train loader gives whole batches alone, so that the
last one they try would be a fit of no steps, which ends well at once; and it is the one they keep.
"""

from collections.abc import Callable

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BatchSizeFinder
from lightning.pytorch.utilities import rank_zero_info

from btc_datamodule.checks import check_whole_number
from btc_datamodule.training import internals


def bound_batch_size(
    size: int, trainer: Trainer | None, count_windows: Callable[[], int | None]
) -> int:
    """A batch size that was asked for; in a running fit at most what train can fill.

    Args:
        size: what was asked for.
        trainer: the Trainer that the datamodule was last given to.
        count_windows: counts the windows of train; None before they are known.

    Raises:
        ConfigError: if it is no whole number from 1 up.
    """
    size = check_whole_number("batch_size", size, 1)
    if trainer is None or not internals.is_at_work(trainer) or not internals.is_fitting(trainer):
        return size
    windows = count_windows()
    most = size if windows is None else max(1, windows // trainer.world_size)
    if most < size:
        rank_zero_info(f"batch_size {size:,} is more than the windows of train: it is {most:,}")
    return min(size, most)


def correct_found_size(trainer: Trainer, size: int) -> None:
    """Have what a ``BatchSizeFinder`` says it has found be no more than what it was bounded to."""
    for each in internals.get_callbacks(trainer):
        if isinstance(each, BatchSizeFinder) and each.optimal_batch_size is not None:
            each.optimal_batch_size = min(each.optimal_batch_size, size)
