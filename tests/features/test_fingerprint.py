"""A fingerprint changes with what an object computes, and with nothing else."""

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

from btc_datamodule import ConfigError
from btc_datamodule.features.fingerprint import fingerprint


def scaled(values: float, by: float = 2.0) -> float:
    return values * by


def closure(by: float) -> Callable[[float], float]:
    return lambda values: values * by


@dataclass(frozen=True)
class Scaled:
    by: float

    def __call__(self, values: float) -> float:
        return values * self.by

    def half(self, values: float) -> float:
        return values * self.by / 2


def typed(text: str, **names: Any) -> Any:
    """A function as if typed into an interpreter: it stands in no file."""
    namespace = dict(names)
    exec(compile(f"made = {text}", "<stdin>", "exec"), namespace)
    return namespace["made"]


DIFFERENT = [
    scaled,
    closure(1.0),
    closure(2.0),
    functools.partial(scaled, by=1.0),
    functools.partial(scaled, by=2.0),
    Scaled(1.0),
    Scaled(2.0),
    Scaled(1.0).half,
    typed("lambda x, n=1: x + n"),
    typed("lambda x, n=2: x + n"),
    typed("lambda x: x.max()"),
    typed("lambda x: x.min()"),
    typed("lambda x: x + N", N=1),
    typed("lambda x: x + N", N=2),
    typed("lambda x: [y + 1 for y in x]"),
    typed("lambda x: [y + 2 for y in x]"),
    abs,
    len,
    pl.col("close").shift(1),
    pl.col("close").shift(2),
    np.arange(3),
    np.arange(4),
    {"a": [1, {2, 3}]},
    {"a": [1, {2, 4}]},
    1,
    1.0,
    "1",
]


def test_what_computes_something_else_has_another_fingerprint() -> None:
    prints = [fingerprint(thing) for thing in DIFFERENT]
    assert len(set(prints)) == len(DIFFERENT)


def test_the_same_made_again_has_the_same_fingerprint() -> None:
    assert fingerprint(closure(3.0)) == fingerprint(closure(3.0))
    assert fingerprint(Scaled(3.0)) == fingerprint(Scaled(3.0))
    assert fingerprint(typed("lambda x: x + 1")) == fingerprint(typed("lambda x: x + 1"))
    assert fingerprint({3, 1, 2}) == fingerprint({1, 2, 3})


def test_another_process_gives_the_same_fingerprint() -> None:
    code = (
        "from btc_datamodule.features.fingerprint import fingerprint\n"
        "from btc_datamodule import FEATURES\n"
        "print([fingerprint(f.compute) for f in FEATURES.values()], fingerprint({'b', 'a'}))\n"
        "import polars as pl\n"
        "from btc_datamodule.features.builtin import resolve\n"
        "from btc_datamodule.features.feature import Feature\n"
        "close = pl.col('close')\n"
        "mine = close.log().diff().rolling_std(60) / pl.when(close > 1).then(2).otherwise(close)\n"
        "print(fingerprint(mine), Feature('mine', 61, mine).definition())\n"
        "print(resolve(['vol_60 = close.log().diff().rolling_std(60)'])[0].definition())\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_thing_that_refers_to_itself_has_a_fingerprint() -> None:
    def recursive(n: int) -> int:
        return n and recursive(n - 1)

    loop: list[Any] = [1]
    loop.append(loop)
    assert fingerprint(recursive) == fingerprint(recursive)
    assert fingerprint(loop) != fingerprint([1])


@pytest.mark.parametrize(
    "expression",
    [
        pl.col("close").map_batches(lambda series: series),
        pl.col("close").rolling_map(lambda series: series.sum(), 3),
        pl.fold(pl.lit(0), lambda a, b: a + b, [pl.col("close")]),
    ],
)
def test_a_polars_expression_with_a_python_function_inside_is_refused(expression: pl.Expr) -> None:
    with pytest.raises(ConfigError, match=r"holds a Python function.* make `compute` a function"):
        fingerprint(expression)


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(ConfigError, match="a generator inside a feature cannot be told"):
        fingerprint(n for n in range(3))
