"""Origins: which samples a stage may see.

A sample is known by its *origin* o, the row of its last input bar. With lookback L, gap g and
horizon H its inputs are rows [o - L + 1, o], its targets [a, a + H) with a = o + 1 + g. To be
seen by a stage with rows [b, e) it must pass, in this order:

    warm-up   its first input row lies at or after the rows whose features lack history
    stage     b <= a and a + H <= e - purge: the target alone decides whose it is
    target    no bar of the target, nor the bars before it that the target is measured from,
              lies in an outage
    origin    the origin is observed
    inputs    at least ``min_observed`` of its input rows are observed

Eligible origins are runs: memory and time grow with the number of holes, not with the length of
history. All functions are pure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.grid import Runs


@dataclass(frozen=True)
class SampleShape:
    """Extent of a sample, in bars.

    Attributes:
        lookback: L, input bars.
        horizon: H, target bars.
        gap: g, bars between the origin and the first target bar.
        context: bars before the first target bar that the target is measured from.
    """

    lookback: int
    horizon: int
    gap: int = 0
    context: int = 1

    @property
    def reach(self) -> int:
        """Rows from the origin to just past the last target bar."""
        return 1 + self.gap + self.horizon


@dataclass(frozen=True, eq=False)
class Origins:
    """The origins a stage may see, in order, as runs taken at a stride.

    Position p counts them from 0; ``origins[p]`` gives rows. Run i holds positions
    [starts[i], starts[i + 1]); its position p stands for row ``offsets[i] + p * stride``, or for
    the last row of the run if that lies past it.
    """

    stride: int
    starts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    lasts: NDArray[np.int64]

    @classmethod
    def of(cls, runs: Runs, stride: int, *, last: bool) -> "Origins":
        """Every ``stride``-th origin of each run, from its first; with ``last``, its last too."""
        length = runs[:, 1] - runs[:, 0]
        count = (length - 1) // stride + 1
        if last:
            count = count + ((length - 1) % stride > 0)
        starts = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        return cls(stride, starts, runs[:, 0] - starts[:-1] * stride, runs[:, 1] - 1)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def span(self) -> tuple[int, int]:
        """Rows from the first origin to just past the last; (0, 0) if there are none."""
        if not len(self):
            return (0, 0)
        ends = np.array([0, len(self) - 1], dtype=np.int64)
        return int(self[ends][0]), int(self[ends][1]) + 1

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the origins at ``positions``, which must lie in [0, len)."""
        run = self.starts[1:-1].searchsorted(positions, side="right")
        rows = positions * self.stride
        rows += self.offsets[run]
        return np.minimum(rows, self.lasts[run], out=rows)


@dataclass(frozen=True)
class Reckoning:
    """How many origins of a stage pass each test, in order, and the runs left at the end."""

    runs: Runs
    in_stage: int
    dropped_target: int
    dropped_origin: int
    dropped_inputs: int


def eligible(
    shape: SampleShape,
    *,
    stage: tuple[int, int],
    rows: int,
    warm_up: int,
    purge: int,
    min_observed: float,
    outages: Runs,
    unobserved: Runs,
    need_target: bool,
) -> Reckoning:
    """The origins that a stage may see.

    Args:
        shape: extent of a sample.
        stage: rows [b, e) of the stage.
        rows: T, rows in the table.
        warm_up: rows at the table's start whose features lack history.
        purge: bars to leave out before the end of the stage.
        min_observed: least share of observed input rows.
        outages: runs of rows whose bar is not known.
        unobserved: runs of rows not observed as input.
        need_target: False to take origins whose future is not known (predict).
    """
    first_target = 1 + shape.gap
    low = max(stage[0] - first_target, warm_up + shape.lookback - 1, 0)
    if need_target:
        low = max(low, shape.context - first_target)
        high = min(stage[1] - purge, rows) - shape.reach + 1
    else:
        high = min(stage[1], rows)
    runs = np.array([[low, high]] if low < high else [], dtype=np.int64).reshape(-1, 2)
    counts = [_total(runs)]
    if need_target:
        shift = np.array([first_target + shape.horizon - 1, first_target - shape.context])
        runs = subtract_runs(runs, outages - shift)
    counts.append(_total(runs))
    runs = subtract_runs(runs, unobserved)
    counts.append(_total(runs))
    allowed = int(np.floor((1 - min_observed) * shape.lookback + 1e-9))
    runs = subtract_runs(runs, too_sparse(unobserved, shape.lookback, allowed))
    counts.append(_total(runs))
    return Reckoning(runs, counts[0], *(int(n) for n in -np.diff(counts)))


def subtract_runs(runs: Runs, taken: Runs) -> Runs:
    """The rows of ``runs`` that are in none of ``taken`` (sorted by start; may overlap)."""
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


def too_sparse(unobserved: Runs, lookback: int, allowed: int) -> Runs:
    """Runs of origins with more than ``allowed`` unobserved rows among their inputs.

    The number of unobserved rows in [o - lookback + 1, o] is piecewise linear in o, with slopes
    of -1, 0 and 1 and corners at the edges of the runs and ``lookback`` after them.
    """
    edges = unobserved.ravel()
    corners = np.unique(np.concatenate([edges, edges + lookback]) - 1)
    if not len(corners):
        return unobserved
    before = np.concatenate([[0], np.cumsum(unobserved[:, 1] - unobserved[:, 0])])

    def unobserved_until(row: NDArray[np.int64]) -> NDArray[np.int64]:
        """Unobserved rows in [0, row)."""
        run = np.searchsorted(unobserved[:, 0], row, side="right") - 1
        inside = np.minimum(row, unobserved[run, 1]) - unobserved[run, 0]
        return np.where(run < 0, 0, before[run] + inside)

    count = unobserved_until(corners + 1) - unobserved_until(corners + 1 - lookback)
    slope = np.sign(np.diff(count))
    left, right, at = corners[:-1], corners[1:], count[:-1]
    # On [left, right] the count goes from `at` with slope: the part of it above `allowed`.
    start = np.where(slope > 0, np.maximum(left, left + allowed + 1 - at), left)
    end = np.where(slope < 0, np.minimum(right, left + at - allowed), right)
    end = np.where((slope == 0) & (at <= allowed), start, end)
    return np.stack([start, end], axis=1)[start < end]


def _total(runs: Runs) -> int:
    return int((runs[:, 1] - runs[:, 0]).sum())
