"""Samples: what came at the origins that forecasts are of, as the candles tell it.

A forecast counts for a stage if its target lies in it, whatever the stride of the loaders: so what
was written for ``predict`` is scored where a span of test is, and nothing of train is.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask, Runs
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.origins import Origins
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.evaluation.walls import find_train_runs
from btc_datamodule.scoring.baselines import History
from btc_datamodule.scoring.measures import Numbers
from btc_datamodule.stages import Stages
from btc_datamodule.windows.dataset import WindowDataset

TARGET_ROWS = 1 << 16
"""Targets that are computed at once."""

TRAIN_NUMBERS = 1 << 22
"""Of train targets that are held: 32 MiB; of longer histories every so many-th sample is taken."""

LEAST_TRAIN = 1 << 14
"""Samples of train that are held, if there are so many, however large a target is."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Origins of a stage, and what came.

    Attributes:
        stages: of one fold.
        stage: in which the targets lie.
        rows: (n,) int64, of the origins, rising.
        truth: (n, *target shape) float64, in the unit of the target; no NaN.
    """

    stages: Stages
    stage: Stage
    rows: NDArray[np.int64]
    truth: Numbers

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def origin_time(self) -> NDArray[np.int64]:
        """(n,) epoch seconds."""
        return self.stages.table.first + self.stages.table.interval * self.rows

    @cached_property
    def returns(self) -> Numbers:
        """(n,) log returns from the close that targets are measured from to the last target bar."""
        shape = self.stages.settings.shape
        last = self.stages.table.pick("close", self.rows + shape.gap + shape.horizon)
        found: Numbers = np.log(last / self.reference)
        return found

    @cached_property
    def reference(self) -> Numbers:
        """(n,) closes right before the first target bars, from which targets are measured."""
        return self.stages.table.pick("close", self.rows + self.stages.settings.shape.gap)


def find_samples(stages: Stages, stage: Stage, times: NDArray[np.int64]) -> tuple[Samples, Mask]:
    """The samples of a stage that forecasts are of.

    Args:
        stages: of one fold.
        stage: which.
        times: (m,) of origins, rising.

    Returns:
        The samples, and which of ``times`` they are.
    """
    runs = list_eligible(stages, stage)
    rows, past = np.divmod(times - stages.table.first, stages.table.interval)
    inside = (past == 0) & _lie_in(rows, runs)
    truth = compute_targets(stages, runs, rows[inside])
    known = mark_known(truth)
    inside[inside] = known
    return Samples(stages, stage, rows[inside], truth[known]), inside


def list_samples(stages: Stages, stage: Stage, most: int | None = None) -> Samples:
    """All samples of a stage whose target is known, one for each bar that can be an origin.

    Args:
        stages: of one fold.
        stage: which.
        most: how many at most: of more, as many at equal distances.
    """
    runs = list_eligible(stages, stage)
    origins = Origins.of(runs, 1)
    count = len(origins) if most is None else min(most, len(origins))
    rows = origins[np.arange(count, dtype=np.int64) * len(origins) // max(count, 1)]
    truth = compute_targets(stages, runs, rows)
    known = mark_known(truth)
    return Samples(stages, stage, rows[known], truth[known])


def list_train(stages: Stages) -> Samples:
    """The samples of train that baselines are made of: of many those that are held.

    Raises:
        ConfigError: if there are none.
    """
    size = max(1, int(np.prod(stages.settings.target_shape)))
    found = list_samples(stages, "train", max(LEAST_TRAIN, TRAIN_NUMBERS // size))
    if not len(found):
        raise ConfigError("train has no sample that baselines could be made of")
    return found


def list_eligible(stages: Stages, stage: Stage) -> Runs:
    """Runs of rows that may be origins of a stage."""
    found = [each.runs for each in stages.count_origins(stage)]
    runs = np.concatenate([np.zeros((0, 2), dtype=np.int64), *found])
    return runs[np.argsort(runs[:, 0])]


def compute_targets(stages: Stages, runs: Runs, rows: NDArray[np.int64]) -> Numbers:
    """(n, *target shape) float64 of some origins that lie in runs, not scaled; NaN for none."""
    settings = stages.settings
    size = (len(rows), *settings.target_shape)
    if not len(rows):
        return np.zeros(size)
    windows = WindowDataset(
        stages.table,
        Origins.of(runs, 1),
        settings.shape,
        settings.target,
        stages.fitted.scaler,
        ahead_bytes=0,
    )
    parts = [
        windows.compute_targets(rows[low : low + TARGET_ROWS])
        for low in range(0, len(rows), TARGET_ROWS)
    ]
    return np.concatenate(parts).reshape(size)


def make_history(stages: Stages) -> History:
    """The closes of a fold's candles, and which of them are train's."""
    settings, table = stages.settings, stages.table
    if not len(stages.fold.train):
        raise ConfigError("the split has no train span that baselines could be made of")
    runs = find_train_runs(table, stages.fold, embargo=settings.embargo, purge=settings.purge)
    return History(table.array("close"), runs, table.first, table.interval)


def mark_known(values: Numbers) -> Mask:
    """(n,) which samples have no NaN in (n, ...) values."""
    finite: Mask = np.isfinite(values)
    return finite if values.ndim == 1 else np.all(finite, axis=tuple(range(1, values.ndim)))


def _lie_in(rows: NDArray[np.int64], runs: Runs) -> Mask:
    """Which rows lie in runs, which are in order and apart."""
    if not len(runs):
        return np.zeros(len(rows), dtype=np.bool_)
    at = np.searchsorted(runs[:, 0], rows, side="right") - 1
    inside: Mask = (at >= 0) & (rows < runs[at, 1])
    return inside
