"""Guarantees of every row of the feature file: made of the candles, and of no later one.

The whole history is gone through, a segment of the feature file at a time: memory does not depend
on its length, and how many rows are tested is bound by ``SCAN_WORK`` for each feature.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.compare import LeakError, compare
from btc_datamodule.audit.twins import EVALUATED, is_exact
from btc_datamodule.candles.series import Columns
from btc_datamodule.features.causality import SCAN_WORK, check_every_row
from btc_datamodule.features.feature import Feature, count_warm_up, make_frame
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.layout import BAR_COLUMNS
from btc_datamodule.features.undefined import find_counting, find_known, judge_rows
from btc_datamodule.features.writing import SeenNotes
from btc_datamodule.stages import Stages
from btc_datamodule.store.candle_file import CandleReader

BEYOND = 64
"""Rows after a segment that a feature is given beside it, for it to look at if it does."""


def check_feature(feature: Feature, used: Stages) -> Counter[str]:
    """A feature depends on the bars of its lookback alone, row by row.

    Every row of a history for which the work suffices; else rows at the ends of stages, and others
    at random.
    """
    table, total = used.table, Counter[str]()
    edges = [
        table.find_row(start) - 1 for stage in EVALUATED for start, _ in used.fold.spans(stage)
    ]
    for rows, times, columns in _read_segments(used, feature.lookback - 1, BEYOND):
        early, size = table.find_row(int(times[0])), len(times)
        tested = check_every_row(
            feature,
            times,
            columns,
            work=SCAN_WORK * size // table.rows,
            first=[edge - early for edge in edges if early <= edge < early + size],
            exact=is_exact(feature),
        )
        total["tested"] += int(tested[rows.start - early : rows.stop - early].sum())
        total["rows"] += rows.stop - rows.start
    return total


def check_table(used: Stages) -> Counter[str]:
    """The feature file has the rows that the stored candles give when it is made again."""
    table, features, recipe = used.table, used.settings.features, used.settings.recipe
    warm = count_warm_up(features)
    notes, count = SeenNotes(), Counter[str]()
    for rows, times, columns in _read_segments(used, warm, 0):
        frame = make_frame(times, columns)
        own = slice(rows.start - rows.stop, None)
        when = times[own]
        with np.errstate(over="ignore"):
            computed = np.stack([feature(frame)[own] for feature in features], axis=1)
            values = computed.astype(np.float32)
        outage = np.isnan(columns["close"])
        judged = judge_rows(
            values,
            find_known(outage, [feature.lookback for feature in features], len(when)),
            find_counting(outage[own], rows.start, warm),
            flag=recipe.flag,
            by_feature=recipe.mask == "feature",
        )
        what = "{} in the feature file".format
        compare(what("observed"), judged.observed.astype("u1"), table.observed[rows], when)
        for name in BAR_COLUMNS:
            compare(what(name), columns[name][own], np.array(table.bars(name)[rows]), when)
        for column, name in enumerate(table.features):
            ours, theirs = judged.x[:, column], np.array(table.x[rows, column])
            exact = column >= len(features) or is_exact(features[column])
            compare(what(name), ours, theirs, when, exact=exact)
        notes.add(judged, rows.start)
        count["rows"] += len(when)
    for name, found in notes.collect().items():
        if not np.array_equal(found, getattr(table, name)):
            raise LeakError(f"what the feature file has as {name!r} is something else")
    return count


def _read_segments(
    used: Stages, before: int, after: int
) -> Iterator[tuple[slice, NDArray[np.int64], Columns]]:
    """The segments of the table: their rows, and open times and columns of what is read for them.

    Args:
        used: whose candles.
        before: rows to read before each.
        after: rows to read after each.
    """
    table, settings = used.table, used.settings
    with CandleReader(settings.candle_path) as reader:
        grid = Grid.of(reader, table.span, settings.max_fill)
        for rows in table.segments(0, table.rows):
            early, late = max(0, rows.start - before), min(table.rows, rows.stop + after)
            yield rows, grid.times(early, late), grid.read_bars(reader, early, late)
