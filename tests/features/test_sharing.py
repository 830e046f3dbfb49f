"""Feature files of the same bars share them: each says what it says if it is built alone."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest

from btc_datamodule.audit.verify import verify_series
from btc_datamodule.candles.series import Candles
from btc_datamodule.disk.atomic import write_in_place
from btc_datamodule.errors import LookAheadError, StoreError
from btc_datamodule.features import build as building
from btc_datamodule.features import joined, segment, writing
from btc_datamodule.features.build import build
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.layout import BAR_COLUMNS
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.stale import GROWN_SECONDS, KEPT_SECONDS
from btc_datamodule.features.table import Table, list_tables
from tests.factories import T0, changed, make_datamodule
from tests.features.replay import (
    FORKED,
    RECIPES,
    Replay,
    assert_equal,
    die_of,
    find_extent,
    find_file,
    list_all,
    market,
    remove_at_once,
    shrink,
    unused_for,
)
from tests.features.tables import EVER, recipe
from tests.features.test_growing_beside import BTC, ETH
from tests.test_covariates import write

NAMES = ("log_return", "log_range", "log_volume")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


def beside(folder: Path, *recipes: Recipe, rows: int = 180) -> list[Replay]:
    """Feature files of several recipes, of one candle file."""
    candles = market(rows)
    return [Replay(folder / "data", candles, made) for made in recipes]


def three(folder: Path) -> list[Replay]:
    return beside(folder, *map(recipe, NAMES))


def list_bars(table: Table) -> set[Path]:
    return {find_file(table, name) for name in BAR_COLUMNS}


# --- the same bits --------------------------------------------------------------------------------


def test_the_next_feature_file_is_what_is_built_alone_and_has_no_bars_of_its_own(
    tmp_path: Path,
) -> None:
    replays = beside(tmp_path, *RECIPES.values())
    tables = [each.take(120) for each in replays]
    (bars,) = set.union(*map(list_bars, tables))
    for replay, table in zip(replays, tables, strict=True):
        assert_equal(table, replay.rebuild(120))
        assert find_file(table) == find_file(table, "observed") == table.path
    assert replays[0].list_names("*.rows.h5") == [bars.name]
    assert verify_series(replays[0].path) == []


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.stress) for seed in range(1, 20))]
)
def test_whatever_happens_beside_it_a_feature_file_is_what_is_built_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    replays = beside(
        tmp_path, *rng.permutation(np.array([*RECIPES.values()], dtype=object))[:3], rows=220
    )
    bars, held = 60, list[Table]()
    for _ in range(12):
        what = rng.choice(["prepare", "prepare", "prepare", "grow", "delete", "clean", "hold"])
        replay = replays[rng.integers(len(replays))]
        names = replay.list_names("features-*.h5")
        if what == "grow":
            bars = min(bars + int(rng.choice([1, 2, 40])), len(replay.candles))
        elif what == "delete" and names:
            (replay.path.parent / rng.choice(names)).unlink()
        elif what == "hold":
            held = [replay.take(bars)]
        before = [list_all(each)["close"] for each in held]
        with monkeypatch.context() as patch:
            if what == "clean":
                remove_at_once(patch)
            table = replay.take(bars)
        assert_equal(table, replay.rebuild(bars))
        assert all("does not exist" in each for each in verify_series(replay.path))
        after = [each.bars("close") for each in held]
        assert [each.tobytes() for each in after] == [each.tobytes() for each in before]


def test_other_candles_rows_and_fillings_have_other_bars(tmp_path: Path) -> None:
    span = (T0 + 7_200, EVER[1])
    made = [recipe(), recipe(max_fill=2), recipe(span=span), recipe("log_range", span=span)]
    first, filled, later, same = (each.take(120) for each in beside(tmp_path, *made))
    assert len({find_file(each, "close") for each in (first, filled, later, same)}) == 3
    assert find_file(later, "close") == find_file(same, "close")


def test_a_small_feature_file_has_its_bars_inside(tmp_path: Path) -> None:
    for replay in three(tmp_path):
        assert list_bars(table := replay.take(25)) == {table.path}


def test_bars_that_are_others_are_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, _ = three(tmp_path)
    bars = list_bars(one.take(120))
    monkeypatch.setattr(building, "has_same_bars", lambda *_: False)
    table = other.take(120)
    assert not list_bars(table) & bars
    assert_equal(table, other.rebuild(120))


# --- growing --------------------------------------------------------------------------------------


def test_what_grows_together_shares_the_bars_that_come(tmp_path: Path) -> None:
    replays = three(tmp_path)
    for rows in (60, 61, 140):
        tables = [each.take(rows) for each in replays]
        assert len(set.union(*map(list_bars, tables))) == 1
        for replay, table in zip(replays, tables, strict=True):
            assert_equal(table, replay.rebuild(rows))


def test_one_that_was_left_behind_takes_the_bars_of_those_that_went_on(tmp_path: Path) -> None:
    one, other, _ = three(tmp_path)
    one.take(60)
    behind = other.take(60)
    for rows in (61, 62, 70):
        ahead = one.take(rows)
    table = other.take(70)
    assert list_bars(table) == list_bars(ahead) == list_bars(behind)
    assert_equal(table, other.rebuild(70))


def test_one_that_goes_on_alone_leaves_the_others_their_bars(tmp_path: Path) -> None:
    one, other, _ = three(tmp_path)
    one.take(60)
    before = list_all(table := other.take(60))
    one.take(61)
    fresh = other.take(62)
    assert not list_bars(fresh) & list_bars(table)
    assert_equal(fresh, other.rebuild(62))
    again = one.take(62)
    assert list_bars(again) == list_bars(fresh)
    assert_equal(again, one.rebuild(62))
    assert {name: each.tobytes() for name, each in list_all(Table.open(table.path)).items()} == {
        name: each.tobytes() for name, each in before.items()
    }


# --- what is checked ------------------------------------------------------------------------------


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the features that are checked for look-ahead."""
    names: list[str] = []
    for module in (segment, joined):
        real: Any = module.check_lookback

        def noted(feature: Feature, *given: Any, real: Any = real) -> None:
            names.append(feature.name)
            real(feature, *given)

        monkeypatch.setattr(module, "check_lookback", noted)
    return names


def mean(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].rolling_mean(3)


def test_a_feature_is_checked_once_on_the_same_bars_and_a_function_of_ones_own_each_time(
    tmp_path: Path, checked: list[str]
) -> None:
    own = Feature("own", 3, mean)
    up = "up = close > open"
    made: list[tuple[str | Feature, ...]] = [("log_return", up), (up, own), (own, "log_return")]
    replays = beside(tmp_path, *(recipe(*names) for names in made))
    found = []
    for replay in replays:
        replay.check = True
        replay.take(120)
        found.append({*checked})
        checked.clear()
    assert found == [{"log_return", "up"}, {"own"}, {"own"}]
    replays[0].take(121)
    assert {*checked} == {"log_return", "up"}, "on the new rows"
    checked.clear()
    (again,) = beside(tmp_path, recipe("log_volume", "log_return"))
    again.check = True
    again.take(121)
    assert {*checked} == {"log_volume"}


def test_what_was_not_checked_is_checked(tmp_path: Path, checked: list[str]) -> None:
    one, other = beside(tmp_path, recipe("log_return"), recipe("log_return", "log_range"))
    assert one.take(120).checked == ()
    other.check = True
    assert len(other.take(120).checked) == 2
    assert {*checked} == {"log_return", "log_range"}


def test_another_feature_under_the_same_name_is_checked(tmp_path: Path) -> None:
    ahead = pl.col("close").shift(-1)
    one, other = beside(
        tmp_path,
        recipe(Feature("near", 2, pl.col("close").shift(1))),
        recipe(Feature("near", 2, ahead)),
    )
    one.check = other.check = True
    one.take(120)
    with pytest.raises(LookAheadError, match="'near'"):
        other.take(120)
    assert len(one.list_names("*.tmp")) == 0


def test_a_feature_of_another_series_is_checked_again_once_that_has_changed(
    tmp_path: Path, checked: list[str]
) -> None:
    def prepare(eth: Candles, *features: str) -> tuple[set[str], Table]:
        checked.clear()
        sources = {"btc": BTC, "eth": eth}
        btc, other = (write(tmp_path, f"{name}.csv", each) for name, each in sources.items())
        given: Any = {"source": btc, "covariates": {"eth": other}, "features": [*features]}
        dm = make_datamodule(tmp_path, **given, lookback=4, horizon=1)
        return {*checked}, dm.table

    both, first = prepare(ETH, "eth.log_return", "log_return")
    one, second = prepare(ETH, "eth.log_return", "log_range")
    revised = changed(ETH, volume=ETH["volume"] + 1)
    again, third = prepare(revised, "eth.log_return", "log_return")
    assert both == {"eth.log_return", "log_return"}
    assert one == {"log_range"}
    assert again == {"eth.log_return"}
    assert list_bars(first) == list_bars(second) == list_bars(third)
    assert third.reach is not None
    assert find_file(third, "reach") == third.path


# --- damage, and what is gone ---------------------------------------------------------------------


def spoil(table: Table, name: str, row: int) -> None:
    offset, width = find_extent(table, name)
    with write_in_place(find_file(table, name)) as write:
        write(offset + row * width, b"\x01\x02\x03")


def test_damage_in_shared_bars_is_found_for_each_and_goes_no_further(tmp_path: Path) -> None:
    one, other, third = three(tmp_path)
    first, second = one.take(120), other.take(120)
    bars = find_file(first, "close")
    spoil(first, "close", 70)
    problems = verify_series(one.path)
    assert len(problems) == 2
    assert all(each.startswith(f"{bars}: 'close' between ") for each in problems)
    with pytest.raises(StoreError, match="'close' between"):
        second.bars("close")
    assert second.x.tobytes() == other.rebuild(120).x.tobytes(), "it has its own"
    table = third.take(120)
    assert list_bars(table) != {bars}
    assert_equal(table, third.rebuild(120))
    del first, second
    bars.unlink()  # as is advised
    assert_equal(one.take(120), one.rebuild(120))
    assert_equal(other.take(120), other.rebuild(120))
    assert verify_series(one.path) == []


@pytest.mark.parametrize("said", ["5", "[[]]", "{", "[1]"])
def test_a_file_that_says_nonsense_is_passed_over(tmp_path: Path, said: str) -> None:
    one, other, _ = three(tmp_path)
    path = one.take(120).path
    with h5py.File(path, "r+", locking=False) as file:
        file.attrs["checked"] = said
    table = other.take(120)
    assert list_bars(table) != {path}
    assert_equal(table, other.rebuild(120))


def test_a_disk_that_is_full_at_the_end_keeps_no_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, _ = three(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for replay in (one, other):
        before = replay.list_names("features-*")
        with monkeypatch.context() as patch:
            patch.setattr(writing.Account, "write", full)
            with pytest.raises(StoreError, match="No space left"):
                replay.take(120)
        assert replay.list_names("features-*.h5*") == [
            name for name in before if not name.endswith((".lock", ".holder"))
        ]
        assert_equal(replay.take(120), replay.rebuild(120))


def test_bars_that_are_gone_are_said_and_made_again(tmp_path: Path) -> None:
    one, other, _ = three(tmp_path)
    path = one.take(120).path
    find_file(other.take(120), "close").unlink()
    with pytest.raises(StoreError, match=r"rows\.h5 does not exist: run `btc-datamodule prepare`"):
        Table.open(path)
    tables = one.take(120), other.take(120)
    assert_equal(tables[1], other.rebuild(120))
    assert list_bars(tables[0]) == list_bars(tables[1])


# --- killed, and several at once ------------------------------------------------------------------


def build_there(path: Path, name: str) -> None:
    shrink(pytest.MonkeyPatch())
    build(path, recipe(name), check=False)


def die_at(step: int, path: Path, name: str) -> None:
    """Build until so many calls that write to the disk have been made."""
    die_of(step)
    build_there(path, name)


@pytest.mark.parametrize(("rows", "every"), [(60, 14), (61, 9)], ids=["built", "grown"])
def test_whoever_is_killed_beside_others_leaves_no_trace(
    tmp_path: Path, rows: int, every: int
) -> None:
    one, other, _ = three(tmp_path)
    one.take(60)
    if rows > 60:
        other.take(60)
        one.take(rows)
    built, folder = other.rebuild(rows), one.path.parent
    codes = []
    for step in range(0, 1000, every):
        there = tmp_path / f"killed_{step}"
        shutil.copytree(folder, there, ignore=shutil.ignore_patterns("alone"))
        again = Replay(there, one.candles, other.recipe)
        process = FORKED.Process(target=die_at, args=(step, again.path, NAMES[1]))
        process.start()
        process.join()
        codes.append(process.exitcode)
        assert verify_series(again.path) == []
        assert_equal(again.take(rows), built)
        assert verify_series(again.path) == []
        shutil.rmtree(there)
        if not codes[-1]:
            break
    assert codes == [9] * (len(codes) - 1) + [0]
    assert len(codes) > 3


def test_several_at_once_write_the_bars_once(tmp_path: Path) -> None:
    replays = three(tmp_path)
    replays[0].write(120)
    processes = [
        FORKED.Process(target=build_there, args=(replays[0].path, name)) for name in NAMES * 2
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    tables = [Table.open(path) for path in list_tables(replays[0].path)]
    assert len(tables) == 3
    assert len(set.union(*map(list_bars, tables))) == 1
    for replay in replays:
        assert_equal(replay.take(120), replay.rebuild(120))
    assert len(replays[0].list_names("*.rows.h5")) == 1


# --- removal --------------------------------------------------------------------------------------


def test_bars_stay_as_long_as_one_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_at_once(monkeypatch)
    one, other, third = three(tmp_path)
    path = one.take(60).path
    held = other.take(60)
    (bars,) = list_bars(held)
    for rows in (61, 100, 140):
        third.take(rows)
    assert not path.exists()
    assert bars.exists()
    assert held.bars("close").tobytes() == other.rebuild(60).bars("close").tobytes()
    del held
    third.take(141)
    third.take(142)
    assert not bars.exists()


def test_one_whose_bars_another_has_grown_stays_for_its_own_time(tmp_path: Path) -> None:
    one, other, _ = three(tmp_path)
    one.take(60)
    path = other.take(60).path
    one.take(61)
    unused_for(GROWN_SECONDS + 60, path)
    one.take(62)
    assert path.exists(), "it has not grown"
    unused_for(KEPT_SECONDS, path)
    one.take(63)
    assert not path.exists()
