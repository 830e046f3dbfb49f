"""Origins: which samples a stage may see.

A sample is known by its *origin* o, the row of its last input bar. With lookback L, gap g,
horizon H and warm-up W of the features its inputs are rows [o - L + 1, o], made of bars from
o - L + 1 - W on, its targets [a, a + H) with a = o + 1 + g. The first target bar a lies in the
span [b, e) of the stage: that makes it a candidate. It is left out, for the first of these that
holds:

    end        a + H > e: its last target bars belong to the next stage
    purge      a + H > e - purge
    history    it would need bars from before the table, or anything from before its wall
    embargo    or from before the end of the embargo (see ``walls``)
    target     a bar of the target, or one that the target is measured from, lies in an outage: it
               cannot be measured
    origin     there is no candle for the origin, or a feature reaches back into an outage there
    inputs     less than ``min_observed`` of its input rows are observed, for the same reasons
    undefined  a feature has no value at the origin though all of its bars are known, or with
               the rows in which that is so, less than ``min_observed`` of the inputs are observed

Where features are observed each by itself (``mask: feature``), ``min_observed`` is the least share
of input rows in which each of them is: an origin has a candle, and no feature needs to be observed
there that is so often enough before.

Of these only ``target`` depends on what comes after the origin, apart from where the span ends. A
filled row is no origin: of samples at the third row of a hole with ``max_fill`` 3 those would be
left whose next bar trades, as the fourth row cannot be measured, and that could be forecast from
the hole. From a candle on, how long the next hole will be is not known to anybody.

Eligible origins are runs: memory and time grow with the number of holes, not with the length of
history. All functions are pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs, count_rows, subtract_runs

TABLE_ITEMS = 32
"""Items of the table of runs for each run, so that most items lie inside one run."""

TABLE_LIMIT = 1 << 20
"""Items that it has at most: 8 MiB."""


@dataclass(frozen=True)
class SampleShape:
    """Extent of a sample, in bars.

    Attributes:
        lookback: L, input bars.
        horizon: H, target bars.
        gap: g, bars between the origin and the first target bar.
        reference_bars: bars before the first target bar that the target is measured from.
    """

    lookback: int
    horizon: int
    gap: int = 0
    reference_bars: int = 1

    @property
    def reach(self) -> int:
        """Rows from the origin to just past the last target bar."""
        return 1 + self.gap + self.horizon

    def count_before(self, warm_up: int) -> int:
        """Bars before the first target bar that a sample is made of, those of features too."""
        return max(warm_up + self.lookback + self.gap, self.reference_bars)


@dataclass(frozen=True, eq=False)
class Origins:
    """The origins a stage may see, in order, as runs taken at a stride.

    Position p counts them from 0; ``origins[p]`` gives rows. Run i holds positions
    [starts[i], starts[i + 1]); its position p stands for row ``offsets[i] + p * stride``.
    """

    stride: int
    starts: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"Origins({len(self):,} in {len(self.offsets):,} runs, stride {self.stride})"

    @classmethod
    def of(cls, runs: Runs, stride: int) -> "Origins":
        """Every ``stride``-th origin of each run, from its first."""
        count = (runs[:, 1] - runs[:, 0] - 1) // stride + 1
        starts = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        return cls(stride, starts, runs[:, 0] - starts[:-1] * stride)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def span(self) -> tuple[int, int]:
        """Rows from the first origin to just past the last; (0, 0) if there are none."""
        if not len(self):
            return (0, 0)
        ends = np.array([0, len(self) - 1], dtype=np.int64)
        return int(self[ends][0]), int(self[ends][1]) + 1

    @property
    def runs(self) -> Runs:
        """Rows from the first origin of each run that has any to just past its last."""
        first = self.starts[:-1] * self.stride + self.offsets
        last = (self.starts[1:] - 1) * self.stride + self.offsets
        return np.stack([first, last + 1], axis=1)[self.starts[1:] > self.starts[:-1]]

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the origins at ``positions``, which must lie in [0, len)."""
        run = None if len(self.offsets) == 1 else self._find_runs(positions)
        steps = positions if self.stride == 1 else positions * self.stride
        rows: NDArray[np.int64] = steps + (self.offsets if run is None else self.offsets.take(run))
        return rows

    def _find_runs(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The run that each position lies in: from the table, or by search where it has none."""
        shift, table = self._table
        run = table.take(positions >> shift)
        if run.min(initial=0) < 0:
            unknown = np.flatnonzero(run < 0)
            run[unknown] = self.starts[1:-1].searchsorted(positions[unknown], side="right")
        return run

    @cached_property
    def _table(self) -> tuple[int, NDArray[np.int64]]:
        """The run of all positions p with the same ``p >> shift``; -1 where there are several.

        A binary search among 1,000 runs takes 50 ns a position, more than the copy of a window;
        a look-up 2 ns.
        """
        inner, size = self.starts[1:-1], len(self)
        items = min(TABLE_ITEMS * len(self.starts), TABLE_LIMIT)
        shift = (size // items).bit_length()
        begins = np.arange((max(size - 1, 0) >> shift) + 1, dtype=np.int64) << shift
        ends = np.minimum(begins + (1 << shift), size) - 1
        run, other = (inner.searchsorted(at, side="right") for at in (begins, ends))
        return shift, np.where(run == other, run, -1)


class Dropped(NamedTuple):
    """How many candidates were left out, and why; see the module."""

    end: int
    purge: int
    history: int
    embargo: int
    target: int
    origin: int
    inputs: int
    undefined: int


class Unseen(NamedTuple):
    """Rows that are not observed as input: of all features together, or of one.

    Attributes:
        unobserved: runs of them.
        undefined: runs of rows in which it is a feature that has no value, sorted by start; they
            may overlap, and reach beyond ``unobserved``.
    """

    unobserved: Runs
    undefined: Runs


@dataclass(frozen=True, eq=False)
class FoundOrigins:
    """What became of the candidates of a span: the runs of eligible origins, and the others."""

    runs: Runs
    candidates: int
    dropped: Dropped


def find_origins(
    shape: SampleShape,
    *,
    span: tuple[int, int],
    rows: int,
    warm_up: int,
    min_observed: float,
    holes: Runs,
    outages: Runs,
    unseen: Sequence[Unseen],
    by_feature: bool = False,
    purge: int = 0,
    wall: int = 0,
    embargo: int = 0,
    crossing: Runs | None = None,
    need_target: bool = True,
) -> FoundOrigins:
    """The origins that a stage may see in one of its spans.

    Args:
        shape: extent of a sample.
        span: rows [b, e) of the stage; e may lie past the table.
        rows: T, rows in the table.
        warm_up: W, rows that features need before the first input row.
        min_observed: least share of observed input rows.
        holes: runs of rows without a candle.
        outages: runs of rows whose bar is not known.
        unseen: rows that are not observed as input, one item of all features, or one of each.
        by_feature: whether it is one of each; the origin itself need not be observed then.
        purge: bars to leave out before the end of the span.
        wall: first row that a sample may be made of.
        embargo: likewise, once the embargo is over.
        crossing: runs of rows behind both that are made of anything from before them; None for no.
        need_target: False to take origins whose future is not known (predict): their target may
            reach past the span.
    """
    lead = 1 + shape.gap
    back = warm_up + shape.lookback - 1
    low, high = max(span[0], 0) - lead, span[1] - lead
    if need_target:
        back = max(back, shape.reference_bars - lead)
        fits = min(high, rows - lead) - shape.horizon + 1
        highs = [min(high, rows - lead), fits, fits - purge]
    else:
        highs = [min(high, rows)] * 3
    lows = [low, max(low, wall + back)]
    lows.append(max(lows[1], embargo + back))
    steps = [(low, top) for top in highs] + [(bottom, highs[2]) for bottom in lows[1:]]
    counts = [max(0, top - bottom) for bottom, top in steps]
    runs = np.array([steps[-1]] if counts[-1] else [], dtype=np.int64).reshape(-1, 2)
    crossed = 0
    if crossing is not None and len(crossing):
        runs = subtract_runs(runs, find_sparse_origins(crossing, shape.lookback, 0))
        crossed = counts[-1] - count_rows(runs)
    if need_target:
        shift = np.array([lead + shape.horizon - 1, lead - shape.reference_bars])
        runs = subtract_runs(runs, outages - shift)
    counts.append(count_rows(runs))
    unknown = [subtract_runs(*each) for each in unseen]
    unobserved = [each.unobserved for each in unseen]
    allowed = int(np.floor((1 - min_observed) * shape.lookback + 1e-9))
    runs = _subtract_all(subtract_runs(runs, holes), [] if by_feature else unknown)
    counts.append(count_rows(runs))
    runs = _subtract_all(runs, [find_sparse_origins(u, shape.lookback, allowed) for u in unknown])
    counts.append(count_rows(runs))
    sparse = [find_sparse_origins(each, shape.lookback, allowed) for each in unobserved]
    runs = _subtract_all(runs, sparse if by_feature else sparse + unobserved)
    counts.append(count_rows(runs))
    dropped = Dropped(*(-np.diff(counts)).tolist())
    moved = dropped._replace(history=dropped.history + crossed, target=dropped.target - crossed)
    return FoundOrigins(runs, counts[0], moved)


def _subtract_all(runs: Runs, taken: Sequence[Runs]) -> Runs:
    for each in taken:
        runs = subtract_runs(runs, each)
    return runs


def space_runs(runs: Runs, stride: int) -> Runs:
    """Runs that begin at least ``stride`` after the last origin taken of the run before.

    What begins sooner is left out, so that every ``stride``-th origin of each run, from its first,
    are nowhere closer together than ``stride``.
    """
    if stride == 1:
        return runs
    spaced, free = [], 0
    for start, end in runs.tolist():
        first = max(start, free)
        if first < end:
            spaced.append((first, end))
            free = first + (end - 1 - first) // stride * stride + stride
    return np.array(spaced, dtype=np.int64).reshape(-1, 2)


def count_target_bars(origins: Origins, horizon: int) -> int:
    """How many bars are one of the ``horizon`` target bars of one or more of ``origins``."""
    if not len(origins):
        return 0
    first, last = origins[origins.starts[:-1]], origins[origins.starts[1:] - 1]
    of_run = (last - first) // origins.stride * min(origins.stride, horizon) + horizon
    twice = last[:-1] + horizon - first[1:]  # of the last of a run and the first of the next
    return int(of_run.sum() - np.maximum(twice, 0).sum())


def find_sparse_origins(unobserved: Runs, lookback: int, allowed: int) -> Runs:
    """Runs of origins with more than ``allowed`` unobserved rows among their inputs.

    The number of unobserved rows in [o - lookback + 1, o] is piecewise linear in o, with slopes
    of -1, 0 and 1 and corners at the edges of the runs and ``lookback`` after them.
    """
    edges = unobserved.ravel()
    corners = np.unique(np.concatenate([edges, edges + lookback]) - 1)
    if not len(corners):
        return unobserved
    before = np.concatenate([[0], np.cumsum(unobserved[:, 1] - unobserved[:, 0])])

    def count_unobserved(row: NDArray[np.int64]) -> NDArray[np.int64]:
        """Unobserved rows in [0, row)."""
        run = np.searchsorted(unobserved[:, 0], row, side="right") - 1
        inside = np.minimum(row, unobserved[run, 1]) - unobserved[run, 0]
        return np.where(run < 0, 0, before[run] + inside)

    count = count_unobserved(corners + 1) - count_unobserved(corners + 1 - lookback)
    slope = np.sign(np.diff(count))
    left, right, at = corners[:-1], corners[1:], count[:-1]
    # On [left, right] the count goes from `at` with slope: the part of it above `allowed`.
    start = np.where(slope > 0, np.maximum(left, left + allowed + 1 - at), left)
    end = np.where(slope < 0, np.minimum(right, left + at - allowed), right)
    end = np.where((slope == 0) & (at <= allowed), start, end)
    return np.stack([start, end], axis=1)[start < end]
