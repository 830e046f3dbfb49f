"""The feature file with ``mask: feature``: which cells are observed, and what is told of them."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.features import layout
from btc_datamodule.features.build import build
from btc_datamodule.features.cells import find_cells, split_cells
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.table import Table
from btc_datamodule.features.undefined import find_void, judge_rows
from btc_datamodule.store.candle_file import read_header
from tests.factories import HOUR, T0
from tests.features.tables import OUTAGE, PATCHY, ROWS, recipe

FEATURES = ("log_return", "day_sin", PATCHY, "slow = close / close.shift(3) - 1")
WARM_UP = 3


def has_value(name: str, row: int) -> bool:
    """Whether a feature has one in a row, by the bars that are known."""
    back = {"log_return": 1, "slow": 3}.get(name, 0)
    known = row - back >= 0 and not {*range(row - back, row + 1)} & {*range(ROWS)[OUTAGE]}
    return known and (name != "patchy" or row % 5 < 2)


@pytest.fixture
def masked(candles: Path) -> Table:
    return Table.open(build(candles, recipe(*FEATURES, mask="feature")))


def test_a_cell_is_observed_where_its_own_feature_has_a_value(masked: Table, candles: Path) -> None:
    assert (masked.mask, masked.flag, masked.warm_up) == ("feature", False, WARM_UP)
    due = np.zeros((ROWS, 4), dtype=np.uint8)
    for (row, column), name in zip(
        product(range(WARM_UP, ROWS), range(4)), list(masked.features) * ROWS, strict=False
    ):
        due[row, column] = has_value(name, row)
    np.testing.assert_array_equal(masked.observed, due)
    assert masked.observed.shape == masked.x.shape
    # By hand: of the rows after the outage the fourth is the first with all, but for patchy.
    assert masked.observed[69:76].tolist() == [
        [0, 0, 0, 0],
        [0, 1, 1, 0],
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [1, 1, 0, 1],
        [1, 1, 0, 1],
        [1, 1, 1, 1],
    ]
    assert not masked.x[due == 0].any()
    of_bars = Table.open(build(candles, recipe(*FEATURES)))
    np.testing.assert_array_equal(of_bars.observed, due.all(axis=1))
    seen = of_bars.observed == 1
    np.testing.assert_array_equal(masked.x[seen], of_bars.x[seen])
    np.testing.assert_array_equal(masked.unobserved, of_bars.unobserved)


def test_what_the_file_tells_of_cells_is_so(masked: Table) -> None:
    assert masked.unobserved_cells.tolist() == find_cells(masked.observed == 0, 0).tolist()
    assert masked.valued.tolist() == masked.observed.sum(axis=0).tolist()
    runs = split_cells(masked.undefined, 4)
    assert [len(each) for each in runs] == [0, 0, len(runs[2]), 0]
    undefined = [row for low, high in runs[2].tolist() for row in range(low, high)]
    outage = {*range(ROWS)[OUTAGE]}
    assert undefined == [row for row in range(3, ROWS) if row % 5 >= 2 and row not in outage]
    assert find_void(masked) == []


@pytest.mark.parametrize("flag", [False, True])
def test_statistics_are_those_of_the_cells_that_are_observed(
    candles: Path, monkeypatch: pytest.MonkeyPatch, flag: bool
) -> None:
    monkeypatch.setattr(layout, "SEGMENT_ROWS", 50)
    table = Table.open(build(candles, recipe(*FEATURES, mask="feature", flag=flag)))
    assert len(table.moments) == 4
    for moments, rows in zip(table.moments, table.segments(0, ROWS), strict=True):
        for column in range(4):
            x = table.x[rows, column].astype(np.float64)
            values = x[(table.observed[rows, column] == 1) & ~np.isnan(x)]
            assert moments.n[column] == len(values)
            assert moments.mean[column] == pytest.approx(values.mean(), rel=1e-12, abs=1e-15)
            squares = ((values - values.mean()) ** 2).sum()
            assert moments.squares[column] == pytest.approx(squares, rel=1e-9)


def test_undefined_cells_that_are_kept_are_observed_nan_and_flagged(candles: Path) -> None:
    table = Table.open(build(candles, recipe(*FEATURES, mask="feature", flag=True)))
    assert table.features == ("log_return", "day_sin", "patchy", "slow", "undefined")
    outage = {*range(ROWS)[OUTAGE]}
    for row in range(ROWS):
        known = row >= WARM_UP and row not in outage
        assert table.observed[row, [1, 2, 4]].tolist() == [known] * 3
        assert np.isnan(table.x[row, 2]) == (known and row % 5 >= 2)
        assert table.x[row, 4] == (known and row % 5 >= 2)
    # The flag is always 0 where it counts, and so is scaled as it is.
    assert [(each.mean[4], each.squares[4]) for each in table.moments] == [(0, 0)]
    assert table.moments[0].n[4] == table.moments[0].n[2] == table.valued[2]
    assert len(table.valued) == 4


def test_the_mask_is_in_the_key_and_a_file_of_the_other_is_none_of_these(
    candles: Path, masked: Table
) -> None:
    header = read_header(candles)
    mine, other = recipe(*FEATURES, mask="feature"), recipe(*FEATURES)
    assert mine.compute_key(header) == masked.key != other.compute_key(header)
    assert mine.describes(masked, header)
    assert not other.describes(masked, header)
    assert not recipe(*FEATURES, mask="feature", flag=True).describes(masked, header)


@pytest.mark.parametrize("mask", ["bar", "feature"])
def test_features_without_a_value_anywhere_are_named_whatever_the_reason(
    candles: Path, mask: Any
) -> None:
    never = Feature("never", 1, pl.lit(None, dtype=pl.Float64) + pl.col("close"))
    long = "long = close.rolling_mean(80)"
    table = Table.open(build(candles, recipe("log_return", never, long, mask=mask)))
    assert find_void(table) == ["never", "long"], "of long no lookback is without the outage"
    early = Feature("early", 1, pl.when(pl.col("open_time") < T0 + 5 * HOUR).then(1.0))
    table = Table.open(build(candles, recipe("log_return", early, mask=mask)))
    assert find_void(table) == []


@given(st.integers(0, 9999), st.booleans())
@settings(max_examples=100)
def test_a_row_is_observed_as_a_whole_where_all_of_its_cells_are(seed: int, flag: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (30, int(rng.integers(1, 4)))
    known, counts = rng.random(shape) < 0.7, rng.random(shape) < 0.7
    values: NDArray[np.float32] = np.where(rng.random(shape) < 0.7, 1.5, np.nan).astype("f4")
    ours, theirs = (
        judge_rows(values.copy(), known, counts, flag=flag, by_feature=each)
        for each in (True, False)
    )
    np.testing.assert_array_equal(ours.observed.all(axis=1), theirs.observed)
    defined = np.isfinite(values)
    due = counts & (defined | (known & flag))
    np.testing.assert_array_equal(ours.observed[:, : shape[1]], due)
    np.testing.assert_array_equal(ours.undefined, counts & known & ~defined)
    np.testing.assert_array_equal(ours.valued, counts & defined)
    np.testing.assert_array_equal(theirs.valued, ours.valued)
    assert not ours.x[:, : shape[1]][~due].any()
    np.testing.assert_array_equal(np.isnan(ours.x).any(axis=1), flag & ours.undefined.any(axis=1))
    if flag:
        np.testing.assert_array_equal(ours.x[:, -1], ours.undefined.any(axis=1))
        np.testing.assert_array_equal(ours.observed[:, -1], due.any(axis=1))
