"""Kinds of targets: which measures fit one, and which loss two forecasts of it are compared by.

value       numbers: errors, and whether the sign is right
volatility  numbers above 0: errors, and QLIKE, by which they are compared
classes     names: how often the right one was said
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.evaluation.targets import (
    CumulativeReturn,
    LogReturn,
    OHLCPath,
    RealisedVolatility,
    Target,
)
from btc_datamodule.scoring.measures import (
    Confusion,
    Interval,
    Numbers,
    compute_mae,
    compute_mase,
    compute_qlike,
    compute_r2,
    compute_rmse,
)
from btc_datamodule.scoring.significance import compute_share

Kind = Literal["value", "volatility", "classes"]

LEAST_VOLATILITY = 1e-12
"""A forecast below it is taken for it: of a volatility of nothing no loss can be told."""

Measured = Mapping[str, float | Interval]


@dataclass(frozen=True, eq=False)
class Reference:
    """What measures of values stand against, from train.

    Attributes:
        mean: (n, *target shape) of the train targets, for each sample that of its fold.
        close: (n,) from which targets are measured.
        scale: (n,) mean absolute error of no change in train, for each sample that of its fold;
            NaN where there is none.
        overlap: of how many samples in order the targets overlap, 1 for none.
        level: of intervals.
    """

    mean: Numbers
    close: Numbers
    scale: Numbers
    overlap: int = 1
    level: float = 0.95


def find_kind(target: Target) -> Kind:
    """The kind of a target."""
    if target.is_label:
        return "classes"
    return "volatility" if isinstance(target, RealisedVolatility) else "value"


def to_classes(target: Target, values: Numbers) -> NDArray[np.int64]:
    """Whole numbers from 0 on of what a target of classes or labels is, or a forecast of it.

    Args:
        target: of classes, or of labels -1, 0 and 1.
        values: (n,) or (n, 1) classes or labels, or numbers whose sign is the label; or (n, C)
            scores, of which the largest says the class.
    """
    classes = target.n_classes
    if classes is not None:
        whole = values.argmax(axis=1) if values.ndim == 2 and values.shape[1] > 1 else values
        return whole.reshape(len(values)).astype(np.int64)
    return np.sign(values).reshape(len(values)).astype(np.int64) + 1


def count_classes(target: Target) -> int:
    """How many classes ``to_classes`` gives."""
    return target.n_classes or 3


def compute_losses(target: Target, truth: Numbers, forecast: Numbers) -> Numbers:
    """(n,) losses by which forecasts are compared: squared errors, QLIKE, or 1 for a wrong class.

    Of targets of several numbers the mean.
    """
    match find_kind(target):
        case "classes":
            wrong: Mask = to_classes(target, truth) != to_classes(target, forecast)
            return wrong.astype(np.float64)
        case "volatility":
            ratio = (truth / np.maximum(forecast, LEAST_VOLATILITY)) ** 2
            losses: Numbers = ratio - np.log(ratio) - 1
        case _:
            losses = (truth - forecast) ** 2
    of_samples: Numbers = losses.reshape(len(losses), -1).mean(axis=1)
    return of_samples


def measure(target: Target, truth: Numbers, forecast: Numbers, reference: Reference) -> Measured:
    """All measures that fit a target.

    Args:
        target: what was forecast.
        truth: (n, *target shape) what came.
        forecast: of the same shape, or scores of classes (n, C).
        reference: of train.
    """
    made: dict[Kind, Callable[[], Measured]] = {
        "classes": lambda: _measure_classes(target, truth, forecast, reference),
        "volatility": lambda: {
            **_measure_errors(truth, forecast, reference),
            "qlike": compute_qlike(truth, np.maximum(forecast, LEAST_VOLATILITY)),
        },
        "value": lambda: {
            **_measure_errors(truth, forecast, reference),
            **_measure_prices(target, truth, forecast, reference),
            **_measure_signs(
                find_moves(target, truth, reference.close),
                find_moves(target, forecast, reference.close),
                reference,
            ),
        },
    }
    return made[find_kind(target)]()


def _measure_errors(truth: Numbers, forecast: Numbers, reference: Reference) -> Measured:
    found: dict[str, float] = {
        "mae": compute_mae(truth, forecast),
        "rmse": compute_rmse(truth, forecast),
        "r2": compute_r2(truth, forecast, reference.mean),
    }
    if np.isfinite(reference.scale).all():
        found["mase"] = compute_mase(truth, forecast, reference.scale)
    return found


def _measure_prices(
    target: Target, truth: Numbers, forecast: Numbers, reference: Reference
) -> Measured:
    """Errors in the quote currency, where a target tells prices."""
    if type(target).prices is Target.prices:
        return {}
    with np.errstate(over="ignore"):  # of forecasts that are no log returns: infinite, and told so
        came, said = (target.prices(each, reference.close) for each in (truth, forecast))
        return {"price_mae": compute_mae(came, said), "price_rmse": compute_rmse(came, said)}


def _measure_classes(
    target: Target, truth: Numbers, forecast: Numbers, reference: Reference
) -> Measured:
    came, said = to_classes(target, truth), to_classes(target, forecast)
    found = _measure_confusion(Confusion(came, said, count_classes(target)))
    hits = (came == said).astype(np.float64)
    accuracy = compute_share(hits, np.ones_like(hits), reference.overlap, reference.level)
    return {"accuracy": accuracy, **found}


def find_moves(target: Target, values: Numbers, close: Numbers) -> Numbers:
    """Numbers whose sign says whether the price rises or falls, of values of a target.

    Of whole bars those of the closes alone: on which side of the last close a high lies is no news.
    Of a target of one's own that tells prices the way from the close to each of these.

    Args:
        target: of a value.
        values: (n, *target shape).
        close: (n,) from which targets are measured.
    """
    if isinstance(target, OHLCPath):
        return values[..., -1:]
    if isinstance(target, LogReturn | CumulativeReturn) or type(target).prices is Target.prices:
        return values
    with np.errstate(all="ignore"):
        prices = np.asarray(target.prices(values, close), dtype=np.float64)
        moves: Numbers = np.log(prices / close.reshape(-1, *[1] * (prices.ndim - 1)))
    return moves


def _measure_signs(truth: Numbers, forecast: Numbers, reference: Reference) -> Measured:
    """How often the sign of a value was said, of those that are not 0.

    None where none was said, or came: of a volume, say, the sign is no news.
    """
    moved = (truth != 0) & (forecast != 0) & np.isfinite(truth) & np.isfinite(forecast)
    if not moved.any() or not (truth < 0).any():
        return {}
    came, said = truth > 0, forecast > 0
    confusion = Confusion(came[moved].astype(np.int64), said[moved].astype(np.int64), 2)
    hits, trials = (
        each.reshape(len(truth), -1).sum(axis=1, dtype=np.float64)
        for each in (moved & (came == said), moved)
    )
    accuracy = compute_share(hits, trials, reference.overlap, reference.level)
    return {"accuracy": accuracy, **_measure_confusion(confusion)}


def _measure_confusion(confusion: Confusion) -> Measured:
    return {
        "balanced_accuracy": confusion.compute_balanced_accuracy(),
        "mcc": confusion.compute_mcc(),
    }
