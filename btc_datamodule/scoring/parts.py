"""Parts: the samples of a fold, what forecasts and baselines say of them, what is left out."""

import re
from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_instant, format_span, parse_instant
from btc_datamodule.checks import list_first
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.scoring.beside import (
    RESERVED,
    forecast_baselines,
    forecast_spreads,
    measure_no_change,
)
from btc_datamodule.scoring.forecast_files import TIME, Forecasts, Shape
from btc_datamodule.scoring.kinds import LEAST_VOLATILITY, find_kind
from btc_datamodule.scoring.measures import Numbers
from btc_datamodule.scoring.samples import Samples, find_samples, list_train, mark_known
from btc_datamodule.scoring.spreads import Manner, find_median
from btc_datamodule.stages import Stages


class Part(NamedTuple):
    """The samples of one fold, and all that is said of them.

    Attributes:
        fold: its number.
        samples: what came.
        forecasts: (n, ...) of each, in the unit of the target, by name.
        baselines: (n, *target shape) of each, by name.
        scale: mean absolute error of no change in train; NaN where there is none.
        spreads: (n, *target shape, q) of each forecast that tells a distribution, by name.
        spread_baselines: likewise of baselines.
    """

    fold: int
    samples: Samples
    forecasts: Mapping[str, Numbers]
    baselines: Mapping[str, Numbers]
    scale: float
    spreads: Mapping[str, Numbers]
    spread_baselines: Mapping[str, Numbers]


def list_shapes(stages: Stages) -> list[Shape]:
    """The shapes that the forecast of a sample may have, those with more axes first."""
    shape, classes = stages.settings.target_shape, stages.settings.n_classes
    if classes is not None:
        return [(*shape, classes), (*shape, 1), shape]
    size = int(np.prod(shape))
    flat: list[Shape] = [(size,)] if len(shape) > 1 else []
    return [shape, *flat, *([()] if size == 1 else [])]


def make_part(
    fold: int,
    stages: Stages,
    stage: Stage,
    given: Mapping[str, Forecasts],
    manner: Manner | None = None,
) -> tuple[Part, list[str]]:
    """The samples of one fold that all forecasts are of, and notes on what is left out.

    Args:
        fold: its number.
        stages: of the fold.
        stage: which is scored.
        given: forecasts by name, scaled as ``Batch.y`` is.
        manner: how those that tell distributions do so.

    Raises:
        ConfigError: if none of them is of an origin of this stage, or a number.
    """
    times = reduce(np.intersect1d, [each.origin_time for each in given.values()])
    notes = [
        f"{name}: forecasts of fold {fold} of origins that others lack: "
        f"{len(each.origin_time) - len(times):,}"
        for name, each in given.items()
        if len(each.origin_time) > len(times)
    ]
    notes += _tell_columns(given)
    samples, inside = find_samples(stages, stage, times)
    outside = int((~inside).sum())
    if not len(samples):
        raise _explain_none(fold, stages, stage, given, times)
    if outside:
        notes.append(f"forecasts of fold {fold} without a target known in {stage}: {outside:,}")
    forecasts, spreads = _gather(stages, samples, given, manner)
    known = np.all([mark_known(each) for each in (*forecasts.values(), *spreads.values())], axis=0)
    if not known.all():
        notes.append(f"forecasts of fold {fold} that are no numbers: {int((~known).sum()):,}")
    if find_kind(stages.settings.target) == "volatility":
        moved = np.all(samples.truth > 0, axis=tuple(range(1, samples.truth.ndim)))
        if not moved[known].all():
            notes.append(
                f"samples of fold {fold} left out, as nothing moved in them and QLIKE can tell "
                f"nothing of a volatility of 0: {int((~moved[known]).sum()):,}"
            )
        known &= moved
    if not known.any():
        raise ConfigError(
            f"of {len(samples):,} forecasts of {stage} of fold {fold} none is a number that can be "
            f"scored: {'; '.join(notes)}"
        )
    samples = Samples(stages, stage, samples.rows[known], samples.truth[known])
    forecasts = {label: each[known] for label, each in forecasts.items()}
    _check_classes(stages, forecasts)
    notes += _tell_low(stages, forecasts)
    spreads = {label: each[known] for label, each in spreads.items()}
    notes += _tell_crossing(spreads, manner)
    train = list_train(stages)
    part = Part(
        fold,
        samples,
        forecasts,
        forecast_baselines(samples, train),
        measure_no_change(samples, train),
        spreads,
        forecast_spreads(samples, train, manner) if spreads and manner else {},
    )
    return part, notes


def _explain_none(
    fold: int,
    stages: Stages,
    stage: Stage,
    given: Mapping[str, Forecasts],
    times: NDArray[np.int64],
) -> ConfigError:
    """What is wrong where no forecast is of a sample of the stage."""
    by = list_first([*given])
    if not len(times):
        several = "that all have " if len(given) > 1 else ""
        return ConfigError(f"there are no forecasts {several}of fold {fold} by {by}")
    try:
        parse_instant(int(times[0]), TIME)  # which knows other units
    except ConfigError as error:
        return error
    ends = f"{format_instant(int(times[0]))} to {format_instant(int(times[-1]))}"
    spans = list_first([*map(format_span, stages.fold.spans(stage))], 2)
    return ConfigError(
        f"none of {len(times):,} forecasts by {by}, of origins from {ends}, has a target that is "
        f"known in {stage} of fold {fold} ({spans or 'which has no time'}): name the stage and the "
        "fold that they are of"
    )


def _gather(
    stages: Stages, samples: Samples, given: Mapping[str, Forecasts], manner: Manner | None
) -> tuple[dict[str, Numbers], dict[str, Numbers]]:
    """Forecasts of some samples, and distributions, by a label each, in the unit of the target."""
    forecasts, spreads = dict[str, Numbers](), dict[str, Numbers]()
    for name, each in given.items():
        chosen = np.searchsorted(each.origin_time, samples.origin_time)
        several = len(each.values) + len(each.spreads) > 1
        for prediction, values in each.values.items():
            label = _label(name, prediction, several=several, known=forecasts)
            forecasts[label] = _unscale(stages, values[chosen])
        for prediction, values in each.spreads.items():
            label = _label(name, prediction, several=several, known=forecasts)
            spreads[label] = _unscale_spread(stages, values[chosen])
            assert manner is not None
            forecasts[label] = find_median(spreads[label], manner)
    return forecasts, spreads


def _label(name: str, prediction: str, *, several: bool, known: Mapping[str, Numbers]) -> str:
    """What a forecast is called: by the name that it was given, and its own if there are several.

    Raises:
        ConfigError: if a baseline, or another forecast, is called so.
    """
    label = f"{name}:{prediction}" if several else name
    if label in RESERVED or label in known:
        whose = "a baseline" if label in RESERVED else "another forecast, too"
        raise ConfigError(
            f"{label!r} is the name of {whose}: give these forecasts one of their own, such as "
            f"`my_{name}=FILE`, or {{'my_{name}': ...}} in Python"
        )
    return label


def _unscale(stages: Stages, values: Numbers) -> Numbers:
    """Forecasts in the shape and unit of the target; scores of classes as they are."""
    shape = stages.settings.target_shape
    if values[0].size != int(np.prod(shape)):
        return values
    return _invert(stages, values.reshape(len(values), *shape))


def _unscale_spread(stages: Stages, values: Numbers) -> Numbers:
    """(n, *target shape, q) distributions in the unit of the target."""
    shape = (len(values), *stages.settings.target_shape)
    parts = [
        _invert(stages, np.ascontiguousarray(values[..., at]).reshape(shape))
        for at in range(values.shape[-1])
    ]
    return np.stack(parts, axis=-1)


def _invert(stages: Stages, values: Numbers) -> Numbers:
    """Forecasts in the unit of the target; 0 where they are so but for what rounding leaves.

    A forecast of nothing is scaled to a number of float32, whose rounding has a sign.
    """
    found: Numbers = stages.inverse_transform(values)
    if stages.settings.target_scaling == "none" or stages.settings.target.is_label:
        return found
    rounding = 2 * np.finfo(np.float32).eps * np.abs(stages.fitted.target_scaler.center)
    return np.where(np.abs(found) <= rounding, 0.0, found)


def _check_classes(stages: Stages, forecasts: Mapping[str, Numbers]) -> None:
    """Raise ``ConfigError`` if a forecast names a class that there is not."""
    classes = stages.settings.n_classes
    if classes is None:
        return
    for label, values in forecasts.items():
        flat = values.reshape(len(values), -1)
        if flat.shape[1] == 1:
            odd = flat[(flat != np.floor(flat)) | (flat < 0) | (flat >= classes)]
            if len(odd):
                raise ConfigError(
                    f"{label} names the class {odd[0]:g}: give whole numbers from 0 to "
                    f"{classes - 1}, or (n, {classes}) scores of all classes"
                )


def _tell_low(stages: Stages, forecasts: Mapping[str, Numbers]) -> list[str]:
    """How many forecasts of a volatility are 0 or less."""
    if find_kind(stages.settings.target) != "volatility":
        return []
    counts = {label: int((values <= 0).sum()) for label, values in forecasts.items()}
    return [
        f"{label}: {count:,} forecasts of a volatility are 0 or less, which QLIKE takes for "
        f"{LEAST_VOLATILITY:g}"
        for label, count in counts.items()
        if count
    ]


def _tell_columns(given: Mapping[str, Forecasts]) -> list[str]:
    """Which columns of forecasts are scored beside each other, and which are not at all."""
    notes = []
    for name, each in given.items():
        if len(each.values) + len(each.spreads) > 1:
            held = [*each.spreads, *each.values]
            told = f"{name} has several forecasts, and each is scored: {list_first(held)}"
            if len({re.sub(r"_\d+$", "", each) for each in held}) == 1:
                told += " (if they are quantiles or draws of one, say `quantiles` or `draws`)"
            notes.append(told)
        if each.unused:
            notes.append(f"{name} has columns that are no forecast: {list_first(each.unused)}")
    return notes


def _tell_crossing(spreads: Mapping[str, Numbers], manner: Manner | None) -> list[str]:
    """In how many samples a quantile lies above one of a higher level."""
    if manner is None or not manner.levels:
        return []
    notes = []
    for label, values in spreads.items():
        crossing = (np.diff(values, axis=-1) < 0).reshape(len(values), -1).any(axis=1)
        if crossing.any():
            notes.append(f"{label}: quantiles of {int(crossing.sum()):,} samples cross each other")
    return notes
