"""The order of samples is a pure function, and the ranks share it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from btc_datamodule.windows.sampler import (
    PERMUTED_AT_ONCE,
    BlockOrder,
    Request,
    Shuffle,
    WindowSampler,
    permute,
    permute_run,
)


def batches(sampler: WindowSampler) -> list[list[int]]:
    asked = (each.positions if isinstance(each, Request) else each for each in sampler)
    return [positions.tolist() for positions in asked]


def order(sampler: WindowSampler) -> list[int]:
    return [position for batch in batches(sampler) for position in batch]


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_a_permutation_sends_every_position_to_another_place_once(
    size: int, seed: int, epoch: int
) -> None:
    result = permute(np.arange(size), size, seed, epoch)
    assert np.array_equal(np.sort(result), np.arange(size))


@given(st.integers(1, 10**10), st.integers(0, 2**63), st.data())
@settings(max_examples=50, deadline=None)
def test_any_position_of_a_huge_permutation_is_reached_at_once(
    size: int, seed: int, data: st.DataObject
) -> None:
    positions = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20)))
    together = permute(positions, size, seed, 3)
    assert ((together >= 0) & (together < size)).all()
    alone = [int(permute(positions[i : i + 1], size, seed, 3)[0]) for i in range(len(positions))]
    assert together.tolist() == alone


@given(st.integers(1, 10**7), st.integers(0, 2**40), st.data())
@settings(max_examples=100, deadline=None)
def test_a_run_of_positions_goes_where_each_of_them_does(
    size: int, seed: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, size - 1))
    count = data.draw(st.integers(0, min(size - start, 3 * PERMUTED_AT_ONCE)))
    places = permute(np.arange(start, start + count), size, seed, 2)
    assert np.array_equal(permute_run(start, count, size, seed, 2), places)


def test_epochs_and_seeds_give_orders_of_their_own() -> None:
    positions = np.arange(1000)
    orders = {
        tuple(permute(positions, 1000, seed, epoch).tolist())
        for seed in range(5)
        for epoch in range(5)
    }
    assert len(orders) == 25


@pytest.mark.parametrize("size", [7, 100, 1009])
def test_every_place_is_equally_likely(size: int) -> None:
    """Chi-square of where one position goes over many epochs: within 8 sigma of its mean."""
    keys = np.array([permute(np.array([size // 2]), size, 1, epoch)[0] for epoch in range(2000)])
    cells = min(size, 50)
    counts = np.bincount(keys * cells // size, minlength=cells)
    share = np.bincount(np.arange(size) * cells // size, minlength=cells) / size
    chi_square = ((counts - 2000 * share) ** 2 / (2000 * share)).sum()
    assert chi_square < cells + 8 * np.sqrt(2 * cells)


@pytest.mark.parametrize("lag", [1, 2, 7, 255, 256, 257, 1024, 50_000])
def test_positions_any_distance_apart_are_torn_apart(lag: int) -> None:
    """The correlation of 100,000 random pairs is within 0.013 of 0 in all but 1 case of 25,000."""
    for epoch in range(5):
        places = permute(np.arange(100_003), 100_003, 0, epoch)
        assert abs(np.corrcoef(places[:-lag], places[lag:])[0, 1]) < 0.02


@pytest.mark.parametrize("batch", [32, 1024])
def test_batches_are_as_even_as_those_of_a_true_permutation(batch: int) -> None:
    """Means of batches vary, and windows fall into cells, as they do under numpy's permutation."""
    size = 300_000
    truth = np.random.default_rng(0)

    def spread(order: NDArray[np.int64]) -> tuple[float, float, float]:
        batches = order[: size // batch * batch].reshape(-1, batch) / size
        cells = np.apply_along_axis(np.bincount, 1, (batches * 16).astype(int), minlength=16)
        rough = np.sin(batches * 2 * np.pi * 700).mean(axis=1).var()
        return float(batches.mean(axis=1).var() * batch), float(rough * batch), float(cells.var())

    own = [spread(permute(np.arange(size), size, 5, epoch)) for epoch in range(8)]
    true = [spread(truth.permutation(size)) for _ in range(8)]
    np.testing.assert_allclose(np.mean(own, axis=0), np.mean(true, axis=0), rtol=0.1)


@given(
    size=st.integers(1, 200),
    per_rank=st.integers(1, 7),
    ranks=st.integers(1, 4),
    shuffle=st.sampled_from(["full", "none"]),
)
@settings(max_examples=150, deadline=None)
def test_train_ranks_share_each_global_batch_and_drop_only_the_ragged_end(
    size: int, per_rank: int, ranks: int, shuffle: Shuffle
) -> None:
    samplers = [
        WindowSampler(
            size, per_rank, shuffle=shuffle, seed=5, drop_last=True, num_replicas=ranks, rank=rank
        )
        for rank in range(ranks)
    ]
    whole = per_rank * ranks
    alone = WindowSampler(size, whole, shuffle=shuffle, seed=5, drop_last=True)
    for sampler in (*samplers, alone):
        sampler.set_epoch(3)
    batches = [list(sampler) for sampler in samplers]
    assert {len(b) for b in batches} == {len(s) for s in samplers} == {size // whole}
    together = [np.concatenate([b[i] for b in batches]) for i in range(size // whole)]
    assert [b.tolist() for b in together] == [np.asarray(b).tolist() for b in alone]
    assert len(set(order(alone))) == size // whole * whole


@given(size=st.integers(1, 200), per_rank=st.integers(1, 7), ranks=st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_evaluation_ranks_see_every_window_exactly_once(
    size: int, per_rank: int, ranks: int
) -> None:
    samplers = [
        WindowSampler(
            size, per_rank, shuffle="none", drop_last=False, num_replicas=ranks, rank=rank
        )
        for rank in range(ranks)
    ]
    for sampler in samplers:
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert all(0 < len(batch) <= per_rank for batch in batches)
        assert order(sampler) == sorted(order(sampler))
    assert sorted(position for s in samplers for position in order(s)) == list(range(size))


def test_a_new_epoch_is_a_new_order_and_the_same_epoch_the_same() -> None:
    sampler = WindowSampler(100, 10, shuffle="full", seed=1, drop_last=True)
    first = order(sampler)
    assert order(sampler) == first
    sampler.set_epoch(1)
    assert order(sampler) != first
    assert sorted(order(sampler)) == sorted(first)


def test_lightning_takes_it_for_a_distributed_sampler() -> None:
    sampler = WindowSampler(10, 2, shuffle="none", drop_last=False)
    assert isinstance(sampler, DistributedSampler)
    assert [np.asarray(batch).dtype for batch in sampler] == [np.dtype(np.int64)] * 5


@given(
    st.integers(1, 400),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(0, 2**40),
    st.integers(0, 9),
)
@settings(max_examples=200, deadline=None)
def test_block_order_holds_every_window_once_and_mixes_within_pools_alone(
    size: int, block: int, pool: int, seed: int, epoch: int
) -> None:
    order = BlockOrder(size, seed, epoch, block, pool)
    windows = order(np.arange(size))
    assert np.array_equal(np.sort(windows), np.arange(size))
    pools = order.pool_of(np.arange(size))
    for number in range(int(pools.max()) + 1):
        spans = order.spans(number * pool, (number + 1) * pool)
        of_pool = {window for start, end in spans for window in range(start, end)}
        assert of_pool == set(windows[pools == number].tolist())
        assert len(spans) <= pool
        assert all(end - start <= block for start, end in spans)
    blocks = -(-size // block)
    assert len(order.spans(0, blocks + pool)) == blocks
    due = order.due(np.arange(size))
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
        assert isinstance(request, Request)
        announced += request.ahead
        for position in request.positions.tolist():
            assert any(start <= position < end for start, end in announced)
    assert sorted(announced) == [(start, min(start + 30, 1000)) for start in range(0, 1000, 30)]


def test_blocks_are_announced_a_few_at_a_time_and_by_the_middle_of_the_pool_before() -> None:
    sampler = WindowSampler(1000, 10, shuffle="block", drop_last=True, block=30, pool=4)
    counts = [len(each.ahead) for each in sampler if isinstance(each, Request)]
    assert counts[0] == 4 + 2
    assert max(counts[1:]) == 2
    assert sum(counts[: 30 // 10 + 1]) == 4 + 4


def test_after_skipping_only_what_is_still_needed_is_announced() -> None:
    sampler = WindowSampler(1000, 10, shuffle="block", drop_last=True, block=30, pool=4)
    sampler.skip(60)
    requests = [each for each in sampler if isinstance(each, Request)]
    announced = [span for each in requests for span in each.ahead]
    assert len(announced) == 34 - 600 // 120 * 4
    for position in np.concatenate([each.positions for each in requests]).tolist():
        assert any(start <= position < end for start, end in announced)


@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
@pytest.mark.parametrize("drop_last", [True, False])
def test_skipping_gives_the_rest_of_the_epoch_and_lasts_for_one_iteration(
    shuffle: Shuffle, drop_last: bool
) -> None:
    for rank in range(3):
        sampler = WindowSampler(
            100, 8, shuffle=shuffle, drop_last=drop_last, num_replicas=3, rank=rank
        )
        sampler.set_epoch(4)
        whole = batches(sampler)
        for skipped in range(len(whole) + 1):
            sampler.skip(skipped)
            assert batches(sampler) == whole[skipped:]
            assert batches(sampler) == whole


def test_skipping_a_million_batches_costs_what_skipping_one_does() -> None:
    sampler = WindowSampler(10**12, 1024, shuffle="full", drop_last=True)
    sampler.skip(10**6)
    first = next(iter(sampler))
    assert isinstance(first, np.ndarray)
    place = np.arange(1024, dtype=np.int64) + 1024 * 10**6
    assert np.array_equal(first, permute(place, 10**12, 0, 0))
