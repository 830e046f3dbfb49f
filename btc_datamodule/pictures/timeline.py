"""The timeline: prices, whose stage each time is, what is left out of it, and all outages."""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from btc_datamodule.evaluation.splits import STAGES
from btc_datamodule.features.table import Table
from btc_datamodule.overview.colours import (
    EMBARGO,
    OUTAGE,
    PRICE,
    PURGE,
    STAGE_COLOURS,
    Colour,
)
from btc_datamodule.overview.market import name_market, title_of
from btc_datamodule.overview.pyramid import measure_level
from btc_datamodule.overview.spans import Ribbon, list_outages, list_ribbons
from btc_datamodule.pictures.figures import (
    Numbers,
    choose_axes,
    draw_spans,
    pick,
    place_legend,
    set_title,
    show_dates,
    show_prices,
    to_days,
)
from btc_datamodule.stages import Stages

STRETCHES = 2000
"""Of equal length, of which the lowest and the highest price are drawn."""

FEW = 400
"""Bars up to which closes are drawn as a line."""

HATCHES = {"purge": "/////", "embargo": "\\\\\\\\\\"}
LEFT_OUT: dict[str, Colour] = {"purge": PURGE, "embargo": EMBARGO}

TOP, FOOT = 0.05, 0.04
"""Shares of the axes that stages take at the top and outages at the foot."""


def plot_timeline(stages: Stages, ax: Axes | None = None) -> Figure:
    """Draw the timeline of a fold; see ``BTCDataModule.plot_timeline``."""
    figure, axes = choose_axes(ax, 12, 5)
    table, settings = stages.table, stages.settings
    market = name_market(settings)
    set_title(axes, _name_picture(stages))
    low, high = _draw_prices(axes, table)
    show_dates(axes, table.span)
    show_prices(axes, low, high, market.quote, market.price)
    ribbons = list_ribbons(stages)
    handles = _draw_stages(axes, stages, ribbons) + _draw_left_out(axes, table, ribbons)
    outages = list_outages(table)
    if outages:
        colour = pick(OUTAGE, axes)
        draw_spans(axes, outages, table.span, (0, FOOT), facecolor=colour, zorder=4)
        many = "outage" if len(outages) == 1 else "outages"
        handles.append(Patch(color=colour, label=f"{len(outages):,} {many}"))
    place_legend(axes, handles)
    return figure


def _name_picture(stages: Stages) -> str:
    """What is seen; of a split of several folds, which one."""
    title = title_of(stages.settings, stages.table.span)
    folds = stages.n_folds
    fold = stages.settings.split.fold % folds
    return title if folds == 1 else f"{title}, fold {fold} (of 0 to {folds - 1:,})"


def _draw_prices(axes: Axes, table: Table) -> tuple[float, float]:
    """Draw the closes of few bars, the range of prices of many; give lowest and highest."""
    colour = pick(PRICE, axes)
    if table.rows <= FEW:
        times = to_days(table.first + int(table.interval) * np.arange(1, table.rows + 1))
        axes.plot(times, table.array("close"), color=colour, linewidth=1, zorder=3)
        low, high = np.nanmin(table.array("close")), np.nanmax(table.array("close"))
    else:
        edges, lows, highs = _measure_range(table)
        style: dict[str, Any] = {"color": colour, "linewidth": 0.7, "zorder": 3}
        axes.fill_between(to_days(edges), lows, highs, step="post", **style)
        low, high = np.nanmin(lows), np.nanmax(highs)
    # Stages and outages lie at the edges, the prices between them.
    if high > 4 * low:
        room = (high / low) ** 0.09
        axes.set_ylim(low / room, high * room)
    else:
        room = max(0.09 * (high - low), 1e-9 * high)
        axes.set_ylim(low - room, high + room)
    return float(low), float(high)


def _measure_range(table: Table) -> tuple[Numbers, Numbers, Numbers]:
    """Lowest low and highest high of stretches from each of the times on; NaN in outages."""
    level = measure_level(table, STRETCHES)
    begins = level.first + level.seconds * np.arange(len(level.low), dtype=np.float64)
    low, high = (np.append(each, each[-1]) for each in (level.low, level.high))
    return np.append(begins, table.span[1]), low, high


def _draw_stages(axes: Axes, stages: Stages, ribbons: list[Ribbon]) -> list[Artist]:
    """Draw whose time it is, as a ribbon at the top and a shade below it."""
    handles: list[Artist] = []
    for stage in STAGES:
        spans = [each.span for each in ribbons if each[:2] == ("stage", stage)]
        if not spans:
            continue
        colour = pick(STAGE_COLOURS[stage], axes)
        draw_spans(axes, spans, stages.table.span, (1 - TOP, TOP), facecolor=colour, zorder=4)
        style: dict[str, Any] = {"facecolor": colour, "alpha": 0.16, "linewidth": 0, "zorder": 1}
        draw_spans(axes, spans, stages.table.span, (0, 1 - TOP), **style)
        windows = len(stages.windows(stage))
        handles.append(
            Patch(color=colour, label=f"{stage}: {windows:,} window{'s' * (windows != 1)}")
        )
    return handles


def _draw_left_out(axes: Axes, table: Table, ribbons: list[Ribbon]) -> list[Artist]:
    """Hatch what purge and embargo leave out of stages."""
    handles: list[Artist] = []
    for kind, hatch in HATCHES.items():
        spans = [each.span for each in ribbons if each.kind == kind]
        if not spans:
            continue
        style: dict[str, Any] = {
            "facecolor": "none",
            "edgecolor": pick(LEFT_OUT[kind], axes),
            "hatch": hatch,
        }
        draw_spans(axes, sorted(spans), table.span, (0, 1), linewidth=0.6, zorder=5, **style)
        handles.append(Patch(label=kind, linewidth=0.6, **style))
    return handles
