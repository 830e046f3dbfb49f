"""The check that catches whoever sees too far."""

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from btc_datamodule.candles.series import OPTIONAL
from btc_datamodule.errors import LookAheadError
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import FEATURES, resolve
from btc_datamodule.features.causality import check_lookback
from btc_datamodule.features.feature import Compute, Feature, make_frame
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table
from btc_datamodule.features.varying import vary_rows
from tests.factories import HOUR, T0, candles_of, changed
from tests.features.markets import EVER, MAX_FILL, Market, real_grid, references
from tests.helpers import write

CLOSE = pl.col("close")


def ewm(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].ewm_mean(span=12, adjust=False)


def truncated_ewm(bars: pl.DataFrame) -> pl.Series:
    close = bars["close"]
    terms = [close.shift(lag) * 0.8**lag for lag in range(12)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def centred(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].rolling_mean(5, center=True)


def back_filled(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].fill_null(strategy="backward").log()


def forward_filled(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].fill_null(strategy="forward", limit=6).log()


def less_mean(bars: pl.DataFrame) -> pl.Series:
    close = bars["close"]
    return close - close.mean()


def z_score(bars: pl.DataFrame) -> pl.Series:
    close = bars["close"]
    return (close - close.mean()) / close.std()


def interpolated(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].interpolate()


def ranked(bars: pl.DataFrame) -> pl.Series:
    return bars["volume"].rank() / bars.height


def next_high(bars: pl.DataFrame) -> pl.Series:
    """Right but on Mondays, when it takes the high of the next bar."""
    monday = (bars["open_time"] // 86400 + 3) % 7 == 0
    return bars["high"].shift(-1).zip_with(monday, bars["high"])


OFFENDERS: dict[str, tuple[int, Compute | pl.Expr, str]] = {
    "next_close": (5, lambda bars: bars["close"].shift(-1), "it looks ahead"),
    "centred": (5, centred, "it looks ahead"),
    "back_filled": (1, back_filled, "it looks ahead"),
    "interpolated": (30, interpolated, "it looks ahead"),
    "less_mean": (50, less_mean, "it looks ahead"),
    "z_score": (50, z_score, "it looks ahead"),
    "next_close_as_expression": (5, CLOSE.shift(-1), "it looks ahead"),
    "centred_as_expression": (5, CLOSE.rolling_mean(5, center=True), "it looks ahead"),
    "back_filled_as_expression": (1, CLOSE.backward_fill(), "it looks ahead"),
    "interpolated_as_expression": (30, CLOSE.interpolate(), "it looks ahead"),
    "z_score_as_expression": (50, (CLOSE - CLOSE.mean()) / CLOSE.std(), "it looks ahead"),
    "ewm_as_expression": (
        24,
        CLOSE.ewm_mean(span=12),
        "it reads further back than its lookback of 24: raise it",
    ),
    "short_as_expression": (
        10,
        CLOSE / CLOSE.shift(10) - 1,
        "it reads further back than its lookback of 10: raise it",
    ),
    "ranked": (50, ranked, "it looks ahead"),
    "next_high": (1, next_high, "it looks ahead"),
    "reversed": (1, lambda bars: bars["close"].reverse(), "it looks ahead"),
    "short": (
        3,
        lambda bars: bars["close"].rolling_mean(4, min_samples=1),
        "it reads further back than its lookback of 3: raise it",
    ),
    "undefined": (
        3,
        lambda bars: bars["close"].rolling_mean(4),
        "it reads further back than its lookback of 3: raise it",
    ),
    "ewm": (24, ewm, "it reads further back than its lookback of 24: raise it"),
    "running": (
        100,
        lambda bars: bars["volume"].cum_sum(),
        "it reads further back than its lookback of 100: raise it",
    ),
}


CLEAN: dict[str, tuple[int, Compute | pl.Expr]] = {
    "momentum_as_expression": (11, CLOSE / CLOSE.shift(10) - 1),
    "deviation_as_expression": (61, CLOSE.log().diff().rolling_std(60)),
    "previous_close": (2, lambda bars: bars["close"].shift(1)),
    "trailing": (5, lambda bars: bars["close"].rolling_mean(5)),
    "forward_filled": (7, forward_filled),
    "less_trailing_mean": (50, lambda bars: bars["close"] - bars["close"].rolling_mean(50)),
    "long_enough": (4, lambda bars: bars["close"].rolling_mean(4, min_samples=1)),
    "longer_than_needed": (40, lambda bars: bars["close"].rolling_mean(4)),
    "truncated_ewm": (12, truncated_ewm),
    "deviation": (24, lambda bars: bars["close"].rolling_std(24)),
    "deviation_of_volume": (24, lambda bars: bars["volume"].rolling_std(24)),
    "trailing_sum": (100, lambda bars: bars["volume"].rolling_sum(100)),
    "trailing_rank": (10, lambda bars: bars["close"] / bars["close"].rolling_max(10)),
}


@pytest.mark.each_value
@pytest.mark.parametrize("name", OFFENDERS)
def test_a_feature_that_breaks_the_law_is_named_with_time_and_size(
    market: Market, name: str
) -> None:
    lookback, compute, problem = OFFENDERS[name]
    both = (FEATURES["log_return"], Feature(name, lookback, compute))
    before = set(market.candles.parent.iterdir())
    with pytest.raises(LookAheadError) as caught:
        build(market.candles, Recipe(both, market.max_fill, EVER))
    number = r"(-?[\d.]+(e[-+]\d+)?|nan)"
    found = re.fullmatch(
        rf"feature '{name}' at (?P<when>\S+Z): (?P<all>{number}) with all bars, (?P<alone>{number})"
        rf" from its last {lookback} alone \(difference (?P<size>{number})\): {problem}"
        rf"(: from the bars up to then it is (?P<past>{number}) \(a function of a whole column.*)?",
        str(caught.value),
    )
    assert found is not None, str(caught.value)
    assert (found["past"] is not None) == (problem == "it looks ahead")
    when = int(datetime.fromisoformat(found["when"]).timestamp())
    row = market.times.tolist().index(when)
    bars = make_frame(market.times, market.bars)
    whole = Feature(name, lookback, compute)
    alone = whole(bars[max(0, row - lookback + 1) : row + 1])[-1]
    true = {
        "all": whole(bars)[row],
        "alone": alone,
        "size": abs(whole(bars)[row] - alone),
        "past": whole(bars[: row + 1])[-1],
    }
    shown = {key: float(found[key]) for key in true if found[key] is not None}
    assert shown == pytest.approx({key: true[key] for key in shown}, rel=1e-2, nan_ok=True)
    assert set(market.candles.parent.glob("features-*.h5")) <= before


def test_one_outlier_does_not_hide_a_look_ahead(tmp_path: Path) -> None:
    series = candles_of(np.ones(500, dtype=bool))
    volume = 10 + series["volume"]
    volume[200] = 1e-8  # the least that can be traded
    path = write(tmp_path / "candles.h5", changed(series, volume=volume))

    def growth(bars: pl.DataFrame) -> pl.Series:
        ratio = (bars["volume"] / bars["volume"].shift(1)).fill_null(1)
        return ratio.rolling_mean(3, center=True, min_samples=1)

    coming = Feature("coming", 3, growth)
    with pytest.raises(LookAheadError, match=r"'coming' .* it looks ahead"):
        build(path, Recipe((coming,), MAX_FILL, EVER))


@pytest.mark.parametrize("size", [3e-5, 3e-6, 1e-2])
def test_a_leak_that_is_small_beside_a_constant_level_is_found(size: float) -> None:
    level = 1000.0 if size > 1e-3 else 1.0

    def peek(bars: pl.DataFrame) -> pl.Series:
        coming = (bars["close"].shift(-1) / bars["close"]).log().fill_null(0.0)
        return level + size * coming

    times = T0 + HOUR * np.arange(500)
    candles = candles_of(times)
    bars = make_frame(times, {n: candles[n] for n in ("open", "high", "low", "close", "volume")})
    feature = Feature("peek", 2, peek)
    with pytest.raises(LookAheadError, match="it looks ahead"):
        check_lookback(feature, bars, feature(bars), range(10, 490, 40))


@pytest.mark.each_value
@pytest.mark.parametrize("name", CLEAN)
def test_a_feature_that_keeps_the_law_passes(market: Market, name: str) -> None:
    lookback, compute = CLEAN[name]
    feature = Feature(name, lookback, compute)
    path = build(market.candles, Recipe((feature,), market.max_fill, EVER))
    table, values = Table.open(path), feature(make_frame(market.times, market.bars))
    seen = table.observed[:].astype(bool)
    assert seen.sum() > 20
    np.testing.assert_allclose(table.x[seen, 0], values[seen], rtol=1e-6, atol=1e-9)
    path.unlink()


def test_all_built_in_features_keep_the_law_on_a_market_that_stands_still_but_once(
    tmp_path: Path,
) -> None:
    present = np.ones(600, dtype=bool)
    present[[100, 200, 201, 202, 203, 204, 205]] = False
    series = candles_of(present, optional=OPTIONAL)
    flat = np.full(len(series), 7000.0)
    flat[300] = 21000.0
    still = changed(
        series,
        **dict.fromkeys(("open", "high", "low", "close"), flat),
        volume=np.zeros(len(series)),
        taker_buy_volume=np.zeros(len(series)),
    )
    path = write(tmp_path / "candles.h5", still)
    table = Table.open(build(path, Recipe(resolve(list(FEATURES)), MAX_FILL, EVER)))
    moved = np.flatnonzero(table.x[:, table.features.index("log_return")])
    assert moved.tolist() == [307, 308]
    assert (table.x[:, table.features.index("taker_share")][table.observed == 1] == 0.5).all()


def test_the_check_looks_at_the_rows_it_is_told() -> None:
    bars = make_frame(*real_grid())
    row = int(np.flatnonzero(np.isfinite(references(*real_grid())["log_return"]))[700])
    once = pl.Series(np.arange(bars.height) == row)

    def peek(given: pl.DataFrame) -> pl.Series:
        late = given["close"].shift(-1)
        return (
            late.zip_with(once.head(given.height), given["close"])
            if given.height > row
            else (given["close"])
        )

    feature = Feature("peek", 1, peek)
    values = feature(bars)
    check_lookback(feature, bars, values, [row - 1, row + 1])
    with pytest.raises(LookAheadError, match="'peek'"):
        check_lookback(feature, bars, values, [row])


# --- running sums, other rows ---------------------------------------------------------------------


def running_mean(bars: pl.DataFrame) -> pl.Series:
    """The mean of 24 closes, less the last one, by a running sum."""
    total = bars["close"].cum_sum()
    return (total - total.shift(24)) / 24 - bars["close"]


def running_flag(bars: pl.DataFrame) -> pl.Series:
    return running_mean(bars) > -1e-11


def test_what_turns_on_the_rounding_of_a_running_sum_is_told_so() -> None:
    """A comparison, where the market has stood still for a window."""
    close = 7000 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.01, 400)))
    close[200:300] = close[200]
    bars = make_frame(np.arange(400) * HOUR, {"close": close})
    flag = Feature("s", 25, running_flag)
    with pytest.raises(LookAheadError, match="a running sum, as polars' rolling functions keep"):
        check_lookback(flag, bars, flag(bars), range(225, 299))
    mean = Feature("m", 25, running_mean)
    check_lookback(mean, bars, mean(bars), range(100, 400))
    (text,) = resolve(["s = close.rolling_mean(24) - close > 0 - 0.00000000001"])
    check_lookback(text, bars, text(bars), range(24, 400))
    short = Feature("f", 24, CLOSE / CLOSE.shift(30))
    with pytest.raises(LookAheadError, match="it reads further back than its lookback of 24"):
        check_lookback(short, bars, short(bars), [100])


@pytest.mark.parametrize("sentinel", [-999.0, -1e6, 1e12])
def test_a_number_that_stands_for_something_else_hides_no_peek(sentinel: float) -> None:
    rng = np.random.default_rng(4)
    close = np.exp(np.cumsum(rng.normal(0, 0.01, 500))) * 7000
    marked = rng.random(500) < 0.3
    bars = make_frame(np.arange(500) * HOUR, {"close": close, "volume": np.where(marked, 0.0, 1.0)})
    ahead = pl.when(pl.col("volume") == 0).then(sentinel).otherwise(CLOSE.shift(-1) / CLOSE - 1)
    feature = Feature("a", 1, ahead)
    rows = np.flatnonzero(~marked)[:5].tolist()
    with pytest.raises(LookAheadError, match="it looks ahead"):
        check_lookback(feature, bars, feature(bars), rows)


def test_other_rows_are_without_trades_or_unknown_wherever_those_before_were() -> None:
    columns = {
        name: values.copy()
        for name, values in candles_of(np.ones(4000, dtype=bool), optional=OPTIONAL).columns.items()
        if name != "open_time"
    }
    columns["volume"][::2] = 0
    for values in columns.values():
        values[1::7] = np.nan
    others = vary_rows(columns)
    unknown, quiet = np.isnan(others["close"]), others["volume"] == 0
    for rows in (slice(0, None, 2), slice(1, None, 7), slice(3, None, 2)):
        assert 0.02 < unknown[rows].mean() < 0.09
        assert 0.06 < quiet[rows].mean() < 0.14
    known = ~unknown
    assert (others["high"] >= np.maximum(others["open"], others["close"]))[known].all()
    assert (others["low"] <= np.minimum(others["open"], others["close"]))[known].all()
    for name in ("open", "high", "low"):
        assert (others[name] == others["close"])[quiet & known].all()
