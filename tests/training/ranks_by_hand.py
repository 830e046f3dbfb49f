"""What ranks run in ``test_by_hand.py``: loaders that are made before there are any ranks.

    python ranks_by_hand.py FOLDER ddp|ddp_spawn|ddp_fork|fabric
    torchrun --nproc-per-node RANKS ranks_by_hand.py FOLDER accelerate

Each rank writes FOLDER/<way>-<rank>.json: for each epoch of train, and for the validation after the
last, the origin times of every batch that it was given.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.pytorch import Callback, LightningModule, Trainer

from btc_datamodule import Batch, BTCDataModule
from tests.factories import make_datamodule, make_model, make_trainer

EPOCHS = 2
TRAINERS = ("ddp", "ddp_spawn", "ddp_fork")

Times = list[list[int]]


class Notes(Callback):
    """Keeps the origin times of every batch of a rank."""

    def __init__(self, folder: Path, way: str) -> None:
        self.folder, self.way = folder, way
        self.train: list[Times] = []
        self.val: Times = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.train.append([])

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.train[-1].append(batch.origin_time.tolist())

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.val = []

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, *_: Any
    ) -> None:
        self.val.append(batch.origin_time.tolist())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        hand_in(self.folder, self.way, trainer.global_rank, self.train, self.val)


def hand_in(folder: Path, way: str, rank: int, train: list[Times], val: Times) -> None:
    (folder / f"{way}-{rank}.json").write_text(json.dumps({"train": train, "val": val}))


def make(folder: Path, **options: Any) -> BTCDataModule:
    return make_datamodule(folder, batch_size=24, **options)


def fit(folder: Path, way: str) -> None:
    """A Trainer that knows nothing of the datamodule but its loaders."""
    dm = make(folder)
    runner = make_trainer(
        folder,
        Notes(folder, way),
        max_epochs=EPOCHS,
        devices=2,
        strategy=way,
        enable_model_summary=False,
    )
    runner.fit(make_model(dm), dm.train_dataloader(), dm.val_dataloader())


def run_fabric(folder: Path, ranks: int) -> None:
    dm = make(folder)
    loaders = dm.train_dataloader(), dm.val_dataloader()
    fabric = Fabric(accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto")
    fabric.launch()
    train, val = fabric.setup_dataloaders(*loaders)
    epochs = [[batch.origin_time.tolist() for batch in train] for _ in range(EPOCHS)]
    assert [len(epoch) for epoch in epochs] == [len(train)] * EPOCHS
    hand_in(folder, "fabric", fabric.global_rank, epochs, [b.origin_time.tolist() for b in val])


def run_accelerate(folder: Path) -> None:
    """As docs/many_ranks.md says: the loaders are left out of ``prepare``."""
    from accelerate import Accelerator
    from accelerate.utils import send_to_device

    dm = make(folder)
    accelerator = Accelerator(cpu=True)
    loader, model = dm.train_dataloader(), make_model(dm)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
    train: list[Times] = []
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        train.append([])
        for given in loader:
            batch = send_to_device(given, accelerator.device)
            accelerator.backward((model(batch.x) - batch.y).square().mean())
            optimizer.step()
            optimizer.zero_grad()
            train[-1].append(batch.origin_time.tolist())
    val = [batch.origin_time.tolist() for batch in dm.val_dataloader()]
    hand_in(folder, "accelerate", accelerator.process_index, train, val)
    try:
        accelerator.prepare(loader)
    except Exception as error:
        (folder / f"refused-{accelerator.process_index}.txt").write_text(str(error))


if __name__ == "__main__":
    place, how = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    if how in TRAINERS:
        fit(place, how)
    elif how == "fabric":
        run_fabric(place, 2)
    else:
        run_accelerate(place)
