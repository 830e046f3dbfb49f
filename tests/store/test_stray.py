"""A tail and its file are found together, however they are named, moved, copied or opened."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from btc_datamodule import Block, CandleFile
from btc_datamodule.audit.verify import verify_series
from btc_datamodule.candles.timeline import (
    Span,
    format_instant,
    parse_instant,
    parse_interval,
)
from btc_datamodule.cli.info import describe_stored
from btc_datamodule.disk.atomic import forgo_sync
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.errors import StoreError
from btc_datamodule.store.candle_file import read_candles, read_header
from btc_datamodule.store.tail import list_files, locate_tail
from btc_datamodule.store.update import update, use_stored
from tests.factories import HOUR, T0, InMemory, candles_of, make_datamodule
from tests.helpers import assert_same
from tests.store.test_tail import BASE, WHOLE, assert_holds, extend, known, shrink
from tests.store.test_unreachable import forbid_writing


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    shrink(monkeypatch.setattr)
    with forgo_sync():
        yield


class Nobody(InMemory):
    """A source that is not to be asked."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        raise AssertionError("asked")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of the first bars and a tail of three more."""
    path = tmp_path / "candles.h5"
    for end in (BASE, BASE + 3):
        extend(path, end)
    return path


@pytest.fixture
def link(path: Path) -> Path:
    """A link to that file, in another folder, under another name."""
    (path.parent / "other").mkdir()
    link = path.parent / "other" / "mine.h5"
    link.symlink_to(path)
    return link


# --- links --------------------------------------------------------------------------------------


def test_a_link_to_a_file_has_its_tail(path: Path, link: Path) -> None:
    assert_holds(link, BASE + 3)
    for each, end in ((link, BASE + 4), (path, BASE + 5), (link, BASE + 20), (path, BASE + 21)):
        extend(each, end)
        assert_holds(path, end)
        assert_holds(link, end)
        assert link.is_symlink()
    assert [*link.parent.iterdir()] == [link]


def test_all_who_share_a_file_by_links_wait_for_each_other(path: Path, link: Path) -> None:
    with hold_lock(path.with_suffix(".lock")), pytest.raises(StoreError, match="has been held"):
        extend(link, BASE + 4, lock_timeout=0)


def test_what_was_left_half_written_beside_the_file_goes_by_a_link_too(
    path: Path, link: Path
) -> None:
    left = [path.with_name(f"{file.name}.77.tmp") for file in list_files(path)]
    for file in left:
        file.write_bytes(b"half")
    extend(link, BASE + 4)
    assert not any(file.exists() for file in left)


def test_a_link_to_a_file_that_cannot_be_written_is_used_as_it_is(
    path: Path, link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda each, mode: each != path.parent and real(each, mode))
    with pytest.raises(StoreError, match="cannot be written"):
        extend(link, BASE + 4)
    (note,) = update(link, InMemory(WHOLE), HOUR, T0, None).notes
    assert f"{path.parent} cannot be written, so that nothing is added" in note


def test_a_link_to_nowhere_is_replaced_as_before(tmp_path: Path) -> None:
    link = tmp_path / "candles.h5"
    link.symlink_to(tmp_path / "nowhere.h5")
    extend(link, BASE)
    assert not link.is_symlink()
    assert locate_tail(link) == tmp_path / "candles.tail.h5"


# --- a tail without its file ----------------------------------------------------------------------


def list_aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob("candles.tail.aside-*.h5"))


def test_a_tail_whose_file_was_moved_away_is_moved_aside_and_can_be_put_back(path: Path) -> None:
    kept = path.with_name("kept.h5")
    path.rename(kept)
    (note,) = extend(path, BASE + 10, BASE - 10).notes
    assert_holds(path, BASE + 10, BASE - 10)
    (aside,) = list_aside(path)
    assert f"moved aside to {aside}, with 3 bars from" in note
    kept.replace(path)
    aside.rename(locate_tail(path))  # as the note says
    assert_holds(path, BASE + 3)
    extend(path, BASE + 4)
    assert_holds(path, BASE + 4)


def test_of_several_tails_each_is_kept(path: Path) -> None:
    kept = [file.read_bytes() for file in list_files(path)]
    for number in (1, 2):
        path.unlink()
        locate_tail(path).write_bytes(kept[1])
        extend(path, BASE)
        assert len(list_aside(path)) == number
    assert [file.read_bytes() for file in list_aside(path)] == [kept[1]] * 2


def test_a_tail_that_cannot_be_read_is_not_deleted_with_its_file_gone(path: Path) -> None:
    path.unlink()
    locate_tail(path).write_bytes(b"damaged")
    (note,) = extend(path, BASE).notes
    assert "with bars, which cannot be read" in note
    assert [file.read_bytes() for file in list_aside(path)] == [b"damaged"]


@pytest.fixture
def restored(path: Path) -> Path:
    """A copy of the file from before a merge, with the tail from after it."""
    earlier = path.read_bytes()
    for end in (BASE + 12, BASE + 14):
        extend(path, end)
    path.write_bytes(earlier)
    return path


def test_a_tail_of_a_later_file_is_told_of_and_not_written_over(restored: Path) -> None:
    later, what = locate_tail(restored).read_bytes(), f"{locate_tail(restored)} does not follow"
    (note,) = extend(restored, BASE).notes
    assert note.startswith(what)
    assert f"its 2 bars from {format_instant(T0 + (BASE + 12) * HOUR)}" in note
    (problem,) = verify_series(restored)
    assert problem.startswith(what)
    (note,) = extend(restored, BASE + 1).notes
    assert "moved aside" in note
    (aside,) = list_aside(restored)
    assert aside.read_bytes() == later
    assert len(list_files(restored)) == 2
    assert_holds(restored, BASE + 1)
    assert verify_series(restored) == []
    assert extend(restored, BASE + 2).notes == ()


def test_a_tail_that_a_merge_has_left_is_no_stray(path: Path) -> None:
    left = locate_tail(path).read_bytes()
    extend(path, BASE + 30)
    locate_tail(path).write_bytes(left)
    assert extend(path, BASE + 30).notes == ()
    assert extend(path, BASE + 31).notes == ()
    assert list_aside(path) == []
    locate_tail(path).write_bytes(left)
    extend(path, BASE + 60)
    assert [*list_files(path), *list_aside(path)] == [path]


def test_a_tail_of_another_series_with_the_same_times_is_kept(path: Path) -> None:
    path.unlink()
    other = InMemory(WHOLE, "other")
    (note,) = update(path, other, HOUR, T0, T0 + (BASE + 3) * HOUR).notes
    assert "moved aside" in note
    assert len(list_aside(path)) == 1


# --- read by others -------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True], ids=["itself", "a link"])
def test_a_candle_file_as_a_source_is_read_with_its_tail(
    path: Path, link: Path, shared: bool
) -> None:
    own, out = link if shared else path, path.parent / "out" / "candles.h5"
    for end in (BASE + 3, BASE + 30):
        extend(path, end)
        source = CandleFile(str(own), dataset="candles")
        found = update(out, source, HOUR, None, None)
        assert found.notes == ()
        assert_same(read_candles(out), known(end))
        assert ("candles.tail.h5" in found.header.provenance[-1].origin) == (end < BASE + 30)


def test_a_source_of_a_candle_file_sees_that_its_tail_has_changed(path: Path) -> None:
    source = CandleFile(str(path), dataset="candles")
    before = source.revision
    extend(path, BASE + 4)
    assert source.revision != before


# --- the whole way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "offset", "first"),
    [("1w", None, "2010-01-04"), ("1d", "8h", "2020-01-01T08:00")],
    ids=["weeks", "days from 08:00"],
)
def test_bars_of_another_grid_go_to_the_tail(
    tmp_path: Path, interval: str, offset: str | None, first: str
) -> None:
    path, start = tmp_path / "candles.h5", parse_instant(first)
    step = parse_interval(interval, offset)
    bars = candles_of((start + int(step) * np.arange(BASE + 11)).tolist(), step)
    kept = set[bool]()
    for count in range(BASE, BASE + 11):
        end = start + count * int(step)
        update(path, InMemory(bars), step, start, end)
        kept.add(locate_tail(path).exists())
        assert_same(read_candles(path), bars.slice(start, end))
        assert read_header(path).covered == ((start, end),)
    assert kept == {True, False}
    assert verify_series(path) == []


def test_a_file_and_its_tail_are_read_where_nothing_can_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_writing(monkeypatch)
    path.parent.chmod(0o555)
    try:
        assert extend(path, BASE + 3).notes == ()
        assert_holds(path, BASE + 3)
        (note,) = update(path, InMemory(WHOLE), HOUR, T0, None).notes
        assert f"up to {format_instant(T0 + (BASE + 3) * HOUR)}" in note
    finally:
        path.parent.chmod(0o755)


def test_offline_takes_the_tail_too_and_tells_of_one_that_is_not_read(tmp_path: Path) -> None:
    how: dict[str, Any] = {
        "source": InMemory(WHOLE),
        "start": format_instant(T0),
        "features": ["log_return"],
    }
    for end in (90, 93):
        last = format_instant(T0 + end * HOUR)
        dm = make_datamodule(tmp_path, ready=False, end=last, **how)
        dm.prepare_data()
    assert len(list_files(dm.candle_path)) == 2
    offline = make_datamodule(tmp_path, end=last, offline=True, **how | {"source": Nobody(WHOLE)})
    assert offline.table.rows == 93
    assert "not read" not in describe_stored(offline)
    with h5py.File(locate_tail(offline.candle_path), "r+") as file:
        file.attrs["follows"] = "0" * 64
    assert f"not read  {locate_tail(offline.candle_path)} does" in describe_stored(offline)
    found = use_stored(offline.candle_path, offline.source, T0, T0 + 90 * HOUR, name="memory")
    assert "its 3 bars from" in found.notes[-1]
