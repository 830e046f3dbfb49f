"""Schedulers, and what else watches a metric, go on after a stop."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
)
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tests.marks import keep_some
from tests.training.resume.fits import (
    BY_STEPS,
    EPOCHS,
    KeptIn,
    Recorder,
    Scheduled,
    StoppedError,
    assert_goes_on,
    datamodule,
    go_on,
    model_for,
    same_weights,
    stop_after,
    trainer,
)


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


@pytest.mark.each_value
@pytest.mark.parametrize("kind", [Watched, WatchedByStep])
@pytest.mark.parametrize(
    ("hook", "at", "options"),
    keep_some(
        [
            (hook, *stop)
            for hook in ("on_before_zero_grad", "on_train_batch_end", "on_validation_end")
            for stop in ((9, {}), (15, BY_STEPS[1]), (1, {}))
        ],
        4,
    ),
)
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
        after = go_on(tmp_path / f"epoch={epoch}.ckpt", dm, kind=Watched, max_epochs=5)
        assert same_weights(after, whole), epoch


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_20550_a_loader_built_early_for_a_scheduler_is_resumed_all_the_same(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    dm = datamodule(folder)
    whole = model_for(dm, Scheduled)
    trainer(tmp_path).fit(whole, datamodule=dm)
    dm = datamodule(folder, num_workers=workers)
    kept = stop_after(13, tmp_path, dm, kind=Scheduled)
    after = go_on(kept, dm, kind=Scheduled)
    assert_goes_on(after, whole, 13)
