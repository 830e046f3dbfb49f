"""Train loaders in other hands than those of a Trainer alone, and in other settings of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    OnExceptionCheckpoint,
)
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor

from btc_datamodule import Batch, BTCDataModule
from tests.marks import keep_some
from tests.training.resume.fits import (
    BATCHES,
    EPOCHS,
    PLAIN,
    Recorder,
    StoppedError,
    assert_goes_on,
    break_off,
    datamodule,
    digest_of,
    go_on,
    model_for,
    prepared,
    stop_after,
    trainer,
    uninterrupted,
)


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


@pytest.mark.each_value
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
    kept = stop_after(3, tmp_path, dm, **setting.of_trainer)
    after = go_on(kept, datamodule(folder, Peeks), **setting.of_trainer)
    assert_goes_on(after, whole, 2)


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


@pytest.mark.each_value
@pytest.mark.parametrize(("workers", "gather"), [(0, "host"), (2, "device")])
@pytest.mark.parametrize("within", keep_some(["dict", "list", "max_size", "min_size"], 2))
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
        kept = stop_after(at, tmp_path, made(), kind=OfTwo)
        after = go_on(kept, made(), kind=OfTwo)
        kept.unlink()
        assert_goes_on(after, whole, at)


@pytest.mark.parametrize("attached", [False, True])
def test_a_loader_that_is_given_without_its_datamodule_is_warned_of(
    folder: Path, tmp_path: Path, attached: bool
) -> None:
    """Also where the datamodule was in the hands of another Trainer before."""
    dm = prepared(folder)
    given: Any = {"datamodule": dm} if attached else {"train_dataloaders": dm.train_dataloader()}
    with pytest.raises(StoppedError):
        trainer(tmp_path, OnExceptionCheckpoint(tmp_path, "stop")).fit(
            model_for(dm).prepare(3, break_off), **given
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
    kept = stop_after(limit + 3, tmp_path, dm, **options)
    after = go_on(kept, dm, **options)
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
