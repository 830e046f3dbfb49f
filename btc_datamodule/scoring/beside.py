"""Which baselines stand beside the forecasts of a target, made for the very same samples."""

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import PRICES
from btc_datamodule.evaluation.targets import to_numbers
from btc_datamodule.scoring.baselines import (
    EXPECTED,
    NO_CHANGE,
    History,
    Origins,
    forecast_ewma,
    forecast_har,
    forecast_last,
    make_bars,
)
from btc_datamodule.scoring.kinds import count_classes, find_kind, to_classes
from btc_datamodule.scoring.measures import Numbers
from btc_datamodule.scoring.samples import Samples, make_history
from btc_datamodule.scoring.spreads import Manner

MEAN = "mean"
"""The baseline that every kind of target has."""

HOLD = "buy and hold"

RESERVED = frozenset({MEAN, *EXPECTED, "last", "ewma", "har", "train", HOLD})
"""Names of baselines, which no forecast can have."""

PATH_NUMBERS = 1 << 23
"""Numbers of paths that are made at once: 64 MiB."""


LEAST_RATIOS = 30
"""Train samples below which the baseline ``ewma`` of distributions is that of train."""


def forecast_baselines(samples: Samples, train: Samples) -> dict[str, Numbers]:
    """What each baseline says of some samples: (n, *target shape) of each, by its name.

    Where one knows nothing yet, as before the first return, it says the mean of train.
    """
    settings, history = samples.stages.settings, make_history(samples.stages)
    target, mean = settings.target, find_mean(samples, train)
    found = {MEAN: np.broadcast_to(mean, samples.truth.shape)}
    if find_kind(target) == "volatility":
        steps, rows = settings.shape.horizon, samples.rows
        truth = train.truth[:, 0]
        made = {
            "last": forecast_last(history, rows, steps),
            "ewma": forecast_ewma(history, rows, steps),
            "har": forecast_har(history, rows, steps, train.rows, truth),
        }
        found |= {name: each[:, np.newaxis] for name, each in made.items()}
    elif {*target.columns} <= {*PRICES}:
        found |= {name: _follow_path(samples, history, name) for name in EXPECTED}
    return {
        name: each if np.isfinite(each).all() else np.where(np.isfinite(each), each, mean)
        for name, each in found.items()
    }


def forecast_spreads(samples: Samples, train: Samples, manner: Manner) -> dict[str, Numbers]:
    """What each baseline says of the distribution: (n, *target shape, q) of each, by its name.

    ``train`` has the quantiles of the train targets. ``ewma`` has those of train targets over the
    volatility before each, times the volatility before the sample. Source: Hull & White (1998),
    "Incorporating volatility updating into the historical simulation method for value at risk",
    Journal of Risk 1(1).
    """
    history, steps = make_history(samples.stages), samples.stages.settings.shape.horizon
    shape = (*samples.truth.shape, len(manner.base_levels))
    plain = np.broadcast_to(_find_quantiles(train.truth, manner), shape)
    before = forecast_ewma(history.keep_train(), train.rows, steps)
    known = np.isfinite(before) & (before > 0)
    if known.sum() < LEAST_RATIOS:
        return {"train": plain, "ewma": plain}
    axes = (-1, *[1] * (train.truth.ndim - 1))
    ratios = _find_quantiles(train.truth[known] / before[known].reshape(axes), manner)
    now = forecast_ewma(history, samples.rows, steps)[(..., *[np.newaxis] * len(ratios.shape))]
    return {"train": plain, "ewma": np.where(np.isfinite(now), now * ratios, plain)}


def _find_quantiles(values: Numbers, manner: Manner) -> Numbers:
    """(..., q) quantiles of (m, ...) values."""
    found: Numbers = np.moveaxis(np.quantile(values, manner.base_levels, axis=0), 0, -1)
    return found


def find_mean(samples: Samples, train: Samples) -> Numbers:
    """(*target shape) the mean of the train targets; of classes and labels the most frequent."""
    target = samples.stages.settings.target
    if find_kind(target) != "classes":
        mean: Numbers = train.truth.mean(axis=0)
        return mean
    counts = np.bincount(to_classes(target, train.truth), minlength=count_classes(target))
    most = int(counts.argmax())
    shape = samples.stages.settings.target_shape
    return np.full(shape, float(most if target.n_classes else most - 1))


def measure_no_change(samples: Samples, train: Samples) -> float:
    """Mean absolute error in train of the forecast that the close stays; NaN where there is none.

    Args:
        samples: of which it is asked first whether the forecast is 0, as of returns.
        train: all of train.
    """
    target = samples.stages.settings.target
    if find_kind(target) != "value" or not {*target.columns} <= {*PRICES}:
        return float("nan")
    history = make_history(samples.stages)
    if not np.any(_follow_path(samples, history, NO_CHANGE)):
        return float(np.mean(np.abs(train.truth)))
    stays = _follow_path(train, history, NO_CHANGE)
    return float(np.mean(np.abs(train.truth - stays)))


def _follow_path(samples: Samples, history: History, name: str) -> Numbers:
    """What the target makes of bars that keep to the path of a baseline, so many at a time."""
    settings = samples.stages.settings
    shape, target = settings.shape, settings.target
    made = np.empty(samples.truth.shape)
    count = max(1, PATH_NUMBERS // (len(target.columns) * (shape.reference_bars + shape.horizon)))
    for low in range(0, len(samples), count):
        rows = samples.rows[low : low + count]
        returns = EXPECTED[name](history, rows, shape.gap + shape.horizon)
        closes = _pick_last(history, rows, shape.reference_bars)
        bars = make_bars(returns, closes, shape.reference_bars, len(target.columns))
        bars = bars[:, -(shape.reference_bars + shape.horizon) :]
        with np.errstate(all="ignore"):  # of a path that never moves many things are not defined
            numbers = to_numbers(np.asarray(target(bars)))
        made[low : low + count] = numbers.reshape(-1, *made.shape[1:])
    return made


def _pick_last(history: History, rows: Origins, count: int) -> Numbers:
    """(n, count) the last closes up to each row; NaN before the first one."""
    at: NDArray[np.int64] = rows[:, np.newaxis] - np.arange(count)[::-1]
    return np.where(at >= 0, history.closes[np.maximum(at, 0)], np.nan)
