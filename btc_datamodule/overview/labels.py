"""``Labels``: what the targets of each stage are: how often each class, how wide, and the extremes.

Targets are made as batches have them, before any scaling, a bounded number at a time. Of more than
``MOST_NUMBERS`` each n-th window is looked at, spread evenly, and ``every`` says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.evaluation.targets import Direction, Target, TripleBarrier
from btc_datamodule.scoring.kinds import count_classes, to_classes
from btc_datamodule.stages import Stages
from btc_datamodule.windows.dataset import WindowDataset

MOST_NUMBERS = 20_000_000
"""Of bars that the targets of a stage are made of."""

CHUNK_NUMBERS = 1 << 21
BINS = 60
EDGE_WINDOWS = 20_000
"""Windows of each stage by which the edges of bins are chosen."""

TAIL = 0.002
"""Share of the numbers that may lie outside of the bins, at each end."""

EXTREMES = 3
"""At each end, of each stage."""

Numbers = NDArray[np.float64]


class Extreme(NamedTuple):
    """A target that is the largest or the smallest of its stage, or near it.

    Attributes:
        stage: of which stage.
        origin_time: epoch seconds.
        value: the number of the target that is so large or small.
    """

    stage: Stage
    origin_time: int
    value: float


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of one stage.

    Attributes:
        stage: which.
        windows: that it has.
        every: each n-th of them was looked at.
        unknown: of these, how many have a number that is not known.
        counts: (C,) windows of each class; of values (BINS,) numbers in each bin.
        below: numbers below the first bin; 0 of classes.
        above: numbers above the last.
        mean: of all numbers that are known; NaN of classes.
        deviation: their standard deviation.
    """

    stage: Stage
    windows: int
    every: int
    unknown: int
    counts: NDArray[np.int64]
    below: int
    above: int
    mean: float
    deviation: float

    @property
    def share(self) -> Numbers:
        """(C,) or (BINS,) of all numbers that are known, those outside of the bins too."""
        total = int(self.counts.sum()) + self.below + self.above
        return self.counts / max(1, total)


@dataclass(frozen=True, eq=False)
class Labels:
    """The targets of all stages.

    Attributes:
        target: what they are.
        classes: names of the classes; none of values.
        edges: (BINS + 1,) of values, shared by all stages; of classes none.
        stages: train, val and test, those that there are.
        extremes: of values, by stage, from the largest down.
    """

    target: Target
    classes: tuple[str, ...]
    edges: Numbers
    stages: tuple[Targets, ...]
    extremes: tuple[Extreme, ...]

    def get(self, stage: Stage) -> Targets | None:
        """The targets of a stage; None if it has no windows."""
        return next((each for each in self.stages if each.stage == stage), None)


def describe_labels(stages: Stages) -> Labels:
    """The targets of train, val and test.

    Args:
        stages: of one fold.
    """
    target = stages.settings.target
    named: tuple[Stage, ...] = ("train", "val", "test")
    windows = {stage: stages.windows(stage) for stage in named if stages.fold.spans(stage)}
    windows = {stage: each for stage, each in windows.items() if len(each)}
    for each in windows.values():
        each.ahead_bytes = 0  # x is not read
    if target.is_label:
        found = [_count_classes(stage, own) for stage, own in windows.items()]
        return Labels(target, name_classes(target), np.zeros(0), tuple(found), ())
    edges = _choose_edges([*windows.values()])
    told, extremes = list[Targets](), list[Extreme]()
    for stage, own in windows.items():
        targets, most = _count_values(stage, own, edges)
        told.append(targets)
        extremes += most
    return Labels(target, (), edges, tuple(told), tuple(extremes))


def name_classes(target: Target) -> tuple[str, ...]:
    """What each class of a target, or each label from -1 to 1, is called."""
    names: Mapping[int, tuple[str, ...]] = {}
    if isinstance(target, Direction):
        names = {2: ("not up", "up"), 3: ("down", "flat", "up")}
    elif isinstance(target, TripleBarrier):
        names = {3: ("lower barrier", "neither", "upper barrier")}
    count = count_classes(target)
    first = 0 if target.n_classes else -1
    return names.get(count, tuple(str(first + each) for each in range(count)))


def _choose_step(windows: WindowDataset) -> int:
    """Of how many windows one is looked at."""
    return -(-len(windows) * _count_numbers(windows) // MOST_NUMBERS)


def _count_numbers(windows: WindowDataset) -> int:
    """Numbers of bars that one target is made of."""
    shape, columns = windows.shape, len(windows.target.columns)
    return (shape.reference_bars + shape.horizon) * columns


def _stream(windows: WindowDataset, every: int) -> Iterator[tuple[NDArray[np.int64], Numbers]]:
    """Rows of origins, and (n, *target shape) targets, of each n-th window."""
    positions = np.arange(0, len(windows), every, dtype=np.int64)
    step = max(1, CHUNK_NUMBERS // _count_numbers(windows))
    for low in range(0, len(positions), step):
        rows = windows.origins[positions[low : low + step]]
        yield rows, windows.compute_targets(rows)


def _count_classes(stage: Stage, windows: WindowDataset) -> Targets:
    every = _choose_step(windows)
    counts = np.zeros(count_classes(windows.target), dtype=np.int64)
    unknown = 0
    for _, values in _stream(windows, every):
        flat = values.reshape(len(values), -1)
        known = np.isfinite(flat).all(axis=1)
        unknown += int((~known).sum())
        classes = to_classes(windows.target, values[known])
        counts += np.bincount(classes, minlength=len(counts))
    nothing = float("nan")
    return Targets(stage, len(windows), every, unknown, counts, 0, 0, nothing, nothing)


def _choose_edges(windows: Sequence[WindowDataset]) -> Numbers:
    """Edges of bins between the quantiles of the numbers of all stages together."""
    parts = [
        values[np.isfinite(values)]
        for each in windows
        for _, values in _stream(each, -(-len(each) // EDGE_WINDOWS))
    ]
    values = np.concatenate([np.zeros(0), *parts])
    if not len(values):
        return np.linspace(-1, 1, BINS + 1)
    low, high = np.quantile(values, [TAIL, 1 - TAIL])
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    return np.linspace(low, high, BINS + 1)


def _count_values(
    stage: Stage, windows: WindowDataset, edges: Numbers
) -> tuple[Targets, list[Extreme]]:
    every = _choose_step(windows)
    apart = windows.shape.horizon * int(windows.table.interval)
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    outside = np.zeros(2, dtype=np.int64)
    number, total, squares, unknown, extremes = 0, 0.0, 0.0, 0, list[Extreme]()
    for rows, values in _stream(windows, every):
        flat = values.reshape(len(values), -1)
        unknown += int((~np.isfinite(flat).all(axis=1)).sum())
        known = flat[np.isfinite(flat)]
        counts += np.histogram(known, edges)[0]
        outside += [int((known < edges[0]).sum()), int((known > edges[-1]).sum())]
        number, total = number + len(known), total + float(known.sum())
        squares += float((known**2).sum())
        extremes = _keep_extremes(extremes + _find_extremes(stage, windows, rows, flat), apart)
    mean = total / number if number else float("nan")
    deviation = np.sqrt(max(0.0, squares / number - mean**2)) if number else float("nan")
    below, above = outside.tolist()
    told = Targets(
        stage, len(windows), every, unknown, counts, below, above, mean, float(deviation)
    )
    return told, extremes


def _find_extremes(
    stage: Stage, windows: WindowDataset, rows: NDArray[np.int64], flat: Numbers
) -> list[Extreme]:
    """The windows with the largest and the smallest numbers of some, each end for itself."""
    found = list[Extreme]()
    for sign in (1, -1):
        values = np.where(np.isfinite(flat), sign * flat, -np.inf).max(axis=1)
        many = min(len(values), EXTREMES * (2 * windows.shape.horizon - 1))
        places = np.argpartition(-values, many - 1)[:many]
        found += [
            Extreme(stage, windows.table.find_time(int(rows[place])), sign * float(values[place]))
            for place in places.tolist()
            if np.isfinite(values[place])
        ]
    return found


def _keep_extremes(found: Sequence[Extreme], apart: int) -> list[Extreme]:
    """The largest and the smallest of some, from the largest down, so many seconds apart.

    Windows whose targets share the bar that is so large count once.
    """
    ordered = sorted({*found}, key=lambda each: (-each.value, each.origin_time))
    most = _take_apart(ordered, apart)
    least = [each for each in _take_apart(ordered[::-1], apart) if each not in most]
    return most + least[::-1]


def _take_apart(ordered: Sequence[Extreme], apart: int) -> list[Extreme]:
    """The first ones of some, so many seconds apart."""
    taken = list[Extreme]()
    for each in ordered:
        if all(abs(each.origin_time - other.origin_time) >= apart for other in taken):
            taken.append(each)
        if len(taken) == EXTREMES:
            break
    return taken
