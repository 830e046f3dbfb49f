"""Loaders that others take apart: right, or one line that says what to write instead.

A loader hands its dataset whole batches of positions. A library that makes another loader of its
parts may lose the sampler they come from: accelerate's ``prepare`` keeps a sampler of batches only
as a ``batch_sampler``, and a Trainer with ``overfit_batches`` puts one of its own in the place of a
shuffling one. What is left would ask for window after window, in order of time, unbatched. The
dataset of a loader refuses that. Where torch asks for the windows of a batch together,
``DataLoader(loader.dataset, batch_size=32, shuffle=True)``, it hands out single samples, as
``BTCDataModule.dataset`` does.
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from btc_datamodule.errors import ConfigError
from btc_datamodule.windows.batch import Batch
from btc_datamodule.windows.blocks import BatchRequest
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.sampler import Positions


class LoadedWindows(Dataset[Batch]):
    """The windows of a stage as its loader asks for them, a batch at a time.

    Args:
        windows: the windows of the stage.
    """

    def __init__(self, windows: WindowDataset) -> None:
        self.windows = windows

    def __repr__(self) -> str:
        return repr(self.windows)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, positions: NDArray[np.int64] | Sequence[int] | BatchRequest) -> Batch:
        """The batch at some positions.

        Raises:
            ConfigError: if it is a single one: the loader was taken apart.
        """
        if not isinstance(positions, np.ndarray | list | BatchRequest):
            refuse_rebuilt()
        return self.windows[positions]

    def __getitems__(self, positions: Sequence[int]) -> list[Batch]:
        """Single samples, for a loader of torch that makes batches of them itself."""
        return [self.windows[position] for position in positions]


def get_positions(request: Positions) -> NDArray[np.int64]:
    """The positions that a sampler of batches asks for.

    Raises:
        ConfigError: if they are no array: the loader was taken apart.
    """
    positions = request.positions if isinstance(request, BatchRequest) else request
    if not isinstance(positions, np.ndarray):
        refuse_rebuilt()
    return positions


def refuse_rebuilt() -> NoReturn:
    """Raise ``ConfigError``: a loader was taken apart, and its batches were lost."""
    raise ConfigError(
        "this loader was taken apart and put together without its batches (by accelerate's "
        "`prepare`, `overfit_batches`, a loader over `loader.dataset`). Use it as it is: it shares "
        "its windows among the ranks by itself, so leave it out of `accelerator.prepare`; give a "
        "Trainer `datamodule=dm`; for single windows take `dm.dataset(stage)`: docs/many_ranks.md"
    )
