"""The loader: whole batches of positions in, whole batches of windows out, resumable anywhere.

``WindowLoader`` is torch's DataLoader but for one thing: it settles where the epoch begins only
when the first batch is asked for. Then the Trainer has told the sampler its epoch and knows how
many batches of it a checkpoint has seen, so that a resumed epoch goes on with the very next batch,
for any number of workers and ranks. (DataLoader itself asks the sampler as soon as ``iter`` is
called, which Lightning does before it sets the epoch: Lightning issue 21938.) How far training was
is told by a ``Progress``: a Trainer's own count of batches, which is in every checkpoint. The state
of the loader only says in what order, so that another one does not go unnoticed.
"""

from collections.abc import Iterator, Sized
from typing import Any, Protocol, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Dataset

from btc_datamodule.errors import ConfigError
from btc_datamodule.escaping import escape
from btc_datamodule.windows.batch import Batch, pass_through
from btc_datamodule.windows.blocks import BLOCK_WINDOWS
from btc_datamodule.windows.buffers import BufferPool
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.rebuilt import LoadedWindows, refuse_rebuilt
from btc_datamodule.windows.sampler import InOrderSampler, Ranks, Shuffle, WindowSampler
from btc_datamodule.windows.sending import StartMethod, check_sendable
from btc_datamodule.windows.starts import StartsDataset
from btc_datamodule.windows.together import iterate_batches
from btc_datamodule.windows.workers import WorkerBatches


class Progress(Protocol):
    """How far a training has come; ``training.progress`` has that of a Trainer."""

    def is_training_with(self, loader: object) -> bool:
        """Whether the training draws its batches from this very loader now."""

    def is_amid_epoch(self) -> bool:
        """Whether an epoch has begun, and batches of it are left."""

    def count_batches_seen(self, loader: Sized) -> int:
        """How many batches of the running epoch a loader is to pass over: [0, len(loader)]."""


class WindowLoader(DataLoader[Batch]):
    """A DataLoader over a ``WindowDataset`` with a ``WindowSampler``.

    Attributes:
        progress: the training that the loader follows through an epoch, if it draws its batches
            from this loader; None for a loader that always gives whole epochs.
        may_be_empty: whether a train loader may have fewer windows than one global batch; one that
            may not says so, where a Trainer would end a fit of no steps well.
    """

    progress: Progress | None = None
    may_be_empty = False
    _asked = False
    _running = 0
    _workers: WorkerBatches | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} batches of {self.dataset!r})"

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # a generator is an iterator
        """The batches of an epoch.

        A Trainer asks for an iterator as soon as it has the loader, and with that one it resumes;
        it asks again for each later epoch. Anyone else is given whole epochs, in a running fit too.
        """
        used = self._is_trained_with()
        first, self._asked = used and not self._asked, self._asked or used
        return self._iterate_epoch(resumes=first)

    def __len__(self) -> int:
        """Batches of an epoch, on this rank.

        Raises:
            ConfigError: if train has not even one.
        """
        sampler = self._sampler
        count = len(sampler)
        if not count and sampler.drop_last and not self.may_be_empty:
            ranks = sampler.num_replicas
            each = f"{ranks} ranks of batch_size " * (ranks > 1) or "batch_size "
            raise ConfigError(
                f"train has fewer windows than one batch ({sampler.size:,} windows, "
                f"{each}{sampler.batch_size:,}): lower `batch_size` or `stride`, or widen `start` "
                "and `end`"
            )
        return count

    def state_dict(self) -> dict[str, Any]:
        """All that the order depends on; having a state, the loader passes for one to resume."""
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
        if self.progress is None or not self._is_trained_with():
            rank_zero_warn(
                "a Trainer that is given the loader alone begins an epoch anew that a checkpoint "
                "was in the middle of. To go on with the very next batch give it the datamodule: "
                "`fit(model, datamodule=dm, ckpt_path=...)`"
            )
            return
        now = self.state_dict()
        changed = [
            escape(f"{name} was {was}, is {now.get(name)}")
            for name, was in state_dict.items()
            if now.get(name) != was
        ]
        if changed and self.progress.is_amid_epoch():
            rank_zero_warn(
                "training goes on in the middle of an epoch whose order has changed since the "
                f"checkpoint ({'; '.join(changed)}): the rest of it repeats some windows and "
                "leaves out others"
            )

    @property
    def _sampler(self) -> WindowSampler:
        if not isinstance(self.sampler, WindowSampler):
            refuse_rebuilt()
        return self.sampler

    @property
    def _is_accelerate_prepared(self) -> bool:
        """What accelerate asks of a loader before it makes another one of its parts."""
        refuse_rebuilt()

    def _iterate_epoch(self, resumes: bool) -> Iterator[Batch]:
        if resumes and self.progress is not None:
            self._sampler.skip(self.progress.count_batches_seen(self))
        len(self)  # so that an epoch without a batch does not pass for one
        self._running += 1
        try:
            yield from self._iterate_batches()
        finally:
            self._running -= 1

    def _iterate_batches(self) -> Iterator[Batch]:
        if not self.num_workers and not self.pin_memory:
            # All that DataLoader does then is to look up the next positions, for the price of a
            # small batch; and to take a seed from torch, as with workers too.
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)
            fetch = self.dataset
            if isinstance(fetch, StartsDataset):
                return cast("Iterator[Batch]", fetch.iterate(self.sampler))
            if isinstance(fetch, LoadedWindows):
                return iterate_batches(fetch.windows, self._sampler.iterate_runs())
            return map(fetch.__getitem__, self.sampler)
        if not (self.num_workers and isinstance(self.dataset, LoadedWindows)):
            return super().__iter__()
        if self._running > 1:  # persistent workers serve one iteration, and would begin it again
            return iter(self._start_workers(persistent=False))
        if self._workers is None:
            self._workers = self._start_workers(persistent=self.persistent_workers)
        return iter(self._workers)

    def _start_workers(self, *, persistent: bool) -> WorkerBatches:
        windows = cast("LoadedWindows", self.dataset).windows
        return WorkerBatches(self, windows, self._sampler, persistent=persistent)

    @property
    def _iterator(self) -> None:
        """Where torch keeps persistent workers; a Trainer sets it to None to have them end."""
        return None

    @_iterator.setter
    def _iterator(self, _: None) -> None:
        self._workers = None

    def _is_trained_with(self) -> bool:
        """Whether the training that this loader follows draws its batches from it."""
        return self.progress is not None and self.progress.is_training_with(self)


class Options(Protocol):
    """What a user says of loading, and may change until a loader is made.

    Attributes:
        batch_size: windows in a batch of one rank.
        seed: of the order.
        num_workers: processes that load; 0 for this one.
        start_method: how these processes start; None for the platform's way.
    """

    batch_size: int
    seed: int
    num_workers: int
    start_method: StartMethod | None


def make_loader(
    windows: WindowDataset,
    options: Options,
    *,
    shuffle: Shuffle,
    drop_last: bool,
    ranks: Ranks,
    stride: int,
    starts: StartsDataset | None,
    pinned: bool,
) -> WindowLoader:
    """The loader of a stage.

    Args:
        windows: of the stage.
        options: how to load.
        shuffle: order of the windows.
        drop_last: leave out the end of an epoch that fills no global batch.
        ranks: says how many there are, and which this is.
        stride: bars from one window to the next, so that a block is a length of the file.
        starts: the same windows, to be gathered on a device; None to gather them on the host.
            It leaves nothing to do for other processes, or to be pinned.
        pinned: whether batches are to lie in pinned memory.

    Raises:
        ConfigError: if the loader processes cannot be sent the transform or the target.
    """
    num_workers = 0 if starts is not None else options.num_workers
    if pinned and not num_workers and torch.cuda.is_available():
        windows.buffers = BufferPool(pinned=True)
    sampler = (InOrderSampler if shuffle == "none" else WindowSampler)(
        len(windows),
        options.batch_size,
        shuffle=shuffle,
        seed=options.seed,
        drop_last=drop_last,
        ranks=ranks,
        block=max(1, BLOCK_WINDOWS // stride),
    )
    # What a model is handed are batches in either case: see ``gather_nested``.
    dataset: Any = LoadedWindows(windows) if starts is None else starts
    if num_workers:
        parts = {"transform": windows.transform, "target": windows.target, "dataset": dataset}
        otherwise = "set `num_workers: 0` or `start_method: fork`"
        check_sendable(parts, options.start_method, otherwise)
    return WindowLoader(
        cast("Dataset[Batch]", dataset),
        sampler=sampler,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=pass_through,
        pin_memory=pinned and starts is None,
        persistent_workers=num_workers > 0,
        multiprocessing_context=options.start_method if num_workers else None,
    )
