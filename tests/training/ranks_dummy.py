"""What every rank of ``test_dummy.py`` runs: a ``DummyModule`` is fitted and evaluated.

    python ranks_dummy.py FOLDER RANKS      Lightning starts the other ranks

Each rank writes FOLDER/rank<n>.json: what was logged, and beside it what is due, which it computes
by itself over all windows in float64.
"""

import sys
from collections.abc import Iterable, Iterator
from copy import deepcopy
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset

from btc_datamodule import Batch, BTCDataModule, DateSplit, Simulator
from btc_datamodule.training.progress import count_ranks
from tests.factories import make_model
from tests.training.ranks_run import GLOBAL_BATCH, hand_in, trainer

WINDOWS = (1, 2, 48, 49, 53, 95, 97)
"""How many windows val and test have; where that is less than there are ranks, some have none."""

TEST = datetime(2021, 3, 26)


class Batches(IterableDataset[Batch]):
    """The batches of a loader, at most ``limit``, without saying how many there are."""

    def __init__(self, loader: Iterable[Batch], limit: int) -> None:
        self.loader, self.limit = loader, limit

    def __iter__(self) -> Iterator[Batch]:
        return islice(self.loader, self.limit)


class Unsized(BTCDataModule):
    """Its loaders may be empty on some ranks: Lightning takes none that says so."""

    limit = 1000

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Batches(super().val_dataloader(), self.limit), batch_size=None)

    def test_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Batches(super().test_dataloader(), self.limit), batch_size=None)


class Empty(Unsized):
    limit = 0


def datamodule(
    folder: Path, ranks: int, windows: int, kind: type[BTCDataModule] = BTCDataModule
) -> BTCDataModule:
    """The same global batch for any number of ranks, and so many windows in val and in test."""
    span = timedelta(hours=windows + 1)  # a target takes 2 bars
    dm = kind(
        source=Simulator(seed=4),
        start="2021-03-01",
        end=f"{TEST + span}",
        lookback=12,
        horizon=2,
        eval_stride=1,
        features=["log_return", "log_range"],
        split=DateSplit(val=f"{TEST - span}", test=f"{TEST}"),
        batch_size=GLOBAL_BATCH // ranks,
        data_dir=str(folder / "data"),
    )
    dm.prepare_data()
    dm.setup()
    return dm


def compute_loss(dm: BTCDataModule, stage: Literal["val", "test"], model: LightningModule) -> float:
    """Mean squared error over all windows of a stage, in float64."""
    windows = dm.dataset(stage)
    batch = windows[np.arange(len(windows))]
    with torch.no_grad():
        errors = deepcopy(model).double()(batch.x.double()) - batch.y.double()
    return float(errors.square().mean())


class Notes(Callback):
    """Keeps what is logged, beside this rank's own loss of a step or the due one of an epoch."""

    def __init__(self) -> None:
        self.train: list[tuple[float, float]] = []
        self.val: list[tuple[float, float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        logged = trainer.callback_metrics["train_loss"]
        self.train.append((float(logged), float(outputs["loss"])))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            dm = cast("BTCDataModule", trainer.datamodule)  # type: ignore[attr-defined]
            due = compute_loss(dm, "val", pl_module)
            self.val.append((float(trainer.callback_metrics["val_loss"]), due))


def fit(folder: Path, ranks: int) -> dict[str, Any]:
    """Two epochs after a sanity check, and what watches the validation loss in them."""
    dm = datamodule(folder, ranks, 97)
    model = make_model(dm)
    notes, early = Notes(), EarlyStopping("val_loss", patience=5)
    best = ModelCheckpoint(folder / "kept", monitor="val_loss")
    runner = trainer(folder, ranks, notes, early, best, enable_checkpointing=True)
    runner.num_sanity_val_steps = 2
    runner.fit(model, datamodule=dm)
    assert best.best_model_score is not None
    return {
        "train": notes.train,
        "val": notes.val,
        "best": float(best.best_model_score),
        "early": float(early.best_score),
        "shown": runner.progress_bar_metrics["val_loss"],
    }


def evaluate(folder: Path, ranks: int, windows: int, kind: type[BTCDataModule]) -> dict[str, Any]:
    """For val and test: what is logged, the loss that is due, and how many windows there are."""
    dm = datamodule(folder, ranks, windows, kind)
    model, runner = make_model(dm), trainer(folder, ranks)
    (val,) = runner.validate(model, datamodule=dm, verbose=False)
    (test,) = runner.test(model, datamodule=dm, verbose=False)
    return {
        "val": (val, compute_loss(dm, "val", model), len(dm.dataset("val"))),
        "test": (test, compute_loss(dm, "test", model), len(dm.dataset("test"))),
    }


def run(folder: Path, ranks: int) -> dict[str, Any]:
    """Everything; what was logged and is due on this rank."""
    torch.set_num_threads(1)
    notes = {"fit": fit(folder, ranks), "empty": evaluate(folder, ranks, 2, Empty)}
    for windows in WINDOWS:
        kind = Unsized if windows < ranks else BTCDataModule
        notes[f"{windows} windows"] = evaluate(folder, ranks, windows, kind)
    return notes | {"rank": count_ranks(None)[1]}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    hand_in(place, run(place, int(sys.argv[2])))
