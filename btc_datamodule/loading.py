"""The loader: whole batches of positions in, whole batches of windows out, resumable anywhere.

``WindowLoader`` is torch's DataLoader but for one thing: it settles where the epoch begins only
when the first batch is asked for. Then the Trainer has told the sampler its epoch and knows how
many batches of it a checkpoint has seen, so that a resumed epoch goes on with the very next batch,
for any number of workers and ranks. (DataLoader itself asks the sampler as soon as ``iter`` is
called, which Lightning does before it sets the epoch: Lightning issue 21938.) There is no state
to save: the Trainer's own count of batches is in every checkpoint.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader

from btc_datamodule.sampling import WindowSampler
from btc_datamodule.windows import Batch

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class WindowLoader(DataLoader[Batch]):
    """A DataLoader over a ``WindowDataset`` with a ``WindowSampler``.

    Attributes:
        trainer: whose progress through an epoch the loader follows while it is the train loader
            of a running fit; None for nobody's.
    """

    trainer: "Trainer | None" = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # a generator is an iterator
        trainer = self.trainer
        if trainer is not None and trainer.training and trainer.train_dataloader is self:
            assert isinstance(self.sampler, WindowSampler)
            self.sampler.skip(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        yield from super().__iter__()
