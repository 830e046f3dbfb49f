"""The calendar of holes against a count bar by bar."""

from pathlib import Path

import numpy as np
import pytest

from btc_datamodule import BTCDataModule
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.overview.holes import DAY, count_holes
from tests.factories import HOUR, InMemory, candles_of, make_datamodule


def test_each_cell_is_the_share_of_its_bars_that_are_there(holed: BTCDataModule) -> None:
    table = holed.table
    found = count_holes(table)
    assert (found.step, found.cell) == (DAY, HOUR)
    assert found.share.shape == (31, 24)
    assert found.first == parse_instant("2021-03-01")
    present = np.ones(table.rows)
    for low, high in table.holes:
        present[low:high] = 0
    np.testing.assert_array_equal(found.share.ravel(), present)
    assert found.bars.sum() == table.rows
    assert found.absent == table.rows - table.present == int((1 - found.share).sum())
    assert found.count == len(table.holes)
    assert found.starts[1] - found.starts[0] == DAY
    assert found.hours.tolist() == list(range(24))


def test_a_long_history_has_a_column_for_each_week(holed: BTCDataModule) -> None:
    table = holed.table
    days, weeks = count_holes(table), count_holes(table, most_days=10)
    assert weeks.step == 7 * DAY
    assert weeks.first == parse_instant("2021-03-01")  # a Monday
    assert weeks.bars.sum() == days.bars.sum()
    np.testing.assert_array_equal(weeks.bars[0], [7] * 24)
    np.testing.assert_allclose(weeks.share[0], days.share[:7].mean(axis=0))


@pytest.mark.parametrize(
    ("interval", "step", "cell"), [(900, DAY, HOUR), (4 * HOUR, DAY, 4 * HOUR), (DAY, DAY, DAY)]
)
def test_bars_of_any_length_have_cells(tmp_path: Path, interval: int, step: int, cell: int) -> None:
    there = np.ones(300, dtype=bool)
    there[100:110] = False
    source = InMemory(candles_of(there, interval=interval))
    names = {900: "15m", 4 * HOUR: "4h", DAY: "1d"}
    dm = make_datamodule(tmp_path, source=source, interval=names[interval], batch_size=4)
    found = count_holes(dm.table)
    assert (found.step, found.cell) == (step, cell)
    assert (found.absent, found.count, found.longest) == (10, 1, 10)
    known = found.bars > 0
    assert np.isnan(found.share[~known]).all()
    assert int(((1 - found.share) * found.bars)[known].sum().round()) == 10
