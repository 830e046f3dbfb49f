"""Splits: pure functions from a time span to folds.

A fold says which half-open spans of instants belong to which stage. A sample belongs to the
stage that its *target* bars lie in; what lies before a boundary may be read as input (the past
is known when a forecast is made), a target never crosses one. Boundaries are instants, not row
numbers, so that they stay where they are when holes shift the rows.

>>> FractionSplit(val=0.2, test=0.2).folds((0, 36_000), interval=3600)[0].test
((28800, 36000),)
>>> DateSplit(val="1970-01-01T05:00", test="1970-01-01T08:00").folds((0, 36_000), 3600)[0].val
((18000, 28800),)
>>> [fold.test for fold in WalkForward(train=4, val=1, test=2).folds((0, 36_000), 3600)]
[((18000, 25200),), ((25200, 32400),)]
>>> CombinatorialPurged(n_groups=4, n_test_groups=2, fold=1).n_folds
6
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from itertools import combinations, pairwise
from math import comb
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import (
    Instant,
    Span,
    ceil_to,
    format_instant,
    format_interval,
    format_span,
    parse_duration,
    parse_instant,
    subtract,
    to_plain_instant,
)
from btc_datamodule.checks import check_whole_number, list_first, set_whole_numbers, unwrap
from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public

if TYPE_CHECKING:
    import polars as pl

Stage = Literal["train", "val", "test", "predict"]
STAGES: tuple[Stage, ...] = get_args(Stage)
END_OF_TIME = 1 << 62
MOST_FOLDS = 100_000
"""Of a combinatorial split: each is a fit."""

Spans = tuple[Span, ...]


@public
@dataclass(frozen=True, repr=False)
class Fold:
    """Which instants each stage owns.

    Half-open spans, epoch seconds UTC, on the grid, in order of time; ``val`` may have none.

    Attributes:
        train: what is fitted on.
        val: validation.
        test: test.
        predict: as test; where that reaches the end of the candles, it has no end.
    """

    train: Spans
    val: Spans
    test: Spans
    predict: Spans

    @classmethod
    def of(
        cls, train: Iterable[Span], val: Iterable[Span], test: Iterable[Span], end: int
    ) -> "Fold":
        """A fold of candles that end at ``end``."""
        tested = tuple(test)
        predict = tuple((a, END_OF_TIME if b >= end else b) for a, b in tested)
        return cls(tuple(train), tuple(val), tested, predict)

    def __repr__(self) -> str:
        parts = (
            f"{name}: {list_first(list(map(format_span, self.spans(name))), 3)}" for name in STAGES
        )
        return f"Fold({'; '.join(parts)})"

    def spans(self, stage: Stage) -> Spans:
        """The spans of a stage."""
        spans: Spans = getattr(self, stage)
        return spans


@public
class Split(ABC):
    """How a span of time is divided into folds. Subclasses are frozen dataclasses.

    Attributes:
        fold: which of the folds is used, from 0; -1 is the last.
    """

    fold: int = 0

    @abstractmethod
    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        """The folds of the bars that open in ``span``.

        Args:
            span: from the first bar's opening to the last bar's close, epoch seconds; both on
                the grid, which ``ceil_to`` and ``floor_to`` round to.
            interval: seconds; an ``Interval``.

        Raises:
            ConfigError: if the bars are too few, or a boundary lies outside ``span``.
        """

    def with_fold(self, fold: int) -> "Split":
        """The same split with another of its folds chosen.

        Raises:
            ConfigError: if the split has only one fold, or ``fold`` is no whole number.
        """
        fold = check_whole_number("fold", fold)
        if "fold" not in signature(type(self)).parameters:
            raise ConfigError(f"split {self!r} has only one fold")
        return replace(self, fold=fold)  # type: ignore[type-var]  # subclasses are dataclasses

    def select_fold(self, span: Span, interval: int) -> Fold:
        """The fold that ``fold`` names.

        Raises:
            ConfigError: as ``folds``, and if there is no such fold.
        """
        folds = self.folds(span, interval)
        if not -len(folds) <= self.fold < len(folds):
            raise ConfigError(
                f"split.fold is {self.fold}: {format_instant(span[0])} to "
                f"{format_instant(span[1])} has {len(folds)} folds, 0 to {len(folds) - 1}"
            )
        return folds[self.fold]


@public
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
        """One fold, its boundaries rounded up to the grid; of few bars a stage may have none."""
        start, end = span
        # In floats 1 - 0.2 - 0.2 is a little above 0.6: milliseconds keep it from costing a bar.
        val, test = (
            ceil_to(round(start + share * (end - start), 3), interval)
            for share in (1 - self.val - self.test, 1 - self.test)
        )
        return (Fold.of([(start, val)], [(val, test)], [(test, end)], end),)


@public
@dataclass(frozen=True)
class DateSplit(Split):
    """Train, then validation, then test, by date: ISO 8601, UTC, or another ``Instant``.

    Attributes:
        val: first instant of validation: train is all before it.
        test: first instant of test.
        end: first instant past test; None for the end of the candles.
    """

    val: Instant
    test: Instant
    end: Instant | None = None

    def __post_init__(self) -> None:
        val, test = parse_instant(self.val, "split.val"), parse_instant(self.test, "split.test")
        end = None if self.end is None else parse_instant(self.end, "split.end")
        if not (val < test and (end is None or test < end)):
            raise ConfigError("split: val, test and end must follow each other in time")
        for name in ("val", "test") if self.end is None else ("val", "test", "end"):
            object.__setattr__(self, name, to_plain_instant(getattr(self, name)))

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        """One fold, its boundaries rounded up to the grid."""
        start, last = span
        val, test = (ceil_to(parse_instant(when), interval) for when in (self.val, self.test))
        end = last if self.end is None else min(ceil_to(parse_instant(self.end), interval), last)
        if val == test or test == end < last:
            names = "val and test" if val == test else "test and end"
            raise ConfigError(
                f"split: no bar of {format_interval(interval)} opens between {names}: set them "
                "further apart"
            )
        if not start < val < test < end:
            raise ConfigError(
                f"split: val {format_instant(val)} and test {format_instant(test)} must lie "
                f"inside the candles, {format_instant(start)} to {format_instant(last)}"
            )
        return (Fold.of([(start, val)], [(val, test)], [(test, end)], last),)


@public
@dataclass(frozen=True)
class WalkForward(Split):
    """Train, validate, test, then move on in time and do it again.

    Fold k tests [T0 + k step, T0 + k step + test), validates on what lies right before that, and
    trains on what lies before both. T0 leaves room for train and val in the first fold. What is
    left at the end, shorter than a step, is in no fold.

    Durations are a number and s, m, h, d or w ("60d"), or a whole number of bars; no shorter than a
    bar. Boundaries between bars are rounded up to the grid: tests of "90m" have one hourly bar or
    two.

    Attributes:
        train: length of train; with ``expanding``, of the first fold's.
        val: length of validation; 0 for none.
        test: length of test.
        step: from one fold's test to the next; None for the length of test, so that the tests
            of all folds together cover the time once.
        expanding: whether train begins at the first candle in every fold, or rolls along.
        fold: which fold, from 0; -1 is the last.
    """

    # int before str: the command line gives "240", which must become a number of bars.
    train: int | str = "365d"
    val: int | str = "30d"
    test: int | str = "30d"
    step: int | str | None = None
    expanding: bool = False
    fold: int = 0

    def __post_init__(self) -> None:
        set_whole_numbers(self, "split.", fold=None)
        for name, least in (("train", 1), ("val", 0), ("test", 1), ("step", 1)):
            value = unwrap(getattr(self, name))
            object.__setattr__(self, name, value)
            if value is not None and _parse_duration(value, 1, name) < least:
                raise ConfigError(f"split.{name} is {value!r}: it must be longer")

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        """One fold for each step that fits, its boundaries rounded up to the grid."""
        start, end = span
        train, val, test = (
            _parse_duration(value, interval, name)
            for name, value in (("train", self.train), ("val", self.val), ("test", self.test))
        )
        step = test if self.step is None else _parse_duration(self.step, interval, "step")
        first = start + train + val
        if first + test > end:
            raise ConfigError(
                f"split: train {self.train}, val {self.val} and test {self.test} need more time "
                f"than there is, {format_instant(start)} to {format_instant(end)}: shorten them"
            )
        folds = []
        for at in range(first, end - test + 1, step):
            begin = start if self.expanding else at - val - train
            edges = [ceil_to(when, interval) for when in (begin, at - val, at, at + test)]
            validation = [(edges[1], edges[2])] if val else []
            folds.append(Fold.of([(edges[0], edges[1])], validation, [(edges[2], edges[3])], end))
        return tuple(folds)


@public
@dataclass(frozen=True)
class CombinatorialPurged(Split):
    """Combinatorial purged cross-validation (Lopez de Prado, 2018, chapter 12).

    Time is cut into ``n_groups`` groups of equal length, to within a bar: where ``n_groups`` does
    not divide the bars, the edges between groups are rounded down to the grid. Each fold tests one
    choice of ``n_test_groups`` of them and trains on all others, before and after; there is no
    validation. A train sample keeps clear of every test group with its full span: its target ends
    before the group, or its inputs, warm-up of the features included, begin after it (and after
    ``embargo`` more bars). The test forecasts of all folds join to ``n_paths`` histories in which
    every group is forecast once.

    Attributes:
        n_groups: N, at least 2.
        n_test_groups: k, from 1 to N - 1.
        fold: which choice, from 0, in lexicographic order; -1 is the last.
    """

    n_groups: int = 6
    n_test_groups: int = 2
    fold: int = 0

    def __post_init__(self) -> None:
        set_whole_numbers(self, "split.", n_groups=None, n_test_groups=None, fold=None)
        if not 1 <= self.n_test_groups < self.n_groups:
            raise ConfigError(
                f"split: n_test_groups {self.n_test_groups} must be at least 1 and less than "
                f"n_groups {self.n_groups}"
            )
        if self.n_folds > MOST_FOLDS:
            raise ConfigError(
                f"split: {self.n_test_groups} of {self.n_groups} groups make {self.n_folds:,} "
                f"folds, more than {MOST_FOLDS:,}: lower n_groups"
            )

    @property
    def n_folds(self) -> int:
        """C(N, k)."""
        return comb(self.n_groups, self.n_test_groups)

    @property
    def n_paths(self) -> int:
        """C(N - 1, k - 1): how often each group is tested."""
        return comb(self.n_groups - 1, self.n_test_groups - 1)

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        """``n_folds`` folds; test groups stay apart, train groups that touch are joined."""
        start, end = span
        if end - start < self.n_groups * interval:
            raise ConfigError(
                f"split.n_groups {self.n_groups} is more than there are bars: lower it"
            )
        edges = self._list_edges(span, interval)
        groups = list(pairwise(edges))
        return tuple(
            Fold.of(subtract(span, test), [], test, end)
            for test in combinations(groups, self.n_test_groups)
        )

    def paths(self) -> NDArray[np.int64]:
        """(n_paths, N) int64: the fold that forecasts each group in each path.

        Path j takes of each group the j-th fold that tests it.
        """
        chosen = list(combinations(range(self.n_groups), self.n_test_groups))
        tested = [
            [fold for fold, groups in enumerate(chosen) if group in groups]
            for group in range(self.n_groups)
        ]
        return np.array(tested, dtype=np.int64).T

    def stitch(
        self, predictions: Sequence["pl.DataFrame"], span: Span, interval: int, lead: int = 1
    ) -> list["pl.DataFrame"]:
        """Join the test forecasts of all folds to the backtest paths.

        Args:
            predictions: one frame for each fold, in order, with a column ``origin_time`` (epoch
                seconds) and any others.
            span: what ``folds`` was given.
            interval: seconds.
            lead: bars from the origin to the first target bar: 1 + gap.

        Returns:
            ``n_paths`` frames in order of ``origin_time``, each origin once.

        Raises:
            ConfigError: if there is not one frame for each fold.
        """
        import polars as pl

        if len(predictions) != self.n_folds:
            raise ConfigError(
                f"stitching needs the forecasts of all {self.n_folds} folds, not {len(predictions)}"
            )
        edges = self._list_edges(span, interval)
        target = pl.col("origin_time") + lead * interval
        return [
            pl.concat(
                predictions[fold].filter((target >= edges[group]) & (target < edges[group + 1]))
                for group, fold in enumerate(path)
            ).sort("origin_time")
            for path in self.paths().tolist()
        ]

    def _list_edges(self, span: Span, interval: int) -> list[int]:
        bars = (span[1] - span[0]) // interval
        return [span[0] + i * bars // self.n_groups * interval for i in range(self.n_groups)] + [
            span[1]
        ]


def _parse_duration(value: int | str, interval: int, name: str) -> int:
    """Seconds of a duration, or of a number of bars; 0 or at least a bar."""
    if isinstance(value, bool):
        raise ConfigError(f"split.{name} is {value!r}: give a duration such as 60d, or bars")
    if isinstance(value, int):
        return value * interval
    try:
        seconds = parse_duration(value)
    except ConfigError:
        raise ConfigError(
            f"split.{name} is {value!r}: give a duration such as 60d or 12h (of at most a "
            "million days), or a whole number of bars"
        ) from None
    if seconds < interval:
        raise ConfigError(
            f"split.{name} is {value!r}, less than a bar of {format_interval(interval)}: it must "
            "be longer"
        )
    return seconds
