"""Which baselines stand beside the forecasts of a target, made for the very same samples."""

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.evaluation.targets import to_numbers
from btc_datamodule.scoring.baselines import (
    EXPECTED,
    History,
    Origins,
    forecast_ewma,
    forecast_har,
    forecast_last,
    make_bars,
)
from btc_datamodule.scoring.kinds import count_classes, find_kind, to_classes
from btc_datamodule.scoring.measures import Numbers
from btc_datamodule.scoring.samples import Samples, list_samples, make_history

MEAN = "mean"
"""The baseline that every kind of target has."""


def forecast_baselines(samples: Samples) -> dict[str, Numbers]:
    """What each baseline says of some samples: (n, *target shape) of each, by its name.

    Where one knows nothing yet, as before the first return, it says the mean of train.
    """
    settings, history = samples.stages.settings, make_history(samples.stages)
    target, train = settings.target, list_samples(samples.stages, "train")
    mean = find_mean(samples, train)
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
    else:
        found |= {name: _follow_path(samples, history, name) for name in EXPECTED}
    return {name: np.where(np.isfinite(each), each, mean) for name, each in found.items()}


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


def _follow_path(samples: Samples, history: History, name: str) -> Numbers:
    """What the target makes of bars that keep to the path of a baseline."""
    settings = samples.stages.settings
    shape, target = settings.shape, settings.target
    returns = EXPECTED[name](history, samples.rows, shape.gap + shape.horizon)
    closes = _pick_last(history, samples.rows, shape.reference_bars)
    bars = make_bars(returns, closes, shape.reference_bars, len(target.columns))
    made = to_numbers(np.asarray(target(bars[:, -(shape.reference_bars + shape.horizon) :])))
    return made.reshape(samples.truth.shape)


def _pick_last(history: History, rows: Origins, count: int) -> Numbers:
    """(n, count) the last closes up to each row; NaN before the first one."""
    at: NDArray[np.int64] = rows[:, np.newaxis] - np.arange(count)[::-1]
    return np.where(at >= 0, history.closes[np.maximum(at, 0)], np.nan)
