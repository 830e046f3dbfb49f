"""Walls: from which row on the samples of a span may be made of bars.

A span of train, and with ``context`` strict one of val or test, has a wall at its start: nothing
that its samples are made of may come from before it. A filled bar belongs to the bar that it
repeats. So where a hole lies across the wall, the rows of it that lie inside the span still repeat
a bar from outside, and the wall stands where the first bar of the span's own is. The embargo is
counted from there, too.
"""

from collections.abc import Sequence

from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation.splits import Fold
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


def find_train_runs(
    table: Table, fold: Fold, *, embargo: int, purge: int
) -> Sequence[tuple[int, int]]:
    """The rows that statistics may see, as half-open runs, one for each train span.

    They are what a train window can have as input: behind the wall and the embargo the first rows
    are left out, whose features are made of bars before, and at the end those of the purge.
    """
    runs = []
    for span in fold.train:
        low = min(find_embargo(table, fold, span, embargo) + table.warm_up, table.rows)
        high = min(max(table.find_row(span[1]), 0), table.rows) - purge
        runs.append((low, max(low, high)))
    return runs
