"""Gradients that were accumulated when a fit was stopped: their batches are seen again."""

from pathlib import Path

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    GradientAccumulationScheduler,
)

from tests.training.resume.fits import (
    PLAIN,
    assert_goes_on,
    datamodule,
    go_on,
    model_for,
    stop_after,
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
    kept = stop_after(at, tmp_path, dm, **setting.of_trainer)
    after = go_on(kept, dm, **setting.of_trainer)
    assert_goes_on(after, whole, from_)
    told = [each for each in said if "seen again" in each]
    assert len(told) == (at > from_)
    assert all(f"batches seen again: {at - from_}, " in each for each in told)


@pytest.mark.parametrize(("at", "from_"), [(1, 0), (10, 8), (12, 11), (13, 11), (18, 16)])
def test_a_scheduled_accumulation_goes_on_in_the_middle_of_an_epoch(
    folder: Path, tmp_path: Path, at: int, from_: int
) -> None:
    """With steps after every 2 batches, and from the second epoch on after every 3."""

    def schedule() -> Callback:
        return GradientAccumulationScheduler({0: 2, 1: 3})

    dm = datamodule(folder)
    whole = model_for(dm)
    trainer(tmp_path, schedule()).fit(whole, datamodule=dm)
    kept = stop_after(at, tmp_path, dm, schedule())
    assert_goes_on(go_on(kept, dm, schedule()), whole, from_)


def test_no_batch_is_seen_twice_where_an_optimizer_step_took_another_number_of_them(
    folder: Path, tmp_path: Path
) -> None:
    """Which of them have had their step is not known then: Lightning's count stands."""
    dm = datamodule(folder)
    kept = stop_after(6, tmp_path, dm, accumulate_grad_batches=2)
    after = go_on(kept, dm, accumulate_grad_batches=4)
    assert after.seen == uninterrupted(folder, PLAIN).seen[6:]
