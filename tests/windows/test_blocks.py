"""The order ``block``: every window once, mixed within pools, each block read before its use."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.windows.blocks import BatchRequest, BlockOrder
from btc_datamodule.windows.sampler import WindowSampler


@given(
    st.integers(1, 400),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(0, 2**40),
    st.integers(0, 9),
)
@settings(max_examples=200)
def test_block_order_holds_every_window_once_and_mixes_within_pools_alone(
    size: int, block: int, pool: int, seed: int, epoch: int
) -> None:
    order = BlockOrder(size, seed, epoch, block, pool)
    windows = order(np.arange(size))
    assert np.array_equal(np.sort(windows), np.arange(size))
    pools = order.find_pools(np.arange(size))
    for number in range(int(pools.max()) + 1):
        spans = order.list_spans(number * pool, (number + 1) * pool)
        of_pool = {window for start, end in spans for window in range(start, end)}
        assert of_pool == set(windows[pools == number].tolist())
        assert len(spans) <= pool
        assert all(end - start <= block for start, end in spans)
    blocks = -(-size // block)
    assert len(order.list_spans(0, blocks + pool)) == blocks
    due = order.count_due(np.arange(size))
    assert (due >= np.minimum((pools + 1) * pool, blocks)).all(), "the pool itself"
    assert (np.diff(due) >= 0).all()
    assert due[-1] == blocks


def test_block_order_is_another_in_each_epoch_and_reached_anywhere_at_once() -> None:
    orders = {
        tuple(BlockOrder(997, 3, epoch, 50, 4)(np.arange(997)).tolist()) for epoch in range(9)
    }
    assert len(orders) == 9
    huge = BlockOrder(10**11 + 7, 1, 2)
    places = np.array([0, 10**11 + 6, 5 * 10**10])
    alone = [int(huge(places[i : i + 1])[0]) for i in range(3)]
    assert huge(places).tolist() == alone


@pytest.mark.parametrize("batch", [1, 16, 200])
def test_each_block_is_announced_once_and_before_it_is_needed(batch: int) -> None:
    sampler = WindowSampler(1000, batch, shuffle="block", drop_last=True, block=30, pool=4)
    announced: list[tuple[int, int]] = []
    for request in sampler:
        assert isinstance(request, BatchRequest)
        announced += request.ahead
        for position in request.positions.tolist():
            assert any(start <= position < end for start, end in announced)
    assert sorted(announced) == [(start, min(start + 30, 1000)) for start in range(0, 1000, 30)]


def test_blocks_are_announced_a_few_at_a_time_and_by_the_middle_of_the_pool_before() -> None:
    sampler = WindowSampler(1000, 10, shuffle="block", drop_last=True, block=30, pool=4)
    counts = [len(each.ahead) for each in sampler if isinstance(each, BatchRequest)]
    assert counts[0] == 4 + 2
    assert max(counts[1:]) == 2
    assert sum(counts[: 30 // 10 + 1]) == 4 + 4


def test_after_skipping_only_what_is_still_needed_is_announced() -> None:
    sampler = WindowSampler(1000, 10, shuffle="block", drop_last=True, block=30, pool=4)
    sampler.skip(60)
    requests = [each for each in sampler if isinstance(each, BatchRequest)]
    announced = [span for each in requests for span in each.ahead]
    assert len(announced) == 34 - 600 // 120 * 4
    for position in np.concatenate([each.positions for each in requests]).tolist():
        assert any(start <= position < end for start, end in announced)
