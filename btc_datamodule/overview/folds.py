"""``FoldMap``: all folds of a split below each other, and the paths of a combinatorial one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation.splits import CombinatorialPurged
from btc_datamodule.overview.spans import Ribbon, list_fold_ribbons
from btc_datamodule.stages import Stages

MOST_FOLDS = 60
"""That are shown at once."""


@dataclass(frozen=True, eq=False)
class FoldMap:
    """The folds of a split.

    Attributes:
        span: of the candles.
        total: how many folds there are.
        chosen: number of the one in use, from 0.
        numbers: of the folds that are shown, rising; the one in use is among them.
        ribbons: of each of these.
        groups: spans of the groups of a combinatorial split; of others none.
        paths: (n_paths, groups) int64, the fold that forecasts each group in each path of a
            combinatorial split; None of others.
    """

    span: Span
    total: int
    chosen: int
    numbers: tuple[int, ...]
    ribbons: tuple[tuple[Ribbon, ...], ...]
    groups: tuple[Span, ...] = ()
    paths: NDArray[np.int64] | None = None


def map_folds(stages: Stages, most: int = MOST_FOLDS) -> FoldMap:
    """The folds of the split of some stages, with what purge and embargo leave out of each.

    Args:
        stages: of any fold.
        most: of more folds, so many that are spread evenly, and the one in use.
    """
    settings, table = stages.settings, stages.table
    split = settings.split
    folds = split.folds(table.span, table.interval)
    total, chosen = len(folds), split.fold % len(folds)
    spread = np.linspace(0, total - 1, min(total, most)).round().astype(np.int64)
    if chosen not in spread:
        spread[np.argmin(np.abs(spread - chosen))] = chosen
    numbers = tuple(np.unique(spread).tolist())
    ribbons = tuple(tuple(list_fold_ribbons(settings, table, folds[each])) for each in numbers)
    if not isinstance(split, CombinatorialPurged):
        return FoldMap(table.span, total, chosen, numbers, ribbons)
    groups = tuple(sorted({span for fold in folds for span in fold.test}))
    return FoldMap(table.span, total, chosen, numbers, ribbons, groups, split.paths())
