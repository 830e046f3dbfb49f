"""A fit that was stopped goes on as if it had not been: the same batches, the same weights."""

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from itertools import chain, cycle, product
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    ModelCheckpoint,
    OnExceptionCheckpoint,
    Timer,
)

from btc_datamodule import BTCDataModule
from tests.training.resume.fits import (
    BATCHES,
    EPOCHS,
    PLAIN,
    Recorder,
    Setting,
    StoppedError,
    break_off,
    go_on,
    model_for,
    run_out,
    same_weights,
    trainer,
    uninterrupted,
)


def in_a_step(folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]) -> None:
    model.prepare(10, break_off)
    with pytest.raises(StoppedError):
        trainer(folder, OnExceptionCheckpoint(folder, "stop"), **options).fit(model, datamodule=dm)


def in_validation(
    folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    class Fails(Callback):
        def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.current_epoch == 1:
                raise StoppedError

    kept = OnExceptionCheckpoint(folder, "stop")
    with pytest.raises(StoppedError):
        trainer(folder, kept, Fails(), **options).fit(model, datamodule=dm)


def by_sigterm(folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]) -> None:
    model.prepare(9, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    runner = trainer(folder, OnExceptionCheckpoint(folder, "stop"), **options)
    with pytest.raises(SystemExit):
        runner.fit(model, datamodule=dm)
    assert runner.received_sigterm


def after_a_checkpoint_every_few_steps(
    folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    model.prepare(14, break_off)
    kept = ModelCheckpoint(folder, "stop", every_n_train_steps=5)
    with pytest.raises(StoppedError):
        trainer(folder, kept, **options).fit(model, datamodule=dm)


def after_the_checkpoint_of_a_validation(
    folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    model.prepare(15, break_off)
    with pytest.raises(StoppedError):
        trainer(folder, ModelCheckpoint(folder, "stop"), **options).fit(model, datamodule=dm)


def at_the_end_of_an_epoch(
    folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    kept = ModelCheckpoint(folder, "stop", save_on_train_epoch_end=True)
    trainer(folder, kept, **options | {"max_epochs": 2}).fit(model, datamodule=dm)


def once_it_was_over(
    folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    runner = trainer(folder, **options | {"max_epochs": 2})
    runner.fit(model, datamodule=dm)
    runner.save_checkpoint(folder / "stop.ckpt")


def by_max_steps(folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]) -> None:
    kept = ModelCheckpoint(folder, "stop", every_n_train_steps=5)
    trainer(folder, kept, **options | {"max_steps": 5}).fit(model, datamodule=dm)


def by_max_time(folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]) -> None:
    model.prepare(10, run_out)
    timer = Timer(timedelta(days=1))
    kept = ModelCheckpoint(folder, "stop", every_n_train_steps=2)
    runner = trainer(folder, timer, kept, **options)
    runner.fit(model, datamodule=dm)


def by_max_time_and_kept_at_its_end(
    folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    model.prepare(10, run_out)
    kept = ModelCheckpoint(folder, "stop", save_on_train_epoch_end=True)
    trainer(folder, Timer(timedelta(days=1)), kept, **options).fit(model, datamodule=dm)


def at_the_start_of_an_epoch(
    folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    class Fails(Callback):
        def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.current_epoch == 1:
                raise StoppedError

    kept = OnExceptionCheckpoint(folder, "stop")
    with pytest.raises(StoppedError):
        trainer(folder, kept, Fails(), **options).fit(model, datamodule=dm)


STOPS = (
    in_a_step,
    in_validation,
    by_sigterm,
    after_a_checkpoint_every_few_steps,
    after_the_checkpoint_of_a_validation,
    at_the_end_of_an_epoch,
    once_it_was_over,
    by_max_steps,
    by_max_time,
    by_max_time_and_kept_at_its_end,
    at_the_start_of_an_epoch,
)
OTHERS = (
    Setting("full", (0, 2), 2, 0.5),
    Setting("block", (0, 0), 2, 1.0),
    Setting("none", (2, 0), 1, 0.5),
)
CHOSEN = ((PLAIN, stop) for stop in STOPS), zip(cycle(OTHERS), STOPS, strict=False)
EVERY = (
    Setting(shuffle, workers, accumulate, val_check)
    for shuffle, workers, accumulate, val_check in product(
        ("full", "block", "none"), ((0, 0), (2, 2)), (1, 2), (1.0, 0.5)
    )
)


@pytest.mark.each_value
@pytest.mark.parametrize(
    ("setting", "stop"),
    [
        *chain(*CHOSEN),
        *(
            pytest.param(*each, marks=pytest.mark.stress)
            for each in product(EVERY, STOPS)
            if each[0] != PLAIN
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "-".join(map(str, value)),
)
def test_a_resumed_fit_sees_the_same_batches_and_ends_with_the_same_weights(
    folder: Path,
    tmp_path: Path,
    setting: Setting,
    stop: Callable[[Path, Recorder, BTCDataModule, dict[str, Any]], None],
) -> None:
    whole = uninterrupted(folder, setting)
    assert len(whole.seen) == len(set(whole.seen)) or setting.shuffle == "none"
    assert len(whole.seen) == EPOCHS * BATCHES

    dm = setting.datamodule(folder)
    before = model_for(dm)
    stop(tmp_path, before, dm, setting.of_trainer)

    dm = setting.datamodule(folder, after=True)
    (kept,) = tmp_path.glob("stop*.ckpt")
    after = go_on(kept, dm, **setting.of_trainer)
    done = len(whole.seen) - len(after.seen)
    assert 0 < done < len(whole.seen)
    assert before.seen[:done] + after.seen == whole.seen
    assert same_weights(after, whole)
