"""Feature files that grow are those that are built: bit by bit, whatever way the bars came in."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from btc_datamodule.candles.series import concatenate
from btc_datamodule.errors import LookAheadError
from btc_datamodule.features import growing
from btc_datamodule.features.build import build
from btc_datamodule.features.checking import Place
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.layout import SEGMENT_ROWS
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.segment import Segment, compute_segment
from btc_datamodule.features.table import Table
from tests.factories import HOUR, T0, candles_of, changed
from tests.features.replay import (
    LARGE,
    RECIPES,
    SEGMENT,
    Replay,
    assert_equal,
    find_file,
    is_grown,
    list_all,
    lumps,
    market,
    remove_at_once,
    shrink,
)
from tests.features.tables import EVER, recipe
from tests.helpers import write


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.mark.parametrize("made", RECIPES.values(), ids=RECIPES)
def test_what_has_grown_is_what_is_built(tmp_path: Path, made: Recipe) -> None:
    replay = Replay(tmp_path, market(260), made)
    grown = []
    for rows in lumps(len(replay.candles), seed=len(made.features)):
        table = replay.take(rows)
        grown.append(is_grown(table))
        assert_equal(table, replay.rebuild(rows))
    assert grown == [False] + [True] * (len(grown) - 1)
    assert len(replay.list_names("*.rows.h5")) > 2, "the room was used up twice"


@pytest.mark.parametrize(
    ("bars", "every"), [(70, 20), pytest.param(10_000, 250, marks=pytest.mark.stress)]
)
def test_bar_by_bar_it_is_what_is_built_and_takes_no_more_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars: int, every: int
) -> None:
    remove_at_once(monkeypatch)
    replay = Replay(tmp_path, market(round(1.2 * bars) + 100), RECIPES["flag"])
    replay.take(60)
    for rows in range(61, 61 + bars):
        table = replay.take(rows)
        assert is_grown(table)
        if rows % every == 0:
            assert_equal(table, replay.rebuild(rows))
        assert len(replay.list_names("features-*.h5")) <= 2 + 2 * 2, "heads, and files of rows"
    assert table.rows > (bars + 60)
    del table
    replay.take(bars + 61)
    assert len(replay.list_names("features-*")) <= 2 + 2 * 2


@pytest.mark.parametrize("edge", [-1, 0, 1])
def test_a_table_that_ends_beside_the_edge_of_a_segment_grows(tmp_path: Path, edge: int) -> None:
    first = T0 // HOUR % SEGMENT
    rows = 3 * SEGMENT - first + edge
    bars = candles_of(np.ones(rows + SEGMENT + 3, dtype=bool))
    replay = Replay(tmp_path, bars, recipe("log_return", "volatility"))
    replay.take(rows)
    for more in (1, 2, SEGMENT + 3):
        table = replay.take(rows + more)
        assert is_grown(table)
        assert_equal(table, replay.rebuild(rows + more))


def test_a_small_table_is_built_anew(tmp_path: Path) -> None:
    replay = Replay(tmp_path, market(100), recipe())
    assert replay.take(LARGE - 8).rows < LARGE
    assert not is_grown(replay.take(LARGE + 10))


def test_the_room_of_a_real_table_is_not_small() -> None:
    assert SEGMENT_ROWS > 100_000, "the constants are small in these tests alone"


def test_bars_outside_the_span_do_not_make_a_table_grow(tmp_path: Path) -> None:
    end = T0 + 70 * HOUR
    replay = Replay(tmp_path, market(100), recipe(span=(T0, end)))
    for rows in (60, 80, 81):
        assert_equal(replay.take(rows), replay.rebuild(rows))
    assert not is_grown(replay.take(82))


def test_a_table_from_a_later_start_grows(tmp_path: Path) -> None:
    replay = Replay(tmp_path, market(200), recipe(span=(T0 + 20 * HOUR + 7, EVER[1])))
    replay.take(80)
    table = replay.take(90)
    assert is_grown(table)
    assert_equal(table, replay.rebuild(90))


def test_a_reader_of_an_earlier_table_notices_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_at_once(monkeypatch)
    replay = Replay(tmp_path, market(200), recipe())
    replay.take(60)
    table = replay.take(66)
    before, mapped = list_all(table), table.x
    hashed: list[int] = []
    real = Place.hash

    def noted(self: Place, offset: int, size: int) -> bytes:
        hashed.append(size)
        return real(self, offset, size)

    for rows in (67, 70, 75):
        later = replay.take(rows)
        assert find_file(later) == find_file(table)
        with monkeypatch.context() as patch:
            patch.setattr(Place, "hash", noted)
            for name, values in list_all(table).items():
                assert values.tobytes() == before[name].tobytes()
    assert not hashed, "what was checked is not checked again"
    assert table.checks.generation == 0
    assert mapped.tobytes() == before["x"].tobytes()
    again = pickle.loads(pickle.dumps(table))  # a worker that is spawned only now
    assert again.x.tobytes() == before["x"].tobytes()


def test_candles_that_were_revised_make_a_table_of_their_own(tmp_path: Path) -> None:
    replay = Replay(tmp_path, market(200), recipe())
    replay.take(60)
    table = replay.take(70)
    before = list_all(table)
    volume = replay.candles["volume"].copy()
    volume[20] += 1
    replay.candles = changed(replay.candles, volume=volume)
    revised = replay.take(71)
    assert not is_grown(revised)
    assert_equal(revised, replay.rebuild(71))
    assert list_all(table).keys() == before.keys()
    assert all(values.tobytes() == values.tobytes() for name, values in before.items())


def test_rows_that_a_head_claims_are_never_written_over(tmp_path: Path) -> None:
    replay = Replay(tmp_path, market(200), recipe())
    replay.take(60)
    older, newest = replay.take(70), replay.take(71)
    before = list_all(newest)
    volume = replay.candles["volume"].copy()
    volume[70] += 1  # the bar that only the newest has
    replay.candles = changed(replay.candles, volume=volume)
    revised = replay.take(72)
    assert is_grown(revised)
    assert find_file(revised) not in (
        find_file(older),
        find_file(newest),
    )
    assert_equal(revised, replay.rebuild(72))
    again = Table.open(newest.path)
    assert all(
        values.tobytes() == before[name].tobytes() for name, values in list_all(again).items()
    )


@pytest.mark.parametrize("edge", [-5, 0, 1])
def test_a_function_that_computes_other_bits_now_has_all_built_anew(
    tmp_path: Path, edge: int
) -> None:
    beside = tmp_path / "factor.txt"
    beside.write_text("1")

    def scaled(bars: pl.DataFrame) -> pl.Series:
        return bars["close"] * float(beside.read_text())

    rows = 3 * SEGMENT - T0 // HOUR % SEGMENT + edge
    bars = candles_of(np.ones(rows + 3, dtype=bool))
    replay = Replay(tmp_path / "data", bars, recipe(Feature("scaled", 1, scaled)))
    replay.take(rows - 1)
    assert is_grown(replay.take(rows))
    beside.write_text("2")
    table = replay.take(rows + 3)
    assert not is_grown(table)
    assert_equal(table, replay.rebuild(rows + 3))


def test_a_function_that_a_longer_frame_changes_is_compared_in_its_own(tmp_path: Path) -> None:
    def centred(bars: pl.DataFrame) -> pl.Series:
        carried = (bars["close"] * 1e9).cum_sum()
        return carried - (carried - bars["close"])

    rows = 3 * SEGMENT - T0 // HOUR % SEGMENT
    bars = candles_of(np.ones(rows + 5, dtype=bool))
    replay = Replay(tmp_path, bars, recipe(Feature("centred", 1, centred)))
    replay.take(rows - 1)
    for more in (0, 1, 5):
        table = replay.take(rows + more)
        assert is_grown(table)
        assert_equal(table, replay.rebuild(rows + more))


def test_a_feature_that_looks_ahead_on_new_rows_is_refused(tmp_path: Path) -> None:
    late = T0 + 110 * HOUR

    def peeking(bars: pl.DataFrame) -> pl.Series:
        ahead = bars["close"].shift(-1).fill_null(0)
        return (
            (bars["open_time"] > late)
            .to_frame("late")
            .select(pl.when("late").then(ahead).otherwise(bars["close"]))
            .to_series()
        )

    bars = candles_of(np.ones(150, dtype=bool))
    replay = Replay(tmp_path, bars, recipe(Feature("peeking", 1, peeking)), check=True)
    replay.take(100)
    assert is_grown(replay.take(105))
    with pytest.raises(LookAheadError, match="'peeking'"):
        replay.take(130)
    assert [*replay.list_names("*.tmp")] == []


def test_a_running_sum_is_checked_beside_the_spread_of_a_whole_segment(tmp_path: Path) -> None:
    def deviation(bars: pl.DataFrame) -> pl.Series:
        return bars["close"].rolling_var(3)

    bars = candles_of(np.ones(150, dtype=bool))
    flat = bars["close"].copy()
    flat[85:] = flat[85]
    level = {"close": flat, "high": np.maximum(bars["high"], flat)}
    bars = changed(bars, **level, low=np.minimum(bars["low"], flat))
    made = recipe(Feature("deviation", 3, deviation))
    replay = Replay(tmp_path, bars, made, check=True)
    replay.take(84)
    for rows in (86, 90, 91):
        assert_equal(replay.take(rows), replay.rebuild(rows))


def test_what_grows_computes_new_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay(tmp_path, market(200), recipe())
    replay.take(90)
    computed: list[int] = []

    def noted(*given: Any, **named: Any) -> Segment:
        computed.append(given[4].stop - given[4].start)
        return compute_segment(*given, **named)

    monkeypatch.setattr(growing, "compute_segment", noted)
    rows = replay.take(91).rows
    assert computed == [rows - replay.rebuild(90).rows + growing.OVERLAP_ROWS]


def test_two_recipes_grow_beside_each_other(tmp_path: Path) -> None:
    one, other = (
        Replay(tmp_path, market(120), recipe(name)) for name in ("log_return", "log_range")
    )
    for rows in (60, 61, 62):
        for replay in (one, other):
            table = replay.take(rows)
            assert is_grown(table) == (rows > 60)
            assert_equal(table, replay.rebuild(rows))


def test_candles_in_segments_of_their_own_digest_are_checked(
    tmp_path: Path,
) -> None:
    replay = Replay(tmp_path, market(120), recipe())
    replay.take(60)
    whole = replay.cut(61)
    parts = whole.slice(T0, T0 + 20 * HOUR), whole.slice(T0 + 20 * HOUR, T0 + 900 * HOUR)
    write(replay.path, concatenate(list(parts)))
    assert_equal(Table.open(build(replay.path, replay.recipe)), replay.rebuild(61))
