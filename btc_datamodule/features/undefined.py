"""Where a feature has no value for bars that are known, and what becomes of such rows.

A feature gives null, NaN or an infinity for one of two reasons. A bar of its lookback is not known:
one of an outage, or from before the first. Or all of them are known, and there is no value for
them: the logarithm of no volume, a quotient by 0. The feature is *undefined* in that row then. Rows
of the first kind are not observed, and nothing brings their bars back. Those of the second kind are
often the quiet hours of a market, which a model should see, and a test set should have:

    drop    they are not observed either, and whoever opens the file is told how many there are
    flag    they are observed: the value is NaN in the file, and 0 in what is handed out, scaled, so
            that it is in the middle of the others; a last column ``undefined`` of ``x`` is 1
    fail    as drop, and opening the file for training is an error

With ``mask: bar`` a row is observed as a whole, or not at all. With ``mask: feature`` each feature
is by itself, in each row: a *cell*. A row is observed with the one where all of its cells are with
the other.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask, Runs, count_rows
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.escaping import escape
from btc_datamodule.features.cells import split_cells
from btc_datamodule.features.moments import select_counted
from btc_datamodule.features.table import Table

Undefined = Literal["drop", "flag", "fail"]
"""What becomes of a known bar for which a feature has no value: not observed; 0 in its place and a
column that says so; or an error."""


KEEP = (
    "`undefined: flag` keeps such bars, with 0 in the place of the value and a column that says so;"
    " or write the feature so that it has a value there, such as `max(volume, 0.001).log()`"
)
"""What to do about features without a value."""


class JudgedRows(NamedTuple):
    """Rows of features, once it is settled what of them counts.

    Attributes:
        x: (n, F) float32, or (n, F + 1) with the flag; 0 where not observed, NaN where undefined.
        observed: (n,) which rows are observed, or of the shape of ``x``, which cells. The flag is
            observed where any feature is.
        undefined: (n, F) where a feature is undefined; of rows that are observed as a whole in
            those in which no value is absent for the other reason.
        valued: (n, F) where a feature has a value, whatever the others have.
    """

    x: NDArray[np.float32]
    observed: Mask
    undefined: Mask
    valued: Mask

    def skip(self, rows: int) -> "JudgedRows":
        """These without the first of them."""
        return JudgedRows(
            self.x[rows:], self.observed[rows:], self.undefined[rows:], self.valued[rows:]
        )

    @property
    def counted(self) -> NDArray[np.float32]:
        """What statistics are of: see ``select_counted``."""
        flagged = self.x.shape[1] > self.undefined.shape[1]
        return select_counted(self.x, self.observed, flagged=flagged)


def judge_rows(
    values: NDArray[np.float32], known: Mask, counts: Mask, *, flag: bool, by_feature: bool
) -> JudgedRows:
    """Tell what is observed, and where features are undefined.

    Args:
        values: (n, F).
        known: (n, F), whether all that the value is made of is known: see ``find_known``.
        counts: (n, F) or (n, 1), whether it may count as observed at all: see ``find_counting``.
        flag: whether what is undefined is observed, and flagged.
        by_feature: whether each cell is observed by itself; else rows are as a whole.
    """
    defined: Mask = np.isfinite(values)
    valued = defined & counts
    undefined = ~defined & known & counts
    observed = valued | undefined
    if not by_feature:
        observed = np.all(observed, axis=1)
        undefined &= observed[:, np.newaxis]
    flagged: Mask = np.any(undefined, axis=1, keepdims=True)
    x = values
    if flag:
        x = np.concatenate([np.where(undefined, np.float32(np.nan), values), flagged], axis=1)
        if by_feature:
            observed = np.concatenate([observed, np.any(observed, axis=1, keepdims=True)], axis=1)
    else:
        observed = observed & ~(undefined if by_feature else flagged[:, 0])
    x = x.astype(np.float32, copy=False)
    x[~observed] = 0
    return JudgedRows(x, observed, undefined, valued)


def find_known(outage: Mask, lookbacks: Sequence[int], rows: int) -> Mask:
    """Whether all bars are known that features of the candles are made of: (rows, F).

    Args:
        outage: (m,) which rows of a frame no bar is known of; at least the longest lookback of
            them, less one, come before those that are meant, or the frame begins with the series.
        lookbacks: of the F features.
        rows: how many are meant, the last of the frame.
    """
    at = np.arange(len(outage))
    # Bars in a row that are known up to each row, itself included.
    run: NDArray[np.int64] = at - np.maximum.accumulate(np.where(outage, at, -1))
    known: Mask = np.greater_equal.outer(run[len(outage) - rows :], lookbacks)
    return known


def find_counting(outage: Mask, first: int, warm_up: int) -> Mask:
    """Whether features of the candles may count as observed at all: (n, 1).

    Those of rows of the warm-up may not, nor of rows of which no bar is known, such as the hour of
    the day.

    Args:
        outage: (n,) which rows no bar is known of.
        first: number of the first of them.
        warm_up: rows of the table whose features lack history.
    """
    counts: Mask = ~outage & (np.arange(first, first + len(outage)) >= warm_up)
    return counts[:, np.newaxis]


def find_features(table: Table) -> dict[str, Runs]:
    """The features that are undefined anywhere, by name, and the runs of rows in which they are."""
    runs = split_cells(table.undefined, len(table.features))
    return {name: found for name, found in zip(table.features, runs, strict=True) if len(found)}


def find_void(table: Table) -> list[str]:
    """Names of features that have no value in any row that may be observed."""
    return [name for name, n in zip(table.features, table.valued.tolist(), strict=False) if not n]


def list_undefined(table: Table) -> list[str]:
    """Which features are undefined in how many rows, and where, as text."""
    told = []
    for name, runs in find_features(table).items():
        first, last = (table.find_time(int(row)) for row in (runs[0, 0], runs[-1, 1] - 1))
        told.append(
            f"{escape(name)} in {count_rows(runs):,} of {table.rows:,} bars "
            f"({format_instant(first)} to {format_instant(last)})"
        )
    return told


def tell_undefined(table: Table) -> str:
    """The rest of a sentence on features that have no value: where, and what to do."""
    return f"for bars that are known: {'; '.join(list_undefined(table))}. {KEEP}"
