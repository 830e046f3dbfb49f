"""Copies of windows: the same bytes on one thread and on all, and the way that is faster."""

from typing import Any

import numpy as np
import pytest
import torch

from btc_datamodule.windows.buffers import BufferPool
from btc_datamodule.windows.overlapping import (
    ALONE_ELEMENTS,
    PIECE_BYTES,
    SPLIT_BYTES,
    TRIED_EVERY,
    Choice,
    Overlapping,
    split_alone,
    split_apart,
)

ROWS = np.random.default_rng(0).random((500, 6), np.float32)
LENGTH = 64
MANY = 2 * SPLIT_BYTES // (4 * 6 * LENGTH)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("count", [0, 1, PIECE_BYTES // (4 * 6 * LENGTH) + 1, MANY])
def test_all_ways_to_copy_windows_give_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, count: int, split: bool
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    windows = Overlapping(ROWS, LENGTH)
    starts = np.random.default_rng(1).integers(0, len(windows), count)
    due = b"".join(ROWS[start : start + LENGTH].tobytes() for start in starts)
    made = torch.empty(count, 6 * LENGTH)
    windows.copy_to(starts, made, split)
    assert due == made.numpy().tobytes() == windows.copy(starts).tobytes()


def test_a_small_copy_is_never_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    windows, pool = Overlapping(ROWS, LENGTH), BufferPool()
    for count in (MANY // 2 - 1, MANY):
        monkeypatch.setattr(Choice, "choose", lambda _, count=count: asked.append(count))
        assert len(pool.select(windows, np.zeros(count, np.int64))) == count
    assert asked == [MANY]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_a_pool_gives_the_same_bytes_whichever_way_is_chosen(
    monkeypatch: pytest.MonkeyPatch, split: bool, given: bool
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(Choice, "choose", lambda _: split)
    windows, pool = Overlapping(ROWS, LENGTH), BufferPool()
    starts = np.random.default_rng(1).integers(0, len(windows), MANY)
    made = torch.empty(MANY, 6 * LENGTH) if given else None
    found = pool.select(windows, starts, made)
    assert found.numpy().tobytes() == windows.copy(starts).tobytes()
    assert found is made or not given


def use(choice: Choice, seconds: dict[bool, float], count: int) -> list[bool]:
    """Choose so many times, where the ways take some seconds."""
    chosen = []
    for _ in range(count):
        chosen.append(choice.choose())
        choice.record(chosen[-1], seconds[chosen[-1]])
    return chosen


@pytest.mark.parametrize("faster", [False, True])
def test_the_faster_way_is_chosen_and_the_other_tried_now_and_then(
    monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    choice, seconds = Choice(), {faster: 1.0, not faster: 4.0}
    assert set(use(choice, seconds, 2)) == {False, True}, "both are tried first"
    chosen = use(choice, seconds, 10 * TRIED_EVERY)
    assert chosen.count(not faster) == 10
    seconds = {faster: 20.0, not faster: 4.0}  # the machine has become busy, or idle
    assert use(choice, seconds, 20)[-1] is not faster


def test_one_thread_has_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert use(Choice(), {False: 1.0, True: 0.0}, 2) == [False, False]


def test_torch_shares_out_on_two_threads_what_it_is_told_to() -> None:
    """As on a user's machine: tests have one thread elsewhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pool, windows = BufferPool(), Overlapping(ROWS, LENGTH)
        starts = np.random.default_rng(2).integers(0, len(windows), MANY)
        for _ in range(3):
            assert pool.select(windows, starts).numpy().tobytes() == windows.copy(starts).tobytes()
    finally:
        torch.set_num_threads(before)


def test_parts_are_too_small_for_torch_to_share_out() -> None:
    x, marks = torch.zeros(100, 64, 6), torch.ones(100, 64, dtype=torch.bool)
    parts = list(split_alone(x, marks))
    assert sum(len(part) for part, _ in parts) == 100
    assert all(len(part) == len(some) for part, some in parts)
    assert max(part.numel() for part, _ in parts) <= ALONE_ELEMENTS
    large = torch.zeros(SPLIT_BYTES // 4, 1)
    assert [len(part) for (part,) in split_alone(large)] == [len(large)]
    assert next(iter(split_alone(x[:0])))[0].shape == (0, 64, 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
def test_parts_of_a_tensor_lie_in_it_and_are_no_views_to_torch(dtype: torch.dtype) -> None:
    whole: Any = torch.arange(10).to(dtype)
    parts = list(split_apart(whole, 5))
    assert [len(part) for part in parts] == [2] * 5
    assert torch.equal(torch.cat(parts), whole)
    assert all(part.dtype == dtype and part._base is None for part in parts)
    assert next(split_apart(whole, 1)) is whole
    assert [part.shape for part in split_apart(whole[:0], 2)] == [(0,), (0,)]
