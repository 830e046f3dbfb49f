"""``Score``: forecasts held against what came, with the baselines of the very same samples.

Gathers the samples of all folds, lets every forecast and every baseline be measured alike, and
tests each against the best baseline. Nothing is a headline without a baseline, an interval and, of
money, a cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_span
from btc_datamodule.checks import list_first
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.evaluation.targets import Target
from btc_datamodule.scoring.beside import MEAN, forecast_baselines
from btc_datamodule.scoring.forecast_files import Forecasts, Shape, read_forecasts
from btc_datamodule.scoring.kinds import (
    Measured,
    Reference,
    compute_losses,
    find_kind,
    measure,
)
from btc_datamodule.scoring.measures import Interval, Numbers
from btc_datamodule.scoring.samples import Samples, find_samples, list_samples, mark_known
from btc_datamodule.scoring.significance import LossTest, bootstrap_mean, compare_losses
from btc_datamodule.stages import Stages

if TYPE_CHECKING:
    import polars as pl

LEAST = 10
"""Samples below which nothing is tested."""


class Part(NamedTuple):
    """The samples of one fold, and all that is said of them.

    Attributes:
        fold: its number.
        samples: what came.
        forecasts: (n, ...) of each, in the unit of the target, by name.
        baselines: (n, *target shape) of each, by name.
        scale: mean absolute train target.
    """

    fold: int
    samples: Samples
    forecasts: Mapping[str, Numbers]
    baselines: Mapping[str, Numbers]
    scale: float


class Verdict(NamedTuple):
    """How a forecast does against the best baseline.

    Attributes:
        baseline: its name: that with the least mean loss.
        test: of Diebold and Mariano, on losses of the forecast and of the baseline.
        difference: mean of the losses of the forecast less those of the baseline.
    """

    baseline: str
    test: LossTest
    difference: Interval

    @property
    def is_better(self) -> bool:
        """Whether the whole interval says that the forecast has the smaller loss."""
        return self.difference.high < 0


@dataclass(frozen=True, eq=False)
class Score:
    """Forecasts, measured.

    Attributes:
        target: what was forecast.
        stage: of which stage.
        parts: by fold.
        notes: what was left out, one sentence each.
        level: of all intervals.
        seed: of the bootstrap.
    """

    target: Target
    stage: Stage
    parts: tuple[Part, ...]
    notes: tuple[str, ...]
    level: float = 0.95
    seed: int = 0

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Numbers of all samples in order of time."""
        times = np.concatenate([each.samples.origin_time for each in self.parts])
        return np.argsort(times, kind="stable")

    @cached_property
    def origin_time(self) -> NDArray[np.int64]:
        """(n,) epoch seconds, in order."""
        times: NDArray[np.int64] = self._sort([each.samples.origin_time for each in self.parts])
        return times

    @cached_property
    def fold(self) -> NDArray[np.int64]:
        """(n,) to which fold each belongs."""
        return self._sort([np.full(len(each.samples), each.fold) for each in self.parts])

    @cached_property
    def truth(self) -> Numbers:
        """(n, *target shape) what came."""
        return self._sort([each.samples.truth for each in self.parts])

    @cached_property
    def forecasts(self) -> dict[str, Numbers]:
        """(n, ...) of each forecast, by name."""
        return {
            name: self._sort([each.forecasts[name] for each in self.parts])
            for name in self.parts[0].forecasts
        }

    @cached_property
    def baselines(self) -> dict[str, Numbers]:
        """(n, *target shape) of each baseline, by name."""
        return {
            name: self._sort([each.baselines[name] for each in self.parts])
            for name in self.parts[0].baselines
        }

    @cached_property
    def returns(self) -> Numbers:
        """(n,) log returns from the close that targets are measured from to the last target bar."""
        return self._sort([each.samples.returns for each in self.parts])

    @cached_property
    def reference(self) -> Numbers:
        """(n,) closes right before the first target bars, from which targets are measured."""
        return self._sort([each.samples.reference for each in self.parts])

    @property
    def horizon_seconds(self) -> int:
        """Seconds from the first target bar to the end of the last."""
        settings = self.parts[0].samples.stages.settings
        return settings.shape.horizon * int(settings.interval)

    @cached_property
    def losses(self) -> dict[str, Numbers]:
        """(n,) losses of all forecasts and baselines, by name."""
        return {
            name: compute_losses(self.target, self.truth, each)
            for name, each in (self.forecasts | self.baselines).items()
        }

    @cached_property
    def best(self) -> str:
        """The baseline with the least mean loss."""
        return min(self.baselines, key=lambda name: float(self.losses[name].mean()))

    @cached_property
    def overlap(self) -> int:
        """Of how many samples in order the targets overlap, 1 for none."""
        return max(each.samples.overlap for each in self.parts)

    def measure(self, name: str, rows: NDArray[np.bool_] | None = None) -> Measured:
        """The measures of a forecast or baseline.

        Args:
            name: which.
            rows: (n,) of which samples; None for all.
        """
        chosen = slice(None) if rows is None else rows
        values = (self.forecasts | self.baselines)[name]
        scale = float(np.average([each.scale for each in self.parts], weights=self._sizes))
        reference = Reference(self.baselines[MEAN][chosen], self.reference[chosen], scale)
        return measure(self.target, self.truth[chosen], values[chosen], reference)

    def judge(self, name: str, rows: NDArray[np.bool_] | None = None) -> Verdict | None:
        """How a forecast does against the best baseline; None of too few samples."""
        chosen = slice(None) if rows is None else rows
        ours, theirs = self.losses[name][chosen], self.losses[self.best][chosen]
        if len(ours) < LEAST:
            return None
        difference = bootstrap_mean(ours - theirs, level=self.level, seed=self.seed)
        return Verdict(self.best, compare_losses(ours, theirs, self.overlap), difference)

    def to_polars(self) -> "pl.DataFrame":
        """A row for each forecast and baseline: its measures, and how it does against the best."""
        import polars as pl

        return pl.DataFrame([*self._list_rows()], infer_schema_length=None)

    def _list_rows(self) -> Iterator[dict[str, object]]:
        for name in (*self.forecasts, *self.baselines):
            row: dict[str, object] = {"forecast": name, "samples": len(self.truth)}
            for what, value in self.measure(name).items():
                row[what] = value.value if isinstance(value, Interval) else value
                if isinstance(value, Interval):
                    row |= {f"{what}_low": value.low, f"{what}_high": value.high}
            verdict = self.judge(name) if name in self.forecasts else None
            row |= {
                "loss": float(self.losses[name].mean()),
                "difference": verdict and verdict.difference.value,
                "difference_low": verdict and verdict.difference.low,
                "difference_high": verdict and verdict.difference.high,
                "p_value": verdict and verdict.test.p_value,
            }
            yield row

    @property
    def _sizes(self) -> list[int]:
        return [len(each.samples) for each in self.parts]

    def _sort(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """What each part says of its samples, in order of time."""
        return np.concatenate(parts)[self.order]


def list_shapes(stages: Stages) -> list[Shape]:
    """The shapes that the forecast of a sample may have, those with more axes first."""
    shape, classes = stages.settings.target_shape, stages.settings.n_classes
    if classes is not None:
        return [(*shape, classes), shape]
    size = int(np.prod(shape))
    flat: list[Shape] = [(size,)] if len(shape) > 1 else []
    return [shape, *flat, *([()] if size == 1 else [])]


def score_forecasts(
    folds: Mapping[int, Stages],
    given: Mapping[str, Mapping[int, Any]],
    stage: Stage = "test",
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Score:
    """Hold forecasts against what came.

    Args:
        folds: the stages of each fold, by its number.
        given: what holds the forecasts of each fold, by its number, of each name: see
            ``read_forecasts``. They are scaled as ``Batch.y`` is.
        stage: whose samples count.
        level: of all intervals.
        seed: of the bootstrap.

    Raises:
        ConfigError: if there are none, or none of them is of a sample of the stage.
    """
    numbers = sorted({fold for by_fold in given.values() for fold in by_fold})
    if not numbers:
        raise ConfigError("there are no forecasts to score: give what PredictionWriter wrote")
    parts, notes = [], list[str]()
    for fold in numbers:
        stages = folds[fold]
        shapes = list_shapes(stages)
        forecasts = {
            name: read_forecasts(by_fold[fold], shapes)
            for name, by_fold in given.items()
            if fold in by_fold
        }
        if len(forecasts) < len(given):
            lacking = [name for name in given if name not in forecasts]
            raise ConfigError(
                f"there are no forecasts of fold {fold} by {list_first(lacking)}: all are scored "
                "on the same samples, so give those of the same folds"
            )
        part, told = make_part(fold, stages, stage, forecasts)
        parts.append(part)
        notes += told
    target = folds[numbers[0]].settings.target
    return Score(target, stage, tuple(parts), tuple(notes), level, seed)


def make_part(
    fold: int, stages: Stages, stage: Stage, given: Mapping[str, Forecasts]
) -> tuple[Part, list[str]]:
    """The samples of one fold that all forecasts are of, and notes on what is left out.

    Args:
        fold: its number.
        stages: of the fold.
        stage: which is scored.
        given: forecasts by name, scaled as ``Batch.y`` is.

    Raises:
        ConfigError: if none of them is of an origin of this stage.
    """
    times = reduce(np.intersect1d, [each.origin_time for each in given.values()])
    notes = [
        f"{name}: {len(each.origin_time) - len(times):,} forecasts of fold {fold} are of origins "
        "that others lack"
        for name, each in given.items()
        if len(each.origin_time) > len(times)
    ]
    samples, inside = find_samples(stages, stage, times)
    outside = int((~inside).sum())
    if not len(samples):
        spans = list_first([*map(format_span, stages.fold.spans(stage))], 2)
        raise ConfigError(
            f"none of {len(times):,} forecasts by {list_first([*given])} has a target that is "
            f"known in {stage} of fold {fold} ({spans or 'which has none'})"
        )
    if outside:
        notes.append(f"{outside:,} forecasts of fold {fold} have no target known in {stage}")
    forecasts = {}
    for name, each in given.items():
        chosen = np.searchsorted(each.origin_time, samples.origin_time)
        for prediction, values in each.values.items():
            label = name if len(each.values) == 1 else f"{name}:{prediction}"
            forecasts[label] = _unscale(stages, values[chosen])
    known = np.all([mark_known(each) for each in forecasts.values()], axis=0)
    if not known.all():
        notes.append(f"{int((~known).sum()):,} forecasts of fold {fold} are no numbers")
        samples = Samples(stages, stage, samples.rows[known], samples.truth[known])
        forecasts = {label: each[known] for label, each in forecasts.items()}
    scale = float("nan")
    if find_kind(stages.settings.target) == "value":
        scale = float(np.mean(np.abs(list_samples(stages, "train").truth)))
    return Part(fold, samples, forecasts, forecast_baselines(samples), scale), notes


def _unscale(stages: Stages, values: Numbers) -> Numbers:
    """Forecasts in the shape and unit of the target; scores of classes as they are."""
    shape = stages.settings.target_shape
    if values[0].size != int(np.prod(shape)):
        return values
    found: Numbers = stages.inverse_transform(values.reshape(len(values), *shape))
    return found
