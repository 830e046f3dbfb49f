"""Forecasts as people hold them: files of ``PredictionWriter``, frames, tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from btc_datamodule import Batch, ConfigError, CumulativeReturn, DummyModule, PredictionWriter
from btc_datamodule.scoring.forecast_files import ANY, read_forecasts
from tests.factories import make_trainer
from tests.scoring.test_score import make

TIMES = np.array([7200, 3600, 10_800])
SHAPES = [(1,), ()]


class ThreeNumbers(DummyModule):
    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        middle = batch.x[:, -1:, 0]
        spread = torch.stack([middle - 1, middle, middle + 1], dim=-1)
        return {"origin_time": batch.origin_time, "spread": spread, "middle": middle}


@pytest.mark.parametrize("suffix", [".parquet", ".h5"])
def test_what_a_model_writes_is_read_back_with_its_quantiles(tmp_path: Path, suffix: str) -> None:
    dm = make(tmp_path, target=CumulativeReturn())
    path = tmp_path / f"model{suffix}"
    model = ThreeNumbers(dm.n_features, dm.lookback, dm.horizon, dm.target_shape)
    make_trainer(tmp_path, PredictionWriter(str(path))).predict(model, datamodule=dm)
    found = read_forecasts(path, SHAPES, [(1, 3), (3,)])
    assert {name: each.shape[1:] for name, each in found.spreads.items()} == {"spread": (1, 3)}
    assert {name: each.shape[1:] for name, each in found.values.items()} == {"middle": (1,)}
    batch = dm.dataset("predict")[:]
    np.testing.assert_array_equal(found.origin_time, batch.origin_time)
    np.testing.assert_allclose(found.spreads["spread"][:, 0, 2], batch.x[:, -1, 0] + 1)
    assert found.unused == ()
    card = dm.score(path, quantiles=[0.1, 0.5, 0.9])
    assert [*card.score.forecasts] == ["model:middle", "model:spread"]
    assert read_forecasts(path, SHAPES, [(1, ANY)]).spreads["spread"].shape[1:] == (1, 3)


def test_draws_are_as_many_as_there_are() -> None:
    draws = np.arange(36.0).reshape(3, 12)
    columns = {f"f_{number}": draws[:, number] for number in range(12)}
    for given in ({"f": draws}, columns):
        found = read_forecasts({"origin_time": TIMES, **given}, SHAPES, [(1, ANY), (ANY,)])
        np.testing.assert_array_equal(found.spreads["f"], draws[[1, 0, 2]])
        assert not found.values
    missing = {name: each for name, each in columns.items() if name != "f_4"}
    with pytest.raises(ConfigError, match=r"no forecast of shape \(n, any number\)"):
        read_forecasts({"origin_time": TIMES, **missing}, SHAPES, [(ANY,)])


def test_times_and_numbers_may_be_of_any_kind() -> None:
    numbers = [2.0, float("nan"), 3.0]
    stamps = pd.to_datetime(TIMES, unit="s", utc=True)
    nullable = pd.array([2.0, pd.NA, 3.0], dtype="Float64")
    indexed = pd.DataFrame({"f": numbers}, index=pd.Index(stamps, name="origin_time"))
    for given in (
        pd.DataFrame({"origin_time": stamps, "f": nullable}),
        pd.DataFrame({"origin_time": stamps.tz_localize(None), "f": numbers}),
        indexed,
        pl.DataFrame({"origin_time": TIMES, "f": [2.0, None, 3.0]}),
        {"origin_time": torch.from_numpy(TIMES), "f": torch.tensor(numbers, requires_grad=True)},
        {"origin_time": stamps.astype(str).to_list(), "f": [[2.0], [np.nan], [3.0]]},
    ):
        found = read_forecasts(given, SHAPES)
        np.testing.assert_array_equal(found.origin_time, sorted(TIMES))
        np.testing.assert_array_equal(found.values["f"].reshape(-1), [np.nan, 2, 3])


def test_what_is_no_number_or_a_price_is_no_forecast() -> None:
    frame = pl.DataFrame({"origin_time": TIMES, "model": "a", "f": 1.0, "f_price_0": 2.0})
    found = read_forecasts(frame.with_columns(up=True), SHAPES)
    assert [*found.values] == ["f"]
    assert found.unused == ("model", "up")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"origin_time": TIMES, "f": np.ones(2)},
            r"3 times in origin_time, and f has shape \(2,\)",
        ),
        ({"origin_time": TIMES, "f": 1.0}, r"and f has shape \(\): give one forecast of each"),
        ({"origin_time": TIMES * 1.0, "f": TIMES}, "origin_time is float64: give whole epoch sec"),
        ({"origin_time": [3600, 3600], "f": [1, 2]}, "two forecasts of origin_time 1970-01-01T01"),
        ({"origin_time": [None, "1970-01-01"], "f": [1, 2]}, "an origin_time that is none"),
        ({"origin_time": TIMES, "f": np.ones((3, 3))}, "say what `quantiles` they are, or `draws`"),
        ([3, 4], "holds no forecasts: give a file"),
    ],
)
def test_what_cannot_be_read_is_one_line(given: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_forecasts(given, SHAPES)


def test_a_file_of_something_else_is_one_line(tmp_path: Path) -> None:
    for name, problem in (
        ("a.txt", "must end in .parquet, .h5 or .csv"),
        ("a.csv", "has no origin_time"),
        ("a.parquet", "cannot be read as forecasts"),
        ("a.h5", "cannot be read as forecasts"),
    ):
        (tmp_path / name).write_text("no such thing")
        with pytest.raises(ConfigError, match=problem):
            read_forecasts(tmp_path / name, SHAPES)
