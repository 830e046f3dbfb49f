"""Each thing that ``training.internals`` relies on in Lightning, tried alone on a real Trainer.

A test that fails here bears the name of the function that another version of Lightning has broken.
"""

import inspect
import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed import destroy_process_group, init_process_group
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from btc_datamodule.training import internals
from tests.factories import make_trainer

BATCHES = 6
"""In an epoch of ``fit``; a validation has two."""

CHECKS: dict[str, Callable[[Path], None]] = {}
"""By the name of the function that they check. Each is given an empty folder."""


def check(function: Callable[[Path], None]) -> Callable[[Path], None]:
    CHECKS[function.__name__] = function
    return function


class StoppedError(Exception):
    pass


class Tiny(LightningModule):
    """One weight, and a scheduler that halves the rate whenever what it watches does not fall."""

    def __init__(self, interval: str = "epoch") -> None:
        super().__init__()
        self.weight, self.interval = nn.Linear(1, 1), interval

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first = next(iter(batch.values())) if isinstance(batch, dict) else batch
        loss: Tensor = self.weight(first).square().mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", self.weight(batch).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        config = {"scheduler": scheduler, "monitor": "watched", "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": config | {"strict": False}}


class In(Callback):
    """Does something whenever a hook is called, and keeps what comes of it; may stop the fit."""

    def __init__(self, hook: str, act: Callable[[Trainer], object], stop: int = 0) -> None:
        self.act, self.stop, self.found = act, stop, list[Any]()
        setattr(self, hook, self.call)

    def call(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        self.found.append(self.act(trainer))
        if len(self.found) == self.stop:
            raise StoppedError


def loader(batches: int = BATCHES) -> DataLoader[Any]:
    rows: Any = torch.arange(float(batches))[:, None, None]
    return DataLoader(rows, batch_size=None)


trainer = partial(make_trainer, max_epochs=2, num_sanity_val_steps=0)


def fit(
    folder: Path,
    hook: str,
    act: Callable[[Trainer], object],
    *callbacks: Callback,
    loaders: Any = None,
    kept: Path | None = None,
    interval: str = "epoch",
    **options: Any,
) -> list[Any]:
    """What comes of an act in each call of a hook of a fit of two epochs, or of one gone on with.

    Its validations have two batches.
    """
    spy = In(hook, act)
    runner = trainer(folder, spy, *callbacks, **options)
    loaders = loader() if loaders is None else loaders
    runner.fit(Tiny(interval), loaders, loader(2), ckpt_path=kept)
    return spy.found


def stop_in(folder: Path, hook: str, call: int = 1, **options: Any) -> Path:
    """A checkpoint of the n-th call of a hook, at which the fit was stopped."""
    kept = folder / "stop.ckpt"
    spy = In(hook, lambda runner: runner.save_checkpoint(kept), call)
    with pytest.raises(StoppedError):
        trainer(folder, spy, **options).fit(Tiny(), loader(), loader(2))
    return kept


@check
def get_callbacks(folder: Path) -> None:
    runner, added = trainer(folder), In("on_fit_start", lambda _: None)
    internals.get_callbacks(runner).append(added)
    runner.fit(Tiny(), loader(1), loader(1))
    assert added.found == [None]


@check
def starts_ranks_in_call(folder: Path) -> None:
    given = ("auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_notebook")
    found = [internals.starts_ranks_in_call(trainer(folder, strategy=each)) for each in given]
    assert found == [False, False, True, True, True]


@check
def is_at_work(folder: Path) -> None:
    runner = trainer(folder)
    assert not internals.is_at_work(runner)
    assert fit(folder, "on_train_start", internals.is_at_work) == [True]
    spy = In("on_validation_start", internals.is_at_work)
    trainer(folder, spy).validate(Tiny(), loader(2), verbose=False)
    assert spy.found == [True]
    runner.fit(Tiny(), loader(), loader(2))
    assert not internals.is_at_work(runner)


@check
def is_overfitting(folder: Path) -> None:
    runner, spy = trainer(folder, overfit_batches=2), In("on_train_start", internals.is_overfitting)
    assert not internals.is_overfitting(runner)
    trainer(folder, spy, overfit_batches=2).fit(Tiny(), loader(), loader(2))
    assert spy.found == [True]
    runner.fit(Tiny(), loader(), loader(2))
    assert not internals.is_overfitting(runner)
    assert fit(folder, "on_train_start", internals.is_overfitting) == [False]
    assert not internals.is_overfitting(None)


@check
def find_store(folder: Path) -> None:
    assert internals.find_store() is None
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        store = internals.find_store()
        assert store is not None
        assert not store.check(["word"])
        store.set("word", "said")
        assert store.get("word") == b"said"
    finally:
        destroy_process_group()


@check
def is_fitting(folder: Path) -> None:
    assert fit(folder, "on_validation_start", internals.is_fitting) == [True, True]
    spy = In("on_validation_start", internals.is_fitting)
    trainer(folder, spy).validate(Tiny(), loader(2), verbose=False)
    assert spy.found == [False]


@check
def is_sigterm(folder: Path) -> None:
    class Keeps(Callback):
        exception: BaseException = ValueError()

        def on_exception(self, *given: Any) -> None:
            self.exception = given[-1]

    keeps = Keeps()
    assert not internals.is_sigterm(keeps.exception)
    with pytest.raises(SystemExit):
        fit(folder, "on_train_batch_start", lambda _: os.kill(os.getpid(), signal.SIGTERM), keeps)
    assert internals.is_sigterm(keeps.exception)


@check
def list_train_loaders(folder: Path) -> None:
    assert internals.list_train_loaders(trainer(folder)) == []
    one, two = loader(), loader(2)
    loaders = {"one": one, "two": two}
    (found,) = fit(folder, "on_train_start", internals.list_train_loaders, loaders=loaders)
    assert list(map(id, found)) == [id(one), id(two)]


@check
def is_cycling_loaders(folder: Path) -> None:
    assert not internals.is_cycling_loaders(trainer(folder))
    both = {"one": loader(), "two": loader(2)}
    for loaders, due in ((both, True), (CombinedLoader(both, "min_size"), False)):
        found = fit(folder, "on_train_start", internals.is_cycling_loaders, loaders=loaders)
        assert found == [due]


@check
def count_batches_done(folder: Path) -> None:
    found = fit(folder, "on_train_batch_end", internals.count_batches_done)
    assert found == [*range(BATCHES)] * 2
    kept = stop_in(folder, "on_train_batch_start", 4)
    assert fit(folder, "on_train_start", internals.count_batches_done, kept=kept) == [3]


@check
def is_amid_epoch(folder: Path) -> None:
    assert fit(folder, "on_train_start", internals.is_amid_epoch) == [False]
    assert all(fit(folder, "on_train_batch_start", internals.is_amid_epoch))
    assert fit(folder, "on_validation_start", internals.is_amid_epoch) == [False, False]
    for hook, due in (("on_train_batch_start", True), ("on_train_epoch_end", False)):
        kept = stop_in(folder, hook)
        assert fit(folder, "on_train_start", internals.is_amid_epoch, kept=kept) == [due]


@check
def is_last_batch(folder: Path) -> None:
    found = fit(folder, "on_train_batch_start", internals.is_last_batch)
    assert found == [*[False] * (BATCHES - 1), True] * 2


@check
def get_fit_state(folder: Path) -> None:
    state = internals.get_fit_state(torch.load(stop_in(folder, "on_before_backward", 4)))
    assert state is not None
    epochs, batches = state["epoch_progress"], state["epoch_loop.batch_progress"]
    assert epochs["current"] == {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    assert batches["current"] == {"ready": 4, "started": 4, "processed": 3, "completed": 3}
    assert set(batches) == {"total", "current", "is_last_batch"}
    steps = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    assert steps["current"]["completed"] == 3
    assert internals.get_fit_state({"state_dict": {}}) is None


@check
def set_fit_state(folder: Path) -> None:
    class Counts(Callback):
        """Says of each checkpoint that 2 batches less are done."""

        def on_save_checkpoint(self, *given: Any) -> None:
            self.take(given[-1])

        def on_load_checkpoint(self, *given: Any) -> None:
            self.take(given[-1])

        def take(self, checkpoint: dict[str, Any]) -> None:
            state = internals.get_fit_state(checkpoint)
            assert state is not None
            batches = state["epoch_loop.batch_progress"]
            less = {name: count - 2 for name, count in batches["current"].items()}
            state = state | {"epoch_loop.batch_progress": batches | {"current": less}}
            internals.set_fit_state(checkpoint, state)

    kept, runner = folder / "kept.ckpt", In("on_train_batch_start", lambda _: None, 6)
    with pytest.raises(StoppedError):
        trainer(folder, Counts(), runner, OnExceptionCheckpoint(folder, "kept")).fit(
            Tiny(), loader(), loader(2)
        )
    found = fit(folder, "on_train_start", internals.count_batches_done, Counts(), kept=kept)
    assert found == [1]


@check
def get_metrics(folder: Path) -> None:
    first, *_, last = fit(folder, "on_train_batch_start", internals.get_metrics)
    assert first == {}
    assert set(last) == {"train_loss", "val_loss"}


@check
def set_metrics(folder: Path) -> None:
    given = torch.tensor(7.0)
    spy = In("on_train_batch_start", lambda runner: runner.callback_metrics.get("watched"))
    fit(folder, "on_train_start", lambda each: internals.set_metrics(each, {"watched": given}), spy)
    assert spy.found == [given] * BATCHES * 2


@check
def is_restarting_amid_epoch(folder: Path) -> None:
    assert fit(folder, "on_train_start", internals.is_restarting_amid_epoch) == [False]
    act = internals.is_restarting_amid_epoch
    for hook, due in (("on_train_batch_start", True), ("on_train_epoch_end", False)):
        kept = stop_in(folder, hook)
        for steps in (-1, 1000):
            assert fit(folder, "on_train_start", act, kept=kept, max_steps=steps) == [due]


@check
def end_restart(folder: Path) -> None:
    kept = stop_in(folder, "on_train_batch_start", 4)
    for all_loops in (False, True):

        def act(runner: Trainer, all_loops: bool = all_loops) -> tuple[bool, ...]:
            loops = (
                runner.fit_loop,
                runner.fit_loop.epoch_loop,
                runner.fit_loop.epoch_loop.val_loop,
            )
            assert all(loop.restarting for loop in loops)
            internals.end_restart(runner, all_loops=all_loops)
            return tuple(loop.restarting for loop in loops)

        (found,) = fit(folder, "on_train_start", act, kept=kept, max_steps=1000)
        assert found == (False, not all_loops, not all_loops)


@check
def complete_epochs(folder: Path) -> None:
    def act(runner: Trainer) -> list[dict[str, Any]]:
        before = vars(runner.fit_loop.epoch_progress.total).copy()
        internals.complete_epochs(runner)
        epochs = runner.fit_loop.epoch_progress
        return [before, vars(epochs.total).copy(), vars(epochs.current).copy()]

    kept = stop_in(folder, "on_train_batch_start", BATCHES + 4)
    ((before, *after),) = fit(folder, "on_train_start", act, kept=kept, max_epochs=3)
    assert before == {"ready": 2, "started": 2, "processed": 1, "completed": 1}
    assert after == [{"ready": 1, "started": 1, "processed": 1, "completed": 1}] * 2


@check
def is_batch_begun(folder: Path) -> None:
    for hook, due in (("on_before_backward", True), ("on_train_batch_end", False)):
        kept = stop_in(folder, hook, 3)
        assert fit(folder, "on_train_start", internals.is_batch_begun, kept=kept) == [due]


@check
def discard_begun_batch(folder: Path) -> None:
    def act(runner: Trainer) -> list[dict[str, Any]]:
        internals.discard_begun_batch(runner)
        return [vars(runner.fit_loop.epoch_loop.batch_progress.total).copy()]

    kept = stop_in(folder, "on_before_backward", 3)
    ((total,),) = fit(folder, "on_train_start", act, kept=kept)
    assert total == {"ready": 2, "started": 2, "processed": 2, "completed": 2}


@check
def is_accumulating(folder: Path) -> None:
    found = fit(folder, "on_train_batch_end", internals.is_accumulating, accumulate_grad_batches=4)
    assert found == [True, True, True, False, True, False] * 2


@check
def count_steps(folder: Path) -> None:
    class Steps(Logger):
        name, version = "steps", 0

        def __init__(self) -> None:
            super().__init__()
            self.steps: list[int | None] = []

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            self.steps.append(step)

        def log_hyperparams(self, *_: Any, **__: Any) -> None:
            """Nothing to keep."""

    steps = Steps()
    fit(
        folder,
        "on_train_start",
        lambda runner: internals.count_steps(runner, 100),
        logger=steps,
        log_every_n_steps=1,
        max_epochs=1,
    )
    assert steps.steps[:BATCHES] == list(range(100, 100 + BATCHES))


def halve(step: Callable[[Trainer], None]) -> Callable[[Trainer], float]:
    """Show a scheduler the same metric twice: it has not fallen. The rate after it."""

    def act(runner: Trainer) -> float:
        internals.set_metrics(runner, {"watched": torch.tensor(1.0)})
        for _ in range(2):
            step(runner)
        return float(runner.optimizers[0].param_groups[0]["lr"])

    return act


@check
def step_schedulers(folder: Path) -> None:
    act = halve(internals.step_schedulers)
    options: dict[str, Any] = {"interval": "step", "accumulate_grad_batches": 2}
    found = fit(folder, "on_train_batch_end", act, loaders=loader(2), max_epochs=1, **options)
    assert found == [1.0, 0.5], "none while gradients are accumulated"


@check
def step_epoch_schedulers(folder: Path) -> None:
    kept = stop_in(folder, "on_train_epoch_end")

    def act(runner: Trainer) -> tuple[float, int]:
        rate = halve(internals.step_epoch_schedulers)(runner)
        return rate, runner.current_epoch

    assert fit(folder, "on_train_start", act, kept=kept) == [(0.5, 1)]


@check
def forget_validation(folder: Path) -> None:
    def act(runner: Trainer) -> tuple[bool, bool]:
        loop = runner.fit_loop.epoch_loop
        loop.restarting = True
        before = loop._is_validation_done
        internals.forget_validation(runner)
        after = loop._is_validation_done
        loop.restarting = False
        return before, after

    found = fit(folder, "on_train_epoch_start", act)
    assert found == [(False, False), (True, False)]


@check
def is_validation_due(folder: Path) -> None:
    found = fit(folder, "on_train_batch_end", internals.is_validation_due, val_check_interval=3)
    assert found == [False, False, True] * 4


@check
def begin_validation(folder: Path) -> None:
    hooks: list[str] = []
    spies = [
        In(hook, lambda _, hook=hook: hooks.append(hook))  # type: ignore[misc]
        for hook in ("on_train_batch_start", "on_validation_batch_start")
    ]
    kept = stop_in(folder, "on_validation_batch_start", 2, val_check_interval=3)
    fit(
        folder,
        "on_train_start",
        internals.begin_validation,
        *spies,
        kept=kept,
        val_check_interval=3,
        max_epochs=1,
    )
    train, validation = ["on_train_batch_start"] * 3, ["on_validation_batch_start"] * 2
    assert hooks == [*validation, *train, *validation]


@check
def take_over_signals(folder: Path) -> None:
    def act(runner: Trainer) -> tuple[bool, bool, bool]:
        os.kill(os.getpid(), signal.SIGTERM)
        signals = internals.get_signals(runner)
        assert signals is not None
        return signals.noted, signals.agreed, runner.received_sigterm

    takes = In("setup", internals.take_over_signals)
    found = fit(folder, "on_train_batch_start", act, takes)
    assert found == [(True, False, False)] * BATCHES * 2, "it is noted, and ends nothing by itself"

    def stop(runner: Trainer) -> None:
        signals = internals.get_signals(runner)
        assert signals is not None
        signals.received_sigterm = True

    with pytest.raises(SystemExit):
        fit(folder, "on_train_batch_end", stop, takes)


@check
def get_signals(folder: Path) -> None:
    runner = trainer(folder)
    assert internals.get_signals(runner) is None
    internals.take_over_signals(runner)
    signals = internals.get_signals(runner)
    internals.take_over_signals(runner)
    assert internals.get_signals(runner) is signals


@check
def dump_checkpoint(folder: Path) -> None:
    kept = folder / "whole.ckpt"

    def act(runner: Trainer) -> tuple[set[str], set[str]]:
        runner.save_checkpoint(kept)
        return set(internals.dump_checkpoint(runner)), set(torch.load(kept))

    alone, together = fit(folder, "on_train_batch_start", act)[0]
    assert alone == together > {"state_dict", "loops", "optimizer_states"}


@check
def silence_advice(folder: Path) -> None:
    said = r"fit\(ckpt_path=None\)` was called without a model"
    runner = trainer(folder, OnExceptionCheckpoint(folder), max_epochs=0)
    with pytest.warns(UserWarning, match=said):
        runner.fit(Tiny(), loader(), loader(2))
    internals.silence_advice(runner)
    with pytest.warns(UserWarning, match="no last checkpoint available") as given:
        runner.fit(Tiny(), loader(), loader(2))
    assert not [each for each in given if re.search(said, str(each.message))]


@check
def make_lone_environment(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "WORLD_SIZE": "4"}.items():
            patch.setenv(name, value)
        runner = trainer(folder, plugins=[internals.make_lone_environment()])
    assert (runner.world_size, runner.global_rank) == (1, 0)


@pytest.mark.parametrize("name", CHECKS)
def test_lightning_has_what_a_function_of_internals_relies_on(name: str, tmp_path: Path) -> None:
    CHECKS[name](tmp_path)


def test_every_function_of_internals_is_tried() -> None:
    functions = inspect.getmembers(internals, inspect.isfunction)
    own = {name for name, each in functions if each.__module__ == internals.__name__}
    assert own == set(CHECKS)
