"""``Holes``: which share of the bars there is a candle for, by day and hour, as a calendar.

What is missing at night, at weekends or through one bad week is seen in no list of holes. The
shares are counted from runs of rows, so that time and memory grow with the number of holes and
cells, not with the length of history.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs
from btc_datamodule.candles.timeline import MONDAY, WEEK
from btc_datamodule.features.table import Table

DAY = 86_400
CELLS = (1, 2, 3, 4, 6, 8, 12, 24)
"""Hours that a cell may have: those that divide a day."""

MOST_DAYS = 400
"""A longer history has a column for each week."""


@dataclass(frozen=True, eq=False)
class Holes:
    """A calendar of the bars.

    Attributes:
        first: when the first column begins, a midnight UTC; of weeks a Monday's.
        step: seconds of a column, a day or weeks.
        cell: seconds of a row, which divide a day.
        share: (columns, rows) float64, the share of bars that there is a candle for, of those that
            open in the column's days and the row's hours; NaN where none does.
        bars: (columns, rows) int64, how many these are.
        absent: bars without a candle in all.
        count: holes, unbroken runs of them.
        longest: bars of the longest hole.
    """

    first: int
    step: int
    cell: int
    share: NDArray[np.float64]
    bars: NDArray[np.int64]
    absent: int
    count: int
    longest: int

    @property
    def starts(self) -> NDArray[np.int64]:
        """(columns,) epoch seconds at which they begin."""
        return self.first + self.step * np.arange(len(self.share), dtype=np.int64)

    @property
    def hours(self) -> NDArray[np.float64]:
        """(rows,) hours past midnight UTC at which they begin."""
        return np.arange(self.share.shape[1], dtype=np.float64) * (self.cell / 3600)


def count_holes(table: Table, most_days: int = MOST_DAYS) -> Holes:
    """Count the bars that there are, by day and hour.

    Args:
        table: the feature file.
        most_days: of a longer history each column is a week.
    """
    start, end = table.span
    interval = int(table.interval)
    cell = next((hours * 3600 for hours in CELLS if hours * 3600 >= interval), DAY)
    step = max(DAY, -(-interval // DAY) * DAY)
    if end - start > most_days * DAY or step % WEEK == 0:
        step = -(-step // WEEK) * WEEK
    origin = MONDAY if step % WEEK == 0 else 0
    first = (start - origin) // step * step + origin
    columns, rows = -(-(end - first) // step), DAY // cell
    edges = first + cell * np.arange(columns * (step // cell) + 1, dtype=np.int64)
    opened = (-((start - edges) // interval)).clip(0, table.rows)
    shape = (columns, step // DAY, rows)
    bars = np.diff(opened).reshape(shape).sum(axis=1)
    absent = np.diff(_count_absent(table.holes, opened)).reshape(shape).sum(axis=1)
    lengths = table.holes[:, 1] - table.holes[:, 0]
    with np.errstate(invalid="ignore"):
        share = (bars - absent) / bars
    return Holes(
        first=first,
        step=step,
        cell=cell,
        share=share,
        bars=bars,
        absent=int(lengths.sum()),
        count=len(lengths),
        longest=int(lengths.max(initial=0)),
    )


def _count_absent(holes: Runs, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows of holes lie before each of some rows."""
    if not len(holes):
        return np.zeros(len(rows), dtype=np.int64)
    before = np.concatenate([[0], np.cumsum(holes[:, 1] - holes[:, 0])])
    hole = np.searchsorted(holes[:, 0], rows, side="right") - 1
    inside = np.minimum(rows, holes[hole, 1]) - holes[hole, 0]
    counted: NDArray[np.int64] = np.where(hole < 0, 0, before[hole] + inside)
    return counted
