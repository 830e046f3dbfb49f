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
from btc_datamodule.scoring.ledger import HOLD, Ledger, find_direction, make_ledger
from btc_datamodule.scoring.samples import list_samples
from tests.scoring.test_score import make, score

HOUR = 3600


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_rule_is_that_of_a_plain_loop(tmp_path: Path, horizon: int) -> None:
    dm = make(tmp_path, target=CumulativeReturn(), horizon=horizon)
    samples = list_samples(dm.stages, "test")
    said = np.sin(np.arange(len(samples)))[:, np.newaxis] * samples.truth.std()
    ledger = Ledger(score(dm, said), cost=10)
    worth = held = 1.0
    position, row, peak, fall, traded = 0.0, -1, 1.0, 0.0, 0.0
    closes, places = dm.table.array("close"), list[int]()
    for at, origin in enumerate(samples.rows.tolist()):
        if origin < row:
            continue
        row = origin + horizon
        places.append(at)
        last = not any(each >= row for each in samples.rows.tolist())
        now = float(np.sign(said[at, 0]))
        moved = abs(now - position) + (abs(now) if last else 0)
        change = closes[origin + horizon] / closes[origin] - 1
        worth *= 1 + now * change - 0.001 * moved
        held *= 1 + change - 0.001 * ((not at) + last)
        position, traded, peak = now, traded + moved, max(peak, worth)
        fall = max(fall, 1 - worth / peak)
    frame = {row["forecast"]: row for row in ledger.to_polars().to_dicts()}
    assert ledger.places.tolist() == places
    assert frame["model"]["net"] == pytest.approx(worth - 1)
    assert frame["model"]["drawdown"] == pytest.approx(fall)
    assert frame["model"]["turnover"] == pytest.approx(traded / len(places))
    assert frame[HOLD]["net"] == pytest.approx(held - 1)
    assert frame["model"]["gross"] > frame["model"]["net"]
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
    found = find_direction(target, np.array(forecast, dtype=np.float64))
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
