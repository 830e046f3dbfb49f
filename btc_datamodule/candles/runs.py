"""Runs of rows: sorted, disjoint, half-open intervals, and the masks that they stand for.

The whole algebra is here: from masks to runs and back, joining the runs of consecutive parts,
taking runs out of others, counting. All functions are pure, and their cost grows with the number
of runs, not with the length of history, wherever no mask is asked for.
"""

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int64]
"""(n, 2) int64: sorted, disjoint, half-open runs of rows."""

Mask = NDArray[np.bool_]
"""(rows,) bool: which rows are meant."""


def mark_runs(runs: Runs, low: int, high: int) -> Mask:
    """Which rows of [low, high) lie in one of ``runs``: (high - low,) bool."""
    inside = runs[(runs[:, 0] < high) & (runs[:, 1] > low)].clip(low, high) - low
    edges = np.zeros(high - low + 1, dtype=np.int64)
    np.add.at(edges, inside[:, 0], 1)
    np.add.at(edges, inside[:, 1], -1)
    return np.cumsum(edges[:-1]) > 0


def find_runs(mask: Mask, offset: int = 0) -> Runs:
    """The runs of true rows in ``mask``, whose first row has the number ``offset``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2) + offset


def join_runs(parts: list[Runs]) -> Runs:
    """The runs of a whole from those of its consecutive parts; runs that touch are joined."""
    runs = np.concatenate([np.zeros((0, 2), dtype=np.int64), *parts])
    if not len(runs):
        return runs
    opens = np.concatenate([[True], runs[1:, 0] > runs[:-1, 1]])
    closes = np.concatenate([opens[1:], [True]])
    return np.stack([runs[opens, 0], runs[closes, 1]], axis=1)


def subtract_runs(runs: Runs, taken: Runs) -> Runs:
    """The runs of rows that lie in ``runs`` and in none of ``taken``.

    ``taken`` is (m, 2), sorted by start; its runs may overlap.
    """
    edges = np.concatenate([runs[:, 0], runs[:, 1], taken[:, 0], taken[:, 1]])
    # +1 for every run that is open, -big for every taken one: what is left stands at exactly 1.
    weight = len(runs) + len(taken) + 2
    steps = np.repeat([1, -1, -weight, weight], [len(runs), len(runs), len(taken), len(taken)])
    order = np.argsort(edges, kind="stable")
    edges, level = edges[order], np.cumsum(steps[order])
    settled = np.concatenate([edges[1:] > edges[:-1], [True]])[: len(edges)]
    edges, free = edges[settled], level[settled] == 1
    opens = np.flatnonzero(free & ~np.concatenate([[False], free[:-1]])[: len(free)])
    closes = np.flatnonzero(~free & np.concatenate([[False], free[:-1]])[: len(free)])
    return np.stack([edges[opens], edges[closes]], axis=1).astype(np.int64)


def count_rows(runs: Runs) -> int:
    """How many rows lie in ``runs``."""
    return int((runs[:, 1] - runs[:, 0]).sum())


def mark_intervals(size: int, starts: NDArray[np.int64], length: int) -> Mask:
    """Which of ``size`` rows lie in one of the intervals [start, start + length): (size,) bool.

    Args:
        size: number of rows.
        starts: (n,) first rows of the intervals, in any order; the intervals may overlap and reach
            beyond the rows.
        length: rows of each interval.
    """
    edges = np.zeros(size + 1, dtype=np.int64)
    np.add.at(edges, starts.clip(0, size), 1)
    np.add.at(edges, (starts + length).clip(0, size), -1)
    return np.cumsum(edges[:-1]) > 0
