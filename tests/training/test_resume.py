"""A fit that was stopped goes on as if it had not been: the same batches, the same weights."""

import hashlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import chain, cycle, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Checkpoint,
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    Timer,
)
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from btc_datamodule import Batch, BTCDataModule, DummyModule, Simulator
from btc_datamodule.training.resume import ExactResume
from btc_datamodule.windows.permutation import permute_run
from btc_datamodule.windows.sampler import WindowSampler

EPOCHS = 3
BATCHES = 8
"""Batches in an epoch of ``datamodule``."""


BY_STEPS: tuple[dict[str, Any], ...] = (
    {"max_epochs": -1, "max_steps": EPOCHS * BATCHES},
    {"max_epochs": EPOCHS, "max_steps": 1000},
)
by_steps = pytest.mark.parametrize("options", BY_STEPS, ids=["max_steps", "max_epochs too"])


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


def digest_of(batch: Batch) -> str:
    return hashlib.sha256(b"".join(field.numpy().tobytes() for field in batch)).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


def datamodule(
    folder: Path, kind: type[BTCDataModule] = BTCDataModule, **arguments: Any
) -> BTCDataModule:
    """Train has 8 batches of 32 windows, and some windows over."""
    settings: dict[str, Any] = {"batch_size": 32} | arguments
    return kind(
        source=Simulator(seed=1, outages_per_year=50),
        start="2021-03-01",
        end="2021-03-19",
        lookback=12,
        horizon=3,
        min_observed=0.5,
        data_dir=str(folder / "data"),
        **settings,
    )


def model_for(dm: BTCDataModule, kind: type[Recorder] = Recorder) -> Recorder:
    torch.manual_seed(0)
    return kind(dm.n_features, dm.lookback, dm.horizon, dm.target_shape, 0.1).prepare()


def trainer(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_epochs": EPOCHS,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(each, Checkpoint) for each in callbacks),
        "logger": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        **settings | arguments,
    )


def same_weights(one: LightningModule, other: LightningModule) -> bool:
    weights = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in weights)


# --- the matrix ---------------------------------------------------------------------------------


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


def in_a_step(folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]) -> None:
    model.prepare(10, _stop)
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
    model.prepare(14, _stop)
    kept = ModelCheckpoint(folder, "stop", every_n_train_steps=5)
    with pytest.raises(StoppedError):
        trainer(folder, kept, **options).fit(model, datamodule=dm)


def after_the_checkpoint_of_a_validation(
    folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    model.prepare(15, _stop)
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
    model.prepare(10, _run_out)
    timer = Timer(timedelta(days=1))
    kept = ModelCheckpoint(folder, "stop", every_n_train_steps=2)
    runner = trainer(folder, timer, kept, **options)
    runner.fit(model, datamodule=dm)


def by_max_time_and_kept_at_its_end(
    folder: Path, model: Recorder, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    model.prepare(10, _run_out)
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


def _stop(_: Recorder) -> None:
    raise StoppedError


def _run_out(model: Recorder) -> None:
    """Let the time of the Trainer's ``max_time`` run out in this step."""
    timer = next(each for each in model.trainer.callbacks if isinstance(each, Timer))  # type: ignore[attr-defined]
    timer._duration = 0.0


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
PLAIN = Setting("full", (0, 0), 1, 1.0)
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
    after = model_for(dm)
    (kept,) = tmp_path.glob("stop*.ckpt")
    trainer(tmp_path, **setting.of_trainer).fit(after, datamodule=dm, ckpt_path=str(kept))
    done = len(whole.seen) - len(after.seen)
    assert 0 < done < len(whole.seen)
    assert before.seen[:done] + after.seen == whole.seen
    assert same_weights(after, whole)


# --- what Lightning's checkpoints count wrongly -------------------------------------------------


@pytest.mark.parametrize("at", range(1, EPOCHS * BATCHES))
def test_an_epoch_that_max_time_cut_short_goes_on_where_it_was(
    folder: Path, tmp_path: Path, at: int
) -> None:
    """Lightning counts it as over in whatever is saved from then on: its rest would be lost."""
    whole = uninterrupted(folder, PLAIN)
    runner = trainer(tmp_path, Timer(timedelta(days=1)))
    dm = datamodule(folder)
    runner.fit(model_for(dm).prepare(at - 1, _run_out), datamodule=dm)
    runner.save_checkpoint(tmp_path / "stop.ckpt")
    after = model_for(dm)
    trainer(tmp_path).fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == whole.seen[at:]
    assert same_weights(after, whole)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What Lightning's logger is given to say."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("lightning.pytorch")
    logger.addHandler(handler)
    yield texts
    logger.removeHandler(handler)


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
            model_for(dm).prepare(at, _stop), datamodule=dm
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
            model_for(dm).prepare(at, _stop), datamodule=dm
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
            model_for(dm).prepare(6, _stop), datamodule=dm
        )
    after = model_for(dm)
    options = {"accumulate_grad_batches": 4}
    runner = trainer(tmp_path, **options)
    runner.fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == uninterrupted(folder, PLAIN).seen[6:]


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
    after = model_for(dm)
    runner = trainer(tmp_path, **options)
    runner.fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == whole.seen[epoch * BATCHES :]
    assert same_weights(after, whole)


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


# --- stopped again and again --------------------------------------------------------------------

WAYS: dict[str, Callable[[Recorder], None]] = {
    "exception": _stop,
    "SIGTERM": lambda _: os.kill(os.getpid(), signal.SIGTERM),
    "max_time": _run_out,
}
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
    "options", UNEVEN, ids=lambda given: "-".join(map(str, given.values()))
)


class KeepsTheEnd(Callback):
    """Keeps a checkpoint of the end of a fit, which one that ``max_time`` ended has too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


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
    after = model_for(dm, EndsEarly)
    trainer(tmp_path, **options).fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == whole.seen[5:]
    assert same_weights(after, whole)


HOOKS = (
    *("on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_before_zero_grad"),
    *("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_train_batch_end"),
    *("on_validation_start", "on_validation_batch_start", "on_validation_batch_end"),
    *("on_validation_epoch_end", "on_validation_end", "on_train_epoch_end", "on_train_end"),
)


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


def goes_on(
    folder: Path, tmp_path: Path, stops: list[tuple[str, int]], options: dict[str, Any]
) -> None:
    """Stop in each of these hooks that is called so often, then no more."""
    dm = datamodule(folder)
    whole = model_for(dm)
    trainer(tmp_path, **options).fit(whole, datamodule=dm)
    kept = None
    for number, (hook, at) in enumerate(stops):
        path = tmp_path / f"stop{number}.ckpt"
        with suppress(StoppedError):
            runner = trainer(tmp_path, KeptIn(hook, at, path), **options)
            runner.fit(model_for(dm), datamodule=dm, ckpt_path=kept)
        if path.exists():
            kept = str(path)
    assert kept is not None
    after = model_for(dm)
    trainer(tmp_path, **options).fit(after, datamodule=dm, ckpt_path=kept)
    assert same_weights(after, whole)


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


class Logs(Logger):
    """Keeps at which step what was logged."""

    name, version = "logs", 0

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        for name, value in metrics.items():
            self.kept.setdefault(name, []).append((step or 0, float(value)))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing to keep."""


_logged: dict[str, dict[str, list[tuple[int, float]]]] = {}


def logged(
    folder: Path, tmp_path: Path, kept: str | None, *callbacks: Callback, **options: Any
) -> dict[str, list[tuple[int, float]]]:
    """What a fit logs, up to where it is stopped."""
    dm, logs = datamodule(folder), Logs()
    runner = trainer(tmp_path, *callbacks, logger=logs, log_every_n_steps=1, **options)
    with suppress(StoppedError):
        runner.fit(model_for(dm), datamodule=dm, ckpt_path=kept)
    return logs.kept


@pytest.mark.parametrize(
    ("hook", "at"),
    [
        *(("on_before_zero_grad", at) for at in (0, 3, 4, 5, BATCHES - 1, BATCHES)),
        *(("on_train_batch_start", at) for at in (0, 3, BATCHES)),
        *(("on_train_batch_end", at) for at in (2, 3, BATCHES - 1)),
        *(("on_validation_start", at) for at in (0, 1)),
        *(("on_validation_batch_start", at) for at in (0, 1)),
        *(("on_validation_batch_end", at) for at in (0, 1)),
        *(("on_validation_epoch_end", at) for at in (0, 1)),
        *(("on_validation_end", at) for at in (0, 1)),
        ("on_train_epoch_end", 0),
    ],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"check_val_every_n_epoch": None, "val_check_interval": 3},
        {"val_check_interval": 3},
        pytest.param(BY_STEPS[0], marks=pytest.mark.stress),
        pytest.param({"check_val_every_n_epoch": 2}, marks=pytest.mark.stress),
    ],
    ids=["max_epochs", "by steps", "in mid-epoch", "max_steps", "every other epoch"],
)
def test_validation_and_loggers_go_on_as_in_a_fit_without_a_stop(
    folder: Path, tmp_path: Path, hook: str, at: int, options: dict[str, Any]
) -> None:
    """Each at the same step, over the same windows: with the same loss."""
    key = repr(options)
    if key not in _logged:
        _logged[key] = logged(folder, tmp_path, None, **options)
    whole = _logged[key]
    path = tmp_path / "stop.ckpt"
    before = logged(folder, tmp_path, None, KeptIn(hook, at, path), **options)
    if not path.exists():
        assert "validation" in hook, "there are not so many"
        return
    after = logged(folder, tmp_path, str(path), **options)
    for name in ("train_loss", "val_loss"):
        missing = len(whole[name]) - len(after.get(name, []))
        assert whole[name][missing:] == after.get(name, []), name
        unlogged = hook in ("on_train_batch_end", "on_validation_end")  # comes after it
        assert missing <= len(before.get(name, [])) + unlogged, name


class Watched(Recorder):
    """Its learning rate is lowered when the validation loss does not fall enough."""

    interval = "epoch"

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        optimizer = super().configure_optimizers()
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5)
        config = {"scheduler": scheduler, "monitor": "val_loss", "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": config | {"strict": False}}


class WatchedByStep(Watched):
    interval = "step"


@pytest.mark.parametrize("kind", [Watched, WatchedByStep])
@pytest.mark.parametrize("hook", ["on_before_zero_grad", "on_train_batch_end", "on_validation_end"])
@pytest.mark.parametrize(("at", "options"), [(9, {}), (15, BY_STEPS[1]), (1, {})])
def test_what_watches_the_validation_loss_goes_on_watching(
    folder: Path, tmp_path: Path, kind: type[Recorder], hook: str, at: int, options: dict[str, Any]
) -> None:
    """``EarlyStopping`` and ``ReduceLROnPlateau``, also right after a stop."""
    at = at % EPOCHS if "validation" in hook else at

    def fit(kept: str | None, *callbacks: Callback) -> tuple[Recorder, Trainer]:
        dm = datamodule(folder)
        model = model_for(dm, kind)
        early = EarlyStopping("val_loss", patience=5)
        runner = trainer(tmp_path, early, *callbacks, **options | {"max_epochs": 5})
        with suppress(StoppedError):
            runner.fit(model, datamodule=dm, ckpt_path=kept)
        return model, runner

    whole, runner = fit(None)
    rate = runner.optimizers[0].param_groups[0]["lr"]
    assert rate < 0.1, "it was lowered"
    path = tmp_path / "stop.ckpt"
    fit(None, KeptIn(hook, at, path))
    after, runner = fit(str(path))
    assert after.seen == whole.seen[-len(after.seen) :]
    assert runner.optimizers[0].param_groups[0]["lr"] == rate
    assert same_weights(after, whole)


def test_reduce_on_plateau_takes_the_step_that_comes_after_a_checkpoint_of_an_epochs_end(
    folder: Path, tmp_path: Path
) -> None:
    dm = datamodule(folder)
    whole = model_for(dm, Watched)
    kept = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer(tmp_path, kept, max_epochs=5).fit(whole, datamodule=dm)
    for epoch in range(4):
        after = model_for(dm, Watched)
        path = tmp_path / f"epoch={epoch}.ckpt"
        trainer(tmp_path, max_epochs=5).fit(after, datamodule=dm, ckpt_path=str(path))
        assert same_weights(after, whole), epoch


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
    after = model_for(dm)
    trainer(tmp_path, **options).fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    due = BATCHES - 1 - (BATCHES - 1) % accumulate
    assert after.seen == whole.seen[due:]
    assert same_weights(after, whole)


@pytest.mark.parametrize("options", [{}, BY_STEPS[1]], ids=["max_epochs", "max_steps too"])
@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_train_batch_end", "on_before_backward"])
def test_checkpoints_of_a_fit_after_one_that_failed_are_as_good(
    folder: Path, tmp_path: Path, hook: str, options: dict[str, Any]
) -> None:
    """The same Trainer, which has begun that epoch before."""
    dm = datamodule(folder)
    model = model_for(dm).prepare(BATCHES + 3, _stop)
    runner = trainer(tmp_path, **options)
    with pytest.raises(StoppedError):
        runner.fit(model, datamodule=dm)
    model.seen, path = [], tmp_path / "stop.ckpt"
    callbacks: list[Callback] = runner.callbacks  # type: ignore[attr-defined]
    callbacks.append(KeptIn(hook, 0 if "epoch" in hook else BATCHES - 1, path))
    with suppress(StoppedError):
        runner.fit(model, datamodule=dm)
    after = model_for(dm)
    trainer(tmp_path, **options).fit(after, datamodule=dm, ckpt_path=str(path))
    ends = (EPOCHS - 1) * BATCHES if "epoch" in hook or "end" in hook else 2 * BATCHES - 1
    assert after.seen == uninterrupted(folder, PLAIN).seen[ends:]


# --- bugs of Lightning that must not reach the user ---------------------------------------------


def test_lightning_21938_the_resumed_epoch_has_its_own_order_with_workers(
    folder: Path, tmp_path: Path
) -> None:
    """``iter`` comes before ``set_epoch``: workers would be given epoch 0's positions."""
    whole = uninterrupted(folder, PLAIN)
    dm = datamodule(folder, num_workers=2)
    kept = ModelCheckpoint(tmp_path, "stop", save_on_train_epoch_end=True)
    trainer(tmp_path, kept, max_epochs=1).fit(model_for(dm), datamodule=dm)
    after = model_for(dm)
    runner = trainer(tmp_path, max_epochs=2)
    runner.fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == whole.seen[BATCHES : 2 * BATCHES]
    assert set(after.seen).isdisjoint(whole.seen[:BATCHES])


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_20550_a_loader_built_early_for_a_scheduler_is_resumed_all_the_same(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    dm = datamodule(folder)
    whole = model_for(dm, Scheduled)
    trainer(tmp_path).fit(whole, datamodule=dm)
    dm = datamodule(folder, num_workers=workers)
    with pytest.raises(StoppedError):
        trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop")).fit(
            model_for(dm, Scheduled).prepare(13, _stop), datamodule=dm
        )
    after = model_for(dm, Scheduled)
    trainer(tmp_path).fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == whole.seen[13:]
    assert same_weights(after, whole)


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
    assert after.seen == whole.seen[steps:]
    assert same_weights(after, whole)
    assert runner.current_epoch == EPOCHS


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
        assert after.seen == whole.seen[done:]
        assert same_weights(after, whole)


@pytest.mark.parametrize("options", [{}, BY_STEPS[0]], ids=["max_epochs", "max_steps"])
def test_with_another_limit_on_its_batches_the_epoch_goes_on_and_the_next_are_whole(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = uninterrupted(folder, PLAIN)
    dm = datamodule(folder)
    kept = OnExceptionCheckpoint(tmp_path, "stop")
    with pytest.raises(StoppedError):
        trainer(tmp_path, kept, limit_train_batches=5, **options).fit(
            model_for(dm).prepare(5 + 2, _stop), datamodule=dm
        )
    after = model_for(dm).prepare(EPOCHS * BATCHES, _stop)
    trainer(tmp_path, **options).fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    due = whole.seen[BATCHES + 2 :]
    assert after.seen[: len(due)] == due


def test_lightning_does_not_call_the_resumed_loader_unreliable(
    folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    resumed_with(folder, tmp_path)
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
        resumed_with(folder, tmp_path, **arguments)


def test_another_seed_from_the_next_epoch_on_is_nothing_to_warn_of(
    folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    resumed_with(folder, tmp_path, stop=BATCHES, seed=5)
    assert not [str(each.message) for each in recwarn if "order" in str(each.message)]


def resumed_with(folder: Path, tmp_path: Path, stop: int = 3, **arguments: Any) -> None:
    """Stop after some steps; go on with other arguments of the datamodule."""
    dm = datamodule(folder)
    kept = ModelCheckpoint(tmp_path, "stop", every_n_train_steps=stop)
    trainer(tmp_path, kept, max_steps=stop).fit(model_for(dm), datamodule=dm)
    dm = datamodule(folder, **arguments)
    trainer(tmp_path, max_epochs=2, limit_val_batches=0).fit(
        model_for(dm), datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt")
    )


# --- loaders in other hands ---------------------------------------------------------------------


class Looks(Callback):
    """Goes through a train loader by itself, in the middle of a running fit."""

    def __init__(self, of_trainer: bool) -> None:
        self.of_trainer = of_trainer
        self.seen: list[list[str]] = []

    def look(self, trainer: Trainer) -> None:
        own: BTCDataModule = trainer.datamodule  # type: ignore[attr-defined]
        loader = trainer.train_dataloader if self.of_trainer else own.train_dataloader()
        assert loader is not None
        self.seen.append([digest_of(batch) for batch in loader])

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        self.look(trainer)

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        if trainer.global_step == 3:
            self.look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self.look(trainer)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("of_trainer", [True, False], ids=["the Trainer's", "another"])
def test_a_train_loader_gone_through_by_hand_gives_whole_epochs_and_disturbs_no_fit(
    folder: Path, tmp_path: Path, of_trainer: bool, workers: int
) -> None:
    whole = uninterrupted(folder, PLAIN)
    dm = datamodule(folder, num_workers=workers)
    looks, model = Looks(of_trainer), model_for(dm)
    runner = trainer(tmp_path, looks, max_epochs=1)
    runner.fit(model, datamodule=dm)
    assert model.seen == whole.seen[:BATCHES]
    assert looks.seen == [whole.seen[:BATCHES]] * 3
    assert [digest_of(batch) for batch in dm.train_dataloader()] == whole.seen[:BATCHES]
    loader: Any = runner.train_dataloader
    assert [digest_of(batch) for batch in loader] == whole.seen[:BATCHES]
    loader._iterator = None  # left to a collection of garbage its workers take 10 s to end


class Peeks(BTCDataModule):
    """Looks into its loader before it hands it out, and its setup knows no stage."""

    def setup(self, stage: str | None = None) -> None:
        super().setup()

    def train_dataloader(self) -> Any:
        loader = super().train_dataloader()
        next(iter(loader))
        return loader


def test_a_datamodule_that_looks_into_its_loader_first_is_resumed_too(
    folder: Path, tmp_path: Path
) -> None:
    setting = PLAIN._replace(accumulate=2)
    whole = uninterrupted(folder, setting)
    dm = datamodule(folder, Peeks)
    with pytest.raises(StoppedError):
        trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop"), **setting.of_trainer).fit(
            model_for(dm).prepare(3, _stop), datamodule=dm
        )
    dm = datamodule(folder, Peeks)
    after, runner = model_for(dm), trainer(tmp_path, **setting.of_trainer)
    runner.fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == whole.seen[2:]
    assert same_weights(after, whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_that_takes_the_iterator_of_the_loader_sees_every_batch(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    class Takes(Recorder):
        def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
            batch, batch_idx, _ = next(dataloader_iter)
            return super().training_step(batch, batch_idx)

    dm = datamodule(folder, num_workers=workers)
    model = model_for(dm, Takes)
    trainer(tmp_path).fit(model, datamodule=dm)
    assert model.seen == uninterrupted(folder, PLAIN).seen


class InAnother(BTCDataModule):
    """Hands the loader out inside something else, beside a shorter one."""

    within: Any

    def train_dataloader(self) -> Any:
        long = super().train_dataloader()
        self.batch_size *= 3
        short = super().train_dataloader()
        self.batch_size //= 3
        if self.within == "list":
            return [long, short]
        loaders = {"long": long, "short": short}
        return CombinedLoader(loaders, self.within) if self.within != "dict" else loaders


class OfTwo(Recorder):
    """Trained on what both loaders give."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        long, short = batch.values() if isinstance(batch, dict) else batch
        if short is not None:  # as it is, with max_size, when the shorter one has ended
            long = Batch(*(torch.cat(pair) for pair in zip(long, short, strict=True)))
        return super().training_step(long, batch_idx)


@pytest.mark.parametrize(("workers", "gather"), [(0, "host"), (2, "device")])
@pytest.mark.parametrize("within", ["list", "dict", "max_size", "min_size"])
def test_loaders_inside_something_else_are_resumed_too(
    folder: Path, tmp_path: Path, within: str, workers: int, gather: str
) -> None:
    def made() -> BTCDataModule:
        dm = datamodule(folder, InAnother, num_workers=workers, gather=gather)
        assert isinstance(dm, InAnother)
        dm.within = within
        return dm

    dm = made()
    whole = model_for(dm, OfTwo)
    trainer(tmp_path).fit(whole, datamodule=dm)
    for at in (2, len(whole.seen) - 3):
        part, dm = model_for(dm, OfTwo).prepare(at, _stop), made()
        with pytest.raises(StoppedError):
            trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop")).fit(part, datamodule=dm)
        after, dm = model_for(dm, OfTwo), made()
        kept = tmp_path / "stop.ckpt"
        trainer(tmp_path).fit(after, datamodule=dm, ckpt_path=str(kept))
        kept.unlink()
        assert after.seen == whole.seen[at:]
        assert same_weights(after, whole)


@pytest.mark.parametrize("attached", [False, True])
def test_a_loader_that_is_given_without_its_datamodule_is_warned_of(
    folder: Path, tmp_path: Path, attached: bool
) -> None:
    """Also where the datamodule was in the hands of another Trainer before."""
    dm = prepared(folder)
    given: Any = {"datamodule": dm} if attached else {"train_dataloaders": dm.train_dataloader()}
    with pytest.raises(StoppedError):
        trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop")).fit(
            model_for(dm).prepare(3, _stop), **given
        )
    with pytest.warns(UserWarning, match=r"begins an epoch anew.*give it the datamodule"):
        trainer(tmp_path, max_epochs=1).fit(
            model_for(dm), dm.train_dataloader(), ckpt_path=str(tmp_path / "stop.ckpt")
        )


def test_two_passes_over_one_loader_at_a_time_do_not_disturb_each_other(folder: Path) -> None:
    dm = prepared(folder, num_workers=2)
    loader = dm.train_dataloader()
    alone = [digest_of(batch) for batch in loader]
    together = [(digest_of(a), digest_of(b)) for a, b in zip(loader, loader, strict=True)]
    assert together == [(each, each) for each in alone]


@pytest.mark.parametrize("options", [{}, {"limit_train_batches": 5}], ids=["whole", "limited"])
def test_loaders_built_anew_every_epoch_change_nothing(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = uninterrupted(folder, PLAIN).seen
    limit = options.get("limit_train_batches", BATCHES)
    due = [whole[epoch * BATCHES + i] for epoch in range(EPOCHS) for i in range(limit)]
    options |= {"reload_dataloaders_every_n_epochs": 1}
    dm = datamodule(folder)
    with pytest.raises(StoppedError):
        trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop"), **options).fit(
            model_for(dm).prepare(limit + 3, _stop), datamodule=dm
        )
    after = model_for(dm)
    trainer(tmp_path, **options).fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert after.seen == due[limit + 3 :]


def test_with_limit_train_batches_each_epoch_begins_at_its_own_beginning(
    folder: Path, tmp_path: Path
) -> None:
    whole = uninterrupted(folder, PLAIN).seen
    dm = datamodule(folder, num_workers=2)
    model = model_for(dm)
    trainer(tmp_path, limit_train_batches=3).fit(model, datamodule=dm)
    assert model.seen == [whole[epoch * BATCHES + i] for epoch in range(EPOCHS) for i in range(3)]


def test_overfit_batches_repeats_the_same_whole_batches_in_order_of_time(
    folder: Path, tmp_path: Path
) -> None:
    """Lightning would put a sampler of single positions in the place of a shuffling one."""
    dm = datamodule(folder)
    model = model_for(dm)
    trainer(tmp_path, overfit_batches=2).fit(model, datamodule=dm)
    windows = dm.dataset("train")
    due = [digest_of(windows[np.arange(low, low + 32)]) for low in (0, 32)]
    assert model.seen == due * EPOCHS


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


# --- what resuming costs, and without a Trainer -------------------------------------------------


@pytest.mark.parametrize("stop", [1, 30])
def test_resuming_late_in_an_epoch_permutes_and_gathers_nothing_of_what_was_seen(
    folder: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm = datamodule(folder, batch_size=8)
    runner = trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop"), max_epochs=1)
    with pytest.raises(StoppedError):
        runner.fit(model_for(dm).prepare(stop, _stop), datamodule=dm)

    asked: list[int] = []

    def counting(start: int, count: int, size: int, seed: int, epoch: int) -> Any:
        asked.extend(range(start, start + count))
        return permute_run(start, count, size, seed, epoch)

    monkeypatch.setattr("btc_datamodule.windows.sampler.permute_run", counting)
    monkeypatch.setattr("btc_datamodule.windows.sampler.PERMUTED_AT_ONCE", 16)
    after = model_for(dm).prepare(0, _stop)
    with pytest.raises(StoppedError):
        trainer(tmp_path).fit(after, datamodule=dm, ckpt_path=str(tmp_path / "stop.ckpt"))
    assert asked == list(range(8 * stop, 8 * stop + 16))


def prepared(folder: Path, **arguments: Any) -> BTCDataModule:
    dm = datamodule(folder, **arguments)
    dm.prepare_data()
    dm.setup()
    return dm


@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
@pytest.mark.parametrize("workers", [0, 2])
def test_plain_pytorch_resumes_with_the_epoch_and_a_number_of_batches(
    folder: Path, shuffle: str, workers: int
) -> None:
    def loader() -> Any:
        return prepared(folder, shuffle=shuffle, num_workers=workers).train_dataloader()

    def digests(batches: Iterator[Batch]) -> list[str]:
        return [digest_of(batch) for batch in batches]

    first = loader()
    first.sampler.set_epoch(2)
    whole = digests(first)
    resumed = loader()
    assert isinstance(resumed.sampler, WindowSampler)
    resumed.sampler.set_epoch(2)
    resumed.sampler.skip(5)
    assert digests(resumed) == whole[5:]
    assert digests(resumed) == whole, "the epoch after it is whole"
