"""Leaks in what a user gives beside features: sources and targets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule import Block, Candles, Direction, LogReturn, Source, Target
from btc_datamodule.candles.timeline import Span
from tests.audit.planted.leak import FIRST_VAL_ROW, SOURCE, TARGETS, UNKNOWN, Leak, make_candles
from tests.factories import HOUR, InMemory

GIVEN: dict[str, Leak] = {}


@dataclass(frozen=True, eq=False)
class Altered(Source):
    """A source that does something to all the bars that it is asked for, before anyone looks."""

    alter: Callable[[Candles], Candles]
    inner: Source = field(default_factory=lambda: InMemory(make_candles((FIRST_VAL_ROW - 2, 4))))

    name: ClassVar[str] = "altered"
    series: ClassVar[str] = "memory"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for block in self.inner.blocks(interval, span):
            yield replace(block, candles=self.alter(block.candles).slice(*span))


def close_at(candles: Candles, close: NDArray[np.float64]) -> Candles:
    """Candles with other closes, still valid."""
    high, low = np.maximum(candles["high"], close), np.minimum(candles["low"], close)
    return Candles(candles.interval, {**candles.columns, "close": close, "high": high, "low": low})


def smooth(candles: Candles) -> Candles:
    padded = np.pad(candles["close"], 1, mode="edge")
    return close_at(candles, (padded[:-2] + padded[1:-1] + padded[2:]) / 3)


def shift(candles: Candles) -> Candles:
    return close_at(candles, np.append(candles["close"][1:], candles["close"][-1:]))


def interpolate(candles: Candles) -> Candles:
    """Fills every hole on a line between the bars around it."""
    times = np.arange(candles.open_time[0], candles.open_time[-1] + HOUR, HOUR)
    columns = {
        name: np.interp(times, candles.open_time, values)
        for name, values in candles.columns.items()
    }
    return Candles(HOUR, {**columns, "open_time": times})


def leave(candles: Candles) -> Candles:
    return candles


for described, alter in {"smoothed": smooth, "shifted": shift, "interpolated": interpolate}.items():
    GIVEN[f"bars {described} by the source"] = Leak(
        (SOURCE,), {"source": Altered(alter)}, {"source": Altered(leave)}
    )


# --- targets --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnSign(Target):
    """The sign of the return of the origin itself."""

    reference_bars: ClassVar[int] = 2

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        sign: NDArray[np.float64] = np.sign(np.log(bars[:, 1] / bars[:, 0]))
        return sign


@dataclass(frozen=True)
class OwnReturnBesideNext(OwnSign):
    """The returns of the origin and of the next bar: half of the path is known."""

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (2,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        returns: NDArray[np.float64] = np.log(bars[:, 1:3, 0] / bars[:, :2, 0])
        return returns


@dataclass(frozen=True)
class NearlyKnown(OwnSign):
    """The return of the origin, and next to nothing of the next bar."""

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        returns: NDArray[np.float64] = np.log(bars[:, 1:3, 0] / bars[:, :2, 0])
        return returns[:, :1] + 1e-6 * returns[:, 1:]


@dataclass(frozen=True)
class Mixed(Target):
    """Takes what a sample's target is from the batch around it."""

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        returns: NDArray[np.float64] = np.log(bars[:, -1] / bars[:, 0])
        shifted: NDArray[np.float64] = returns - returns.mean()
        return shifted


GIVEN |= {
    "a target that is the sign of the origin's return": Leak(
        (UNKNOWN,), {"target": OwnSign()}, {"target": Direction()}
    ),
    "a target half of which is known": Leak(
        (UNKNOWN,), {"target": OwnReturnBesideNext()}, {"target": LogReturn()}
    ),
    "a target that is nearly known": Leak(
        (UNKNOWN,), {"target": NearlyKnown()}, {"target": LogReturn()}
    ),
    "a target that mixes the samples of a batch": Leak(
        (TARGETS,), {"target": Mixed()}, {"target": LogReturn()}
    ),
}
