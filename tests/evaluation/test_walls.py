"""Walls: what train is made of begins with a bar of its own, and the embargo is counted from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule import (
    Batch,
    BTCDataModule,
    Candles,
    CombinatorialPurged,
    CumulativeReturn,
    FractionSplit,
    Split,
)
from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation.splits import Fold
from btc_datamodule.evaluation.walls import find_embargo, find_train_runs, find_wall
from btc_datamodule.features.build import build
from btc_datamodule.features.table import Table
from btc_datamodule.features.varying import change_bars
from tests.evaluation.folds import Gapped, next_present
from tests.factories import HOUR, START, InMemory, make_datamodule, random_hourly
from tests.features.tables import ROWS, recipe, series
from tests.helpers import write
from tests.marks import keep_some

BARS = 400


def candles_without(*absent: int, changed: range = range(0)) -> Candles:
    """Bars of a random walk without some of them, and with others in ``changed``."""
    rows = np.arange(BARS)
    whole = random_hourly([True] * BARS, seed=5)
    columns = change_bars(whole.columns, 2.0, np.isin(rows, changed))
    kept = ~np.isin(rows, absent)
    return Candles(HOUR, {name: values[kept] for name, values in columns.items()})


def datamodule(folder: Path, candles: Candles, **arguments: Any) -> BTCDataModule:
    settings: dict[str, Any] = {"features": ["log_return", "log_range"], "lookback": 4}
    return make_datamodule(folder, source=InMemory(candles), **settings | arguments)


def train_of(dm: BTCDataModule) -> Batch:
    windows = dm.dataset("train")
    return windows[np.arange(len(windows))]


def rows_of(batch: Batch) -> list[int]:
    return ((batch.origin_time - START) // HOUR).tolist()


def assert_same_train(one: BTCDataModule, other: BTCDataModule) -> None:
    for a, b in zip(train_of(one), train_of(other), strict=True):
        assert torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
    mine, theirs = one.state_dict(), other.state_dict()
    for name in ("fold", "scaler", "target_scaler", "train_digest"):
        assert mine[name] == theirs[name], name


# --- a hole after a test span -------------------------------------------------------------------

SPLITS = {  # both test rows up to 199 or 279, and train right after
    "combinatorial": (CombinatorialPurged(4, 1, fold=1), 200),
    "a split of one's own": (Gapped(), 280),
    "with a gap": (Gapped(after_test=1), 280),
}


@pytest.mark.each_value
@pytest.mark.parametrize("embargo", keep_some([1, 0, 8, 2], 2))
@pytest.mark.parametrize("split", SPLITS)
def test_no_filled_bar_takes_a_bar_of_test_into_train(
    tmp_path: Path, split: str, embargo: int
) -> None:
    """Two bars after a test span are absent, and show the last close before, whatever that is."""
    chosen, edge = SPLITS[split]
    hole = (edge, edge + 1)
    arguments: dict[str, Any] = {"split": chosen, "embargo": embargo, "batch_size": 16}
    arguments |= {"horizon": 2, "target": CumulativeReturn(), "target_scaling": "train"}
    for number, shape in enumerate(
        ({}, {"features": ["log_range"], "lookback": 1})  # the second: in y alone
    ):
        clean = datamodule(tmp_path / f"{number}", candles_without(*hole), **arguments | shape)
        for name, candles in {
            "last changed": candles_without(*hole, changed=range(edge - 1, edge)),
            "all changed": candles_without(*hole, changed=range(edge - 80, edge)),
            "removed": candles_without(*hole, *range(edge - 5, edge)),
            "only one": candles_without(*hole, *range(edge - 5, edge - 1)),
        }.items():
            other = datamodule(tmp_path / f"{number}-{name}", candles, **arguments | shape)
            assert_same_train(clean, other)
        # Two rows show a bar of test; then the embargo, the warm-up and the rest of the window.
        first = min(row for row in rows_of(train_of(clean)) if row >= edge)
        assert first == edge + 2 + embargo + clean.table.warm_up + clean.lookback - 1


def test_bars_that_go_missing_after_the_end_of_train_leave_train_alone(tmp_path: Path) -> None:
    """The last two bars of train are absent: rows 238 and 239."""
    arguments: dict[str, Any] = {"split": FractionSplit(0.2, 0.2), "target_scaling": "robust"}
    arguments |= {"eval_stride": 1}
    clean = datamodule(tmp_path / "clean", candles_without(238, 239), **arguments)
    assert clean.fold.train == ((START, START + 240 * HOUR),)
    for until in (241, 246, 300):
        absent = candles_without(*range(238, until))
        other = datamodule(tmp_path / str(until), absent, **arguments)
        assert_same_train(clean, other)
        assert other.table.observed[238:240].tolist() == [1, 1]
        assert len(other.dataset("val")) < len(clean.dataset("val"))


# --- the embargo --------------------------------------------------------------------------------


@pytest.mark.each_value
@pytest.mark.parametrize("hole", [range(0), range(280, 283), range(300, 310), range(275, 340)])
@pytest.mark.parametrize("bars", [0, 1, 24, 48, 60])
def test_an_embargo_counts_from_test_however_long_after_it_train_begins(
    tmp_path: Path, bars: int, hole: range
) -> None:
    """Test ends at row 280; train goes on ``bars`` later. A sample reads 5 rows up to its origin.

    Both are counted from the first bar there is: a hole puts it off.
    """
    present = np.isin(np.arange(BARS), hole, invert=True).tolist()
    for embargo in (0, 48):
        dm = datamodule(
            tmp_path / str(embargo),
            candles_without(*hole),
            split=Gapped(after_test=bars),
            embargo=embargo,
        )
        rows = rows_of(train_of(dm))
        first_read = min(row for row in rows if row >= 280) - 4
        free = next_present(present, 280) + embargo
        assert first_read == max(free, next_present(present, 280 + bars))
        if not hole:
            assert first_read == 280 + max(embargo, bars)
        train = dm.describe().filter(stage="train").to_dicts()[1]
        due = max(0, free - next_present(present, 280 + bars))
        assert (train["embargo"] > 0) == (due > 0)


# --- walls of any spans -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Holes in rows [30, 32) and [60, 70) of 120; two features that take two bars."""
    path = write(tmp_path_factory.mktemp("walls") / "candles.h5", series())
    return Table.open(build(path, recipe()))


INSTANTS = st.integers(-5, ROWS + 5).map(lambda row: START + row * HOUR)
SPANS = st.lists(INSTANTS, min_size=2, max_size=2, unique=True).map(lambda ab: (min(ab), max(ab)))


@given(SPANS, st.lists(SPANS, max_size=3), st.lists(SPANS, max_size=3), *[st.integers(0, 40)] * 2)
@settings(max_examples=300)
def test_walls_and_embargoes_are_those_of_the_rows_tried_one_by_one(
    holed: Table, train: Span, val: list[Span], test: list[Span], embargo: int, purge: int
) -> None:
    present = np.isin(np.arange(ROWS), [30, 31, *range(60, 70)], invert=True).tolist()

    def begins(instant: int) -> int:
        row = max((instant - START) // HOUR, 0)
        return row if row >= ROWS else next_present(present, row)

    wall = begins(train[0])
    # An edge before the table is one that nothing in it lies before: no bar waits for it longer.
    edges = [end for _, end in (*val, *test) if end <= train[0]]
    free = [
        begins(end) + embargo if end >= START else (end - START) // HOUR + embargo for end in edges
    ]
    fold = Fold.of([train], val, test, holed.span[1])
    assert find_wall(holed, train) == wall
    assert find_embargo(holed, fold, train, embargo) == max([wall, *free])
    ((low, high),) = find_train_runs(holed, fold, embargo=embargo, purge=purge)
    due = [
        row
        for row in range(ROWS)
        if row >= max([wall, *free]) + holed.warm_up and START + (row + purge) * HOUR < train[1]
        if row + purge < ROWS
    ]
    assert list(range(low, high)) == due
    assert 0 <= low <= high <= ROWS


# --- many spans ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Striped(Split):
    """Trains on two bars of three, and tests on the last 70 of 400."""

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        start, end = span
        edges = [start + row * interval for row in range(0, 330, 3)]
        train = [(edge, edge + 2 * interval) for edge in edges]
        return (Fold.of(train, [], [(start + 330 * interval, end)], end),)


def test_spans_of_train_alone_may_be_the_first_hundred(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"features": ["log_range"], "lookback": 1, "horizon": 1}
    dm = datamodule(tmp_path, candles_without(), split=Striped(), batch_size=1, **shape)
    frame = dm.describe()
    assert frame["stage"].to_list() == ["train"] * 110 + ["test", "predict"]
    assert frame["windows"].to_list() == [1] * 110 + [70, 71]
    assert frame["scored"].to_list() == [None] * 110 + [70, None]
