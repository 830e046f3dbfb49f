"""Gradients that were accumulated when a fit was stopped: their batches are seen again."""

from pathlib import Path

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    GradientAccumulationScheduler,
    OnExceptionCheckpoint,
)

from tests.training.resume.fits import (
    PLAIN,
    StoppedError,
    break_off,
    datamodule,
    model_for,
    same_weights,
    trainer,
    uninterrupted,
)


@pytest.mark.parametrize(("at", "from_"), [(1, 0), (2, 0), (3, 3), (5, 3), (7, 6), (8, 8), (9, 8)])
def test_batches_whose_gradients_a_checkpoint_lost_are_seen_again(
    folder: Path, tmp_path: Path, at: int, from_: int, said: list[str]
) -> None:
    """With steps after 3, 6 and, at the end of the epoch, 8 batches."""
    setting = PLAIN._replace(accumulate=3)
    whole = uninterrupted(folder, setting)
    dm = datamodule(folder)
    with pytest.raises(StoppedError):
        trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop"), **setting.of_trainer).fit(
            model_for(dm).prepare(at, break_off), datamodule=dm
        )
    after = model_for(dm)
    runner = trainer(tmp_path, **setting.of_trainer)
    runner.fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == whole.seen[from_:]
    assert same_weights(after, whole)
    told = [each for each in said if "seen again" in each]
    assert len(told) == (at > from_)
    assert all(f"batches seen again: {at - from_}, " in each for each in told)


@pytest.mark.parametrize(("at", "from_"), [(1, 0), (10, 8), (12, 11), (13, 11), (18, 16)])
def test_a_scheduled_accumulation_goes_on_in_the_middle_of_an_epoch(
    folder: Path, tmp_path: Path, at: int, from_: int
) -> None:
    """With steps after every 2 batches, and from the second epoch on after every 3."""

    def runner(*callbacks: Callback) -> Trainer:
        scheduler = GradientAccumulationScheduler({0: 2, 1: 3})
        return trainer(tmp_path, scheduler, *callbacks)

    dm = datamodule(folder)
    whole = model_for(dm)
    runner().fit(whole, datamodule=dm)
    with pytest.raises(StoppedError):
        runner(OnExceptionCheckpoint(tmp_path, "stop")).fit(
            model_for(dm).prepare(at, break_off), datamodule=dm
        )
    after = model_for(dm)
    runner().fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == whole.seen[from_:]
    assert same_weights(after, whole)


def test_no_batch_is_seen_twice_where_an_optimizer_step_took_another_number_of_them(
    folder: Path, tmp_path: Path
) -> None:
    """Which of them have had their step is not known then: Lightning's count stands."""
    dm = datamodule(folder)
    options = {"accumulate_grad_batches": 2}
    with pytest.raises(StoppedError):
        trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop"), **options).fit(
            model_for(dm).prepare(6, break_off), datamodule=dm
        )
    after = model_for(dm)
    options = {"accumulate_grad_batches": 4}
    runner = trainer(tmp_path, **options)
    runner.fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == uninterrupted(folder, PLAIN).seen[6:]
