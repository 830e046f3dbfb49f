"""Epochs that begin, end or are cut short where a fit is stopped are neither lost nor repeated."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    ModelCheckpoint,
    OnExceptionCheckpoint,
    Timer,
)

from btc_datamodule import Batch
from tests.marks import keep_some
from tests.training.resume.fits import (
    BATCHES,
    EPOCHS,
    PLAIN,
    Recorder,
    StoppedError,
    assert_goes_on,
    by_steps,
    datamodule,
    go_on,
    model_for,
    run_out,
    trainer,
    uninterrupted,
)


@pytest.mark.parametrize("at", keep_some(range(1, EPOCHS * BATCHES), 3))
def test_an_epoch_that_max_time_cut_short_goes_on_where_it_was(
    folder: Path, tmp_path: Path, at: int
) -> None:
    """Lightning counts it as over in whatever is saved from then on: its rest would be lost."""
    whole = uninterrupted(folder, PLAIN)
    runner = trainer(tmp_path, Timer(timedelta(days=1)))
    dm = datamodule(folder)
    runner.fit(model_for(dm).prepare(at - 1, run_out), datamodule=dm)
    runner.save_checkpoint(tmp_path / "stop.ckpt")
    after = go_on(tmp_path / "stop.ckpt", dm)
    assert_goes_on(after, whole, at)


@pytest.mark.each_value
@pytest.mark.parametrize("options", [{}, {"max_epochs": -1, "max_steps": EPOCHS * BATCHES}])
@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_a_checkpoint_of_the_start_of_an_epoch_begins_it(
    folder: Path, tmp_path: Path, epoch: int, options: dict[str, Any]
) -> None:
    """Lightning takes the batches of the epoch before for its own: it would be left out."""

    class Keeps(Callback):
        def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.current_epoch == epoch:
                trainer.save_checkpoint(tmp_path / "stop.ckpt")

    whole = uninterrupted(folder, PLAIN)
    dm = datamodule(folder)
    trainer(tmp_path, Keeps(), **options).fit(model_for(dm), datamodule=dm)
    after = go_on(tmp_path / "stop.ckpt", dm, **options)
    assert_goes_on(after, whole, epoch * BATCHES)


@pytest.mark.parametrize("options", [{}, {"max_steps": 1000}], ids=["max_epochs", "max_steps too"])
def test_an_epoch_that_a_hook_ended_early_is_over_when_its_end_is_resumed(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    class EndsEarly(Recorder):
        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
            return -1 if batch_idx == 5 else None

    dm = datamodule(folder)
    whole = model_for(dm, EndsEarly)
    trainer(tmp_path, **options).fit(whole, datamodule=dm)
    kept = ModelCheckpoint(tmp_path, "stop", save_on_train_epoch_end=True)
    trainer(tmp_path, kept, **options | {"max_epochs": 1}).fit(
        model_for(dm, EndsEarly), datamodule=dm
    )
    after = go_on(tmp_path / "stop.ckpt", dm, kind=EndsEarly, **options)
    assert_goes_on(after, whole, 5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_stop_on_the_way_of_the_last_batch_to_the_device_loses_no_batch(
    folder: Path, tmp_path: Path, accumulate: int
) -> None:
    class Fails(Recorder):
        moved = 0

        def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
            self.moved += not self.trainer.validating
            if self.moved == BATCHES:
                raise StoppedError
            return batch

    setting = PLAIN._replace(accumulate=accumulate)
    options = setting.of_trainer | {"val_check_interval": BATCHES - 1}
    whole = uninterrupted(folder, setting)
    dm = datamodule(folder)
    with pytest.raises(StoppedError):
        trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop"), **options).fit(
            model_for(dm, Fails), datamodule=dm
        )
    after = go_on(tmp_path / "stop.ckpt", dm, **options)
    due = BATCHES - 1 - (BATCHES - 1) % accumulate
    assert_goes_on(after, whole, due)


@pytest.mark.each_value
@by_steps
@pytest.mark.parametrize("steps", [BATCHES, 2 * BATCHES, 5, BATCHES + 3])
@pytest.mark.parametrize("kept", ["at the end of an epoch", "in a step", "once it was over"])
def test_training_by_max_steps_is_resumed_in_the_right_epoch_and_has_no_phantom_one(
    folder: Path, tmp_path: Path, kept: str, steps: int, options: dict[str, Any]
) -> None:
    """Lightning takes a checkpoint of the end for one epoch more than there were."""
    whole = uninterrupted(folder, PLAIN)
    dm = datamodule(folder)
    callbacks = {
        "at the end of an epoch": [ModelCheckpoint(tmp_path, "stop", save_on_train_epoch_end=True)],
        "in a step": [ModelCheckpoint(tmp_path, "stop", every_n_train_steps=steps)],
        "once it was over": [],
    }
    runner = trainer(tmp_path, *callbacks[kept], **options | {"max_steps": steps})
    runner.fit(model_for(dm), datamodule=dm)
    if kept == "once it was over":
        runner.save_checkpoint(tmp_path / "stop.ckpt")
    after = model_for(dm)
    runner = trainer(tmp_path, **options)
    runner.fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert_goes_on(after, whole, steps)
    assert runner.current_epoch == EPOCHS


def test_lightning_21938_the_resumed_epoch_has_its_own_order_with_workers(
    folder: Path, tmp_path: Path
) -> None:
    """``iter`` comes before ``set_epoch``: workers would be given epoch 0's positions."""
    whole = uninterrupted(folder, PLAIN)
    dm = datamodule(folder, num_workers=2)
    kept = ModelCheckpoint(tmp_path, "stop", save_on_train_epoch_end=True)
    trainer(tmp_path, kept, max_epochs=1).fit(model_for(dm), datamodule=dm)
    after = go_on(tmp_path / "stop.ckpt", dm, max_epochs=2)
    assert after.seen == whole.seen[BATCHES : 2 * BATCHES]
    assert set(after.seen).isdisjoint(whole.seen[:BATCHES])
