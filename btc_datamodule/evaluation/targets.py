"""Targets: what is to be forecast, as functions of the future window.

A target receives the bars that it is measured from and the H target bars of each sample, and
knows its shape without any data. It sees nothing else, so it cannot reach past its stage. Bars
that are not known (outages, the future of the last origins in ``predict``) are NaN, and a target
that depends on one is NaN.

A target of classes (``n_classes``) gives whole numbers in place of floating ones, for
``torch.nn.functional.cross_entropy``: 0 to ``n_classes`` - 1, and ``IGNORED`` where others are NaN.

Most are measured from the *reference close*, that of the bar right before the first target bar:
the origin's close, if there is no gap.

>>> closes = np.array([[[100.0], [110.0], [99.0]]])  # one sample: the reference, two target bars
>>> LogReturn()(closes).round(4).tolist()
[[[0.0953], [-0.1054]]]
>>> CumulativeReturn()(closes).round(4).tolist()
[[-0.0101]]
>>> CumulativeReturn().prices(CumulativeReturn()(closes), np.array([100.0])).round(2).tolist()
[[99.0]]
>>> Direction(classes=True)(closes).tolist()  # 0 for not up, 1 for up
[0]
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.checks import set_whole_numbers
from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public

LEAST_MOVE = float(np.finfo(np.float64).tiny)
"""Below the size of any log return but 0."""

IGNORED = -100
"""The class of a sample whose class is not known: what ``cross_entropy`` leaves out by default."""

NEW_IN_0_2 = {"left_out_at": False}
"""Of a field added in 0.2: checkpoints of before know nothing of it (see ``plain.describe``)."""


@public
class Target(ABC):
    """A function of the future window. Subclasses are frozen dataclasses.

    Attributes:
        columns: what it needs of each bar, from ``features.layout.BAR_COLUMNS``.
    """

    columns: ClassVar[tuple[str, ...]] = ("close",)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "context" in vars(cls):
            raise ConfigError(
                f"target {cls.__name__} defines `context`, which is `reference_bars` since 0.2: "
                "rename it"
            )

    @property
    def reference_bars(self) -> int:
        """Bars before the first target bar that it is measured from; by default 1.

        With no gap the last of them is the origin. They belong to the past, whatever stage they
        lie in. A subclass overrides it with a property, or with a plain number.
        """
        return 1

    @property
    def n_classes(self) -> int | None:
        """How many classes there are; by default None: it is no target of classes."""
        return None

    @property
    def is_label(self) -> bool:
        """Whether its numbers name something, so that ``target_scaling`` leaves them as they are.

        By default those of classes do.
        """
        return self.n_classes is not None

    @abstractmethod
    def shape(self, horizon: int) -> tuple[int, ...]:
        """Shape of one sample's target for a horizon of ``horizon`` bars.

        Of one axis or more, of which the last is scaled; that of classes may be ().
        """

    @abstractmethod
    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating | np.integer]:
        """Targets of a batch.

        Args:
            bars: (B, reference_bars + H, len(columns)) float64.

        Returns:
            (B, *shape(H)) floating; of classes whole numbers from 0 to n_classes - 1, and
            ``IGNORED`` where a bar that matters is not known.
        """

    def prices(self, y: NDArray[np.floating], close: NDArray[np.float64]) -> NDArray[np.float64]:
        """The prices that targets, or forecasts of them, stand for.

        Args:
            y: (B, *shape(H)), in the target's own units: not scaled.
            close: (B,) reference closes.

        Returns:
            (B, ...) float64, in the unit of ``close``; the target says which prices.

        Raises:
            ConfigError: if no prices can be told from this target.
        """
        raise _refuse_prices(self)


@public
@dataclass(frozen=True)
class LogReturn(Target):
    """The path of one-bar log returns: ln(C_i / C_{i-1}) for each target bar i; (H, 1)."""

    def shape(self, horizon: int) -> tuple[int, ...]:
        """(H, 1)."""
        return (horizon, 1)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        """(B, H, 1): one return a target bar; NaN where its close or the one before is."""
        return _compute_returns(bars)

    def prices(self, y: NDArray[np.floating], close: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, H, 1): the close of each target bar."""
        return _grow_prices(close, np.cumsum(y, axis=1, dtype=np.float64))


@public
@dataclass(frozen=True)
class CumulativeReturn(Target):
    """The log return over the whole horizon: ln(C_last / C_reference); (1,)."""

    def shape(self, horizon: int) -> tuple[int, ...]:
        """(1,)."""
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        """(B, 1); NaN where the reference close or the last one is."""
        return np.log(bars[:, -1] / bars[:, 0])

    def prices(self, y: NDArray[np.floating], close: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, 1): the close of the last target bar."""
        return _grow_prices(close, y)


@public
@dataclass(frozen=True)
class Direction(Target):
    """The sign of the log return over the whole horizon: -1, 0 or 1; (1,). Or its class; ().

    With a ``dead_zone`` the classes are 0 down, 1 flat and 2 up. Without one they are 0 not up and
    1 up: a price that has not changed at all is too rare to be a class of its own, and counts as
    what wins nothing for who buys. A dead zone as small as 1e-9 makes a class of it.

    Attributes:
        dead_zone: log returns of at most this size count as 0.
        classes: give the class, an int64, in place of the sign.
    """

    dead_zone: float = 0.0
    classes: bool = field(default=False, metadata=NEW_IN_0_2)

    def __post_init__(self) -> None:
        if not self.dead_zone >= 0:
            raise ConfigError(f"target.dead_zone {self.dead_zone} must be 0 or more")
        _check_flag("classes", self.classes)

    @property
    def n_classes(self) -> int | None:
        """3, or 2 without a ``dead_zone``; None for the sign."""
        return (3 if self.dead_zone else 2) if self.classes else None

    @property
    def is_label(self) -> bool:
        """True: a sign is one too."""
        return True

    def shape(self, horizon: int) -> tuple[int, ...]:
        """(1,); () of classes."""
        return () if self.classes else (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating | np.integer]:
        """(B, 1); NaN where the reference close or the last one is.

        (B,) int64 of classes, ``IGNORED`` there.
        """
        change = np.log(bars[:, -1] / bars[:, 0])
        # Written so that NaN stays NaN: it compares as false.
        sign = np.where(np.abs(change) <= self.dead_zone, 0.0, np.sign(change))
        if not self.classes:
            return sign
        return _to_classes(sign[:, 0] + 1 if self.dead_zone else np.maximum(sign[:, 0], 0))


@public
@dataclass(frozen=True)
class RealisedVolatility(Target):
    """The realised volatility of the horizon: sqrt(sum_i ln²(C_i / C_{i-1})); (1,).

    The sum runs over the H target bars, so it is the volatility of the whole horizon and not of
    a bar or a year; no mean is taken off. Source: Andersen & Bollerslev (1998), "Answering the
    skeptics: yes, standard volatility models do provide accurate forecasts", International
    Economic Review 39(4).
    """

    def shape(self, horizon: int) -> tuple[int, ...]:
        """(1,)."""
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        """(B, 1); NaN where any close is."""
        volatility: NDArray[np.float64] = np.sqrt(np.sum(_compute_returns(bars) ** 2, axis=1))
        return volatility


@public
@dataclass(frozen=True)
class TripleBarrier(Target):
    """Which barrier the price reaches first: 1 the upper, -1 the lower, 0 none; (1,).

    Or its class, (): 0 the lower, 1 none, 2 the upper.

    The barriers lie at C_reference * exp(up * sigma) and C_reference * exp(-down * sigma), where
    sigma is the root mean square of the ``volatility_bars`` one-bar log returns up to the
    reference bar. The third barrier is the end of the horizon. Source: López de Prado (2018),
    "Advances in Financial Machine Learning", chapter 3, which sets the barriers at multiples of
    a volatility of one fixed period (a day). So sigma is that of one bar here, whatever the
    horizon: for barriers that grow with it as a random walk does, multiply ``up`` and ``down``
    by sqrt(H).

    A bar reaches the upper barrier if its high is on it or above, the lower one if its low is on
    it or below. A bar that reaches both counts as the lower: which came first is not known, and
    of the two answers this one flatters no strategy that buys (stop first).

    In a market that stood still (sigma = 0) both barriers would lie on the reference close, where
    any bar reaches them. They count as a hair's breadth off it, the limit of ever smaller sigma:
    the first bar that leaves the reference close decides, and the label is 0 if none does.

    Attributes:
        up: distance of the upper barrier, in sigmas.
        down: distance of the lower barrier, in sigmas.
        volatility_bars: returns that sigma is taken from.
        classes: give the class, an int64, in place of the label.
    """

    up: float = 2.0
    down: float = 2.0
    volatility_bars: int = 24
    classes: bool = field(default=False, metadata=NEW_IN_0_2)

    columns: ClassVar[tuple[str, ...]] = ("high", "low", "close")

    def __post_init__(self) -> None:
        for name in ("up", "down"):
            distance = getattr(self, name)
            if not 0 < distance < np.inf:
                raise ConfigError(f"target.{name} {distance} must be a finite number above 0")
        set_whole_numbers(self, "target.", volatility_bars=1)
        _check_flag("classes", self.classes)

    @property
    def reference_bars(self) -> int:
        """``volatility_bars`` + 1: each return takes the close before it."""
        return self.volatility_bars + 1

    @property
    def n_classes(self) -> int | None:
        """3 with ``classes``."""
        return 3 if self.classes else None

    @property
    def is_label(self) -> bool:
        """True."""
        return True

    def shape(self, horizon: int) -> tuple[int, ...]:
        """(1,); () of classes."""
        return () if self.classes else (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating | np.integer]:
        """(B, 1); NaN where a close of the reference bars, or any high or low of a target bar, is.

        (B,) int64 of classes, ``IGNORED`` there.

        That holds where a barrier is reached before the unknown bar too: of the samples whose
        future is known in part, only those with a label of 1 or -1 would have one.
        """
        closes = bars[:, : self.reference_bars, 2]
        sigma = np.sqrt(np.mean(_compute_returns(closes) ** 2, axis=1, keepdims=True))
        moves = np.log(bars[:, self.reference_bars :, :2] / closes[:, -1, np.newaxis, np.newaxis])
        rises, falls = moves[:, :, 0], -moves[:, :, 1]
        above = _find_first(rises >= np.maximum(self.up * sigma, LEAST_MOVE))
        below = _find_first(falls >= np.maximum(self.down * sigma, LEAST_MOVE))
        label = np.where(above < below, 1.0, np.where(below < rises.shape[1], -1.0, 0.0))
        known = np.isfinite(sigma[:, 0]) & np.isfinite(moves).all(axis=(1, 2))
        label = np.where(known, label, np.nan)
        return _to_classes(label + 1) if self.classes else label[:, np.newaxis]


@public
@dataclass(frozen=True)
class OHLCPath(Target):
    """The path of whole bars: ln of open, high, low and close over C_reference; (H, 4)."""

    columns: ClassVar[tuple[str, ...]] = ("open", "high", "low", "close")

    def shape(self, horizon: int) -> tuple[int, ...]:
        """(H, 4)."""
        return (horizon, 4)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        """(B, H, 4); NaN where the price itself or the reference close is."""
        return np.log(bars[:, 1:] / bars[:, :1, 3:])

    def prices(self, y: NDArray[np.floating], close: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, H, 4): open, high, low and close of each target bar.

        Those of a forecast are as it says: nothing keeps its high above its low.
        """
        return _grow_prices(close, y)


def check_prices(target: Target) -> None:
    """Raise ``ConfigError`` if no prices can be told from a target."""
    if type(target).prices is Target.prices:
        raise _refuse_prices(target)


def _refuse_prices(target: Target) -> ConfigError:
    return ConfigError(
        f"no prices can be told from the target {type(target).__name__}: choose LogReturn, "
        "CumulativeReturn or OHLCPath, or define `prices` on it"
    )


def to_numbers(y: NDArray[np.floating | np.integer]) -> NDArray[np.float64]:
    """Targets as float64, NaN where they are not known: of classes too."""
    numbers = y.astype(np.float64)
    if y.dtype.kind in "iu":
        numbers[y == IGNORED] = np.nan
    return numbers


def _compute_returns(closes: NDArray[np.float64]) -> NDArray[np.float64]:
    """One-bar log returns along axis 1, of which there is one less than closes."""
    # Of the ratio: a difference of two logs is off by the rounding of both.
    returns: NDArray[np.float64] = np.log(closes[:, 1:] / closes[:, :-1])
    return returns


def _grow_prices(close: NDArray[np.float64], returns: NDArray[np.floating]) -> NDArray[np.float64]:
    """(B,) prices after (B, ...) log returns: (B, ...) float64."""
    start = np.asarray(close, dtype=np.float64).reshape(-1, *[1] * (returns.ndim - 1))
    grown: NDArray[np.float64] = start * np.exp(returns, dtype=np.float64)
    return grown


def _to_classes(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers as int64, ``IGNORED`` where they are NaN."""
    return np.where(np.isnan(numbers), IGNORED, numbers).astype(np.int64)


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"target.{name} is {value!r}: it must be true or false")


def _find_first(reached: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first true bar of each row of (B, H), H if there is none."""
    first: NDArray[np.int64] = reached.argmax(axis=1)
    first[~reached.any(axis=1)] = reached.shape[1]
    return first
