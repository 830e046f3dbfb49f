"""The rule and its ratios, held against plain loops, scipy and published numbers."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from btc_datamodule.scoring.money import (
    Sharpe,
    compute_deflated_sharpe,
    compute_drawdown,
    compute_overfitting,
    compute_probabilistic_sharpe,
    compute_sharpe,
    compute_total,
    find_luckiest,
    follow_sign,
    hold,
)

RETURNS = np.log([1.01, 0.98, 1.0, 1.03])


def test_a_unit_is_held_in_the_direction_of_the_forecast() -> None:
    run = follow_sign(np.array([0.2, -3.0, 0.0, -1.0]), RETURNS, cost=0.001)
    np.testing.assert_allclose(run.gross, [0.01, 0.02, 0, -0.03])
    # One bought; two sold; one bought back; one sold, and bought back at the end.
    np.testing.assert_array_equal(run.traded, [1, 2, 1, 2])
    np.testing.assert_allclose(run.net, [0.009, 0.018, -0.001, -0.032])
    assert run.turnover == 1.5
    assert compute_total(run.gross) == pytest.approx(1.01 * 1.02 * 0.97 - 1)


def test_what_is_held_is_sold_where_a_period_does_not_follow() -> None:
    follows = np.array([False, True, False, True])
    run = follow_sign(np.array([1.0, 1.0, 1.0, -1.0]), RETURNS, cost=0.001, follows=follows)
    # Bought; sold at the end of the second; bought again; turned short, and bought back.
    np.testing.assert_array_equal(run.traded, [1, 1, 1, 3])
    still = follow_sign(np.array([1.0, 0.0, 0.0, 1.0]), RETURNS, follows=~follows)
    np.testing.assert_array_equal(still.traded, [2, 0, 0, 2])


def test_who_has_lost_everything_has_nothing_to_put_in_again() -> None:
    run = follow_sign(np.array([1.0, -1.0, -1.0]), np.log([1.1, 2.5, 1.5]))
    assert compute_total(run.gross) == -1
    assert compute_drawdown(run.gross) == 1


def test_who_holds_trades_twice() -> None:
    run = hold(RETURNS, cost=0.001)
    assert run.traded.tolist() == [1, 0, 0, 1]
    assert compute_total(run.gross) == pytest.approx(np.exp(RETURNS.sum()) - 1)


def test_a_fall_is_counted_from_the_highest_peak_the_start_included() -> None:
    returns = np.array([-0.1, 0.5, -0.2, 0.1, -0.3])
    worth, most = [1.0], 0.0
    for each in returns:
        worth.append(worth[-1] * (1 + each))
        most = max(most, 1 - worth[-1] / max(worth))
    assert compute_drawdown(returns) == pytest.approx(most)
    assert compute_drawdown(np.array([-0.1, 0.01])) == pytest.approx(0.1)
    assert compute_drawdown(np.array([0.1, 0.01])) == 0


def test_moments_of_returns_are_those_of_scipy() -> None:
    returns = np.random.default_rng(0).standard_t(4, 700) * 0.01 + 0.001
    found = compute_sharpe(returns)
    assert found.ratio == pytest.approx(returns.mean() / stats.tstd(returns))
    assert found.skewness == pytest.approx(stats.skew(returns))
    assert found.kurtosis == pytest.approx(stats.kurtosis(returns, fisher=False))
    normal = compute_sharpe(np.random.default_rng(1).normal(0.001, 0.01, 100_000))
    # Of normal returns the error is that of Lo (2002).
    assert normal.error == pytest.approx(np.sqrt((1 + normal.ratio**2 / 2) / 1e5), rel=0.01)


def test_what_does_not_vary_has_no_ratio() -> None:
    assert np.isnan(compute_sharpe(np.zeros(10)).ratio)
    assert np.isnan(compute_sharpe(np.ones(1)).ratio)
    assert np.isnan(compute_sharpe(np.full(7, 0.1)).ratio)


@pytest.mark.parametrize(("trials", "published"), [(100, 0.9004), (46, 0.9505)])
def test_the_example_of_bailey_and_lopez_de_prado(trials: int, published: float) -> None:
    """ "The deflated Sharpe ratio" (2014), a numerical example: 2.5 a year, five years of days."""
    ratio, periods, skewness, kurtosis = 2.5 / np.sqrt(250), 1250, -3.0, 10.0
    spread = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2
    sharpe = Sharpe(ratio, float(np.sqrt(spread / (periods - 1))), skewness, kurtosis, periods)
    variance = 0.5 / 250
    if trials == 100:
        assert find_luckiest(trials, variance) == pytest.approx(0.1132, abs=5e-5)
    assert compute_deflated_sharpe(sharpe, trials, variance) == pytest.approx(published, abs=1e-4)


def test_of_one_trial_nothing_is_taken_off() -> None:
    sharpe = compute_sharpe(np.random.default_rng(0).normal(0.05, 1, 400))
    assert compute_deflated_sharpe(sharpe, 1) == compute_probabilistic_sharpe(sharpe)
    assert compute_deflated_sharpe(sharpe, 10) < compute_deflated_sharpe(sharpe, 2)


def test_the_luckiest_of_many_is_as_lucky_as_a_simulation() -> None:
    drawn = np.random.default_rng(0).normal(0, 0.1, (20_000, 50)).max(axis=1)
    assert find_luckiest(50, 0.01) == pytest.approx(drawn.mean(), rel=0.02)


def test_overfitting_is_counted_as_by_hand() -> None:
    rng = np.random.default_rng(3)
    returns = rng.normal(size=(80, 5)) + np.linspace(0, 0.1, 5)
    parts, counted = np.split(returns, 8), []
    for chosen in combinations(range(8), 4):
        inside = np.concatenate([parts[i] for i in chosen])
        outside = np.concatenate([parts[i] for i in range(8) if i not in chosen])
        best = np.argmax(inside.mean(axis=0) / inside.std(axis=0))
        ratios = outside.mean(axis=0) / outside.std(axis=0)
        rank = stats.rankdata(ratios)[best] / 6
        counted.append(1.0 if rank < 0.5 else 0.5 if rank == 0.5 else 0.0)
    assert compute_overfitting(returns, blocks=8) == pytest.approx(np.mean(counted))


def test_too_few_periods_are_an_error() -> None:
    with pytest.raises(ValueError, match="31 periods make no 16 blocks"):
        compute_overfitting(np.ones((31, 2)))


def test_skill_is_told_from_luck() -> None:
    rng = np.random.default_rng(0)
    noise = [compute_overfitting(rng.normal(size=(320, 10))) for _ in range(6)]
    assert 0.3 < np.mean(noise) < 0.7
    skilled = rng.normal(size=(320, 10))
    skilled[:, 4] += 0.5
    assert compute_overfitting(skilled) < 0.02
