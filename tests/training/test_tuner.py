"""Searches for a batch size or a learning rate, and fits on few batches, end as one expects."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder
from lightning.pytorch.tuner.tuning import Tuner

from btc_datamodule import Batch, BTCDataModule, ConfigError
from tests.factories import make_datamodule, make_model, make_trainer

LOADING: dict[str, dict[str, Any]] = {
    "plain": {},
    "on a device": {"gather": "device"},
    "by a worker": {"num_workers": 1},
    "in blocks": {"shuffle": "block"},
}
loading = pytest.mark.parametrize("options", LOADING.values(), ids=LOADING.keys())


class Recorder(Callback):
    """Notes the origin times of every train batch; a search takes it away meanwhile."""

    def __init__(self) -> None:
        self.epochs: list[list[list[int]]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append([])

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.epochs[-1].append(batch.origin_time.tolist())


def times_of(dm: BTCDataModule) -> list[int]:
    return dm.dataset("train")[:].origin_time.tolist()


def fit(folder: Path, dm: BTCDataModule, *callbacks: Callback, epochs: int = 1) -> Recorder:
    recorder = Recorder()
    runner = make_trainer(folder, *callbacks, recorder, max_epochs=epochs)
    runner.fit(make_model(dm), datamodule=dm)
    assert runner.global_step == sum(map(len, recorder.epochs))
    return recorder


# --- the batch size -------------------------------------------------------------------------------


@loading
def test_a_batch_size_is_found_that_train_can_fill_and_the_fit_takes_its_steps(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    dm = make_datamodule(tmp_path, **options)
    every = times_of(dm)
    finder = BatchSizeFinder(init_val=256, steps_per_trial=1)
    seen = fit(tmp_path, dm, finder)
    assert dm.batch_size == finder.optimal_batch_size == dm.hparams["batch_size"] == len(every)
    assert [sorted(batch) for batch in seen.epochs[0]] == [every]
    assert len(dm.train_dataloader()) == 1


@pytest.mark.parametrize(
    ("search", "share"),
    [
        ({"mode": "binsearch"}, 0.95),
        ({"max_trials": 2}, 1.0),  # the last of which is at 512
        ({"max_trials": 1}, None),
    ],
)
def test_however_the_search_ends_what_it_says_is_what_is_used(
    tmp_path: Path, search: dict[str, Any], share: float | None
) -> None:
    dm = make_datamodule(tmp_path)
    windows = len(times_of(dm))
    assert 256 < windows < 512
    due = int(share * windows) if share else 256
    runner = make_trainer(tmp_path, max_epochs=1)
    found = Tuner(runner).scale_batch_size(
        make_model(dm), datamodule=dm, init_val=256, steps_per_trial=1, **search
    )
    assert found == dm.batch_size == due
    runner.fit(make_model(dm), datamodule=dm)
    assert runner.global_step == windows // due > 0


def test_a_search_in_an_evaluation_is_bounded_by_its_own_windows(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path)
    runner = make_trainer(tmp_path, BatchSizeFinder(init_val=64, steps_per_trial=1))
    runner.validate(make_model(dm), datamodule=dm, verbose=False)
    assert dm.batch_size == 64, "val has fewer windows"
    assert len(dm.dataset("val")) < 64


def test_a_train_loader_of_no_batches_is_an_error_and_no_fit_of_no_steps(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path)
    windows = len(times_of(dm))
    dm.batch_size = windows
    loader = dm.train_dataloader()
    assert len(loader) == len(list(loader)) == 1
    dm.batch_size = windows + 1
    loader = dm.train_dataloader()
    told = f"fewer windows than one batch .{windows} windows, batch_size {windows + 1}.: lower"
    for ask in (len, list):
        with pytest.raises(ConfigError, match=told):
            ask(loader)
    runner = make_trainer(tmp_path, max_epochs=1)
    with pytest.raises(ConfigError, match=told):
        runner.fit(make_model(dm), train_dataloaders=loader)
    for wrong in (0, 1.5, True, "many"):
        with pytest.raises(ConfigError, match=r"batch_size is .* it must be a whole number from 1"):
            dm.batch_size = wrong  # type: ignore[assignment]
    assert dm.batch_size == windows + 1


# --- the learning rate ----------------------------------------------------------------------------


@loading
def test_after_a_search_for_a_learning_rate_a_fit_sees_what_it_would_have_seen(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    dm = make_datamodule(tmp_path, **options)
    usual = fit(tmp_path, dm, epochs=2)
    dm, recorder = make_datamodule(tmp_path, **options), Recorder()
    runner, model = make_trainer(tmp_path, recorder, max_epochs=2), make_model(dm)
    found = Tuner(runner).lr_find(model, datamodule=dm, num_training=20, early_stop_threshold=None)
    assert found is not None
    assert len(found.results["loss"]) == 20, "more than an epoch has"
    assert recorder.epochs == []
    runner.fit(model, datamodule=dm)
    assert recorder.epochs == usual.epochs
    assert len(usual.epochs[0]) == len(dm.dataset("train")) // 32


# --- few batches again and again ------------------------------------------------------------------


@pytest.mark.each_value
@loading
@pytest.mark.parametrize(("share", "batches"), [(3, 3), (0.25, 3)])
def test_a_fit_on_few_batches_has_the_first_ones_in_order_of_time_in_each_epoch(
    tmp_path: Path, options: dict[str, Any], share: float, batches: int
) -> None:
    dm, recorder = make_datamodule(tmp_path, eval_stride=1, **options), Recorder()
    runner = make_trainer(tmp_path, recorder, max_epochs=2, overfit_batches=share)
    runner.fit(make_model(dm), datamodule=dm)
    first = times_of(dm)
    assert recorder.epochs == [[first[32 * i : 32 * i + 32] for i in range(batches)]] * 2
    assert dm.train_dataloader().sampler.order != "none"  # type: ignore[attr-defined]
