"""What cannot be forecast cannot be forecast: no skill on walks with holes at random.

Returns are independent, and whether a bar trades depends on nothing. So no target of any sample
can be told from its inputs, unless which samples there are, or which bars count as observed,
depends on what comes next.
"""

import math
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule import (
    BTCDataModule,
    Candles,
    CombinatorialPurged,
    CumulativeReturn,
    DateSplit,
    Direction,
    FractionSplit,
    LogReturn,
    OHLCPath,
    RealisedVolatility,
    Split,
    Target,
    TripleBarrier,
    WalkForward,
)
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.evaluation.splits import Stage
from tests.audit.planted.inside import NONE, eligible_with, holes_are_judged_by_their_length
from tests.factories import HOUR, START, InMemory

BARS = 20_000
ABSENT = 0.3
FILLS = (0, 1, 2, 3, 8, 40)
LEVEL = 0.001
"""Chance of a false alarm of all tests of this file together that is taken for none."""

TARGETS: dict[str, tuple[Target, int]] = {
    "next return": (LogReturn(), 1),
    "path": (LogReturn(), 3),
    "cumulative": (CumulativeReturn(), 4),
    "direction": (Direction(), 2),
    "volatility": (RealisedVolatility(), 1),
    "volatility of five": (RealisedVolatility(), 5),
    "barriers": (TripleBarrier(volatility_bars=3), 4),
    "whole bars": (OHLCPath(), 2),
}
SPLITS: dict[str, Split] = {
    "fractions": FractionSplit(0.1, 0.4),
    "dates": DateSplit(*(format_instant(START + row * HOUR) for row in (10_000, 12_000))),
    "walk": WalkForward(train=10_000, val=0, test=8000),
    "combinations": CombinatorialPurged(4, 2, fold=1),
}


@cache
def make_walk(moves_on: bool) -> Candles:
    """A walk whose bars are absent at random; meanwhile the price stands still, or moves on."""
    rng = np.random.default_rng(7)
    there = rng.random(BARS) >= ABSENT
    there[[0, -1]] = True
    moves = rng.normal(0, 0.005, BARS)
    level = 1e4 * np.exp(np.cumsum(moves if moves_on else np.where(there, moves, 0.0)))
    opened = np.concatenate([[1e4], level[:-1]])
    return Candles(
        HOUR,
        {
            "open_time": (START + HOUR * np.arange(BARS))[there],
            "open": opened[there],
            "high": np.maximum(opened, level)[there],
            "low": np.minimum(opened, level)[there],
            "close": level[there],
            "volume": np.exp(rng.normal(2, 1, BARS))[there],
        },
    )


def read(dm: BTCDataModule, stage: Stage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a forecast could be made of, (n, k), and the numbers of the targets, (n, m)."""
    windows = dm.dataset(stage)
    batch = windows[np.arange(len(windows))]
    x = batch.x.numpy().astype(np.float64)
    flat = np.sign(x[:, :, 1] - x[:, :, 1].min())  # no range: a filled bar
    parts = [x.reshape(len(x), -1), np.abs(x[:, :, 0]), flat, batch.observed.numpy(), flat[:, :1]]
    parts.append(np.cumprod(1 - flat[:, ::-1], axis=1).sum(axis=1, keepdims=True))
    return np.concatenate(parts, axis=1), batch.y.numpy().reshape(len(x), -1).astype(np.float64)


def rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean ranks, of mean 0 and deviation 1; 0 where all are alike."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    ranks -= ranks.mean()
    return ranks / (ranks.std() or 1.0)


def measure_skill(folder: Path, **arguments: Any) -> float:
    """The smallest p of any number of the target: rank correlation of forecasts out of sample."""
    dm = BTCDataModule(
        features=["log_return", "log_range", "log_volume"],
        lookback=6,
        min_observed=0.5,
        batch_size=64,
        data_dir=str(folder),
        **arguments,
    )
    dm.prepare_data()
    dm.setup()
    (x, y), (x_test, y_test) = read(dm, "train"), read(dm, "test")
    x, x_test = (np.column_stack([np.ones(len(each)), each]) for each in (x, x_test))
    gram = x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1])
    least = 1.0
    for number in range(y.shape[1]):
        weights = np.linalg.solve(gram, x.T @ rank(y[:, number]))
        agreement = rank(x_test @ weights) @ rank(y_test[:, number]) / len(y_test)
        size = math.atanh(min(float(abs(agreement)), 0.999)) * math.sqrt(max(len(y_test) - 3, 0))
        p = math.erfc(size / math.sqrt(2))
        least = min(least, p * y.shape[1])
    return least


CASES = list(product(TARGETS, SPLITS, FILLS, (False, True)))


@pytest.mark.parametrize(
    ("target", "split", "max_fill", "moves_on"),
    [
        pytest.param(*case, marks=[] if number % 60 == 0 else pytest.mark.stress)
        for number, case in enumerate(CASES)
    ],
)
def test_nothing_can_be_forecast_where_nothing_can_be_known(
    target: str, split: str, max_fill: int, moves_on: bool, tmp_path: Path
) -> None:
    kind, horizon = TARGETS[target]
    p = measure_skill(
        tmp_path,
        source=InMemory(make_walk(moves_on)),
        target=kind,
        horizon=horizon,
        split=SPLITS[split],
        max_fill=max_fill,
    )
    assert p * len(CASES) > LEVEL


def test_the_same_test_finds_skill_where_the_length_of_a_hole_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holes_are_judged_by_their_length(monkeypatch)
    eligible_with(holes=NONE)(monkeypatch)
    source = InMemory(make_walk(False))
    p = measure_skill(tmp_path, source=source, target=RealisedVolatility(), max_fill=1)
    assert p * len(CASES) < LEVEL
