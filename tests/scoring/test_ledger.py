"""Money by a forecast, counted by plain loops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import (
    ConfigError,
    CumulativeReturn,
    Direction,
    LogReturn,
    OHLCPath,
    RealisedVolatility,
    TripleBarrier,
)
from btc_datamodule.scoring.beside import HOLD
from btc_datamodule.scoring.ledger import Ledger, find_direction, make_ledger
from btc_datamodule.scoring.samples import list_samples
from btc_datamodule.scoring.score import score_forecasts
from btc_datamodule.scoring.text import tell_score
from tests.scoring.test_score import hold, make, score

HOUR = 3600


@pytest.mark.parametrize("horizon", [1, 4])
@pytest.mark.parametrize("absent", [0, 90])
def test_the_rule_is_that_of_a_plain_loop(tmp_path: Path, horizon: int, absent: int) -> None:
    """``absent`` of the forecasts, in two stretches, are not there."""
    dm = make(tmp_path, target=CumulativeReturn(), horizon=horizon)
    samples = list_samples(dm.stages, "test")
    said = np.sin(np.arange(len(samples)))[:, np.newaxis] * samples.truth.std()
    said[20 : 20 + absent // 2] = said[100 : 100 + absent // 2] = np.nan
    found = score(dm, said)
    ledger = Ledger(found, cost=10)
    samples, said = found.parts[0].samples, found.forecasts["model"]
    worth, peak, fall, traded = 1.0, 1.0, 0.0, 0.0
    closes, places = dm.table.array("close"), list[int]()
    position, row = 0.0, -1
    origins = samples.rows.tolist()
    for at, origin in enumerate(origins):
        if origin < row:
            continue
        places.append(at)
        now = float(np.sign(said[at, 0]))
        # What is held is sold at the end of a period, unless the next begins there.
        moved = abs(now - (position if origin == row else 0.0))
        row = origin + horizon
        following = [each for each in origins if each >= row]
        stays = bool(following) and following[0] == row
        moved += 0.0 if stays else abs(now)
        worth *= 1 + now * (closes[row] / closes[origin] - 1) - 0.001 * moved
        position, traded, peak = now, traded + moved, max(peak, worth)
        fall = max(fall, 1 - worth / peak)
    held, last = 1.0, [*places[1:], None]
    for number, (at, following_at) in enumerate(zip(places, last, strict=True)):
        end = origins[at] + horizon if following_at is None else origins[following_at]
        cost = 0.001 * ((not number) + (following_at is None))
        held *= closes[end] / closes[origins[at]] - cost
    frame = {row["forecast"]: row for row in ledger.to_polars().to_dicts()}
    assert ledger.places.tolist() == places
    assert frame["model"]["net"] == pytest.approx(worth - 1)
    assert frame["model"]["drawdown"] == pytest.approx(fall)
    assert frame["model"]["turnover"] == pytest.approx(traded / len(places))
    assert frame[HOLD]["net"] == pytest.approx(held - 1)
    assert frame["model"]["gross"] > frame["model"]["net"]
    assert ledger.pauses == (2 if absent else 0)
    if not absent:
        assert ledger.periods_a_year == pytest.approx(365.25 * 24 / horizon, rel=0.3)


def test_who_knows_what_comes_earns_most(tmp_path: Path) -> None:
    dm = make(tmp_path, target=LogReturn(), target_scaling="train")
    ledger = make_ledger(score(dm, list_samples(dm.stages, "test").truth), cost=0)
    assert ledger is not None
    frame = ledger.to_polars()
    assert frame["gross"].arg_max() == frame["forecast"].to_list().index("model")
    model = next(row for row in frame.to_dicts() if row["forecast"] == "model")
    assert model["drawdown"] == 0
    assert model["probabilistic"] > 0.99
    assert ledger.compute_overfitting() is None


@pytest.mark.parametrize(
    ("target", "forecast", "direction"),
    [
        (LogReturn(), [[[0.1], [-0.3]], [[0.1], [0.1]]], [-0.2, 0.2]),
        (CumulativeReturn(), [[0.1], [-0.2]], [0.1, -0.2]),
        (OHLCPath(), [[[0.0, 0.5, -0.5, 0.1]], [[0.0, 0.5, -0.5, -0.1]]], [0.1, -0.1]),
        (Direction(), [[0.3], [-0.2]], [1, -1]),
        (Direction(classes=True), [[0.1, 0.9], [0.6, 0.4]], [1, -1]),
        (Direction(dead_zone=0.1, classes=True), [[0, 0, 1], [0, 1, 0]], [1, 0]),
    ],
)
def test_a_direction_is_that_of_the_whole_horizon(
    target: Any, forecast: Any, direction: Any
) -> None:
    found = find_direction(target, np.array(forecast, dtype=np.float64), np.array([5.0, 7.0]))
    assert found is not None
    np.testing.assert_allclose(found, direction)


@pytest.mark.parametrize("target", [RealisedVolatility(), TripleBarrier()])
def test_some_targets_have_no_direction(tmp_path: Path, target: Any) -> None:
    dm = make(tmp_path, target=target)
    assert make_ledger(score(dm, list_samples(dm.stages, "test").truth), cost=1) is None


@pytest.mark.parametrize(("cost", "trials"), [(-1, 1), (1e5, 1), (float("nan"), 1), (1, 0)])
def test_what_a_cost_cannot_be(tmp_path: Path, cost: float, trials: int) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    with pytest.raises(ConfigError, match=r"cost is|trials is"):
        Ledger(score(dm, list_samples(dm.stages, "test").truth), cost, trials)


def test_of_few_periods_nothing_is_said_of_overfitting(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn(), horizon=8)
    given = {name: {0: hold(dm, list_samples(dm.stages, "test").truth)} for name in "ab"}
    ledger = make_ledger(score_forecasts({0: dm.stages}, given), cost=1)
    assert ledger is not None
    assert len(ledger.places) == 27
    assert ledger.compute_overfitting() is None
    assert "not told, it needs 32 periods (there are 27)" in tell_score(ledger.score, ledger)


def test_a_forecast_of_nothing_is_no_direction_however_it_is_scaled(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn(), target_scaling="train")
    truth = list_samples(dm.stages, "test").truth
    given = hold(dm, np.zeros_like(truth))
    given["forecast"] = given["forecast"].astype(np.float32)
    found = score_forecasts({0: dm.stages}, {"model": {0: given}})
    assert not found.forecasts["model"].any()
    ledger = make_ledger(found, cost=1)
    assert ledger is not None
    assert [*ledger.runs] == [HOLD, "mean", "ar1", "seasonal"]
