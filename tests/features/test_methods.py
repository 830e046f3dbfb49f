"""The methods, functions and operators of expressions: what each computes."""

import math
import re
import statistics

import numpy as np
import pytest

from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.feature import make_frame
from btc_datamodule.features.methods import METHODS
from tests.factories import HOUR

NAN = math.nan


def on(right: str, **columns: list[float]) -> list[float]:
    """Values of an expression on the given columns."""
    rows = len(next(iter(columns.values())))
    arrays = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    (feature,) = resolve([f"x = {right}"])
    values: list[float] = feature(make_frame(np.arange(rows) * HOUR, arrays)).tolist()
    return values


def same(found: list[float], wanted: list[float]) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)


def test_the_two_examples_of_the_readme() -> None:
    close = [100 * 1.01 ** (row + row % 3) for row in range(80)]
    same(on("close / close.shift(10) - 1", close=close)[10:], [
        close[row] / close[row - 10] - 1 for row in range(10, 80)
    ])  # fmt: skip
    returns = [math.log(close[row] / close[row - 1]) for row in range(1, 80)]
    same(on("close.log().diff().rolling_std(60)", close=close)[60:], [
        statistics.stdev(returns[row - 60 : row]) for row in range(60, 80)
    ])  # fmt: skip
    assert np.isnan(on("close.log().diff().rolling_std(60)", close=close)[:60]).all()


KNOWN: dict[str, list[float]] = {
    "close + 1": [2, 3, NAN, 9, 1],
    "1 - close": [0, -1, NAN, -7, 1],
    "-close * 2": [-2, -4, NAN, -16, 0],
    "+close": [1, 2, NAN, 8, 0],
    "close / open": [0.5, NAN, NAN, 2, NAN],
    "close ** 2": [1, 4, NAN, 64, 0],
    "close ** 0": [1, 1, NAN, 1, 1],  # what is not known stays so
    "1 ** close": [1, 1, NAN, 1, 1],
    "(-1) ** (close / 16)": [NAN, NAN, NAN, NAN, 1],
    "close > open": [0, 1, NAN, 1, NAN],
    "close >= 2": [0, 1, NAN, 1, 0],
    "close < 2": [1, 0, NAN, 0, 1],
    "close <= 1": [1, 0, NAN, 0, 1],
    "close == 8": [0, 0, NAN, 1, 0],
    "close != 8": [1, 1, NAN, 0, 1],
    "(close > 1) * close": [0, 2, NAN, 8, 0],
    "max(close, open)": [2, 2, NAN, 8, NAN],
    "min(close, open, 1)": [1, 0, NAN, 1, NAN],
    "close.log()": [0, math.log(2), NAN, math.log(8), NAN],
    "close.log1p()": [math.log(2), math.log(3), NAN, math.log(9), 0],
    "close.exp()": [math.e, math.e**2, NAN, math.e**8, 1],
    "(close * 100).exp()": [math.exp(100), math.exp(200), NAN, NAN, 1],
    "(1 - close).abs()": [0, 1, NAN, 7, 1],
    "(1 - close).sqrt()": [0, NAN, NAN, NAN, 1],
    "(1 - close).sign()": [0, -1, NAN, -1, 1],
    "close.sin()": [math.sin(1), math.sin(2), NAN, math.sin(8), 0],
    "close.cos()": [math.cos(1), math.cos(2), NAN, math.cos(8), 1],
    "close.tanh()": [math.tanh(1), math.tanh(2), NAN, math.tanh(8), 0],
    "close.clip(1, 2 * 2)": [1, 2, NAN, 4, 1],
    "close.clip(high=2, low=-1)": [1, 2, NAN, 2, 0],
    "close.shift()": [NAN, 1, 2, NAN, 8],
    "close.shift(0)": [1, 2, NAN, 8, 0],
    "close.shift(n=4)": [NAN, NAN, NAN, NAN, 1],
    "close.shift(9)": [NAN] * 5,
    "close.diff()": [NAN, 1, NAN, NAN, -8],
    "close.diff(3)": [NAN, NAN, NAN, 7, -2],
    "close.pct_change(3)": [NAN, NAN, NAN, 7, -1],
    "close.rolling_mean(2)": [NAN, 1.5, NAN, NAN, 4],
    "close.rolling_sum(bars=2)": [NAN, 3, NAN, NAN, 8],
    "close.rolling_var(2)": [NAN, 0.5, NAN, NAN, 32],
    "close.rolling_std(2)": [NAN, 0.5**0.5, NAN, NAN, 32**0.5],
    "close.rolling_min(2)": [NAN, 1, NAN, NAN, 0],
    "close.rolling_max(2)": [NAN, 2, NAN, NAN, 8],
    "close.rolling_median(2)": [NAN, 1.5, NAN, NAN, 4],
    "close.rolling_mean(9)": [NAN] * 5,
    "close.rolling_median(9)": [NAN] * 5,
    "close.ewm_mean(span=3, bars=2)": [NAN, (1 + 2 * 2) / 3, NAN, NAN, 8 / 3],
    "close.ewm_mean(1, 1)": [1, 2, NAN, 8, 0],
    "close.ewm_mean(3, 9)": [NAN] * 5,
    "close.log().rolling_mean(1)": [0, math.log(2), NAN, math.log(8), NAN],
}


@pytest.mark.parametrize("right", KNOWN)
def test_known_bars_give_known_values(right: str) -> None:
    same(on(right, close=[1, 2, NAN, 8, 0], open=[2, 0, 3, 4, NAN]), KNOWN[right])


def test_every_method_has_a_known_value() -> None:
    assert set(METHODS) == set(re.findall(r"\.(\w+)\(", " ".join(KNOWN)))


def test_an_undefined_value_is_gone_when_its_window_is() -> None:
    found = on("volume.log().rolling_mean(2)", volume=[0, 1, 1, math.e, 1])
    same(found, [NAN, NAN, 0, 0.5, 0.5])


def test_a_window_of_equal_values_has_deviation_zero_whatever_came_before() -> None:
    rng = np.random.default_rng(3)
    close = np.exp(rng.normal(0, 30, 400))  # over many orders of magnitude
    for start in range(20, 380, 40):
        close[start : start + 17] = close[start]
    for right in ("close.rolling_std(12)", "close.rolling_mean(12) - close"):
        found = np.array(on(right, close=close.tolist()))
        for start in range(20, 380, 40):
            assert (found[start + 11 : start + 17] == 0).all()


@pytest.mark.parametrize("bars", [1, 2, 3, 7, 50, 51, 199, 200])
def test_windows_of_any_length_are_those_of_numpy(bars: int) -> None:
    values = np.random.default_rng(bars).lognormal(9, 3, 200)
    views = np.lib.stride_tricks.sliding_window_view(values, bars)
    wanted = {"mean": views.mean(1), "sum": views.sum(1), "min": views.min(1), "max": views.max(1)}
    wanted["median"] = np.median(views, axis=1)
    if bars > 1:
        wanted |= {"std": views.std(1, ddof=1), "var": views.var(1, ddof=1)}
    for name, of_windows in wanted.items():
        found = on(f"close.rolling_{name}({bars})", close=values.tolist())
        assert np.isnan(found[: bars - 1]).all()
        np.testing.assert_allclose(found[bars - 1 :], of_windows, rtol=1e-12)
