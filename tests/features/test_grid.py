"""The regular grid: short holes filled, long ones left, and the same bars in blocks of any size."""

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule.candles.series import OPTIONAL, PRICES, Candles
from btc_datamodule.candles.timeline import Span
from btc_datamodule.errors import ConfigError
from btc_datamodule.features.grid import Grid
from btc_datamodule.store.candle_file import CandleReader
from tests.factories import HOUR, T0, candles_of
from tests.helpers import write

MASKS = st.lists(st.booleans(), max_size=20).map(lambda rows: np.array(rows, dtype=bool))

EVER: Span = (0, 2**40)
NAMES = (*PRICES, "volume", *OPTIONAL)


def expected(series: Candles, max_fill: int) -> tuple[list[list[int]], dict[str, list[float]]]:
    """Outages and columns of the whole grid, bar by bar."""
    start, end = series.span
    at = {t: i for i, t in enumerate(series.open_time.tolist())}
    times = list(range(start, end, series.interval))
    columns: dict[str, list[float]] = {name: [] for name in NAMES}
    outages: list[list[int]] = []
    row = 0
    while row < len(times):
        if times[row] in at:
            for name in NAMES:
                columns[name].append(float(series[name][at[times[row]]]))
            row += 1
            continue
        length = next(k for k in range(1, len(times)) if times[row + k] in at)
        if length > max_fill:
            outages.append([row, row + length])
        for name in NAMES:
            value = columns["close"][row - 1] if name in PRICES else 0.0
            unknown = length > max_fill or name not in series.columns
            columns[name] += [float("nan") if unknown else value] * length
        row += length
    return outages, columns


def assert_equal(bars: dict[str, NDArray[np.float64]], columns: dict[str, list[float]]) -> None:
    assert set(bars) == set(NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(bars[name], columns[name], err_msg=name)


@pytest.mark.parametrize(("length", "filled"), [(1, True), (3, True), (4, False)])
def test_a_hole_is_filled_up_to_max_fill_bars_and_an_outage_beyond(
    tmp_path: Path, length: int, filled: bool
) -> None:
    present = np.ones(12, dtype=bool)
    present[5 : 5 + length] = False
    series = candles_of(present, optional=["trades"])
    with CandleReader(write(tmp_path / "candles.h5", series)) as reader:
        grid = Grid.of(reader, EVER, max_fill=3)
        bars = grid.read_bars(reader, 0, 12)
    hole = slice(5, 5 + length)
    assert (grid.first, grid.rows, grid.present, grid.holes) == (T0, 12, 12 - length, 1)
    assert grid.no_trade == (length if filled else 0)
    assert grid.outages.tolist() == ([] if filled else [[5, 5 + length]])
    for name in PRICES:
        wanted = series["close"][4] if filled else np.nan
        np.testing.assert_array_equal(bars[name][hole], np.full(length, wanted))
    for name in ("volume", "trades"):
        np.testing.assert_array_equal(bars[name][hole], np.full(length, 0 if filled else np.nan))
    np.testing.assert_array_equal(bars["close"][5 + length :], series["close"][5:])
    assert np.isnan(bars["quote_volume"]).all()


def test_with_max_fill_0_every_hole_is_an_outage(tmp_path: Path) -> None:
    present = np.array([True, False, True, True, False, False, True])
    with CandleReader(write(tmp_path / "candles.h5", candles_of(present))) as reader:
        grid = Grid.of(reader, EVER, max_fill=0)
        bars = grid.read_bars(reader, 0, 7)
    assert grid.outages.tolist() == [[1, 2], [4, 6]]
    assert (grid.no_trade, grid.holes) == (0, 2)
    np.testing.assert_array_equal(np.isnan(bars["close"]), ~present)


def test_rows_are_the_bars_from_first_to_last_inside_the_span(tmp_path: Path) -> None:
    present = np.ones(20, dtype=bool)
    present[[0, 1, 6, 7, 8, 19]] = False
    with CandleReader(write(tmp_path / "candles.h5", candles_of(present))) as reader:
        # Row 7 is absent: the grid starts at the bar after it.
        grid = Grid.of(reader, (T0 + 7 * HOUR - 5, T0 + 12 * HOUR + 1), max_fill=1)
    assert (grid.first, grid.rows, grid.present, grid.holes) == (T0 + 9 * HOUR, 4, 4, 0)
    assert grid.outages.tolist() == []
    assert grid.times(1, 4).tolist() == [T0 + row * HOUR for row in (10, 11, 12)]


@settings(max_examples=60, deadline=None)
@given(
    MASKS.filter(lambda mask: bool(mask.any())),
    st.integers(0, 5),
    st.lists(st.integers(0, 20), max_size=4),
    st.sets(st.sampled_from(OPTIONAL)),
)
def test_any_mask_of_bars_in_blocks_of_any_size_gives_the_grid_made_bar_by_bar(
    mask: NDArray[np.bool_], max_fill: int, cuts: list[int], optional: set[str]
) -> None:
    series = candles_of(mask, optional=sorted(optional))
    outages, columns = expected(series, max_fill)
    rows = len(columns["close"])
    edges = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    with TemporaryDirectory() as folder:
        path = write(Path(folder, "candles.h5"), series)
        with CandleReader(path) as reader:
            grid = Grid.of(reader, EVER, max_fill)
            whole = grid.read_bars(reader, 0, rows)
            parts = [grid.read_bars(reader, low, high) for low, high in pairwise(edges)]
    assert grid.rows == rows
    assert grid.outages.tolist() == outages
    assert grid.present == len(series)
    assert grid.no_trade == rows - len(series) - sum(b - a for a, b in outages)
    assert grid.holes == len(series.holes())
    assert_equal(whole, columns)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in NAMES}
    assert_equal(joined, columns)


def test_a_span_without_bars_says_what_the_file_has(tmp_path: Path) -> None:
    path = write(tmp_path / "candles.h5", candles_of(np.ones(5, dtype=bool)))
    with CandleReader(path) as reader, pytest.raises(ConfigError) as caught:
        Grid.of(reader, (T0 + 9 * HOUR, T0 + 10 * HOUR), 3)
    assert str(caught.value) == (
        f"no candles between 2020-01-01T09:00:00Z and 2020-01-01T10:00:00Z: {path} has "
        "2020-01-01T00:00:00Z to 2020-01-01T05:00:00Z; change `start` or `end`"
    )


def test_a_file_without_bars_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "candles.h5", candles_of(np.zeros(5, dtype=bool)))
    with (
        CandleReader(path) as reader,
        pytest.raises(ConfigError, match=r"candles\.h5 has none; change `start` or `end`"),
    ):
        Grid.of(reader, (T0, T0 + HOUR), 3)
