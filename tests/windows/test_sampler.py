"""The order of samples is a pure function, and the ranks share it."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from btc_datamodule.windows.blocks import BatchRequest
from btc_datamodule.windows.permutation import permute
from btc_datamodule.windows.sampler import Shuffle, WindowSampler


def one_of(ranks: int, rank: int) -> tuple[int, int]:
    return ranks, rank


def batches(sampler: WindowSampler) -> list[list[int]]:
    asked = (each.positions if isinstance(each, BatchRequest) else each for each in sampler)
    return [positions.tolist() for positions in asked]


def order(sampler: WindowSampler) -> list[int]:
    return [position for batch in batches(sampler) for position in batch]


@given(
    size=st.integers(1, 200),
    per_rank=st.integers(1, 7),
    ranks=st.integers(1, 4),
    shuffle=st.sampled_from(["full", "none"]),
)
@settings(max_examples=150)
def test_train_ranks_share_each_global_batch_and_drop_only_the_ragged_end(
    size: int, per_rank: int, ranks: int, shuffle: Shuffle
) -> None:
    samplers = [
        WindowSampler(
            size,
            per_rank,
            shuffle=shuffle,
            seed=5,
            drop_last=True,
            ranks=partial(one_of, ranks, rank),
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
@settings(max_examples=150)
def test_evaluation_ranks_see_every_window_exactly_once(
    size: int, per_rank: int, ranks: int
) -> None:
    samplers = [
        WindowSampler(
            size, per_rank, shuffle="none", drop_last=False, ranks=partial(one_of, ranks, rank)
        )
        for rank in range(ranks)
    ]
    for sampler in samplers:
        batches = list(sampler)
        # Of fewer windows than ranks some have none, but say 1: a Trainer refuses a length of 0.
        assert len(sampler) == (len(batches) if size >= ranks else 1)
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


@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
@pytest.mark.parametrize("drop_last", [True, False])
def test_skipping_gives_the_rest_of_the_epoch_and_lasts_for_one_iteration(
    shuffle: Shuffle, drop_last: bool
) -> None:
    for rank in range(3):
        sampler = WindowSampler(
            100, 8, shuffle=shuffle, drop_last=drop_last, ranks=partial(one_of, 3, rank)
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


def test_the_ranks_are_those_of_when_it_is_iterated_or_its_length_asked_for() -> None:
    now = (1, 0)
    sampler = WindowSampler(100, 8, shuffle="none", drop_last=False, ranks=lambda: now)
    assert (len(sampler), len(order(sampler))) == (13, 100)
    now = (3, 1)
    assert (sampler.num_replicas, sampler.rank) == now
    assert len(sampler) == 5
    assert batches(sampler)[0] == list(range(8, 16))
    alone = WindowSampler(100, 8, shuffle="none", drop_last=False, ranks=partial(one_of, 3, 1))
    assert batches(alone) == batches(sampler)
