"""The data arguments as one value: checked once, and held against those of a checkpoint."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
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
    with pytest.warns(UserWarning, match=r"target is Threshold\(level=1.0, weights=<unknown>\)"):
        BTCDataModule(target=Threshold(1.0, lambda x: x))


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (None, "None"),
        (1.5, "1.5"),
        ("a", "'a'"),
        ([1, (2,)], "[1, (2,)]"),
        ({"b": 1, "a": 2}, "{'a': 2, 'b': 1}"),
        ({3, 1}, "{1, 3}"),
        (Held(1), "Held(part=1, unseen=1)"),
        (module_level, "module_level"),
        (LogReturn, "LogReturn"),
        (lambda x: x, UNKNOWN),
        (object(), UNKNOWN),
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
    assert describe(Direction(0)) == describe(Direction(0.0)) == "Direction(dead_zone=0.0)"
    assert describe(TripleBarrier(2, 2, 24)) == describe(TripleBarrier())


def test_an_object_that_holds_itself_is_described() -> None:
    thing = Threshold(1.0)
    thing.weights = thing
    assert describe(thing) == f"Threshold(level=1.0, weights={UNKNOWN})"


def test_hyperparameters_of_an_object_are_the_arguments_that_it_keeps() -> None:
    made = to_plain(Threshold(1.5, (1, 2)))
    assert made == {
        "class_path": "tests.test_settings.Threshold",
        "init_args": {"level": 1.5, "weights": [1, 2]},
    }


def test_a_data_argument_cannot_be_changed_behind_what_was_made_of_it() -> None:
    dm = BTCDataModule()
    for name in ("lookback", "embargo", "source", "table", "n_features"):
        with pytest.raises((ConfigError, AttributeError), match="make another one"):
            setattr(dm, name, 7)
    with pytest.raises(FrozenInstanceError):
        dm.settings.embargo = 3  # type: ignore[misc]
    dm.batch_size = 7  # what a Tuner does


def test_a_fresh_process_describes_objects_alike() -> None:
    code = (
        "import numpy as np; from tests.test_settings import Held, Threshold;"
        "from btc_datamodule.plain import describe;"
        "print(describe(Threshold(2.0, {'k': np.arange(4), 'names': {'b', 'a', 'c'}})))"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        ).stdout
        for _ in range(2)
    }
    assert len(shown) == 1
