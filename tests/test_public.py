"""Public names: where they can be imported from, today and since version 0.1."""

import inspect
import pickle
from importlib import import_module
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

import btc_datamodule
from btc_datamodule import BTCDataModule, DummyModule, FractionSplit, LogReturn, Simulator

NAMES = [name for name in btc_datamodule.__all__ if name != "FEATURES"]
PATHS_OF_0_1 = {
    "candles": ("Candles",),
    "datamodule": ("BTCDataModule",),
    "dummy": ("DummyModule",),
    "errors": ("BTCDataError", "ConfigError", "StoreError"),
    "features": ("FEATURES", "Feature"),
    "predictions": ("PredictionWriter",),
    "sources.base": ("Block", "Source"),
    "sources.binance": ("BinanceArchive",),
    "sources.ccxt": ("Ccxt",),
    "sources.coinbase": ("Coinbase",),
    "sources.files": ("CandleFile",),
    "sources.simulator": ("Simulator",),
    "splits": (
        *("CombinatorialPurged", "DateSplit", "Fold", "FractionSplit", "Split"),
        "WalkForward",
    ),
    "stopping": ("StopCheckpoint",),
    "store": ("read_candles",),
    "targets": (
        *("CumulativeReturn", "Direction", "LogReturn", "OHLCPath", "RealisedVolatility"),
        *("Target", "TripleBarrier"),
    ),
    "windows": ("Batch", "WindowDataset"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_carries_its_public_path(name: str) -> None:
    thing = getattr(btc_datamodule, name)
    assert f"{thing.__module__}.{thing.__qualname__}" == f"btc_datamodule.{name}"
    assert pickle.loads(pickle.dumps(thing)) is thing


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in PATHS_OF_0_1.items() for name in names]
)
def test_the_import_paths_of_version_0_1_give_the_same_things(module: str, name: str) -> None:
    assert getattr(import_module(f"btc_datamodule.{module}"), name) is getattr(btc_datamodule, name)


def test_what_was_not_public_in_a_module_that_is_gone_is_an_error_that_says_so() -> None:
    module = import_module("btc_datamodule.targets")
    with pytest.raises(AttributeError, match=r"of version 0\.1 is no more, and '_grown' is not"):
        getattr(module, "_grown")  # noqa: B009
    assert not hasattr(module, "__file__")
    assert inspect.getmodule(BTCDataModule) is btc_datamodule


def test_hyperparameters_and_checkpoints_name_public_paths(tmp_path: Path) -> None:
    dm = BTCDataModule(end="2010-02-01", lookback=8, data_dir=str(tmp_path))
    paths = {name: dm.hparams[name]["class_path"] for name in ("source", "target", "split")}
    assert paths == {
        "source": "btc_datamodule.Simulator",
        "target": "btc_datamodule.LogReturn",
        "split": "btc_datamodule.FractionSplit",
    }


def test_a_checkpoint_of_version_0_1_is_loaded_with_its_paths(tmp_path: Path) -> None:
    dm = BTCDataModule(
        source=Simulator(seed=2),
        start="2020-01-01",
        end="2020-02-01",
        lookback=8,
        split=FractionSplit(0.2, 0.2),
        data_dir=str(tmp_path),
    )
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, default_root_dir=tmp_path)
    trainer.fit(DummyModule(dm.n_features, dm.lookback, dm.horizon), datamodule=dm)
    path = tmp_path / "old.ckpt"
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    old = checkpoint["datamodule_hyper_parameters"]
    old["source"]["class_path"] = "btc_datamodule.sources.simulator.Simulator"
    old["target"]["class_path"] = "btc_datamodule.targets.LogReturn"
    old["split"]["class_path"] = "btc_datamodule.splits.FractionSplit"
    old["_class_path"] = "btc_datamodule.datamodule.BTCDataModule"
    torch.save(checkpoint, path)
    again = BTCDataModule.load_from_checkpoint(path, weights_only=True)
    assert (again.source, again.target, again.split) == (dm.source, LogReturn(), dm.split)
    again.setup()
    assert again.scaler == dm.scaler
