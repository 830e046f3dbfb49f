"""Runs of rows: from masks and back, joined, and taken out of others."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs, find_runs, join_runs, mark_runs, subtract_runs

MASKS = st.lists(st.booleans(), max_size=20).map(lambda rows: np.array(rows, dtype=bool))


def rows_in(runs: Runs) -> set[int]:
    return {row for low, high in runs.tolist() for row in range(low, high)}


@given(MASKS, st.integers(-5, 5))
def test_runs_of_a_mask_are_its_true_rows(mask: NDArray[np.bool_], offset: int) -> None:
    runs = find_runs(mask, offset)
    assert runs.shape == (len(runs), 2)
    assert runs.dtype == np.int64
    assert rows_in(runs) == {row + offset for row in np.flatnonzero(mask).tolist()}
    assert all(low < high for low, high in runs.tolist())
    assert all(before[1] < after[0] for before, after in pairwise(runs.tolist()))


@given(MASKS, st.integers(-3, 22), st.integers(0, 22))
def test_a_mask_of_runs_holds_their_rows(mask: NDArray[np.bool_], low: int, length: int) -> None:
    wanted = [0 <= row < len(mask) and bool(mask[row]) for row in range(low, low + length)]
    assert mark_runs(find_runs(mask), low, low + length).tolist() == wanted


@given(MASKS, st.lists(st.integers(0, 20), max_size=5))
def test_runs_of_parts_join_to_the_runs_of_the_whole(
    mask: NDArray[np.bool_], cuts: list[int]
) -> None:
    edges = [0, *sorted(min(cut, len(mask)) for cut in cuts), len(mask)]
    parts: list[Any] = [find_runs(mask[low:high], low) for low, high in pairwise(edges)]
    assert join_runs(parts).tolist() == find_runs(mask).tolist()


def test_no_parts_have_no_runs() -> None:
    assert join_runs([]).shape == (0, 2)


@given(
    st.lists(st.booleans(), max_size=40),
    st.lists(st.tuples(st.integers(-5, 45), st.integers(0, 9))),
)
def test_subtracting_runs_leaves_the_rows_that_no_taken_run_holds(
    mask: list[bool], taken: list[tuple[int, int]]
) -> None:
    runs = find_runs(np.array(mask, dtype=bool))
    spans = np.array(sorted((a, a + n) for a, n in taken), dtype=np.int64).reshape(-1, 2)
    inside = {row for a, n in taken for row in range(a, a + n)}
    left = subtract_runs(runs, spans)
    assert rows_in(left) == rows_in(runs) - inside
    assert (left[1:, 0] > left[:-1, 1]).all(), "runs that touch are joined"
