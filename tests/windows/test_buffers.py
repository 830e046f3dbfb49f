"""The memory of large batches is used again, and never while anyone holds it."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from btc_datamodule.windows.buffers import KEPT, BufferPool
from btc_datamodule.windows.overlapping import Overlapping

WIDTH = 1024
ROWS = 256


@pytest.fixture(autouse=True)
def small_tensors_are_recycled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btc_datamodule.windows.buffers.RECYCLED_BYTES", 4 * WIDTH * ROWS)


def test_the_memory_of_a_tensor_that_is_gone_is_used_again() -> None:
    pool = BufferPool()
    tensor = pool.allocate(ROWS, WIDTH)
    address = tensor.data_ptr()
    assert (tensor.shape, tensor.dtype) == ((ROWS, WIDTH), torch.float32)
    del tensor
    assert pool.allocate(ROWS, WIDTH).data_ptr() == address


VIEWS: dict[str, Callable[[Tensor], Any]] = {
    "itself": lambda tensor: tensor,
    "slice": lambda tensor: tensor[3:5],
    "view": lambda tensor: tensor.view(-1, 2)[::7],
    "array": lambda tensor: tensor.numpy(),
    "part of an array": lambda tensor: tensor.numpy()[1, 2:4],
    "buffer": lambda tensor: tensor.numpy().data,
    "dlpack": np.from_dlpack,
    "detached": lambda tensor: tensor.detach().requires_grad_(),
    "storage": lambda tensor: tensor.untyped_storage(),
    "saved for backward": lambda tensor: (tensor * torch.ones(1, requires_grad=True)).grad_fn,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_whoever_holds_any_view_of_a_tensor_keeps_its_memory(view: Any) -> None:
    pool = BufferPool()
    tensor = pool.allocate(ROWS, WIDTH)
    tensor.fill_(7)
    address, held = tensor.data_ptr(), view(tensor)
    del tensor
    gc.collect()
    others = [pool.allocate(ROWS, WIDTH) for _ in range(3)]
    assert address not in [other.data_ptr() for other in others]
    del held, others
    gc.collect()
    assert len(pool._waiting) == KEPT


def test_small_tensors_are_left_to_the_allocator() -> None:
    pool, source = BufferPool(), np.random.default_rng(0).random((8, WIDTH), np.float32)
    for count in (ROWS - 1, ROWS):
        index = np.random.default_rng(1).integers(8, size=count)
        made = pool.select(Overlapping(source, 1), index)
        assert np.array_equal(made.numpy(), source[index])
        del made
        assert len(pool._waiting) == (count == ROWS)


def test_a_smaller_tensor_fits_into_what_is_there_and_a_larger_one_gets_new_memory() -> None:
    pool = BufferPool()
    large = pool.allocate(2 * ROWS, WIDTH)
    address = large.data_ptr()
    del large
    small = pool.allocate(ROWS, WIDTH)
    assert small.data_ptr() == address
    del small
    larger = pool.allocate(3 * ROWS, WIDTH)
    larger.fill_(1.0)
    assert larger.shape == (3 * ROWS, WIDTH)


def test_no_more_than_a_few_pieces_wait() -> None:
    pool = BufferPool()
    tensors = [pool.allocate(ROWS, WIDTH) for _ in range(KEPT + 3)]
    tensors.clear()
    assert len(pool._waiting) == KEPT


def test_threads_never_share_a_piece() -> None:
    pool = BufferPool()
    wrong: list[int] = []

    def work(number: int) -> None:
        held: list[Tensor] = []
        for turn in range(200):
            tensor = pool.allocate(ROWS, WIDTH)
            tensor[:, ::512] = number
            held = [*held[-(turn % 3) :], tensor]
            wrong.extend(1 for each in held if not bool((each[:, ::512] == number).all()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("rows", [4, 2 * ROWS])
def test_memory_of_another_type_is_used_again_too(rows: int) -> None:
    pool, source = BufferPool(), torch.randn(rows, WIDTH)
    made = pool.convert(source, torch.bfloat16)
    assert torch.equal(made, source.to(torch.bfloat16))
    given = torch.empty_like(made)
    assert pool.convert(source, torch.bfloat16, given) is given
    assert torch.equal(given, made)
    address = made.data_ptr()
    del made
    if rows > 4:
        assert pool.allocate(ROWS, WIDTH).data_ptr() == address


@pytest.mark.parametrize("rows", [4, ROWS])
@pytest.mark.parametrize("pinned", [False, True])
def test_memory_is_float32_whatever_torch_makes_by_default(
    monkeypatch: pytest.MonkeyPatch, pinned: bool, rows: int
) -> None:
    """Pinned memory takes a GPU: here torch is told not to pin."""
    empty, before = torch.empty, torch.get_default_dtype()

    def allocate_unpinned(*size: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        return empty(*size, **options)

    monkeypatch.setattr(torch, "empty", allocate_unpinned)
    torch.set_default_dtype(torch.float64)
    try:
        pool, source = BufferPool(pinned), Overlapping(np.ones((8, WIDTH), np.float32), 1)
        chosen = pool.select(source, np.zeros(rows, dtype=np.int64))
    finally:
        torch.set_default_dtype(before)
    assert chosen.dtype == torch.float32
    assert chosen.shape == (rows, WIDTH)
