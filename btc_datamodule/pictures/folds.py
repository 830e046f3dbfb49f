"""The folds of a split below each other; of a combinatorial one with the paths of its groups."""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from btc_datamodule.evaluation.splits import STAGES
from btc_datamodule.overview.colours import STAGE_COLOURS
from btc_datamodule.overview.folds import FoldMap, map_folds
from btc_datamodule.overview.market import title_of
from btc_datamodule.pictures.figures import (
    choose_axes,
    draw_spans,
    measure,
    pick,
    place_legend,
    set_title,
    show_dates,
    to_days,
)
from btc_datamodule.pictures.timeline import HATCHES, LEFT_OUT
from btc_datamodule.stages import Stages

LABEL = 0.155
"""Inches that the number of a row takes."""

NUMBERED = 30
"""Rows up to which the paths of groups are written into them."""

BAR = 0.78
"""Height of a fold, of the row that it has."""


def plot_folds(stages: Stages, ax: Axes | None = None) -> Figure:
    """Draw all folds of a split; see ``BTCDataModule.plot_folds``."""
    found = map_folds(stages)
    figure, axes = choose_axes(ax, 12, max(2.5, min(9.0, 1.6 + 0.3 * len(found.numbers))))
    axes.set_ylim(len(found.numbers) - 0.5, -0.5)
    split = type(stages.settings.split).__name__
    count = "1 fold" if found.total == 1 else f"{found.total:,} folds"
    shown = "" if len(found.numbers) == found.total else f", {len(found.numbers)} of them shown"
    title = f"{title_of(stages.settings, found.span)}: {count} of {split}{shown}"
    paths = found.paths is not None and len(found.numbers) == found.total <= NUMBERED
    if paths:
        title += "; numbers: the path that each test group joins"
    set_title(axes, title)
    handles = _draw_ribbons(axes, found)
    if paths:
        _number_paths(axes, found)
    show_dates(axes, found.span)
    _label_rows(axes, found)
    place_legend(axes, handles)
    return figure


def _draw_ribbons(axes: Axes, found: FoldMap) -> list[Artist]:
    met: dict[str, Artist] = {}
    for row, ribbons in enumerate(found.ribbons):
        level = (row - BAR / 2, BAR)
        for stage in STAGES:
            spans = [each.span for each in ribbons if each[:2] == ("stage", stage)]
            if spans:
                style: dict[str, Any] = {"facecolor": pick(STAGE_COLOURS[stage], axes)}
                draw_spans(axes, spans, found.span, level, in_axes=False, linewidth=0.5, **style)
                met.setdefault(stage, Patch(label=stage, **style))
        for kind, hatch in HATCHES.items():
            spans = sorted(each.span for each in ribbons if each.kind == kind)
            if spans:
                colour = axes.get_facecolor()
                style = {"facecolor": pick(LEFT_OUT[kind], axes), "edgecolor": colour}
                style |= {"hatch": hatch, "linewidth": 0.3}
                draw_spans(axes, spans, found.span, level, in_axes=False, **style)
                met.setdefault(kind, Patch(label=kind, **style))
    return [met[name] for name in (*STAGES, *HATCHES) if name in met]


def _number_paths(axes: Axes, found: FoldMap) -> None:
    """Part the groups, and write into those of test which path their forecasts join, from 1."""
    assert found.paths is not None
    edges = {edge for group in found.groups for edge in group} - {*found.span}
    for edge in to_days(sorted(edges)):
        axes.axvline(edge, color=axes.get_facecolor(), linewidth=1)
    for path, folds in enumerate(found.paths.tolist(), 1):
        for group, fold in enumerate(folds):
            middle = float(to_days(np.mean(found.groups[group])))
            axes.text(middle, fold, str(path), ha="center", va="center", size="x-small", color="w")


def _label_rows(axes: Axes, found: FoldMap) -> None:
    """Number the rows; of many some, and always that in use, in bold."""
    step = -(-len(found.numbers) // max(1, int(measure(axes, tall=True) / LABEL)))
    chosen = found.numbers.index(found.chosen)
    rows = [row for row in range(0, len(found.numbers), step) if abs(row - chosen) >= step]
    rows = sorted([*rows, chosen])
    axes.yaxis.set_major_locator(FixedLocator(rows))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda row, _: f"{found.numbers[round(row)]:,}" if row >= 0 else "")
    )
    axes.set_ylabel("fold (bold: in use)" if found.total > 1 else "fold")
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if row == chosen and found.total > 1 else "normal")
