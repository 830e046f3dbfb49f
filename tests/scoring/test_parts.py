"""The samples of a fold: what counts, what is told, and that no baseline sees the future."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule import (
    BTCDataModule,
    Candles,
    ConfigError,
    CumulativeReturn,
    DateSplit,
    Direction,
    LogReturn,
    RealisedVolatility,
    TripleBarrier,
)
from btc_datamodule.scoring.beside import forecast_baselines, forecast_spreads
from btc_datamodule.scoring.kinds import find_kind
from btc_datamodule.scoring.samples import list_samples, list_train
from btc_datamodule.scoring.spreads import Manner
from tests.factories import HOUR, T0, InMemory, changed, hourly, make_datamodule, random_hourly
from tests.scoring.test_score import hold, make

BARS, VAL, TEST, SEEN = 1_000, 500, 600, 800
LAW = [LogReturn(), CumulativeReturn(), Direction(classes=True), RealisedVolatility(),
       TripleBarrier()]  # fmt: skip


def serve(folder: Path, candles: Candles, **arguments: Any) -> BTCDataModule:
    settings: dict[str, Any] = {
        "source": InMemory(candles),
        "features": ["log_return"],
        "horizon": 4,
        "split": DateSplit(T0 + HOUR * VAL, T0 + HOUR * TEST),
    }
    return make_datamodule(folder, **settings | arguments)


def say_all(dm: BTCDataModule) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """What every baseline says of test."""
    samples, train = list_samples(dm.stages, "test"), list_train(dm.stages)
    said = forecast_baselines(samples, train)
    if find_kind(dm.target) != "classes":
        spread = forecast_spreads(samples, train, Manner((0.1, 0.5, 0.9)))
        said |= {f"spread {name}": each for name, each in spread.items()}
    return samples.origin_time, said


@pytest.mark.parametrize("target", LAW, ids=repr)
def test_no_baseline_sees_past_the_origin_or_learns_of_what_is_not_train(
    tmp_path: Path, target: Any
) -> None:
    present = np.random.default_rng(0).random(BARS) > 0.02
    before = random_hourly(present.tolist(), seed=1)
    later = before.open_time >= T0 + HOUR * SEEN
    wild = {
        name: np.where(later, 1.3 * before[name], before[name])
        for name in ("open", "high", "low", "close")
    }
    wild["close"][later] = wild["low"][later]
    times, said = say_all(serve(tmp_path / "a", before, target=target, gap=1))
    others, found = say_all(serve(tmp_path / "b", changed(before, **wild), target=target, gap=1))
    # Of origins that close before anything has changed.
    count = int((times < T0 + HOUR * SEEN).sum())
    assert count > 150
    assert (times[:count] == others[:count]).all()
    for name, each in said.items():
        np.testing.assert_array_equal(each[:count], found[name][:count], err_msg=name)
    # What lies in val and test alone, before the origins too, changes no statistic of train.
    for name in {"mean", "spread train"} & {*said}:
        np.testing.assert_array_equal(said[name], found[name], err_msg=name)
    if find_kind(target) == "value":
        np.testing.assert_allclose(said["seasonal"], found["seasonal"], atol=1e-14)


def test_of_a_long_history_every_so_many_th_train_sample_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm = make(tmp_path, target=LogReturn())
    whole = list_train(dm.stages)
    assert len(whole) == len(list_samples(dm.stages, "train"))
    monkeypatch.setattr("btc_datamodule.scoring.samples.LEAST_TRAIN", 100)
    monkeypatch.setattr("btc_datamodule.scoring.samples.TRAIN_NUMBERS", 4 * 300)
    part = list_train(dm.stages)
    assert len(part) == 300
    assert np.isin(part.rows, whole.rows).all()
    assert set(np.diff(part.rows).tolist()) <= {3, 4}
    np.testing.assert_array_equal(part.truth, whole.truth[np.isin(whole.rows, part.rows)])


def test_a_path_is_the_same_however_many_are_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm = make(tmp_path, target=LogReturn(), gap=2)
    samples, train = list_samples(dm.stages, "test"), list_train(dm.stages)
    whole = forecast_baselines(samples, train)
    monkeypatch.setattr("btc_datamodule.scoring.beside.PATH_NUMBERS", 100)
    for name, each in forecast_baselines(samples, train).items():
        np.testing.assert_array_equal(each, whole[name])


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (0.7, "m names the class 0.7: give whole numbers from 0 to 1"),
        (2.0, r"m names the class 2: .* or \(n, 2\) scores of all classes"),
        (-100.0, "m names the class -100"),
    ],
)
def test_a_class_that_there_is_not_is_told(tmp_path: Path, values: float, problem: str) -> None:
    dm = make(tmp_path, target=Direction(classes=True))
    truth = list_samples(dm.stages, "test").truth
    with pytest.raises(ConfigError, match=problem):
        dm.score({"m": hold(dm, np.full(truth.shape, values))})


def test_classes_may_have_an_axis_of_one_or_scores(tmp_path: Path) -> None:
    dm = make(tmp_path, target=Direction(classes=True))
    samples = list_samples(dm.stages, "test")
    scores = np.stack([1 - samples.truth, samples.truth], axis=1)
    for said in (samples.truth, samples.truth[:, np.newaxis], scores):
        card = dm.score({"m": {"origin_time": samples.origin_time, "f": said}})
        assert card.measures["accuracy"][0] == 1


def test_a_volatility_of_nothing_is_left_out_and_one_below_it_told(tmp_path: Path) -> None:
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, BARS)))
    closes[700:720] = closes[700]
    dm = serve(tmp_path, hourly(closes.tolist()), target=RealisedVolatility())
    truth = list_samples(dm.stages, "test").truth
    said = truth.mean() * np.ones_like(truth)
    said[:3] = -0.1
    score = dm.score({"m": hold(dm, said)}).score
    assert (truth == 0).sum() == 16
    assert len(score.truth) == len(truth) - 16
    assert np.isfinite(score.losses["m"]).all()
    assert score.notes == (
        "samples of fold 0 left out, as nothing moved in them and QLIKE can tell nothing of a "
        "volatility of 0: 16",
        "m: 3 forecasts of a volatility are 0 or less, which QLIKE takes for 1e-12",
    )


def test_a_price_that_stands_still_is_scored_too(tmp_path: Path) -> None:
    closes = np.full(BARS, 100.0)
    dm = serve(tmp_path, hourly(closes.tolist()), target=CumulativeReturn(), scaling="none")
    truth = list_samples(dm.stages, "test").truth
    card = dm.score({"m": hold(dm, np.full_like(truth, 0.01))})
    told = card.measures.to_dicts()[0]
    assert told["mae"] == pytest.approx(0.01)
    assert np.isnan(told["mase"])
    assert "m is worse than 'mean', the best baseline" in str(card)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda each: each["forecast"].fill(np.nan), "none is a number that can be scored: "),
        (lambda each: each.update(origin_time=each["origin_time"] * 1000), "looks like millisec"),
        (
            lambda each: each.update(origin_time=each["origin_time"] - 86_400 * 30),
            "of origins from .* has a target that is known in test of fold 0",
        ),
        (
            lambda each: each.update({name: values[:0] for name, values in each.items()}),
            "there are no forecasts of fold 0 by m",
        ),
    ],
)
def test_what_leaves_nothing_to_score_is_told(tmp_path: Path, change: Any, problem: str) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    given = hold(dm, list_samples(dm.stages, "test").truth)
    change(given)
    with pytest.raises(ConfigError, match=problem):
        dm.score({"m": given})


@pytest.mark.parametrize("count", [1, 2, 12])
def test_few_samples_are_measured_as_far_as_that_goes(tmp_path: Path, count: int) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    given = hold(dm, list_samples(dm.stages, "test").truth)
    card = dm.score({"m": {name: each[:count] for name, each in given.items()}})
    assert card.measures["mae"][0] == pytest.approx(0, abs=1e-12)
    assert "m: nothing is tested, as fewer than 10 samples do not overlap" in str(card)
    assert (card.money is None) == (count < 12)


def test_columns_beside_a_forecast_are_told(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    given = hold(dm, list_samples(dm.stages, "test").truth)
    other = {f"part_{number}": given["forecast"][:, 0] for number in range(3)}
    score = dm.score(
        {"m": {"origin_time": given["origin_time"], **other, "who": ["a"] * 213}}
    ).score
    assert [*score.forecasts] == ["m:part_0", "m:part_1", "m:part_2"]
    assert score.notes == (
        "m has several forecasts, and each is scored: part_0, part_1, part_2 (if they are "
        "quantiles or draws of one, say `quantiles` or `draws`)",
        "m has columns that are no forecast: who",
    )
