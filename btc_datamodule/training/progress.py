"""``FitProgress``: how far the fit of a Trainer has come, as a train loader asks for it."""

from collections.abc import Sized

import torch
from lightning.pytorch import Trainer

from btc_datamodule.training import internals


class FitProgress:
    """The ``Progress`` of a Trainer, for the loaders that it trains with.

    Args:
        trainer: whose fit it is.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def is_training_with(self, loader: object) -> bool:
        """Whether the Trainer trains with this very loader."""
        return any(each is loader for each in internals.list_train_loaders(self.trainer))

    def is_amid_epoch(self) -> bool:
        """Whether an epoch has begun, and batches of it are left."""
        return internals.is_amid_epoch(self.trainer)

    def count_batches_seen(self, loader: Sized) -> int:
        """How many batches of the epoch a loader is to pass over, which the Trainer has seen."""
        seen = internals.count_batches_done(self.trainer)
        if seen >= self.trainer.num_training_batches:  # its limit, which it takes for more
            return len(loader)
        if internals.is_cycling_loaders(self.trainer):
            return seen % len(loader)  # it is shorter than another one, and has begun again
        return seen


def count_ranks(trainer: Trainer | None) -> tuple[int, int]:
    """How many ranks there are now, and which this is.

    Those of a Trainer while it is at work; else those of torch.distributed, if it has any: a
    loader can be handed to Fabric, or to another Trainer than the datamodule was.
    """
    if trainer is not None and internals.is_at_work(trainer):
        return trainer.world_size, trainer.global_rank
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


def trains_on_gpu(trainer: Trainer | None) -> bool:
    """Whether a Trainer trains on a GPU of NVIDIA."""
    return trainer is not None and trainer.strategy.root_device.type == "cuda"
