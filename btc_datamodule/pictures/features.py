"""Features: how the values of each are spread in train, val and test."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from btc_datamodule.checks import list_first
from btc_datamodule.errors import ConfigError
from btc_datamodule.escaping import shorten
from btc_datamodule.overview.colours import STAGE_COLOURS
from btc_datamodule.overview.distributions import SHOWN, Distribution, measure_distributions
from btc_datamodule.overview.market import title_of
from btc_datamodule.pictures.figures import Area, choose_figure, find_root, pick
from btc_datamodule.pictures.panels import (
    count_panels,
    fit_titles,
    head_figure,
    make_panels,
    place_legend_below,
)
from btc_datamodule.stages import Stages

WIDTH, HEIGHT = 2.9, 1.3
"""Inches of a panel, at least."""

COLUMNS, MOST_ROWS = 4, 6
"""Of a figure that nobody has given."""


def plot_features(
    stages: Stages, features: Sequence[str] | None = None, fig: Area | None = None
) -> Figure:
    """Draw the distributions of features; see ``BTCDataModule.plot_features``."""
    names = _choose_features(stages, features)
    rows = min(MOST_ROWS, -(-len(names) // COLUMNS))
    figure = choose_figure(fig, 12, 0.9 + 1.9 * rows)
    high, wide = count_panels(figure, WIDTH, HEIGHT)
    shown = measure_distributions(stages, names[: high * wide])
    panels = make_panels(figure, len(shown), wide)
    for place, (axes, each) in enumerate(zip(panels, shown, strict=True)):
        _draw(axes, each)
        if place % wide == 0:
            axes.set_ylabel("density", fontsize="small")
    rest = "" if len(shown) == len(names) else f", {len(shown)} of {len(names)} features"
    head_figure(
        figure,
        f"{title_of(stages.settings, stages.table.span)}{rest}: values as they are; drift "
        "from train: 0.1 is small, 0.25 large",
    )
    met = [stage for stage in SHOWN if any(stage in each.density for each in shown)]
    colours = {stage: pick(STAGE_COLOURS[stage], panels[0]) for stage in met}
    place_legend_below(
        figure, [Line2D([], [], color=colours[stage], linewidth=3, label=stage) for stage in met]
    )
    fit_titles(figure, panels)
    return find_root(figure)


def _choose_features(stages: Stages, features: Sequence[str] | None) -> list[str]:
    known = stages.table.features
    if features is None:
        return list(known)
    wanted = [features] if isinstance(features, str) else list(features)
    unknown = [each for each in wanted if each not in known]
    if unknown or not wanted:
        raise ConfigError(f"features is {features!r}: choose from {list_first(known, 20)}, by name")
    return [each for each in known if each in wanted]


def _draw(axes: Axes, each: Distribution) -> None:
    for stage, density in each.density.items():
        colour = pick(STAGE_COLOURS[stage], axes)
        if stage == "train":
            axes.stairs(density, each.edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(density, each.edges, color=colour, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    axes.ticklabel_format(axis="x", scilimits=(-3, 5))
    axes.xaxis.get_offset_text().set_fontsize("small")
    axes.tick_params(labelsize="small")
    axes.margins(x=0)
    told = [f"{stage} {drift:.2f}" for stage, drift in each.drift.items()]
    lines = [shorten(each.name, 34)]
    if told:
        lines.append(f"drift {', '.join(told)}")
    missing = {stage: share for stage, share in each.missing.items() if share >= 0.0005}
    if missing:
        shares = [f"{100 * share:.3g}% of {stage}" for stage, share in missing.items()]
        lines[1:] = [", ".join([*lines[1:], f"missing {', '.join(shares)}"])]
    if not each.density:
        lines.append("no value")
    axes.set_title("\n".join(lines), fontsize="small", loc="center", parse_math=False)
