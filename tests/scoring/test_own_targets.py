"""Targets of one's own, names that baselines have, and what is held in odd ways."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.typing import NDArray

from btc_datamodule import BTCDataModule, ConfigError, CumulativeReturn, Target, WalkForward
from btc_datamodule.scoring.beside import RESERVED
from btc_datamodule.scoring.measures import Interval
from btc_datamodule.scoring.samples import list_samples
from btc_datamodule.scoring.significance import LossTest, compare_losses, widen
from tests.scoring.test_score import hold, make, score


@dataclass(frozen=True)
class Price(Target):
    """The close itself at the end of the horizon."""

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.float64]:
        return bars[:, -1]

    def prices(self, y: NDArray[np.floating], close: NDArray[np.float64]) -> NDArray[np.float64]:
        return y.astype(np.float64)


@dataclass(frozen=True)
class Volume(Target):
    """The mean volume of the target bars."""

    columns: ClassVar[tuple[str, ...]] = ("volume",)

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (1,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = bars[:, 1:].mean(axis=1)
        return found


def test_a_price_has_the_direction_and_the_money_of_its_return(tmp_path: Path) -> None:
    prices, returns = (
        make(tmp_path / type(each).__name__, target=each) for each in (Price(), CumulativeReturn())
    )
    cards = [
        dm.score({"model": hold(dm, list_samples(dm.stages, "test").truth)}, cost=0)
        for dm in (prices, returns)
    ]
    of_price, of_return = (card.money for card in cards)
    assert of_price is not None
    assert of_return is not None
    gross = [
        dict(zip(each["forecast"], each["gross"], strict=True)) for each in (of_price, of_return)
    ]
    assert gross[0]["model"] == pytest.approx(gross[1]["model"])
    assert gross[0]["model"] > gross[0]["buy and hold"]
    assert "no change" not in gross[0]
    measures = cards[0].measures.to_dicts()
    assert measures[0]["accuracy"] == 1
    stays = next(row for row in measures if row["forecast"] == "no change")
    assert stays["accuracy"] is None
    assert 0.5 < stays["mase"] < 2


def test_a_volume_has_no_path_of_prices_and_no_sign(tmp_path: Path) -> None:
    dm = make(tmp_path, target=Volume())
    samples = list_samples(dm.stages, "test")
    found = score(dm, samples.truth * 1.1)
    assert [*found.baselines] == ["mean"]
    assert {"accuracy", "mase"}.isdisjoint(found.measure("model"))


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_no_forecast_has_the_name_of_a_baseline(tmp_path: Path, name: str) -> None:
    dm = make(tmp_path)
    truth = list_samples(dm.stages, "test").truth
    with pytest.raises(ConfigError, match=rf"'{name}' is the name of a baseline.*`my_{name}=FILE`"):
        dm.score({name: hold(dm, truth)})


def test_two_forecasts_of_one_name_are_told(tmp_path: Path) -> None:
    dm = make(tmp_path)
    one = hold(dm, list_samples(dm.stages, "test").truth)
    two = {"origin_time": one["origin_time"], "x": one["forecast"], "z": one["forecast"]}
    with pytest.raises(ConfigError, match="'a:x' is the name of another forecast, too"):
        dm.score({"a": two, "a:x": one})


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    split = WalkForward(train="20d", val="4d", test="4d", step="8d")
    return make(tmp_path_factory.mktemp("walk"), split=split, target=CumulativeReturn())


def test_each_sample_is_scaled_by_the_change_in_its_own_fold(walk: BTCDataModule) -> None:
    given, alone, sizes = {}, [], []
    for fold in range(3):
        dm = walk.with_fold(fold)
        dm.setup()
        given[fold] = hold(dm, 0.5 * list_samples(dm.stages, "test").truth)
        card = dm.score({"model": given[fold]})
        alone.append(card.measures["mase"][0])
        sizes.append(card.measures["samples"][0])
    whole = walk.score({"model": given})
    by_fold = whole.by("fold").filter(pl.col("forecast") == "model")
    np.testing.assert_allclose(by_fold["mase"], alone)
    assert whole.measures["mase"][0] == pytest.approx(np.average(alone, weights=sizes))


def test_an_interval_says_no_more_than_the_test() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.exponential(size=50), rng.exponential(size=50)
    ours[7] = 90.0
    test = compare_losses(ours, theirs)
    assert test.p_value > 0.05
    found = widen(Interval(test.difference, 0.01, 0.02), test, 50, 0.95)
    assert found.low < 0 < found.high
    assert widen(Interval(0.0, -9.0, 9.0), test, 50, 0.95)[1:] == (-9.0, 9.0)


def test_losses_that_all_differ_by_the_same_differ_for_sure() -> None:
    ones, none = np.ones(20), np.zeros(20)
    assert compare_losses(ones, none) == LossTest(1.0, np.inf, 0.0, compare_losses(ones, none).lags)
    assert compare_losses(ones, ones).p_value == 1


def test_what_is_held_in_odd_ways_is_read_or_passed_over(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    one = hold(dm, list_samples(dm.stages, "test").truth)
    times, forecast = one["origin_time"], one["forecast"].reshape(-1)
    plain = pl.DataFrame({"origin_time": times, "f": forecast})
    due = dm.score(plain).measures
    odd: dict[str, Any] = {
        "lazy": plain.lazy(),
        "lists": plain.with_columns(attention=pl.Series([[1.0, 2.0, 3.0]] * len(times))),
        "texts": pd.DataFrame({"origin_time": times, "f": forecast, "model": "1"}),
    }
    for name, given in odd.items():
        found = dm.score(given).measures
        assert found.drop("forecast").equals(due.drop("forecast")), name


def test_a_cost_is_any_number_of_basis_points(tmp_path: Path) -> None:
    dm = make(tmp_path)
    one = hold(dm, list_samples(dm.stages, "test").truth)
    costs: list[Any] = [5, np.int64(5), np.float32(5)]
    money = [dm.score({"m": one}, cost=cost).money for cost in costs]
    assert money[0] is not None
    assert all(each is not None and each.equals(money[0]) for each in money)
    odd: list[Any] = [True, 10_000, -1, "5"]
    for cost in odd:
        with pytest.raises(ConfigError, match="basis points of one side, from 0 to below 10,000"):
            dm.score({"m": one}, cost=cost)
