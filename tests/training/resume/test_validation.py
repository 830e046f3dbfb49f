"""Validation and loggers go on after a stop as they would have without one."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers.logger import Logger

from tests.marks import keep_some
from tests.training.resume.fits import (
    BATCHES,
    BY_STEPS,
    KeptIn,
    StoppedError,
    datamodule,
    model_for,
    trainer,
)


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


@pytest.mark.each_value
@pytest.mark.parametrize(
    ("hook", "at"),
    keep_some(
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
        2,
    ),
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
