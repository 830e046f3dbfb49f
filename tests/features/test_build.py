"""Building feature files: what their name depends on, what is built, removed and refused."""

import os
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest

from btc_datamodule.candles.series import OPTIONAL, Candles, concatenate
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.errors import ConfigError
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import FEATURES
from btc_datamodule.features.feature import Compute, Feature, make_frame
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.layout import SEGMENT_ROWS
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import CandleReader, read_header
from btc_datamodule.store.series_file import Provenance
from tests.factories import HOUR, T0, candles_of, changed
from tests.features.markets import MAX_FILL, simulated
from tests.features.tables import EVER, ROWS, recipe, series
from tests.helpers import write


def test_the_key_tells_different_content_apart(candles: Path, tmp_path: Path) -> None:
    header = read_header(candles)
    other = write(tmp_path / "other.h5", candles_of(np.ones(ROWS, dtype=bool), seed=1))
    inner = (T0 + HOUR, T0 + 100 * HOUR)
    keys = [
        recipe().compute_key(header),
        recipe("log_return").compute_key(header),
        recipe("log_volume", "log_return").compute_key(header),
        recipe(max_fill=4).compute_key(header),
        recipe(span=inner).compute_key(header),
        recipe(span=(inner[0], EVER[1])).compute_key(header),
        recipe().compute_key(read_header(other)),
        recipe().compute_key(replace(header, interval=Interval(60))),
        recipe("log_return", Feature("log_volume", 2, FEATURES["log_volume"].compute)).compute_key(
            header
        ),
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_depend_on_what_leaves_the_content_alone(
    candles: Path, tmp_path: Path
) -> None:
    key = recipe().compute_key(read_header(candles))
    record = Provenance("elsewhere", (T0, T0 + 9 * HOUR), 9, "2024-05-01T12:00:00Z")
    whole = series()
    parts = whole.slice(T0, T0 + 50 * HOUR), whole.slice(T0 + 50 * HOUR, T0 + ROWS * HOUR)
    same = write(tmp_path / "same.h5", *parts, covered=[EVER], provenance=[record], compress=False)
    assert recipe().compute_key(read_header(same)) == key
    header = read_header(candles)
    assert recipe(span=(T0 - 5, T0 + ROWS * HOUR + 5)).compute_key(header) == key
    assert recipe(span=header.span).compute_key(header) == key
    assert key == key.lower()
    assert len(key) == 16


def test_a_table_of_part_of_the_candles_holds_that_part(candles: Path) -> None:
    path = build(candles, recipe(span=(T0 + 5 * HOUR + 1, T0 + 50 * HOUR)))
    table = Table.open(path)
    assert (table.first, table.rows) == (T0 + 6 * HOUR, 44)
    whole = Table.open(build(candles, recipe()))
    np.testing.assert_array_equal(table.x[1:], whole.x[7:50])
    assert table.observed[0] == 0  # the bar before is out of sight


def test_building_again_does_not_touch_the_file(candles: Path) -> None:
    path = build(candles, recipe())
    before, content = path.stat(), path.read_bytes()
    assert build(candles, recipe()) == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert path.read_bytes() == content


def unused_for_a_week(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (time.time() - 7 * 86400, path.stat().st_mtime))


def test_files_of_other_candles_are_removed_once_nobody_uses_them(candles: Path) -> None:
    junk = candles.with_name("features-0123456789abcdef.h5")
    junk.write_text("not HDF5")
    unused, used = build(candles, recipe()), build(candles, recipe("log_range"))
    write(candles, series().slice(T0, T0 + 100 * HOUR))
    unused_for_a_week(junk, unused, used)
    Table.open(used)
    new = build(candles, recipe())
    assert sorted(candles.parent.glob("features-*.h5")) == sorted([used, new])
    assert Table.open(new).rows == 100


@pytest.mark.parametrize("name", ["features-mine.h5", "features-0123456789ABCDEF.h5", "mine.h5"])
def test_a_file_that_this_package_has_not_made_stays(candles: Path, name: str) -> None:
    mine = candles.with_name(name)
    mine.write_text("precious")
    left = candles.with_name("features-mine.h5.12.tmp")
    left.write_text("precious")
    unused_for_a_week(mine, left)
    build(candles, recipe())
    write(candles, series().slice(T0, T0 + 100 * HOUR))
    build(candles, recipe())
    assert mine.read_text() == left.read_text() == "precious"


def test_a_file_that_a_process_has_opened_stays_however_long_ago(candles: Path) -> None:
    table = Table.open(build(candles, recipe()))
    wanted = table.bars("close").copy()
    write(candles, series().slice(T0, T0 + 100 * HOUR))
    unused_for_a_week(table.path)
    build(candles, recipe())
    again = pickle.loads(pickle.dumps(table))  # a worker that is spawned only now
    np.testing.assert_array_equal(again.bars("close"), wanted)
    old = table.path
    del table, again
    unused_for_a_week(old)
    build(candles, recipe("log_range"))
    assert not old.exists()


def test_a_file_that_another_program_reads_stays(candles: Path) -> None:
    old = build(candles, recipe())
    write(candles, series().slice(T0, T0 + 100 * HOUR))
    unused_for_a_week(old)
    with h5py.File(old):
        build(candles, recipe())
        assert old.exists()


def test_files_of_the_same_candles_are_kept_however_old(candles: Path) -> None:
    first, second = build(candles, recipe()), build(candles, recipe("log_range"))
    unused_for_a_week(first, second)
    third = build(candles, recipe("log_open"))
    assert sorted(candles.parent.glob("features-*.h5")) == sorted([first, second, third])


def test_files_of_an_older_schema_are_removed_once_nobody_uses_them(candles: Path) -> None:
    older, used = build(candles, recipe("log_range")), build(candles, recipe("log_open"))
    for path in (older, used):
        with h5py.File(path, "r+") as file:
            file.attrs["schema"] = 1
    unused_for_a_week(older)
    new = build(candles, recipe())
    assert sorted(candles.parent.glob("features-*.h5")) == sorted([used, new])


def test_a_failed_build_leaves_nothing(candles: Path) -> None:
    def broken(bars: pl.DataFrame) -> pl.Series:
        raise ZeroDivisionError

    with pytest.raises(ConfigError, match=r"feature .broken. failed: ZeroDivisionError"):
        build(candles, recipe(Feature("broken", 1, broken)))
    assert not [file for file in candles.parent.iterdir() if file.name.startswith("features-")]


def test_a_feature_that_needs_an_absent_column_is_refused(candles: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build(candles, recipe("log_return", "taker_share"))
    assert str(caught.value) == (
        "feature 'taker_share' needs taker_buy_volume, which candles from 'test' do not have: "
        "take it out of `features`"
    )


def test_more_history_than_there_is_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "candles.h5", candles_of(np.ones(24, dtype=bool)))
    with pytest.raises(ConfigError, match="need 24 bars of history and there are 24 bars"):
        build(path, recipe("volatility"))
    assert Table.open(build(path, recipe("relative_volume"))).unobserved.tolist() == [[0, 23]]


def test_no_candles_in_the_span_is_refused(candles: Path) -> None:
    with pytest.raises(ConfigError, match="change `start` or `end`"):
        build(candles, recipe(span=(T0 + 61 * HOUR, T0 + 69 * HOUR)))


def test_a_column_known_for_part_of_the_history_hides_the_rest(tmp_path: Path) -> None:
    whole = candles_of(np.ones(50, dtype=bool), optional=OPTIONAL)
    taker = whole["taker_buy_volume"].copy()
    taker[:20] = np.nan
    path = write(tmp_path / "candles.h5", changed(whole, taker_buy_volume=taker))
    table = Table.open(build(path, recipe("taker_share")))
    assert table.unobserved.tolist() == [[0, 20]]
    share = (taker / whole["volume"])[20:]
    np.testing.assert_allclose(table.x[20:, 0], share, rtol=1e-6)


@cache
def minutes() -> Candles:
    source = Simulator(seed=2, no_trade=0.01, outages_per_year=60)
    blocks = source.blocks(60, (T0, T0 + 300_000 * 60))
    return concatenate([block.candles for block in blocks])


def test_a_table_longer_than_a_segment_is_what_one_frame_of_it_all_gives(tmp_path: Path) -> None:
    path = write(tmp_path / "candles.h5", minutes(), compress=False)
    made = recipe(*FEATURES, max_fill=5)
    table = Table.open(build(path, made))
    with CandleReader(path) as reader:
        grid = Grid.of(reader, EVER, 5)
        bars = grid.read_bars(reader, 0, grid.rows)
    assert table.rows == grid.rows > SEGMENT_ROWS
    assert len(grid.outages) > 10
    whole = make_frame(grid.times(0, grid.rows), bars)
    x = np.stack([feature(whole) for feature in made.features], axis=1)
    seen = np.isfinite(x).all(axis=1) & np.isfinite(bars["close"])
    np.testing.assert_array_equal(table.observed, seen)
    assert not table.x[~seen].any()
    for column, name in enumerate(table.features):
        spread = float(x[seen, column].std())
        np.testing.assert_allclose(
            table.x[seen, column], x[seen, column], rtol=2e-7, atol=1e-8 * spread, err_msg=name
        )
    edges = np.flatnonzero(np.diff(np.concatenate([[1], seen, [1]])))
    assert table.unobserved.ravel().tolist() == edges.tolist()
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(table.bars(name), bars[name])


def test_a_build_does_the_same_bytes_twice(candles: Path, tmp_path: Path) -> None:
    twin = write(tmp_path / "twin" / "candles.h5", series())
    assert build(candles, recipe()).read_bytes() == build(twin, recipe()).read_bytes()


def test_building_reads_nothing_back(candles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h5py.Dataset, "__getitem__", refuse_written(h5py.Dataset.__getitem__))
    assert Table.open(build(candles, recipe())).rows == ROWS


def refuse_written(read: Callable[..., Any]) -> Callable[..., Any]:
    """A way to read datasets that fails for those of a file that is being written."""

    def of_read_only(data: "h5py.Dataset", *index: Any) -> Any:
        assert data.file.mode == "r", "what was just written is read again"
        return read(data, *index)

    return of_read_only


@pytest.fixture(scope="module")
def candle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("law") / "candles.h5", simulated())


@pytest.mark.parametrize(
    "wrong", [lambda bars: bars["close"].head(3), lambda bars: bars["close"].append(bars["open"])]
)
def test_building_with_a_feature_of_another_length_fails(candle_file: Path, wrong: Compute) -> None:
    with pytest.raises(ConfigError, match=r"feature 'wrong' gave \d+ values for 2000 bars"):
        build(candle_file, Recipe((Feature("wrong", 1, wrong),), MAX_FILL, EVER))
