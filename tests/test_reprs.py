"""What a person sees who prints a thing of the package: short, and nothing of the machine."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from btc_datamodule import BTCDataModule, CombinatorialPurged, Feature
from btc_datamodule.evaluation.scaling import Scaler
from btc_datamodule.evaluation.stage_table import StageTable
from tests.factories import make_datamodule


@pytest.fixture(scope="module")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    own = Feature("own", 2, lambda bars: bars["close"])
    return make_datamodule(
        tmp_path_factory.mktemp("data"), features=["log_return", "rise = close - open", own]
    )


def test_a_datamodule_says_what_it_is_before_and_after_setup(dm: BTCDataModule) -> None:
    raw = BTCDataModule(dm.source, start="2021-03-01", lookback=12, horizon=3)
    assert str(raw).splitlines() == [
        "BTCDataModule: simulator BTC-SIM-1-out50, 1h, 2021-03-01T00:00:00Z to the last",
        "  x  (12, 3)  log_return, log_range, log_volume; scaling train",
        "  y  (3, 1)  LogReturn(); scaling none",
        "  not set up: prepare_data() and setup() come next",
    ]
    counts = {stage: len(dm.dataset(stage)) for stage in ("train", "val", "test", "predict")}
    assert repr(dm) == str(dm)
    lines = str(dm).splitlines()
    assert lines[:2] == [
        "BTCDataModule: simulator BTC-SIM-1-out50, 1h, "
        "2021-03-01T00:00:00Z to 2021-04-01T00:00:00Z",
        "  x  (12, 3)  log_return, rise = close - open, own; scaling train",
    ]
    for line, (stage, count) in zip(lines[3:], counts.items(), strict=True):
        assert re.fullmatch(rf"  {stage} +{count} windows  2021-03-\S+ to \S.*", line)


def list_things(dm: BTCDataModule) -> dict[str, Any]:
    loader = dm.train_dataloader()
    return {
        "dm": dm,
        "settings": dm.settings,
        "table": dm.table,
        "stages": dm.stages,
        "fitted": dm.stages.fitted,
        "scaler": dm.scaler,
        "fold": dm.fold,
        "dataset": dm.dataset("train"),
        "loader": loader,
        "batch": next(iter(loader)),
        "feature": dm.features[0],
        "origins": dm.dataset("train").origins,
    }


def test_nothing_prints_an_address_or_an_array(dm: BTCDataModule) -> None:
    for name, thing in list_things(dm).items():
        said = repr(thing)
        assert not re.search(r" at 0x|object at|array\(|tensor\(|<function", said), name
        assert len(said) < 900, name


def test_each_says_what_a_reader_looks_for(dm: BTCDataModule) -> None:
    things = {name: repr(thing) for name, thing in list_things(dm).items()}
    assert things["feature"] == "Feature('log_return', lookback=2)"
    assert repr(dm.features[1]) == "Feature('rise = close - open', lookback=1)"
    assert "features=['log_return', 'rise = close - open', 'own']" in things["settings"]
    assert "744 rows of 1h, 2021-03-01T00:00:00Z to 2021-04-01T00:00:00Z" in things["table"]
    assert things["stages"].startswith(f"Stages(train {len(dm.dataset('train'))}, val ")
    assert things["fold"].startswith(
        "Fold(train: 2021-03-01T00:00:00Z to 2021-03-22T17:00:00Z; val"
    )
    assert things["batch"] == (
        "Batch(x (32, 12, 3) float32, y (32, 3, 1) float32, observed (32, 12) bool, "
        "origin_time (32,) int64)"
    )
    assert repr(dm.dataset("train")[0]).startswith("Batch(x (12, 3) float32, y (3, 1)")
    origins = f"{len(dm.dataset('train'))} windows: x (12, 3), y (3, 1), origins 2021-03-01T"
    assert things["dataset"].startswith(f"WindowDataset({origins}")
    assert things["loader"].startswith("WindowLoader(")
    assert " batches of WindowDataset(" in things["loader"]


def test_many_features_are_not_all_listed() -> None:
    scaler = Scaler("train", (0.123456,) * 1000, (2.0,) * 1000)
    assert repr(scaler) == (
        "Scaler(train: center 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235 and 994 more; "
        "scale 2, 2, 2, 2, 2, 2 and 994 more)"
    )


def test_an_audit_prints_its_report(dm: BTCDataModule) -> None:
    found = dm.audit(ask_source=False)
    assert repr(found) == str(found)
    assert repr(found).startswith("audit of ")


# --- the stages ---------------------------------------------------------------------------------


def test_describe_prints_every_column_within_a_hundred_characters(dm: BTCDataModule) -> None:
    table = dm.describe()
    assert isinstance(table, pl.DataFrame)
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines] == table.columns
    assert max(map(len, lines)) <= 100
    windows = next(line for line in lines if line.startswith("windows"))
    assert windows.split()[1:] == [str(count) for count in table["windows"]]
    assert lines[1].split()[1:3] == ["2021-03-01", "00:00"]
    html = table._repr_html_()
    assert all(name in html for name in table.columns)


def test_more_spans_than_fit_are_printed_below(tmp_path: Path) -> None:
    split = CombinatorialPurged(n_groups=6, n_test_groups=3, fold=7)
    table = make_datamodule(tmp_path, split=split).describe()
    text = str(table)
    assert len(table) > 5
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("\nwindows ") == 2
    shown = [
        word for line in text.splitlines() if line[:6] == "stage " for word in line.split()[1:]
    ]
    assert shown == table["stage"].to_list()


def test_what_is_made_of_it_is_a_frame_like_any_other(dm: BTCDataModule) -> None:
    table = dm.describe()
    assert table.filter(pl.col("stage") == "val")["windows"].item() == len(dm.dataset("val"))
    assert "shape: (4, 1)" in str(table.select("windows"))
    assert str(StageTable(table.clear())).startswith("shape: (0, ")
    odd = StageTable({"stage": ["val"], "from": [datetime(2021, 1, 1, 0, 0, 7)], "bars": [1_000]})
    assert str(odd).splitlines()[1:] == ["from   2021-01-01 00:00:07", "bars                 1,000"]
