"""Baselines by plain loops, against scikit-learn, and without the future."""

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule.evaluation.targets import (
    CumulativeReturn,
    Direction,
    LogReturn,
    OHLCPath,
)
from btc_datamodule.scoring.baselines import (
    EXPECTED,
    History,
    expect_autoregression,
    expect_no_change,
    expect_season,
    forecast_ewma,
    forecast_har,
    forecast_last,
    make_bars,
)

HOUR = 3600
ROWS, TRAIN = 1_500, 1_000
ORIGINS = np.arange(TRAIN + 30, ROWS - 10, 7)
SEEN = np.arange(760, TRAIN - 10, 3)


def make_history(seed: int = 0, rows: int = ROWS) -> History:
    """Closes of hours, with an outage in train and one in test."""
    rng = np.random.default_rng(seed)
    steps = 0.01 * rng.normal(size=ROWS) * (1 + (np.arange(ROWS) // 24 % 5))
    steps[1:] += 0.3 * steps[:-1]
    closes = 1e4 * np.exp(np.cumsum(steps))
    closes[200:240] = closes[1_200:1_210] = np.nan
    return History(closes[:rows], [(0, 600), (620, TRAIN)], 1_577_836_800, HOUR)


def list_returns(history: History) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.diff(np.log(history.closes), prepend=np.nan)


def is_train(row: int) -> bool:
    return 0 < row < 600 or 620 < row < TRAIN


def test_no_change_is_none() -> None:
    assert not expect_no_change(make_history(), ORIGINS, 3).any()


def test_an_autoregression_is_that_of_least_squares() -> None:
    history, returns = make_history(), list_returns(make_history())
    pairs = [
        (returns[row - 1], returns[row])
        for row in range(2, ROWS)
        if is_train(row - 1) and is_train(row) and np.isfinite(returns[row - 1 : row + 1]).all()
    ]
    before, after = np.array(pairs).T
    slope, constant = np.polyfit(before, after, 1)
    found = expect_autoregression(history, ORIGINS, 4)
    for row, ours in zip(ORIGINS, found, strict=True):
        mean = constant / (1 - slope)
        value = returns[row] if np.isfinite(returns[row]) else mean
        for expected in ours:
            value = constant + slope * value
            assert expected == pytest.approx(value, rel=1e-9)


def test_an_hour_of_the_week_has_the_mean_that_it_had_in_train() -> None:
    history, returns = make_history(), list_returns(make_history())
    found = expect_season(history, ORIGINS, 2)
    for row, ours in zip(ORIGINS, found, strict=True):
        for step, expected in enumerate(ours, 1):
            same = [
                returns[other]
                for other in range(ROWS)
                if is_train(other)
                and np.isfinite(returns[other])
                and (other - row - step) % (24 * 7) == 0
            ]
            assert expected == pytest.approx(np.mean(same))


def test_of_longer_bars_than_an_hour_those_hours_count_in_which_they_open() -> None:
    closes = np.exp(np.arange(60.0) % 7)
    history = History(closes, [(0, 50)], 0, 24 * HOUR)
    found = expect_season(history, np.array([52]), 7)
    np.testing.assert_allclose(found[0], history.returns[53:60])


def test_volatilities_are_those_of_plain_loops() -> None:
    history, returns = make_history(), list_returns(make_history())
    decay = 0.94 ** (1 / 24)
    for row, last, ewma in zip(
        ORIGINS,
        forecast_last(history, ORIGINS, 6),
        forecast_ewma(history, ORIGINS, 6),
        strict=True,
    ):
        known = returns[row - 5 : row + 1]
        known = known[np.isfinite(known)]
        wanted = np.sqrt(np.mean(known**2) * 6) if len(known) else np.nan
        assert last == pytest.approx(wanted, nan_ok=True)
        total = weight = 0.0
        for back in range(row + 1):
            if np.isfinite(returns[row - back]):
                total += decay**back * returns[row - back] ** 2
                weight += decay**back
        assert ewma == pytest.approx(np.sqrt(total / weight * 6))


def test_a_day_a_week_and_a_month_are_weighed_by_least_squares() -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="extra crosscheck")
    history, returns = make_history(), list_returns(make_history())

    own = np.array([value if is_train(row) else np.nan for row, value in enumerate(returns)])

    def measure(row: int, known: NDArray[np.float64] = returns) -> list[float]:
        return [
            float(np.sqrt(np.nanmean(known[row - bars + 1 : row + 1] ** 2) * 6))
            for bars in (24, 7 * 24, 30 * 24)
        ]

    truth = np.array([np.sqrt(np.sum(returns[row + 1 : row + 7] ** 2)) for row in SEEN])
    model = linear.LinearRegression().fit([measure(row, own) for row in SEEN.tolist()], truth)
    wanted = np.maximum(model.predict([measure(row) for row in ORIGINS.tolist()]), truth.min())
    np.testing.assert_allclose(forecast_har(history, ORIGINS, 6, SEEN, truth), wanted, rtol=1e-6)


def test_with_too_little_train_it_is_the_last_volatility() -> None:
    history = make_history()
    few = forecast_har(history, ORIGINS, 6, SEEN[:4], np.ones(4))
    np.testing.assert_array_equal(few, forecast_last(history, ORIGINS, 6))


@pytest.mark.parametrize("name", [*EXPECTED, "last", "ewma", "har"])
def test_nothing_after_an_origin_is_used(name: str) -> None:
    history, truth = make_history(), np.linspace(0.01, 0.02, len(SEEN))

    def forecast(known: History, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        match name:
            case "last":
                return forecast_last(known, rows, 5)
            case "ewma":
                return forecast_ewma(known, rows, 5)
            case "har":
                return forecast_har(known, rows, 5, SEEN, truth)
        return EXPECTED[name](known, rows, 5)

    whole = forecast(history, ORIGINS)
    for at in (0, 20, len(ORIGINS) - 1):
        alone = forecast(make_history(rows=int(ORIGINS[at]) + 1), ORIGINS[at : at + 1])
        np.testing.assert_allclose(alone[0], whole[at], rtol=1e-9)


def test_a_target_makes_a_forecast_of_a_path() -> None:
    returns = np.array([[0.01, -0.03], [0.0, 0.0]])
    closes = np.array([[99.0, 100.0], [49.0, 50.0]])
    path = LogReturn()(make_bars(returns, closes, 1, 1))
    np.testing.assert_allclose(path[:, :, 0], returns, atol=1e-15)
    total = CumulativeReturn()(make_bars(returns, closes, 1, 1))
    np.testing.assert_allclose(total[:, 0], [-0.02, 0], atol=1e-15)
    assert Direction(classes=True)(make_bars(returns, closes, 1, 1)).tolist() == [0, 0]
    bars = OHLCPath()(make_bars(returns, closes, 1, 4))
    np.testing.assert_allclose(bars[0], [[0.01] * 4, [-0.02] * 4], atol=1e-15)
    assert make_bars(returns, closes, 2, 1).shape == (2, 4, 1)
