"""What a sample has of covariates, too, comes from behind the wall of its span."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import pytest

from btc_datamodule import (
    BTCDataModule,
    CombinatorialPurged,
    FractionSplit,
    Resampled,
    SimulatedFunding,
    SimulatedOpenInterest,
    Simulator,
    Split,
)
from btc_datamodule.evaluation.walls import find_crossing, find_embargo, find_train_runs, find_wall

FOLDER = TemporaryDirectory()


@cache
def make(
    split: Split,
    embargo: int = 0,
    context: Literal["allow", "strict"] = "allow",
    mask: Literal["bar", "feature"] = "bar",
) -> BTCDataModule:
    made = BTCDataModule(
        Simulator(seed=5, outages_per_year=60),
        interval="1h",
        start="2024-01-01",
        end="2024-04-01",
        covariates={
            "day": Resampled("1d"),
            "funding": SimulatedFunding(seed=5),
            "oi": Resampled("4h", of=Simulator(seed=5, coin="ETH")),
            "late": SimulatedOpenInterest(seed=5, late=0.2, missing=0.1),
        },
        features=[
            "log_return",
            "slow = day.close.log().diff(3)",
            "funding.rate",
            "oi.log_return",
            "held = late.sum_open_interest.log().diff(24)",
        ],
        lookback=12,
        horizon=3,
        min_observed=0.8,
        split=split,
        embargo=embargo,
        context=context,
        mask=mask,
        data_dir=str(Path(FOLDER.name) / "data"),
    )
    made.prepare_data()
    made.setup()
    return made


SPLITS = [
    CombinatorialPurged(n_groups=6, n_test_groups=2, fold=4),
    CombinatorialPurged(n_groups=5, n_test_groups=1, fold=1),
]


@pytest.mark.each_value
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("embargo", [0, 30])
@pytest.mark.parametrize("mask", ["bar", "feature"])
def test_no_train_sample_has_anything_of_a_covariate_from_before_its_wall(
    split: Split, embargo: int, mask: Literal["bar", "feature"]
) -> None:
    dm = make(split, embargo, mask=mask)
    table, reach = dm.table, np.array(dm.table.reach)
    windows = dm.dataset("train")
    origins = windows.origins[np.arange(len(windows))]
    walled = 0
    for span in dm.fold.train:
        wall = max(find_wall(table, span), find_embargo(table, dm.fold, span, embargo))
        own = origins[
            (table.find_time(0) + table.interval * (origins + 1) >= span[0])
            & (origins + 1 < table.find_row(span[1]))
            & (origins >= wall)
        ]
        inputs = own[:, np.newaxis] - np.arange(dm.lookback)
        if wall > 0:
            assert (reach[inputs] >= table.find_time(wall)).all()
            walled += len(own)
    assert walled > 50
    for low, high in find_train_runs(table, dm.fold, embargo=embargo, purge=0):
        walls = [
            max(find_wall(table, span), find_embargo(table, dm.fold, span, embargo))
            for span in dm.fold.train
        ]
        behind = max(wall for wall in walls if wall <= low)
        assert behind == 0 or (reach[low:high] >= table.find_time(behind)).all()


def test_nothing_else_is_left_out_for_it() -> None:
    split = CombinatorialPurged(n_groups=6, n_test_groups=2, fold=4)
    dm = make(split)
    table, reach = dm.table, np.array(dm.table.reach)
    span = next(span for span in dm.fold.train if table.find_row(span[0]) > 0)
    wall, end = find_wall(table, span), table.find_row(span[1])
    crossing = {row for run in find_crossing(table, wall, end).tolist() for row in range(*run)}
    assert crossing == {row for row in range(wall, end) if reach[row] < table.find_time(wall)}
    # Three days' change of daily closes, known up to a day ago, reaches over five days back.
    assert 3 * 24 < len(crossing) < 6 * 24
    found = [each.dropped.history for each in dm.stages.count_origins("train")]
    assert max(found) >= len(crossing)


def test_the_start_of_the_table_is_no_wall() -> None:
    dm = make(FractionSplit())
    table = dm.table
    assert table.has_reach
    assert len(find_crossing(table, 0, table.rows)) == 0
    first = int(dm.dataset("train").origins[np.array([0])][0])
    seen = np.flatnonzero(table.observed == 1)
    assert first <= seen[0] + dm.lookback


def test_with_a_strict_context_val_and_test_have_nothing_from_before_either() -> None:
    dm = make(FractionSplit(), context="strict")
    table, reach = dm.table, np.array(dm.table.reach)
    for stage in ("val", "test"):
        (span,) = dm.fold.spans(stage)
        wall = find_wall(table, span)
        windows = dm.dataset(stage)
        origins = windows.origins[np.arange(len(windows))]
        inputs = origins[:, np.newaxis] - np.arange(dm.lookback)
        assert len(origins) > 50
        assert (reach[inputs] >= table.find_time(wall)).all()
    free = make(FractionSplit())
    assert len(free.dataset("val")) > len(dm.dataset("val"))
