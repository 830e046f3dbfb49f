"""Splits that break the contract, each caught by the test that should catch it, in words."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest

from btc_datamodule import FractionSplit, Split, WalkForward
from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation.splits import Fold
from btc_datamodule.testing import SplitContract
from btc_datamodule.testing.contracts.values import ValueContract
from tests.testing.contracts import assert_caught, find_failures, list_tests

FLOW = count()
"""Another number whenever it is asked: what a function that is not pure depends on."""


@dataclass(frozen=True)
class Sound(WalkForward):
    """Four folds of the contract's span."""

    train: int | str = "300d"
    val: int | str = "60d"
    test: int | str = "90d"


class Contract(SplitContract):
    """The contract of a split that is given, whatever the class."""

    anchored: ClassVar[bool] = True

    def __init__(self, make: Callable[[], Split]) -> None:
        self._make = make

    def make(self) -> Split:
        return self._make()


def test_a_sound_split_passes() -> None:
    assert find_failures(Contract(Sound)) == {}


# --- broken ones ----------------------------------------------------------------------------------

BROKEN: list[tuple[type[Split], str, str]] = []


def caught_by(test: str, words: str) -> Callable[[type[Split]], type[Split]]:
    """Note which test must catch a class, and what it must say."""

    def note(broken: type[Split]) -> type[Split]:
        BROKEN.append((broken, test, words))
        return broken

    return note


@dataclass(frozen=True)
class Changed(Sound):
    """``Sound`` with each of its folds changed."""

    def change(self, fold: Fold, span: Span) -> Fold:
        raise NotImplementedError

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        return tuple(self.change(fold, span) for fold in super().folds(span, interval))


def move(span: Span, start: int, end: int) -> Span:
    return (span[0] + start, span[1] + end)


@caught_by("test_it_has_folds_that_train_and_test", "give a tuple of Fold")
@dataclass(frozen=True)
class Listed(Sound):
    def folds(self, span: Span, interval: int) -> Any:
        return list(super().folds(span, interval))


@caught_by("test_it_has_folds_that_train_and_test", "has no fold: raise a ConfigError")
@dataclass(frozen=True)
class WithoutFolds(Sound):
    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        return ()


@caught_by("test_it_has_folds_that_train_and_test", "fold 0 has nothing in test: ()")
@dataclass(frozen=True)
class WithoutATest(Changed):
    def change(self, fold: Fold, span: Span) -> Fold:
        return Fold.of(fold.train, fold.val, [], span[1])


@caught_by("test_its_spans_are_half_open_on_the_grid_and_inside", "is off the grid of 1h")
@dataclass(frozen=True)
class WithBothEnds(Changed):
    """Ends each span with its last second, as some do for want of half-open ones."""

    def change(self, fold: Fold, span: Span) -> Fold:
        return replace(fold, train=tuple(move(each, 0, -1) for each in fold.train))


@caught_by("test_its_spans_are_half_open_on_the_grid_and_inside", "or leaves 2020-01-01T00:00:00Z")
@dataclass(frozen=True)
class BeyondTheStart(Changed):
    def change(self, fold: Fold, span: Span) -> Fold:
        return replace(fold, train=tuple(move(each, -3600, 0) for each in fold.train))


@caught_by("test_its_spans_are_half_open_on_the_grid_and_inside", "which a checkpoint can hold")
@dataclass(frozen=True)
class OfNumpyNumbers(Changed):
    def change(self, fold: Fold, span: Span) -> Fold:
        edges = np.array(fold.train)
        return replace(fold, train=tuple((start, end) for start, end in edges))


@caught_by("test_no_instant_belongs_to_two_stages", "share instants: a sample would be trained on")
@dataclass(frozen=True)
class Overlapping(Changed):
    """Validates on the end of train, for want of time."""

    def change(self, fold: Fold, span: Span) -> Fold:
        return replace(fold, val=tuple(move(each, -3600, 0) for each in fold.val))


@caught_by(
    "test_predict_is_test_and_goes_on_where_test_reaches_the_end", "without an end where test ends"
)
@dataclass(frozen=True)
class WithAnEnd(FractionSplit):
    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        return tuple(replace(f, predict=f.test) for f in super().folds(span, interval))


@caught_by("test_train_comes_before_val_and_val_before_test", "set in_order = False")
@dataclass(frozen=True)
class Reversed(Changed):
    """Tests the past with what was learned from the future."""

    def change(self, fold: Fold, span: Span) -> Fold:
        return Fold.of(fold.test, fold.val, fold.train, span[1])


@caught_by("test_the_same_question_has_the_same_answer", "it has other folds")
@dataclass(frozen=True)
class AtRandom(Changed):
    def change(self, fold: Fold, span: Span) -> Fold:
        later = 3600 * (next(FLOW) % 1000)
        return replace(fold, train=tuple(move(each, later, 0) for each in fold.train))


@caught_by("test_boundaries_stay_as_candles_arrive", "what was scored would be trained on")
@dataclass(frozen=True)
class ByShare(FractionSplit):
    pass


@caught_by("test_boundaries_stay_as_candles_arrive", "fewer than the 3 it has until")
@dataclass(frozen=True)
class TheNewest(Sound):
    """As many folds as there have to be, and no more."""

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        return super().folds(span, interval)[: 3 if span[1] < 1_640_995_201 else 2]


@caught_by("test_each_fold_can_be_chosen_from_either_end_and_no_other", "fold=4 is taken, of 4")
@dataclass(frozen=True)
class RoundAndRound(Sound):
    def select_fold(self, span: Span, interval: int) -> Fold:
        folds = self.folds(span, interval)
        return folds[self.fold % len(folds)]


@caught_by("test_each_fold_can_be_chosen_from_either_end_and_no_other", "`fold` says which, not")
@dataclass(frozen=True)
class OnlyTheChosen(Sound):
    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        return super().folds(span, interval)[self.fold :][:1]


@caught_by("test_of_too_few_bars_it_says_so_or_leaves_stages_empty", "fails with ZeroDivisionError")
@dataclass(frozen=True)
class Dividing(Sound):
    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        assert 1 / ((span[1] - span[0]) // interval // 12)
        return super().folds(span, interval)


@caught_by("test_of_too_few_bars_it_says_so_or_leaves_stages_empty", "of 1 bars, fold 0: train")
@dataclass(frozen=True)
class NeverTooShort(Split):
    """The first thousand hours, whether there are so many or not."""

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        edge = span[0] + 1000 * 3600
        return (Fold.of([(span[0], edge)], [], [(edge, max(edge, span[1]))], span[1]),)


@pytest.mark.parametrize(
    ("broken", "test", "words"), BROKEN, ids=[f"{kind.__name__}-{test}" for kind, test, _ in BROKEN]
)
def test_a_broken_split_is_caught(broken: type[Split], test: str, words: str) -> None:
    assert_caught(Contract(broken), test, words)


def test_no_test_of_the_contract_is_without_something_that_it_catches() -> None:
    caught = {test for _, test, _ in BROKEN}
    assert caught | set(list_tests(ValueContract)) == set(list_tests(SplitContract))
