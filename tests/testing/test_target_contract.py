"""Targets that break the contract, each caught by the test that should catch it, in words."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule import LogReturn, Target
from btc_datamodule.testing import TargetContract
from btc_datamodule.testing.contracts.values import ValueContract
from tests.testing.contracts import assert_caught, find_failures, list_tests

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Gain(Target):
    """The log return over the horizon: (1,)."""

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        return np.asarray(np.log(bars[:, -1] / bars[:, 0]))


@dataclass(frozen=True)
class MeanPrice(Gain):
    """One whose prices are no bar's own: ln of the mean close over the reference close."""

    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        return np.asarray(np.log(bars[:, 1:].mean(axis=1) / bars[:, 0]))

    def prices(self, y: Floats, close: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(close[:, np.newaxis] * np.exp(y, dtype=np.float64))


class Contract(TargetContract):
    """The contract of a target that is given, whatever the class."""

    def __init__(self, make: Callable[[], Target]) -> None:
        self._make = make

    def make(self) -> Target:
        return self._make()


class MeanContract(Contract):
    def expect_prices(self, bars: NDArray[np.float64], horizon: int) -> Floats:
        return np.asarray(bars[:, -horizon:, 3].mean(axis=1, keepdims=True))


def test_sound_targets_pass() -> None:
    assert find_failures(Contract(Gain)) == {}
    assert find_failures(MeanContract(MeanPrice)) == {}


# --- broken ones ----------------------------------------------------------------------------------

BROKEN: list[tuple[type[Target], str, str]] = []


def caught_by(test: str, words: str) -> Callable[[type[Target]], type[Target]]:
    """Note which test must catch a class, and what it must say."""

    def note(broken: type[Target]) -> type[Target]:
        BROKEN.append((broken, test, words))
        return broken

    return note


@caught_by("test_its_columns_and_reference_bars_are_such_as_there_are", "give a tuple of open,")
@dataclass(frozen=True)
class OfTheMidPrice(Gain):
    columns: ClassVar[tuple[str, ...]] = ("mid",)


@caught_by("test_its_columns_and_reference_bars_are_such_as_there_are", "from 0 up")
@dataclass(frozen=True)
class FromTheFuture(Gain):
    reference_bars: ClassVar[int] = -1


@caught_by("test_its_shape_is_known_without_data", "(1,) for a single number")
@dataclass(frozen=True)
class Scalar(Gain):
    def shape(self, horizon: int) -> tuple[int, ...]:
        return ()

    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        return super().__call__(bars)[:, 0]


@caught_by("test_batches_of_any_size_have_that_shape", "of horizon 2 gave (0, 1), and shape says")
@dataclass(frozen=True)
class Misshapen(Gain):
    def shape(self, horizon: int) -> tuple[int, ...]:
        return (horizon,)


@caught_by("test_batches_of_any_size_have_that_shape", "1 samples of horizon 1 gave (1,), and")
@dataclass(frozen=True)
class Squeezed(Gain):
    """Loses the axis of the batch when there is one sample."""

    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        y = super().__call__(bars)
        return y[0] if len(y) == 1 else y


@caught_by("test_batches_of_any_size_have_that_shape", "give floating numbers, which can say NaN")
@dataclass(frozen=True)
class Labels(Gain):
    def __call__(self, bars: NDArray[np.float64]) -> Any:
        return (bars[:, -1] > bars[:, 0]).astype(np.int64)


@dataclass(frozen=True)
class Rise(Target):
    """Whether the price rose, as a class."""

    n_classes = 2

    def shape(self, horizon: int) -> tuple[int, ...]:
        return ()

    def __call__(self, bars: NDArray[np.float64]) -> Any:
        return np.where(
            np.isnan(bars[:, [0, -1], 0]).any(axis=1), -100, bars[:, -1, 0] > bars[:, 0, 0]
        )


def test_a_sound_target_of_classes_passes() -> None:
    assert find_failures(Contract(Rise)) == {}


@caught_by("test_its_classes_are_counted_from_0", "classes are [1, 2]: give numbers from 0 to 1")
@dataclass(frozen=True)
class CountedFrom1(Rise):
    def __call__(self, bars: NDArray[np.float64]) -> Any:
        y = super().__call__(bars)
        return np.where(y < 0, y, y + 1)


@caught_by("test_its_classes_are_counted_from_0", "n_classes is 1: give a whole number from 2 up")
@dataclass(frozen=True)
class OneClass(Rise):
    n_classes = 1


@caught_by("test_batches_of_any_size_have_that_shape", "give whole numbers, as it has `n_classes`")
@dataclass(frozen=True)
class FloatingClasses(Rise):
    def __call__(self, bars: NDArray[np.float64]) -> Any:
        return super().__call__(bars).astype(np.float64)


@caught_by("test_bars_that_are_not_known_give_nan_or_do_not_matter", "another one than with")
@dataclass(frozen=True)
class UnknownIsDown(Rise):
    def __call__(self, bars: NDArray[np.float64]) -> Any:
        return np.maximum(super().__call__(bars), 0)


@caught_by("test_known_bars_give_finite_numbers", "a market that stands still, horizon 1, every")
@dataclass(frozen=True)
class LogVolume(Gain):
    """Infinite where nothing was traded."""

    columns: ClassVar[tuple[str, ...]] = ("volume",)

    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(bars[:, -1]))


@caught_by("test_bars_that_are_not_known_give_nan_or_do_not_matter", "bar 0 of 2 not known (NaN)")
@dataclass(frozen=True)
class UpOrDown(Gain):
    """A comparison with NaN is false: what is not known counts as down."""

    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        return np.where(bars[:, -1] >= bars[:, 0], 1.0, -1.0)


@caught_by("test_bars_that_are_not_known_give_nan_or_do_not_matter", "another one than with all")
@dataclass(frozen=True)
class SumOfWhatIsKnown(Gain):
    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        return np.asarray(np.nansum(np.diff(np.log(bars), axis=1), axis=1))


@caught_by("test_bars_that_are_not_known_give_nan_or_do_not_matter", "with no bar known it gives")
@dataclass(frozen=True)
class Constant(Gain):
    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        return np.zeros((len(bars), 1))


@caught_by("test_each_sample_is_by_itself", "depend on what else is in the batch")
@dataclass(frozen=True)
class Demeaned(Gain):
    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        y = super().__call__(bars)
        return y - y.mean() if len(y) else y


@caught_by("test_each_sample_is_by_itself", "depend on the order of the samples")
@dataclass(frozen=True)
class Cumulated(Gain):
    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        return np.cumsum(super().__call__(bars), axis=0)


@caught_by("test_the_same_bars_give_the_same_targets", "other targets the second time")
@dataclass(frozen=True)
class Remembering(Gain):
    """Relative to the largest that it has seen so far."""

    largest: list[float] = field(default_factory=list)

    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        y = super().__call__(bars)
        self.largest.append(float(np.abs(y).max(initial=0.0)))
        return y / max(1e-9, *self.largest, 0.0)


@caught_by("test_the_bars_are_not_written_to", "it writes into the bars that it is given")
@dataclass(frozen=True)
class InPlace(Gain):
    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        return np.asarray(np.log(bars, out=bars)[:, -1] - bars[:, 0])


@caught_by("test_the_prices_of_its_targets_are_those_that_came", "are not those of the target bars")
@dataclass(frozen=True)
class SimpleReturn(Gain):
    """Undone as if it were a log return."""

    def __call__(self, bars: NDArray[np.float64]) -> Floats:
        return np.asarray(bars[:, -1] / bars[:, 0] - 1)

    def prices(self, y: Floats, close: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(close[:, np.newaxis] * np.exp(y, dtype=np.float64))


@caught_by("test_the_prices_of_its_targets_are_those_that_came", "give (B, ...) float64")
@dataclass(frozen=True)
class PricesInFloat32(LogReturn):
    def prices(self, y: Floats, close: NDArray[np.float64]) -> Any:
        return super().prices(y, close).astype(np.float32)


@caught_by("test_the_prices_of_its_targets_are_those_that_came", "the prices are made up")
@dataclass(frozen=True)
class PricesOfNothing(LogReturn):
    def prices(self, y: Floats, close: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nan_to_num(super().prices(y, close))


@pytest.mark.parametrize(
    ("broken", "test", "words"), BROKEN, ids=[f"{kind.__name__}-{test}" for kind, test, _ in BROKEN]
)
def test_a_broken_target_is_caught(broken: type[Target], test: str, words: str) -> None:
    assert_caught(Contract(broken), test, words)


def test_a_mean_price_is_no_bars_own_unless_the_contract_says_so() -> None:
    test = "test_the_prices_of_its_targets_are_those_that_came"
    assert_caught(Contract(MeanPrice), test, "are not those of the target bars")


def test_no_test_of_the_contract_is_without_something_that_it_catches() -> None:
    caught = {test for _, test, _ in BROKEN}
    assert caught | set(list_tests(ValueContract)) == set(list_tests(TargetContract))
