"""Days that open at 08:00 UTC and weeks from Monday, the whole way from a CSV to a fit."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from btc_datamodule import BTCDataModule, CandleFile, ConfigError, DateSplit, WalkForward
from btc_datamodule.candles.timeline import (
    floor_to,
    format_instant,
    parse_instant,
    parse_interval,
)
from btc_datamodule.features.table import Table
from btc_datamodule.testing import SourceContract, SplitContract
from tests.factories import HOUR, candles_of, make_datamodule, make_model, make_trainer

DAY, WEEK = 24 * HOUR, 168 * HOUR

GRIDS = {
    "days from 08:00": ("1d", "8h", "2020-01-01T08:00", DAY),
    "days from 16:00": ("1d", "16h", "2019-12-31T16:00", DAY),
    "weeks from Monday": ("1w", None, "2019-12-30", WEEK),
    "weeks from Sunday": ("7d", "6d", "2019-12-29", WEEK),
    "weeks from Monday 08:00": ("1w", "8h", "2019-12-30T08:00", WEEK),
}


def make(folder: Path, grid: str, rows: int = 300, **more: Any) -> BTCDataModule:
    """A datamodule on a CSV of bars of a grid, with some of them absent."""
    interval, offset, first, step = GRIDS[grid]
    present = np.delete(np.arange(rows), [40, 41, 90])
    times = parse_instant(first) + step * present
    bars = candles_of(times.tolist(), parse_interval(interval, offset))
    bars.to_polars().write_csv(folder / "bars.csv")
    settings = {"lookback": 6, "horizon": 2, "batch_size": 8, **more}
    return make_datamodule(
        folder,
        source=CandleFile(str(folder / "bars.csv"), product="BTC"),
        interval=interval,
        offset=offset,
        features=[
            "log_return",
            "day_sin",
            "week_cos",
            "drift = close / close.shift(3)",
        ],
        **settings,
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_bars_of_any_grid_go_the_whole_way(tmp_path: Path, grid: str) -> None:
    interval, offset, first, step = GRIDS[grid]
    dm = make(tmp_path, grid)
    start = parse_instant(first)
    assert dm.interval == parse_interval(interval, offset) == dm.table.interval
    assert dm.offset == start % step  # type: ignore[attr-defined]
    assert (dm.table.first, dm.table.rows, dm.table.present) == (start, 300, 297)
    assert dm.table.holes.tolist() == [[40, 42], [90, 91]]
    fold = dm.fold
    edges = {edge for span in (*fold.train, *fold.val, *fold.test) for edge in span}
    assert {edge % step for edge in edges} == {start % step}
    batch = dm.dataset("train")[np.arange(3)]
    assert ((batch.origin_time.numpy() - start) % step == 0).all()
    counted = dm.describe()
    assert counted["from"].dt.epoch("s").to_list()[0] == start
    assert counted.filter(pl.col("stage") == "train")["bars"].sum() == 210
    make_trainer(tmp_path, max_epochs=1).fit(make_model(dm), dm)


@pytest.mark.parametrize("grid", ["days from 08:00", "weeks from Monday"])
def test_the_audit_passes_on_any_grid(tmp_path: Path, grid: str) -> None:
    found = make(tmp_path, grid, rows=500).audit()
    assert found.passed, str(found)


def test_files_of_two_grids_do_not_mix(tmp_path: Path) -> None:
    eight, sixteen = (make(tmp_path, f"days from {when}") for when in ("08:00", "16:00"))
    assert eight.candle_path.parent.name == "1d+8h"
    assert sixteen.candle_path.parent.name == "1d+16h"
    assert eight.settings.comparable["interval"] == "1d+8h"
    with pytest.raises(ConfigError, match=r"interval was '1d\+8h', is '1d\+16h'"):
        sixteen.load_state_dict(eight.state_dict())


def test_boundaries_by_date_are_rounded_up_to_the_grid(tmp_path: Path) -> None:
    dm = make(tmp_path, "days from 08:00", split=DateSplit("2020-08-01", "2020-09-01T09:00"))
    assert format_instant(dm.fold.val[0][0]) == "2020-08-01T08:00:00Z"
    assert format_instant(dm.fold.test[0][0]) == "2020-09-02T08:00:00Z"
    walk = make(tmp_path, "days from 08:00", split=WalkForward("150d", "20d", "1000h"))
    for fold in walk.split.folds(walk.table.span, walk.table.interval):
        for span in (*fold.train, *fold.val, *fold.test):
            assert all(floor_to(edge, walk.interval) == edge for edge in span)


def test_a_table_in_another_process_knows_its_grid(tmp_path: Path) -> None:
    dm = make(tmp_path, "weeks from Sunday")
    assert Table.open(dm.table.path).interval == parse_interval("1w", "6d")


def test_an_offset_is_fixed_and_kept_in_hyperparameters(tmp_path: Path) -> None:
    dm = make(tmp_path, "days from 08:00")
    assert (dm.hparams["interval"], dm.hparams["offset"]) == ("1d", "8h")
    with pytest.raises(ConfigError, match="offset decides the windows"):
        dm.offset = "9h"
    with pytest.raises(ConfigError, match="offset '2d' is no length of time"):
        BTCDataModule(interval="1d", offset="2d")


class TestDaysFromEight(SourceContract):
    interval = "1d+8h"
    span = ("2020-01-01T08:00", "2020-02-10T08:00")

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.file = tmp_path / "bars.csv"
        times = parse_instant("2020-01-01T08:00") + DAY * np.delete(np.arange(40), [3, 9])
        candles_of(times.tolist(), parse_interval("1d", "8h")).to_polars().write_csv(self.file)

    def make(self) -> CandleFile:
        return CandleFile(str(self.file), product="BTC")


class TestWalkOverWeeks(SplitContract):
    interval = "1w"
    span = ("2019-12-30", "2024-12-30")
    anchored = True

    def make(self) -> WalkForward:
        return WalkForward("300d", "30d", 10)
