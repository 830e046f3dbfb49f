"""Going on with other settings than those of the checkpoint."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import (
    ModelCheckpoint,
)

from tests.training.resume.fits import (
    BATCHES,
    BY_STEPS,
    EPOCHS,
    PLAIN,
    break_off,
    datamodule,
    go_on,
    model_for,
    stop_after,
    trainer,
    uninterrupted,
)


@pytest.mark.parametrize("options", [{}, BY_STEPS[0]], ids=["max_epochs", "max_steps"])
def test_with_another_limit_on_its_batches_the_epoch_goes_on_and_the_next_are_whole(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = uninterrupted(folder, PLAIN)
    dm = datamodule(folder)
    kept = stop_after(5 + 2, tmp_path, dm, limit_train_batches=5, **options)
    after = model_for(dm).prepare(EPOCHS * BATCHES, break_off)
    trainer(tmp_path, **options).fit(after, datamodule=dm, ckpt_path=kept)
    due = whole.seen[BATCHES + 2 :]
    assert after.seen[: len(due)] == due


def test_lightning_does_not_call_the_resumed_loader_unreliable(
    folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    resume_with(folder, tmp_path)
    assert not [str(each.message) for each in recwarn if "resum" in str(each.message)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 16}, "global_batch was 32, is 16"),
        ({"seed": 5, "shuffle": "block"}, "shuffle was full, is block; seed was 0, is 5"),
        ({"stride": 2}, "windows was 2"),
    ],
    ids=["batch size", "order", "windows"],
)
def test_going_on_in_the_middle_of_an_epoch_in_another_order_is_warned_of(
    folder: Path, tmp_path: Path, arguments: dict[str, Any], said: str
) -> None:
    with pytest.warns(UserWarning, match=rf"middle of an epoch.* \({said}.*\): the rest of it"):
        resume_with(folder, tmp_path, **arguments)


def test_another_seed_from_the_next_epoch_on_is_nothing_to_warn_of(
    folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    resume_with(folder, tmp_path, stop=BATCHES, seed=5)
    assert not [str(each.message) for each in recwarn if "order" in str(each.message)]


def resume_with(folder: Path, tmp_path: Path, stop: int = 3, **arguments: Any) -> None:
    """Stop after some steps; go on with other arguments of the datamodule."""
    dm = datamodule(folder)
    kept = ModelCheckpoint(tmp_path, "stop", every_n_train_steps=stop)
    trainer(tmp_path, kept, max_steps=stop).fit(model_for(dm), datamodule=dm)
    dm = datamodule(folder, **arguments)
    go_on(tmp_path / "stop.ckpt", dm, max_epochs=2, limit_val_batches=0)
