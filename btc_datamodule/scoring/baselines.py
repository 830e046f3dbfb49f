"""Baselines: forecasts that cost nothing, which every other one stands beside.

Each is a path of closes that is made of what was known at an origin and of train bars alone; what
the target makes of bars that keep to this path is the forecast. So a target of one's own has
baselines too. A volatility is no function of an expected path: it has baselines of its own.

    no change    the close stays
    mean         the mean of the train targets; of classes the one that train has most often
    ar1          returns are drawn to their mean from where the last one was
    seasonal     each hour of the week has its own mean return
    last         the volatility of the last H bars
    ewma         squared returns, each weighed a little less than the next
    har          volatilities of a day, a week and a month
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.scoring.measures import Numbers

HOUR, WEEK_HOURS = 3600, 168
DAY = 24 * HOUR

DECAY = 0.94
"""Weight of the day before, as of RiskMetrics (1996), Technical Document, 4th edition."""

HORIZONS = (DAY, 7 * DAY, 30 * DAY)
"""Seconds over which ``forecast_har`` looks back: Corsi's day, week and month."""

Origins = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class History:
    """The closes of a regular grid, and which of them train may see.

    Attributes:
        closes: (T,) float64, NaN where no bar is known.
        train: runs of rows.
        first: open time of row 0, epoch seconds.
        interval: seconds of a bar.
    """

    closes: Numbers
    train: Sequence[tuple[int, int]]
    first: int
    interval: int

    @cached_property
    def returns(self) -> Numbers:
        """(T,) log returns, NaN where one of the two closes is not known."""
        found = np.full(len(self.closes), np.nan)
        found[1:] = np.log(self.closes[1:] / self.closes[:-1])
        return found

    @cached_property
    def is_train(self) -> NDArray[np.bool_]:
        """(T,) whether a row and the one before are train's: its return is."""
        inside = np.zeros(len(self.closes), dtype=np.bool_)
        for low, high in self.train:
            inside[low + 1 : high] = True
        return inside

    def keep_train(self) -> "History":
        """The same without any bar that is not train's."""
        closes = np.full(len(self.closes), np.nan)
        for low, high in self.train:
            closes[low:high] = self.closes[low:high]
        return History(closes, self.train, self.first, self.interval)

    @cached_property
    def mean_return(self) -> float:
        """Of train; 0 if it has none."""
        known = self.returns[self.is_train & np.isfinite(self.returns)]
        return float(known.mean()) if len(known) else 0.0

    def count_bars(self, seconds: int) -> int:
        """Bars of a length of time, at least 1."""
        return max(1, round(seconds / self.interval))


def expect_no_change(history: History, origins: Origins, steps: int) -> Numbers:
    """(n, steps) returns of the bars after each origin, if the price stays: 0."""
    return np.zeros((len(origins), steps))


def expect_autoregression(history: History, origins: Origins, steps: int) -> Numbers:
    """(n, steps) returns of an autoregression of one lag, fitted to train by least squares.

    k bars ahead: mean + slope^k * (last return - mean). The mean where the last is not known.
    """
    before, after = history.returns[:-1], history.returns[1:]
    known = history.is_train[:-1] & history.is_train[1:] & np.isfinite(before) & np.isfinite(after)
    before, after = before[known], after[known]
    if len(before) < 3 or not np.ptp(before) > 0:
        return np.full((len(origins), steps), history.mean_return)
    around = before - before.mean()
    slope = float(around @ after / (around @ around))
    slope = float(np.clip(slope, -0.999, 0.999))
    mean = float((after.mean() - slope * before.mean()) / (1 - slope))
    away = np.nan_to_num(history.returns[origins] - mean, nan=0.0)
    return mean + away[:, np.newaxis] * slope ** np.arange(1, steps + 1)


def expect_season(history: History, origins: Origins, steps: int) -> Numbers:
    """(n, steps) returns: for each bar the mean of train in its hour of the week (UTC)."""
    hours = (history.first + history.interval * np.arange(len(history.closes))) // HOUR % WEEK_HOURS
    known = history.is_train & np.isfinite(history.returns)
    counts = np.bincount(hours[known], minlength=WEEK_HOURS)
    sums = np.bincount(hours[known], history.returns[known], minlength=WEEK_HOURS)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), history.mean_return)
    opens = history.first + history.interval * (origins[:, np.newaxis] + np.arange(1, steps + 1))
    found: Numbers = means[opens // HOUR % WEEK_HOURS]
    return found


NO_CHANGE = "no change"

Expect = Callable[[History, Origins, int], Numbers]

EXPECTED: Mapping[str, Expect] = {
    NO_CHANGE: expect_no_change,
    "ar1": expect_autoregression,
    "seasonal": expect_season,
}
"""Baselines that are paths of returns."""


def make_bars(returns: Numbers, closes: Numbers, before: int, columns: int) -> Numbers:
    """Bars whose closes follow a path, and which never leave it, as targets are given them.

    Args:
        returns: (n, H) expected log returns.
        closes: (n, before) closes up to the one that targets are measured from.
        before: ``Target.reference_bars``.
        columns: how many a bar has: each is the close.

    Returns:
        (n, before + H, columns).
    """
    path = closes[:, -1:] * np.exp(np.cumsum(returns, axis=1))
    whole = np.concatenate([closes[:, -before:], path], axis=1)
    return np.repeat(whole[:, :, np.newaxis], columns, axis=2)


def _sum_last(values: Numbers, count: int) -> tuple[Numbers, NDArray[np.int64]]:
    """Sums of the last ``count`` known values up to each row, and of how many these are."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    low = np.maximum(np.arange(len(values)) + 1 - count, 0)
    return sums[1:] - sums[low], counts[1:] - counts[low]


def measure_volatility(history: History, origins: Origins, bars: int, steps: int) -> Numbers:
    """(n,) volatility of ``steps`` bars, as that of the last ``bars`` up to each origin is.

    NaN where none of these is known.
    """
    sums, counts = _sum_last(history.returns**2, bars)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Numbers = np.sqrt(np.maximum(sums, 0.0)[origins] / counts[origins] * steps)
    return found


def forecast_last(history: History, origins: Origins, steps: int) -> Numbers:
    """(n,) the volatility of the last ``steps`` bars."""
    return measure_volatility(history, origins, steps, steps)


def forecast_ewma(history: History, origins: Origins, steps: int) -> Numbers:
    """(n,) volatility by squared returns that lose their weight: 0.94 of it are left a day later.

    What was known before the first origin counts too. NaN before anything is.
    """
    from scipy.signal import lfilter

    decay = DECAY ** (1 / history.count_bars(DAY))
    squares = history.returns[: int(origins.max()) + 1] ** 2
    known = np.isfinite(squares)
    sums, weights = (
        lfilter([1.0], [1.0, -decay], each) for each in (np.where(known, squares, 0.0), known)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Numbers = np.sqrt(sums[origins] / weights[origins] * steps)
    return found


def forecast_har(
    history: History, origins: Origins, steps: int, train: Origins, truth: Numbers
) -> Numbers:
    """(n,) volatility by a regression on those of a day, a week and a month before.

    Source: Corsi (2009), "A simple approximate long-memory model of realized volatility", Journal
    of Financial Econometrics 7(2), of volatilities. No less than the least of train.

    Args:
        history: closes.
        origins: (n,) rows.
        steps: H.
        train: (m,) origins of train.
        truth: (m,) what came of these.
    """

    def look_back(known: History, rows: Origins) -> Numbers:
        parts = [
            measure_volatility(known, rows, max(known.count_bars(length), steps), steps)
            for length in HORIZONS
        ]
        return np.stack([np.ones(len(rows)), *parts], axis=1)

    seen = look_back(history.keep_train(), train)
    known = np.isfinite(seen).all(axis=1) & np.isfinite(truth)
    if known.sum() < 2 * seen.shape[1]:
        return forecast_last(history, origins, steps)
    weights, *_ = np.linalg.lstsq(seen[known], truth[known], rcond=None)
    found: Numbers = np.maximum(look_back(history, origins) @ weights, truth[known].min())
    return found
