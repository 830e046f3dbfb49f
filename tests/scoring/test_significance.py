"""Tests of difference and intervals, held against plain loops, scipy and what is known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from btc_datamodule.scoring.measures import compute_wilson
from btc_datamodule.scoring.significance import (
    bootstrap_mean,
    choose_block,
    choose_lags,
    compare_losses,
    compute_autocovariances,
    compute_long_run_variance,
    compute_overlapping_variance,
    compute_share,
)


def make_series(count: int, phi: float, seed: int, mean: float = 0.0) -> NDArray[np.float64]:
    """An autoregression of one lag, around its mean."""
    noise = np.random.default_rng(seed).normal(size=count + 100)
    values = np.zeros(count + 100)
    for at in range(1, len(values)):
        values[at] = phi * values[at - 1] + noise[at]
    return values[100:] + mean


@pytest.mark.parametrize("lags", [0, 1, 7])
def test_the_long_run_variance_is_the_sum_of_weighed_covariances(lags: int) -> None:
    values = make_series(60, 0.5, 0)
    around, total = values - values.mean(), 0.0
    for first in range(60):
        for second in range(60):
            apart = abs(first - second)
            if apart <= lags:
                total += (1 - apart / (lags + 1)) * around[first] * around[second]
    assert compute_long_run_variance(values, lags) == pytest.approx(total / 60)


def test_of_long_series_it_is_that_of_the_process() -> None:
    values = make_series(200_000, 0.5, 1)
    assert compute_long_run_variance(values, 100) == pytest.approx(1 / (1 - 0.5) ** 2, rel=0.05)


def test_without_dependence_the_test_is_students_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.exponential(size=(2, 90))
    found = compare_losses(first, second)
    assert found.lags == choose_lags(90, 1) == 3
    # With no lags at all it is the paired t test but for how the variance is divided.
    few = np.sqrt((90 - 1) / 90)
    plain = stats.ttest_rel(first, second)
    spread = np.sqrt(compute_long_run_variance(first - second, 3) / np.var(first - second))
    by_hand = plain.statistic * few * spread**-1 * np.sqrt(90 / 89)
    assert found.statistic == pytest.approx(by_hand)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(by_hand), 89))
    assert found.difference == pytest.approx(first.mean() - second.mean())


def test_the_order_of_two_changes_the_sign_alone() -> None:
    first, second = make_series(300, 0.3, 2) ** 2, make_series(300, 0.3, 3) ** 2
    one, other = compare_losses(first, second, 5), compare_losses(second, first, 5)
    assert one.statistic == -other.statistic
    assert (one.p_value, one.lags) == (other.p_value, other.lags)


def test_equal_losses_are_no_difference() -> None:
    losses = np.arange(10.0)
    found = compare_losses(losses, losses)
    assert (found.difference, found.p_value) == (0, 1)
    assert np.isnan(found.statistic)


def test_targets_that_overlap_count_for_less() -> None:
    steps = np.random.default_rng(5).normal(0.05, 1, 2_400)
    overlapping = np.convolve(steps, np.ones(24), "valid")
    nothing = np.zeros_like(overlapping)
    naive = compare_losses(overlapping, nothing, 1)
    assert abs(compare_losses(overlapping, nothing, 24).statistic) < abs(naive.statistic) / 1.3


def test_blocks_grow_with_dependence() -> None:
    lengths = [np.mean([choose_block(make_series(2_000, phi, i)) for i in range(8)]) for phi in
               (0.0, 0.5, 0.9)]  # fmt: skip
    assert lengths[0] < 4 < lengths[1] < lengths[2]
    # The value that Politis & White give for this process, of which choose_block is an estimate.
    phi, count = 0.5, 2_000
    slope, level = 2 * phi / ((1 - phi) ** 2 * (1 - phi**2)), 1 / (1 - phi) ** 2
    known = (2 * (slope * (1 - phi**2) / (1 - phi**2)) ** 2 / (2 * level**2) * count) ** (1 / 3)
    assert lengths[1] == pytest.approx(known, rel=0.35)


def test_blocks_of_what_does_not_vary_or_is_short_are_single() -> None:
    assert choose_block(np.ones(50)) == 1
    assert choose_block(np.array([1.0, 2.0])) == 1


def test_an_interval_is_the_same_for_one_seed_however_much_is_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = make_series(400, 0.5, 7)
    found = bootstrap_mean(values, seed=3)
    assert found == bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)
    assert found.low < found.value == values.mean() < found.high


def test_without_dependence_an_interval_is_as_wide_as_that_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(size=2_000)
    found = bootstrap_mean(values)
    half = stats.sem(values) * stats.norm.ppf(0.975)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.12)


def make_overlapping(count: int, overlap: int, seed: int) -> NDArray[np.float64]:
    """Sums of ``overlap`` independent steps, of which the next one shares all but one."""
    steps = np.random.default_rng(seed).normal(size=count + overlap - 1)
    return np.convolve(steps, np.ones(overlap), "valid")


@pytest.mark.parametrize("lags", [1, 5, 50])
def test_covariances_are_those_of_plain_sums(lags: int) -> None:
    values = make_series(70, 0.5, 0)
    around = values - values.mean()
    by_hand = [around[lag:] @ around[: 70 - lag] / 70 for lag in range(lags + 1)]
    np.testing.assert_allclose(compute_autocovariances(values, lags), by_hand, atol=1e-13)


def test_sums_that_overlap_have_the_variance_of_the_process() -> None:
    # Of h steps each: the mean of many has h^2 times the variance of a mean of steps.
    values = make_overlapping(200_000, 24, 0)
    assert compute_overlapping_variance(values, 24) == pytest.approx(24**2, rel=0.08)
    assert compute_long_run_variance(values, 23) == pytest.approx(2 / 3 * 24**2, rel=0.08)
    steps = make_series(500, 0.3, 1)
    lags = choose_lags(500, 1)
    assert compute_overlapping_variance(steps, 1) == compute_long_run_variance(steps, lags)


def test_a_share_of_independent_trials_has_the_interval_of_wilson_or_a_wider_one() -> None:
    for seed in range(8):
        hits = (np.random.default_rng(seed).random(400) < 0.3).astype(np.float64)
        found, plain = compute_share(hits, np.ones(400)), compute_wilson(hits.sum(), 400)
        assert found.value == pytest.approx(plain.value)
        assert found.low <= plain.low + 1e-12
        assert found.high >= plain.high - 1e-12
        assert found.high - found.low < 1.3 * (plain.high - plain.low)


def test_trials_that_say_the_same_count_once() -> None:
    hits = (np.random.default_rng(0).random(300) < 0.5).astype(np.float64)
    single = compute_share(hits, np.ones(300))
    five = compute_share(5 * hits, 5 * np.ones(300))
    assert tuple(five) == pytest.approx(tuple(single), rel=0.02)
    again = compute_share(np.repeat(hits, 5), np.ones(1500), 5)
    assert again.high - again.low == pytest.approx(single.high - single.low, rel=0.25)
    all_right = compute_share(np.ones(120), np.ones(120), 12)
    assert tuple(all_right) == pytest.approx(tuple(compute_wilson(10, 10)))


def test_an_interval_of_millions_is_that_of_a_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btc_datamodule.scoring.significance.MOST_DRAWN", 300)
    values = np.random.default_rng(1).normal(size=10_000)
    found = bootstrap_mean(values)
    half = stats.sem(values) * stats.norm.ppf(0.975)
    assert found.value == values.mean()
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)


def count_held(runs: int, count: int, overlap: int) -> tuple[float, float, float]:
    """How often intervals of a mean and a share hold 0 and a half; how often 0 is refused."""
    held = shares = refused = 0
    for seed in range(runs):
        values = make_overlapping(count, overlap, seed)
        interval = bootstrap_mean(values, overlap, draws=300, seed=seed)
        held += interval.low <= 0 <= interval.high
        share = compute_share((values > 0).astype(np.float64), np.ones(count), overlap)
        shares += share.low <= 0.5 <= share.high
        refused += compare_losses(values, np.zeros(count), overlap).p_value < 0.05
    return held / runs, shares / runs, refused / runs


def test_of_targets_that_overlap_intervals_hold() -> None:
    held, shares, refused = count_held(60, 400, 6)
    assert held > 0.87
    assert shares > 0.87
    assert refused < 0.13


def test_an_interval_for_independent_samples_does_not_hold() -> None:
    held = 0
    for seed in range(100):
        right = int((make_overlapping(500, 24, seed) > 0).sum())
        plain = compute_wilson(right, 500)
        held += plain.low <= 0.5 <= plain.high
    assert 0.25 < held / 100 < 0.5


@pytest.mark.stress
@pytest.mark.parametrize(("count", "overlap"), [(500, 1), (500, 4), (2_000, 24)])
def test_of_targets_that_overlap_intervals_hold_as_often_as_they_say(
    count: int, overlap: int
) -> None:
    """Of 1,000 series; chance alone moves these shares by 1.4 points."""
    held, shares, refused = count_held(1_000, count, overlap)
    assert held > 0.91
    assert shares > 0.91
    assert refused < 0.09


@pytest.mark.stress
@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6])
def test_intervals_and_tests_hold_as_often_as_they_say(phi: float) -> None:
    """Of 1,000 series; chance alone moves these shares by 1.4 points, dependence by a few more."""
    inside = refused = 0
    for seed in range(1_000):
        values = make_series(500, phi, seed)
        interval = bootstrap_mean(values, draws=500, seed=seed)
        inside += interval.low <= 0 <= interval.high
        refused += compare_losses(values, np.zeros(500)).p_value < 0.05
    assert inside / 1_000 > 0.95 - 0.03 - 0.05 * phi
    assert refused / 1_000 < 0.05 + 0.03 + 0.15 * phi
