"""``Distribution``: how the values of a feature are spread in each stage, and whether they drift.

Made of the feature file, not scaled: in the units of the feature. It is read once, segment by
segment, in bounded memory: the values of each stage are counted in bins that are fine enough for
the histogram and for the drift alike.

**Drift** is the population stability index of Siddiqi (2006), "Credit Risk Scorecards": the sum of
(q - p) ln(q / p) over ten bins, each with a tenth of train's values, p of train and q of the other
stage. It is the divergence of Jeffreys (1946), symmetric and 0 for equal shares. By his rule of
thumb it is small up to 0.1 and large from 0.25 on. Half a value is added to each count, so that no
bin is empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.evaluation.walls import find_train_runs
from btc_datamodule.features.moments import Moments
from btc_datamodule.stages import Stages

Numbers = NDArray[np.float64]

SHOWN: tuple[Stage, ...] = ("train", "val", "test")

BINS = 48
"""Of a histogram."""

FINE = 64
"""Into which each of these is parted for the drift."""

SHARES = 10
"""Of train, by which drift is measured."""

LAGS = (1, 2, 3, 6, 12, 24, 48, 168)
"""Bars, of the autocorrelation."""

AUTOCORRELATED = 1 << 21
"""Values of all features, of the latest rows of train, that it is measured on."""

SAMPLED_ROWS = 1 << 15
"""From which the range of a histogram is taken."""

TAIL = 0.005
"""Share of the sample on each side that lies outside that range."""

SMALL_DRIFT, LARGE_DRIFT = 0.1, 0.25


@dataclass(frozen=True, eq=False)
class Distribution:
    """The values of a feature.

    Attributes:
        name: of the feature.
        edges: (bins + 1,) float64 of the bins, in the unit of the feature, the same for all stages.
            The first and the last bin hold what lies beyond them too.
        density: (bins,) float64 of each stage that has values: the integral of each is 1.
        rows: of each stage.
        missing: the share of these in which the feature has no value, or its bar is not observed.
        mean: of each stage that has values.
        deviation: likewise, the standard deviation.
        drift: of val and test against train; see the module.
        autocorrelation: of train by lag, in bars; NaN where it is not known.
    """

    name: str
    edges: Numbers
    density: Mapping[Stage, Numbers]
    rows: Mapping[Stage, int]
    missing: Mapping[Stage, float]
    mean: Mapping[Stage, float]
    deviation: Mapping[Stage, float]
    drift: Mapping[Stage, float]
    autocorrelation: Mapping[int, float]


def measure_distributions(
    stages: Stages, features: Sequence[str] | None = None
) -> list[Distribution]:
    """The distributions of features, in their order.

    Rows of train are those that statistics may see; of val and test those of their spans.

    Args:
        stages: of one fold.
        features: names; None for all.
    """
    known = stages.table.features
    columns = [number for number, name in enumerate(known) if features is None or name in features]
    runs = {stage: _list_runs(stages, stage) for stage in SHOWN}
    ranges = _find_ranges(stages, runs, columns)
    counts = {stage: _Counts(ranges) for stage in SHOWN}
    for stage in SHOWN:
        for low, high in runs[stage]:
            for rows in stages.table.segments(low, high):
                counts[stage].add(_read(stages, rows, columns))
    correlations = _correlate(stages, runs["train"], columns)
    return [
        _summarise(known[column], place, ranges[place], counts, correlations[place])
        for place, column in enumerate(columns)
    ]


class _Counts:
    """What is counted of a stage, for all features."""

    def __init__(self, ranges: Numbers) -> None:
        self.ranges = ranges
        self.rows = 0
        self.fine = np.zeros((len(ranges), BINS * FINE), dtype=np.int64)
        self.parts: list[Moments] = []

    def add(self, values: NDArray[np.float32]) -> None:
        """Count (features, n) values, NaN for none."""
        self.rows += values.shape[1]
        self.parts.append(Moments.of(values.T))
        for place, (low, high) in enumerate(self.ranges.tolist()):
            own = values[place]
            own = own[np.isfinite(own)].astype(np.float64)
            bins = ((own - low) * (BINS * FINE / (high - low))).clip(0, BINS * FINE - 1)
            self.fine[place] += np.bincount(bins.astype(np.int64), minlength=BINS * FINE)

    @property
    def moments(self) -> Moments:
        return Moments.merge(self.parts, len(self.ranges))


def _summarise(
    name: str,
    place: int,
    limits: Numbers,
    counts: Mapping[Stage, _Counts],
    autocorrelation: Mapping[int, float],
) -> Distribution:
    edges = np.linspace(limits[0], limits[1], BINS + 1)
    fine = {stage: counts[stage].fine[place] for stage in SHOWN}
    has = [stage for stage in SHOWN if fine[stage].sum()]
    moments = {stage: counts[stage].moments for stage in has}
    coarse = {stage: fine[stage].reshape(BINS, FINE).sum(axis=1) for stage in has}
    return Distribution(
        name=name,
        edges=edges,
        density={stage: coarse[stage] / coarse[stage].sum() / np.diff(edges) for stage in has},
        rows={stage: counts[stage].rows for stage in SHOWN},
        missing={
            stage: 1 - int(fine[stage].sum()) / counts[stage].rows
            for stage in SHOWN
            if counts[stage].rows
        },
        mean={stage: float(moments[stage].mean[place]) for stage in has},
        deviation={stage: float(moments[stage].deviation[place]) for stage in has},
        drift={
            stage: measure_drift(fine["train"], fine[stage])
            for stage in has
            if stage != "train" and "train" in has
        },
        autocorrelation=autocorrelation,
    )


def measure_drift(train: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """The population stability index of counts in the same fine bins; see the module.

    Args:
        train: (n,) counts, by which the bins are joined to about ten of the same share.
        other: (n,) counts.
    """
    before = np.cumsum(train) - train
    group = np.minimum(before * SHARES // max(1, int(train.sum())), SHARES - 1)
    group = np.unique(group, return_inverse=True)[1]
    p, q = (np.bincount(group, weights=each) + 0.5 for each in (train, other))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))


def _list_runs(stages: Stages, stage: Stage) -> list[tuple[int, int]]:
    """The rows of a stage as runs that are not empty."""
    table, settings = stages.table, stages.settings
    if stage == "train":
        found = find_train_runs(table, stages.fold, embargo=settings.embargo, purge=settings.purge)
    else:
        found = [
            (table.find_row(low), table.find_row(high)) for low, high in stages.fold.spans(stage)
        ]
    cut = [(max(low, 0), min(high, table.rows)) for low, high in found]
    return [(low, high) for low, high in cut if low < high]


def _read(stages: Stages, rows: slice, columns: Sequence[int]) -> NDArray[np.float32]:
    """(features, n) float32 values of rows, NaN where not observed."""
    table = stages.table
    x = table.read("x", rows)[:, columns]
    observed: Mask = table.read("observed", rows).view(np.bool_)
    seen = observed[:, columns] if observed.ndim > 1 else observed[:, np.newaxis]
    values: NDArray[np.float32] = np.where(seen, x, np.float32(np.nan)).T
    return np.ascontiguousarray(values)


def _find_ranges(
    stages: Stages, runs: Mapping[Stage, Sequence[tuple[int, int]]], columns: Sequence[int]
) -> Numbers:
    """(features, 2) the range of each histogram, from rows spread evenly over all stages."""
    total = sum(high - low for each in runs.values() for low, high in each)
    step = max(1, total // SAMPLED_ROWS)
    parts = [
        _read(stages, slice(rows.start, rows.stop, step), columns)
        for each in runs.values()
        for low, high in each
        for rows in stages.table.segments(low, high)
    ]
    sample = np.concatenate([np.zeros((len(columns), 0), dtype=np.float32), *parts], axis=1)
    return np.array([_choose_range(each) for each in sample]).reshape(-1, 2)


def _choose_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """The range without the tails; of a constant one around it."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values.astype(np.float64), [TAIL, 1 - TAIL]).tolist()
    if low == high:  # nearly all values are one: the others lie beyond, if there are any
        low, high = float(values.min()), float(values.max())
    around = max(abs(low) * 1e-6, 0.5) if low == high else 0.0
    return low - around, high + around


def _correlate(
    stages: Stages, runs: Sequence[tuple[int, int]], columns: Sequence[int]
) -> list[dict[int, float]]:
    """The autocorrelation of each feature over the latest rows of train, by lag.

    Of pairs of rows in one run in which both have a value: their mean product of deviations from
    the mean, by the variance.
    """
    latest = _take_latest(runs, max(2 * max(LAGS), AUTOCORRELATED // max(1, len(columns))))
    parts = [_read(stages, slice(low, high), columns).astype(np.float64) for low, high in latest]
    found: list[dict[int, float]] = []
    for place in range(len(columns)):
        series = [part[place] for part in parts]
        values = np.concatenate([np.zeros(0), *series])
        values = values[np.isfinite(values)]
        mean = float(values.mean()) if len(values) else 0.0
        variance = float(np.mean((values - mean) ** 2)) if len(values) else 0.0
        own: dict[int, float] = {}
        for lag in LAGS:
            products = np.concatenate(
                [np.zeros(0), *((each[lag:] - mean) * (each[:-lag] - mean) for each in series)]
            )
            products = products[np.isfinite(products)]
            known = len(products) > 1 and variance > 0
            own[lag] = float(products.mean()) / variance if known else float("nan")
        found.append(own)
    return found


def _take_latest(runs: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """The last rows of some runs, in order of time."""
    taken: list[tuple[int, int]] = []
    for low, high in reversed(runs):
        if most <= 0:
            break
        taken.append((max(low, high - most), high))
        most -= high - low
    return taken[::-1]
