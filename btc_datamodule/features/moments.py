"""Moments of rows: how many, their mean, and their squared deviations from it.

The moments of parts give the moments of the whole without the rows, by the formula of Chan, Golub
and LeVeque (1979), which does not lose a small variance in the square of a large mean.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Moments(NamedTuple):
    """The moments of the rows of an (n, F) array.

    Attributes:
        n: how many rows.
        mean: (F,) float64; 0 where there are no rows.
        squares: (F,) float64, sums of the squared deviations from the mean.
    """

    n: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> "Moments":
        """Moments of the rows of an array, in two passes; the mean's rounding is added."""
        n = len(rows)
        columns = rows.T.astype(np.float64, order="C")  # along which numpy adds pairwise
        mean = columns.sum(axis=1) / max(n, 1)
        columns -= mean[:, None]
        rest = columns.sum(axis=1) / max(n, 1)
        squares = np.square(columns, out=columns).sum(axis=1) - n * rest**2
        return cls(n, mean + rest, np.maximum(squares, 0.0))

    @classmethod
    def merge(cls, parts: Iterable["Moments"], n_features: int) -> "Moments":
        """Moments of the rows of all parts together."""
        parts = list(parts)
        n = sum(part.n for part in parts)
        weights = np.array([part.n for part in parts], dtype=np.float64)[:, None]
        means = np.array([part.mean for part in parts]).reshape(-1, n_features)
        within = np.array([part.squares for part in parts]).reshape(-1, n_features)
        mean = (weights * means).sum(axis=0) / max(n, 1)
        return cls(n, mean, (within + weights * (means - mean) ** 2).sum(axis=0))

    @property
    def deviation(self) -> NDArray[np.float64]:
        """(F,) standard deviations of the population; 0 where there are no rows."""
        return np.sqrt(self.squares / max(self.n, 1))
