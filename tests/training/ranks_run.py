"""What every rank of ``test_ranks.py`` runs: a fit, an evaluation, a prediction; it keeps notes.

    python ranks_run.py FOLDER RANKS             Lightning starts the other ranks
    torchrun --nproc-per-node RANKS ranks_run.py FOLDER RANKS

Each rank writes FOLDER/rank<n>.json: the origin times of every batch that it was given, by stage,
and the metrics. ``FOLDER/resume.ckpt``, if it is there, is continued in a second fit.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric

from btc_datamodule import Batch, BTCDataModule, DateSplit, DummyModule, Simulator
from btc_datamodule.training.predictions import PredictionWriter

GLOBAL_BATCH = 48
EPOCHS = 2
STOP = 3
"""The step after which ``middle.ckpt`` is kept: in the middle of the first epoch."""

Times = list[list[int]]


class Recorder(DummyModule):
    """Notes whose turn it was, and logs means over all ranks."""

    def prepare(self) -> "Recorder":
        self.times: dict[str, Times] = {}
        self.val_mean, self.test_mean = MeanMetric(), MeanMetric()
        return self

    def note(self, stage: str, batch: Batch) -> None:
        self.times.setdefault(stage, []).append(batch.origin_time.tolist())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.note(f"train {self.current_epoch}", batch)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate("test", batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        self.note("predict", batch)
        return super().predict_step(batch, batch_idx)

    def evaluate(self, stage: str, batch: Batch) -> None:
        self.note(stage, batch)
        loss = nn.functional.mse_loss(self(batch.x), batch.y)
        mean = self.val_mean if stage == "val" else self.test_mean
        mean.update(loss, len(batch.x))
        self.log(f"{stage}_mean", mean, on_step=False, on_epoch=True)
        self.log(f"{stage}_logged", loss, sync_dist=True, batch_size=len(batch.x))


def datamodule(folder: Path, ranks: int, **arguments: Any) -> BTCDataModule:
    """The same global batch for any number of ranks; evaluation with one window over."""
    return BTCDataModule(
        source=Simulator(seed=4),
        start="2021-03-01",
        end="2021-04-02T02:00",
        lookback=12,
        horizon=2,
        eval_stride=1,
        features=["log_return", "log_range"],
        split=DateSplit(val="2021-03-21", test="2021-03-25T02:00"),
        batch_size=GLOBAL_BATCH // ranks,
        data_dir=str(folder / "data"),
        **arguments,
    )


def model_for(dm: BTCDataModule) -> Recorder:
    torch.manual_seed(0)
    return Recorder(dm.n_features, dm.lookback, dm.horizon, dm.target_shape, 0.1).prepare()


def trainer(folder: Path, ranks: int, *callbacks: Callback, **arguments: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        max_epochs=EPOCHS,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **{"enable_checkpointing": False} | arguments,
    )


def run(folder: Path, ranks: int) -> dict[str, Any]:
    """All stages; what was seen and measured on this rank."""
    torch.set_num_threads(1)
    dm = datamodule(folder, ranks)
    model = model_for(dm)
    runner = trainer(folder, ranks, KeepsOne(folder / "middle.ckpt"))
    runner.fit(model, datamodule=dm)
    weights = [value.flatten().tolist() for value in model.state_dict().values()]
    model.times.pop("val")
    metrics: dict[str, float] = {}
    for evaluate in (runner.validate, runner.test):
        metrics |= evaluate(model, datamodule=dm, verbose=False)[0]
    for suffix in (".parquet", ".h5"):
        model.times.pop("predict", None)
        writer = PredictionWriter(str(folder / f"predictions{suffix}"))
        trainer(folder, ranks, writer).predict(model, datamodule=dm, return_predictions=False)
    notes = {"times": model.times, "metrics": metrics, "weights": weights}
    if (folder / "resume.ckpt").exists():
        dm = datamodule(folder, ranks)
        model = model_for(dm)
        path = str(folder / "resume.ckpt")
        trainer(folder, ranks, limit_val_batches=0).fit(model, datamodule=dm, ckpt_path=path)
        notes["resumed"] = {
            "times": model.times,
            "weights": [value.flatten().tolist() for value in model.state_dict().values()],
        }
    return notes | {"rank": runner.global_rank}


class KeepsOne(Callback):
    """Keeps a checkpoint after ``STOP`` steps."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == STOP:
            trainer.save_checkpoint(self.path)


def hand_in(folder: Path, notes: dict[str, Any]) -> None:
    """Write the notes of this rank, and end what the ranks share.

    Gloo's threads can abort a process that exits with them running.
    """
    (folder / f"rank{notes['rank']}.json").write_text(json.dumps(notes))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    hand_in(place, run(place, int(sys.argv[2])))
