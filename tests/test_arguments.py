"""What a datamodule was given: told to loggers, kept in checkpoints, made again, never moved."""

import functools
import multiprocessing
import pickle
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from btc_datamodule import (
    Batch,
    BTCDataModule,
    ConfigError,
    DummyModule,
    Feature,
    LogReturn,
    PredictionWriter,
    StopCheckpoint,
    WalkForward,
)
from btc_datamodule.cli.commands import main
from tests.factories import make_datamodule, make_model, make_trainer

CONFIG = Path(__file__).parents[1] / "configs" / "dummy.yaml"


def double(batch: Batch, by: float = 2.0) -> Batch:
    return batch._replace(x=batch.x * by)


class Doubling:
    """Keeps its argument by its name."""

    def __init__(self, by: float = 2.0) -> None:
        self.by = by

    def __call__(self, batch: Batch) -> Batch:
        return double(batch, self.by)


class Secretive:
    """Keeps its argument by another name."""

    def __init__(self, by: float = 2.0) -> None:
        self._by = by

    def __call__(self, batch: Batch) -> Batch:
        return double(batch, self._by)


class Network(torch.nn.Module):
    """Has weights that no argument gives back."""

    def forward(self, batch: Batch) -> Batch:
        return batch


def keep(folder: Path, dm: BTCDataModule, model: DummyModule | None = None, **options: Any) -> str:
    """A checkpoint of a fit of one batch."""
    runner = make_trainer(
        folder, max_epochs=1, limit_train_batches=1, limit_val_batches=1, **options
    )
    runner.fit(make_model(dm) if model is None else model, datamodule=dm)
    path = folder / "kept.ckpt"
    runner.save_checkpoint(path)
    return str(path)


# --- loggers --------------------------------------------------------------------------------------


class PatchModel(DummyModule):
    """Its arguments are called what the data's are called, and mean something else."""

    def __init__(
        self,
        n_features: int,
        lookback: int,
        horizon: int,
        stride: int = 8,
        seed: int = 9,
        scaling: float = 0.5,
        context: int = 96,
        batch_size: int = 7,
        source: int = 1,
        data_dir: int = 2,
    ) -> None:
        super().__init__(n_features, lookback, horizon)
        self.save_hyperparameters()


OWN = ("stride", "seed", "scaling", "context", "batch_size", "source", "data_dir")


def test_a_model_may_call_its_arguments_what_the_data_calls_its_own(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, stride=2)
    model = PatchModel(dm.n_features, dm.lookback, dm.horizon)
    logger = CSVLogger(tmp_path, name="logs", version="it")
    path = keep(tmp_path, dm, model, logger=logger)
    lines = (tmp_path / "logs/it/hparams.yaml").read_text().splitlines()
    for line in ("stride: 8", "scaling: 0.5", "data/stride: 2", "data/scaling: train"):
        assert line in lines
    assert not [line for line in lines if "_instantiator" in line]

    content = torch.load(path, weights_only=True)
    assert content["hyper_parameters"]["stride"] == 8
    kept = content["datamodule_hyper_parameters"]
    assert kept == dict(dm.hparams)
    assert [kept[name] for name in ("stride", "seed", "batch_size")] == [2, 0, 32]
    again = BTCDataModule.load_from_checkpoint(path)
    assert again.settings.comparable == dm.settings.comparable
    assert again.settings.stride == 2
    assert PatchModel.load_from_checkpoint(path).hparams["stride"] == 8


def test_so_may_one_of_the_command_line_which_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--config", str(CONFIG), "--data.start", "2020-01-01", "--data.end", "2020-02-01"]
    arguments += [
        "--data.data_dir",
        "d",
        "--trainer.enable_progress_bar",
        "false",
        "--trainer.logger",
        "true",
    ]
    arguments += ["--trainer.enable_checkpointing", "true"]
    arguments += ["--model", "tests.test_arguments.PatchModel", "--model.stride", "5"]
    assert main(["fit", *arguments, "--trainer.limit_train_batches", "1"]) == 0
    (logged,) = tmp_path.rglob("hparams.yaml")
    lines = logged.read_text().splitlines()
    assert {"stride: 5", "data/stride: 1", "data/data_dir: d"} <= set(lines)
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.load(path, weights_only=True)["datamodule_hyper_parameters"]["data_dir"] == "d"
    assert main(["test", *arguments, "--ckpt_path", str(path)]) == 0


def test_the_batch_size_of_the_hyper_parameters_is_the_one_in_use(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, ready=False)
    dm.batch_size = 16
    assert (dm.hparams["batch_size"], dm.hparams_initial["data/batch_size"]) == (16, 32)
    assert {name.partition("/")[0] for name in dm.hparams_initial} == {"data"}


# --- back from a checkpoint -----------------------------------------------------------------------


@pytest.mark.parametrize("transform", [double, Doubling(3.0)], ids=["function", "object"])
def test_a_transform_that_can_be_named_comes_back_as_it_was(
    tmp_path: Path, transform: Callable[[Batch], Batch]
) -> None:
    path = keep(tmp_path, make_datamodule(tmp_path, transform=transform))
    again = BTCDataModule.load_from_checkpoint(path).transform
    assert again is transform or vars(again) == vars(transform)


class OwnReturn(LogReturn):
    """A target of one's own, at the top level of a module."""


def make_local() -> tuple[Callable[[Batch], Batch], LogReturn]:
    class LocalReturn(LogReturn):
        pass

    return lambda batch: batch, LocalReturn()


GAP = Feature("open_gap", 2, pl.col("open") / pl.col("close").shift(1) - 1)

UNNAMED: dict[str, dict[str, Any]] = {
    "a lambda": {"transform": lambda batch: batch},
    "a function within one": {"transform": make_local()[0]},
    "a partial": {"transform": functools.partial(double, by=3.0)},
    "a method": {"transform": Doubling(3.0).__call__},
    "an object whose arguments are not to be seen": {"transform": Secretive(3.0)},
    "a network": {"transform": Network()},
    "a feature": {"features": ["log_return", GAP, "log_range"]},
    "a target": {"target": make_local()[1]},
}


@pytest.mark.parametrize("given", UNNAMED.values(), ids=UNNAMED.keys())
def test_what_a_checkpoint_cannot_name_is_one_line_and_giving_it_as_the_line_says_works(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    ((name, value),) = given.items()
    dm = make_datamodule(tmp_path, **given)
    path = keep(tmp_path, dm)
    told = f"^what the checkpoint says of {name} .*: give {name}=... to load_from_checkpoint"
    with pytest.raises(ConfigError, match=told) as caught:
        BTCDataModule.load_from_checkpoint(path)
    assert "\n" not in str(caught.value)
    again = BTCDataModule.load_from_checkpoint(path, **given)
    again.setup()
    assert getattr(again, name) == (dm.features if name == "features" else value)
    assert again.scaler.center == dm.scaler.center
    for one, other in zip(again.dataset("val")[:], dm.dataset("val")[:], strict=True):
        assert torch.equal(one, other)


def test_other_arguments_given_go_before_those_of_the_checkpoint(tmp_path: Path) -> None:
    path = keep(tmp_path, make_datamodule(tmp_path, target=OwnReturn()))
    again = BTCDataModule.load_from_checkpoint(path, num_workers=2)
    assert (again.num_workers, type(again.target)) == (2, OwnReturn)
    with pytest.raises(ConfigError, match=r"other data settings: lookback was 12, is 9\."):
        BTCDataModule.load_from_checkpoint(path, lookback=9)
    with pytest.raises(ConfigError, match=r"^unknown feature 'nonesuch'"):
        BTCDataModule.load_from_checkpoint(path, features=["nonesuch"])


# --- folders --------------------------------------------------------------------------------------


def test_a_relative_folder_is_fixed_when_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    split = WalkForward(train="10d", val="2d", test="2d")
    dm = make_datamodule(".", data_dir="data", num_workers=1, start_method="fork", split=split)
    first = dm.dataset("train")[:2].x
    loader = dm.val_dataloader()
    monkeypatch.chdir("elsewhere")
    assert len(next(iter(loader)).x) > 0
    dm.setup()
    dm.prepare_data()
    other = dm.with_fold(1)
    other.setup()
    assert torch.equal(dm.dataset("train")[:2].x, first)
    assert other.candle_path == dm.candle_path
    assert dm.candle_path.is_relative_to(tmp_path / "data")
    assert list(Path.cwd().iterdir()) == []
    assert dm.hparams["data_dir"] == "data"


def test_so_is_where_predictions_and_stopped_fits_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm = make_datamodule(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    writer, stopped = PredictionWriter("forecasts.h5"), StopCheckpoint("kept")
    runner = make_trainer(tmp_path, writer, stopped, enable_checkpointing=True)
    monkeypatch.chdir("elsewhere")
    runner.predict(make_model(dm), datamodule=dm, return_predictions=False)
    assert stopped.ckpt_path == str(tmp_path / "kept" / "stopped.ckpt")
    assert (tmp_path / "forecasts.h5").is_file()
    assert list(Path.cwd().iterdir()) == []


# --- other processes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"transform": lambda batch: batch}, "transform is a lambda"),
        ({"target": make_local()[1]}, "target cannot be pickled .*LocalReturn"),
        (
            {"features": [Feature("own", 1, lambda bars: bars["close"])]},
            "features cannot be pickled .*lambda",
        ),
    ],
    ids=["transform", "target", "features"],
)
def test_a_rank_that_is_spawned_cannot_be_sent_everything(
    tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    dm = make_datamodule(tmp_path, ready=False, **given)
    rank = multiprocessing.get_context("spawn").Process(target=len, args=([dm],))
    with pytest.raises(ConfigError, match=f"^{told}.* or set the Trainer's `strategy` to ddp$"):
        rank.start()
    assert copy(dm).transform is dm.transform


def test_a_datamodule_goes_through_pickle_with_all_that_it_was_given(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, transform=double)
    again = pickle.loads(pickle.dumps(dm))
    assert again.settings.comparable == dm.settings.comparable
    assert (again.transform, again.batch_size, dict(again.hparams)) == (
        double,
        32,
        dict(dm.hparams),
    )
    assert torch.equal(again.dataset("val")[0].x, dm.dataset("val")[0].x)
