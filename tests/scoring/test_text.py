"""A score as a person reads it."""

import re
from pathlib import Path

import numpy as np

from btc_datamodule import CumulativeReturn, Direction, RealisedVolatility
from btc_datamodule.scoring.ledger import make_ledger
from btc_datamodule.scoring.samples import list_samples
from btc_datamodule.scoring.score import score_forecasts
from btc_datamodule.scoring.text import tell_score
from tests.scoring.test_score import hold, make, score


def test_a_score_says_what_is_better_than_what_and_what_money_is(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn(), horizon=4)
    truth = list_samples(dm.stages, "test").truth
    found = score(dm, truth)
    told = tell_score(found, make_ledger(found, cost=5))
    first, overlap, *rest = told.splitlines()
    assert first.startswith(
        f"test, fold 0: {len(truth):,} samples of CumulativeReturn(), whose ori"
    )
    assert overlap == "Up to 4 targets overlap: intervals and p-values allow for it"
    verdict = (
        r"^model is better than '.*', the best baseline: its mean squared error is 100 % below"
    )
    assert re.search(verdict, told, re.M)
    assert "5 basis points a side, 1 tried: one unit in the direction of the forecast" in told
    assert "no backtester" in told
    heads = [line.split()[0] for line in rest if re.match(r"[a-z]\w+ +[\d.]", line)]
    assert heads[:2] == ["model", "mean"]


def test_who_is_worse_is_told_so(tmp_path: Path) -> None:
    dm = make(tmp_path, target=RealisedVolatility())
    truth = list_samples(dm.stages, "test").truth
    found = score(dm, np.full_like(truth, 10 * truth.mean()))
    assert "model is worse than " in tell_score(found, make_ledger(found, cost=5))


def test_several_models_and_what_is_left_out(tmp_path: Path) -> None:
    dm = make(tmp_path, target=Direction(classes=True))
    truth = list_samples(dm.stages, "test").truth
    rng = np.random.default_rng(0)
    given = {
        name: {0: hold(dm, rng.integers(0, 2, truth.shape).astype(np.float64))} for name in "ab"
    }
    given["a"][0] = {name: values[2:] for name, values in given["a"][0].items()}
    found = score_forecasts({0: dm.stages}, given)
    told = tell_score(found, make_ledger(found, cost=5))
    assert "Probability of backtest overfitting among the forecasts: " in told
    assert told.endswith("note: b: forecasts of fold 0 of origins that others lack: 2")
