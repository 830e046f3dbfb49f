"""Distributions: held against plain loops, scikit-learn and draws of what is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule import (
    BTCDataModule,
    ConfigError,
    CumulativeReturn,
    Direction,
    LogReturn,
    RealisedVolatility,
)
from btc_datamodule.scoring.beside import forecast_spreads
from btc_datamodule.scoring.measures import Interval, compute_crps, compute_pinball
from btc_datamodule.scoring.samples import list_samples, list_train
from btc_datamodule.scoring.spreads import (
    Manner,
    compute_spread_losses,
    find_median,
    measure_spread,
    read_manner,
)
from tests.scoring.test_score import make, scale

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


def make_normal(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=count)


@pytest.fixture(scope="module")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    folder = tmp_path_factory.mktemp("spreads")
    return make(folder, target=CumulativeReturn(), target_scaling="train")


def test_levels_and_draws_say_which_shapes_there_may_be() -> None:
    assert Manner(LEVELS).list_shapes((1,)) == [(1, 5), (5,)]
    assert Manner(LEVELS).list_shapes((4, 1)) == [(4, 1, 5), (4, 5)]
    assert Manner().list_shapes((1, 1)) == [(1, 1, -1), (1, -1), (-1,)]
    assert Manner().list_shapes((4, 4)) == [(4, 4, -1)]
    assert read_manner(None, False, LogReturn()) is None
    assert read_manner([], False, LogReturn()) is None
    assert read_manner(np.array(LEVELS), False, LogReturn()) == Manner(LEVELS)
    assert read_manner(None, True, LogReturn()) == Manner()


@pytest.mark.parametrize("quantiles", [[0.9, 0.1], [0.5, 0.5], [0.6, 0.9], [0, 0.5], "low", [None]])
def test_what_levels_cannot_be_is_told(quantiles: Any) -> None:
    with pytest.raises(ConfigError, match=r"quantiles is .*: give the levels in the order"):
        read_manner(quantiles, False, LogReturn())


def test_names_have_no_quantiles_and_one_forecast_is_not_both() -> None:
    with pytest.raises(ConfigError, match="`draws` are of numbers, and Direction"):
        read_manner(None, True, Direction())
    with pytest.raises(ConfigError, match="give one of them"):
        read_manner(LEVELS, True, LogReturn())


def test_a_median_is_that_of_its_level_or_lies_between_two() -> None:
    values = np.arange(20.0).reshape(4, 5)
    np.testing.assert_array_equal(find_median(values, Manner(LEVELS)), values[:, 2])
    between = find_median(values[:, 1:4:2], Manner((0.4, 0.65)))
    np.testing.assert_allclose(between, values[:, 1] + 0.4 * 2)
    np.testing.assert_array_equal(find_median(values, Manner()), values[:, 2])


def test_losses_are_those_of_each_sample_however_many_are_worked_on_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth, values = make_normal(24).reshape(6, 2, 2), make_normal(120, 1).reshape(6, 2, 2, 5)
    levels = np.array(LEVELS)
    whole = {manner: compute_spread_losses(truth, values, manner) for manner in
             (Manner(LEVELS), Manner())}  # fmt: skip
    by_hand = compute_pinball(truth, values, levels).mean(axis=(1, 2))
    np.testing.assert_allclose(whole[Manner(LEVELS)], by_hand)
    np.testing.assert_allclose(whole[Manner()], compute_crps(truth, values).mean(axis=(1, 2)))
    monkeypatch.setattr("btc_datamodule.scoring.spreads.AT_ONCE", 41)
    for manner, losses in whole.items():
        np.testing.assert_array_equal(compute_spread_losses(truth, values, manner), losses)


def test_quantiles_of_what_is_known_hold_as_often_as_they_should() -> None:
    from scipy.stats import norm

    truth = make_normal(20_000)
    said = np.broadcast_to(norm.ppf(LEVELS), (20_000, 5))
    found = measure_spread(truth, said, Manner(LEVELS), 1, 0.99)
    assert [*found] == ["pinball", "within 80 %", "within 50 %"]
    for share in (80, 50):
        interval = found[f"within {share} %"]
        assert isinstance(interval, Interval)
        assert interval.low < share / 100 < interval.high
        assert interval.value == pytest.approx(share / 100, abs=0.01)


@pytest.mark.parametrize("count", [19, 39])
def test_draws_hold_what_is_one_draw_more_as_often_as_they_should(count: int) -> None:
    rng = np.random.default_rng(2)
    found = measure_spread(
        rng.standard_cauchy(20_000), rng.standard_cauchy((20_000, count)), Manner(), 1, 0.95
    )
    # Where all levels are whole shares of one draw more; in between they are a little wider.
    shares = [50, 80, 90] if count == 19 else [50, 80, 90, 95]
    assert [*found] == ["crps", *(f"within {share} %" for share in shares)]
    for share in shares:
        interval = found[f"within {share} %"]
        assert isinstance(interval, Interval)
        assert interval.value == pytest.approx(share / 100, abs=0.012)


def test_baselines_are_quantiles_of_train_and_those_over_the_volatility_before(
    dm: BTCDataModule,
) -> None:
    samples, train = list_samples(dm.stages, "test"), list_train(dm.stages)
    found = forecast_spreads(samples, train, Manner(LEVELS))
    assert {name: each.shape for name, each in found.items()} == {
        "train": (len(samples), 1, 5),
        "ewma": (len(samples), 1, 5),
    }
    for at, level in enumerate(LEVELS):
        assert (found["train"][:, 0, at] == np.quantile(train.truth, level)).all()
    # The same quantiles, but for a factor of each sample.
    factors = found["ewma"][:, 0] / found["ewma"][:1, 0]
    np.testing.assert_allclose(factors, factors[:, :1] * np.ones((1, 5)), rtol=1e-9)
    assert np.ptp(factors[:, 0]) > 0.05
    draws = forecast_spreads(samples, train, Manner())["train"]
    assert draws.shape == (len(samples), 1, 99)
    assert draws[0, 0, 49] == np.median(train.truth)


@pytest.mark.parametrize("target", [LogReturn(), RealisedVolatility()], ids=repr)
@pytest.mark.parametrize("draws", [True, False])
def test_a_baseline_of_distributions_is_no_better_than_itself(
    tmp_path: Path, target: Any, draws: bool
) -> None:
    dm = make(tmp_path, target=target, target_scaling="robust")
    samples, train = list_samples(dm.stages, "test"), list_train(dm.stages)
    manner = Manner() if draws else Manner(LEVELS)
    said = forecast_spreads(samples, train, manner)["ewma"]
    scaled = np.stack([scale(dm, each) for each in np.moveaxis(said, -1, 0)], axis=-1)
    given = {"origin_time": samples.origin_time, "forecast": scaled}
    card = dm.score({"m": given}, draws=draws, quantiles=None if draws else LEVELS)
    frame = card.distributions
    assert frame is not None
    assert frame["forecast"].to_list() == ["m", "train", "ewma"]
    assert frame[manner.loss][0] == pytest.approx(frame[manner.loss][2])
    assert "m is better than 'ewma', the best baseline: its mean C" not in str(card)
    median = {"origin_time": samples.origin_time, "forecast": find_median(scaled, manner)}
    assert card.measures["mae"][0] == pytest.approx(dm.score(median).measures["mae"][0])


def test_quantiles_that_cross_are_counted(dm: BTCDataModule) -> None:
    samples = list_samples(dm.stages, "test")
    said = np.repeat([[0.0, 1.0, 2.0]], len(samples), axis=0)
    said[:7] = [0.0, 2.0, 1.0]
    given = {"origin_time": samples.origin_time, "forecast": said}
    score = dm.score({"m": given}, quantiles=[0.1, 0.5, 0.9]).score
    assert score.notes == ("m: quantiles of 7 samples cross each other",)
