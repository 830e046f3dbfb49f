"""Moments of values: how many, their mean, and their squared deviations from it, by feature.

The moments of parts give the moments of the whole without the values, by the formula of Chan, Golub
and LeVeque (1979), which does not lose a small variance in the square of a large mean.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask


class Moments(NamedTuple):
    """The moments of the columns of an (n, F) array.

    Attributes:
        n: (F,) int64, how many values count.
        mean: (F,) float64; 0 where there are none.
        squares: (F,) float64, sums of the squared deviations from the mean.
    """

    n: NDArray[np.int64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> "Moments":
        """Moments of an array, NaN where a value does not count.

        In two passes; the mean's rounding is added.
        """
        columns = rows.T.astype(np.float64, order="C")  # along which numpy adds pairwise
        absent = np.isnan(columns)
        some = bool(absent.any())
        if some:
            columns[absent] = 0
        n = len(rows) - absent.sum(axis=1)
        mean = columns.sum(axis=1) / np.maximum(n, 1)
        columns -= mean[:, None]
        if some:
            columns[absent] = 0
        rest = columns.sum(axis=1) / np.maximum(n, 1)
        squares = np.square(columns, out=columns).sum(axis=1) - n * rest**2
        return cls(n, mean + rest, np.maximum(squares, 0.0))

    @classmethod
    def merge(cls, parts: Iterable["Moments"], n_features: int) -> "Moments":
        """Moments of the values of all parts together."""
        parts = list(parts)
        counts, means, within = (
            np.array([part[item] for part in parts], dtype=kind).reshape(-1, n_features)
            for item, kind in enumerate((np.int64, np.float64, np.float64))
        )
        n: NDArray[np.int64] = counts.sum(axis=0)
        mean = (counts * means).sum(axis=0) / np.maximum(n, 1)
        return cls(n, mean, (within + counts * (means - mean) ** 2).sum(axis=0))

    @property
    def deviation(self) -> NDArray[np.float64]:
        """(F,) standard deviations of the population; 0 where there are no values."""
        return np.sqrt(self.squares / np.maximum(self.n, 1))


def select_counted(x: NDArray[np.float32], observed: Mask, *, flagged: bool) -> NDArray[np.float32]:
    """What statistics are of: (m, F) float32, NaN where a value does not count.

    Args:
        x: (n, F) rows of the feature file.
        observed: (n,) or (n, F), what of them is observed. Of rows that are observed as a whole
            those are given in which every feature has a value.
        flagged: whether ``x`` may be NaN where it is observed; its last column is 1 in those rows,
            which no statistic counts.
    """
    if observed.ndim == 1:
        rows: NDArray[np.float32] = x[observed]
        return rows[~np.isnan(rows).any(axis=1)] if flagged else rows
    rows = np.where(observed, x, np.float32(np.nan))
    if flagged:
        rows[rows[:, -1] == 1, -1] = np.nan
    return rows
