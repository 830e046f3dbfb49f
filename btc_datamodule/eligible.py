"""Which windows a stage hands out: the eligible origins of its spans, taken at its stride."""

from collections.abc import Sequence

import numpy as np

from btc_datamodule.evaluation.origins import FoundOrigins, Origins, find_origins, space_runs
from btc_datamodule.evaluation.scaling import Scaler
from btc_datamodule.evaluation.splits import Fold, Stage
from btc_datamodule.evaluation.unseen import find_unseen
from btc_datamodule.evaluation.walls import find_crossing, find_embargo, find_wall
from btc_datamodule.features.table import Table
from btc_datamodule.settings import Settings
from btc_datamodule.windows.dataset import WindowDataset


def make_windows(
    settings: Settings, table: Table, fold: Fold, stage: Stage, scaler: Scaler
) -> WindowDataset:
    """The windows of a stage, targets not scaled."""
    found = count_origins(settings, table, fold, stage)
    origins = take_origins(settings, stage, found)
    complete = settings.min_observed == 1
    return WindowDataset(table, origins, settings.shape, settings.target, scaler, complete=complete)


def take_origins(settings: Settings, stage: Stage, found: Sequence[FoundOrigins]) -> Origins:
    """Those of the eligible origins of some spans that a stage hands out.

    Of train every ``stride``-th of each run. Of val and test such that no two of a span are closer
    together than ``eval_stride``: at a stride of the horizon, the default, no bar is scored twice.
    What is left over at the end of an unbroken stretch, less than a horizon, is in no window. Of
    predict all.
    """
    stride = {"train": settings.stride, "predict": 1}.get(stage, settings.eval_stride)
    runs = [each.runs for each in found]
    if stage != "train":
        runs = [space_runs(each, stride) for each in runs]
    return Origins.of(np.concatenate([np.zeros((0, 2), dtype=np.int64), *runs]), stride)


def count_origins(
    settings: Settings,
    table: Table,
    fold: Fold,
    stage: Stage,
    *,
    ignore_undefined: bool = False,
) -> tuple[FoundOrigins, ...]:
    """The eligible origins of each span of a stage, and how many were left out and why.

    Args:
        settings: which windows there are.
        table: the feature file.
        fold: the spans of the stages.
        stage: which.
        ignore_undefined: as if each feature had a value wherever its bars are known.
    """
    train = stage == "train"
    walled = train or settings.context == "strict"
    unseen = find_unseen(table, ignore_undefined=ignore_undefined)
    found = []
    for span in fold.spans(stage):
        wall = find_wall(table, span) if walled else 0
        embargo = find_embargo(table, fold, span, settings.embargo) if train else 0
        since = span[0] if walled and span[0] < table.first else None
        found.append(
            find_origins(
                settings.shape,
                span=(table.find_row(span[0]), table.find_row(span[1])),
                rows=table.rows,
                warm_up=table.warm_up,
                min_observed=settings.min_observed,
                holes=table.holes,
                outages=table.outages,
                unseen=unseen,
                by_feature=table.mask == "feature",
                purge=settings.purge if stage in ("train", "val") else 0,
                wall=wall,
                embargo=embargo,
                crossing=find_crossing(table, max(wall, embargo), table.find_row(span[1]), since),
                need_target=stage != "predict",
            )
        )
    return tuple(found)
