"""Forecasts of each kind of target have their tables and pictures."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from btc_datamodule import CumulativeReturn, Direction, RealisedVolatility, Target
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.forecasts import make_forecasts
from btc_datamodule.scoring.card import ScoreCard
from tests.factories import make_datamodule

pytest.importorskip("scipy", reason="scores need scipy")


def score(folder: Path, target: Target, *, quantiles: bool = False) -> ScoreCard:
    dm = make_datamodule(folder, target=target)
    batch = dm.dataset("test")[:]
    y = batch.y.numpy()
    given = {"origin_time": batch.origin_time.numpy(), "y": y}
    if not quantiles:
        return dm.score({"mine": given})
    spread = y[..., np.newaxis] + np.array([-0.01, 0, 0.01])
    return dm.score({"mine": given | {"y": spread}}, quantiles=[0.1, 0.5, 0.9])


def show(facts: Facts, card: ScoreCard) -> str:
    made = make_forecasts(replace(facts, card=card))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("target", "measure", "line", "has_money"),
    [
        (CumulativeReturn(), "rmse", "The last ", True),
        (Direction(classes=True), "balanced accuracy", "The share of right classes", True),
        (RealisedVolatility(), "qlike", "The last ", False),
    ],
    ids=["returns", "classes", "volatility"],
)
def test_each_kind_of_target_has_its_measures_and_pictures(
    facts: Facts, tmp_path: Path, target: Target, measure: str, line: str, has_money: bool
) -> None:
    made = show(facts, score(tmp_path, target))
    assert f">{measure}</th>" in made
    assert line in made
    assert made.count("<svg") == 2 + has_money
    assert ("basis points a side" in made) == has_money
    assert '<b class="good">better</b><span><strong>mine</strong>' in made
    assert 'scope="row">baseline mean</th>' in made
    assert not re.search(r'd="[^"]*nan', made)


def test_distributions_have_a_table_of_their_own(facts: Facts, tmp_path: Path) -> None:
    made = show(facts, score(tmp_path, CumulativeReturn(), quantiles=True))
    assert "As distributions" in made
    assert ">pinball</th>" in made
    assert made.count("<strong>mine</strong>") == 2


def test_without_forecasts_there_is_no_section(facts: Facts) -> None:
    assert make_forecasts(replace(facts, card=None)) is None
