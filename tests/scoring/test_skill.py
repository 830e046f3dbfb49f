"""What a score says of the truth, of noise, of a baseline and of a little skill, on random walks.

Prices are walks without any memory, so that nobody can know more than that the price stays, but for
who is told: a forecast of skill s has the squared error 1 - s of that of no change.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule import CumulativeReturn, DateSplit
from btc_datamodule.scoring.samples import Samples, list_samples
from btc_datamodule.scoring.score import Score, score_forecasts
from tests.factories import HOUR, T0, InMemory, make_datamodule, random_hourly

NOISE = 0.01
"""Deviation of an hourly return of ``random_hourly``."""


def make_walk(folder: Path, seed: int, bars: int, horizon: int) -> Any:
    dm = make_datamodule(
        folder,
        source=InMemory(random_hourly([True] * bars, seed), label=f"walk-{seed}"),
        features=["log_return"],
        lookback=2,
        horizon=horizon,
        target=CumulativeReturn(),
        split=DateSplit(T0 + HOUR * bars // 4, T0 + HOUR * bars // 3),
        eval_stride=1,
    )
    return dm.stages


def know(samples: Samples, skill: float, seed: int) -> NDArray[np.float64]:
    """(n, 1) the best forecast of who sees each return with an error, and avoids a share ``skill``.

    Each bar is seen but once, so that the errors of samples overlap as their targets do.
    """
    table, shape = samples.stages.table, samples.stages.settings.shape
    returns = np.diff(np.log(table.array("close")), prepend=np.nan)
    blur = np.random.default_rng([11, seed]).normal(0, NOISE, len(returns))
    told = skill * returns + np.sqrt(skill * (1 - skill)) * blur
    steps = samples.rows[:, np.newaxis] + np.arange(1, shape.horizon + 1)
    found: NDArray[np.float64] = told[steps].sum(axis=1, keepdims=True)
    return found


def score(stages: Any, said: NDArray[np.float64], seed: int) -> Score:
    times = list_samples(stages, "test").origin_time
    given = {"m": {0: {"origin_time": times, "forecast": said}}}
    return score_forecasts({0: stages}, given, seed=seed)


def count(folder: Path, runs: int, bars: int, horizon: int, skill: float) -> dict[str, float]:
    """Of many walks: how often intervals hold what is true, and what the verdict is.

    The difference that is true is against no change, which is the best baseline of a walk but for
    luck; how much is avoided is ``skill`` times the squared error of that.
    """
    found = dict.fromkeys(("better", "worse", "difference", "accuracy"), 0)
    angle = np.sqrt(skill)  # the correlation of what is said with what comes
    right = 0.5 + np.arcsin(angle) / np.pi
    for seed in range(runs):
        stages = make_walk(folder, seed, bars, horizon)
        samples = list_samples(stages, "test")
        said = know(samples, skill, seed)
        if not skill:  # noise of half the size of what comes
            said = 0.5 * NOISE * np.sqrt(horizon) * np.random.default_rng([7, seed]).normal(
                size=said.shape
            )  # fmt: skip
        result = score(stages, said, seed)
        vars(result)["best"] = "no change"
        verdict = result.judge("m")
        assert verdict is not None
        true = (-skill if skill else 0.25) * horizon * NOISE**2
        found["difference"] += verdict.difference.low <= true <= verdict.difference.high
        found["better"] += verdict.is_better
        found["worse"] += verdict.difference.low > 0
        accuracy = result.measure("m")["accuracy"]
        assert not isinstance(accuracy, float)
        found["accuracy"] += accuracy.low <= right <= accuracy.high
    return {name: each / runs for name, each in found.items()}


def test_a_little_skill_is_found_and_intervals_hold_it(tmp_path: Path) -> None:
    found = count(tmp_path, 12, 900, 2, skill=0.1)
    assert found["difference"] >= 0.75
    assert found["accuracy"] >= 0.75
    assert found["better"] >= 0.75
    assert not found["worse"]


def test_noise_is_found_to_be_worse(tmp_path: Path) -> None:
    found = count(tmp_path, 6, 900, 2, skill=0.0)
    assert found["worse"] == 1
    assert found["accuracy"] >= 0.6


@pytest.mark.stress
@pytest.mark.parametrize("horizon", [1, 6])
@pytest.mark.parametrize("skill", [0.0, 0.01, 0.1])
def test_intervals_hold_as_often_as_they_say(tmp_path: Path, horizon: int, skill: float) -> None:
    """Of 100 walks; chance alone moves a share of 95 % by 2.2 points."""
    found = count(tmp_path, 100, 2_400, horizon, skill)
    assert found["difference"] > 0.88, found
    assert found["accuracy"] > 0.88, found
    assert (found["worse"] > 0.99) if not skill else (found["worse"] < 0.03), found


@pytest.mark.stress
def test_baselines_are_seldom_found_to_be_better_than_no_change(tmp_path: Path) -> None:
    """On a walk: a test of 5 % that is one-sided, and of a baseline that never is."""
    better = dict.fromkeys(("mean", "ar1", "seasonal"), 0)
    for seed in range(100):
        stages = make_walk(tmp_path, seed, 2_000, 4)
        truth = list_samples(stages, "test").truth
        for name in better:
            said = score(stages, np.zeros_like(truth), seed).baselines[name]
            result = score(stages, said, seed)
            vars(result)["best"] = "no change"
            verdict = result.judge("m")
            better[name] += verdict is not None and verdict.is_better
    assert all(each / 100 < 0.07 for each in better.values()), better
