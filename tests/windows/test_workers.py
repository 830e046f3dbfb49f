"""Loader processes send several batches a message, and each is what it would be alone."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from btc_datamodule import Batch, BTCDataModule, Simulator
from btc_datamodule.windows.loader import WindowLoader
from tests.factories import make_datamodule
from tests.windows.targets import Counting


def double(batch: Batch) -> Batch:
    """A transform."""
    return batch._replace(x=batch.x * 2)


def enlarge(batch: Batch) -> Batch:
    """A transform whose batches fit no slot."""
    return batch._replace(x=batch.x.repeat(1, 40, 1))


def number(batch: Batch) -> Any:
    """A transform that makes no ``Batch``."""
    return {"x": batch.x, "n": len(batch.x)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


datamodule = partial(
    make_datamodule,
    source=Simulator(seed=3, outages_per_year=300, no_trade=0.02),
    start="2021-01-01",
    end="2021-02-08",
    lookback=12,
    horizon=2,
    batch_size=4,
    min_observed=0.5,
    start_method="fork",
)


def loader_of(dm: BTCDataModule) -> WindowLoader:
    loader = dm.train_dataloader()
    assert isinstance(loader, WindowLoader)
    return loader


def list_bits(batch: Any) -> list[bytes]:
    fields = batch.values() if isinstance(batch, dict) else batch
    return [
        each.reshape(-1).view(torch.uint8).numpy().tobytes()
        if isinstance(each, torch.Tensor)
        else bytes([each])
        for each in fields
    ]


def count_open() -> int:
    """Files that this process holds open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lookback": 11},
        {"target": Counting()},
        {"scaling": "window"},
        {"dtype": "bfloat16"},
        {"shuffle": "block", "mask": "feature"},
        {"transform": double},
        {"transform": enlarge},
        {"transform": number},
    ],
    ids=[
        "plain",
        "no whole lines",
        "own target",
        "scaled after",
        "bfloat16",
        "block",
        "transform",
        "no slot fits",
        "no batch",
    ],
)
def test_batches_are_the_same_bits_kept_or_not(folder: Path, settings: dict[str, Any]) -> None:
    due = [list_bits(batch) for batch in loader_of(datamodule(folder, **settings))]
    assert len(due) > 60, "more than the slots hold"
    loader = loader_of(datamodule(folder, num_workers=3, **settings))
    assert [list_bits(batch) for batch in loader] == due, "let go at once"
    kept = list(loader)
    del loader
    assert [list_bits(batch) for batch in kept] == due, "kept until the loader is gone"


def test_rows_that_are_not_scaled_ahead_are_scaled_where_they_lie(folder: Path) -> None:
    due = [list_bits(batch) for batch in loader_of(datamodule(folder))]
    loader = loader_of(datamodule(folder, num_workers=2))
    dataset: Any = loader.dataset
    dataset.windows.ahead_bytes = 0
    assert [list_bits(batch) for batch in loader] == due


def test_an_epoch_goes_on_in_the_middle_of_a_message(folder: Path) -> None:
    loader = loader_of(datamodule(folder, num_workers=2))
    due = [list_bits(batch) for batch in loader]
    for skipped in (1, 13, len(due) - 1):
        loader._sampler.skip(skipped)
        assert [list_bits(batch) for batch in loader] == due[skipped:]


def test_an_iterator_dropped_half_way_gives_its_slots_back(folder: Path) -> None:
    loader = loader_of(datamodule(folder, num_workers=2))
    due = [list_bits(batch) for batch in loader]
    workers = loader._workers
    assert workers is not None
    number = len(workers._slots._free)
    for taken in (1, 2, 20):
        given = iter(loader)
        for _ in range(taken):
            next(given)
        del given
        assert [list_bits(batch) for batch in loader] == due
        assert loader._workers is workers
        assert sorted(workers._slots._free) == list(range(number))


def test_writing_into_a_batch_changes_no_other(folder: Path) -> None:
    batches = list(loader_of(datamodule(folder, num_workers=2)))
    due = [list_bits(batch) for batch in batches]
    for batch in batches[::2]:
        for field in batch:
            assert field._base is None
            assert field.untyped_storage().nbytes() == field.numel() * field.itemsize
            field.zero_()
    assert [list_bits(batch) for batch in batches[1::2]] == due[1::2]


def test_a_batch_that_is_kept_is_not_written_over(folder: Path) -> None:
    loader = loader_of(datamodule(folder, num_workers=2))
    iterator = iter(loader)
    kept = [next(iterator).x for _ in range(30)][-1]
    before = kept.clone()
    for _ in range(3):
        for batch in loader:
            batch.x.fill_(-1)
    assert torch.equal(kept, before)


def test_a_trainer_that_lets_go_of_the_processes_ends_them(folder: Path) -> None:
    """It sets ``_iterator`` of a loader to None, as torch has it."""
    loader = loader_of(datamodule(folder, num_workers=1))
    due = [list_bits(batch) for batch in loader]
    assert loader._workers is not None
    loader._iterator = None
    assert loader._workers is None
    assert [list_bits(batch) for batch in loader] == due


def test_a_killed_process_is_an_error(folder: Path) -> None:
    loader = loader_of(datamodule(folder, num_workers=1))
    iterator = iter(loader)
    next(iterator)
    workers = loader._workers
    assert workers is not None
    messages: Any = workers._messages
    os.kill(messages._iterator._workers[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"DataLoader worker .*(killed|exited)"):
        list(iterator)


@pytest.mark.parametrize(
    "epochs", [3, pytest.param(200, marks=pytest.mark.stress)], ids=["some", "many"]
)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_descriptors_stay_as_many(folder: Path, epochs: int) -> None:
    loader = loader_of(datamodule(folder, num_workers=2))
    counts = set()
    for _ in range(epochs + 1):
        for batch in loader:
            assert len(batch.x) == 4
        counts.add(count_open())
    assert len(counts) == 1
