"""Fits that are stopped and gone on with, and how they are compared."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import OnExceptionCheckpoint, Timer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from btc_datamodule import Batch, BTCDataModule, DummyModule
from tests.factories import make_datamodule, make_trainer
from tests.marks import keep_some

EPOCHS = 3
BATCHES = 8
"""Batches in an epoch of ``datamodule``."""
BY_STEPS: tuple[dict[str, Any], ...] = (
    {"max_epochs": -1, "max_steps": EPOCHS * BATCHES},
    {"max_epochs": EPOCHS, "max_steps": 1000},
)
by_steps = pytest.mark.parametrize("options", BY_STEPS, ids=["max_steps", "max_epochs too"])
UNEVEN: tuple[dict[str, Any], ...] = (
    {},
    {"accumulate_grad_batches": 2, "val_check_interval": 0.25},
    {"accumulate_grad_batches": 3},
    {"accumulate_grad_batches": 3, "val_check_interval": 3, "max_epochs": -1, "max_steps": 9},
    {"limit_train_batches": 5, "val_check_interval": 2},
    {"accumulate_grad_batches": 2, "max_steps": 1000},
    {"check_val_every_n_epoch": None, "val_check_interval": 3, "max_steps": 20},
)
in_uneven_settings = pytest.mark.parametrize(
    "options", keep_some(UNEVEN, 2, ("-".join(map(str, given.values())) for given in UNEVEN))
)


class StoppedError(Exception):
    pass


class Recorder(DummyModule):
    """Keeps a digest of every batch that it is trained on, and may do something in a step."""

    def prepare(self, at: int = -1, act: Callable[["Recorder"], None] | None = None) -> "Recorder":
        """Do ``act`` in the step after so many."""
        self.seen: list[str] = []
        self.at, self.act = at, act
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen.append(digest_of(batch))
        if self.act is not None and len(self.seen) == self.at + 1:
            self.act(self)
        return super().training_step(batch, batch_idx)


class Scheduled(Recorder):
    """Builds the train loader early: Lightning issue 20550."""

    def configure_optimizers(self) -> tuple[list[Optimizer], list[dict[str, Any]]]:  # type: ignore[override]
        optimizer = super().configure_optimizers()
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler: LRScheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class KeptIn(Callback):
    """Keeps a checkpoint the n-th time that a hook is called, and stops the fit there."""

    def __init__(self, hook: str, at: int, path: Path) -> None:
        self.at, self.path, self.count = at, path, 0
        setattr(self, hook, self.stop)

    def stop(self, trainer: Trainer, *_: Any) -> None:
        self.count += 1
        if self.count == self.at + 1:
            trainer.save_checkpoint(self.path)
            raise StoppedError


def digest_of(batch: Batch) -> str:
    return hashlib.sha256(b"".join(field.numpy().tobytes() for field in batch)).hexdigest()


def datamodule(
    folder: Path, kind: type[BTCDataModule] = BTCDataModule, **arguments: Any
) -> BTCDataModule:
    """Train has 8 batches of 32 windows, and some windows over."""
    settings: dict[str, Any] = {"end": "2021-03-19", "min_observed": 0.5} | arguments
    return make_datamodule(folder, kind, ready=False, **settings)


def prepared(folder: Path, **arguments: Any) -> BTCDataModule:
    dm = datamodule(folder, **arguments)
    dm.prepare_data()
    dm.setup()
    return dm


def model_for(dm: BTCDataModule, kind: type[Recorder] = Recorder) -> Recorder:
    torch.manual_seed(0)
    return kind(dm.n_features, dm.lookback, dm.horizon, dm.target_shape, 0.1).prepare()


trainer = partial(make_trainer, max_epochs=EPOCHS, num_sanity_val_steps=0)


def same_weights(one: LightningModule, other: LightningModule) -> bool:
    weights = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in weights)


def break_off(_: Recorder) -> None:
    raise StoppedError


def run_out(model: Recorder) -> None:
    """Let the time of the Trainer's ``max_time`` run out in this step."""
    timer = next(each for each in model.trainer.callbacks if isinstance(each, Timer))  # type: ignore[attr-defined]
    timer._duration = 0.0


class Setting(NamedTuple):
    """One column of the matrix. ``workers`` are those before the stop, and those after it."""

    shuffle: str
    workers: tuple[int, int]
    accumulate: int
    val_check: float

    def datamodule(self, folder: Path, after: bool = False) -> BTCDataModule:
        workers = self.workers[after]
        return datamodule(folder, shuffle=self.shuffle, num_workers=workers)

    @property
    def of_trainer(self) -> dict[str, Any]:
        return {
            "accumulate_grad_batches": self.accumulate,
            "val_check_interval": self.val_check,
        }


PLAIN = Setting("full", (0, 0), 1, 1.0)
_whole: dict[Setting, Recorder] = {}


def uninterrupted(folder: Path, setting: Setting) -> Recorder:
    """The model after a fit without a stop; the workers make no difference to it."""
    setting = setting._replace(workers=(0, 0))
    if setting not in _whole:
        dm = setting.datamodule(folder)
        model = model_for(dm)
        trainer(folder, **setting.of_trainer).fit(model, datamodule=dm)
        _whole[setting] = model
    return _whole[setting]


def stop_after(
    batches: int,
    folder: Path,
    dm: BTCDataModule,
    *callbacks: Callback,
    kind: type[Recorder] = Recorder,
    **options: Any,
) -> Path:
    """Stop a fit by an error in the step after so many batches; the checkpoint that is kept."""
    kept = OnExceptionCheckpoint(folder, "stop")
    model = model_for(dm, kind).prepare(batches, break_off)
    with pytest.raises(StoppedError):
        trainer(folder, kept, *callbacks, **options).fit(model, datamodule=dm)
    return Path(kept.ckpt_path)


def go_on(
    kept: Path,
    dm: BTCDataModule,
    *callbacks: Callback,
    kind: type[Recorder] = Recorder,
    **options: Any,
) -> Recorder:
    """The model of a fit that goes on from a checkpoint, to its end."""
    after = model_for(dm, kind)
    trainer(kept.parent, *callbacks, **options).fit(after, datamodule=dm, ckpt_path=str(kept))
    return after


def assert_goes_on(after: Recorder, whole: Recorder, batches: int) -> None:
    """It has seen all batches of a whole fit but the first ones, and ends with its weights."""
    assert after.seen == whole.seen[batches:]
    assert same_weights(after, whole)
