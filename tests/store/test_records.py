"""Updating files of records: by the steps of candles, and nothing that is not known yet."""

import multiprocessing as mp
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule import RecordBlock, SourceError, StoreError
from btc_datamodule.audit.verify import verify_records
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import Span, subtract
from btc_datamodule.store import parts as parts_module
from btc_datamodule.store.locating import find_record_source, locate_records
from btc_datamodule.store.parts import Parts
from btc_datamodule.store.record_file import read_record_header, read_records
from btc_datamodule.store.update import RecordUpdate, update_records, use_stored
from tests.factories import HOUR, T0
from tests.store.records import (
    HELD,
    Scripted,
    assert_same,
    digest_of,
    hours,
    records_of,
    revise,
    write,
)

SPAWN = mp.get_context("spawn")


def run(path: Path, source: Scripted, low: float, high: float, **how: Any) -> RecordUpdate:
    return update_records(path, source, *hours(low, high), **how)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scripted" / "funding" / "records.h5"


def at_hour(monkeypatch: pytest.MonkeyPatch, hour: float) -> None:
    """It is so many hours past ``T0`` from now on."""
    monkeypatch.setattr(time, "time", lambda: T0 + hour * HOUR)


# --- what is asked ------------------------------------------------------------------------------


def test_the_first_run_fetches_the_span(path: Path) -> None:
    source = Scripted()
    result = run(path, source, 5, 30)
    wanted = HELD.slice(*hours(5, 30))
    assert source.asked == [hours(5, 30)]
    assert (result.added, result.notes) == (len(wanted), ())
    assert_same(read_records(path), wanted)
    header = result.header
    assert header == read_record_header(path)
    assert (header.source, header.series, header.revision) == ("scripted", "funding", "")
    assert (header.covered, header.digest) == ((hours(5, 30),), digest_of(wanted))
    assert (header.longest_delay, header.pending) == (7800, 0)
    (record,) = header.provenance
    assert (record.origin, record.span, record.rows) == ("script", hours(5, 30), len(wanted))
    assert {file.name for file in path.parent.iterdir()} <= {"records.h5", "records.lock"}
    assert verify_records(path) == []


def test_only_what_is_missing_is_asked_for_and_never_twice(path: Path) -> None:
    source = Scripted()
    run(path, source, 10, 20)
    run(path, source, 5, 30.5)
    assert source.asked == [hours(10, 20), hours(5, 10), hours(20, 30.5)]
    before, when = path.read_bytes(), path.stat().st_mtime_ns
    assert run(path, source, 7, 30.25).added == 0
    assert len(source.asked) == 3
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, when)
    assert_same(read_records(path), HELD.slice(*hours(5, 30.5)))


def test_records_without_an_interval_are_asked_for_by_the_second(path: Path) -> None:
    source = Scripted()
    update_records(path, source, T0 + 1, T0 + 3 * HOUR + 1)
    assert source.asked == [(T0 + 1, T0 + 3 * HOUR + 1)]
    assert read_records(path).time.tolist() == [T0 + HOUR * hour for hour in (1, 2, 3)]


def test_those_of_an_interval_are_asked_for_on_its_grid(path: Path) -> None:
    source = Scripted(records_of(range(60), delay=HOUR), step=HOUR)
    update_records(path, source, T0 + 1, T0 + 3 * HOUR + 1)
    assert source.asked == [hours(1, 4)]
    assert read_record_header(path).interval == HOUR
    with pytest.raises(
        StoreError, match="holds scripted funding 1h records, not scripted funding:"
    ):
        run(path, Scripted(), 0, 9)


def test_where_records_lie_and_that_a_source_finds_its_own(tmp_path: Path) -> None:
    path = locate_records(tmp_path, Scripted())
    assert path == tmp_path / "scripted" / "funding" / "records.h5"
    assert find_record_source(tmp_path, Scripted()) == Scripted()
    run(path, Scripted(), 0, 9)
    assert find_record_source(tmp_path, Scripted()) == Scripted()


# --- what comes back ----------------------------------------------------------------------------


def test_a_revision_that_came_since_stands_beside_what_it_revises(path: Path) -> None:
    run(path, Scripted(), 0, 30)
    revised = revise(HELD, 3, 5 * HOUR, rate=-7.0)
    result = run(path, Scripted(revised), 0, 30, refresh=True)
    assert (result.added, result.notes) == (1, ())
    assert_same(read_records(path), revised.slice(*hours(0, 30)))
    assert result.header.longest_delay == 5 * HOUR + 600


@pytest.mark.parametrize("refresh", [False, True])
def test_another_value_of_a_record_is_told_and_taken_only_if_refreshed(
    path: Path, refresh: bool
) -> None:
    run(path, Scripted(), 10, 20)
    rate = HELD["rate"].copy()
    rate[np.searchsorted(HELD.time, T0 + 15 * HOUR)] = 5.0
    other = RecordSet({**HELD.columns, "rate": rate})
    write(path.with_suffix(".parts") / "000000.h5", other, covered=[hours(0, 60)])
    result = run(path, Scripted(other), 0, 30, refresh=refresh)
    what = "replaced" if refresh else "kept as stored; `refresh: true` takes the new values"
    assert (
        "scripted funding: 1 records came back different from what is stored, the first at "
        f"2020-01-01T15:00:00Z: {what}"
    ) in result.notes
    first, revised = HELD.slice(*hours(15, 16))["rate"]
    found = read_records(path).slice(*hours(15, 16))["rate"].tolist()
    assert found == [5.0 if refresh else first, revised]


def test_records_that_the_source_has_no_more_are_kept_and_told(path: Path) -> None:
    run(path, Scripted(), 0, 30)
    fewer = HELD.take((HELD.time != T0 + 3 * HOUR) & (HELD["rate"] != 9.0))
    result = run(path, Scripted(fewer), 0, 30, refresh=True)
    assert result.notes == (
        "scripted funding: 2 stored records are not in the answer any more, the first at "
        "2020-01-01T03:00:00Z: kept",
    )
    assert_same(read_records(path), HELD.slice(*hours(0, 30)))


def test_what_is_read_whole_replaces_what_was_stored(path: Path) -> None:
    run(path, Scripted(HELD.slice(*hours(0, 40)), token="1"), 0, 1)
    assert read_record_header(path).revision == "1"
    rate = HELD["rate"].copy()
    rate[2] = 4.0
    other = RecordSet({**HELD.columns, "rate": rate})
    other = revise(other.take(np.arange(len(other)) != 5), 1, 60, rate=0.5)
    source = Scripted(other, token="2")
    result = run(path, source, 0, 1)
    assert result.notes == (
        "scripted funding: it says something else than when it was last read: 1 records differ, "
        "the first at 2020-01-01T02:00:00Z; 1 records are gone, the first at "
        "2020-01-01T05:00:00Z; 1 records are new before the end of what was stored, the first at "
        "2020-01-01T01:00:00Z: what it says now replaces what was stored",
    )
    assert_same(read_records(path), other)
    assert run(path, source, 0, 1).added == 0
    assert len(source.asked) == 1
    assert verify_records(path) == []


def test_a_window_of_a_merge_begins_wherever_records_are_many(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("candle_file", "record_file"):
        monkeypatch.setattr(f"btc_datamodule.store.{module}.CHUNK_ROWS", 4)
    bursts = records_of(np.concatenate([np.arange(30) / 60, [50], 200 + np.arange(30) / 60]))
    run(path, Scripted(bursts, block_hours=100), 0, 60)
    run(path, Scripted(bursts, block_hours=100), 0, 300)
    result = run(path, Scripted(revise(bursts, 40, 9)), 100, 300, refresh=True)
    assert (result.added, result.notes) == (1, ())
    assert_same(read_records(path), revise(bursts, 40, 9))
    whole = Scripted(revise(bursts, 2, 9), token="1")
    assert "1 records are gone" in run(path, whole, 0, 1).notes[0]
    assert_same(read_records(path), whole.held)


# --- interrupted --------------------------------------------------------------------------------


def test_what_was_answered_before_an_error_is_kept_and_not_asked_for_again(path: Path) -> None:
    with pytest.raises(SourceError, match="the wire was cut"):
        run(path, Scripted(fail_after=2), 0, 50)
    assert not path.exists()
    (part,) = path.with_suffix(".parts").iterdir()
    assert verify_records(part) == []
    source = Scripted()
    result = run(path, source, 0, 50)
    assert source.asked == [hours(20, 50)]
    assert result.added == len(HELD.slice(*hours(0, 50)))
    assert_same(read_records(path), HELD.slice(*hours(0, 50)))
    assert not path.with_suffix(".parts").exists()


@dataclass(frozen=True)
class Deadly(Scripted):
    """Kills its process after some blocks."""

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        for number, block in enumerate(super().blocks(span)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield block


def fill(path: Path) -> None:
    parts_module.PART_SECONDS = 0.0
    run(path, Deadly(), 0, 60)


def test_a_run_that_was_killed_is_gone_on_with(path: Path) -> None:
    process = SPAWN.Process(target=fill, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = sorted(path.with_suffix(".parts").iterdir())
    assert [verify_records(part) for part in kept] == [[], [], []]
    source = Scripted()
    run(path, source, 0, 60)
    assert source.asked == [hours(30, 60)]
    assert_same(read_records(path), HELD)
    assert {file.name for file in path.parent.iterdir()} <= {"records.h5", "records.lock"}


def test_parts_that_were_merged_already_are_not_merged_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: Parts) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "discard", end)
        with pytest.raises(KeyboardInterrupt):
            run(path, Scripted(), 0, 30)
    assert any(path.with_suffix(".parts").iterdir())
    run(path, Scripted(), 0, 40)
    assert_same(read_records(path), HELD.slice(*hours(0, 40)))
    (record,) = read_record_header(path).provenance
    assert record.rows == len(HELD.slice(*hours(0, 40)))


def test_a_part_that_is_damaged_or_of_another_series_is_told(path: Path) -> None:
    with pytest.raises(SourceError):
        run(path, Scripted(fail_after=2), 0, 50)
    (part,) = path.with_suffix(".parts").iterdir()
    whole = part.read_bytes()
    with h5py.File(part, "r+") as file:
        file["records/rate"][3] = 8.0
    with pytest.raises(
        StoreError, match=r"000000\.h5: the records are not those that were written"
    ):
        run(path, Scripted(), 0, 50)
    part.write_bytes(whole[:-40])
    with pytest.raises(StoreError, match=r"000000\.h5"):
        run(path, Scripted(), 0, 50)
    write(part, HELD, series="rates")
    with pytest.raises(StoreError, match="scripted rates records, not scripted funding: delete it"):
        run(path, Scripted(), 0, 50)


def test_a_stored_file_that_is_damaged_is_left_as_it_is(path: Path) -> None:
    run(path, Scripted(), 0, 30)
    with h5py.File(path, "r+") as file:
        file["records/rate"][3] = 8.0
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not those that were written"):
        run(path, Scripted(), 0, 50)
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(StoreError, match="move it away"):
        run(path, Scripted(), 0, 50)
    assert path.read_bytes() == before[: len(before) // 2]


STEP = st.tuples(st.integers(0, 60), st.integers(0, 60), st.none() | st.integers(0, 3))


@settings(max_examples=25)
@given(st.lists(STEP, max_size=4))
def test_however_it_was_filled_a_file_holds_what_the_source_has(
    steps: list[tuple[int, int, int | None]],
) -> None:
    with TemporaryDirectory() as folder:
        path, source = Path(folder) / "records.h5", Scripted()
        for low, high, fail_after in [*steps, (0, 60, None)]:
            try:
                run(path, replace(source, fail_after=fail_after), *sorted((low, high)))
            except SourceError:
                continue
            span = hours(*sorted((low, high)))
            assert subtract(span, read_record_header(path).covered) == []
        assert_same(read_records(path), HELD)
        assert verify_records(path) == []


# --- not known yet --------------------------------------------------------------------------------


def test_a_record_is_stored_once_it_is_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Scripted(records_of(range(40), delay=2 * HOUR))
    at_hour(monkeypatch, 20.5)
    result = update_records(path, source, T0, None)
    assert read_records(path).time[-1] == T0 + 18 * HOUR
    assert result.header.covered == (hours(0, 19),)
    assert (result.notes, result.header.pending) == ((), 0)
    at_hour(monkeypatch, 21)
    update_records(path, source, T0, None)
    assert source.asked == [hours(0, 20.5), hours(19, 21)]
    assert read_records(path).time[-1] == T0 + 19 * HOUR
    assert_same(read_records(path), source.held.slice(*hours(0, 20)))


def test_nothing_is_settled_after_one_that_comes_late(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = records_of(range(40))
    known_at = held.known_at.copy()
    known_at[15] = T0 + 50 * HOUR
    source = Scripted(RecordSet({**held.columns, "known_at": known_at}))
    at_hour(monkeypatch, 30)
    assert update_records(path, source, T0, None).header.covered == (hours(0, 15),)
    at_hour(monkeypatch, 50)
    update_records(path, source, T0, T0 + 40 * HOUR)
    assert_same(read_records(path), source.held)


def test_a_first_record_that_is_not_known_leaves_an_empty_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hour(monkeypatch, 3)
    for _ in range(2):
        header = update_records(
            path, Scripted(records_of(range(9), delay=4 * HOUR)), T0, None
        ).header
        assert (header.rows, header.covered) == (0, ())


def test_of_a_source_that_is_read_whole_single_records_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = records_of(range(40))
    known_at = held.known_at.copy()
    known_at[[15, 30]] = T0 + 50 * HOUR, T0 + 45 * HOUR
    source = Scripted(RecordSet({**held.columns, "known_at": known_at}), token="1", block_hours=99)
    at_hour(monkeypatch, 41)
    result = run(path, source, 0, 1)
    assert result.header.pending == T0 + 45 * HOUR
    assert result.notes == (
        "scripted funding: 2 records are not known yet, the first until 2020-01-02T21:00:00Z: "
        "left out, and read by the first run after that",
    )
    assert_same(read_records(path), source.held.take(source.held.known_at <= T0 + 41 * HOUR))
    at_hour(monkeypatch, 44.9)
    assert run(path, source, 0, 1).notes == ()
    assert len(source.asked) == 1
    at_hour(monkeypatch, 45)
    result = run(path, source, 0, 1)
    assert (result.added, result.header.pending) == (1, T0 + 50 * HOUR)
    at_hour(monkeypatch, 51)
    result = run(path, source, 0, 1)
    assert (result.added, result.header.pending) == (1, 0)
    assert_same(read_records(path), source.held)
    assert len(source.asked) == 3


def test_where_nothing_can_be_written_what_is_known_since_can_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Scripted(records_of(range(40), delay=2 * HOUR), token="1")
    at_hour(monkeypatch, 40)
    run(path, source, 0, 1)
    at_hour(monkeypatch, 60)
    monkeypatch.setattr("os.access", lambda *_: False)
    (note,) = run(path, source, 0, 1).notes
    assert "cannot be written, so that nothing is added: what is stored is used" in note
    with pytest.raises(StoreError, match="lacks what its source says now"):
        run(path, replace(source, token="2"), 0, 1)
    with pytest.raises(StoreError, match="lacks what its source says now"):
        run(path, source, 0, 1, refresh=True)


# --- sources in trouble -------------------------------------------------------------------------


def test_latest_records_are_welcome_and_others_needed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hour(monkeypatch, 50)
    update_records(path, Scripted(), T0, None)
    at_hour(monkeypatch, 60)
    silent = Scripted(fail_after=0)
    result = update_records(path, silent, T0, None)
    assert result.notes == (
        "scripted funding: scripted: the wire was cut: what is stored is used, up to "
        "2020-01-03T01:00:00Z; `offline: true` asks nothing",
    )
    with pytest.raises(SourceError, match="the wire was cut"):
        update_records(path, silent, T0, T0 + 55 * HOUR)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "so that nothing is added" in update_records(path, Scripted(), T0, None).notes[0]
    with pytest.raises(StoreError, match="lacks records from 2020-01-03T02:00:00Z to"):
        update_records(path, Scripted(), T0, T0 + 55 * HOUR)


def test_a_source_without_a_record_is_told_and_leaves_nothing(path: Path) -> None:
    with pytest.raises(
        SourceError,
        match=r"scripted funding: asked from 2020-01-05T\S+ to 2020-01-06T\S+, the source has no "
        r"records there \(script\): check the name of the market",
    ):
        run(path, Scripted(), 96, 120)
    assert not path.exists()
    assert not path.with_suffix(".parts").exists()


@dataclass(frozen=True)
class HalfThere(Scripted):
    """Has no answer for the second ten hours yet."""

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        for block in super().blocks(span):
            if block.span[0] == T0 + 10 * HOUR:
                none = block.records.slice(0, 0)
                yield replace(block, records=none, notes=("half a file",), answered=False)
            else:
                yield block


def test_what_is_not_answered_is_asked_for_again(path: Path) -> None:
    result = run(path, HalfThere(), 0, 30)
    assert result.notes == (
        "half a file",
        "scripted funding: not answered yet: records between 2020-01-01T10:00:00Z and "
        "2020-01-01T20:00:00Z: neither records nor holes, and asked for again by the next run",
    )
    assert result.header.covered == (hours(0, 10), hours(20, 30))
    source = Scripted()
    run(path, source, 0, 30)
    assert source.asked == [hours(10, 20)]
    assert_same(read_records(path), HELD.slice(*hours(0, 30)))


def test_long_absences_are_told_of_records_that_follow_an_interval(path: Path) -> None:
    held = records_of(np.delete(np.arange(400), np.arange(50, 200)), delay=HOUR)
    (note,) = run(path, Scripted(held, step=HOUR, block_hours=400), 0, 400).notes
    assert note == (
        "scripted funding: long absences in the answers (100 records or more): 1, the longest "
        "2020-01-03T02:00:00Z to 2020-01-09T08:00:00Z (150 records): taken as holes; "
        "`refresh: true` asks again"
    )
    other = path.with_name("other.h5")
    assert run(other, Scripted(held, block_hours=400), 0, 400).notes == ()


@dataclass(frozen=True)
class Wrong(Scripted):
    """Gives one block, whatever it is asked."""

    block: RecordBlock | None = None

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        assert self.block is not None
        yield self.block


RENAMED = RecordSet({**HELD.columns, "volume": HELD["rate"]}).slice(*hours(0, 5))
BREACHES = {
    "holds records outside it": (RecordBlock(hours(0, 5), HELD.slice(*hours(0, 6)), "x"), None),
    "has columns of other names: volume": (RecordBlock(hours(0, 5), RENAMED, "x"), None),
    "is not answered, and holds records": (
        RecordBlock(hours(0, 5), HELD.slice(*hours(0, 5)), "x", answered=False),
        None,
    ),
    "not on the grid of 2h": (RecordBlock(hours(0, 5), records_of([1], 9999), "x"), 2 * HOUR),
    "known before its 1h are over": (RecordBlock(hours(0, 5), records_of([1]), "x"), HOUR),
}


@pytest.mark.parametrize("problem", BREACHES)
def test_a_wrong_answer_is_no_answer(path: Path, problem: str) -> None:
    block, step = BREACHES[problem]
    with pytest.raises(SourceError, match=f"scripted broke its contract: a block for .*{problem}"):
        run(path, Wrong(block=block, step=step), 0, 10)
    assert not path.exists()


# --- nothing asked ------------------------------------------------------------------------------


def test_what_is_stored_is_used_as_it_is(path: Path) -> None:
    run(path, Scripted(), 0, 30)
    source = Scripted()
    assert use_stored(path, source, *hours(0, 30), name="funding").notes == ()
    found = use_stored(path, source, *hours(0, 40), name="rates")
    assert found.header == read_record_header(path)
    assert found.notes[0].startswith("scripted rates: stored as funding, from script, 20")
    assert found.notes[1] == (
        "scripted rates: stored are records from 2020-01-01T00:00:00Z to 2020-01-02T05:00:00Z, "
        "and `offline: true` asks for no others"
    )
    assert source.asked == []
