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
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask, Runs, count_rows, find_runs, join_runs, subtract_runs
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.escaping import escape
from btc_datamodule.features.table import Table

Undefined = Literal["drop", "flag", "fail"]


KEEP = (
    "`undefined: flag` keeps such bars, with 0 in the place of the value and a column that says so;"
    " or write the feature so that it has a value there, such as `max(volume, 0.001).log()`"
)
"""What to do about features without a value."""


class JudgedRows(NamedTuple):
    """Rows of features, once it is settled which of them count.

    Attributes:
        x: (n, F) float32, or (n, F + 1) with the flag; 0 where not observed, NaN where undefined.
        observed: (n,) which rows count as observed.
        undefined: (n, F) where a feature is undefined, in rows in which no value is absent for the
            other reason.
    """

    x: NDArray[np.float32]
    observed: Mask
    undefined: Mask

    @property
    def whole(self) -> NDArray[np.float32]:
        """The observed rows in which every feature has a value: those that statistics are of."""
        rows: NDArray[np.float32] = self.x[self.observed & ~self.undefined.any(axis=1)]
        return rows


def judge_rows(
    values: NDArray[np.float32], lookbacks: Sequence[int], outage: Mask, *, flag: bool
) -> JudgedRows:
    """Tell which rows are observed, and where features are undefined.

    Args:
        values: (n, F), values of the last n rows of a frame.
        lookbacks: of the F features; no row is observed until all of them are reached.
        outage: (m,) which rows of the frame no bar is known of; at least the longest lookback of
            them, less one, come before the first of the n, or the frame begins with the series.
        flag: whether rows with undefined features are observed, and flagged.
    """
    rows, own = np.arange(len(outage)), slice(len(outage) - len(values), None)
    # Bars in a row that are known up to each row, itself included.
    known: NDArray[np.int64] = (rows - np.maximum.accumulate(np.where(outage, rows, -1)))[own]
    defined: Mask = np.isfinite(values)
    undefined: Mask = ~defined & np.greater_equal.outer(known, lookbacks)
    counts: Mask = np.all(defined | undefined, axis=1, keepdims=True)[:, 0]
    counts &= ~outage[own] & (rows[own] >= max(lookbacks) - 1)
    undefined &= counts[:, np.newaxis]
    flagged: Mask = np.any(undefined, axis=1, keepdims=True)
    x = values
    if flag:
        x = np.concatenate([np.where(undefined, np.float32(np.nan), values), flagged], axis=1)
    else:
        counts &= ~flagged[:, 0]
    x = x.astype(np.float32, copy=False)
    x[~counts] = 0
    return JudgedRows(x, counts, undefined)


def find_undefined(undefined: Mask, first: int) -> NDArray[np.int64]:
    """(k, 3) int64: the number of a feature, and a run of rows in which it is undefined.

    Args:
        undefined: ``JudgedRows.undefined``.
        first: number of its first row.
    """
    runs = [find_runs(column, first) for column in undefined.T]
    return np.concatenate([np.insert(each, 0, number, 1) for number, each in enumerate(runs)])


def join_undefined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """What ``find_undefined`` would have given for the whole, from its consecutive parts."""
    listed = np.concatenate([np.zeros((0, 3), dtype=np.int64), *parts])
    features = np.unique(listed[:, 0]).tolist()
    joined = [(number, join_runs([listed[listed[:, 0] == number, 1:]])) for number in features]
    return np.concatenate([listed[:0], *[np.insert(runs, 0, i, axis=1) for i, runs in joined]])


def unite_undefined(listed: NDArray[np.int64]) -> Runs:
    """Runs of rows in which any feature is undefined, sorted by start; they may overlap.

    Args:
        listed: what ``join_undefined`` gave.
    """
    runs: Runs = listed[np.argsort(listed[:, 1], kind="stable"), 1:]
    return runs


def find_features(table: Table) -> dict[str, Runs]:
    """The features that are undefined anywhere, by name, and the runs of rows in which they are."""
    listed = table.undefined
    return {
        table.features[number]: listed[listed[:, 0] == number, 1:]
        for number in np.unique(listed[:, 0]).tolist()
    }


def find_void(table: Table) -> list[str]:
    """Names of features that are undefined in every row in which they could have a value."""
    excused = subtract_runs(table.unobserved, unite_undefined(table.undefined))
    could = table.rows - count_rows(excused)
    return [name for name, runs in find_features(table).items() if count_rows(runs) == could]


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
