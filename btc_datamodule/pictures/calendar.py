"""The calendar of holes: which bars there are, by day and hour of the day."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from btc_datamodule.overview.colours import SCALE
from btc_datamodule.overview.holes import DAY, Holes, count_holes
from btc_datamodule.overview.market import name_market, write_span
from btc_datamodule.pictures.figures import (
    choose_axes,
    pick,
    place_legend,
    set_title,
    show_dates,
    to_days,
)
from btc_datamodule.stages import Stages

STEPS = (0.0, 0.5, 0.9, 0.99, 1.0)
"""Shares of bars at which another colour begins; the last is that of all bars."""

NAMES = ("less than 50 %", "50 to 90 %", "90 to 99 %", "99 % and more", "all bars")


def plot_holes(stages: Stages, ax: Axes | None = None) -> Figure:
    """Draw the calendar of a feature file; see ``BTCDataModule.plot_holes``."""
    figure, axes = choose_axes(ax, 12, 4)
    found = count_holes(stages.table)
    set_title(axes, _name_picture(stages, found))
    colours = [pick(each, axes) for each in SCALE]
    edges = found.first + found.step * np.arange(len(found.share) + 1)
    hours = np.arange(found.share.shape[1] + 1) * (found.cell / 3600)
    axes.pcolormesh(
        to_days(edges),
        hours,
        np.ma.masked_invalid(found.share.T),
        cmap=ListedColormap(colours),
        norm=BoundaryNorm([*STEPS, 2.0], len(colours)),
        rasterized=True,
    )
    show_dates(axes, (found.first, int(edges[-1])))
    axes.set_ylim(24, 0)
    if found.cell < DAY:
        axes.yaxis.set_major_locator(MultipleLocator(6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda hour, _: f"{hour:02.0f}:00"))
        axes.set_ylabel("hour of the day (UTC)")
    else:
        axes.set_yticks([])
        axes.set_ylabel("whole days")
    known = found.share[np.isfinite(found.share)]
    place = np.searchsorted(STEPS, known, side="right") - 1
    shown = [number for number in range(len(NAMES)) if (place == number).any()]
    place_legend(axes, [Patch(color=colours[each], label=NAMES[each]) for each in shown[::-1]])
    return figure


def _name_picture(stages: Stages, found: Holes) -> str:
    market, span = name_market(stages.settings), write_span(stages.table.span)
    if not found.count:
        return f"{market}, {span}: no bar is absent"
    share = found.absent / stages.table.rows
    holes = "1 hole" if found.count == 1 else f"{found.count:,} holes"
    return (
        f"{market}, {span}: {holes}, {found.absent:,} bars absent ({share:.2%}), "
        f"{found.longest:,} in a row at most"
    )
