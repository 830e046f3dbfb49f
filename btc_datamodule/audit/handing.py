"""What a Trainer would hand to a model: the loaders and hooks of a datamodule, without a fit.

A ``Twin`` goes the way of a Trainer: it asks for the loader of a stage, takes its batches, and
passes each through the hooks of batches and the transfer, with what is random in them drawn alike
for every twin. Hooks find a Trainer that is in the stage, but runs nothing and has no model.
"""

import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import CombinedLoader
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from btc_datamodule.audit.compare import Arrays, LeakError, list_arrays
from btc_datamodule.errors import BTCDataError, get_first_line
from btc_datamodule.evaluation.origins import Origins
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.stages import Stages
from btc_datamodule.windows.batch import Transform
from btc_datamodule.windows.dataset import WindowDataset

FLAGS = {"train": "training", "val": "validating", "test": "testing", "predict": "predicting"}
"""The attribute by which a Trainer says that it is in a stage."""


class Server(Protocol):
    """What hands batches to a model: the loaders and hooks of a LightningDataModule, set up."""

    batch_size: int
    transform: Transform | None
    trainer: Trainer | None

    def dataset(self, stage: Stage) -> WindowDataset:
        """The windows of a stage."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lightning's hook."""

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Lightning's hook."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lightning's hook."""


class Serve(Protocol):
    """Gives the loaders and hooks of the datamodule under audit over other stages."""

    def __call__(self, stages: Stages, fitted: Any = None) -> Server:
        """Serve some stages.

        Args:
            stages: what each stage may see.
            fitted: a server whose ``setup`` has been called, to keep what that has fitted; None to
                call it on these stages.
        """


class Handed(NamedTuple):
    """A batch as a model gets it.

    Attributes:
        arrays: what it holds, by name.
        origins: (B,) rows of the origins of its samples; None where the loader does not tell.
    """

    arrays: Arrays
    origins: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Twin:
    """Stages, and what a Trainer would hand to a model of them.

    Attributes:
        stages: what each stage may see.
        server: the loaders and hooks over these stages.
    """

    stages: Stages
    server: Server

    def overrides_loader(self, stage: Stage) -> bool:
        """Whether the loader of a stage is none of this package's own."""
        made_by: str = getattr(self.server, f"{stage}_dataloader").__module__
        return not made_by.startswith(("btc_datamodule.", "lightning."))

    def hand_batches(self, stage: Stage) -> Iterator[Handed]:
        """The batches of a stage's loader, as the model would get them."""
        with seed_random_numbers(), _explain(f"the loader of {stage}"):
            batches = _list_batches(getattr(self.server, f"{stage}_dataloader")())
        for number in count():
            with seed_random_numbers(number):
                raw, loader = next(batches, (None, 0))
                if raw is None:
                    return
                told = list_arrays(raw).get("origin_time")
                arrays = list_arrays(self._transfer(raw, stage, loader))
            told = arrays.get("origin_time") if told is None else told
            yield Handed(arrays, None if told is None else self._find_rows(told))

    def hand_samples(self, stage: Stage, rows: NDArray[np.int64], seed: int = 0) -> Arrays:
        """The samples with their origins at some rows as one batch, as the model would get it."""
        with seed_random_numbers(seed):
            windows = self._take(stage, rows)
            batch = windows[np.searchsorted(np.unique(rows), rows)]
            return list_arrays(self._transfer(batch, stage))

    def hand_one_by_one(self, stage: Stage, rows: NDArray[np.int64]) -> Iterator[Arrays]:
        """The samples with their origins at some rows, each as a batch of one."""
        windows = self._take(stage, rows)
        for position in np.searchsorted(np.unique(rows), rows):
            with seed_random_numbers():
                batch = windows[np.array([position])]
                yield list_arrays(self._transfer(batch, stage))

    def _take(self, stage: Stage, rows: NDArray[np.int64]) -> WindowDataset:
        """The windows of a stage, but with these origins alone, in order of time."""
        windows, each = self.server.dataset(stage), np.unique(rows)
        windows.origins = Origins.of(np.stack([each, each + 1], axis=1), 1)
        return windows

    def _find_rows(self, times: NDArray[np.generic]) -> NDArray[np.int64]:
        table = self.stages.table
        rows: NDArray[np.int64] = (times.astype(np.int64) - table.first) // table.interval
        return rows

    def _transfer(self, batch: Any, stage: Stage, loader: int = 0) -> Any:
        """What the hooks of batches, and the transfer to a device, make of a batch.

        Raises:
            LeakError: if a hook fails, as one does that asks its Trainer for a model.
        """
        self.server.trainer = trainer = make_trainer()
        setattr(trainer, FLAGS[stage], True)
        try:
            with _explain("the hooks of batches"):
                batch = self.server.on_before_batch_transfer(batch, loader)
                batch = self.server.transfer_batch_to_device(batch, torch.device("cpu"), loader)
                return self.server.on_after_batch_transfer(batch, loader)
        finally:
            self.server.trainer = None


@cache
def make_trainer() -> Trainer:
    """The Trainer that hooks find: on the CPU, at rest, without a model. One for all of them."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        return Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    finally:
        log.setLevel(level)


@contextmanager
def _explain(what: str) -> Iterator[None]:
    """Turn what a user's own code raises, which may be anything, into a ``LeakError``."""
    try:
        yield
    except BTCDataError:
        raise
    except Exception as error:
        raise LeakError(
            f"{what} cannot be checked, as they fail outside a fit "
            f"({type(error).__name__}: {get_first_line(error)})"
        ) from error


def _list_batches(given: Any) -> Iterator[tuple[Any, int]]:
    """The batches of a loader, or of each of several, and of which each is."""
    loaders = [given]
    if isinstance(given, CombinedLoader):
        loaders = given.flattened
    elif isinstance(given, Mapping):
        loaders = list(given.values())
    elif isinstance(given, list | tuple) and any(isinstance(each, DataLoader) for each in given):
        loaders = list(given)
    for number, loader in enumerate(loaders):
        for batch in loader:
            yield batch, number


@contextmanager
def seed_random_numbers(seed: int = 0) -> Iterator[None]:
    """Have torch, numpy and Python draw the same random numbers; then go on as before."""
    generator = torch.default_generator  # torch.manual_seed would note the stack for each device
    kept = generator.get_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    generator.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # what transforms may use
    random.seed(seed)
    try:
        yield
    finally:
        generator.set_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])
