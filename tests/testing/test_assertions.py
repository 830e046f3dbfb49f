"""``btc_datamodule.testing`` as a user would write tests with it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import btc_datamodule.testing
from btc_datamodule import (
    FEATURES,
    Block,
    BTCDataModule,
    Candles,
    Coinbase,
    ConfigError,
    Feature,
    Simulator,
    Source,
    Target,
    read_candles,
)
from btc_datamodule.candles.timeline import Span
from btc_datamodule.testing import assert_causal, assert_no_leakage, candles, fake_exchange
from btc_datamodule.testing.assertions import simulate_candles
from btc_datamodule.testing.exchange import CUT, TOO_MANY_REQUESTS, Exchange, random_walk

assert fake_exchange  # a fixture is used by its name

HOUR = 3600


# --- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FEATURES)
def test_every_built_in_feature_is_causal(name: str) -> None:
    assert_causal(name)


def test_features_of_my_own_are_causal() -> None:
    assert_causal("drift = close / close.shift(10) - 1")
    assert_causal(Feature("spread", 1, lambda bars: (bars["high"] - bars["low"]) / bars["close"]))
    assert_causal(Feature("mean", 30, pl.col("close").log().diff().rolling_mean(29)))


def test_one_that_looks_ahead_is_named_with_time_and_size() -> None:
    ahead = Feature("ahead", 2, lambda bars: bars["close"].shift(-1) / bars["close"])
    with pytest.raises(
        AssertionError,
        match=r"feature 'ahead' at 2021-\d\d-\d\dT\d\d:00:00Z: .*difference .*it looks ahead",
    ):
        assert_causal(ahead)


def test_one_that_reads_further_back_than_it_says_is_told_so() -> None:
    with pytest.raises(AssertionError, match="reads further back than its lookback of 5: raise it"):
        assert_causal(Feature("back", 5, pl.col("close").pct_change(5)))


@given(row=st.integers(0, 399), ahead=st.integers(1, 8))
@settings(max_examples=25)
def test_a_peek_in_one_row_of_400_is_found(row: int, ahead: int) -> None:
    held = random_walk("2020-01-01", bars=410, interval=HOUR)
    when = int(held.open_time[row])

    def rare(bars: pl.DataFrame) -> pl.Series:
        peek = pl.col("volume").shift(-ahead).fill_null(0)
        own = pl.col("volume")
        return bars.select(pl.when(pl.col("open_time") == when).then(own + peek).otherwise(own))[
            "volume"
        ]

    with pytest.raises(AssertionError, match="it looks ahead"):
        assert_causal(Feature("rare", 3, rare), held)


@given(held=candles(min_bars=30))
@settings(max_examples=25)
def test_causal_features_pass_on_any_candles(held: Candles) -> None:
    assert_causal("log_return", held)
    assert_causal("change = (close - open) / (high - low + close)", held)


def test_a_feature_that_fails_is_no_leak() -> None:
    with pytest.raises(ConfigError, match="feature 'broken' failed"):
        assert_causal(Feature("broken", 1, lambda bars: bars["price"]))


# --- datamodules: targets and sources of one's own ------------------------------------------------


@dataclass(frozen=True)
class LogRange(Target):
    """ln(highest / lowest) of the target bars."""

    columns = ("high", "low")

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        future = bars[:, self.reference_bars :]
        width: NDArray[np.float64] = future[:, :, 0].max(axis=1) / future[:, :, 1].min(axis=1)
        return np.log(width)[:, np.newaxis]


@dataclass(frozen=True)
class Ranked(LogRange):
    """Its rank among those of the batch: not a function of one sample."""

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        return super().__call__(bars).argsort(axis=0).argsort(axis=0).astype(np.float64)


@dataclass(frozen=True)
class Cached(Source):
    inner: Source
    name = "cached"
    series = "simulated"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield from self.inner.blocks(interval, span)


def own(folder: Path, target: Target) -> BTCDataModule:
    return BTCDataModule(
        source=Cached(Simulator(outages_per_year=30)),
        target=target,
        features=["log_return", "drift = close / close.shift(3) - 1"],
        start="2021-01-01",
        end="2021-02-15",
        lookback=12,
        horizon=4,
        batch_size=32,
        data_dir=str(folder),
    )


def test_a_source_and_a_target_of_my_own_do_not_leak(tmp_path: Path) -> None:
    assert_no_leakage(own(tmp_path, LogRange()))


def test_a_target_that_is_no_function_of_one_sample_fails_with_the_report(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="FAIL  targets are made of their own bars"):
        assert_no_leakage(own(tmp_path, Ranked()))


def test_a_feature_that_looks_ahead_fails_with_the_report(tmp_path: Path) -> None:
    dm = BTCDataModule(
        features=[Feature("ahead", 1, lambda bars: bars["close"].shift(-1))],
        end="2010-03-01",
        data_dir=str(tmp_path),
    )
    with pytest.raises(AssertionError, match=r"FAIL  no feature reads a later bar .*'ahead'"):
        assert_no_leakage(dm)


# --- the exchange ---------------------------------------------------------------------------------


def test_a_download_goes_on_after_trouble(
    fake_exchange: Callable[[Candles], Exchange],
    tmp_path: Path,
) -> None:
    held = random_walk("2020-01-01", bars=900, interval=HOUR)
    exchange = fake_exchange(held)
    exchange.faults += [None, TOO_MANY_REQUESTS, CUT]
    source = Coinbase(base_url=exchange.url, requests_per_second=1000, retry_wait=0.01)
    dm = BTCDataModule(
        source=source, start="2020-01-01", end="2020-02-07T12:00", data_dir=str(tmp_path)
    )
    dm.prepare_data()
    assert read_candles(dm.candle_path)["close"].tolist() == held["close"].tolist()
    asked = [request.path for request in exchange.requests]
    assert asked.count("/products/BTC-USD/candles") >= 3 + 2


# --- the strategy ---------------------------------------------------------------------------------


@given(candles(max_bars=50, longest_hole=3))
def test_candles_keep_their_contract_and_the_bounds_given(held: Candles) -> None:
    again = Candles(held.interval, held.columns)  # checks every bar
    rows = (held.open_time - held.open_time[0]) // HOUR
    assert held.interval == HOUR
    assert 0 <= rows[-1] < 50
    assert len(again) == len(np.unique(rows))
    assert held.span[0] == 1_577_836_800


@pytest.mark.parametrize(
    "wanted",
    [
        lambda held: len(held.holes()) > 1,
        lambda held: (held["volume"] == 0).all() and len(held) > 10,
        lambda held: (held["high"] == held["low"]).all() and len(held) > 10,
        lambda held: held["close"].max() > 1e6 * held["close"].min(),
        lambda held: held["close"].max() < 1e-6,
        lambda held: np.isnan(held["trades"]).any() and np.isfinite(held["trades"]).any(),
        lambda held: "trades" not in held.columns,
    ],
    ids=["holes", "no volume", "standing still", "wild", "tiny", "partly unknown", "bare"],
)
def test_candles_come_in_every_kind(wanted: Callable[[Candles], bool]) -> None:
    from hypothesis import find

    find(candles(min_bars=12), lambda held: bool(wanted(held)))


def test_the_simulated_candles_have_every_column_and_both_kinds_of_holes() -> None:
    held = simulate_candles()
    lengths = np.diff(held.holes(), axis=1) // HOUR
    assert (lengths <= 3).any()
    assert (lengths > 3).any()
    assert all(np.isfinite(values).all() for values in held.columns.values())
    assert len(held.columns) == 9


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", btc_datamodule.testing.__all__)
def test_a_public_name_is_known_by_its_public_path(name: str) -> None:
    thing = getattr(btc_datamodule.testing, name)
    assert f"{thing.__module__}.{thing.__name__}" == f"btc_datamodule.testing.{name}"


# --- what is installed ----------------------------------------------------------------------------


def test_without_the_extra_the_assertions_work_and_the_rest_names_it() -> None:
    script = """
import sys
sys.modules.update({"pytest": None, "hypothesis": None})
from btc_datamodule.testing import assert_causal
assert_causal("log_return")
for name in ("candles", "fake_exchange", "SourceContract", "SplitContract", "TargetContract"):
    try:
        exec(f"from btc_datamodule.testing import {name}")
    except ImportError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"btc_datamodule.testing.{name} needs {module}: pip install {module}"
        for name, module in (
            ("candles", "hypothesis"),
            ("fake_exchange", "pytest"),
            ("SourceContract", "pytest"),
            ("SplitContract", "pytest"),
            ("TargetContract", "pytest"),
        )
    ]
