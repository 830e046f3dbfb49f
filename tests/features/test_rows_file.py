"""Files of rows: killed while they grow, two at once, damaged, lying, and removed in the end."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from btc_datamodule.audit.verify import verify_series, verify_table
from btc_datamodule.disk.atomic import write_in_place
from btc_datamodule.errors import StoreError
from btc_datamodule.features import growing
from btc_datamodule.features.build import build
from btc_datamodule.features.stale import GROWN_SECONDS, KEPT_SECONDS
from btc_datamodule.features.table import Table
from tests.factories import changed
from tests.features.replay import (
    FORKED,
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
from tests.features.tables import recipe


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    return Replay(tmp_path / "data", market(150), recipe())


# --- killed, and two at once ----------------------------------------------------------------------


def build_there(path: Path) -> None:
    shrink(pytest.MonkeyPatch())
    build(path, recipe(), check=False)


def die_at(step: int, path: Path) -> None:
    """Build until so many calls that write to the disk have been made."""
    die_of(step)
    build_there(path)


@pytest.mark.parametrize("grown", [False, True], ids=["at_first", "later"])
def test_whoever_is_killed_while_a_table_grows_leaves_no_trace(
    replay: Replay, tmp_path: Path, grown: bool
) -> None:
    tables = [replay.take(rows) for rows in ((60, 61) if grown else (60,))]
    before = list_all(tables[-1])
    folder, built = replay.path.parent, replay.rebuild(64)
    replay.write(64)
    codes = []
    for step in range(0, 1000, 7 if grown else 14):
        again = Replay(tmp_path / f"killed_{step}", replay.candles, replay.recipe)
        shutil.copytree(folder, again.path.parent, ignore=shutil.ignore_patterns("alone"))
        process = FORKED.Process(target=die_at, args=(step, again.path))
        process.start()
        process.join()
        codes.append(process.exitcode)
        assert verify_series(again.path) == []
        table = Table.open(build(again.path, again.recipe, check=False))
        assert_equal(table, built)
        assert not again.list_names("*.tmp")
        (last,) = (again.path.parent / each.path.name for each in tables[-1:])
        assert list_all(Table.open(last))["x"].tobytes() == before["x"].tobytes()
        del table
        shutil.rmtree(again.path.parent)
        if not codes[-1]:
            break
    assert codes == [9] * (len(codes) - 1) + [0]
    assert len(codes) > 3


def test_two_that_grow_a_table_at_once_make_one(replay: Replay) -> None:
    replay.take(60)
    replay.take(61)
    replay.write(70)
    processes = [FORKED.Process(target=build_there, args=(replay.path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert_equal(Table.open(build(replay.path, replay.recipe)), replay.rebuild(70))
    assert len(replay.list_names("*.rows.h5")) == 2, "of bars, and of the rest"


# --- claimed ones are never written again ---------------------------------------------------------


def revise(replay: Replay, since: int, folder: Path) -> Replay:
    """The same, with other volumes from a bar on."""
    volume = replay.candles["volume"].copy()
    volume[since:] += 1
    return Replay(folder, changed(replay.candles, volume=volume), replay.recipe)


def test_rows_of_a_head_that_was_deleted_are_not_written_over(replay: Replay) -> None:
    replay.take(58)
    replay.take(60)
    read = replay.take(64)
    before = read.bars("volume").tobytes()
    read.path.unlink()
    revised = revise(replay, 60, replay.path.parent)
    table = revised.take(64)
    assert_equal(table, revised.rebuild(64))
    assert find_file(table) != find_file(read)
    assert read.bars("volume").tobytes() == before


def test_folders_that_share_a_rows_file_do_not_write_over_each_others_rows(
    replay: Replay, tmp_path: Path
) -> None:
    replay.take(58)
    replay.take(60)
    snapshot = tmp_path / "snapshot"
    shutil.copytree(replay.path.parent, snapshot, copy_function=os.link)
    read = replay.take(64)
    before = read.bars("volume").tobytes()
    revised = revise(replay, 60, snapshot)
    table = revised.take(64)
    assert_equal(table, revised.rebuild(64))
    assert not find_file(table).samefile(find_file(read))
    assert read.bars("volume").tobytes() == before
    assert verify_series(replay.path) == []


def test_a_growth_that_was_stopped_costs_one_copy(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay.take(60)
    before = find_file(replay.take(61))
    with monkeypatch.context() as patch:
        patch.setattr(growing, "write_virtual", stop)
        with pytest.raises(KeyboardInterrupt):
            replay.take(62)
    table = replay.take(63)
    assert_equal(table, replay.rebuild(63))
    assert find_file(table) != before
    assert find_file(replay.take(64)) == find_file(table)


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_copy_that_follows_sizes_and_times_of_writing_stays_whole(
    replay: Replay, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    replay.take(60)
    for rows in (61, 62, 70):
        size = find_file(replay.take(rows)).stat().st_size
        for path in replay.path.parent.iterdir():
            found, there = path.stat(), copy / path.name
            key = (found.st_size, found.st_mtime_ns)
            if not there.exists() or key != (there.stat().st_size, there.stat().st_mtime_ns):
                shutil.copy2(path, there)
        assert verify_series(copy / "candles.h5") == []
    assert find_file(replay.take(71)).stat().st_size == size


def test_a_rows_file_that_is_older_than_its_head_is_noticed_and_replaced(
    replay: Replay, tmp_path: Path
) -> None:
    replay.take(60)
    older, kept = replay.take(61), tmp_path / "rows"
    rows, claimed = find_file(older), older.rows
    shutil.copy2(rows, kept)
    newer = replay.take(62)
    path, now = newer.path, newer.rows
    del older, newer
    kept.replace(rows)
    with pytest.raises(StoreError, match=rf"rows\.h5: it has {claimed} rows, and .* has {now}"):
        Table.open(path)
    assert_equal(replay.take(62), replay.rebuild(62))


# --- damage and lies ------------------------------------------------------------------------------


@pytest.fixture
def head(replay: Replay) -> Table:
    replay.take(60)
    return replay.take(75)


def test_damage_in_the_rows_is_named_and_the_advice_works(replay: Replay, head: Table) -> None:
    rows, (offset, width) = find_file(head, "close"), find_extent(head, "close")
    with write_in_place(rows) as change:
        change(offset + 70 * width, b"12345678")
    (problem,) = verify_table(head.path)
    assert problem.startswith(f"{rows}: 'close' between ")
    assert "delete it and run `btc-datamodule prepare`" in problem
    with pytest.raises(StoreError, match=r"rows\.h5: 'close' between"):
        Table.open(head.path).bars("close")
    rows.unlink()
    with pytest.raises(StoreError, match=r"rows\.h5 does not exist"):
        Table.open(head.path)
    del head
    assert_equal(replay.take(75), replay.rebuild(75))


@pytest.mark.parametrize(("row", "bars"), [(73, 76), (3, 120)], ids=["newest", "to_be_copied"])
def test_rows_that_are_damaged_are_not_grown_from(
    replay: Replay, head: Table, row: int, bars: int
) -> None:
    rows, (offset, width) = find_file(head), find_extent(head, "x")
    with write_in_place(rows) as change:
        change(offset + row * width, b"1234")
    damaged = rows.read_bytes()
    table = replay.take(bars)
    assert_equal(table, replay.rebuild(bars))
    assert rows.read_bytes() == damaged
    (problem,) = verify_series(replay.path)
    assert problem.startswith(f"{rows}: 'x' between ")


def test_rows_that_nobody_claims_may_be_anything(replay: Replay, head: Table) -> None:
    offset, width = find_extent(head, "volume")
    with write_in_place(find_file(head, "volume")) as change:
        change(offset + head.rows * width, b"left by somebody who was killed.")
    assert verify_series(replay.path) == []
    assert_equal(replay.take(76), replay.rebuild(76))


def test_what_is_added_moves_the_time_of_writing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    os.utime(path, (1e9, 1e9))
    with write_in_place(path) as write_at:
        write_at(5, b"ab")
        write_at(12, b"cd")
    assert path.read_bytes() == b"01234ab789\0\0cd"
    assert path.stat().st_mtime > 1e9


def test_a_full_disk_leaves_the_table_that_there_was(
    replay: Replay, head: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list_all(head)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        replay.write(76)
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match=r"rows\.h5 cannot be written \(No space left"):
            build(replay.path, replay.recipe)
    assert verify_series(replay.path) == []
    assert all(
        values.tobytes() == before[name].tobytes() for name, values in list_all(head).items()
    )
    assert_equal(replay.take(76), replay.rebuild(76))


def virtual(
    name: str, source: str = "", of: str = "", first: int = 0, parts: int = 1
) -> Callable[[h5py.File], None]:
    """An array of a head over something else than it should be."""

    def lie(file: h5py.File) -> None:
        data = file[name]
        shape, dtype, (real,) = data.shape, data.dtype, data.virtual_sources()
        room = shape[0] + 50, *shape[1:]
        taken = h5py.VirtualSource(source or real.file_name, of or name, room, dtype)
        layout, step = h5py.VirtualLayout(shape, dtype), shape[0] // parts
        for low in range(0, shape[0], step):
            high = min(low + step, shape[0])
            layout[low:high] = taken[first + low : first + high]
        del file[name]
        file.create_virtual_dataset(name, layout)

    return lie


def plain(file: h5py.File) -> None:
    del file["close"]
    file["close"] = np.zeros(7)


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (virtual("close", "/etc/passwd"), "'close' is neither in it nor in a file of rows"),
        (virtual("x", "../features-0123456789abcdef.rows.h5"), "'x' is neither in it"),
        (virtual("x", "."), "'x' is neither in it"),
        (virtual("close", "", of="open"), "'close' is neither in it"),
        (virtual("close", "", first=1), "'close' is neither in it"),
        (virtual("close", "", parts=2), "'close' is neither in it"),
        (virtual("close", "features-0123456789abcdef.rows.h5"), r"\.rows\.h5 does not exist"),
        (plain, "its arrays are of several lengths"),
    ],
)
def test_a_head_that_lies_is_refused_and_made_again(
    replay: Replay, head: Table, lie: Callable[[h5py.File], None], told: str
) -> None:
    path = head.path
    del head
    with h5py.File(path, "r+", locking=False) as file:
        lie(file)
    with pytest.raises(StoreError, match=told):
        Table.open(path)
    assert_equal_values(replay.take(75), replay.rebuild(75))


def assert_equal_values(table: Table, built: Table) -> None:
    assert table.digest == built.digest
    assert all(
        list_all(built)[name].tobytes() == each.tobytes() for name, each in list_all(table).items()
    )


def test_a_rows_file_with_fewer_rows_is_refused(replay: Replay, head: Table) -> None:
    rows, path, claimed = find_file(head), head.path, head.rows
    del head
    with h5py.File(rows, "r+", locking=False) as file:
        shape = file["x"].shape
        for name in list(file):
            values = file[name][:70]
            del file[name]
            file[name] = values
    with pytest.raises(StoreError, match=rf"rows\.h5: it has 70 rows, and .* has {claimed}"):
        Table.open(path)
    assert shape[0] > claimed


# --- removal --------------------------------------------------------------------------------------


def test_a_head_that_was_grown_from_is_removed_sooner_than_others(replay: Replay) -> None:
    whole, first = replay.take(60).path, replay.take(61).path
    newest = replay.take(62).path
    unused_for(GROWN_SECONDS + 60, whole, first, newest)
    last = replay.take(63).path
    assert [whole.exists(), first.exists(), newest.exists()] == [True, False, True]
    unused_for(KEPT_SECONDS, whole)
    replay.take(64)
    assert not whole.exists()
    assert last.exists()


def test_a_head_in_use_stays_and_so_do_its_rows(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_at_once(monkeypatch)
    replay.take(60)
    table = replay.take(61)
    rows, before = find_file(table), table.x.tobytes()
    for bars in (62, 80, 90, 102):
        replay.take(bars)
    assert table.path.exists()
    assert rows.exists()
    assert table.x.tobytes() == before
    path = table.path
    del table
    replay.take(103)
    replay.take(104)
    assert not path.exists()
    assert not rows.exists()


def test_rows_whose_heads_were_deleted_stay_as_long_as_they_are_read(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = replay.take(60)
    table = replay.take(61)
    rows = find_file(table)
    table.path.unlink()
    replay.take(62)
    assert rows.exists()
    del table
    replay.take(63)
    assert not rows.exists()


def test_what_was_half_written_is_removed(replay: Replay, head: Table) -> None:
    left = head.path.with_name("features-0123456789abcdef.rows.h5.77.tmp")
    left.write_bytes(b"half")
    mine = head.path.with_name("features-mine.rows.h5")
    mine.write_bytes(b"precious")
    replay.take(76)
    assert not left.exists()
    assert mine.exists()


# --- verify ---------------------------------------------------------------------------------------


def test_verify_reads_rows_that_several_claim_once(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [replay.take(rows) for rows in (60, 110, 115, 120)]
    size = sum(each.width for place in tables[-1].checks.places for each in place.extents.values())
    read = []
    real = os.pread

    def noted(file: int, count: int, at: int) -> bytes:
        found = real(file, count, at)
        read.append(len(found))
        return found

    monkeypatch.setattr(os, "pread", noted)
    assert verify_series(replay.path) == []
    segment = 48
    most = (tables[0].rows + tables[-1].rows + 3 * segment) * size
    assert tables[-1].rows * size < sum(read) < most + 10_000
