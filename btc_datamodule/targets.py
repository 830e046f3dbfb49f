"""Targets: what is to be forecast, as functions of the future window.

A target receives the bars that it is measured from and the H target bars of each sample, and
knows its shape without any data. It sees nothing else, so it cannot reach past its stage. Bars
that are not known (outages, the future of the last origins in ``predict``) are NaN, and a target
that depends on one is NaN.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import ConfigError


class Target(ABC):
    """A function of the future window. Subclasses are frozen dataclasses.

    Class attributes:
        context: bars before the first target bar that it is measured from. With no gap the last
            of them is the origin.
        columns: what it needs of each bar, from ``table.BAR_COLUMNS``.
    """

    context: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("close",)

    @abstractmethod
    def shape(self, horizon: int) -> tuple[int, ...]:
        """Shape of one sample's target for a horizon of ``horizon`` bars."""

    @abstractmethod
    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        """Targets of a batch.

        Args:
            bars: (B, context + H, len(columns)) float64.

        Returns:
            (B, *shape(H)) floating.
        """


@dataclass(frozen=True)
class LogReturn(Target):
    """The path of one-bar log returns: ln(C_i / C_{i-1}) for each target bar i; (H, 1)."""

    def shape(self, horizon: int) -> tuple[int, ...]:
        """(H, 1)."""
        return (horizon, 1)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        """(B, H, 1): one return a target bar."""
        return np.diff(np.log(bars), axis=1)


@dataclass(frozen=True)
class Direction(Target):
    """The sign of the log return over the whole horizon: -1, 0 or 1; (1,).

    Attributes:
        dead_zone: log returns of at most this size count as 0.
    """

    dead_zone: float = 0.0

    def __post_init__(self) -> None:
        if not self.dead_zone >= 0:
            raise ConfigError(f"target.dead_zone {self.dead_zone} must be 0 or more")

    def shape(self, horizon: int) -> tuple[int, ...]:
        """(1,)."""
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        """(B, 1): the direction from the bar before the first target bar to the last."""
        change = np.log(bars[:, -1] / bars[:, 0])
        # Written so that NaN stays NaN: it compares as false.
        return np.where(np.abs(change) <= self.dead_zone, 0.0, np.sign(change))
