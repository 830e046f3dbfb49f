"""The loader: whole batches of positions in, whole batches of windows out, resumable anywhere.

``WindowLoader`` is torch's DataLoader but for one thing: it settles where the epoch begins only
when the first batch is asked for. Then the Trainer has told the sampler its epoch and knows how
many batches of it a checkpoint has seen, so that a resumed epoch goes on with the very next batch,
for any number of workers and ranks. (DataLoader itself asks the sampler as soon as ``iter`` is
called, which Lightning does before it sets the epoch: Lightning issue 21938.) The Trainer's own
count of batches, which is in every checkpoint, says how far training was; the state of the loader
only says in what order, so that another one does not go unnoticed.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from btc_datamodule.windows.dataset import Batch
from btc_datamodule.windows.sampler import WindowSampler

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class WindowLoader(DataLoader[Batch]):
    """A DataLoader over a ``WindowDataset`` with a ``WindowSampler``.

    Attributes:
        trainer: whose progress through an epoch the loader follows while it is the train loader
            of a running fit; None for nobody's.
    """

    trainer: "Trainer | None" = None
    _asked = False
    _running = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # a generator is an iterator
        """The batches of an epoch.

        A Trainer asks for an iterator as soon as it has the loader, and with that one it resumes;
        it asks again for each later epoch. Whoever else asks gets whole epochs, in a running fit
        too.
        """
        used = self._used()
        first, self._asked = used and not self._asked, self._asked or used
        return self._epoch(resumes=first)

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on; that there is a state tells Lightning that it can resume."""
        sampler = self._sampler
        return {
            "windows": sampler.size,
            "global_batch": sampler.batch_size * sampler.num_replicas,
            "shuffle": sampler.order,
            "seed": sampler.seed,
            "block": sampler.block if sampler.order == "block" else 0,
            "pool": sampler.pool if sampler.order == "block" else 0,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Warn if training goes on in the middle of an epoch with other batches than were left."""
        if self.trainer is None or not self._used():
            rank_zero_warn(
                "a Trainer that is given the loader alone begins an epoch anew that a checkpoint "
                "was in the middle of. To go on with the very next batch give it the datamodule: "
                "`fit(model, datamodule=dm, ckpt_path=...)`"
            )
            return
        now = self.state_dict()
        changed = [
            f"{name} was {was}, is {now.get(name)}"
            for name, was in state_dict.items()
            if now.get(name) != was
        ]
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        batches = self.trainer.fit_loop.epoch_loop.batch_progress
        over = batches.is_last_batch and batches.current.completed == batches.current.ready
        if changed and epochs.ready != epochs.processed and not over:
            rank_zero_warn(
                "training goes on in the middle of an epoch whose order has changed since the "
                f"checkpoint ({'; '.join(changed)}): the rest of it repeats some windows and "
                "leaves out others"
            )

    @property
    def _sampler(self) -> WindowSampler:
        assert isinstance(self.sampler, WindowSampler)
        return self.sampler

    def _epoch(self, resumes: bool) -> Iterator[Batch]:
        if resumes and self.trainer is not None:
            self._follow(self.trainer)
        self._running += 1
        try:
            yield from self._batches()
        finally:
            self._running -= 1

    def _batches(self) -> Iterator[Batch]:
        if not self.num_workers and not self.pin_memory:
            # All that DataLoader does then is to look up the next positions, for the price of a
            # small batch; and to take a seed from torch, as it does with workers too.
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)
            return map(self.dataset.__getitem__, self.sampler)
        if self._running > 1:  # persistent workers serve one iterator, and would begin it again
            return self._get_iterator()
        return super().__iter__()

    def _used(self) -> bool:
        """Whether the Trainer trains with this very loader."""
        combined = None if self.trainer is None else self.trainer.fit_loop._combined_loader
        return combined is not None and any(each is self for each in combined.flattened)

    def _follow(self, trainer: "Trainer") -> None:
        """Pass over the batches that the Trainer has seen."""
        seen = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        combined = trainer.fit_loop._combined_loader
        assert combined is not None
        if seen >= trainer.num_training_batches:  # its limit, which a Trainer takes for more
            seen = len(self)
        elif combined._mode == "max_size_cycle":
            seen %= len(self)  # it is shorter than another one, and has begun again
        self._sampler.skip(seen)
