"""A picture of the candles: the closes, the stages and the outages. Needs matplotlib."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.disk.atomic import check_output
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.features.table import Table

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule

DAY = 86_400
POINTS = 4000
COLOURS: dict[Stage, str] = {"train": "#4878cf", "val": "#ee854a", "test": "#6acc64"}


def plot_candles(data: "BTCDataModule", path: str | Path) -> Path:
    """Write a picture of a datamodule's candles after ``setup``; give its path.

    Raises:
        ConfigError: if matplotlib is not installed, or the name ends in no kind of picture.
        StoreError: if the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plots need matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(12, 5), layout="constrained")
    kinds = FigureCanvasAgg(figure).get_supported_filetypes()
    check_output(Path(path), [f".{kind}" for kind in sorted(kinds)])
    table = data.table
    axes = figure.add_subplot()
    edges, low, high = _compute_envelope(table)
    days = _convert_to_days(table, edges)
    axes.fill_between(days, low, high, color="#333333", linewidth=0.6, step="post")
    axes.xaxis_date()
    for stage, colour in COLOURS.items():
        spans = data.fold.spans(stage)
        for start, end in spans:
            axes.axvspan(start / DAY, end / DAY, color=colour, alpha=0.18, linewidth=0)
        if not spans:
            continue
        label = f" {stage}: {len(data.dataset(stage)):,} windows"
        axes.text(
            spans[0][0] / DAY, 1.01, label, transform=axes.get_xaxis_transform(), color=colour
        )
    for start, end in _convert_to_days(table, table.outages):
        axes.axvspan(start, end, ymax=0.04, color="#d65f5f", linewidth=0.5)
    axes.set_yscale("log")
    axes.set_ylabel("price")
    axes.set_title(
        f"{data.source.name} {data.source.series}: {table.present:,} bars, "
        f"{len(table.outages):,} outages (red, at the foot)",
        loc="left",
        pad=22,
    )
    axes.margins(x=0)
    figure.savefig(path, dpi=100)
    return Path(path)


def _compute_envelope(
    table: Table,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Lowest low and highest high in at most ``POINTS`` stretches of rows, NaN in outages."""
    edges = np.unique(np.linspace(0, table.rows, min(POINTS, table.rows) + 1).astype(np.int64))
    low = np.full(len(edges) - 1, np.nan)
    high = low.copy()
    for i, (start, end) in enumerate(pairwise(edges)):
        lows, highs = table.bars("low")[start:end], table.bars("high")[start:end]
        if np.isfinite(lows).any():
            low[i], high[i] = np.nanmin(lows), np.nanmax(highs)
    return edges[:-1], low, high


def _convert_to_days(table: Table, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Times of rows in days since the epoch, matplotlib's unit of dates."""
    return (table.first + rows * table.interval) / DAY
