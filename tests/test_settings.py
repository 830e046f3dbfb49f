"""The data arguments as one value: checked once, and held against those of a checkpoint."""

import math
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from btc_datamodule import (
    BTCDataModule,
    ConfigError,
    Direction,
    FractionSplit,
    LogReturn,
    Target,
    TripleBarrier,
)
from btc_datamodule.plain import UNKNOWN, describe, to_plain
from tests.factories import make_datamodule


class Threshold(Target):
    """A user's target that is no dataclass: its ``repr`` holds an address."""

    def __init__(self, level: float, weights: Any = None) -> None:
        self.level = level
        self.weights = weights

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        return np.where(bars[:, -1] > bars[:, 0] * self.level, 1.0, 0.0)


@dataclass(frozen=True)
class Held:
    """An object with any part."""

    part: Any
    unseen: int = field(default=1, repr=False)


def module_level(x: float) -> float:
    return x


def trained(tmp_path: Path, target: Target) -> BTCDataModule:
    return make_datamodule(tmp_path, target=target)


def test_a_target_that_is_no_dataclass_meets_its_checkpoint_again(tmp_path: Path) -> None:
    state = trained(tmp_path, Threshold(1.01, np.arange(3.0))).state_dict()
    again = trained(tmp_path, Threshold(1.01, np.arange(3.0)))
    again.load_state_dict(state)
    with pytest.raises(ConfigError, match=r"target was 'Threshold\(level=1.01.*level=1.02"):
        trained(tmp_path, Threshold(1.02, np.arange(3.0))).load_state_dict(state)
    with pytest.raises(ConfigError, match="target was"):
        trained(tmp_path, Threshold(1.01, np.arange(3.0)[::-1])).load_state_dict(state)


@pytest.mark.parametrize(
    ("kept", "loads"),
    [
        ("<__main__.Threshold object at 0x7f2a5c0d1e50>", True),
        ("<__main__.Other object at 0x7f2a5c0d1e50>", False),
        ("LogReturn()", False),
    ],
)
def test_a_checkpoint_of_version_0_1_that_kept_an_address_is_held_against_the_class(
    tmp_path: Path, kept: str, loads: bool
) -> None:
    dm = trained(tmp_path, Threshold(1.01))
    state = dm.state_dict()
    state["settings"] = {**state["settings"], "target": kept}
    if loads:
        dm.load_state_dict(state)
    else:
        with pytest.raises(ConfigError, match="target was"):
            dm.load_state_dict(state)


def test_what_version_0_1_kept_of_our_own_objects_is_what_is_kept_now() -> None:
    for thing in (LogReturn(), FractionSplit(0.2, 0.1)):
        assert describe(thing) == repr(thing)


def test_what_cannot_be_told_from_another_is_said_when_the_datamodule_is_made() -> None:
    with pytest.warns(UserWarning, match=r"target is Threshold\(level=1, weights=<unknown>\)"):
        BTCDataModule(target=Threshold(1.0, lambda x: x))


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (None, "None"),
        (1.5, "1.5"),
        ("a", "'a'"),
        ([1, (2,)], "[1, [2]]"),
        ({"b": 1, "a": 2}, "{'a': 2, 'b': 1}"),
        ({3, 1}, "{1, 3}"),
        (Held(1), "Held(part=1, unseen=1)"),
        (module_level, "module_level"),
        (LogReturn, "LogReturn"),
        (lambda x: x, UNKNOWN),
        (threading.Lock(), UNKNOWN),
        (np.array([object()]), UNKNOWN),
    ],
    ids=lambda _: "",
)
def test_an_object_is_described_by_what_it_is_made_of(part: Any, text: str) -> None:
    assert describe(Held(part)) == f"Held(part={text}, unseen=1)"


@pytest.mark.parametrize(
    "make",
    [
        np.arange,
        torch.arange,
        lambda k: np.arange(k).astype(np.float32),
        np.float64,
        lambda k: [np.arange(k)],
        lambda k: {"k": k},
        lambda k: Path(str(k)),
        lambda k: Held(0, unseen=k),
    ],
)
def test_equal_parts_have_one_text_and_others_another(make: Callable[[int], Any]) -> None:
    assert describe(make(3)) == describe(make(3)) != describe(make(4))
    assert UNKNOWN not in describe(make(3))


def test_a_whole_number_where_a_float_is_due_is_that_float() -> None:
    assert describe(Direction(0)) == describe(Direction(0.0)) == "Direction(dead_zone=0)"
    assert describe(TripleBarrier(2, 2, 24)) == describe(TripleBarrier())


class Slotted:
    __slots__ = ("k",)

    def __init__(self, k: Any, *more: Any) -> None:
        self.k = k


class Private:
    def __init__(self, k: Any) -> None:
        self._k = k

    def scale(self, x: float) -> float:
        return x


class Caching:
    """Keeps its argument, and what it has computed from it."""

    def __init__(self, k: Any) -> None:
        self.k = k
        self._uses = 0

    @cached_property
    def squared(self) -> Any:
        self._uses += 1
        return self.k**2


@pytest.mark.parametrize(
    "make",
    [
        Private,
        Slotted,
        lambda k: partial(module_level, k),
        lambda k: Private(k).scale,
        random.Random,
        lambda k: (np.log, math.log)[k % 2],
        lambda k: pl.Series([k]),
        lambda k: np.ma.array([1, 2], mask=[k % 2, 0]),
        lambda k: torch.full((2,), k, dtype=torch.bfloat16),
        lambda k: torch.nn.Parameter(torch.full((2,), float(k))),
        lambda k: np.zeros(1, dtype=[(f"f{k}", float)]),
    ],
)
def test_what_differs_has_another_text_wherever_it_is_kept(make: Callable[[int], Any]) -> None:
    assert describe(Held(make(3))) == describe(Held(make(3))) != describe(Held(make(4)))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (np.int64(1), 1), (np.float64(1.5), 1.5), ((1, 2), [1, 2]), ({"a": 1}, {"a": 1.0})],
)
def test_what_yaml_does_not_tell_apart_has_one_text(one: Any, other: Any) -> None:
    assert describe(Private(one)) == describe(Private(other))


def test_what_an_object_remembers_of_its_use_is_not_what_it_is_made_of() -> None:
    used = Caching(3)
    assert used.squared == 9
    assert describe(used) == describe(Caching(3)) == "Caching(k=3)"


def test_any_object_is_described_in_little_time_and_space() -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    shared: Any = Private(1)
    for _ in range(30):
        shared = Private((shared, shared))
    for thing in (torch.nn.Linear(2, 1), torch.zeros(2).to_sparse(), deep, shared, np, MagicMock()):
        assert len(describe(Held(thing))) < 2_000


def test_an_object_that_holds_itself_is_described() -> None:
    thing = Threshold(1.0)
    thing.weights = thing
    assert describe(thing) == f"Threshold(level=1, weights={UNKNOWN})"


def test_hyperparameters_of_an_object_are_the_arguments_that_it_keeps() -> None:
    made = to_plain(Threshold(1.5, (1, 2)))
    assert made == {
        "class_path": "tests.test_settings.Threshold",
        "init_args": {"level": 1.5, "weights": [1, 2]},
    }


def test_a_data_argument_cannot_be_changed_behind_what_was_made_of_it() -> None:
    dm = BTCDataModule()
    for name in ("lookback", "gap", "embargo", "source", "table", "n_features"):
        with pytest.raises((ConfigError, AttributeError), match="make another one"):
            setattr(dm, name, 7)
    with pytest.raises(FrozenInstanceError):
        dm.settings.embargo = 3  # type: ignore[misc]
    dm.batch_size = 7  # what a Tuner does


def test_the_arguments_of_a_datamodule_are_read_as_in_version_0_1() -> None:
    dm = BTCDataModule(start="2020-01-01", gap=2, data_dir="somewhere")
    assert (dm.start, dm.end, dm.gap, dm.purge) == (1_577_836_800, None, 2, 0)  # type: ignore[attr-defined]
    assert dm.data_dir == Path("somewhere").absolute()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'BTCDataModule' object has no attribute 'nothing'"):
        _ = dm.nothing  # type: ignore[attr-defined]


def test_a_fresh_process_describes_objects_alike() -> None:
    code = (
        "import numpy as np; from tests.test_settings import Held, Threshold;"
        "from btc_datamodule.plain import describe;"
        "print(describe(Threshold(2.0, {'k': np.arange(4), 'names': {'b', 'a', 'c'}})))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    ).stdout
    here = describe(Threshold(2.0, {"k": np.arange(4), "names": {"b", "a", "c"}}))
    assert shown == f"{here}\n"
