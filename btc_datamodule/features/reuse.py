"""A feature file that is used again, looked at: does the code still compute what is stored?

The name of a feature file follows from the code and the values of its features (``fingerprint``).
What a function reads while it computes, such as a file, is in no code, and neither is a library
that was updated. So some rows of a file that is there already are computed anew, of features that
are the user's own; those of this package and texts cannot change unseen.
"""

from collections.abc import Sequence

import numpy as np

from btc_datamodule.candles.timeline import Interval, format_instant
from btc_datamodule.errors import ConfigError
from btc_datamodule.features.causality import CARRIED, measure_spread
from btc_datamodule.features.feature import is_own
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.joined import join_series
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.segment import compute_segment
from btc_datamodule.features.table import Table
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.record_file import RecordReader

ROWS = 16
"""Rows in order that are computed anew, at the beginning, in the middle and at the end."""

ROUNDED = 1e-6
"""A difference beside a value that float32 does not show for sure."""


def check_reuse(
    table: Table,
    reader: CandleReader,
    beside: Sequence[CandleReader | RecordReader],
    recipe: Recipe,
) -> None:
    """Raise ``ConfigError`` if a feature of the user's own computes other values than are stored.

    Args:
        table: the feature file, of this recipe.
        reader: the candle file.
        beside: the files of the series beside it.
        recipe: what the feature file was made by.
    """
    own = [column for column, each in enumerate(recipe.features) if is_own(each)]
    if not own:
        return
    of_bars = (table.first, Interval(table.interval), table.rows, table.present)
    grid = Grid(*of_bars, table.holes, table.max_fill)
    joined = join_series(recipe.beside, beside, grid.first + grid.rows * grid.interval)
    last = max(table.rows - ROWS, 0)
    for low in sorted({min(recipe.warm_up, last), last // 2, last}):
        rows = slice(low, min(low + ROWS, table.rows))
        found = compute_segment(reader, grid, recipe, joined, rows).judged
        stored = table.read("x", rows)
        seen = table.read("observed", rows).reshape(len(stored), -1) != 0
        same_seen = seen == found.observed.reshape(seen.shape)
        for column in own:
            now, then = found.x[:, column], stored[:, column]
            rounding = CARRIED * measure_spread(then)
            same = np.isclose(now, then, rtol=ROUNDED, atol=rounding, equal_nan=True)
            same &= same_seen[:, column if seen.shape[1] > 1 else 0]
            if not same.all():
                at = int(np.argmin(same))
                raise ConfigError(
                    f"feature {recipe.features[column].name!r} at "
                    f"{format_instant(table.find_time(low + at))} is {now[at]:.8g} now, and "
                    f"{then[at]:.8g} in {table.path}, though no code or value that it names has "
                    "changed: something that it reads has, such as a file or a library. Remove "
                    f"{table.path} to have all features computed anew; and give what is read to "
                    "the function, as the value of a default argument, to have that done by itself"
                )
