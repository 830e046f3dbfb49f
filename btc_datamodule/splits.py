"""Splits: pure functions from a time span to folds.

A fold says which half-open span of instants belongs to which stage. A sample belongs to the
stage that its *target* bars lie in; what lies before a boundary may be read as input (the past
is known when a forecast is made), a target never crosses one. Boundaries are instants, not row
numbers, so that they stay where they are when holes shift the rows.

>>> FractionSplit(val=0.2, test=0.2).folds((0, 36_000), interval=3600)[0].test
(28800, 36000)
>>> DateSplit(val="1970-01-01T05:00", test="1970-01-01T08:00").folds((0, 36_000), 3600)[0].val
(18000, 28800)
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

from btc_datamodule.errors import ConfigError
from btc_datamodule.timeline import Span, ceil_to, format_instant, parse_instant

Stage = Literal["train", "val", "test", "predict"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Fold:
    """Which instants each stage owns: half-open spans, epoch seconds UTC, on the grid."""

    train: Span
    val: Span
    test: Span

    def span(self, stage: Stage) -> Span:
        """The span of a stage; ``predict`` starts where ``test`` does and has no end."""
        if stage == "predict":
            return (self.test[0], 1 << 62)
        span: Span = getattr(self, stage)
        return span


class Split(ABC):
    """How a span of time is divided into folds. Subclasses are frozen dataclasses."""

    @abstractmethod
    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        """The folds of the bars that open in ``span``.

        Args:
            span: from the first bar's opening to the last bar's close, epoch seconds.
            interval: seconds.

        Raises:
            ConfigError: if a boundary lies outside ``span``.
        """


@dataclass(frozen=True)
class FractionSplit(Split):
    """Train, then validation, then test, by share of time.

    Attributes:
        val: share of the span for validation, in (0, 1).
        test: share of the span for test, in (0, 1).
    """

    val: float = 0.15
    test: float = 0.15

    def __post_init__(self) -> None:
        if not (0 < self.val < 1 and 0 < self.test < 1 and self.val + self.test < 1):
            raise ConfigError(
                f"split: val {self.val} and test {self.test} must be above 0 and leave room "
                "for train: together below 1"
            )

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        """One fold, its boundaries rounded up to the grid."""
        start, end = span
        first_val = ceil_to(start + (1 - self.val - self.test) * (end - start), interval)
        first_test = ceil_to(start + (1 - self.test) * (end - start), interval)
        return (Fold((start, first_val), (first_val, first_test), (first_test, end)),)


@dataclass(frozen=True)
class DateSplit(Split):
    """Train, then validation, then test, by date (ISO 8601, UTC).

    Attributes:
        val: first instant of validation: train is all before it.
        test: first instant of test.
        end: first instant past test; None for the end of the candles.
    """

    val: str
    test: str
    end: str | None = None

    def __post_init__(self) -> None:
        val, test = parse_instant(self.val, "split.val"), parse_instant(self.test, "split.test")
        end = None if self.end is None else parse_instant(self.end, "split.end")
        if not (val < test and (end is None or test < end)):
            raise ConfigError("split: val, test and end must follow each other in time")

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        """One fold, its boundaries rounded up to the grid."""
        start, last = span
        val, test = (ceil_to(parse_instant(when), interval) for when in (self.val, self.test))
        end = last if self.end is None else min(ceil_to(parse_instant(self.end), interval), last)
        if not start < val < test < end:
            raise ConfigError(
                f"split: val {format_instant(val)} and test {format_instant(test)} must lie "
                f"inside the candles, {format_instant(start)} to {format_instant(last)}"
            )
        return (Fold((start, val), (val, test), (test, end)),)
