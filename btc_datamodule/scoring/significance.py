"""Significance: whether one forecast beats another by more than chance would have it.

Losses of forecasts that follow each other in time depend on each other: horizons overlap, and
volatile times come together. So their mean is judged by a long-run variance, and by draws of whole
blocks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.scoring.measures import Interval, Numbers

DRAWS = 2_000
"""Of the bootstrap: bounds at 95 % are then off by about a twentieth of their width."""

DRAWN_AT_ONCE = 1 << 24
"""Numbers that the bootstrap draws at a time."""


class LossTest(NamedTuple):
    """The test of Diebold and Mariano.

    Attributes:
        difference: mean of the losses of the first less those of the second: below 0 the first
            forecast is better.
        statistic: in standard errors.
        p_value: two-sided: of a difference as large or larger, if there is none.
        lags: over which losses are taken to depend on each other.
    """

    difference: float
    statistic: float
    p_value: float
    lags: int


def choose_lags(count: int, horizon: int) -> int:
    """Samples over which losses may depend on each other.

    Those whose targets overlap, and no less than 4 (n / 100)^(2/9) as Newey & West (1994),
    "Automatic lag selection in covariance matrix estimation", Review of Economic Studies 61(4).

    Args:
        count: samples.
        horizon: of how many samples, in order, a target overlaps that of the first.
    """
    return min(count - 1, max(horizon - 1, int(4 * (count / 100) ** (2 / 9))))


def compute_long_run_variance(values: Numbers, lags: int) -> float:
    """The variance of a mean of values that depend on each other, times their number.

    Source: Newey & West (1987), "A simple, positive semi-definite, heteroskedasticity and
    autocorrelation consistent covariance matrix", Econometrica 55(3).

    Args:
        values: (n,) in order of time.
        lags: the last that counts; weights fall to 0 right after it.
    """
    around = values - values.mean()
    total = around @ around
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * (around[lag:] @ around[:-lag])
    return float(total / len(values))


def compare_losses(first: Numbers, second: Numbers, horizon: int = 1) -> LossTest:
    """Test whether two forecasts of the same samples have the same mean loss.

    Sources: Diebold & Mariano (1995), "Comparing predictive accuracy", Journal of Business &
    Economic Statistics 13(3), with a variance that cannot be negative; the correction for few
    samples and Student's t of Harvey, Leybourne & Newbold (1997), "Testing the equality of
    prediction mean squared errors", International Journal of Forecasting 13(2).

    Args:
        first: (n,) losses of one forecast, in order of time.
        second: (n,) those of the other.
        horizon: of how many samples, in order, a target overlaps that of the first.

    Returns:
        With a statistic of NaN and a p-value of 1 where all losses are equal.
    """
    from scipy.stats import t

    gaps, count = first - second, len(first)
    lags = choose_lags(count, horizon)
    variance = compute_long_run_variance(gaps, lags) / count
    mean = float(gaps.mean())
    if not variance > 0:
        return LossTest(mean, float("nan"), 1.0, lags)
    few = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    statistic = mean / np.sqrt(variance) * np.sqrt(max(few, 0.0))
    return LossTest(mean, float(statistic), float(2 * t.sf(abs(statistic), count - 1)), lags)


def choose_block(values: Numbers) -> float:
    """The mean length of blocks for the stationary bootstrap of a mean.

    Source: Politis & White (2004), "Automatic block-length selection for the dependent bootstrap",
    Econometric Reviews 23(1), as corrected by Patton, Politis & White (2009), 28(4).

    Args:
        values: (n,) in order of time.

    Returns:
        At least 1, and no more than a third of the values or 3 times their square root.
    """
    count = len(values)
    around = values - values.mean()
    variance = around @ around / count
    if count < 3 or not variance > 0:
        return 1.0
    quiet = max(5, int(np.sqrt(np.log10(count))))
    most = min(count - 1, int(np.ceil(np.sqrt(count))) + quiet)
    covariances = (
        np.array([around[lag:] @ around[: count - lag] for lag in range(most + 1)]) / count
    )
    small = np.abs(covariances[1:] / variance) < 2 * np.sqrt(np.log10(count) / count)
    runs = [lag for lag in range(most - quiet + 1) if small[lag : lag + quiet].all()]
    large = int(np.max(np.flatnonzero(~small), initial=0)) + 1
    last = max(runs[0], 1) if runs else large
    width = min(2 * last, most)
    lags = np.arange(-width, width + 1)
    share = np.abs(lags) / width
    weights = np.where(share <= 0.5, 1.0, 2 * (1 - share))  # of a flat top
    of_lags = covariances[np.abs(lags)]
    slope = float(np.sum(weights * np.abs(lags) * of_lags))
    level = 2 * float(np.sum(weights * of_lags)) ** 2
    limit = np.ceil(min(3 * np.sqrt(count), count / 3))
    if not level > 0:
        return 1.0
    return float(np.clip((2 * slope**2 / level * count) ** (1 / 3), 1.0, limit))


def bootstrap_mean(
    values: Numbers, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The mean of values that depend on each other, and an interval of it.

    Blocks of random lengths are drawn, which wrap around the end. Source: Politis & Romano (1994),
    "The stationary bootstrap", JASA 89(428); the bounds are those quantiles of the means that are
    drawn.

    Args:
        values: (n,) in order of time.
        level: of the interval.
        draws: how many means are drawn.
        seed: of the draws: the same one gives the same interval.
    """
    count, block = len(values), choose_block(values)
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_AT_ONCE // count)
    means = np.concatenate(
        [
            values[_draw_places(rng, min(step, draws - done), count, block)].mean(axis=1)
            for done in range(0, draws, step)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def _draw_places(
    rng: np.random.Generator, draws: int, count: int, block: float
) -> NDArray[np.int64]:
    """(draws, count) numbers of values: each follows the one before, or begins a new block."""
    begins = rng.random((draws, count)) < 1 / block
    begins[:, 0] = True
    starts = rng.integers(0, count, (draws, count))
    at = np.arange(count)
    last = np.maximum.accumulate(np.where(begins, at, 0), axis=1)
    return (np.take_along_axis(starts, last, axis=1) + at - last) % count
