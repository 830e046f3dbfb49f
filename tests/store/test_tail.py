"""The tail of a candle file: new bars cost what is new, and are read as if all were one file."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from btc_datamodule.audit.verify import verify_candles
from btc_datamodule.candles import digest
from btc_datamodule.candles.digest import WholeDigest
from btc_datamodule.candles.series import Candles
from btc_datamodule.disk.atomic import forgo_sync
from btc_datamodule.errors import StoreError
from btc_datamodule.store import tail
from btc_datamodule.store.candle_file import CandleReader, read_candles, read_header
from btc_datamodule.store.export import export_candles
from btc_datamodule.store.forms import read_digest
from btc_datamodule.store.tail import identify, list_files, locate_tail
from btc_datamodule.store.update import Update, update
from tests.factories import HOUR, T0, InMemory, candles_of, changed
from tests.helpers import assert_same, digest_of, write
from tests.store.test_crash import FORKED
from tests.store.test_update import Scripted, run

BARS = 400
BASE = 40
THERE = np.random.default_rng(3).random(BARS) > 0.05
THERE[[0, BASE - 1, BASE]] = True
THERE[100:130] = False
WHOLE = candles_of(THERE, optional=["trades"])
SIZES = {"LARGE_ROWS": 20, "TAIL_ROWS": 8}


def shrink(put: Callable[[Any, str, int], None] = setattr) -> None:
    """Files that are large, tails that are full and segments, all of a few bars."""
    for name, rows in SIZES.items():
        put(tail, name, rows)
    put(digest, "DIGEST_ROWS", 16)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    shrink(monkeypatch.setattr)
    with forgo_sync():
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of the first bars and a tail of three more."""
    path = tmp_path / "candles.h5"
    extend(path, BASE)
    extend(path, BASE + 3)
    assert len(list_files(path)) == 2
    return path


def extend(path: Path, end: int, start: int = 0, **how: Any) -> Update:
    """Bring a file up to date to the end of a bar."""
    return update(path, InMemory(WHOLE), HOUR, T0 + start * HOUR, T0 + end * HOUR, **how)


def known(end: int, start: int = 0) -> Candles:
    return WHOLE.slice(T0 + start * HOUR, T0 + end * HOUR)


def assert_holds(path: Path, end: int, start: int = 0) -> None:
    """All that the file says, and every way to read it, is of the bars up to an end."""
    wanted, header = known(end, start), read_header(path)
    assert (header.rows, header.span) == (len(wanted), wanted.span)
    assert header.covered == ((T0 + start * HOUR, T0 + end * HOUR),)
    assert header.digest == digest_of(wanted) == read_digest(path)
    if start == 0:
        assert sum(record.rows for record in header.provenance) == len(wanted)
    assert_same(read_candles(path), wanted)
    assert verify_candles(path) == []


# --- the same whatever way they came ------------------------------------------------------------


@pytest.mark.parametrize("bars", [40, pytest.param(350, marks=pytest.mark.stress)])
def test_bars_that_come_one_by_one_make_the_same_series_as_all_at_once(
    tmp_path: Path, bars: int
) -> None:
    path, kept = tmp_path / "candles.h5", set[bool]()
    extend(path, BASE)
    for end in range(BASE + 1, BASE + bars):
        found = extend(path, end)
        assert found.added == len(known(end)) - len(known(end - 1))
        assert found.header.digest == digest_of(known(end))
        assert len(found.header.provenance) == len(found.header.covered) == 1
        kept.add(locate_tail(path).exists())
        if end % 20 == 0:
            assert_holds(path, end)
    assert kept == {True, False}
    at_once = tmp_path / "once" / "candles.h5"
    extend(at_once, BASE + bars - 1)
    assert read_header(at_once).digest == read_header(path).digest


def test_bars_that_come_by_many_make_the_same_series(tmp_path: Path) -> None:
    path, rng = tmp_path / "candles.h5", np.random.default_rng(1)
    ends = np.cumsum([BASE, *rng.integers(1, 12, 10)])
    for end in ends.tolist():
        extend(path, end)
        assert_holds(path, end)


def test_one_bar_leaves_the_file_itself_as_it_is(path: Path) -> None:
    before = path.read_bytes(), path.stat().st_ino
    extend(path, BASE + 4)
    assert (path.read_bytes(), path.stat().st_ino) == before
    assert_holds(path, BASE + 4)
    names = {"candles.h5", "candles.tail.h5", "candles.lock"}
    assert {file.name for file in path.parent.iterdir()} <= names


def test_a_tail_or_a_part_of_few_bars_takes_little_room(tmp_path: Path) -> None:
    path = write(tmp_path / "part.h5", known(BASE), compress=False)
    assert path.stat().st_size > 1_000_000  # of one that may have many
    extend(tmp_path / "candles.h5", BASE)
    extend(tmp_path / "candles.h5", BASE + 2)
    assert locate_tail(tmp_path / "candles.h5").stat().st_size < 20_000


def test_a_small_file_has_no_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "candles.h5"
    monkeypatch.setattr(tail, "LARGE_ROWS", 1000)
    for end in (BASE, BASE + 1):
        extend(path, end)
        assert list_files(path) == [path]
        assert_holds(path, end)


def test_an_answer_without_bars_is_remembered(path: Path) -> None:
    for end in (100, 101, 130):  # the bars from 100 to 130 are absent
        extend(path, end)
    assert_holds(path, 130)
    before = [file.stat().st_mtime_ns for file in list_files(path)]
    assert extend(path, 130).added == 0
    assert [file.stat().st_mtime_ns for file in list_files(path)] == before


def test_a_tail_without_bars_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    for end in (100, 110, 129):
        extend(path, end)
        assert_holds(path, end)
        assert locate_tail(path).exists() == (end > 100)
    extend(path, 132)
    assert_holds(path, 132)
    assert locate_tail(path).exists()


@pytest.mark.parametrize(
    ("how", "end"),
    [({"refresh": True}, BASE + 3), ({"start": 0}, BASE + 3), ({}, BASE + 30)],
    ids=["refresh", "an earlier start", "many bars"],
)
def test_what_is_more_than_new_bars_makes_file_and_tail_one(
    tmp_path: Path, how: dict[str, Any], end: int
) -> None:
    path = tmp_path / "candles.h5"
    for each in (BASE, BASE + 3):
        extend(path, each, 10)
    assert len(list_files(path)) == 2
    extend(path, end, **{"start": 10, **how})
    assert list_files(path) == [path]
    assert_holds(path, end, how.get("start", 10))


def test_a_new_column_makes_file_and_tail_one(path: Path) -> None:
    more = changed(WHOLE, quote_volume=WHOLE["close"] * WHOLE["volume"])
    update(path, InMemory(more), HOUR, T0, T0 + (BASE + 4) * HOUR)
    assert list_files(path) == [path]
    assert "quote_volume" in read_header(path).columns
    assert_same(
        read_candles(path).slice(*known(BASE + 4, BASE + 3).span),
        more.slice(T0 + (BASE + 3) * HOUR, T0 + (BASE + 4) * HOUR),
    )


def test_a_source_that_is_read_whole_has_no_tail(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    for bars, token in ((40, "a"), (42, "b")):
        run(path, Scripted(known(bars), token=token), 0, 60)
        assert list_files(path) == [path]
        assert read_header(path).digest == digest_of(known(bars))


def test_slices_holes_and_digests_do_not_show_where_the_tail_begins(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    for end in (98, 99, 132):
        extend(path, end)
    assert len(list_files(path)) == 2
    wanted = known(132)
    with CandleReader(path) as reader:
        np.testing.assert_array_equal(reader.holes(), wanted.holes())
        edges = [-3, 0, 50, 96, 97, 98, 99, 115, 130, 131, 140]
        for start, end in [*pairwise(edges), (0, 140), (97, 131), (60, 20)]:
            span = T0 + start * HOUR, T0 + end * HOUR
            assert_same(reader.slice(*span), wanted.slice(*span))
            assert reader.digest_before(span[0]) == digest_of(wanted.slice(0, span[0]))
    found = export_candles(path, wanted.span, tmp_path / "all.csv")
    assert len(found.read_text().splitlines()) == len(wanted) + 1


# --- killed at any step -------------------------------------------------------------------------


def extend_until_killed(path: Path, end: int, steps: int) -> None:
    """Be killed right before a file or folder is renamed or removed, after so many that were."""
    left = steps

    def count(event: str, given: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("os.rename", "os.remove", "os.rmdir") and "candles" in str(given):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    shrink()
    sys.addaudithook(count)
    with forgo_sync():
        extend(path, end)


@pytest.mark.parametrize(("first", "then"), [(BASE + 1, BASE + 2), (BASE + 7, BASE + 12)])
def test_killed_before_any_step_what_was_stored_is_there_and_the_next_run_ends_the_same(
    tmp_path: Path, first: int, then: int
) -> None:
    before, seen = tmp_path / "before", set[int]()
    for end in (BASE, first):
        extend(before / "candles.h5", end)
    for steps in range(40):
        path = tmp_path / str(steps) / "candles.h5"
        shutil.copytree(before, path.parent)
        worker = FORKED.Process(target=extend_until_killed, args=(path, then, steps))
        worker.start()
        worker.join()
        found = read_candles(path)
        seen.add(len(found))
        assert_same(found, known(then if len(found) == len(known(then)) else first))
        extend(path, then + 1)  # which may find parts that are stored already
        assert_holds(path, then + 1)
        names = {"candles.h5", "candles.lock", "candles.tail.h5"}
        assert {file.name for file in path.parent.iterdir()} <= names
        if worker.exitcode == 0:
            break
        assert worker.exitcode == -signal.SIGKILL
    assert worker.exitcode == 0
    assert steps >= 4
    assert seen == {len(known(first)), len(known(then))}


def test_a_tail_that_a_merge_has_left_is_not_read_again(path: Path) -> None:
    left = locate_tail(path).read_bytes()
    extend(path, BASE + 30)
    locate_tail(path).write_bytes(left)
    assert_holds(path, BASE + 30)
    extend(path, BASE + 31)
    assert_holds(path, BASE + 31)


# --- read while written -------------------------------------------------------------------------


def extend_one_by_one(path: Path, end: int) -> None:
    shrink()
    with forgo_sync():
        for each in range(BASE + 1, end + 1):
            extend(path, each)


def test_readers_never_see_fewer_bars_nor_a_mixture(tmp_path: Path) -> None:
    path, end, rows, reads = tmp_path / "candles.h5", BASE + 18, 0, 0
    extend(path, BASE)
    worker = FORKED.Process(target=extend_one_by_one, args=(path, end))
    worker.start()
    while worker.is_alive() or not reads:
        found = read_candles(path)  # which compares the digest
        assert len(found) >= rows
        rows, reads = len(found), reads + 1
        assert_same(found, WHOLE.slice(*found.span))
    worker.join()
    assert worker.exitcode == 0
    assert_holds(path, end)
    assert reads > 5


def test_a_file_that_is_replaced_while_it_is_opened_is_opened_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[Path]()
    locate = locate_tail

    def replace_first(candles: Path) -> Path:
        if not opened:  # the file is open, and its tail is not yet
            opened.append(candles)
            extend(path, BASE + 30)
        return locate(candles)

    monkeypatch.setattr(tail, "locate_tail", replace_first)
    assert_same(read_candles(path), known(BASE + 30))


# --- schema 1 -----------------------------------------------------------------------------------


def make_older(path: Path) -> str:
    """Make of a file one of schema 1; give its digest."""
    whole = WholeDigest(HOUR)
    whole.update(read_candles(path))
    with h5py.File(path, "r+") as file:
        del file["segments"], file["digests"]
        file.attrs.update({"schema": 1, "digest": whole.hexdigest()})
    return whole.hexdigest()


def test_a_file_of_schema_1_is_read_and_verified_and_written_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "older.h5", known(BASE), covered=[known(BASE).span])
    said = make_older(path)
    assert read_header(path).digest == said != digest_of(known(BASE))
    assert_same(read_candles(path), known(BASE))
    assert verify_candles(path) == []
    with CandleReader(path) as reader:
        assert reader.digest_before(T0 + 33 * HOUR) == digest_of(known(33))
    updated = tmp_path / "candles.h5"
    extend(updated, BASE)
    make_older(updated)
    for end in (BASE + 1, BASE + 2):
        extend(updated, end)
        assert_holds(updated, end)
    assert len(list_files(updated)) == 2


def test_a_file_of_schema_1_with_other_bars_is_found_out(tmp_path: Path) -> None:
    path = write(tmp_path / "candles.h5", known(BASE))
    make_older(path)
    with h5py.File(path, "r+") as file:
        file["candles/volume"][3] += 1.0
    with pytest.raises(StoreError, match="not those that were written"):
        read_candles(path)


# --- damage -------------------------------------------------------------------------------------


def put(name: str, at: int) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file[name][at] = file[name][at] + 1

    return spoil


def attribute(**values: Any) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file.attrs.update(values)

    return spoil


def no_longer_a_tail(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["follows"]


def earlier_bars(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["candles/open_time"][:] -= 10 * HOUR


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no HDF5": (lambda path: path.write_bytes(b"nothing"), "is not an HDF5 file"),
    "half a file": (lambda path: path.write_bytes(path.read_bytes()[:3000]), "HDF5 file"),
    "another value": (put("candles/trades", 1), "candles are not those that were written"),
    "another digest": (put("digests", 0), "its digest is not that of its segments"),
    "another series": (attribute(series="ETH"), "does not have bars that follow"),
    "no tail": (no_longer_a_tail, "does not have bars that follow"),
    "earlier bars": (earlier_bars, "does not have bars that follow"),
    "another schema": (attribute(schema=7), "is not a candle file of schema 2"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_of_a_tail_is_named_and_moving_it_away_mends_it(path: Path, what: str) -> None:
    spoil, problem = DAMAGE[what]
    damaged = locate_tail(path)
    spoil(damaged)
    for read in (read_candles, lambda path: extend(path, BASE + 4)):
        with pytest.raises(StoreError, match=problem) as caught:
            read(path)
        assert str(damaged) in str(caught.value)
        assert "move it away and run `btc-datamodule prepare`" in str(caught.value)
    assert re.match(re.escape(str(damaged)), verify_candles(path)[0])
    damaged.unlink()
    assert read_header(path).rows == len(known(BASE))
    extend(path, BASE + 4)
    assert_holds(path, BASE + 4)


def test_damage_of_the_file_itself_is_named_as_its_own(path: Path) -> None:
    put("candles/trades", 20)(path)
    with pytest.raises(StoreError, match=re.escape(f"{path}: the candles are not those")):
        read_candles(path)


def test_damage_in_the_last_segment_is_found_before_more_is_added(path: Path) -> None:
    put("candles/trades", -1)(path)
    locate_tail(path).unlink()
    with pytest.raises(StoreError, match=re.escape(f"{path}: the newest candles are not those")):
        extend(path, BASE + 1)


def test_a_tail_is_not_read_by_itself(path: Path) -> None:
    with pytest.raises(StoreError, match="give the path of that one"):
        read_candles(locate_tail(path))


def test_a_tail_names_all_that_its_file_says(path: Path) -> None:
    with CandleReader(path) as reader:
        base, own = reader.files
        assert own.follows == identify(base.header)
        other = WHOLE.slice(T0, T0 + HOUR)
        write(path, other, covered=[other.span])
    assert_same(read_candles(path), other)
