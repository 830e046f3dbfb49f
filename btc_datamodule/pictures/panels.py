"""Several axes in one figure: how many fit, a title over all of them, one legend for all."""

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from btc_datamodule.pictures.figures import Area, find_root, fit_text, forgo_math, get_size

ROOM = 0.7
"""Inches that title and legend take."""


def count_panels(figure: Area, width: float, height: float) -> tuple[int, int]:
    """Rows and columns of panels of at least some inches that a figure has room for."""
    wide, tall = get_size(figure)
    return max(1, int((tall - ROOM) / height)), max(1, int(wide / width))


def make_panels(figure: Area, count: int, columns: int, *, same: bool = False) -> list[Axes]:
    """Add axes to a figure, row by row.

    Args:
        figure: which.
        count: of axes.
        columns: at most.
        same: whether all share their axes.
    """
    columns = max(1, min(columns, count))
    grid = figure.add_gridspec(-(-count // columns), columns)
    made: list[Axes] = []
    for place in range(count):
        shared = made[0] if same and made else None
        cell = grid[place // columns, place % columns]
        axes = figure.add_subplot(cell, sharex=shared, sharey=shared)
        if same:
            axes.tick_params(labelbottom=place + columns >= count, labelleft=place % columns == 0)
        made.append(axes)
    return made


def head_figure(figure: Area, title: str) -> None:
    """Write a title over all axes of a figure, on as many lines as it needs."""
    text = figure.suptitle(title, x=0.01, ha="left", fontsize="medium", parse_math=False)
    fit_text(text, 0.96 * get_size(figure)[0])


def fit_titles(figure: Area, panels: Sequence[Axes]) -> None:
    """Break the titles of panels so that none is wider than its panel, once all are laid out."""
    root = find_root(figure)
    engine = root.get_layout_engine()
    if engine is not None:
        engine.execute(root)
    for axes in panels:
        fit_text(axes.title, float(axes.get_window_extent().width / figure.dpi))


def place_legend_below(figure: Area, handles: Sequence[Artist]) -> None:
    """Put a legend under all axes of a figure, in as few rows as fit its width."""
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles=list(handles),
            loc="outside lower left",
            ncols=columns,
            frameon=False,
            fontsize="small",
            handlelength=1.4,
            columnspacing=1.2,
        )
        forgo_math(legend)
        if columns == 1 or legend.get_window_extent().width <= 0.97 * figure.bbox.width:
            return
        legend.remove()
