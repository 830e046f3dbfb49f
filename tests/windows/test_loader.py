"""The same batches for any number of workers and any way to start them, and the tutorial."""

import os
import pickle
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from btc_datamodule import Batch, Simulator
from btc_datamodule.features.table import Table
from btc_datamodule.windows.blocks import BLOCK_WINDOWS
from btc_datamodule.windows.sampler import WindowSampler
from btc_datamodule.windows.sending import StartMethod
from tests.factories import make_datamodule

if TYPE_CHECKING:  # workers that are spawned import this module, and need no Lightning
    from btc_datamodule import BTCDataModule

START_METHODS = get_args(StartMethod)


def centred(batch: Batch) -> Batch:
    """A transform that works on single samples and batches: x less its last input bar."""
    return batch._replace(x=batch.x - batch.x[..., -1:, :])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loaders")


datamodule = partial(
    make_datamodule,
    source=Simulator(seed=3, outages_per_year=100, no_trade=0.01),
    start="2021-01-01",
    end="2021-02-15",
    lookback=24,
    horizon=2,
    batch_size=50,
    min_observed=0.5,
)


def epoch(dm: "BTCDataModule") -> list[Batch]:
    loader = dm.train_dataloader()
    loader.sampler.set_epoch(1)  # type: ignore[attr-defined]
    return list(loader) + list(dm.val_dataloader())


@pytest.mark.each_value
@pytest.mark.parametrize(
    ("workers", "method"), [(1, None), (2, None), *((2, method) for method in START_METHODS)]
)
def test_batches_are_the_same_for_any_workers(
    folder: Path, workers: int, method: StartMethod | None
) -> None:
    alone = epoch(datamodule(folder))
    together = epoch(datamodule(folder, num_workers=workers, start_method=method))
    assert len(alone) == len(together) > 10
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_hdf5_handle_exists_that_could_cross_a_process(folder: Path) -> None:
    dm = datamodule(folder)
    next(iter(dm.train_dataloader()))
    kinds = h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_GROUP | h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_ATTR
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds) == 0
    dataset = dm.dataset("train")
    dataset[0]
    text = pickle.dumps(dataset)
    assert b"memmap" not in text
    assert str(os.getpid()).encode() not in text


class Spy(torch.utils.data.Dataset[tuple[int, int]]):
    """Says which process maps the feature file, from inside a worker."""

    def __init__(self, dm: "BTCDataModule") -> None:
        self.windows = dm.dataset("train")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[int, int]:
        before = self.windows.table._maps.get("process", 0)
        self.windows[index]
        return before, self.windows.table._maps["process"]


@pytest.mark.parametrize("method", START_METHODS)
def test_each_worker_maps_the_file_for_itself(folder: Path, method: str) -> None:
    spy = Spy(datamodule(folder))
    spy[0]  # the parent has its own map before the workers start
    loader = DataLoader(spy, batch_size=None, num_workers=1, multiprocessing_context=method)
    (_, inside), *_ = list(loader)
    assert inside not in (0, os.getpid())


@pytest.mark.parametrize("method", START_METHODS)
def test_the_tutorial_works_in_plain_pytorch(folder: Path, method: str) -> None:
    dataset = datamodule(folder, transform=centred).dataset("train")
    assert len(dataset) > 500
    sample = dataset[7]
    assert (sample.x.shape, sample.y.shape) == ((24, 3), (2, 1))
    assert sample.x[-1].tolist() == [0.0, 0.0, 0.0]

    loader = DataLoader(
        dataset, batch_size=4, shuffle=True, num_workers=2, multiprocessing_context=method
    )
    times = []
    for batch in loader:
        assert isinstance(batch, Batch)
        assert batch.x.shape[1:] == (24, 3)
        times.append(batch.origin_time)
    seen = torch.cat(times)
    assert [len(part) for part in times[:-1]] == [4] * (len(times) - 1)
    assert not torch.equal(seen, seen.sort().values), "shuffled"
    every = dataset[np.arange(len(dataset))].origin_time
    assert torch.equal(seen.sort().values, every), "each window once"


def test_a_loader_over_positions_gives_what_the_samples_give(folder: Path) -> None:
    dataset = datamodule(folder).dataset("val")
    whole = dataset[np.arange(len(dataset))]
    (batch,) = DataLoader(dataset, batch_size=len(dataset))
    assert all(torch.equal(a, b) for a, b in zip(whole, batch, strict=True))


@pytest.mark.parametrize("stride", [1, 5])
def test_a_block_is_the_same_length_of_the_file_at_any_stride(folder: Path, stride: int) -> None:
    sampler = datamodule(folder, shuffle="block", stride=stride).train_dataloader().sampler
    assert isinstance(sampler, WindowSampler)
    assert sampler.block == BLOCK_WINDOWS // stride


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["x", "observed", "close"]),
        ({"min_observed": 1.0}, ["x", "close"]),
        ({"gather": "device"}, []),
    ],
    ids=["masked", "complete", "device"],
)
def test_only_what_a_batch_is_made_of_is_read_ahead(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], names: list[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Table, "read_ahead", lambda *given: asked.extend(given[3]))
    dm = datamodule(folder, shuffle="block", **settings)
    loader = dm.train_dataloader()
    dataset: Any = loader.dataset
    dataset.windows.ahead_bytes = 0
    next(iter(loader))
    assert asked == names
