"""What loaders hand out with ``gather: device``: positions, several batches of them at a time."""

import pickle
from typing import Any, cast

import numpy as np
import pytest
import torch

from btc_datamodule import BTCDataModule
from btc_datamodule.windows.starts import STRETCH_WINDOWS, StartsDataset, Stretch
from tests.factories import make_datamodule

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    return make_datamodule(tmp_path_factory.mktemp("starts"), gather="device", batch_size=16)


@pytest.fixture
def dataset(dm: BTCDataModule) -> StartsDataset:
    return cast("StartsDataset", dm.train_dataloader().dataset)


def test_batches_share_stretches_of_positions_that_travel_together(
    dataset: StartsDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert STRETCH_WINDOWS > 1000
    monkeypatch.setattr("btc_datamodule.windows.starts.STRETCH_WINDOWS", 70)  # four batches
    requests = [np.arange(start, start + 16) for start in range(0, 160, 16)]
    given = list(dataset.iterate([*requests, np.array([3, 1])]))
    stretches = list({id(starts.stretch): starts.stretch for starts in given}.values())
    assert [len(stretch) for stretch in stretches] == [64, 64, 34]
    assert [starts.at for starts in given] == [0, 16, 32, 48] * 2 + [0, 16, 32]
    assert [len(starts) for starts in given] == [16] * 10 + [2]
    assert repr(given[-1]) == "WindowStarts(2 windows of train, for transfer_batch_to_device)"
    for starts, request in zip(given, requests, strict=False):
        assert starts.request is request
        own = starts.stretch.positions[starts.at : starts.at + len(starts)]
        assert own.tolist() == request.tolist()


def test_no_more_is_asked_of_the_sampler_than_a_stretch_holds(
    dataset: StartsDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btc_datamodule.windows.starts.STRETCH_WINDOWS", 32)
    asked: list[int] = []

    def requests() -> Any:
        for number in range(6):
            asked.append(number)
            yield np.arange(16)

    batches = dataset.iterate(requests())
    assert asked == []
    next(batches)
    next(batches)
    assert asked == [0, 1]
    next(batches)
    assert asked == [0, 1, 2, 3]


def test_a_batch_longer_than_a_stretch_is_one(
    dataset: StartsDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btc_datamodule.windows.starts.STRETCH_WINDOWS", 5)
    assert [len(starts) for starts in dataset.iterate([np.arange(16)] * 3)] == [16] * 3


def test_a_position_that_is_none_is_an_error_before_it_reaches_a_device(
    dm: BTCDataModule, dataset: StartsDataset
) -> None:
    size = len(dataset)
    with pytest.raises(IndexError, match=f"position {size} lies outside a dataset of {size}"):
        dataset[np.array([0, size])]
    last = dm.transfer_batch_to_device(dataset[np.array([-1])], CPU, 0)
    assert last.origin_time == dm.dataset("train")[-1].origin_time


def test_a_stretch_is_brought_to_a_device_once() -> None:
    stretch = Stretch(np.arange(5), 2)
    brought = stretch.bring_to(CPU)
    assert stretch.bring_to(CPU) is brought
    assert brought.positions.tolist() == [0, 1, 2, 3, 4]
    brought.ready[2] = None  # type: ignore[assignment]
    assert pickle.loads(pickle.dumps(stretch)).bring_to(CPU).ready == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_another_stream_waits_for_nothing_that_was_gathered_on_the_first() -> None:
    device = torch.device("cuda", 0)
    stretch = Stretch(np.arange(1000), 10)
    one = stretch.bring_to(device)
    with torch.cuda.stream(torch.cuda.Stream(device)):  # type: ignore[no-untyped-call]
        other = stretch.bring_to(device)
        assert stretch.bring_to(device) is other
    assert one is not other
    assert other.positions.tolist() == list(range(1000))


def test_batches_are_gathered_ahead_and_handed_out_once(dm: BTCDataModule) -> None:
    first, second, *_ = dm.train_dataloader()
    starts: Any = (first, second)
    one, two = (dm.transfer_batch_to_device(each, CPU, 0) for each in starts)
    ready = starts[0].stretch.bring_to(CPU).ready
    assert 0 not in ready
    assert 16 not in ready
    assert 32 in ready
    again = dm.transfer_batch_to_device(starts[1], CPU, 0)
    assert again.x.data_ptr() != two.x.data_ptr()
    assert torch.equal(again.x, two.x)
    assert not torch.equal(one.x, two.x)


def test_batches_gathered_together_know_nothing_of_each_other(dm: BTCDataModule) -> None:
    one, two, *_ = (dm.transfer_batch_to_device(each, CPU, 0) for each in dm.train_dataloader())
    kept, weight = two.x.clone(), torch.ones(1, requires_grad=True)
    for field in one:
        assert not field._is_view()
    product = (two.x * weight).sum()  # which keeps ``two.x`` for its gradient
    one.x.mul_(weight)
    one.y.fill_(5)
    one.origin_time.zero_()
    assert one.x.requires_grad
    assert not two.x.requires_grad
    assert torch.equal(two.x, kept)
    product.backward()
    assert weight.grad is not None
    assert torch.allclose(weight.grad, kept.sum())
