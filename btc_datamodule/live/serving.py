"""Predictions of single windows by a Trainer, as ``predict`` makes them.

Each window is a batch of its own: what is forecast for an origin does not depend on how many bars
were late. A Trainer does it, with its device, precision and hooks; what it is given is the
datamodule itself, but for what it would do anew for each bar.
"""

from collections.abc import Iterator
from copy import copy

import numpy as np
from lightning.pytorch import LightningModule, Trainer

from btc_datamodule.datamodule import BTCDataModule
from btc_datamodule.errors import ConfigError
from btc_datamodule.training.predictions import (
    Predictions,
    compute_prices,
    extract_columns,
)
from btc_datamodule.windows.batch import Batch
from btc_datamodule.windows.dataset import WindowDataset

MOST = 32
"""Windows that are predicted and written at once, where there are many to make up for."""


class Singles:
    """Windows as batches of one, to be iterated again and again."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


def list_new(windows: WindowDataset, last: int | None) -> list[list[int]]:
    """Positions of windows whose origin is later than ``last``, ``MOST`` at a time.

    Args:
        windows: of the stage predict.
        last: epoch seconds; None for the newest window alone.
    """
    count, table = len(windows), windows.table
    if last is None:
        return [[count - 1]] if count else []
    runs, row = windows.origins.runs, (last - table.first) // table.interval
    done = int(np.clip(row + 1 - runs[:, 0], 0, runs[:, 1] - runs[:, 0]).sum())
    return [[*range(low, min(low + MOST, count))] for low in range(done, count, MOST)]


def predict_windows(
    trainer: Trainer,
    model: LightningModule,
    dm: BTCDataModule,
    positions: list[int],
    prices: bool | list[str],
) -> Predictions:
    """What ``predict_step`` gives for some windows, each a batch of its own, in one table.

    Args:
        trainer: of one rank.
        model: with a ``predict_step``.
        dm: set up.
        positions: of the windows, in order.
        prices: see ``PredictionWriter``.

    Raises:
        ConfigError: if the model gives something that is no prediction.
    """
    windows = dm.dataset("predict")
    windows.ahead_bytes = 0  # scaling all rows ahead would cost more than these windows
    batches = [windows[np.array([position])] for position in positions]
    served = copy(dm)
    served.gather = "host"
    vars(served).update(
        prepare_data=lambda: None,
        setup=lambda stage=None: None,
        predict_dataloader=lambda: Singles(batches),
    )
    outputs = trainer.predict(model, datamodule=served, return_predictions=True)
    if outputs is None or len(outputs) != len(batches):
        raise ConfigError(
            f"the Trainer gave predictions of {len(outputs or [])} windows of {len(batches)}: "
            "leave `limit_predict_batches` and `fast_dev_run` out"
        )
    parts = [extract_columns(*each) for each in zip(outputs, batches, strict=True)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns | (compute_prices(columns, prices, dm) if prices else {})
