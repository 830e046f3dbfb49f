"""Fits that are stopped again and again, and Trainers that fit again."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    OnExceptionCheckpoint,
    Timer,
)

from btc_datamodule.training.resume import ExactResume
from tests.training.resume.fits import (
    BATCHES,
    BY_STEPS,
    EPOCHS,
    PLAIN,
    KeptIn,
    Recorder,
    Scheduled,
    StoppedError,
    assert_goes_on,
    break_off,
    by_steps,
    datamodule,
    go_on,
    in_uneven_settings,
    model_for,
    run_out,
    same_weights,
    trainer,
    uninterrupted,
)

WAYS: dict[str, Callable[[Recorder], None]] = {
    "exception": break_off,
    "SIGTERM": lambda _: os.kill(os.getpid(), signal.SIGTERM),
    "max_time": run_out,
}


class KeepsTheEnd(Callback):
    """Keeps a checkpoint of the end of a fit, which one that ``max_time`` ended has too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


@pytest.mark.each_value
@pytest.mark.parametrize("kind", [Recorder, Scheduled])
@in_uneven_settings
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.stress) for seed in range(1, 40))]
)
def test_a_fit_that_is_stopped_again_and_again_in_any_way_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, seed: int, options: dict[str, Any], kind: type[Recorder]
) -> None:
    dm = datamodule(folder)
    whole = model_for(dm, kind)
    trainer(tmp_path, **options).fit(whole, datamodule=dm)

    random, kept, stops = np.random.default_rng(seed), None, 0
    while True:
        way, at = str(random.choice(list(WAYS))), int(random.integers(6))
        path = tmp_path / f"stop{stops}.ckpt"
        callbacks: list[Callback] = [OnExceptionCheckpoint(tmp_path, path.stem)]
        if way == "max_time":
            callbacks = [Timer(timedelta(days=1)), KeepsTheEnd(path)]
        part = model_for(dm, kind).prepare(at, WAYS[way])
        with suppress(StoppedError, SystemExit):
            trainer(tmp_path, *callbacks, **options).fit(part, datamodule=dm, ckpt_path=kept)
        if len(part.seen) <= at:  # it came to its end before
            break
        kept, stops = str(path), stops + 1
    assert stops > 1
    assert same_weights(part, whole)


HOOKS = (
    *("on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_before_zero_grad"),
    *("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_train_batch_end"),
    *("on_validation_start", "on_validation_batch_start", "on_validation_batch_end"),
    *("on_validation_epoch_end", "on_validation_end", "on_train_epoch_end", "on_train_end"),
)


def goes_on(
    folder: Path, tmp_path: Path, stops: list[tuple[str, int]], options: dict[str, Any]
) -> None:
    """Stop in each of these hooks that is called so often, then no more."""
    dm = datamodule(folder)
    whole = model_for(dm)
    trainer(tmp_path, **options).fit(whole, datamodule=dm)
    kept: Path | None = None
    for number, (hook, at) in enumerate(stops):
        path = tmp_path / f"stop{number}.ckpt"
        with suppress(StoppedError):
            runner = trainer(tmp_path, KeptIn(hook, at, path), **options)
            runner.fit(model_for(dm), datamodule=dm, ckpt_path=kept)
        if path.exists():
            kept = path
    assert kept is not None
    assert same_weights(go_on(kept, dm, **options), whole)


@pytest.mark.each_value
@in_uneven_settings
@pytest.mark.parametrize(
    "stops",
    [
        [("on_before_backward", 0), ("on_validation_start", 1)],
        [("on_before_backward", 2), ("on_train_batch_end", 1)],
        [("on_train_batch_end", BATCHES - 1), ("on_validation_start", 0)],
        [("on_train_batch_end", BATCHES - 1), ("on_train_batch_start", 2)],
        [("on_train_batch_end", 4)],
    ],
    ids=[
        "amid a batch",
        "amid a batch, after another",
        "after a last batch",
        "after a last batch, amid the next",
        "after the last batch of a limit",
    ],
)
def test_a_second_stop_is_not_misled_by_what_the_first_left_in_the_counts(
    folder: Path, tmp_path: Path, stops: list[tuple[str, int]], options: dict[str, Any]
) -> None:
    goes_on(folder, tmp_path, stops, options)


@pytest.mark.stress
@in_uneven_settings
@pytest.mark.parametrize("seed", range(20))
def test_checkpoints_of_any_hook_one_after_another_end_with_the_same_weights(
    folder: Path, tmp_path: Path, seed: int, options: dict[str, Any]
) -> None:
    random = np.random.default_rng(seed)
    stops = [(str(random.choice(HOOKS)), int(random.integers(6))) for _ in range(8)]
    goes_on(folder, tmp_path, [("on_after_backward", 1), *stops], options)


@pytest.mark.each_value
@pytest.mark.parametrize("options", [{}, BY_STEPS[1]], ids=["max_epochs", "max_steps too"])
@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_train_batch_end", "on_before_backward"])
def test_checkpoints_of_a_fit_after_one_that_failed_are_as_good(
    folder: Path, tmp_path: Path, hook: str, options: dict[str, Any]
) -> None:
    """The same Trainer, which has begun that epoch before."""
    dm = datamodule(folder)
    model = model_for(dm).prepare(BATCHES + 3, break_off)
    runner = trainer(tmp_path, **options)
    with pytest.raises(StoppedError):
        runner.fit(model, datamodule=dm)
    model.seen, path = [], tmp_path / "stop.ckpt"
    callbacks: list[Callback] = runner.callbacks  # type: ignore[attr-defined]
    callbacks.append(KeptIn(hook, 0 if "epoch" in hook else BATCHES - 1, path))
    with suppress(StoppedError):
        runner.fit(model, datamodule=dm)
    after = go_on(path, dm, **options)
    ends = (EPOCHS - 1) * BATCHES if "epoch" in hook or "end" in hook else 2 * BATCHES - 1
    assert after.seen == uninterrupted(folder, PLAIN).seen[ends:]


@pytest.mark.each_value
@by_steps
@pytest.mark.parametrize(
    ("hook", "at"),
    [
        ("on_train_batch_end", BATCHES - 1),
        ("on_train_epoch_end", 0),
        ("on_validation_end", 0),
        ("on_before_backward", 2 * BATCHES - 1),
    ],
)
def test_a_trainer_resumes_the_same_checkpoint_as_often_as_it_is_told(
    folder: Path, tmp_path: Path, hook: str, at: int, options: dict[str, Any]
) -> None:
    """Lightning's second fit is over as each epoch begins, or by ``max_steps`` never."""
    whole = uninterrupted(folder, PLAIN)
    done = at if "backward" in hook else BATCHES
    kept = tmp_path / "stop.ckpt"
    runner = trainer(tmp_path, KeptIn(hook, at, kept), **options)
    dm = datamodule(folder)
    with pytest.raises(StoppedError):
        runner.fit(model_for(dm), datamodule=dm)
    for _ in range(2):
        after = model_for(dm)
        runner.fit(after, datamodule=dm, ckpt_path=str(kept))
        assert_goes_on(after, whole, done)


def test_a_second_fit_of_the_same_trainer_goes_on_with_whole_epochs(
    folder: Path, tmp_path: Path
) -> None:
    dm = datamodule(folder)
    model = model_for(dm)
    runner = trainer(tmp_path, max_epochs=1)
    runner.fit(model, datamodule=dm)
    runner.fit_loop.max_epochs = EPOCHS
    runner.fit(model, datamodule=dm)
    assert model.seen == uninterrupted(folder, PLAIN).seen


def test_a_trainer_has_one_exact_resume_however_often_it_fits(folder: Path, tmp_path: Path) -> None:
    dm = datamodule(folder)
    runner = trainer(tmp_path, max_epochs=1)
    for _ in range(2):
        runner.fit(model_for(dm), datamodule=dm)
    callbacks: list[Callback] = runner.callbacks  # type: ignore[attr-defined]
    assert sum(isinstance(each, ExactResume) for each in callbacks) == 1
    evaluating = trainer(tmp_path)
    evaluating.validate(model_for(dm), datamodule=dm, verbose=False)
    callbacks = evaluating.callbacks  # type: ignore[attr-defined]
    assert not any(isinstance(each, ExactResume) for each in callbacks)
