"""A batch: some windows as a model receives them."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from btc_datamodule.errors import ConfigError
from btc_datamodule.escaping import shorten
from btc_datamodule.evaluation.splits import STAGES
from btc_datamodule.overview.colours import FAINT, pick_series
from btc_datamodule.overview.market import name_market
from btc_datamodule.pictures.figures import (
    Area,
    choose_figure,
    find_root,
    measure,
    pick,
    write_name,
)
from btc_datamodule.pictures.panels import (
    count_panels,
    fit_titles,
    head_figure,
    make_panels,
    place_legend_below,
)
from btc_datamodule.stages import Stages
from btc_datamodule.windows.batch import Batch

WINDOWS = 6
WIDTH, HEIGHT = 2.9, 1.45
"""Inches of a panel, at least."""

LINES = 6
"""Features up to which each is a line; more are rows of a picture."""

SHOWN_TARGETS = 4

NAME_HEIGHT = 0.14
"""Inches of the row of a feature that has room for its name."""

RANGE = 3.0
"""Of scaled values that a picture tells apart."""

Numbers = NDArray[np.float64]


def plot_batch(stages: Stages, batch: Batch | None = None, fig: Area | None = None) -> Figure:
    """Draw windows of a batch; see ``BTCDataModule.plot_batch``."""
    read = None if batch is None else _read(batch, stages)
    figure = choose_figure(fig, 12, 5)
    high, wide = count_panels(figure, WIDTH, HEIGHT)
    most = min(WINDOWS, high * wide)
    given = f"{most} windows of train" if read is None else "windows of a batch"
    x, observed, y, times = _read(_take_some(stages, most), stages) if read is None else read
    count = min(most, len(x))
    names = [write_name(each, 30) for each in stages.table.features]
    panels = make_panels(figure, count, min(wide, 3), same=True)
    image: Any = None
    reach = RANGE if stages.settings.scaling != "none" else _measure_reach(x[:count], observed)
    for axes, rows, seen, target, time in zip(panels, x, observed, y, times, strict=False):
        if len(names) <= LINES:
            _draw_lines(axes, rows, seen)
        else:
            image = _draw_image(axes, rows, seen, reach)
        axes.set_title(_describe(target, time), fontsize="small", parse_math=False)
    _label(panels, stages, names)
    given = given if batch is None else f"{count} of {len(x)} {given}"
    target = type(stages.settings.target).__name__
    market = name_market(stages.settings)
    head_figure(figure, f"{market}: {given}, by the opening of their origins (UTC); y: {target}")
    if image is not None:
        figure.colorbar(image, ax=panels, label=_name_values(stages), shrink=0.9, extend="both")
        fit_titles(figure, panels)
        return find_root(figure)
    handles: list[Artist] = [
        Line2D([], [], color=pick(pick_series(place), panels[0]), label=name)
        for place, name in enumerate(names)
    ]
    if not observed[:count].all():
        handles.append(Patch(color=pick(FAINT, panels[0]), alpha=0.3, label="not observed"))
    place_legend_below(figure, handles)
    fit_titles(figure, panels)
    return find_root(figure)


def _take_some(stages: Stages, count: int) -> Batch:
    """Windows of train, spread evenly; of another stage if it has none."""
    for stage in STAGES:
        windows = stages.windows(stage)
        windows.ahead_bytes = 0  # a few windows do not pay for scaling all rows
        if len(windows):
            places = np.linspace(0, len(windows) - 1, min(count, len(windows)))
            return windows[np.unique(places.round().astype(np.int64))]
    raise ConfigError("no stage has a window that could be shown: see `btc-datamodule info`")


def _read(batch: Any, stages: Stages) -> tuple[Numbers, NDArray[np.bool_], Numbers, Numbers]:
    """Inputs, what of them is observed (B, L, F), targets (B, n) and times of a batch."""
    try:
        x, y, observed, times = (each.detach().cpu().numpy() for each in batch)
    except (AttributeError, TypeError, ValueError):
        raise ConfigError(
            "batch must be a Batch, such as next(iter(dm.train_dataloader())): with `gather: "
            "device` what dm.transfer_batch_to_device makes of it"
        ) from None
    if x.ndim == 2:  # a single sample
        x, y, observed, times = (each[np.newaxis] for each in (x, y, observed, times))
    features = stages.settings.n_features
    if x.ndim != 3 or x.shape[2] != features or observed.shape not in (x.shape, x.shape[:2]):
        raise ConfigError(
            f"batch.x has shape {x.shape} and batch.observed {observed.shape}: what is drawn has "
            f"(B, L, {features}) and (B, L)"
        )
    if not len(x):
        raise ConfigError("batch has no window: give one of which some are to be drawn")
    seen = observed if observed.ndim == 3 else np.repeat(observed[..., np.newaxis], features, 2)
    return x.astype(np.float64), seen, y.reshape(len(y), -1).astype(np.float64), times.reshape(-1)


def _draw_lines(axes: Axes, rows: Numbers, seen: NDArray[np.bool_]) -> None:
    bars = np.arange(1 - len(rows), 1)
    for place in range(rows.shape[1]):
        colour = pick(pick_series(place), axes)
        values = np.where(seen[:, place], rows[:, place], np.nan)
        axes.plot(bars, values, color=colour, linewidth=1, marker="." * (len(rows) == 1))
    for bar in bars[~seen.all(axis=1)]:
        axes.axvspan(bar - 0.5, bar + 0.5, color=pick(FAINT, axes), alpha=0.3, linewidth=0)


def _measure_reach(x: Numbers, observed: NDArray[np.bool_]) -> float:
    """The largest value there is, of values that are not scaled."""
    return float(np.abs(x[observed[: len(x)]]).max(initial=1e-12))


def _draw_image(axes: Axes, rows: Numbers, seen: NDArray[np.bool_], reach: float) -> Any:
    extent = (0.5 - len(rows), 0.5, rows.shape[1] - 0.5, -0.5)
    style: dict[str, Any] = {"cmap": "PuOr", "vmin": -reach, "vmax": reach, "aspect": "auto"}
    shown = np.ma.masked_where(~seen, rows).T
    return axes.imshow(shown, extent=extent, interpolation="nearest", **style)


def _label(panels: list[Axes], stages: Stages, names: list[str]) -> None:
    lines = len(names) <= LINES
    first = panels[0]
    first.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    named = len(names) * NAME_HEIGHT <= measure(first, tall=True)
    if not lines and named:
        short = [shorten(name, 16) for name in names]
        for axes in panels:  # they share their marks, but not the words of these
            axes.set_yticks(range(len(names)), short, parse_math=False)
    elif not lines:
        first.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    label = _name_values(stages) if lines else "" if named else "feature, from 0"
    for axes in panels:
        axes.tick_params(labelsize="small")
        if axes.get_subplotspec().is_last_row():  # type: ignore[union-attr]
            axes.set_xlabel("bars from the origin", fontsize="small")
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.set_ylabel(label, fontsize="small")


def _name_values(stages: Stages) -> str:
    """What the numbers of x are, which have no unit of their own."""
    return "value, not scaled" if stages.settings.scaling == "none" else "scaled value"


def _describe(target: Numbers, time: float) -> str:
    """When the origin opens, and what is to be forecast."""
    opened = datetime.fromtimestamp(int(time), UTC)
    values = ", ".join(f"{each:.3g}" for each in target[:SHOWN_TARGETS])
    more = ", ..." if len(target) > SHOWN_TARGETS else ""
    return f"{opened:%Y-%m-%d %H:%M}\ny: {values}{more}"
