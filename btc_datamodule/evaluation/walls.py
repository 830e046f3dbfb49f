"""Walls: from which row on the samples of a span may be made of bars.

A span of train, and with ``context`` strict one of val or test, has a wall at its start: nothing
that its samples are made of may come from before it. A filled bar belongs to the bar that it
repeats. So where a hole lies across the wall, the rows of it that lie inside the span still repeat
a bar from outside, and the wall stands where the first bar of the span's own is. The embargo is
counted from there, too.

What a row has of a covariate may be older: the funding of eight hours ago, a day's volatility. Rows
behind a wall that are made of anything from before it *cross* it, and are in no sample.
"""

from collections.abc import Sequence

import numpy as np

from btc_datamodule.candles.runs import Runs, find_runs, join_runs, subtract_runs
from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation.splits import Fold
from btc_datamodule.features.layout import REACH
from btc_datamodule.features.table import Table


def find_wall(table: Table, span: Span) -> int:
    """The first row at or after the start of ``span`` whose bar repeats none from before it."""
    return table.find_present(max(0, table.find_row(span[0])))


def find_embargo(table: Table, fold: Fold, span: Span, embargo: int) -> int:
    """The first row that samples of a train span may be made of, once the embargo is over.

    Args:
        table: the feature file.
        fold: the spans of all stages.
        span: the train span.
        embargo: rows left out after each val or test span that ends before ``span`` or at its
            start, counted from the first row after it that repeats no bar of it.
    """
    edges = [end for _, end in (*fold.val, *fold.test) if end <= span[0]]
    free = [table.find_present(table.find_row(end)) + embargo for end in edges]
    return max([find_wall(table, span), *free])


def find_crossing(table: Table, wall: int, end: int, since: int | None = None) -> Runs:
    """Runs of rows of [wall, end) that are made of something from before the row ``wall``.

    Args:
        table: the feature file.
        wall: a row; at the beginning of the table there is nothing before it to keep out, unless
            ``since`` says so.
        end: row past the last.
        since: the instant of a wall that lies before the table; None if there is none.
    """
    instant = table.find_time(wall) if wall > 0 else since
    if not table.has_reach or instant is None:
        return np.zeros((0, 2), dtype=np.int64)
    return join_runs(
        [
            find_runs(table.read(REACH, rows) < instant, rows.start)
            for rows in table.segments(wall, min(end, table.rows))
        ]
    )


def find_train_runs(
    table: Table, fold: Fold, *, embargo: int, purge: int
) -> Sequence[tuple[int, int]]:
    """The rows that statistics may see, as half-open runs, one or more for each train span.

    They are what a train window can have as input: behind the wall and the embargo the first rows
    are left out, whose features are made of bars before, and at the end those of the purge.
    """
    runs = []
    for span in fold.train:
        wall = find_embargo(table, fold, span, embargo)
        low = min(wall + table.warm_up, table.rows)
        high = max(low, min(max(table.find_row(span[1]), 0), table.rows) - purge)
        own = subtract_runs(np.array([[low, high]]), find_crossing(table, wall, high))
        runs += [(first, end) for first, end in own.tolist()] or [(low, low)]
    return runs
