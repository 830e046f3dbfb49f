"""Samples as numpy arrays: what the loaders give, all at once, and no more memory than that."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from btc_datamodule import (
    Arrays,
    Batch,
    BTCDataModule,
    ConfigError,
    Direction,
    FractionSplit,
    NotPreparedError,
    OHLCPath,
    WalkForward,
)
from btc_datamodule.evaluation.splits import STAGES, Stage
from btc_datamodule.windows import collecting
from tests.factories import make_datamodule

FIELDS = ("x", "y", "observed", "origin_time")


def double(batch: Batch) -> Batch:
    return batch._replace(x=torch.cat([batch.x, 2 * batch.x], dim=2))


def halve(batch: Batch) -> Batch:
    return Batch(*(field[::2] for field in batch))


def join_batches(dm: BTCDataModule, stage: Stage) -> dict[str, Any]:
    """What an unshuffled loader of a stage gives, one batch after the other."""
    loader = getattr(dm, f"{stage}_dataloader")()
    batches = [batch.numpy() for batch in loader]
    return {name: np.concatenate([getattr(each, name) for each in batches]) for name in FIELDS}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scaling": "window", "target_scaling": "train", "target": OHLCPath()},
        {"mask": "feature", "min_observed": 0.7, "undefined": "flag"},
        {"min_observed": 0.7, "target": Direction(classes=True), "stride": 2},
        {"dtype": "bfloat16", "scaling": "robust"},
        {"transform": double},
    ],
    ids="-".join,
)
def test_arrays_are_what_the_loaders_give(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "BLOCK_BYTES", 5_000)  # several blocks
    dm = make_datamodule(tmp_path, shuffle="none", batch_size=7, **settings)
    for stage in STAGES:
        arrays, given = dm.arrays(stage), join_batches(dm, stage)
        assert len(arrays) == len(dm.dataset(stage))
        for name, values in given.items():
            mine = getattr(arrays, name)
            rows = len(values) if stage == "train" else len(mine)  # train fills whole batches
            assert len(mine) - rows < 7
            assert mine.dtype == values.dtype
            np.testing.assert_array_equal(mine[:rows], values, err_msg=f"{stage} {name}")
        assert (np.diff(arrays.origin_time) > 0).all()


def test_bfloat16_becomes_float32_of_the_same_values(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, dtype="bfloat16")
    x = dm.arrays("val").x
    assert x.dtype == np.float32
    assert torch.from_numpy(x).bfloat16().equal(dm.dataset("val")[:].x)


def test_a_table_has_a_named_column_for_each_bar_and_feature(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, lookback=3, features=["log_return", "log_volume"])
    arrays = dm.arrays("train")
    assert arrays.columns == [
        *("log_return_lag2", "log_volume_lag2", "log_return_lag1", "log_volume_lag1"),
        *("log_return_lag0", "log_volume_lag0"),
    ]
    assert np.shares_memory(arrays.x_table, arrays.x)
    np.testing.assert_array_equal(arrays.x_table[:, 3], arrays.x[:, 1, 1])
    np.testing.assert_array_equal(arrays.x_table[:, 4], arrays.x[:, -1, 0])
    assert arrays.y_table.shape == (len(arrays), 3)
    one = make_datamodule(tmp_path, horizon=1).arrays("test")
    assert one.y_table.shape == (len(one),)
    assert np.shares_memory(one.y_table, one.y)
    assert repr(one) == (
        f"Arrays(x ({len(one)}, 12, 3) float32, y ({len(one)}, 1, 1) float32, "
        f"observed ({len(one)}, 12) bool)"
    )


def test_a_batch_is_arrays_without_a_copy(tmp_path: Path) -> None:
    batch = make_datamodule(tmp_path).dataset("train")[:5]
    arrays = batch.numpy()
    assert isinstance(arrays, Arrays)
    for name in FIELDS:
        tensor = getattr(batch, name)
        assert getattr(arrays, name).ctypes.data == tensor.data_ptr()
    with pytest.raises(ConfigError, match=r"0 names of features: only dm\.arrays\(stage\) knows"):
        _ = arrays.columns


def test_names_that_a_transform_has_made_wrong_are_not_given(tmp_path: Path) -> None:
    arrays = make_datamodule(tmp_path, transform=double).arrays("val")
    assert arrays.x_table.shape == (len(arrays), 12 * 6)
    with pytest.raises(ConfigError, match="where no transform has changed the shape of x"):
        _ = arrays.columns


def test_a_stage_without_time_has_arrays_without_rows(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path, split=WalkForward("20d", 0, "5d"))
    arrays = dm.arrays("val")
    assert (arrays.x.shape, arrays.y.shape) == ((0, 12, 3), (0, 3, 1))
    assert (arrays.x_table.shape, arrays.y_table.shape) == ((0, 36), (0, 3))


# --- the check of the size ------------------------------------------------------------------------


def test_arrays_that_take_too_much_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm = make_datamodule(tmp_path)
    arrays = dm.arrays("train")
    size = sum(getattr(arrays, name).nbytes for name in FIELDS)
    assert dm.arrays("train", max_bytes=size).x.shape == arrays.x.shape
    monkeypatch.setattr("btc_datamodule.windows.dataset.WindowDataset.__getitem__", None)
    message = (
        rf"^the arrays of train would take [\d.]+ KiB \({len(arrays)} samples, 12 bars of 3 "
        r"features\), more than the [\d.]+ KiB of `max_bytes`: raise `stride`, shorten `lookback`"
    )
    with pytest.raises(ConfigError, match=message):
        dm.arrays("train", max_bytes=size - 1)
    with pytest.raises(ConfigError, match="raise `eval_stride`"):
        dm.arrays("test", max_bytes=100)
    with pytest.raises(ConfigError, match="`max_bytes`: shorten `lookback`"):
        dm.arrays("predict", max_bytes=100)
    with pytest.raises(ConfigError, match="max_bytes is 0: it must be a whole number from 1 up"):
        dm.arrays("train", max_bytes=0)


def test_what_a_transform_makes_larger_is_refused_too(tmp_path: Path) -> None:
    size = sum(getattr(make_datamodule(tmp_path).arrays("train"), name).nbytes for name in FIELDS)
    dm = make_datamodule(tmp_path, transform=double)
    with pytest.raises(ConfigError, match="the arrays of train would take"):
        dm.arrays("train", max_bytes=size)
    with pytest.raises(ConfigError, match=r"the transform gave Arrays\(x .* for \d+ samples"):
        make_datamodule(tmp_path, transform=halve).arrays("train")


def test_arrays_are_there_after_setup_and_of_a_stage(tmp_path: Path) -> None:
    with pytest.raises(NotPreparedError, match=r"call prepare_data\(\) and setup\(\) first"):
        make_datamodule(tmp_path, ready=False).arrays("train")
    with pytest.raises(ConfigError, match="there is no stage 'training'"):
        make_datamodule(tmp_path).arrays("training")  # type: ignore[arg-type]


# --- with the libraries that they are for ---------------------------------------------------------


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    make = partial(make_datamodule, tmp_path_factory.mktemp("month"))
    return make(horizon=1, target=Direction(classes=True), split=FractionSplit(0.1, 0.2))


def test_scikit_learn_learns_from_them(month: BTCDataModule) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not there")
    train, test = month.arrays("train"), month.arrays("test")
    model = linear_model.LogisticRegression(max_iter=200).fit(train.x_table, train.y_table)
    probability = model.predict_proba(test.x_table)
    assert probability.shape == (len(test), month.n_classes)
    forecast = model.predict(test.x_table)
    card = month.score({"model": {"origin_time": test.origin_time, "forecast": forecast[:, None]}})
    assert "model" in card.measures["forecast"].to_list()


def test_lightgbm_learns_from_them_under_their_names(month: BTCDataModule) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed")
    train = month.arrays("train")
    data = lightgbm.Dataset(train.x_table, train.y_table, feature_name=train.columns)
    params = {"objective": "binary", "verbose": -1, "num_leaves": 4, "num_threads": 1}
    booster = lightgbm.train(params, data, num_boost_round=3)
    assert booster.feature_name() == train.columns
    assert booster.predict(month.arrays("test").x_table).shape == (len(month.arrays("test")),)
