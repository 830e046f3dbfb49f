"""Forecasts from whatever holds them, through the datamodule."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from btc_datamodule import ConfigError, CumulativeReturn, RealisedVolatility, WalkForward
from btc_datamodule.scoring.card import name_forecasts
from btc_datamodule.scoring.samples import list_samples
from tests.scoring.test_score import hold, make


def test_a_datamodule_scores_files_frames_and_arrays_alike(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    truth = list_samples(dm.stages, "test").truth
    arrays = hold(dm, truth + truth.std())
    columns = {"origin_time": arrays["origin_time"], "forecast": arrays["forecast"][:, 0]}
    frame = pl.DataFrame(columns)
    frame.write_parquet(tmp_path / "model.parquet")
    told = {
        str(dm.score(given))
        for given in (
            {"model": arrays},
            {"model": {0: frame}},
            {"model": pd.DataFrame(columns)},
            tmp_path / "model.parquet",
            [f"model={tmp_path}/model.parquet@0"],
        )
    }
    assert len(told) == 1
    card = dm.score(arrays, cost=3, trials=7)
    assert card.measures["forecast"][0] == "forecast"
    assert card.money is not None
    assert "3 basis points a side, 7 tried: " in str(card)
    assert card.by("fold")["samples"].to_list() == [len(truth)]


def test_folds_are_opened_as_they_are_named(tmp_path: Path) -> None:
    dm = make(tmp_path, split=WalkForward("20d", "5d", "10d"), target=RealisedVolatility())
    given: dict[int, Any] = {}
    for fold in range(dm.n_folds):
        other = dm.with_fold(fold)
        other.setup()
        given[fold] = hold(other, list_samples(other.stages, "test").truth)
    card = dm.score({"model": given})
    assert card.money is None
    assert card.by("fold")["fold"].to_list() == ["0", "1", "2"]
    with pytest.raises(ConfigError, match="fold"):
        dm.score({"model": {9: given[0]}})


def test_texts_name_model_and_fold() -> None:
    assert name_forecasts("a/lstm.parquet", 2) == {"lstm": {2: "a/lstm.parquet"}}
    texts = ["x=f0.h5@0", "x=f1.h5@1", "a=b/c.parquet", "d/e=f.parquet"]
    assert name_forecasts(texts, 0) == {
        "x": {0: "f0.h5", 1: "f1.h5"},
        "a": {0: "b/c.parquet"},
        "e=f": {0: "d/e=f.parquet"},
    }
    with pytest.raises(ConfigError, match=r"fold 0 by x already: name the model"):
        name_forecasts(["a/x.h5", "b/x.h5"], 0)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"forecasts": []}, r"forecasts is \[\]: give a file"),
        ({"forecasts": 5}, "forecasts is 5: give a file"),
        ({"forecasts": "nowhere.parquet"}, "nowhere.parquet: no such file of forecasts"),
        ({"forecasts": {"m": {"one": 1}}}, "the fold of forecasts is 'one'"),
        ({"stage": "predict"}, "stage is 'predict': choose one of train, val, test"),
        ({"level": 95}, "level is 95: give a share"),
        ({"cost": -1}, "cost is -1"),
        ({"trials": 0}, "trials is 0"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: Any, problem: str) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    given = {"forecasts": hold(dm, list_samples(dm.stages, "test").truth)} | arguments
    with pytest.raises(ConfigError, match=problem):
        dm.score(**given)


def test_nothing_of_the_noise_is_a_matter_of_chance(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    truth = list_samples(dm.stages, "test").truth
    given = hold(dm, np.random.default_rng(0).normal(size=truth.shape) * truth.std())
    assert str(dm.score(given)) == str(dm.score(given))
    assert str(dm.score(given, seed=1)) != str(dm.score(given))
