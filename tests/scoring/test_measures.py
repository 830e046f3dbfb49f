"""Measures held against scikit-learn, scipy, closed forms and plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from btc_datamodule.scoring.measures import (
    Confusion,
    compute_crps,
    compute_mae,
    compute_mase,
    compute_pinball,
    compute_qlike,
    compute_r2,
    compute_rmse,
    compute_wilson,
)


@pytest.fixture
def pair() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth = np.random.default_rng(0).normal(size=500)
    return truth, 0.3 * truth + np.random.default_rng(1).normal(size=500)


def test_errors_are_those_of_scikit_learn(
    pair: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="extra crosscheck")
    truth, forecast = pair
    assert compute_mae(*pair) == pytest.approx(metrics.mean_absolute_error(*pair))
    assert compute_rmse(*pair) == pytest.approx(metrics.root_mean_squared_error(*pair))
    # That of scikit-learn is against the mean of what came: ours with that mean for train's.
    assert compute_r2(*pair, float(truth.mean())) == pytest.approx(metrics.r2_score(*pair))
    levels = np.array([0.1, 0.5, 0.8])
    quantiles = forecast[:, np.newaxis] + np.array([-1.0, 0.0, 0.5])
    theirs = [
        metrics.mean_pinball_loss(truth, quantiles[:, i], alpha=level)
        for i, level in enumerate(levels)
    ]
    assert compute_pinball(truth, quantiles, levels).mean() == pytest.approx(np.mean(theirs))


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classes_are_counted_as_scikit_learn_does(classes: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="extra crosscheck")
    rng = np.random.default_rng(classes)
    truth = rng.integers(0, classes, 400)
    forecast = np.where(rng.random(400) < 0.4, truth, rng.integers(0, classes, 400))
    ours = Confusion(truth, forecast, classes)
    np.testing.assert_array_equal(ours.counts, metrics.confusion_matrix(truth, forecast))
    balanced = metrics.balanced_accuracy_score(truth, forecast)
    assert ours.compute_balanced_accuracy() == pytest.approx(balanced)
    assert ours.compute_mcc() == pytest.approx(metrics.matthews_corrcoef(truth, forecast))


def test_who_always_says_the_same_has_no_correlation() -> None:
    truth = np.array([0, 0, 1, 0])
    constant = Confusion(truth, np.zeros(4, dtype=np.int64), 2)
    assert constant.compute_mcc() == 0
    assert constant.compute_balanced_accuracy() == 0.5
    one = Confusion(np.ones(4, dtype=np.int64), np.ones(4, dtype=np.int64), 2)
    assert (one.compute_mcc(), one.compute_balanced_accuracy()) == (0, 1)


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_of_a_share_is_that_of_scipy(trials: int, share: float, level: float) -> None:
    successes = round(share * trials)
    theirs = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    ours = compute_wilson(successes, trials, level)
    assert ours.value == successes / trials
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_score_of_draws_is_that_of_all_pairs_and_of_a_normal_distribution() -> None:
    rng = np.random.default_rng(0)
    truth, draws = rng.normal(size=20), rng.normal(size=(20, 7))
    pairs = np.abs(draws[:, :, np.newaxis] - draws[:, np.newaxis, :]).mean(axis=(1, 2))
    by_hand = np.abs(draws - truth[:, np.newaxis]).mean(axis=1) - pairs / 2
    np.testing.assert_allclose(compute_crps(truth, draws), by_hand)
    nested = compute_crps(truth.reshape(4, 5), draws.reshape(4, 5, 7))
    np.testing.assert_allclose(nested.reshape(-1), by_hand)
    # Gneiting & Raftery (2007), equation 22: that of N(0, 1).
    many = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)[np.newaxis]
    for y in (-1.5, 0.0, 0.7):
        closed = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
        assert compute_crps(np.array([y]), many)[0] == pytest.approx(closed, abs=1e-4)
    assert not compute_crps(truth, truth[:, np.newaxis]).any()


def test_the_loss_of_a_volatility_is_least_at_the_truth_and_of_no_unit() -> None:
    truth = np.array([0.01, 0.02, 0.04])
    assert compute_qlike(truth, truth) == 0
    # By hand: h/f is 4, and 1/4.
    assert compute_qlike(truth, truth / 2) == pytest.approx(4 - np.log(4) - 1)
    assert compute_qlike(truth, truth * 2) == pytest.approx(0.25 + np.log(4) - 1)
    assert compute_qlike(truth, truth * 1.1) == pytest.approx(compute_qlike(50 * truth, 55 * truth))


def test_errors_over_those_of_no_change() -> None:
    truth, forecast = np.array([1.0, 3.0]), np.array([2.0, 3.0])
    assert compute_mase(truth, forecast, 0.25) == 2
    assert np.isnan(compute_mase(truth, forecast, 0.0))
    assert compute_r2(truth, np.full(2, 2.5), 2.5) == 0
    assert compute_r2(truth, truth, np.array([0.0, 1.0])) == 1
    assert np.isnan(compute_r2(np.ones(3), np.ones(3), 1.0))
