"""Forecasts: beside what came, and how they do against the best baseline in the course of time."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import Span
from btc_datamodule.overview.colours import FAINT, INK, pick_series
from btc_datamodule.overview.forecasts import ForecastView, view_forecasts
from btc_datamodule.overview.market import name_market
from btc_datamodule.pictures.figures import (
    Area,
    choose_figure,
    find_root,
    pick,
    show_dates,
    to_days,
    write_name,
)
from btc_datamodule.pictures.panels import head_figure, make_panels, place_legend_below
from btc_datamodule.scoring.card import ScoreCard

LATEST = 300
"""Samples of which single values can be told apart."""


def plot_forecasts(card: ScoreCard, fig: Area | None = None) -> Figure:
    """Draw what a score says over time; see ``BTCDataModule.plot_forecasts``."""
    figure = choose_figure(fig, 12, 6)
    view = view_forecasts(card.score)
    upper, lower = make_panels(figure, 2, 1)
    shown = LATEST if view.truth is not None else len(view.times)
    _draw_values(upper, view, shown)
    _draw_lead(lower, view)
    count = len(view.times)
    latest = f"; above, the latest {shown:,}" if shown < count else ""
    settings = card.score.parts[0].samples.stages.settings
    stage = card.score.stage
    head_figure(
        figure,
        f"{name_market(settings)}: forecasts of {view.target} in {stage}, {count:,} samples"
        f"{latest}",
    )
    place_legend_below(figure, upper.get_lines())
    return find_root(figure)


def _draw_values(axes: Axes, view: ForecastView, shown: int) -> None:
    times = to_days(view.times[-shown:])
    if view.truth is not None:
        colour = pick(INK, axes)
        axes.plot(times, view.truth[-shown:], color=colour, linewidth=0.8, label="what came")
        _name(axes, f"{view.target}, last target bar")
    else:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _name(axes, f"share that is right, of {view.window:,} samples before")
    for place, (name, values) in enumerate(view.values.items()):
        is_best = name == view.best
        colour = pick(FAINT if is_best else pick_series(place), axes)
        label = f"best baseline: {name}" if is_best else write_name(name)
        axes.plot(times, values[-shown:], color=colour, linewidth=1.1, label=label)
    show_dates(axes, _span(view.times[-shown:]))
    axes.set_xlabel("")


def _draw_lead(axes: Axes, view: ForecastView) -> None:
    times = to_days(view.times)
    axes.axhline(0, color=pick(FAINT, axes), linewidth=1)
    for place, values in enumerate(view.lead.values()):
        axes.plot(times, values, color=pick(pick_series(place), axes), linewidth=1.1)
    _name(axes, "losses less those of the best baseline, summed up: below 0 is better")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    show_dates(axes, _span(view.times))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.05 * abs(high)), max(high, 0.05 * abs(low)))


def _name(axes: Axes, text: str) -> None:
    """Say over some axes what their values are: beside low ones there is no room."""
    axes.set_title(text, loc="left", fontsize="small", parse_math=False)


def _span(times: NDArray[np.int64]) -> Span:
    return int(times[0]), max(int(times[-1]), int(times[0]) + 1)
