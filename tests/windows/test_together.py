"""Small batches are made several at a time, and each is what it would be alone."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from btc_datamodule import Batch, BTCDataModule, Simulator, TripleBarrier
from btc_datamodule.windows.blocks import BatchRequest
from btc_datamodule.windows.loader import WindowLoader
from btc_datamodule.windows.together import TOGETHER, TOGETHER_BYTES, count_together
from tests.factories import make_datamodule
from tests.windows.targets import Counting

LENGTH = 4  # windows of 12 x 3: the inputs of a batch are whole lines of the processor's cache


def doubled(batch: Batch) -> Batch:
    """A transform that writes into the batch that it is given."""
    batch.x.mul_(2)
    return batch._replace(y=batch.y + len(batch.y))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


datamodule = partial(
    make_datamodule,
    source=Simulator(seed=3, outages_per_year=300, no_trade=0.02),
    start="2021-01-01",
    end="2021-01-25",
    lookback=12,
    horizon=2,
    batch_size=LENGTH,
    min_observed=0.5,
)

SETTINGS: dict[str, dict[str, Any]] = {
    "masked": {},
    "no whole lines": {"lookback": 11},
    "complete": {"min_observed": 1.0},
    "mask of features": {"mask": "feature"},
    "bfloat16": {"dtype": "bfloat16"},
    "window": {"scaling": "window"},
    "target scaled": {"target_scaling": "train"},
    "block": {"shuffle": "block"},
    "transform": {"transform": doubled},
    "classes": {"target": TripleBarrier(volatility_bars=4, classes=True)},
    "own target": {"target": Counting()},
}


def loader_of(dm: BTCDataModule) -> WindowLoader:
    loader = dm.train_dataloader()
    assert isinstance(loader, WindowLoader)
    return loader


@pytest.mark.parametrize("ahead", [True, False], ids=["ahead", "after"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_each_batch_is_bit_for_bit_what_it_is_alone(
    folder: Path, settings: dict[str, Any], ahead: bool
) -> None:
    dm = datamodule(folder, **settings)
    for loader in (loader_of(dm), dm.val_dataloader()):
        dataset: Any = loader.dataset
        if not ahead:
            dataset.windows.ahead_bytes = 0
        requests: list[Any] = list(loader.sampler)
        batches = list(loader)
        assert len(batches) == len(requests) > 3
        for request, batch in zip(requests, batches, strict=True):
            places = request.positions if isinstance(request, BatchRequest) else request
            alone = dataset.windows[places]
            assert batch.x.shape[0] == len(places) <= LENGTH
            for one, other in zip(batch, alone, strict=True):
                assert one.dtype == other.dtype
                assert one.shape == other.shape
                assert one.is_contiguous()
                assert torch.equal(
                    one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)
                )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_batch_is_apart_from_all_others(folder: Path, dtype: str) -> None:
    batches = list(loader_of(datamodule(folder, dtype=dtype)))
    copies = [Batch(*(field.clone() for field in batch)) for batch in batches]
    for batch in batches[::2]:
        for field in batch:
            field.zero_()
    for batch, copy in zip(batches[1::2], copies[1::2], strict=False):
        assert all(torch.equal(one, other) for one, other in zip(batch, copy, strict=True))
    for before, after in pairwise(batches):
        for one, other in zip(before, after, strict=True):
            size = one.numel() * one.itemsize
            assert one.untyped_storage().nbytes() == size, "saved alone"
            ends = sorted((each.data_ptr(), each.data_ptr() + size) for each in (one, other))
            assert ends[0][1] <= ends[1][0]
    assert all(field._base is None for batch in batches for field in batch)


def test_only_targets_of_this_package_are_computed_for_several_batches_at_once(
    folder: Path,
) -> None:
    dm = datamodule(folder, target=Counting(), target_scaling="none")
    assert count_together(dm.dataset("train"), LENGTH) == 1
    assert {float(value) for batch in loader_of(dm) for value in batch.y.flatten()} == {LENGTH}
    assert count_together(datamodule(folder).dataset("train"), LENGTH) == TOGETHER


def test_what_batches_share_is_bounded(folder: Path) -> None:
    windows = datamodule(folder).dataset("train")
    each = 12 + 8 * (3 + 2 + 1)
    for length in (1000, 5000, 1_000_000):
        due = max(1, min(TOGETHER, TOGETHER_BYTES // (each * length)))
        assert count_together(windows, length) == due


def test_an_iterator_dropped_half_way_leaves_the_next_one_as_it_is(folder: Path) -> None:
    loader = loader_of(datamodule(folder))
    due = list(loader)
    given = iter(loader)
    for _ in range(TOGETHER + 3):
        next(given)
    del given
    for one, other in zip(due, loader, strict=True):
        assert torch.equal(one.origin_time, other.origin_time)
