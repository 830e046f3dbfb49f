"""``ValueContract``: what holds for sources, targets and splits alike, as they are values.

They are compared, copied to other processes, and kept in checkpoints by class path and arguments.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from btc_datamodule.candles.timeline import Span, floor_to, format_instant, parse_interval
from btc_datamodule.datamodule import BTCDataModule
from btc_datamodule.plain import UNKNOWN, describe

V = TypeVar("V")
E = TypeVar("E", bound=Exception)


class ValueContract(Generic[V]):
    """Tests of an object that an argument of ``BTCDataModule`` takes.

    Attributes:
        argument: name of the argument.
        kind: the class that the argument's objects belong to.
    """

    argument: ClassVar[str]
    kind: ClassVar[type]

    def make(self) -> V:
        """The object under test, made anew at each call and always with the same arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define make(self)")

    def observe(self, made: V) -> Any:
        """How an object behaves: numbers, texts and arrays, alike for objects that are alike."""
        raise NotImplementedError

    def arguments(self, made: V) -> dict[str, Any]:
        """Arguments with which ``BTCDataModule`` takes the object."""
        return {self.argument: made}

    def keep(self, made: V) -> Any:
        """What a checkpoint holds of the object."""
        return BTCDataModule(**self.arguments(made)).hparams[self.argument]

    def test_it_is_a_frozen_dataclass(self) -> None:
        """Its fields are what YAML sets and checkpoints hold."""
        made = self.make()
        name = type(made).__name__
        assert isinstance(made, self.kind), (
            f"make() gave {made!r}, which is no {self.kind.__name__}: derive {name} from it"
        )
        # In a subclass without the decorator the parameters are those of its base.
        parameters: Any = getattr(type(made), "__dataclass_params__", None)
        frozen = parameters is not None and parameters.frozen
        assert frozen, (
            f"{name} is no frozen dataclass: write @dataclass(frozen=True) above it, so that its "
            "arguments can be kept in a checkpoint and cannot change under way"
        )

    def test_two_made_alike_are_equal(self) -> None:
        """A checkpoint is compared with the settings by what they are, not by which."""
        first, second = self.make(), self.make()
        alike = f"two {type(first).__name__} made with the same arguments"
        assert bool(first == second), (
            f"{alike} are not equal: leave __eq__ to the dataclass and hold plain values in fields"
        )
        text = describe(first)
        assert UNKNOWN not in text, (
            f"it is known to a checkpoint as {text}, where another could be meant too: make its "
            "fields of numbers, texts, arrays and named functions alone"
        )
        assert describe(second) == text, (
            f"{alike} are known to a checkpoint as {text} and {describe(second)}: it would fit "
            "neither"
        )

    def test_a_copy_in_another_process_behaves_alike(self) -> None:
        """Workers of loaders and ranks get copies."""
        made = self.make()
        name = type(made).__name__
        try:
            copy = pickle.loads(pickle.dumps(made))
        except Exception as error:
            raise AssertionError(
                f"{name} cannot be pickled, and so not reach the workers of a loader: {error}"
            ) from error
        check_equal(
            self.observe(copy), self.observe(made), f"a pickled copy of {name} behaves differently"
        )

    def test_a_checkpoint_brings_it_back(self) -> None:
        """Hyperparameters and YAML hold its class path and arguments, and nothing else."""
        made = self.make()
        for field in fields(made) if is_dataclass(made) else ():
            if field.init and not is_plain(getattr(made, field.name)):
                pytest.skip(f"{field.name} is no plain value: no YAML or checkpoint can hold it")
        kept = self.keep(made)
        name = type(made).__name__
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument(f"--{self.argument}", type=self.kind)
        try:
            again = parser.instantiate(parser.parse_object({self.argument: kept}))[self.argument]
        except Exception as error:
            raise AssertionError(
                f"{name} cannot be built again from what a checkpoint holds of it, {kept}: {error}"
            ) from error
        problem = f"{name}, built again from what a checkpoint holds of it, {kept}, is another"
        assert bool(again == made), f"{problem}: {again!r}"
        check_equal(self.observe(again), self.observe(made), problem)


def check_equal(found: Any, due: Any, problem: str) -> None:
    """Raise ``AssertionError`` with ``problem`` unless two nests of values are equal, NaN included.

    Args:
        found: tuples, lists or dicts of arrays, numbers and texts.
        due: the nest that it must be equal to.
        problem: what it means that they differ.
    """
    try:
        np.testing.assert_equal(found, due)
    except AssertionError as error:
        raise AssertionError(f"{problem}\n{error}") from None


def catch(kind: type[E], call: Callable[[], Any]) -> E | None:
    """The error of a kind that a call raises; None if it raises none."""
    try:
        call()
    except kind as error:
        return error
    return None


def to_seconds(interval: str | int) -> int:
    """Seconds of a bar length such as "1h", or of one given in seconds."""
    return parse_interval(interval) if isinstance(interval, str) else interval


def is_on_grid(span: Span, interval: int) -> bool:
    """Whether bars open at both ends of a span."""
    return all(floor_to(edge, interval) == edge for edge in span)


def format_span(span: Span) -> str:
    """Text of a span: "2020-01-01T00:00:00Z to 2020-02-01T00:00:00Z"."""
    return f"{format_instant(span[0])} to {format_instant(span[1])}"


def is_plain(value: Any) -> bool:
    """Whether YAML and checkpoints can hold an argument: an array, for instance, they cannot."""
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if is_dataclass(value) and not isinstance(value, type):
        return all(is_plain(getattr(value, field.name)) for field in fields(value) if field.init)
    # A function or a class is held as the path to import it from.
    plain = value is None or isinstance(value, bool | int | float | str | date)
    return plain or hasattr(value, "__qualname__")
