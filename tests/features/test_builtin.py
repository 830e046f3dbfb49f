"""Built-in features: each formula recomputed in numpy; what a name in `features` stands for."""

import math

import numpy as np
import pytest

from btc_datamodule.errors import ConfigError
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import FEATURES, resolve
from btc_datamodule.features.feature import Feature, count_warm_up, make_frame
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table
from tests.factories import HOUR, T0
from tests.features.markets import EVER, Market, real_grid, references


def test_the_simulated_bars_have_holes_of_both_kinds() -> None:
    _, bars = real_grid()
    assert np.isnan(bars["close"]).sum() > 20
    assert (bars["volume"] == 0).sum() > 20


def test_every_built_in_feature_has_a_reference() -> None:
    assert set(references(*real_grid())) == set(FEATURES)


@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_is_its_formula(name: str) -> None:
    found, wanted = FEATURES[name](make_frame(*real_grid())), references(*real_grid())[name]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    # Values near 0 are differences of logarithms near 9: their error is relative to the spread.
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * float(np.nanstd(wanted)))


@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_needs_exactly_the_bars_that_it_declares(name: str) -> None:
    feature, bars = FEATURES[name], make_frame(*real_grid())
    row = 500 + int(np.argmax(np.isfinite(references(*real_grid())["volatility"][500:])))
    enough = feature(bars[row - feature.lookback + 1 : row + 1])[-1]
    assert enough == feature(bars)[row]
    if feature.lookback > 1:
        assert math.isnan(feature(bars[row - feature.lookback + 2 : row + 1])[-1])


@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_has_the_same_bits_in_every_frame_that_holds_its_lookback(
    name: str,
) -> None:
    feature, bars = FEATURES[name], make_frame(*real_grid())
    whole, before, rng = feature(bars), feature.lookback - 1, np.random.default_rng(0)
    for row in rng.integers(before, len(whole), 200).tolist():
        start, end = rng.integers(0, row - before + 1), rng.integers(row + 1, len(whole) + 1)
        for first, last in ((row - before, row + 1), (start, end)):
            part, wanted = feature(bars[first:last])[before:], whole[first + before : last]
            np.testing.assert_array_equal(np.isnan(part), np.isnan(wanted))
            defined = ~np.isnan(wanted)
            assert (part.view(np.int64)[defined] == wanted.view(np.int64)[defined]).all()


def test_the_markets_have_outages_and_bars_without_trades(market: Market) -> None:
    assert np.isnan(market.bars["close"]).any()
    assert (market.bars["volume"] == 0).any()


@pytest.mark.each_value
@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_in_the_table_is_its_formula_and_masked_by_its_holes(
    market: Market, name: str
) -> None:
    if any(np.isnan(market.bars[column]).all() for column in FEATURES[name].needs):
        pytest.skip("these candles do not have the column")
    recipe = Recipe((FEATURES[name],), market.max_fill, EVER)
    table = Table.open(build(market.candles, recipe))
    wanted = references(market.times, market.bars)[name]
    seen = np.isfinite(wanted) & np.isfinite(market.bars["close"])
    seen[: FEATURES[name].lookback - 1] = False
    np.testing.assert_array_equal(table.observed[:], seen)
    # Differences of logarithms near 9 are exact to 1e-15, whatever little is left of them.
    np.testing.assert_allclose(table.x[:, 0][seen], wanted[seen], rtol=1e-6, atol=1e-12)
    assert (table.x[:, 0][~seen] == 0).all()
    returns = np.flatnonzero(np.isnan(market.bars["close"][:-1])) + 1
    if name in ("log_return", "log_open"):
        assert not table.observed[:][returns].any(), "the first one spans the outage"


def test_known_bars_give_known_values() -> None:
    bars = make_frame(
        np.array([T0, T0 + 6 * HOUR]),  # a Wednesday, 00:00 and 06:00
        {
            "open": np.array([100.0, 110.0]),
            "high": np.array([120.0, 140.0]),
            "low": np.array([90.0, 100.0]),
            "close": np.array([110.0, 121.0]),
            "volume": np.array([math.e - 1, 0.0]),
            "taker_buy_volume": np.array([(math.e - 1) / 4, 0.0]),
        },
    )
    assert FEATURES["log_return"](bars)[1] == pytest.approx(math.log(1.1))
    assert FEATURES["log_open"](bars)[1] == pytest.approx(0.0)
    assert FEATURES["log_range"](bars)[1] == pytest.approx(math.log(1.4))
    assert FEATURES["log_volume"](bars).tolist() == pytest.approx([1.0, 0.0])
    assert FEATURES["taker_share"](bars).tolist() == pytest.approx([0.25, 0.5])
    assert FEATURES["day_sin"](bars).tolist() == pytest.approx([0.0, 1.0])
    assert FEATURES["day_cos"](bars).tolist() == pytest.approx([1.0, 0.0])
    assert FEATURES["week_cos"](bars)[0] == pytest.approx(math.cos(4 * math.pi / 7))


def test_names_and_features_resolve_in_the_order_given() -> None:
    mine = Feature("mine", 3, lambda bars: bars["close"])
    resolved = resolve(["volatility", mine, "log_return"])
    assert resolved == (FEATURES["volatility"], mine, FEATURES["log_return"])
    assert count_warm_up(resolved) == 24
    assert count_warm_up((mine,)) == 2


def test_an_unknown_feature_gets_a_suggestion_and_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(["log_retrun"])
    known = ", ".join(FEATURES)
    assert str(caught.value) == (
        f"unknown feature 'log_retrun': did you mean 'log_return'? known features: {known}"
    )
    with pytest.raises(
        ConfigError, match=r"^unknown feature 'xyzzy': known features: log_return, "
    ):
        resolve(["xyzzy"])


def test_repeated_features_are_named() -> None:
    mine = Feature("log_return", 1, lambda bars: bars["close"])
    lists: list[list[str | Feature]] = [
        ["log_return", "log_open", "log_return"],
        ["log_return", mine],
    ]
    for repeated in lists:
        with pytest.raises(ConfigError, match=r"^features names log_return more than once$"):
            resolve(repeated)


def test_no_features_at_all_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^features is empty: .* such as log_return"):
        resolve([])
