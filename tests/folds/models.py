"""What the folds of these tests are made with, and a script of them for several ranks.

python -m tests.folds.models FOLDER RANKS      Lightning starts the other ranks
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from btc_datamodule import BTCDataModule, CumulativeReturn, DummyModule, WalkForward, run_folds
from btc_datamodule.folds.results import FoldRuns
from tests.factories import make_datamodule, make_trainer


def make_data(folder: Path, **arguments: Any) -> BTCDataModule:
    """Four folds of a month."""
    settings: dict[str, Any] = {
        "split": WalkForward("10d", "3d", "4d"),
        "target": CumulativeReturn(),
        "target_scaling": "train",
    }
    return make_datamodule(folder, ready=False, **settings | arguments)


def make_model(dm: BTCDataModule) -> DummyModule:
    return DummyModule(dm.n_features, dm.lookback, dm.horizon, dm.target_shape, learning_rate=0.05)


def keep_best(folder: Path, **options: Any) -> Trainer:
    """A Trainer that keeps the best of two epochs."""
    checkpoint = ModelCheckpoint(folder / "best", monitor="val_loss")
    return make_trainer(folder, checkpoint, max_epochs=2, **options)


def keep_none(folder: Path) -> Trainer:
    return make_trainer(folder, max_epochs=1)


def run(
    folder: Path, make: Callable[[Path], Trainer] = keep_none, name: str = "out", **options: Any
) -> FoldRuns:
    return run_folds(make_data(folder), make_model, make, out=folder / name, **options)


if __name__ == "__main__":
    where = Path(sys.argv[1])

    def make_ranks(folder: Path) -> Trainer:
        return keep_best(folder, devices=2, strategy="ddp")

    found = run_folds(
        make_data(where, batch_size=16), make_model, make_ranks, out=where / "ranks", folds=[0, 3]
    )
    print(sorted(found.records))
