"""A feature that keeps something from one call to the next is found, and a pure one is not."""

import functools
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from btc_datamodule import Feature, LookAheadError
from btc_datamodule.features.builtin import FEATURES, resolve
from btc_datamodule.features.memory import capture_state, check_memory
from btc_datamodule.testing import assert_causal
from btc_datamodule.testing.assertions import simulate_candles

Compute = Callable[[pl.DataFrame], pl.Series]
SEEN: dict[str, float] = {}
CALLS = 0
WEIGHTS = {"a": 0.5, "b": [0.25, 0.25]}
LEVELS = np.arange(5.0)


def fills_a_global(bars: pl.DataFrame) -> pl.Series:
    SEEN[str(bars.height)] = 1.0
    return bars["close"]


def counts_in_a_global(bars: pl.DataFrame) -> pl.Series:
    global CALLS  # noqa: PLW0603
    CALLS += 1
    return bars["close"]


def keeps_an_attribute(bars: pl.DataFrame) -> pl.Series:
    keeps_an_attribute.last = bars.height  # type: ignore[attr-defined]
    return bars["close"]


def fills_a_default(bars: pl.DataFrame, kept: list[int] = []) -> pl.Series:  # noqa: B006
    kept.append(bars.height)
    return bars["close"]


def writes_into_an_array(bars: pl.DataFrame) -> pl.Series:
    LEVELS[0] += bars.height
    return bars["close"]


def helps(bars: pl.DataFrame) -> pl.Series:
    return writes_into_an_array(bars)


def make_closure() -> Compute:
    kept: dict[int, int] = {}

    def compute(bars: pl.DataFrame) -> pl.Series:
        kept[len(kept)] = bars.height
        return bars["close"]

    return compute


class Remembering:
    def __init__(self) -> None:
        self.kept: list[pl.Series] = []

    def __call__(self, bars: pl.DataFrame) -> pl.Series:
        self.kept.append(bars["close"])
        return bars["close"]


class Fixed:
    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, bars: pl.DataFrame) -> pl.Series:
        return bars["close"] ** self.power

    def scale(self, bars: pl.DataFrame) -> pl.Series:
        return bars["close"] * self.power


def reads_constants(bars: pl.DataFrame) -> pl.Series:
    assert isinstance(WEIGHTS["a"], float)
    return bars["close"] * WEIGHTS["a"] + float(LEVELS[1])


@functools.cache
def find_constant() -> float:
    return 0.5


def caches_a_constant(bars: pl.DataFrame) -> pl.Series:
    return bars["close"] * find_constant()


KEEPING: dict[str, Compute] = {
    "a global": fills_a_global,
    "a number": counts_in_a_global,
    "an attribute": keeps_an_attribute,
    "a default": fills_a_default,
    "an array": writes_into_an_array,
    "a helper": helps,
    "a closure": make_closure(),
    "an object": Remembering(),
    "a method": Remembering().__call__,
    "a partial": functools.partial(fills_a_default),
}
PURE: dict[str, Compute] = {
    "constants": reads_constants,
    "a cache": caches_a_constant,
    "an object": Fixed(0.5),
    "a method": Fixed(2.0).scale,
    "a lambda": lambda bars: bars["high"] / bars["low"],
    "a partial": functools.partial(reads_constants),
}


@pytest.mark.parametrize("compute", KEEPING.values(), ids=KEEPING)
def test_what_is_kept_is_found_by_the_first_call(compute: Compute) -> None:
    feature = Feature("kept", 1, compute)
    before = capture_state(feature.compute)
    feature(pl.DataFrame({"close": [1.0, 2.0], "high": [2.0, 3.0], "low": [1.0, 1.0]}))
    with pytest.raises(LookAheadError, match="'kept' keeps something from one call to the next"):
        check_memory(feature, before)
    with pytest.raises(AssertionError, match="keeps something"):
        assert_causal(feature)
    with pytest.raises(LookAheadError, match="keeps something"):  # has all that it keeps by now
        check_memory(feature, capture_state(feature.compute))


@pytest.mark.parametrize("compute", PURE.values(), ids=PURE)
def test_a_function_of_its_frame_passes(compute: Compute) -> None:
    feature = Feature("pure", 1, compute)
    before = capture_state(feature.compute)
    feature(pl.DataFrame({"close": [1.0, 2.0], "high": [2.0, 3.0], "low": [1.0, 1.0]}))
    check_memory(feature, before)


def test_built_in_features_and_lines_of_text_have_no_state_that_changes() -> None:
    candles = simulate_candles()
    frame = pl.DataFrame({name: candles[name] for name in candles.columns})
    for feature in (*FEATURES.values(), *resolve(["m = close.rolling_mean(5)"])):
        before = capture_state(feature.compute)
        feature(frame)
        check_memory(feature, before)
