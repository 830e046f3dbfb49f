"""What is kept of a fold that was run: what it was made of, and what came of it.

A record says by a digest which settings, rows, model, trainer and seed a fold was run with. A
fold whose record has another one, or whose forecasts are gone or not those that were written, is
run again.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary, ProgressBar

from btc_datamodule.datamodule import BTCDataModule
from btc_datamodule.disk.atomic import replace_file
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.fitted import compute_digest
from btc_datamodule.folds.identity import Identity, identify
from btc_datamodule.plain import describe
from btc_datamodule.training.internals import get_callbacks

RECORD = "fold.json"
FORECASTS = "forecasts.parquet"

RULES = 3
"""Of this room; raised when the same settings come to give something else, to run folds again."""

_TRAINING = (
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "precision", "world_size"),
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("val_check_interval", "check_val_every_n_epoch", "overfit_batches", "fast_dev_run"),
    *("num_sanity_val_steps", "reload_dataloaders_every_n_epochs", "barebones"),
)
"""Attributes of a Trainer that decide what it makes of a model."""

_LOADING = (
    *("batch_size", "stride", "eval_stride", "shuffle", "seed", "max_fill", "min_observed"),
    *("context", "dtype"),
)
"""Arguments of a datamodule that decide its batches, beside those that checkpoints compare."""


@dataclass(frozen=True)
class FoldRecord:
    """A fold that was run.

    Attributes:
        fold: its number.
        identity: SHA-256 of all that it is made of; "" if a part cannot be told from others.
        forecasts: SHA-256 of the file of its forecasts; "" while it is being run.
        checkpoint: which weights were tested: the path of the best checkpoint, or "last".
        epochs: that the fit took.
        steps: that the optimizer took.
        metrics: what the test logged, by name.
    """

    fold: int
    identity: str
    forecasts: str = ""
    checkpoint: str = ""
    epochs: int = 0
    steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def is_finished(self, folder: Path) -> bool:
        """Whether the forecasts in a folder are those of this record."""
        path = folder / FORECASTS
        return bool(self.forecasts) and path.is_file() and hash_file(path) == self.forecasts

    def write(self, folder: Path) -> None:
        """Write it into the folder of its fold."""
        with replace_file(folder / RECORD) as path:
            path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read_record(folder: Path) -> FoldRecord | None:
    """The record in the folder of a fold; None if there is none that can be read."""
    try:
        return FoldRecord(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def begin_fold(folder: Path, record: FoldRecord) -> None:
    """Make an empty folder for a fold, without what an earlier run has left in it.

    Raises:
        ConfigError: if there is something else in it.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / RECORD).is_file():
            raise ConfigError(
                f"out: {folder} has no {RECORD}, so that it is of something else: name another "
                "folder, or remove that one"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder)


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_data(dm: BTCDataModule) -> str:
    """SHA-256 of the settings of a fold, its spans and all rows up to its end.

    Transform and target are told by ``identify_training``.
    """
    fold, table = dm.fold, dm.table
    spans = [fold.spans(stage) for stage in ("train", "val", "test", "predict")]
    end = min(table.span[1], max(span[1] for span in (*fold.predict, *fold.train, *fold.val)))
    rows = compute_digest(table, [(0, table.find_row(end))], dm.target.columns)
    loading = {name: getattr(dm, name) for name in _LOADING}
    told = [RULES, dm.settings.comparable, loading, spans, rows, dm.stages.fitted.train_digest]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()


def identify_training(model: LightningModule, trainer: Trainer, dm: BTCDataModule) -> Identity:
    """The code, values and first weights of a model, how it is trained, and on what of the user's.

    That is the transform and the target of the datamodule; the rest of it ``describe_data`` tells.
    """
    from lightning.pytorch.cli import SaveConfigCallback

    shown: tuple[type[Callback], ...] = (ProgressBar, ModelSummary, SaveConfigCallback)
    callbacks = [each for each in get_callbacks(trainer) if not isinstance(each, shown)]
    arguments = {name: describe(getattr(trainer, name, None)) for name in _TRAINING}
    by_type = [type(each) for each in (trainer, trainer.strategy, trainer.accelerator)]
    exact = [torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()]
    made_of = {
        "model": model,
        "callbacks": callbacks,
        "precision": trainer.precision_plugin,
        "transform": dm.transform,
        "target": dm.target,
    }
    return identify([RULES, made_of, arguments, by_type, exact])
