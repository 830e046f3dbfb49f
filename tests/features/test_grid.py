"""The regular grid: filled from a hole's first bar on, never beyond, whatever comes after it."""

import re
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
NAMES = (*PRICES, *OPTIONAL)


def expected(series: Candles, max_fill: int) -> tuple[str, dict[str, list[float]]]:
    """Kind and columns of each row, told as the bars come in: nothing is known of later ones.

    A kind is "." for a bar of the candles, "f" for one that is filled and "o" for an outage.
    """
    start, end = series.span
    at = {t: i for i, t in enumerate(series.open_time.tolist())}
    columns: dict[str, list[float]] = {name: [] for name in NAMES}
    kinds, absent, close = "", 0, float("nan")
    for time in range(start, end, series.interval):
        if time in at:
            absent, close = 0, float(series["close"][at[time]])
            kinds += "."
        else:
            absent += 1
            kinds += "f" if absent <= max_fill else "o"
        for name in NAMES:
            if kinds[-1] == ".":
                value = float(series[name][at[time]])
            elif kinds[-1] == "o" or name not in series.columns:
                value = float("nan")
            else:
                value = close if name in PRICES else 0.0
            columns[name].append(value)
    return kinds, columns


def runs_of(kinds: str, wanted: str) -> list[list[int]]:
    """The runs of rows of some kinds."""
    return [list(found.span()) for found in re.finditer(f"[{wanted}]+", kinds)]


def read(candles: Candles, max_fill: int, *edges: int) -> tuple[Grid, dict[str, bytes]]:
    """The grid of some candles, and its columns bit for bit, read in the blocks between edges."""
    with TemporaryDirectory() as folder:
        path = write(Path(folder, "candles.h5"), candles)
        with CandleReader(path) as reader:
            grid = Grid.of(reader, EVER, max_fill)
            blocks = pairwise([0, *sorted(min(edge, grid.rows) for edge in edges), grid.rows])
            parts = [grid.read_bars(reader, low, high) for low, high in blocks]
    return grid, {name: b"".join(part[name].tobytes() for part in parts) for name in NAMES}


@pytest.mark.parametrize(("length", "filled"), [(1, 1), (3, 3), (4, 3), (6, 3)])
def test_the_first_max_fill_bars_of_a_hole_are_filled_and_those_after_are_an_outage(
    tmp_path: Path, length: int, filled: int
) -> None:
    present = np.ones(12, dtype=bool)
    present[5 : 5 + length] = False
    series = candles_of(present, optional=["trades"])
    with CandleReader(write(tmp_path / "candles.h5", series)) as reader:
        grid = Grid.of(reader, EVER, max_fill=3)
        bars = grid.read_bars(reader, 0, 12)
    assert (grid.first, grid.rows, grid.present, grid.max_fill) == (T0, 12, 12 - length, 3)
    assert grid.holes.tolist() == [[5, 5 + length]]
    assert grid.outages.tolist() == ([[8, 5 + length]] if length > 3 else [])
    unknown = [np.nan] * (length - filled)
    for name in PRICES:
        wanted = [series["close"][4]] * filled + unknown
        np.testing.assert_array_equal(bars[name][5 : 5 + length], wanted)
    for name in ("volume", "trades"):
        np.testing.assert_array_equal(bars[name][5 : 5 + length], [0.0] * filled + unknown)
    np.testing.assert_array_equal(bars["close"][5 + length :], series["close"][5:])
    assert np.isnan(bars["quote_volume"]).all()


def test_with_max_fill_0_every_hole_is_an_outage(tmp_path: Path) -> None:
    present = np.array([True, False, True, True, False, False, True])
    with CandleReader(write(tmp_path / "candles.h5", candles_of(present))) as reader:
        grid = Grid.of(reader, EVER, max_fill=0)
        bars = grid.read_bars(reader, 0, 7)
    assert grid.holes.tolist() == grid.outages.tolist() == [[1, 2], [4, 6]]
    np.testing.assert_array_equal(np.isnan(bars["close"]), ~present)


def test_rows_are_the_bars_from_first_to_last_inside_the_span(tmp_path: Path) -> None:
    present = np.ones(20, dtype=bool)
    present[[0, 1, 6, 7, 8, 19]] = False
    with CandleReader(write(tmp_path / "candles.h5", candles_of(present))) as reader:
        # Row 7 is absent: the grid starts at the bar after it.
        grid = Grid.of(reader, (T0 + 7 * HOUR - 5, T0 + 12 * HOUR + 1), max_fill=1)
    assert (grid.first, grid.rows, grid.present) == (T0 + 9 * HOUR, 4, 4)
    assert grid.holes.tolist() == grid.outages.tolist() == []
    assert grid.times(1, 4).tolist() == [T0 + row * HOUR for row in (10, 11, 12)]


@settings(max_examples=25)
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
    kinds, columns = expected(series, max_fill)
    grid, bars = read(series, max_fill, *cuts)
    assert (grid.rows, grid.present) == (len(kinds), len(series))
    assert grid.holes.tolist() == runs_of(kinds, "fo")
    assert grid.outages.tolist() == runs_of(kinds, "o")
    for name in NAMES:
        np.testing.assert_array_equal(np.frombuffer(bars[name]), columns[name], err_msg=name)


@settings(max_examples=60)
@given(
    MASKS.filter(lambda mask: bool(mask.any())),
    st.integers(0, 5),
    st.sets(st.sampled_from(OPTIONAL)),
    st.data(),
)
def test_rows_up_to_a_bar_are_those_of_the_series_that_ends_with_it(
    mask: NDArray[np.bool_], max_fill: int, optional: set[str], data: st.DataObject
) -> None:
    """Nothing depends on how long a hole becomes, nor on anything else that comes after."""
    series = candles_of(mask, optional=sorted(optional))
    whole, bars = read(series, max_fill)
    last = data.draw(st.sampled_from(series.open_time.tolist()), label="last bar")
    grid, alone = read(series.slice(series.span[0], last + HOUR), max_fill)
    assert grid.first == whole.first
    assert grid.times(0, grid.rows)[-1] == last
    for name in NAMES:
        assert bars[name][: 8 * grid.rows] == alone[name], name
    for runs, longer in ((grid.holes, whole.holes), (grid.outages, whole.outages)):
        assert runs.tolist() == longer[longer[:, 0] < grid.rows].tolist()


@settings(max_examples=40)
@given(MASKS, MASKS, MASKS, st.integers(0, 5))
def test_rows_depend_on_no_bar_after_them_nor_on_whether_it_comes(
    before: NDArray[np.bool_], after: NDArray[np.bool_], other: NDArray[np.bool_], max_fill: int
) -> None:
    """So a row in a hole is the same whether the hole ends with the next bar or much later."""
    grids = []
    for later in (after, other):
        mask = np.concatenate([[True], before, later, [True]])
        grids.append(read(candles_of(mask, optional=OPTIONAL), max_fill)[1])
    known = 8 * (1 + len(before))
    for name in NAMES:
        assert grids[0][name][:known] == grids[1][name][:known], name


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
