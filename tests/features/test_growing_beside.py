"""Feature files with covariates grow as long as nothing changes that was known before."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from btc_datamodule import BTCDataModule, Candles, Feature, Resampled
from btc_datamodule.testing.series import random_walk
from tests.factories import HOUR, changed, make_datamodule
from tests.features.replay import is_grown, list_all, shrink
from tests.test_covariates import write

HOURS = 140
BTC = random_walk("2020-01-01", HOURS, HOUR)
ETH = random_walk("2020-01-01", HOURS, HOUR, seed=1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


def lean(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return bars["close"].rolling_mean(3) / eth["close"]


def absent(candles: Candles, *rows: int) -> Candles:
    kept = np.delete(np.arange(len(candles)), [row for row in rows if row < len(candles)])
    columns = {name: values[kept] for name, values in candles.columns.items()}
    return Candles(candles.interval, columns)


def cut(candles: Candles, bars: int) -> Candles:
    start = int(candles.open_time[0])
    return absent(candles.slice(start, start + bars * HOUR), 40, 41, 90)


def prepare(folder: Path, bars: int, others: int, eth: Candles = ETH) -> BTCDataModule:
    """A datamodule of the first bars, and of as many of another series."""
    return make_datamodule(
        folder,
        source=write(folder, "btc.csv", cut(BTC, bars)),
        covariates={"eth": write(folder, "eth.csv", cut(eth, others)), "long": Resampled("4h")},
        features=[
            *("log_return", "eth.log_return", "long.log_range"),
            "gap = (eth.close / close).log()",
            Feature("lean", 3, lean, beside=("eth",)),
        ],
        lookback=4,
        horizon=1,
    )


def assert_as_built(folder: Path, dm: BTCDataModule, bars: int, others: int, eth: Candles) -> None:
    """Have the feature file built anew: it is the same."""
    digest, arrays, path = dm.table.digest, list_all(dm.table), dm.table.path
    for each in path.parent.glob("features-*"):
        each.unlink()
    built = prepare(folder, bars, others, eth).table
    assert not is_grown(built)
    assert (built.digest, built.path) == (digest, path)
    assert "reach" in arrays
    for name, values in list_all(built).items():
        assert values.tobytes() == arrays[name].tobytes(), name


@pytest.mark.parametrize("bars", [(100, 101), (89, 133), (96, 98)])
def test_with_covariates_it_grows_to_what_is_built(tmp_path: Path, bars: tuple[int, int]) -> None:
    before, now = bars
    prepare(tmp_path, before, before)
    dm = prepare(tmp_path, now, now)
    assert is_grown(dm.table)
    assert_as_built(tmp_path, dm, now, now, ETH)


def test_bars_of_a_covariate_that_come_too_late_have_all_built_anew(tmp_path: Path) -> None:
    prepare(tmp_path, 100, 98)
    dm = prepare(tmp_path, 101, 101)
    assert not is_grown(dm.table), "rows that are there would know bars that came later"
    assert_as_built(tmp_path, dm, 101, 101, ETH)


def test_a_covariate_that_ends_early_or_late_and_stays_does_no_harm(tmp_path: Path) -> None:
    for there in (97, 103):
        prepare(tmp_path, 100, there)
        dm = prepare(tmp_path, 101, there)
        assert is_grown(dm.table)
        assert_as_built(tmp_path, dm, 101, there, ETH)


def test_a_covariate_that_was_revised_has_all_built_anew(tmp_path: Path) -> None:
    prepare(tmp_path, 100, 100)
    volume = ETH["volume"].copy()
    volume[20] += 1
    revised = changed(ETH, volume=volume)
    dm = prepare(tmp_path, 101, 101, revised)
    assert not is_grown(dm.table)
    assert_as_built(tmp_path, dm, 101, 101, revised)
