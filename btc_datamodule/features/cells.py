"""Cells: runs of rows of single features, (k, 3) int64: the number of a feature, and a run of rows.

They are sorted by the number of the feature; the runs of one are as ``candles.runs`` has them. The
feature file lists so where a feature is undefined, and where it is not observed by itself.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask, Runs, find_runs, join_runs

Cells = NDArray[np.int64]
"""(k, 3) int64: the number of a feature, and a half-open run of rows."""


def find_cells(marked: Mask, first: int) -> Cells:
    """The runs of marked rows of each feature.

    Args:
        marked: (n, F), which cells are meant.
        first: number of its first row.
    """
    runs = [find_runs(column, first) for column in marked.T]
    return np.concatenate([np.insert(each, 0, number, 1) for number, each in enumerate(runs)])


def join_cells(parts: Sequence[Cells]) -> Cells:
    """What ``find_cells`` would have given for the whole, from its consecutive parts."""
    listed = np.concatenate([np.zeros((0, 3), dtype=np.int64), *parts])
    features = np.unique(listed[:, 0]).tolist()
    joined = [(number, join_runs([listed[listed[:, 0] == number, 1:]])) for number in features]
    return np.concatenate([listed[:0], *[np.insert(runs, 0, i, axis=1) for i, runs in joined]])


def split_cells(cells: Cells, n_features: int) -> list[Runs]:
    """The runs of each of ``n_features`` features."""
    return np.split(cells[:, 1:], cells[:, 0].searchsorted(np.arange(1, n_features)))


def unite_cells(cells: Cells) -> Runs:
    """Runs of rows in which any feature is meant, sorted by start; they may overlap."""
    runs: Runs = cells[np.argsort(cells[:, 1], kind="stable"), 1:]
    return runs
