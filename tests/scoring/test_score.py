"""Forecasts held against what came: the truth, noise, a baseline, and a little skill."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from btc_datamodule import (
    BTCDataModule,
    ClosePath,
    ConfigError,
    CumulativeReturn,
    Direction,
    LogReturn,
    OHLCPath,
    RealisedVolatility,
    Simulator,
    TripleBarrier,
    WalkForward,
)
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.scoring.card import open_fold
from btc_datamodule.scoring.samples import list_samples
from btc_datamodule.scoring.score import Score, score_forecasts
from tests.factories import make_datamodule

TARGETS = [
    LogReturn(),
    CumulativeReturn(),
    OHLCPath(),
    ClosePath(),
    RealisedVolatility(),
    Direction(),
    Direction(classes=True),
    Direction(dead_zone=0.002, classes=True),
    TripleBarrier(),
    TripleBarrier(classes=True),
]


def make(folder: Path, **arguments: Any) -> BTCDataModule:
    settings: dict[str, Any] = {
        "source": Simulator(seed=3),
        "start": "2020-01-01",
        "end": "2020-03-01",
        "horizon": 4,
        "batch_size": 8,
    }
    return make_datamodule(folder, **settings | arguments)


def scale(dm: BTCDataModule, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """As ``Batch.y`` is."""
    import torch

    found: NDArray[np.float64] = dm.target_scaler.apply_(torch.from_numpy(values.copy())).numpy()
    return found


def hold(dm: BTCDataModule, values: NDArray[np.float64], stage: Stage = "test") -> dict[str, Any]:
    samples = list_samples(dm.stages, stage)
    return {"origin_time": samples.origin_time, "forecast": scale(dm, values)}


def score(dm: BTCDataModule, values: NDArray[np.float64], **options: Any) -> Score:
    return score_forecasts({0: dm.stages}, {"model": {0: hold(dm, values)}}, **options)


@pytest.mark.each_value
@pytest.mark.parametrize("target", TARGETS, ids=repr)
@pytest.mark.parametrize("gap", [0, 2])
def test_the_truth_is_better_than_any_baseline(tmp_path: Path, target: Any, gap: int) -> None:
    dm = make(tmp_path, target=target, gap=gap, target_scaling="none")
    truth = list_samples(dm.stages, "test").truth
    found = score(dm, truth)
    assert found.losses["model"].max() == pytest.approx(0, abs=1e-12)
    measured = found.measure("model")
    if target.is_label:
        assert measured["accuracy"].value == 1  # type: ignore[union-attr]
    else:
        assert measured["r2"] == pytest.approx(1)
        assert measured["mae"] == pytest.approx(0, abs=1e-9)
    verdict = found.judge("model")
    assert verdict is not None
    assert verdict.is_better
    assert verdict.test.p_value < 0.01
    frame = found.to_polars()
    assert frame["forecast"].to_list() == ["model", *found.baselines]
    assert frame["loss"][0] == frame["loss"].min()


@pytest.mark.parametrize("target", TARGETS, ids=repr)
def test_a_baseline_is_no_better_than_itself(tmp_path: Path, target: Any) -> None:
    dm = make(tmp_path, target=target)
    found = score(dm, list_samples(dm.stages, "test").truth)
    same = score(dm, found.baselines[found.best])
    verdict = same.judge("model")
    assert verdict is not None
    assert verdict.difference.value == pytest.approx(0, abs=1e-9)
    assert not verdict.is_better


def test_noise_is_not_better(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    truth = list_samples(dm.stages, "test").truth
    noise = truth.std() * np.random.default_rng(0).normal(size=truth.shape)
    found = score(dm, noise)
    verdict = found.judge("model")
    assert verdict is not None
    assert verdict.difference.low > 0
    assert found.measure("model")["r2"] < 0  # type: ignore[operator]


def test_a_scaled_forecast_is_taken_back(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn(), target_scaling="train")
    truth = list_samples(dm.stages, "test").truth
    assert score(dm, truth).measure("model")["mae"] == pytest.approx(0, abs=1e-9)


def test_a_file_of_parquet_has_a_column_for_each_number(tmp_path: Path) -> None:
    dm = make(tmp_path, target=LogReturn(), target_scaling="none")
    samples = list_samples(dm.stages, "test")
    columns = {f"forecast_{step}_0": samples.truth[:, step, 0] for step in range(4)}
    frame = pl.DataFrame({"origin_time": samples.origin_time, **columns, "forecast_price_0": 1.0})
    frame = frame.with_columns(pl.from_epoch("origin_time").dt.replace_time_zone("UTC"))
    frame.sample(fraction=1, shuffle=True, seed=0).write_parquet(tmp_path / "model.parquet")
    found = score_forecasts({0: dm.stages}, {"model": {0: tmp_path / "model.parquet"}})
    assert found.losses["model"].max() == 0
    assert len(found.truth) == len(samples)


def test_only_what_lies_in_the_stage_counts(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn(), target_scaling="none")
    train, test = (list_samples(dm.stages, stage) for stage in ("train", "test"))
    values = {
        "origin_time": np.concatenate([train.origin_time, test.origin_time]),
        "forecast": np.concatenate([train.truth, test.truth]),
    }
    values["forecast"][-3:] = np.nan
    found = score_forecasts({0: dm.stages}, {"model": {0: values}})
    assert len(found.truth) == len(test) - 3
    assert found.notes == (
        f"forecasts of fold 0 without a target known in test: {len(train):,}",
        "forecasts of fold 0 that are no numbers: 3",
    )
    with pytest.raises(ConfigError, match="has a target that is known in test of fold 0"):
        score_forecasts({0: dm.stages}, {"model": {0: hold(dm, train.truth, "train")}})


def test_models_are_scored_on_the_samples_that_all_have(tmp_path: Path) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    truth = list_samples(dm.stages, "test").truth
    whole = hold(dm, truth)
    part = {name: values[5:] for name, values in whole.items()}
    found = score_forecasts({0: dm.stages}, {"a": {0: whole}, "b": {0: part}})
    assert len(found.truth) == len(truth) - 5
    assert found.notes == ("a: forecasts of fold 0 of origins that others lack: 5",)


def test_folds_of_a_walk_are_one_score(tmp_path: Path) -> None:
    dm = make(tmp_path, split=WalkForward("20d", "5d", "10d"), target=LogReturn())
    folds = {fold: dm.with_fold(fold) for fold in range(dm.n_folds)}
    for each in folds.values():
        each.setup()
    given = {
        fold: hold(each, list_samples(each.stages, "test").truth) for fold, each in folds.items()
    }
    stages = {fold: each.stages for fold, each in folds.items()}
    found = score_forecasts(stages, {"model": given})
    assert len(folds) == len({*found.fold.tolist()}) == 3
    assert (np.diff(found.origin_time) > 0).all()
    assert found.losses["model"].max() == pytest.approx(0, abs=1e-12)
    with pytest.raises(ConfigError, match="no forecasts of fold 1 by other"):
        score_forecasts(stages, {"model": given, "other": {0: given[0]}})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"forecast": np.ones(3)}, "has no origin_time"),
        ({"origin_time": np.arange(3), "forecast": np.ones((3, 7))}, "has no forecast of shape"),
        ({"origin_time": np.zeros(3, np.int64), "forecast": np.ones(3)}, "has two forecasts of"),
    ],
)
def test_what_holds_no_forecasts_is_told(tmp_path: Path, values: Any, problem: str) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    with pytest.raises(ConfigError, match=problem):
        score_forecasts({0: dm.stages}, {"model": {0: values}})


def test_the_direction_of_whole_bars_is_that_of_their_closes(tmp_path: Path) -> None:
    dm = make(tmp_path, target=OHLCPath())
    truth = list_samples(dm.stages, "test").truth
    said = np.abs(truth)
    said[..., 3] = -truth[..., 3]
    found = score(dm, said).measure("model")
    assert found["accuracy"].value == 0  # type: ignore[union-attr]
    assert found["mcc"] == -1


def test_targets_overlap_over_all_folds_together(tmp_path: Path) -> None:
    dm = make(tmp_path, split=WalkForward("20d", "5d", "10d", step="5d"), target=CumulativeReturn())
    stages = {fold: open_fold(dm.stages, fold) for fold in range(3)}
    given = {
        fold: {"origin_time": each.origin_time, "forecast": each.truth}
        for fold, each in ((fold, list_samples(stages[fold], "test")) for fold in stages)
    }
    found = score_forecasts(stages, {"model": given})
    times = found.origin_time
    most = max(((times >= when) & (times < when + 4 * 3600)).sum() for when in np.unique(times))
    assert found.overlap == most == 8
    again = len(times) - len(np.unique(times))
    assert found.notes[-1].startswith(f"{again} of the samples are of origins that an earlier fold")
    few = found.judge("model", times < times[0] + 3600 * 30)
    assert few is None
    assert found.judge("model", times < times[0] + 3600 * 50) is not None


def test_folds_must_have_the_same_forecasts(tmp_path: Path) -> None:
    dm = make(tmp_path, split=WalkForward("20d", "5d", "10d"), target=CumulativeReturn())
    stages = {fold: open_fold(dm.stages, fold) for fold in range(2)}
    given: dict[int, Any] = {}
    for fold, each in stages.items():
        samples = list_samples(each, "test")
        given[fold] = {"origin_time": samples.origin_time, "a": samples.truth}
    given[1]["b"] = given[1]["a"]
    with pytest.raises(ConfigError, match=r"folds 0 and 1 do not have the same forecasts \(model,"):
        score_forecasts(stages, {"model": given})
