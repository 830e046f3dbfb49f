"""The methods of two columns: windows of their covariance and correlation."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.features import methods
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.feature import make_frame
from btc_datamodule.features.methods import METHODS, Floats
from tests.factories import HOUR

NAN = math.nan
PAIRS = [name for name, method in METHODS.items() if method.pair]
SLIDE = np.lib.stride_tricks.sliding_window_view


def on(right: str, close: Floats, opened: Floats) -> Floats:
    """Values of an expression of two columns."""
    (feature,) = resolve([f"x = {right}"])
    times = np.arange(len(close)) * HOUR
    return feature(make_frame(times, {"close": close, "open": opened}))


def bits(values: Floats) -> list[int]:
    """The bits of values; NaN is one value."""
    return np.where(np.isnan(values), np.nan, values).view(np.int64).tolist()  # type: ignore[no-any-return]


@st.composite
def columns(draw: st.DrawFn, most: int = 120) -> tuple[Floats, Floats]:
    """Two columns that have to do with each other: some values repeat, some are not defined."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(1, most))
    share = draw(st.sampled_from([0, 0.5, 1]))
    both = rng.normal(0, 1, (2, rows))
    both[1] = share * both[0] + (1 - share) * both[1]
    both = np.exp(both * draw(st.sampled_from([0.01, 1, 8])))
    both[0, rng.random(rows) < draw(st.sampled_from([0, 0.6]))] = both[0, 0]
    both[rng.random(both.shape) < draw(st.sampled_from([0, 0.02]))] = NAN
    return both[0], both[1]


@given(columns(), st.integers(2, 40))
@settings(max_examples=200)
def test_windows_are_those_of_numpy(both: tuple[Floats, Floats], bars: int) -> None:
    close, _ = both
    cov, corr = (on(f"close.{name}(open, {bars})", *both) for name in ("rolling_cov", PAIRS[0]))
    assert np.isnan(cov[: bars - 1]).all()
    assert np.isnan(corr[: bars - 1]).all()
    for row in range(bars - 1, len(close)):
        window = np.stack([each[row - bars + 1 : row + 1] for each in both])
        if np.isnan(window).any():
            assert np.isnan([cov[row], corr[row]]).all()
            continue
        wanted = np.cov(window)
        size = math.sqrt(wanted[0, 0] * wanted[1, 1])
        still = [len(set(each.tolist())) == 1 for each in window]
        if any(still):
            assert cov[row] == 0
            assert np.isnan(corr[row])
            continue
        # Rounding of a deviation is relative to the values, which may lie close together.
        noise = 1e-15 * bars * max(float(np.abs(each).max() / np.std(each)) for each in window)
        assert cov[row] == pytest.approx(wanted[0, 1], abs=size * noise + 1e-300)
        assert corr[row] == pytest.approx(wanted[0, 1] / size, abs=noise)
        assert -1 <= corr[row] <= 1


@pytest.mark.parametrize("name", PAIRS)
@given(columns(), st.integers(2, 70), st.data())
@settings(max_examples=60)
def test_a_value_has_the_same_bits_in_every_frame_that_holds_its_lookback(
    name: str, both: tuple[Floats, Floats], bars: int, data: st.DataObject
) -> None:
    rows = len(both[0])
    text = f"close.log().diff().{name}(open - close, {bars}).sign() * close"
    text = data.draw(st.sampled_from([text, f"close.{name}(open.shift(2), {bars})"]))
    (feature,) = resolve([f"x = {text}"])
    whole, before = bits(on(text, *both)), feature.lookback - 1
    for _ in range(4):
        row = data.draw(st.integers(0, rows - 1))
        start = data.draw(st.integers(0, max(0, row - before)))
        end = data.draw(st.integers(row + 1, rows))
        part = bits(on(text, both[0][start:end], both[1][start:end]))
        assert part[row - start] == whole[row]
    start = max(0, row - before)
    alone = on(text, both[0][start : row + 1], both[1][start : row + 1])
    assert bits(alone)[-1] == whole[row]


@pytest.mark.parametrize(
    ("right", "lookback"),
    [
        ("close.rolling_corr(open, 24)", 24),
        ("close.shift(3).rolling_cov(open, bars=24)", 27),
        ("close.rolling_cov(open.shift(5).diff(), bars=24)", 30),
        ("close.rolling_cov(open, 24) / open.rolling_var(24)", 24),
        ("close.rolling_corr(open.rolling_corr(high, 5), 7).shift(2)", 13),
    ],
)
def test_the_lookback_is_that_of_both_and_of_the_window(right: str, lookback: int) -> None:
    assert resolve([f"x = {right}"])[0].lookback == lookback


def make_pair(rows: int = 400) -> tuple[Floats, Floats]:
    close, opened = np.random.default_rng(5).lognormal(0, 3, (2, rows))
    return close, opened


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("bars", [2, 6, 24, 200])
def test_rows_computed_some_at_a_time_have_the_same_bits(
    name: str, bars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bits(on(f"close.{name}(open, {bars})", *make_pair()))
    monkeypatch.setattr(methods, "BLOCK_ROWS", 7)
    assert bits(on(f"close.{name}(open, {bars})", *make_pair())) == whole


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("spoilt", [NAN, 1e300, -1e20])
@pytest.mark.parametrize("which", [0, 1])
def test_a_value_leaves_no_trace_outside_its_windows(name: str, spoilt: float, which: int) -> None:
    both = make_pair()
    clean = bits(on(f"close.{name}(open, 24)", *both))
    both[which][100] = spoilt
    found = on(f"close.{name}(open, 24)", *both)
    outside = [*range(100), *range(124, 400)]
    assert [bits(found)[row] for row in outside] == [clean[row] for row in outside]
    assert np.isnan(found[100:124]).all() or not math.isnan(spoilt)


@pytest.mark.parametrize("bars", [2, 3, 24, 61])
@pytest.mark.parametrize("price", [0.1, 1 / 3, 29_123.45, 1e-300, 1e300])
def test_beside_a_column_that_stands_still_nothing_moves_with_it(bars: int, price: float) -> None:
    close, opened = make_pair()
    close[100:300] = price  # after values of all sizes
    inside = slice(100 + bars - 1, 300)
    for one, other in ((close, opened), (opened, close)):
        assert (on(f"close.rolling_cov(open, {bars})", one, other)[inside] == 0).all()
        assert np.isnan(on(f"close.rolling_corr(open, {bars})", one, other)[inside]).all()


def test_both_are_the_same_from_either_side() -> None:
    close, opened = make_pair()
    for name in PAIRS:
        right = f"close.{name}(open, 24)"
        assert bits(on(right, close, opened)) == bits(on(right, opened, close))


def test_a_column_with_itself_has_its_variance_and_a_correlation_of_one() -> None:
    close, _ = make_pair()
    variance = on("close.rolling_var(24)", close, close)
    assert bits(on("close.rolling_cov(close, 24)", close, close)) == bits(variance)
    for right, wanted in (("close * 3 - 7", 1), ("1 - close", -1)):
        found = on(f"close.rolling_corr({right}, 24)", close, close)[23:]
        assert (np.abs(found) <= 1).all()
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_the_beta_of_a_column_made_of_another_is_its_factor() -> None:
    opened = np.random.default_rng(2).normal(0, 1e-3, 300)
    beta = on("close.rolling_cov(open, 48) / open.rolling_var(48)", 1.7 * opened + 0.3, opened)
    np.testing.assert_allclose(beta[47:], 1.7, rtol=1e-9)


@pytest.mark.parametrize("bars", [2, 24, 61])
@pytest.mark.parametrize("level", [0.0, 1e9])
def test_covariances_are_exact_to_a_few_roundings(bars: int, level: float) -> None:
    close, opened = level + 1e-3 * np.random.default_rng(3).normal(size=(2, 200))
    found = on(f"close.rolling_cov(open, {bars})", close, opened)[bars - 1 :]
    for row, (one, other) in enumerate(zip(SLIDE(close, bars), SLIDE(opened, bars), strict=True)):
        a, b = ([Fraction(value) for value in each.tolist()] for each in (one, other))
        mean_a, mean_b = sum(a) / bars, sum(b) / bars
        products = [(x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)]
        error = abs(float(sum(products) / (bars - 1)) - found[row])
        assert error <= 4 * bars * 2.0**-53 * sum(abs(float(each)) for each in products) / (
            bars - 1
        )


def test_what_is_too_large_for_a_sum_of_squares_has_no_value() -> None:
    close, opened = make_pair(40)
    close[10] = 1e200
    for name in PAIRS:
        found = on(f"close.{name}(open, 4)", close, opened)
        assert not np.isinf(found).any()
    assert np.isnan(on("close.rolling_corr(open, 4)", close, opened)[10:14]).all()


@pytest.mark.parametrize("name", PAIRS)
def test_the_shortest_and_the_longest_windows(name: str) -> None:
    close, opened = make_pair(9)
    empty = np.zeros(0)
    assert on(f"close.{name}(open, 5)", empty, empty).tolist() == []
    assert np.isnan(on(f"close.{name}(open, 10)", close, opened)).all()
    assert np.isnan(on(f"close.{name}(open, 9)", close, opened)).tolist() == [True] * 8 + [False]
    assert np.isfinite(on(f"close.{name}(open, 2)", close, opened)[1:]).all()
