"""Runs of rows of single features: found, joined, taken apart and put together."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.candles.runs import find_runs
from btc_datamodule.features.cells import find_cells, join_cells, split_cells, unite_cells


@st.composite
def marks(draw: st.DrawFn) -> NDArray[np.bool_]:
    rows, features = draw(st.integers(0, 20)), draw(st.integers(1, 4))
    return np.random.default_rng(draw(st.integers(0, 999))).random((rows, features)) < 0.5


def test_cells_are_listed_by_feature_then_by_row() -> None:
    marked = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1], [1, 0, 0]], dtype=bool)
    cells = find_cells(marked, 10)
    assert cells.tolist() == [[0, 10, 12], [0, 13, 14], [2, 11, 13]]
    assert [runs.tolist() for runs in split_cells(cells, 4)] == [
        [[10, 12], [13, 14]],
        [],
        [[11, 13]],
        [],
    ]
    assert unite_cells(cells).tolist() == [[10, 12], [11, 13], [13, 14]]
    assert find_cells(marked[:0], 3).shape == join_cells([]).shape == (0, 3)


@given(marks(), st.data())
def test_parts_join_to_the_whole_and_split_into_the_runs_of_each(
    marked: NDArray[np.bool_], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(marked)), max_size=3)))
    edges = [0, *cuts, len(marked)]
    parts = [find_cells(marked[low:high], low) for low, high in pairwise(edges)]
    cells = find_cells(marked, 0)
    np.testing.assert_array_equal(join_cells(parts), cells)
    for feature, runs in enumerate(split_cells(cells, marked.shape[1])):
        np.testing.assert_array_equal(runs, find_runs(marked[:, feature]))
