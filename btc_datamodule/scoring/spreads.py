"""Spreads: forecasts of a whole distribution, as quantiles of given levels or as draws.

The median of one stands as its point forecast. Quantiles are compared by their pinball loss, draws
by the continuous ranked probability score; both say in how many samples what came lay within the
central intervals, and how many should have.
"""

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.targets import Target
from btc_datamodule.scoring.forecast_files import ANY, Shape
from btc_datamodule.scoring.kinds import Measured, find_kind
from btc_datamodule.scoring.measures import Interval, Numbers, compute_crps, compute_pinball
from btc_datamodule.scoring.significance import compute_share

SHARES = (0.5, 0.8, 0.9, 0.95)
"""Central intervals that draws are asked for, if there are enough of them."""

STEADY = 99
"""Draws that stand for the distribution of a baseline: its quantiles at levels 0.01 to 0.99."""

AT_ONCE = 1 << 22
"""Numbers of distributions that are worked on at a time: 32 MiB."""


@dataclass(frozen=True)
class Manner:
    """How a distribution is told.

    Attributes:
        levels: of its quantiles, rising; () for draws, of any number.
    """

    levels: tuple[float, ...] = ()

    @property
    def loss(self) -> str:
        """Name of the loss that such forecasts are compared by."""
        return "pinball" if self.levels else "crps"

    @property
    def base_levels(self) -> tuple[float, ...]:
        """Levels of the quantiles that a baseline says."""
        return self.levels or tuple((each + 1) / (STEADY + 1) for each in range(STEADY))

    def list_shapes(self, shape: Shape) -> list[Shape]:
        """Shapes that the forecast of a sample may have: the target's with an axis at the end.

        The last axis of the target may be left out where it has one number.
        """
        last = len(self.levels) or ANY
        shorter = [shape[:-1]] if shape[-1:] == (1,) else []
        if shape == (1, 1):
            shorter.append(())
        return [(*each, last) for each in (shape, *shorter)]


def read_manner(quantiles: Any, draws: bool, target: Target) -> Manner | None:
    """How forecasts tell distributions; None if they do not.

    Args:
        quantiles: levels between 0 and 1, rising, that reach to 0.5 or past it from both sides.
        draws: whether each forecast is many draws.
        target: what is forecast.

    Raises:
        ConfigError: if both are given, or the levels will not do, or the target is one of names.
    """
    if not draws and (quantiles is None or not np.size(quantiles)):
        return None
    if draws and quantiles is not None and np.size(quantiles):
        raise ConfigError("there are `quantiles` and `draws`: give one of them, as forecasts are")
    if find_kind(target) == "classes":
        raise ConfigError(
            f"`{'draws' if draws else 'quantiles'}` are of numbers, and {target!r} has names: "
            "give the scores of its classes as forecasts, or one name each"
        )
    if draws:
        return Manner()
    try:
        levels = tuple(float(each) for each in np.asarray(quantiles, dtype=np.float64).reshape(-1))
    except (TypeError, ValueError):
        levels = ()
    rising = all(low < high for low, high in pairwise(levels))
    if not levels or not rising or not 0 < levels[0] <= 0.5 <= levels[-1] < 1:
        raise ConfigError(
            f"quantiles is {quantiles!r}: give the levels in the order of the forecasts, rising "
            "from 0.5 or below to 0.5 or above, such as [0.1, 0.5, 0.9]"
        )
    return Manner(levels)


def find_median(values: Numbers, manner: Manner) -> Numbers:
    """(n, ...) medians of (n, ..., q) distributions; between two levels where none is 0.5."""
    if not manner.levels:
        return np.concatenate([np.median(each, axis=-1) for each in _cut(values)])
    above = int(np.searchsorted(manner.levels, 0.5))
    high = manner.levels[above]
    if high == 0.5:
        return np.asarray(values[..., above])
    low = manner.levels[above - 1]
    share = (0.5 - low) / (high - low)
    found: Numbers = (1 - share) * values[..., above - 1] + share * values[..., above]
    return found


def compute_spread_losses(truth: Numbers, values: Numbers, manner: Manner) -> Numbers:
    """(n,) pinball losses, or CRPS of draws; of targets of several numbers the mean.

    Args:
        truth: (n, *target shape) what came.
        values: (n, *target shape, q) what was said.
        manner: of ``values``.
    """

    def compute(came: Numbers, said: Numbers) -> Numbers:
        if manner.levels:
            return compute_pinball(came, said, np.array(manner.levels))
        return compute_crps(came, said)

    return np.concatenate(
        [
            compute(came, said).reshape(len(came), -1).mean(axis=1)
            for came, said in zip(_cut(truth, like=values), _cut(values), strict=True)
        ]
    )


def measure_spread(
    truth: Numbers, values: Numbers, manner: Manner, overlap: int, level: float
) -> Measured:
    """The loss, and for each central interval the share of what came that lay in it.

    Args:
        truth: (n, *target shape) what came.
        values: (n, *target shape, q) what was said.
        manner: of ``values``.
        overlap: of how many samples in order the targets overlap.
        level: of the intervals of these shares.
    """
    loss = float(compute_spread_losses(truth, values, manner).mean())
    found: dict[str, float | Interval] = {manner.loss: loss}
    for share, levels in _list_intervals(values.shape[-1], manner):
        inside = []
        for came, said in zip(_cut(truth, like=values), _cut(values), strict=True):
            low, high = _find_bounds(said, manner, levels)
            within = (came >= low) & (came <= high)
            inside.append(within.reshape(len(came), -1).sum(axis=1, dtype=np.float64))
        hits = np.concatenate(inside)
        trials = np.full(len(truth), truth[0].size, dtype=np.float64)
        found[f"within {100 * share:.4g} %"] = compute_share(hits, trials, overlap, level)
    return found


def _list_intervals(count: int, manner: Manner) -> list[tuple[float, tuple[float, float]]]:
    """Central intervals: the share that should lie in each, and the levels of its bounds."""
    if manner.levels:
        pairs = combinations(manner.levels, 2)
        return [(high - low, (low, high)) for low, high in pairs if np.isclose(low + high, 1)]
    edges = [(share, ((1 - share) / 2, (1 + share) / 2)) for share in SHARES]
    return [each for each in edges if each[1][0] * (count + 1) >= 1 - 1e-9]


def _find_bounds(said: Numbers, manner: Manner, levels: tuple[float, float]) -> Numbers:
    """(2, n, ...) quantiles of (n, ..., q) distributions.

    The k-th smallest of m draws has the level k / (m + 1): what comes is one draw more, and lies
    below it as often.
    """
    if manner.levels:
        return np.stack([said[..., manner.levels.index(level)] for level in levels])
    found: Numbers = np.quantile(said, levels, axis=-1, method="weibull")
    return found


def _cut(values: Numbers, like: Numbers | None = None) -> list[Numbers]:
    """Samples in parts of which those of ``like``, or of themselves, are a few megabytes each."""
    wide = values if like is None else like
    step = max(1, AT_ONCE // max(1, wide[:1].size))
    return [values[low : low + step] for low in range(0, len(values), step)]
