"""Forecasts from whatever holds them, through the datamodule."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from btc_datamodule import (
    ConfigError,
    CumulativeReturn,
    NotPreparedError,
    RealisedVolatility,
    WalkForward,
)
from btc_datamodule.scoring.card import name_forecasts
from btc_datamodule.scoring.samples import list_samples
from tests.factories import make_datamodule, make_model, make_trainer
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


def test_a_column_says_to_which_fold_forecasts_belong(tmp_path: Path) -> None:
    dm = make(tmp_path, split=WalkForward("20d", "5d", "10d"))
    held = {}
    for fold in (0, 2):
        other = dm.with_fold(fold)
        other.setup()
        held[fold] = hold(other, list_samples(other.stages, "test").truth)
    joined = {name: np.concatenate([held[0][name], held[2][name]]) for name in held[0]} | {
        "fold": np.repeat([0, 2], [len(each["origin_time"]) for each in held.values()])
    }
    by_fold = dm.score({"model": held}).by("fold")
    assert dm.score({"model": joined}).by("fold").equals(by_fold)
    with pytest.raises(ConfigError, match="there are two of fold 2 by model: give one"):
        dm.score({"model": {1: joined, 2: held[2]}})
    with pytest.raises(ConfigError, match="fold holds float64: it must hold whole numbers from 0"):
        dm.score({"model": joined | {"fold": joined["fold"] / 2}})


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
        ({"cost": "ten"}, "cost is 'ten': give basis points"),
        ({"seed": -1}, "seed is -1"),
        ({"quantiles": [0.9]}, r"quantiles is \[0.9\]: give the levels"),
        ({"stage": "val"}, "has a target that is known in val of fold 0"),
        ({"forecasts": [5]}, r"forecasts is \[5\]: give a file"),
        ({"forecasts": [{"a": [1]}, {"b": [1]}]}, "a list of dicts with different names"),
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
    assert not dm.score(given, seed=1).measures.equals(dm.score(given).measures)


def test_a_datamodule_that_is_not_set_up_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotPreparedError, match=r"call prepare_data\(\) and setup\(\) first"):
        make_datamodule(tmp_path, ready=False).score("model.parquet")


def test_what_predict_returns_is_scored_as_it_is(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    found = make_trainer(tmp_path).predict(make_model(dm), datamodule=dm)
    assert found is not None
    joined = {name: torch.cat([each[name] for each in found]) for name in found[0]}
    assert str(dm.score(found)) == str(dm.score(joined))
    named = str(dm.score({"gru": joined}))
    assert str(dm.score({"gru": found})) == str(dm.score({"gru": {0: found}})) == named


def test_the_last_fold_may_be_counted_from_the_end(tmp_path: Path) -> None:
    split = WalkForward("20d", "5d", "10d", fold=-1)
    dm = make(tmp_path, split=split, target=CumulativeReturn())
    card = dm.score(hold(dm, list_samples(dm.stages, "test").truth))
    assert card.by("fold")["fold"].to_list() == ["2"]


def test_as_many_are_tried_as_there_are_forecasts(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    given = hold(dm, np.sin(np.arange(213.0))[:, np.newaxis])
    alone = dm.score({"a": given}).money
    three = dm.score(dict.fromkeys("abc", given)).money
    five = dm.score({"a": given}, trials=5).money
    assert alone is not None
    assert three is not None
    assert five is not None
    assert alone["deflated"][1] == alone["probabilistic"][1]
    assert five["deflated"][1] < three["deflated"][1] < alone["deflated"][1]
