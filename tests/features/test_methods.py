"""The methods, functions and operators of expressions: what each computes."""

import math
import re
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.features import methods
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.feature import make_frame
from btc_datamodule.features.methods import METHODS, Floats
from tests.factories import HOUR

NAN = math.nan


def on(right: str, **columns: list[float]) -> list[float]:
    """Values of an expression on the given columns."""
    rows = len(next(iter(columns.values())))
    arrays = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    (feature,) = resolve([f"x = {right}"])
    values: list[float] = feature(make_frame(np.arange(rows) * HOUR, arrays)).tolist()
    return values


def call(inner: str, name: str, bars: int) -> str:
    """The text of a method of something."""
    numbers = {"n": bars, "bars": bars, "span": 7, "low": -0.5, "high": 1.5}
    given = [str(numbers[each]) for each in METHODS[name].takes]
    return f"({inner}).{name}({', '.join(['open'] * METHODS[name].pair + given)})"


def bits(values: Floats | list[float]) -> NDArray[np.int64]:
    """The bits of values; NaN is one value."""
    return np.where(np.isnan(values), np.nan, values).view(np.int64)


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
    "close.rolling_cov(open, 2)": [NAN, -1, NAN, NAN, NAN],
    "close.rolling_cov(other=open + 0, bars=2)": [NAN, -1, NAN, NAN, NAN],
    "close.rolling_cov(bars=2, other=close)": [NAN, 0.5, NAN, NAN, 32],
    "close.rolling_corr(open, 2)": [NAN, -1, NAN, NAN, NAN],
    "close.rolling_corr(close.sqrt(), bars=2)": [NAN, 1, NAN, NAN, 1],
    "close.rolling_corr(close * 0, bars=2)": [NAN] * 5,
    "close.rolling_cov(close * 0 + 7, bars=2)": [NAN, 0, NAN, NAN, 0],
    "close.rolling_corr(open, 9)": [NAN] * 5,
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


WINDOWED = [name for name, each in METHODS.items() if "bars" in each.takes and not each.pair]


@pytest.mark.parametrize("bars", [7, 24, 61])
def test_medians_between_holes_are_those_of_numpy(bars: int) -> None:
    values = np.random.default_rng(bars).normal(size=2000)
    values[np.random.default_rng(1).random(2000) < 0.02] = NAN
    views = np.lib.stride_tricks.sliding_window_view(values, bars)
    found = on(f"close.rolling_median({bars})", close=values.tolist())
    np.testing.assert_allclose(found[bars - 1 :], np.median(views, axis=1), 1e-15, 1e-17)


# --- the same bits in every frame ---------------------------------------------------------------

MADE_OF = ["close", "close - open", "close.log().diff()", "(close > open) / 3"]
MADE_INTO = ["{}", "({}).sign()", "{} > 0", "{} <= close", "(open - {}).rolling_std(5)"]
MADE_INTO += ["min({}, open) ** close", "({}).rolling_mean(24).sign()", "({}).ewm_mean(3, 6) * 3"]


@st.composite
def closes(draw: st.DrawFn) -> dict[str, list[float]]:
    """Two columns of positive values: some repeat, some are huge, some are not defined."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(1, 150))
    columns = np.exp(rng.normal(0, draw(st.sampled_from([0.01, 1, 20])), (2, rows)))
    columns[0, rng.random(rows) < draw(st.sampled_from([0, 0.5]))] = columns[0, 0]
    columns[:, rng.random(rows) < draw(st.sampled_from([0, 0.02]))] = NAN
    return {"close": columns[0].tolist(), "open": columns[1].tolist()}


@pytest.mark.parametrize("name", METHODS)
@given(closes(), st.data())
@settings(max_examples=20)
def test_a_value_has_the_same_bits_in_every_frame_that_holds_its_lookback(
    name: str, columns: dict[str, list[float]], data: st.DataObject
) -> None:
    rows = len(columns["close"])
    inner, outer = (data.draw(st.sampled_from(texts)) for texts in (MADE_OF, MADE_INTO))
    bars = data.draw(st.one_of(st.integers(2, 70), st.just(max(2, rows))))
    text = outer.format(call(inner, name, bars))
    (feature,) = resolve([f"x = {text}"])
    whole = bits(on(text, **columns))
    before = feature.lookback - 1
    for _ in range(5):
        row = data.draw(st.integers(min(before, rows - 1), rows - 1))
        start = max(0, row - before)
        alone = on(text, **{key: values[start : row + 1] for key, values in columns.items()})
        assert bits(alone)[-1] == whole[row]
        start, end = data.draw(st.integers(0, start)), data.draw(st.integers(row + 1, rows))
        part = bits(on(text, **{key: values[start:end] for key, values in columns.items()}))
        known = 0 if start == 0 else before  # the first rows of a frame are those of the whole
        np.testing.assert_array_equal(part[known:], whole[start:end][known:])


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("bars", [2, 6, 24, 200])
def test_rows_computed_some_at_a_time_have_the_same_bits(
    name: str, bars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = np.random.default_rng(0).lognormal(0, 5, 500).tolist()
    whole = bits(on(call("close", name, bars), close=close))
    monkeypatch.setattr(methods, "BLOCK_ROWS", 7)
    np.testing.assert_array_equal(bits(on(call("close", name, bars), close=close)), whole)


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("spoilt", [NAN, 1e300, -1e20])
def test_a_value_leaves_no_trace_outside_its_windows(name: str, spoilt: float) -> None:
    close = np.random.default_rng(0).normal(0, 1, 300)
    clean = bits(on(call("close", name, 24), close=close.tolist()))
    close[100] = spoilt
    found = np.array(on(call("close", name, 24), close=close.tolist()))
    outside = np.r_[0:100, 124:300]
    np.testing.assert_array_equal(bits(found)[outside], clean[outside])
    assert np.isnan(found[100:124]).all() or not math.isnan(spoilt)


# --- how exact windows are, and the shortest and longest of them --------------------------------


def make_hard() -> dict[str, Floats]:
    rng = np.random.default_rng(7)
    huge = rng.lognormal(0, 1, 300)
    huge[::50] = 1e15
    return {
        "returns": rng.standard_t(3, 300),
        "large": 1e9 + 1e-3 * rng.normal(size=300),
        "huge": huge,
        "decades": rng.lognormal(0, 30, 300),
        "falling": np.exp(-np.arange(300) / 2),
        "still": np.repeat(rng.lognormal(9, 1, 10), 30),
    }


HARD = make_hard()


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("bars", [2, 24, 61, 300])
def test_windows_are_exact_to_a_few_roundings(case: str, bars: int) -> None:
    values = HARD[case]
    close, windows = values.tolist(), np.lib.stride_tricks.sliding_window_view(values, bars)
    found = {
        name: np.array(on(call("close", name, bars), close=close))[bars - 1 :] for name in WINDOWED
    }
    rounding = 2.0**-53 * math.log2(2 * bars)
    size = np.array([math.fsum(abs(window)) for window in windows])
    total = np.array([math.fsum(window) for window in windows])
    assert (abs(found["rolling_sum"] - total) <= rounding * size).all()
    assert (abs(found["rolling_mean"] - total / bars) <= 2 * rounding * size / bars).all()
    variance = np.array([statistics.variance(window) for window in windows.tolist()])
    np.testing.assert_allclose(found["rolling_var"], variance, rtol=4 * bars * 2.0**-53)
    np.testing.assert_allclose(found["rolling_std"], variance**0.5, rtol=4 * bars * 2.0**-53)
    assert (found["rolling_var"][variance == 0] == 0).all()
    weights = (1 - 2 / 8) ** np.arange(bars)[::-1]
    faded = np.array([math.fsum(window * weights) for window in windows]) / math.fsum(weights)
    sizes = np.array([math.fsum(abs(window) * weights) for window in windows]) / math.fsum(weights)
    assert (abs(found["ewm_mean"] - faded) <= 4 * rounding * sizes).all()
    np.testing.assert_array_equal(found["rolling_min"], windows.min(1))
    np.testing.assert_array_equal(found["rolling_max"], windows.max(1))


@pytest.mark.parametrize("bars", [2, 3, 24, 61, 100])
def test_a_market_that_stands_still_has_its_price_as_mean_and_no_deviation(bars: int) -> None:
    for price in (0.1, 1 / 3, 29_123.45, 1e-300, 1e300):
        still = [price] * 100
        for name in ("rolling_mean", "ewm_mean", "rolling_median", "rolling_min", "rolling_max"):
            assert on(call("close", name, bars), close=still)[bars - 1 :] == still[bars - 1 :]
        for name in ("rolling_var", "rolling_std"):
            assert on(call("close", name, bars), close=still)[bars - 1 :] == [0] * (101 - bars)


@pytest.mark.parametrize("name", WINDOWED)
def test_the_shortest_and_the_longest_windows(name: str) -> None:
    least = METHODS[name].least
    close = np.random.default_rng(0).normal(size=9).tolist()
    assert on(call("close", name, 5), close=[]) == []
    assert np.isnan(on(call("close", name, 10), close=close)).all()
    longest = on(call("close", name, 9), close=close)
    assert np.isnan(longest).tolist() == [True] * 8 + [False]
    assert on(call("close", name, least), close=close[:least])[-1] == on(
        call("close", name, least), close=close
    )[least - 1]  # fmt: skip
    if least == 1:
        assert on(call("close", name, 1), close=close) == close
