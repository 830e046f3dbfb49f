"""Measures: how far forecasts are from what came, each as a plain function of arrays.

Owns the formulas, each with its source. Every function takes what is known alone: no NaN.

>>> compute_mae(np.array([1.0, 2.0]), np.array([1.5, 2.5]))
0.5
>>> compute_r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]), 2.0)
1.0
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate, and the bounds between which what is estimated lies.

    Attributes:
        value: the estimate.
        low: the lower bound.
        high: the upper bound.
    """

    value: float
    low: float
    high: float


def compute_mae(truth: Numbers, forecast: Numbers) -> float:
    """Mean absolute error, in the unit of the target."""
    return float(np.mean(np.abs(truth - forecast)))


def compute_rmse(truth: Numbers, forecast: Numbers) -> float:
    """Root mean squared error, in the unit of the target."""
    return float(np.sqrt(np.mean((truth - forecast) ** 2)))


def compute_mase(truth: Numbers, forecast: Numbers, scale: Numbers | float) -> float:
    """Mean absolute error over that of no change in train.

    Source: Hyndman & Koehler (2006), "Another look at measures of forecast accuracy",
    International Journal of Forecasting 22(4).

    Args:
        truth: what came.
        forecast: what was said.
        scale: mean absolute error in train of the forecast that what was last seen stays, a number
            or (n,), one for each of ``truth``.

    Returns:
        NaN where a ``scale`` is 0: nothing ever changed in train.
    """
    scales = np.asarray(scale, dtype=np.float64)
    if not scales.all():
        return float("nan")
    errors = np.abs(truth - forecast).reshape(len(truth), -1).mean(axis=1)
    return float(np.mean(errors / scales))


def compute_r2(truth: Numbers, forecast: Numbers, mean: Numbers | float) -> float:
    """Out-of-sample R²: the share of the squared error of the train mean that is avoided.

    Below 0 where the train mean is the better forecast. Source: Campbell & Thompson (2008),
    "Predicting excess stock returns out of sample", Review of Financial Studies 21(4).

    Args:
        truth: what came.
        forecast: what was said.
        mean: of the target in train, a number or one for each of ``truth``.
    """
    around = np.sum((truth - mean) ** 2)
    return float(1 - np.sum((truth - forecast) ** 2) / around) if around else float("nan")


def compute_qlike(truth: Numbers, forecast: Numbers) -> float:
    """The loss of forecasts of a volatility, of its square as Patton has it: 0 is perfect.

    Mean of h/f - ln(h/f) - 1 for variances h that came and f that were said. It ranks forecasts as
    the true variance would, where only a noisy one is seen. Source: Patton (2011), "Volatility
    forecast comparison using imperfect volatility proxies", Journal of Econometrics 160(1).

    Args:
        truth: volatilities that came, above 0.
        forecast: volatilities that were said, above 0.
    """
    ratio = (truth / forecast) ** 2
    return float(np.mean(ratio - np.log(ratio) - 1))


def compute_pinball(truth: Numbers, quantiles: Numbers, levels: Numbers) -> Numbers:
    """The pinball loss of quantiles, the mean over their levels.

    Source: Koenker & Bassett (1978), "Regression quantiles", Econometrica 46(1).

    Args:
        truth: (n, ...) what came.
        quantiles: (n, ..., q) what was said of each level.
        levels: (q,) between 0 and 1.

    Returns:
        (n, ...).
    """
    over = truth[..., np.newaxis] - quantiles
    losses: Numbers = np.maximum(levels * over, (levels - 1) * over).mean(axis=-1)
    return losses


def compute_crps(truth: Numbers, draws: Numbers) -> Numbers:
    """The continuous ranked probability score of forecasts that are draws.

    E|X - y| - E|X - X'| / 2 with X and X' two of the draws. Source: Gneiting & Raftery (2007),
    "Strictly proper scoring rules, prediction, and estimation", JASA 102(477), equation 21.

    Args:
        truth: (n, ...) what came.
        draws: (n, ..., m) draws of each forecast.

    Returns:
        (n, ...).
    """
    count = draws.shape[-1]
    ordered = np.sort(draws, axis=-1)
    # The sum of all |x - x'| of ordered draws, each weighed by how many lie below and above.
    weights = (2 * np.arange(count) - count + 1) / count**2
    spread = ordered @ weights
    scores: Numbers = np.abs(draws - truth[..., np.newaxis]).mean(axis=-1) - spread
    return scores


def compute_wilson(successes: float, trials: float, level: float = 0.95) -> Interval:
    """A share of successes, and Wilson's interval of it, of trials that do not depend on another.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference",
    JASA 22(158).
    """
    from scipy.stats import norm

    share = successes / trials
    z2 = float(norm.ppf((1 + level) / 2)) ** 2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = np.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return Interval(share, float(middle - half), float(middle + half))


class Confusion:
    """How often which class was said of which.

    Attributes:
        counts: (C, C) int64, [came, said].
    """

    def __init__(self, truth: NDArray[np.int64], forecast: NDArray[np.int64], classes: int) -> None:
        pairs = np.bincount(truth * classes + forecast, minlength=classes**2)
        self.counts = pairs.reshape(classes, classes)

    def compute_balanced_accuracy(self) -> float:
        """The mean over classes that came of the share that was said right."""
        came = self.counts.sum(axis=1)
        return float(np.mean(np.diag(self.counts)[came > 0] / came[came > 0]))

    def compute_mcc(self) -> float:
        """Matthews' correlation coefficient: 1 perfect, 0 as good as any constant.

        Of more than two classes that of Gorodkin (2004), "Comparing two K-category assignments by a
        K-category correlation coefficient", Computational Biology and Chemistry 28(5-6). 0 where
        one class alone came or was said.
        """
        counts = self.counts.astype(np.float64)
        came, said, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
        above = np.trace(counts) * total - came @ said
        below = np.sqrt((total**2 - said @ said) * (total**2 - came @ came))
        return float(above / below) if below else 0.0
