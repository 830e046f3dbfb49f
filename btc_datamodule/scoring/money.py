"""Money: what a plain rule would have earned by a forecast, and how far that can be trusted.

The rule holds one unit in the direction of the forecast, from the close that a target is measured
from to the close of its last bar. It is a yardstick and no backtester: it always trades at the
close, at any size, and nothing it does moves the price.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.scoring.measures import Numbers

BLOCKS = 16
"""Parts of time that the probability of backtest overfitting divides and combines."""


class Sharpe(NamedTuple):
    """A Sharpe ratio of returns, of one period: not annualised.

    Attributes:
        ratio: mean over standard deviation; NaN where the returns do not vary.
        error: its standard error.
        skewness: of the returns.
        kurtosis: of the returns: 3 of normal ones.
        periods: how many there are.
    """

    ratio: float
    error: float
    skewness: float
    kurtosis: float
    periods: int


@dataclass(frozen=True, eq=False)
class Run:
    """What a rule earned, period by period.

    Attributes:
        positions: (n,) units held in each period, below 0 where sold short.
        gross: (n,) simple returns before costs.
        cost: paid for one unit bought or sold, as a share of its price.
        follows: (n,) whether a period begins where the one before ends. Where not, what is held is
            given up between the two.
    """

    positions: Numbers
    gross: Numbers
    cost: float
    follows: Mask

    @cached_property
    def traded(self) -> Numbers:
        """(n,) units bought or sold at the beginning of each period, or at its end to hold none."""
        before = np.where(self.follows[1:], self.positions[:-1], 0.0)
        moves: Numbers = np.abs(self.positions - np.concatenate([[0.0], before]))
        moves[-1] += abs(self.positions[-1])
        moves[:-1] += np.where(self.follows[1:], 0.0, np.abs(self.positions[:-1]))
        return moves

    @cached_property
    def net(self) -> Numbers:
        """(n,) simple returns after costs."""
        return self.gross - self.cost * self.traded

    @property
    def turnover(self) -> float:
        """Units bought or sold in a period, on the average."""
        return float(self.traded.mean())


def follow_sign(
    forecast: Numbers, returns: Numbers, cost: float = 0.0, follows: Mask | None = None
) -> Run:
    """Hold one unit in the direction of a forecast; none where it is 0.

    Args:
        forecast: (n,) of the return of each period, in order.
        returns: (n,) log returns of these periods.
        cost: for one unit bought or sold, as a share of its price.
        follows: (n,) as of ``Run``; None where each period begins where the one before ends.
    """
    positions = np.sign(forecast)
    follows = np.ones(len(returns), dtype=np.bool_) if follows is None else follows
    return Run(positions, positions * np.expm1(returns), cost, follows)


def hold(returns: Numbers, cost: float = 0.0) -> Run:
    """Buy one unit and hold it: what every rule stands beside.

    Args:
        returns: (n,) log returns from the beginning of each period to that of the next.
        cost: as of ``follow_sign``.
    """
    return follow_sign(np.ones_like(returns), returns, cost)


def compute_total(returns: Numbers) -> float:
    """What simple returns come to when all of it is put in again each period; -1 is everything.

    Who has lost everything, as a short position can in one period, has nothing to put in again.
    """
    return float(np.prod(np.maximum(1 + returns, 0.0)) - 1)


def compute_drawdown(returns: Numbers) -> float:
    """The largest fall from a peak, as a share of that: 0 for none, 1 for everything."""
    worth = np.cumprod(np.maximum(1 + returns, 0.0))
    peak = np.maximum.accumulate(np.maximum(worth, 1.0))
    return float(np.max(1 - worth / peak, initial=0.0))


def compute_sharpe(returns: Numbers) -> Sharpe:
    """The Sharpe ratio of a period, and its standard error for returns that are not normal.

    Sources: Mertens (2002), "Comments on variance of the IID estimator in Lo (2002)"; Bailey &
    López de Prado (2012), "The Sharpe ratio efficient frontier", Journal of Risk 15(2).
    """
    count = len(returns)
    around = returns - returns.mean()
    deviation = float(np.std(returns, ddof=1)) if np.ptp(returns) > 0 else 0.0
    if not deviation > 0:
        nothing = float("nan")
        return Sharpe(nothing, nothing, nothing, nothing, count)
    scaled = around / np.sqrt(np.mean(around**2))
    skewness, kurtosis = float(np.mean(scaled**3)), float(np.mean(scaled**4))
    ratio = float(returns.mean()) / deviation
    return Sharpe(ratio, _find_error(ratio, skewness, kurtosis, count), skewness, kurtosis, count)


def _find_error(ratio: float, skewness: float, kurtosis: float, periods: int) -> float:
    spread = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2
    return float(np.sqrt(max(spread, 0.0) / (periods - 1)))


def compute_probabilistic_sharpe(sharpe: Sharpe, benchmark: float = 0.0) -> float:
    """The probability that the true Sharpe ratio is above a benchmark, both of one period.

    Source: Bailey & López de Prado (2012), as of ``compute_sharpe``.
    """
    from scipy.stats import norm

    return float(norm.cdf((sharpe.ratio - benchmark) / sharpe.error))


def find_luckiest(trials: int, variance: float) -> float:
    """The Sharpe ratio that the best of some trials without any skill has, on the average.

    Source: Bailey & López de Prado (2014), "The deflated Sharpe ratio: correcting for selection
    bias, backtest overfitting and non-normality", Journal of Portfolio Management 40(5).

    Args:
        trials: how many rules, models or settings were tried, independent of each other.
        variance: of the Sharpe ratios over the trials.
    """
    from scipy.stats import norm

    if trials < 2:
        return 0.0
    one, other = norm.ppf([1 - 1 / trials, 1 - 1 / (trials * np.e)])
    return float(np.sqrt(variance) * ((1 - np.euler_gamma) * one + np.euler_gamma * other))


def compute_deflated_sharpe(sharpe: Sharpe, trials: int, variance: float | None = None) -> float:
    """The probability that the true Sharpe ratio is above what luck gives the best of the trials.

    Args:
        sharpe: of the one that was chosen.
        trials: as of ``find_luckiest``.
        variance: of the Sharpe ratios over the trials; by default that which the ratio of one has
            by chance alone, its standard error squared.
    """
    variance = sharpe.error**2 if variance is None else variance
    return compute_probabilistic_sharpe(sharpe, find_luckiest(trials, variance))


def compute_overfitting(returns: Numbers, blocks: int = BLOCKS) -> float:
    """The probability that who is best in one half of time is below the median in the other.

    Combinatorially symmetric cross-validation. Source: Bailey, Borwein, López de Prado & Zhu
    (2017), "The probability of backtest overfitting", Journal of Computational Finance 20(4).

    Args:
        returns: (T, N) of N models, paths or settings, in the same periods.
        blocks: even: time is cut into so many equal parts, and half of these stand against the
            others in every way.

    Returns:
        0.5 where nobody has any skill; near 0 where the best one is better for a reason.

    Raises:
        ValueError: if a block has no more than one period.
    """
    if len(returns) < 2 * blocks:
        raise ValueError(f"{len(returns)} periods make no {blocks} blocks")
    length = len(returns) // blocks
    parts = returns[: length * blocks].reshape(blocks, length, -1)
    count, sums, squares = length * blocks / 2, parts.sum(axis=1), (parts**2).sum(axis=1)
    halves = np.array([*combinations(range(blocks), blocks // 2)])
    chosen = _compute_ratios(sums[halves].sum(axis=1), squares[halves].sum(axis=1), count)
    # The halves are listed so that each one's other half has its place from the end.
    others = chosen[::-1]
    best = chosen.argmax(axis=1)
    theirs = np.take_along_axis(others, best[:, np.newaxis], axis=1)
    worse, same = (others < theirs).sum(axis=1), (others == theirs).sum(axis=1)
    rank = (worse + (same + 1) / 2) / (others.shape[1] + 1)
    return float(np.mean(np.where(rank < 0.5, 1.0, np.where(rank == 0.5, 0.5, 0.0))))


def _compute_ratios(sums: Numbers, squares: Numbers, count: float) -> NDArray[np.float64]:
    """Sharpe ratios of sums and sums of squares; 0 where nothing varies."""
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return np.divide(mean, deviation, out=np.zeros_like(mean), where=deviation > 0)
