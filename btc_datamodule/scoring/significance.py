"""Significance: whether one forecast beats another by more than chance would have it.

Losses of forecasts that follow each other in time depend on each other: horizons overlap, and
volatile times come together. So their mean is judged by a long-run variance, and by draws of whole
blocks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.scoring.measures import Interval, Numbers, compute_wilson

DRAWS = 2_000
"""Of the bootstrap: bounds at 95 % are then off by about a twentieth of their width."""

DRAWN_AT_ONCE = 1 << 20
"""Numbers that the bootstrap draws at a time: it takes some 60 MB."""

OWN_STREAM = 17
"""Stands before a seed: noise made of the same one shares no draws with the bootstrap."""

MOST_DRAWN = 1 << 12
"""Values that the bootstrap draws of: of millions it would take minutes."""


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


def compute_autocovariances(values: Numbers, lags: int) -> Numbers:
    """(lags + 1,) sums of products of values around their mean, over their number, by their lag.

    Args:
        values: (n,) in order of time.
        lags: the last, below n.
    """
    around, count = values - values.mean(), len(values)
    size = 1 << (count + lags).bit_length()
    spectrum = np.fft.rfft(around, size)
    found: Numbers = np.fft.irfft(np.abs(spectrum) ** 2, size)[: lags + 1] / count
    found[0] = around @ around / count
    return found


def compute_long_run_variance(values: Numbers, lags: int) -> float:
    """The variance of a mean of values that depend on each other, times their number.

    Source: Newey & West (1987), "A simple, positive semi-definite, heteroskedasticity and
    autocorrelation consistent covariance matrix", Econometrica 55(3).

    Args:
        values: (n,) in order of time.
        lags: the last that counts; weights fall to 0 right after it.
    """
    weights = 2 * (1 - np.arange(lags + 1) / (lags + 1))
    weights[0] = 1
    return float(weights @ compute_autocovariances(values, lags))


def compute_overlapping_variance(values: Numbers, overlap: int) -> float:
    """The long-run variance of values of targets that overlap: no less than Newey & West have it.

    Their weights fall from the first lag on, and of sums that overlap they find but two thirds.
    Where all lags of the overlap have their full weight, and those after as many again a falling
    one, it is more; that can be negative, so the larger of the two counts. Source: Politis & Romano
    (1995), "Bias-corrected nonparametric spectral estimation", Journal of Time Series Analysis
    16(1).

    Args:
        values: (n,) in order of time.
        overlap: of how many samples, in order, a target overlaps that of the first, itself
            included.
    """
    found = compute_long_run_variance(values, choose_lags(len(values), overlap))
    width = min(2 * (overlap - 1), len(values) - 1)
    if width < 1:
        return found
    weights = 2 * np.minimum(1.0, 2 * (1 - np.arange(width + 1) / width))
    weights[0] = 1
    return max(found, float(weights @ compute_autocovariances(values, width)))


def compute_share(
    hits: Numbers, trials: Numbers, overlap: int = 1, level: float = 0.95
) -> Interval:
    """A share of trials that hit, and an interval that allows for samples that depend on another.

    Wilson's, of as many trials as would say as much if they were independent: share * (1 - share)
    over the variance that the share has, of a ratio and by its long-run variance; never more than
    there are. Of nothing but hits, or none, this cannot be told, and as many count as have targets
    that do not overlap. Sources: Korn & Graubard (1998), "Confidence intervals for proportions with
    small expected number of positive counts estimated from survey data", Survey Methodology 24(2);
    Dean & Pagano (2015), "Evaluating confidence interval methods for binomial proportions in
    clustered surveys", Journal of Survey Statistics and Methodology 3(4), of Wilson's.

    Args:
        hits: (n,) how many trials of each sample hit, in order of time.
        trials: (n,) how many each has.
        overlap: as of ``compute_overlapping_variance``.
        level: of the interval.
    """
    total = float(trials.sum())
    share = float(hits.sum()) / total
    spread = compute_overlapping_variance(hits - share * trials, overlap) * len(hits) / total**2
    told = 0 < share < 1 and spread > 0
    effective = share * (1 - share) / spread if told else total / overlap
    effective = min(max(effective, 1.0), total)
    return compute_wilson(share * effective, effective, level)


def compare_losses(first: Numbers, second: Numbers, horizon: int = 1) -> LossTest:
    """Test whether two forecasts of the same samples have the same mean loss.

    Sources: Diebold & Mariano (1995), "Comparing predictive accuracy", Journal of Business &
    Economic Statistics 13(3), with ``compute_overlapping_variance``; the correction for few
    samples and Student's t of Harvey, Leybourne & Newbold (1997), "Testing the equality of
    prediction mean squared errors", International Journal of Forecasting 13(2).

    Args:
        first: (n,) losses of one forecast, in order of time.
        second: (n,) those of the other.
        horizon: of how many samples, in order, a target overlaps that of the first.

    Returns:
        With a statistic of NaN and a p-value of 1 where all losses are equal; with an infinite one
        and 0 where all differ by the same.
    """
    from scipy.stats import t

    gaps, count = first - second, len(first)
    lags = choose_lags(count, horizon)
    variance = compute_overlapping_variance(gaps, horizon) / count
    mean = float(gaps.mean())
    if not variance > 0:
        if not mean:
            return LossTest(mean, float("nan"), 1.0, lags)
        return LossTest(mean, float(np.copysign(np.inf, mean)), 0.0, lags)
    statistic = mean / np.sqrt(variance) * np.sqrt(_allow_for_few(count, horizon))
    return LossTest(mean, float(statistic), float(2 * t.sf(abs(statistic), count - 1)), lags)


def widen(drawn: Interval, test: LossTest, count: int, level: float) -> Interval:
    """An interval of a difference of losses that says no more than the test of it does.

    Of losses with heavy tails the bootstrap may leave 0 out on one side where the test does not.

    Args:
        drawn: by ``bootstrap_mean``.
        test: of the same losses.
        count: how many there are.
        level: of the interval.
    """
    from scipy.stats import t

    if not np.isfinite(test.statistic) or not test.statistic:
        return drawn
    half = float(t.ppf((1 + level) / 2, count - 1)) * abs(test.difference / test.statistic)
    return Interval(
        drawn.value, min(drawn.low, drawn.value - half), max(drawn.high, drawn.value + half)
    )


def _allow_for_few(count: int, horizon: int) -> float:
    """By how much Harvey, Leybourne & Newbold make the square of a statistic smaller."""
    horizon = min(horizon, count)
    return max((count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count, 0.0)


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
    variance = float(np.var(values))
    if count < 3 or not variance > 0:
        return 1.0
    quiet = max(5, int(np.sqrt(np.log10(count))))
    most = min(count - 1, int(np.ceil(np.sqrt(count))) + quiet)
    covariances = compute_autocovariances(values, most)
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
    values: Numbers, overlap: int = 1, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The mean of values that depend on each other, and an interval of it.

    Blocks of random lengths are drawn, which wrap around the end; of more than ``MOST_DRAWN``
    values means of neighbours stand for them. The bounds are quantiles of the means that are drawn,
    further apart where these vary less than ``compute_overlapping_variance`` says, as they do of
    targets that overlap. Source: Politis & Romano (1994), "The stationary bootstrap", JASA 89(428).

    Args:
        values: (n,) in order of time.
        overlap: as of ``compute_overlapping_variance``.
        level: of the interval.
        draws: how many means are drawn.
        seed: of the draws: the same one gives the same interval.
    """
    joined = -(-len(values) // MOST_DRAWN)
    drawn = values[len(values) % joined :].reshape(-1, joined).mean(axis=1)
    count, block = len(drawn), choose_block(drawn)
    rng = np.random.default_rng([OWN_STREAM, seed])
    step = max(1, DRAWN_AT_ONCE // count)
    means = np.concatenate(
        [
            drawn[_draw_places(rng, min(step, draws - done), count, block)].mean(axis=1)
            for done in range(0, draws, step)
        ]
    )
    away = np.quantile(means, [(1 - level) / 2, (1 + level) / 2]) - drawn.mean()
    due = compute_overlapping_variance(values, overlap) / len(values)
    due /= max(_allow_for_few(len(values), overlap), 1 / len(values))
    found = float(np.var(means))
    low, high = values.mean() + away * np.sqrt(max(1.0, due / found if found else 1.0))
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
