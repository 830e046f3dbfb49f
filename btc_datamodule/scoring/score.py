"""``Score``: forecasts held against what came, with the baselines of the very same samples.

Gathers the samples of all folds, lets every forecast and every baseline be measured alike, and
tests each against the best baseline. Nothing is a headline without a baseline, an interval and, of
money, a cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.checks import list_first
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.evaluation.targets import Target
from btc_datamodule.scoring.beside import MEAN
from btc_datamodule.scoring.forecast_files import read_forecasts
from btc_datamodule.scoring.kinds import Measured, Reference, compute_losses, measure
from btc_datamodule.scoring.measures import Interval, Numbers
from btc_datamodule.scoring.parts import Part, list_shapes, make_part
from btc_datamodule.scoring.significance import (
    LossTest,
    bootstrap_mean,
    compare_losses,
    widen,
)
from btc_datamodule.scoring.spreads import Manner, compute_spread_losses, measure_spread
from btc_datamodule.stages import Stages

if TYPE_CHECKING:
    import polars as pl

LEAST = 10
"""Samples below which nothing is tested, of those whose targets do not overlap."""


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

    @property
    def word(self) -> str:
        """What the interval says of the forecast: "better", "worse" or "no better"."""
        if self.is_better:
            return "better"
        return "worse" if self.difference.low > 0 else "no better"


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
        manner: how those forecasts that tell distributions do so.
    """

    target: Target
    stage: Stage
    parts: tuple[Part, ...]
    notes: tuple[str, ...]
    level: float = 0.95
    seed: int = 0
    manner: Manner | None = None

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
        """(n, ...) of each forecast, by name; of one that tells a distribution the median."""
        return self._sort_all([each.forecasts for each in self.parts])

    @cached_property
    def baselines(self) -> dict[str, Numbers]:
        """(n, *target shape) of each baseline, by name."""
        return self._sort_all([each.baselines for each in self.parts])

    @cached_property
    def spreads(self) -> dict[str, Numbers]:
        """(n, *target shape, q) of each forecast that tells a distribution, by name."""
        return self._sort_all([each.spreads for each in self.parts])

    @cached_property
    def spread_baselines(self) -> dict[str, Numbers]:
        """(n, *target shape, q) of each baseline that does, by name."""
        return self._sort_all([each.spread_baselines for each in self.parts])

    @cached_property
    def returns(self) -> Numbers:
        """(n,) log returns from the close that targets are measured from to the last target bar."""
        return self._sort([each.samples.returns for each in self.parts])

    @cached_property
    def reference(self) -> Numbers:
        """(n,) closes right before the first target bars, from which targets are measured."""
        return self._sort([each.samples.reference for each in self.parts])

    @cached_property
    def scale(self) -> Numbers:
        """(n,) mean absolute error of no change in train, of each sample's fold."""
        return self._sort([np.full(len(each.samples), each.scale) for each in self.parts])

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
    def spread_losses(self) -> dict[str, Numbers]:
        """(n,) losses of all that tells a distribution, by name: pinball losses, or CRPS."""
        assert self.manner is not None
        return {
            name: compute_spread_losses(self.truth, each, self.manner)
            for name, each in (self.spreads | self.spread_baselines).items()
        }

    @cached_property
    def best_spread(self) -> str:
        """The baseline of distributions with the least mean loss."""
        losses = self.spread_losses
        return min(self.spread_baselines, key=lambda name: float(losses[name].mean()))

    @cached_property
    def overlap(self) -> int:
        """Of how many samples in order the targets overlap, of all folds together; 1 for none."""
        return self.count_overlap()

    def count_overlap(self, rows: Mask | None = None) -> int:
        """``overlap`` of some samples."""
        times = self.origin_time if rows is None else self.origin_time[rows]
        ends = np.searchsorted(times, times + self.horizon_seconds)
        return int(np.max(ends - np.arange(len(times)), initial=1))

    def measure(self, name: str, rows: Mask | None = None) -> Measured:
        """The measures of a forecast or baseline.

        Args:
            name: which.
            rows: (n,) of which samples; None for all.
        """
        chosen = slice(None) if rows is None else rows
        values = (self.forecasts | self.baselines)[name]
        reference = Reference(
            self.baselines[MEAN][chosen],
            self.reference[chosen],
            self.scale[chosen],
            self.count_overlap(rows),
            self.level,
        )
        return measure(self.target, self.truth[chosen], values[chosen], reference)

    def measure_spread(self, name: str, rows: Mask | None = None) -> Measured:
        """The measures of a forecast or baseline that tells a distribution, as of ``measure``."""
        assert self.manner is not None
        chosen = slice(None) if rows is None else rows
        values = (self.spreads | self.spread_baselines)[name][chosen]
        overlap = self.count_overlap(rows)
        return measure_spread(self.truth[chosen], values, self.manner, overlap, self.level)

    def judge(self, name: str, rows: Mask | None = None) -> Verdict | None:
        """How a forecast does against the best baseline; None of too few samples."""
        return self._judge(self.losses, name, self.best, rows)

    def judge_spread(self, name: str, rows: Mask | None = None) -> Verdict | None:
        """How a distribution does against the best baseline of these; None of too few samples."""
        return self._judge(self.spread_losses, name, self.best_spread, rows)

    def _judge(
        self, losses: Mapping[str, Numbers], name: str, best: str, rows: Mask | None
    ) -> Verdict | None:
        chosen = slice(None) if rows is None else rows
        ours, theirs = losses[name][chosen], losses[best][chosen]
        # What float32 leaves of the same forecast, scaled and back, is no difference.
        theirs = np.where(np.isclose(ours, theirs, rtol=1e-6, atol=0), ours, theirs)
        overlap = self.count_overlap(rows)
        if len(ours) < LEAST * overlap:
            return None
        drawn = bootstrap_mean(ours - theirs, overlap, level=self.level, seed=self.seed)
        test = compare_losses(ours, theirs, overlap)
        return Verdict(best, test, widen(drawn, test, len(ours), self.level))

    def to_polars(self) -> "pl.DataFrame":
        """A row for each forecast and baseline: its measures, and how it does against the best."""
        import polars as pl

        return pl.DataFrame([*self._list_rows()], infer_schema_length=None)

    def spread_to_polars(self) -> "pl.DataFrame | None":
        """A row for each that tells a distribution, like ``to_polars``; None if none does."""
        import polars as pl

        if not self.spreads:
            return None
        rows = []
        for name in (*self.spreads, *self.spread_baselines):
            verdict = self.judge_spread(name) if name in self.spreads else None
            rows.append(
                {"forecast": name, "samples": len(self.truth)}
                | flatten_measured(self.measure_spread(name))
                | flatten_verdict(verdict)
            )
        return pl.DataFrame(rows, infer_schema_length=None)

    def _list_rows(self) -> Iterator[dict[str, object]]:
        for name in (*self.forecasts, *self.baselines):
            verdict = self.judge(name) if name in self.forecasts else None
            yield (
                {"forecast": name, "samples": len(self.truth)}
                | flatten_measured(self.measure(name))
                | {"loss": float(self.losses[name].mean())}
                | flatten_verdict(verdict)
            )

    def _sort_all(self, parts: Sequence[Mapping[str, Numbers]]) -> dict[str, Numbers]:
        return {name: self._sort([each[name] for each in parts]) for name in parts[0]}

    def _sort(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """What each part says of its samples, in order of time."""
        return parts[0] if len(parts) == 1 else np.concatenate(parts)[self.order]


def flatten_measured(measured: Measured) -> dict[str, object]:
    """Measures as columns: three of one that has an interval."""
    found: dict[str, object] = {}
    for name, value in measured.items():
        if isinstance(value, Interval):
            found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            found[name] = value
    return found


def flatten_verdict(verdict: Verdict | None) -> dict[str, object]:
    """The difference to the best baseline as columns, None of too few samples."""
    return {
        "difference": verdict and verdict.difference.value,
        "difference_low": verdict and verdict.difference.low,
        "difference_high": verdict and verdict.difference.high,
        "p_value": verdict and verdict.test.p_value,
    }


def score_forecasts(
    folds: Mapping[int, Stages],
    given: Mapping[str, Mapping[int, Any]],
    stage: Stage = "test",
    *,
    level: float = 0.95,
    seed: int = 0,
    manner: Manner | None = None,
) -> Score:
    """Hold forecasts against what came.

    Args:
        folds: the stages of each fold, by its number.
        given: what holds the forecasts of each fold, by its number, of each name: see
            ``read_forecasts``. They are scaled as ``Batch.y`` is.
        stage: whose samples count.
        level: of all intervals.
        seed: of the bootstrap.
        manner: how forecasts tell distributions; None if they do not.

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
        spread = manner.list_shapes(stages.settings.target_shape) if manner else []
        forecasts = {
            name: read_forecasts(by_fold[fold], shapes, spread)
            for name, by_fold in given.items()
            if fold in by_fold
        }
        if len(forecasts) < len(given):
            lacking = [name for name in given if name not in forecasts]
            raise ConfigError(
                f"there are no forecasts of fold {fold} by {list_first(lacking)}: all are scored "
                "on the same samples, so give those of the same folds (one model has one name, "
                "such as `model=a.parquet@0 model=b.parquet@1`)"
            )
        part, told = make_part(fold, stages, stage, forecasts, manner)
        parts.append(part)
        notes += told
    labels = {*parts[0].forecasts}
    for part in parts:
        if {*part.forecasts} != labels:
            odd = list_first(sorted(labels ^ {*part.forecasts}))
            raise ConfigError(
                f"folds {parts[0].fold} and {part.fold} do not have the same forecasts ({odd}): "
                "give files of one model for each fold"
            )
    target = folds[numbers[0]].settings.target
    score = Score(target, stage, tuple(parts), tuple(notes), level, seed, manner)
    return replace(score, notes=(*notes, *_tell_folds(score)))


def _tell_folds(score: Score) -> list[str]:
    """How many of the samples are forecast in several folds."""
    again = int((np.diff(score.origin_time) == 0).sum())
    if not again:
        return []
    return [
        f"{again:,} of the samples are of origins that an earlier fold has too: measures and tests "
        "count them, money follows the first fold"
    ]
