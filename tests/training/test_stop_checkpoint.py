"""The checkpoint that is kept of a fit that is stopped, on one device.

Stops on several ranks are in ``test_ranks.py``.
"""

import os
import signal
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import OnExceptionCheckpoint, Timer
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor

from btc_datamodule import (
    Batch,
    BTCDataModule,
    DummyModule,
    Simulator,
    StopCheckpoint,
    StoreError,
)
from btc_datamodule.cli.commands import main
from btc_datamodule.training import internals
from tests.factories import make_datamodule, make_trainer

CONFIG = Path(__file__).parents[2] / "configs" / "dummy.yaml"


class StoppedError(Exception):
    pass


def fail() -> None:
    raise StoppedError


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Stops(DummyModule):
    """Does something in its third step."""

    act: Callable[[], None] | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch_idx == 2 and self.act is not None:
            self.act()
        return super().training_step(batch, batch_idx)


class Terminated(Stops):
    act = staticmethod(terminate)


class Tells(Stops):
    """Says with how many steps behind it a fit begins."""

    def on_train_start(self) -> None:
        print(f"steps: {self.trainer.global_step}")


datamodule = partial(
    make_datamodule,
    ready=False,
    source=Simulator(seed=3),
    start="2021-01-01",
    end="2021-01-20",
    lookback=8,
    horizon=2,
)


def model_for(
    dm: BTCDataModule, act: Callable[[], None] | None = None, kind: type[Stops] = Stops
) -> Stops:
    model = kind(dm.n_features, dm.lookback, dm.horizon, dm.target_shape)
    model.act = act
    return model


def trainer(folder: Path, **options: Any) -> Trainer:
    settings = {"max_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": True}
    return make_trainer(folder, StopCheckpoint(str(folder)), **settings | options)


@pytest.mark.parametrize(
    ("act", "raised"),
    [(fail, StoppedError), (interrupt, SystemExit), (terminate, SystemExit)],
    ids=lambda value: value.__name__,
)
def test_a_fit_that_is_stopped_keeps_a_checkpoint_and_the_next_goes_on_from_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    act: Callable[[], None],
    raised: type[BaseException],
) -> None:
    kept = tmp_path / "stopped.ckpt"
    dm = datamodule(tmp_path)
    with pytest.raises(raised):
        trainer(tmp_path).fit(model_for(dm, act), datamodule=dm)
    before = kept.read_bytes()
    done = torch.load(kept)["global_step"]
    assert 2 <= done <= 3

    for evaluate in (trainer(tmp_path).validate, trainer(tmp_path).test, trainer(tmp_path).predict):
        evaluate(model_for(dm), datamodule=dm, ckpt_path=str(kept))
    other = datamodule(tmp_path, lookback=9)
    with pytest.raises(RuntimeError, match="size mismatch"):
        trainer(tmp_path).fit(model_for(other), datamodule=other, ckpt_path=str(kept))
    assert kept.read_bytes() == before, "neither deleted, nor replaced by one of no training"

    capsys.readouterr()
    trainer(tmp_path).fit(model_for(dm, kind=Tells), datamodule=dm)
    assert f"steps: {done}\n" in capsys.readouterr().out
    assert not kept.exists(), "a fit that has come to its end has nothing to go on from"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A checkpoint of a stop."""
    dm = datamodule(tmp_path)
    with pytest.raises(StoppedError):
        trainer(tmp_path).fit(model_for(dm, fail), datamodule=dm)
    return tmp_path / "stopped.ckpt"


@pytest.mark.parametrize(
    "options", [{"fast_dev_run": True}, {"limit_train_batches": 0}, {"max_steps": 2}]
)
def test_what_trains_nothing_leaves_the_checkpoint(good: Path, options: dict[str, Any]) -> None:
    before = good.read_bytes()
    dm = datamodule(good.parent)
    trainer(good.parent, **options).fit(model_for(dm), datamodule=dm)
    assert good.read_bytes() == before


def test_a_search_for_a_learning_rate_leaves_it_too(good: Path) -> None:
    before = good.read_bytes()
    dm = datamodule(good.parent)
    model = model_for(dm)
    runner = trainer(good.parent)
    Tuner(runner).lr_find(model, datamodule=dm, num_training=3, attr_name="learning_rate")
    assert good.read_bytes() == before


def test_a_trainer_that_has_fitted_keeps_nothing_of_what_fails_before_it_trains(
    tmp_path: Path,
) -> None:
    class Unprepared(BTCDataModule):
        def prepare_data(self) -> None:
            raise StoppedError

    dm = datamodule(tmp_path)
    runner = trainer(tmp_path)
    runner.fit(model_for(dm), datamodule=dm)
    failing = datamodule(tmp_path)
    failing.__class__ = Unprepared
    for run in (runner.fit, runner.test):
        with pytest.raises(StoppedError):
            run(model_for(dm), datamodule=failing)
    assert not (tmp_path / "stopped.ckpt").exists()


def test_the_end_of_its_time_is_a_stop_too(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dm = datamodule(good.parent)

    def run_out() -> None:
        (timer,) = (each for each in runner.callbacks if isinstance(each, Timer))  # type: ignore[attr-defined]
        timer._duration = 0.0

    runner = trainer(good.parent, max_time={"days": 1})
    runner.fit(model_for(dm, run_out), datamodule=dm)
    capsys.readouterr()
    trainer(good.parent).fit(model_for(dm, kind=Tells), datamodule=dm)
    assert "steps: 3\n" in capsys.readouterr().out
    assert not good.exists()


def test_what_cannot_be_kept_hides_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    dm = datamodule(tmp_path)
    runner = trainer(tmp_path)
    callbacks: list[Callback] = runner.callbacks  # type: ignore[attr-defined]
    callbacks.append(StopCheckpoint(str(tmp_path / "file")))
    with (
        pytest.warns(UserWarning, match=r"file/stopped.ckpt could not be kept: "),
        pytest.raises(StoppedError),
    ):
        runner.fit(model_for(dm, fail), datamodule=dm)


def test_making_one_changes_no_filter_of_warnings(tmp_path: Path) -> None:
    before = list(warnings.filters)
    StopCheckpoint(str(tmp_path))
    assert list(warnings.filters) == before


@pytest.mark.parametrize("stopped", [False, True])
def test_a_fit_without_a_path_is_not_advised_to_name_one(
    tmp_path: Path, stopped: bool, recwarn: pytest.WarningsRecorder
) -> None:
    """Lightning says that it was called without a model, which is never true of a fit."""
    dm = datamodule(tmp_path)
    if stopped:
        with pytest.raises(StoppedError):
            trainer(tmp_path).fit(model_for(dm, fail), datamodule=dm)
    before = list(warnings.filters)
    trainer(tmp_path).fit(model_for(dm), datamodule=dm)
    assert not [each for each in recwarn if "was called without a model" in str(each.message)]
    assert list(warnings.filters) == before


def test_a_fit_with_another_checkpoint_on_exception_is_advised_as_ever(tmp_path: Path) -> None:
    dm = datamodule(tmp_path)
    runner = trainer(tmp_path)
    internals.get_callbacks(runner)[:] = [OnExceptionCheckpoint(tmp_path)]
    with pytest.warns(UserWarning, match=r"was called without a model"):
        runner.fit(model_for(dm), datamodule=dm)


@pytest.mark.parametrize("size", [0, 5000])
def test_a_damaged_checkpoint_is_named_and_left(good: Path, size: int) -> None:
    good.write_bytes(good.read_bytes()[:size])
    dm = datamodule(good.parent)
    with pytest.raises(StoreError, match=r"stopped.ckpt, which a fit .* is damaged: delete it"):
        trainer(good.parent).fit(model_for(dm), datamodule=dm)
    assert good.stat().st_size == size


def test_the_command_line_ends_with_the_status_of_a_sigterm_and_goes_on_when_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = CONFIG.read_text().replace("  enable_checkpointing: false\n", "")
    assert "trainer:\n" in text
    Path("config.yaml").write_text(
        text.replace(
            "trainer:\n",
            "trainer:\n  callbacks:\n    - class_path: btc_datamodule.StopCheckpoint\n",
        )
    )
    fit = ["fit", "--config", "config.yaml", "--trainer.enable_progress_bar", "false"]
    with pytest.raises(SystemExit, match="143"):
        main([*fit, "--model", f"{__name__}.Terminated"])
    assert capsys.readouterr().err.endswith("btc-datamodule: ended by a SIGTERM\n")
    assert torch.load("checkpoints/stopped.ckpt")["global_step"] == 3
    assert main([*fit, "--model", f"{__name__}.Tells"]) == 0
    assert "steps: 3\n" in capsys.readouterr().out
    assert not Path("checkpoints/stopped.ckpt").exists()
