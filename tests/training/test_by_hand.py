"""Loaders that are handed to others: to a Trainer alone, to Fabric, to accelerate, taken apart."""

import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, Subset

from btc_datamodule import Batch, BTCDataModule, ConfigError
from tests.factories import make_datamodule, make_model, make_trainer
from tests.training import ranks_by_hand
from tests.training.ranks_by_hand import EPOCHS, Times
from tests.training.test_ranks import WAYS, run

SCRIPT = str(Path(ranks_by_hand.__file__))
TOLD = "Use it as it is: .* leave it out of `accelerator.prepare`; .* `dm.dataset.stage.`"


def read_notes(folder: Path, way: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{way}-*.json"))]


def join(parts: list[Times]) -> list[list[int]]:
    """The global batches of which each rank had its part."""
    together = zip_longest(*parts, fillvalue=[])
    return [[time for part in batch for time in part] for batch in together]


def check_shares(folder: Path, way: str, ranks: int) -> None:
    """Together the ranks have had what one alone has, and each its own share of each batch."""
    notes = read_notes(folder, way)
    assert len(notes) == ranks
    alone = make_datamodule(folder, batch_size=24 * ranks)
    loader = alone.train_dataloader()
    for epoch in range(EPOCHS):
        parts = [note["train"][epoch] for note in notes]
        assert {len(batch) for part in parts for batch in part} == {24}
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        assert join(parts) == [batch.origin_time.tolist() for batch in loader]
    seen = [time for note in notes for batch in note["val"] for time in batch]
    assert sorted(seen) == alone.dataset("val")[:].origin_time.tolist()


# --- real ranks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        "ddp",
        pytest.param("fabric", marks=pytest.mark.stress),
        pytest.param("ddp_fork", marks=pytest.mark.stress),
        pytest.param("ddp_spawn", marks=pytest.mark.stress),
    ],
)
def test_loaders_made_before_there_are_ranks_share_their_windows(tmp_path: Path, way: str) -> None:
    run([sys.executable, SCRIPT, str(tmp_path), way])
    check_shares(tmp_path, way, 2)


def test_fabric_on_one_rank_has_what_the_loader_has(tmp_path: Path) -> None:
    ranks_by_hand.run_fabric(tmp_path, 1)
    check_shares(tmp_path, "fabric", 1)


@pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed")
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.stress), 2])
def test_accelerate_with_the_loader_left_as_it_is_as_the_docs_say(
    tmp_path: Path, ranks: int
) -> None:
    command = WAYS["torchrun"][:-1] if ranks > 1 else (sys.executable,)
    run([*(part.format(ranks=ranks) for part in command), SCRIPT, str(tmp_path), "accelerate"])
    check_shares(tmp_path, "accelerate", ranks)
    refused = [path.read_text() for path in sorted(tmp_path.glob("refused-*.txt"))]
    assert [text.count("leave it out of `accelerator.prepare`") for text in refused] == [1] * ranks


# --- taken apart ----------------------------------------------------------------------------------


@pytest.fixture
def dm(tmp_path: Path) -> BTCDataModule:
    return make_datamodule(tmp_path)


def keep_parts(loader: DataLoader[Batch], **changed: Any) -> DataLoader[Batch]:
    """As accelerate and others make a loader of the parts of one."""
    names = ("batch_size", "sampler", "collate_fn", "num_workers", "pin_memory", "drop_last")
    parts = {name: getattr(loader, name) for name in names} | changed
    return DataLoader(loader.dataset, **parts)


LOST: dict[str, Callable[[DataLoader[Batch]], DataLoader[Batch]]] = {
    "no sampler": lambda loader: keep_parts(loader, sampler=None),
    "no sampler and a shuffle": lambda loader: keep_parts(
        loader,
        sampler=RandomSampler(loader.dataset),  # type: ignore[arg-type]
    ),
    "the same class": lambda loader: type(loader)(loader.dataset, batch_size=None),
    "the same class, its own batches": lambda loader: type(loader)(loader.dataset, batch_size=8),
}


@pytest.mark.parametrize("options", [{}, {"gather": "device"}], ids=["host", "device"])
@pytest.mark.parametrize("rebuild", LOST.values(), ids=LOST.keys())
def test_a_loader_whose_batches_were_lost_is_one_line_and_no_single_windows_in_order(
    tmp_path: Path,
    rebuild: Callable[[DataLoader[Batch]], DataLoader[Batch]],
    options: dict[str, Any],
) -> None:
    loader = make_datamodule(tmp_path, **options).train_dataloader()
    with pytest.raises(ConfigError, match=TOLD) as caught:
        next(iter(rebuild(loader)))
    assert "\n" not in str(caught.value)


def test_what_accelerate_asks_before_it_rebuilds_is_answered_in_one_line(dm: BTCDataModule) -> None:
    with pytest.raises(ConfigError, match=TOLD):
        getattr(dm.train_dataloader(), "_is_accelerate_prepared", False)


def test_a_loader_made_again_of_all_its_parts_is_the_same(dm: BTCDataModule) -> None:
    loader = dm.train_dataloader()
    for one, other in zip(loader, keep_parts(loader), strict=True):
        assert torch.equal(one.origin_time, other.origin_time)


class Moving(DataLoader[Batch]):
    """Moves batches to a device as plain tuples, as Ray Train does; it leaves the sampler be."""

    def __init__(self, base: DataLoader[Batch]) -> None:
        self.__dict__.update(vars(base))
        self.base = base

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return (tuple(field.to("cpu") for field in batch) for batch in self.base)

    def __len__(self) -> int:
        return len(self.base)


def test_a_loader_around_ours_hands_out_the_same_batches(dm: BTCDataModule) -> None:
    loader = dm.train_dataloader()
    assert isinstance(loader.sampler, DistributedSampler), "which Ray Train replaces else"
    around = list(Moving(loader))
    assert len(around) == len(Moving(loader)) == len(loader)
    for (x, _, _, times), batch in zip(around, loader, strict=True):
        assert torch.equal(x, batch.x)
        assert torch.equal(times, batch.origin_time)


def test_a_loader_of_torch_over_the_dataset_of_ours_makes_batches_of_its_windows(
    dm: BTCDataModule,
) -> None:
    dataset: Any = dm.train_dataloader().dataset
    every = dm.dataset("train")[:]
    batches = list(DataLoader(dataset, batch_size=32, shuffle=True, num_workers=1))
    assert [len(batch.x) for batch in batches[:-1]] == [32] * (len(batches) - 1)
    times = torch.cat([batch.origin_time for batch in batches])
    assert not torch.equal(times, every.origin_time)
    assert torch.equal(times.sort().values, every.origin_time)

    sampler = BatchSampler(range(100), 32, drop_last=False)
    whole = list(DataLoader(dataset, sampler=sampler, batch_size=None, collate_fn=lambda x: x))
    assert torch.equal(torch.cat([b.x for b in whole]), every.x[:100])
    (part,) = DataLoader(Subset(dataset, [3, 1]), batch_size=2)
    assert torch.equal(part.y, every.y[[3, 1]])


def test_a_few_batches_of_a_loader_given_by_hand_are_one_line(
    dm: BTCDataModule, tmp_path: Path
) -> None:
    runner = make_trainer(tmp_path, max_epochs=1, overfit_batches=2)
    with pytest.raises(ConfigError, match=r"`overfit_batches`.* give a Trainer `datamodule=dm`"):
        runner.fit(make_model(dm), dm.train_dataloader(), dm.val_dataloader())


def test_what_a_batch_lacks_before_the_device_is_said_with_what_to_call(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, gather="device")
    starts: Any = next(iter(dm.train_dataloader()))
    for name in ("x", "observed"):
        with pytest.raises(
            ConfigError, match=rf"no {name} before .* `batch = dm\.transfer_batch_to_"
        ):
            getattr(starts, name)
    with pytest.raises(AttributeError, match="no attribute 'shape'"):
        starts.shape  # noqa: B018
    batch = dm.transfer_batch_to_device(starts, "cpu", 0)
    assert batch.x.shape == (32, 12, 3)
