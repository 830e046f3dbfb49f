"""``ForecastView``: forecasts beside what came and beside the best baseline, over time."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.scoring.kinds import Kind, find_kind, to_classes
from btc_datamodule.scoring.score import Score

Numbers = NDArray[np.float64]

HIT_WINDOWS = 40
"""Parts of all samples: over how many of them hits are averaged."""


@dataclass(frozen=True, eq=False)
class ForecastView:
    """Forecasts of the samples of a score, in order of time.

    Attributes:
        kind: of the target; of ``classes`` there are hits in place of values.
        target: its name.
        times: (n,) epoch seconds, of the origins.
        truth: (n,) the last value of each target, such as that of the last bar; of classes none.
        values: (n,) of each forecast and of the best baseline, by name: likewise; of classes the
            share that was right of as many samples before as ``window`` says.
        lead: (n,) of each forecast, by name: its losses less those of the best baseline, summed up
            to here; below 0 it does better.
        best: name of the best baseline.
        window: samples over which hits are averaged, 1 of values.
    """

    kind: Kind
    target: str
    times: NDArray[np.int64]
    truth: Numbers | None
    values: Mapping[str, Numbers]
    lead: Mapping[str, Numbers]
    best: str
    window: int = 1


def view_forecasts(score: Score) -> ForecastView:
    """What there is to see of a score."""
    count = len(score.truth)
    kind = find_kind(score.target)
    given = {**score.forecasts, score.best: score.baselines[score.best]}
    theirs = score.losses[score.best]
    truth, window = None, 1
    if kind == "classes":
        window = max(1, count // HIT_WINDOWS)
        values = {name: _average(_find_hits(score, each), window) for name, each in given.items()}
    else:
        truth = _take_last(score.truth)
        values = {name: _take_last(each) for name, each in given.items()}
    return ForecastView(
        kind=kind,
        target=type(score.target).__name__,
        times=score.origin_time,
        truth=truth,
        values=values,
        lead={name: np.cumsum(score.losses[name] - theirs) for name in score.forecasts},
        best=score.best,
        window=window,
    )


def _take_last(values: Numbers) -> Numbers:
    return values.reshape(len(values), -1)[:, -1]


def _find_hits(score: Score, forecast: Numbers) -> Numbers:
    """(n,) 1 where the class was right."""
    truth = to_classes(score.target, score.truth).reshape(len(forecast))
    said = to_classes(score.target, forecast).reshape(len(forecast))
    hits: Numbers = np.equal(said, truth).astype(np.float64)
    return hits


def _average(values: Numbers, window: int) -> Numbers:
    """The mean of each value and those before it, ``window`` of them or as many as there are."""
    summed = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    mean: Numbers = (summed[ends] - summed[starts]) / (ends - starts)
    return mean
