"""A permutation is a pure function of its seed and epoch, and as good as a true one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.windows.permutation import PERMUTED_AT_ONCE, permute, permute_run


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 1000))
@settings(max_examples=150)
def test_a_permutation_sends_every_position_to_another_place_once(
    size: int, seed: int, epoch: int
) -> None:
    result = permute(np.arange(size), size, seed, epoch)
    assert np.array_equal(np.sort(result), np.arange(size))


@given(st.integers(1, 10**10), st.integers(0, 2**63), st.data())
@settings(max_examples=50)
def test_any_position_of_a_huge_permutation_is_reached_at_once(
    size: int, seed: int, data: st.DataObject
) -> None:
    positions = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20)))
    together = permute(positions, size, seed, 3)
    assert ((together >= 0) & (together < size)).all()
    alone = [int(permute(positions[i : i + 1], size, seed, 3)[0]) for i in range(len(positions))]
    assert together.tolist() == alone


@given(st.integers(1, 10**7), st.integers(0, 2**40), st.data())
@settings(max_examples=100)
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
