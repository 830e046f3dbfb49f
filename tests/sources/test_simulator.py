"""The simulator: the same bars whatever is asked for, true candles, and the look of Bitcoin."""

import math
from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.candles.series import COLUMNS, Candles, concatenate
from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.plain import describe
from btc_datamodule.sources import simulator
from btc_datamodule.sources.simulator import Coin, Simulator

DAY = 86400
HOLED = Simulator(seed=3, no_trade=0.1, outages_per_year=60)
ETHER = replace(HOLED, coin="ETH")


def candles(source: Simulator, interval: int, span: Span) -> Candles:
    return concatenate([block.candles for block in source.blocks(interval, span)])


def between(start: str, end: str) -> Span:
    return parse_instant(start), parse_instant(end)


@cache
def hours(seed: int = 0, coin: Coin = "BTC") -> Candles:
    """Fourteen years of hourly bars."""
    return candles(Simulator(seed, coin=coin), 3600, between("2012-01-01", "2026-01-01"))


def returns(series: Candles) -> NDArray[np.float64]:
    return np.diff(np.log(series["close"]))


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def assert_identical(a: Candles, b: Candles) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


WHOLE_SPANS = {
    1: between("2020-02-28", "2020-03-01"),
    60: between("2019-12-01", "2020-02-01"),
    3600: between("2015-01-01", "2024-01-01"),
    28800: between("2015-01-01", "2024-01-01"),
    86400: between("2010-01-01", "2024-01-01"),
}


@cache
def whole(interval: int, source: Simulator = HOLED) -> Candles:
    return candles(source, interval, WHOLE_SPANS[interval])


@settings(max_examples=40)
@given(
    data=st.data(),
    interval=st.sampled_from(sorted(WHOLE_SPANS)),
    source=st.sampled_from([HOLED, ETHER]),
)
def test_any_part_of_a_span_holds_bit_for_bit_the_bars_of_the_whole(
    data: st.DataObject, interval: int, source: Simulator
) -> None:
    begin, end = (instant // interval for instant in WHOLE_SPANS[interval])
    start = data.draw(st.integers(begin, end - 1)) * interval
    bars = data.draw(st.integers(1, 3000))
    stop = min(start + bars * interval, end * interval)
    part = candles(source, interval, (start, stop))
    assert_identical(part, whole(interval, source).slice(start, stop))


@pytest.mark.parametrize("block_bars", [1, 2**14, 2**19])
def test_the_size_of_blocks_does_not_change_the_bars(
    block_bars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator, "BLOCK_BARS", block_bars)
    span = between("2019-12-05", "2020-01-20")
    for interval, source in ((60, HOLED), (28800, HOLED), (60, ETHER)):
        assert_identical(candles(source, interval, span), whole(interval, source).slice(*span))


def test_the_default_series_stays_what_it_was() -> None:
    series = candles(Simulator(), 3600, between("2020-01-01", "2020-01-02"))
    assert series["open"][0] == 7200.0
    assert {name: series[name][13] for name in COLUMNS[1:]} == pytest.approx(
        {
            "open": 7184.82,
            "high": 7208.83,
            "low": 7109.95,
            "close": 7111.59,
            "volume": 1215.44643791,
            "quote_volume": 8695057.688904,
            "trades": 117773,
            "taker_buy_volume": 562.68642877,
        },
        rel=1e-5,
    )


def test_another_seed_gives_another_history() -> None:
    assert abs(correlation(returns(hours(0)), returns(hours(1)))) < 0.02
    assert not np.isin(hours(0)["volume"], hours(1)["volume"]).any()


@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_bars_of_all_lengths_agree_on_prices_at_midnight(coin: Coin) -> None:
    span = between("2019-12-20", "2020-01-20")
    daily = candles(Simulator(coin=coin), DAY, span)
    assert (daily["open"][12] == 7200.0) == (coin == "BTC")
    for interval in (60, 300, 3600, 43200):
        fine = candles(Simulator(coin=coin), interval, span)
        per_day = DAY // interval
        np.testing.assert_array_equal(fine["open"][::per_day], daily["open"])
        np.testing.assert_array_equal(fine["close"][per_day - 1 :: per_day], daily["close"])


@pytest.mark.parametrize("interval", [60, 3600])
def test_blocks_tile_the_span_in_order_and_hold_the_bars_of_theirs(interval: int) -> None:
    start, end = parse_instant("2020-03-05T17:00:00Z"), parse_instant("2020-12-24T05:00:00Z")
    blocks = list(Simulator().blocks(interval, (start, end)))
    edges = [block.span for block in blocks]
    assert (edges[0][0], edges[-1][1]) == (start, end)
    assert [begin for begin, _ in edges[1:]] == [stop for _, stop in edges[:-1]]
    for block in blocks:
        assert len(block.candles) <= 2**19
        assert block.candles.span == block.span
        assert block.origin == "simulator seed=0 no_trade=0.0 outages_per_year=0.0"


def test_long_spans_come_in_many_blocks() -> None:
    sizes = [len(b.candles) for b in Simulator().blocks(60, between("2020-01-01", "2021-01-01"))]
    assert sum(sizes) == 366 * 1440
    assert max(sizes) <= 2**17


def test_before_its_first_day_the_simulator_is_known_to_have_nothing() -> None:
    blocks = list(Simulator().blocks(3600, between("2009-12-30", "2010-01-02T03:00:00Z")))
    assert [block.span for block in blocks] == [
        between("2009-12-30", "2010-01-01"),
        between("2010-01-01", "2010-01-02T03:00:00Z"),
    ]
    assert [len(block.candles) for block in blocks] == [0, 27]
    assert list(Simulator().blocks(3600, between("2001-01-01", "2001-01-01"))) == []


@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_candles_are_true(coin: Coin) -> None:
    series = candles(Simulator(coin=coin), 60, between("2020-01-01", "2020-03-01"))
    opened, high, low, close = (series[name] for name in ("open", "high", "low", "close"))
    np.testing.assert_array_equal(opened[1:], close[:-1])
    assert (low <= np.minimum(opened, close)).all()
    assert (high >= np.maximum(opened, close)).all()
    assert low.min() > 0
    for price in (opened, high, low, close):
        np.testing.assert_array_equal(price, np.round(price, 2))
    volume, mean_price = series["volume"], series["quote_volume"] / series["volume"]
    assert volume.min() > 0
    np.testing.assert_array_equal(volume, np.round(volume, 8))
    assert ((low * (1 - 1e-9) <= mean_price) & (mean_price <= high * (1 + 1e-9))).all()
    np.testing.assert_array_equal(series["trades"], np.rint(series["trades"]))
    assert series["trades"].min() >= 1
    assert ((series["taker_buy_volume"] >= 0) & (series["taker_buy_volume"] <= volume)).all()


def test_the_asked_share_of_bars_is_absent() -> None:
    span = between("2020-01-01", "2020-07-01")
    full = candles(Simulator(), 300, span)
    holed = candles(Simulator(no_trade=0.05), 300, span)
    assert 1 - len(holed) / len(full) == pytest.approx(0.05, abs=0.005)
    kept = np.isin(full.open_time, holed.open_time)
    for name in COLUMNS:  # the others are the bars they would have been
        np.testing.assert_array_equal(full[name][kept], holed[name])


def test_outages_last_up_to_twelve_hours_and_fall_at_the_same_times_for_all_intervals() -> None:
    source, span = Simulator(outages_per_year=20), between("2015-01-01", "2021-01-01")
    holes = candles(source, 300, span).holes()
    lengths = holes[:, 1] - holes[:, 0]
    assert len(holes) / 6 == pytest.approx(20, rel=0.25)
    assert lengths.min() >= 1800 - 2 * 300
    assert lengths.max() <= 12 * 3600
    open_time = candles(source, 3600, span).open_time
    every = np.arange(span[0], span[1], 3600)
    absent = every[~np.isin(every, open_time)]
    at = np.searchsorted(holes[:, 0], absent, side="right") - 1
    assert ((holes[at, 0] <= absent) & (absent + 3600 <= holes[at, 1])).all()
    assert len(absent) == (holes[:, 1] // 3600 - -(-holes[:, 0] // 3600)).clip(0).sum()


@pytest.mark.parametrize("seed", range(4))
def test_an_ether_moves_with_the_bitcoin_of_its_seed(seed: int) -> None:
    bitcoin, ether = hours(seed), hours(seed, "ETH")
    assert 0.77 < correlation(returns(bitcoin), returns(ether)) < 0.83
    assert 1.15 < returns(ether).std() / returns(bitcoin).std() < 1.35
    weekly = [np.diff(np.log(series["close"][:: 24 * 7])) for series in (bitcoin, ether)]
    assert 0.65 < correlation(*weekly) < 0.9
    assert abs(correlation(returns(hours(seed + 1)), returns(ether))) < 0.02
    for lag in (1, 2, 24):  # neither runs ahead of the other
        assert abs(correlation(returns(bitcoin)[:-lag], returns(ether)[lag:])) < 0.02
        assert abs(correlation(returns(ether)[:-lag], returns(bitcoin)[lag:])) < 0.02


@pytest.mark.parametrize("interval", [60, 300, DAY])
def test_an_ether_moves_with_bitcoin_in_bars_of_every_length(interval: int) -> None:
    span = between("2020-01-01", "2020-04-01" if interval < DAY else "2026-01-01")
    moves = [returns(candles(Simulator(coin=coin), interval, span)) for coin in get_args(Coin)]
    assert 0.72 < correlation(*moves) < 0.86


def test_an_ether_is_worth_about_an_eighteenth_of_a_bitcoin() -> None:
    ratio = np.array([hours(seed)["close"] / hours(seed, "ETH")["close"] for seed in range(4)])
    assert 16 < np.median(ratio) < 20
    assert 0.8 < ((ratio > 12) & (ratio < 26)).mean() < 0.97


def test_an_ether_has_volumes_and_absent_bars_of_its_own_and_the_outages_of_bitcoin() -> None:
    bitcoin, ether = hours(), hours(coin="ETH")
    assert 8 < np.median(ether["volume"]) / np.median(bitcoin["volume"]) < 20
    assert 0.4 < correlation(np.log(ether["volume"]), np.log(bitcoin["volume"])) < 0.8
    span = between("2020-01-01", "2021-01-01")
    for absent, shared in (({"no_trade": 0.1}, 0.1), ({"outages_per_year": 50}, 1.0)):
        every = np.arange(*span, 3600)
        one, other = (
            ~np.isin(every, candles(Simulator(coin=coin, **absent), 3600, span).open_time)
            for coin in get_args(Coin)
        )
        assert one.any()
        assert (one & other).sum() / one.sum() == pytest.approx(shared, abs=0.04)


@pytest.mark.parametrize("seed", range(4))
def test_returns_are_as_volatile_and_as_heavy_tailed_as_bitcoin_s(seed: int) -> None:
    r = returns(hours(seed))
    assert 0.4 < r.std() * math.sqrt(24 * 365.25) < 1.0
    assert 3 < np.mean((r - r.mean()) ** 4) / r.var() ** 2 - 3 < 40


def test_volatility_clusters_and_returns_do_not() -> None:
    r = returns(hours())
    for lag in (1, 2, 6, 24, 24 * 7, 24 * 30):
        assert correlation(np.abs(r[:-lag]), np.abs(r[lag:])) > 0.05, lag
        assert abs(correlation(r[:-lag], r[lag:])) < 0.02, lag


def test_volume_follows_volatility() -> None:
    series = hours()
    size = np.abs(np.log(series["close"] / series["open"]))
    assert correlation(np.log(series["volume"]), size) > 0.4
    assert correlation(np.log(series["volume"]), np.log(series["high"] / series["low"])) > 0.5


def test_afternoons_are_busy_and_weekends_are_quiet() -> None:
    series = hours()
    hour, weekday = series.open_time // 3600 % 24, (series.open_time // DAY + 3) % 7
    for measure in (series["high"] / series["low"] - 1, series["volume"]):
        afternoon, night = (hour >= 13) & (hour < 17), (hour >= 1) & (hour < 5)
        assert 1.4 < measure[afternoon].mean() / measure[night].mean() < 3
        assert 0.5 < measure[weekday >= 5].mean() / measure[weekday < 5].mean() < 0.85


def test_ranges_and_returns_tell_the_same_variance() -> None:
    series = hours()
    parkinson = np.mean(np.log(series["high"] / series["low"]) ** 2) / (4 * math.log(2))
    assert parkinson == pytest.approx(returns(series).var(), rel=0.25)


@pytest.mark.parametrize(
    ("changed", "argument"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"no_trade": -0.1}, "no_trade"),
        ({"no_trade": 1.0}, "no_trade"),
        ({"no_trade": math.nan}, "no_trade"),
        ({"outages_per_year": -1.0}, "outages_per_year"),
        ({"outages_per_year": 366.0}, "outages_per_year"),
    ],
)
def test_a_bad_parameter_is_named_with_its_range(changed: dict[str, float], argument: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{argument} .*<= {argument}"):
        Simulator(**changed)  # type: ignore[arg-type]


def test_a_coin_that_is_not_simulated_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="coin 'DOGE': give BTC or ETH"):
        Simulator(coin="DOGE")  # type: ignore[arg-type]


def test_what_was_said_of_a_bitcoin_before_there_were_ethers_is_said_still() -> None:
    assert describe(Simulator()) == "Simulator(seed=0, no_trade=0, outages_per_year=0)"
    assert describe(ETHER) == "Simulator(seed=3, no_trade=0.1, outages_per_year=60, coin='ETH')"


def test_an_interval_that_does_not_divide_a_day_is_refused() -> None:
    with pytest.raises(SourceError, match=r"no bars of 7m: .* divides a day evenly"):
        Simulator().check_interval(7 * 60)
    with pytest.raises(SourceError, match="no bars of 2d"):
        Simulator().check_interval(2 * DAY)
    for interval in (1, 60, 240, 3600, 28800, DAY):
        Simulator().check_interval(interval)


def test_the_folder_tells_series_with_different_parameters_apart() -> None:
    assert Simulator().series == "BTC-SIM-0"
    assert Simulator(seed=7, no_trade=0.01).series == "BTC-SIM-7-nt0.01"
    assert Simulator(outages_per_year=12).series == "BTC-SIM-0-out12"
    assert Simulator(outages_per_year=12.0).series == "BTC-SIM-0-out12"
    assert Simulator(seed=7, coin="ETH", no_trade=0.01).series == "ETH-SIM-7-nt0.01"
    assert Simulator(no_trade=1e-7, outages_per_year=0.5).series == "BTC-SIM-0-nt1e-07-out0.5"
