"""Updating the candle file: only what is missing, nothing lost, whatever happens meanwhile."""

import multiprocessing as mp
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.candles.series import REQUIRED, Candles
from btc_datamodule.candles.timeline import Span
from btc_datamodule.errors import SourceError, StoreError
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import read_candles, read_header
from btc_datamodule.store.locating import locate_series
from btc_datamodule.store.update import Update, update
from tests.factories import HOUR, T0, candles_of, changed
from tests.helpers import assert_same, digest_of

SPAWN = mp.get_context("spawn")
BARS = 60
HOLED = np.ones(BARS, dtype=bool)
HOLED[[7, 8, 9, 21, 40]] = False


@dataclass(frozen=True)
class Scripted(Source):
    """Serves from ``candles`` in blocks, and keeps the spans that it was asked for."""

    candles: Candles = field(default_factory=lambda: candles_of(HOLED, optional=["trades"]))
    block_bars: int = 10
    fail_after: int | None = None
    token: str | None = None
    asked: list[Span] = field(default_factory=list)

    name: ClassVar[str] = "scripted"

    @property
    def series(self) -> str:
        return "BTC"

    @property
    def revision(self) -> str | None:
        return self.token

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        self.asked.append(span)
        start, end = self.candles.span if self.token else span
        given = 0
        while start < end:
            if given == self.fail_after:
                raise SourceError("scripted: the wire was cut")
            stop = min(end, start + self.block_bars * interval)
            yield Block((start, stop), self.candles.slice(start, stop), "script")
            given += 1
            start = stop
        if given == self.fail_after:
            raise SourceError("scripted: the wire was cut")


def rows(low: int, high: int) -> Span:
    return T0 + low * HOUR, T0 + high * HOUR


def run(path: Path, source: Source, low: int, high: int, refresh: bool = False) -> Update:
    return update(path, source, HOUR, *rows(low, high), refresh=refresh)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scripted" / "BTC" / "1h" / "candles.h5"


# --- what is asked ------------------------------------------------------------------------------


def test_the_first_run_fetches_the_span(path: Path) -> None:
    source = Scripted()
    result = run(path, source, 5, 30)
    wanted = source.candles.slice(*rows(5, 30))
    assert source.asked == [rows(5, 30)]
    assert (result.added, result.notes) == (len(wanted), ())
    assert_same(read_candles(path), wanted)
    header = result.header
    assert header == read_header(path)
    assert (header.source, header.series, header.revision) == ("scripted", "BTC", "")
    assert (header.covered, header.digest) == ((rows(5, 30),), digest_of(wanted))
    (record,) = header.provenance  # the blocks of one origin, made one
    assert (record.origin, record.span, record.rows) == ("script", rows(5, 30), len(wanted))


def test_only_the_file_and_its_lock_stay(path: Path) -> None:
    run(path, Scripted(), 0, 30)
    assert {file.name for file in path.parent.iterdir()} <= {"candles.h5", "candles.lock"}


def test_the_folder_is_source_series_and_interval(tmp_path: Path) -> None:
    assert locate_series(tmp_path, Scripted(), "1h") == tmp_path / "scripted" / "BTC" / "1h"


def test_the_same_span_is_not_fetched_twice_and_the_file_stays_as_it_is(path: Path) -> None:
    source = Scripted()
    run(path, source, 0, 30)
    before, when = path.read_bytes(), path.stat().st_mtime_ns
    result = run(path, source, 0, 30)
    assert len(source.asked) == 1
    assert (result.added, result.notes) == (0, ())
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, when)


def test_an_extension_fetches_only_what_is_missing_at_either_end(path: Path) -> None:
    source = Scripted()
    run(path, source, 20, 30)
    run(path, source, 10, 45)
    assert source.asked == [rows(20, 30), rows(10, 20), rows(30, 45)]
    assert_same(read_candles(path), source.candles.slice(*rows(10, 45)))
    assert read_header(path).covered == (rows(10, 45),)


def test_a_gap_between_two_runs_is_filled_when_asked_for(path: Path) -> None:
    source = Scripted()
    run(path, source, 0, 10)
    run(path, source, 30, 40)
    assert read_header(path).covered == (rows(0, 10), rows(30, 40))
    run(path, source, 5, 35)
    assert source.asked[2:] == [rows(10, 30)]
    assert read_header(path).covered == (rows(0, 40),)


def test_a_shorter_span_deletes_nothing(path: Path) -> None:
    source = Scripted()
    run(path, source, 0, 40)
    run(path, source, 10, 20)
    assert source.asked == [rows(0, 40)]
    assert_same(read_candles(path), source.candles.slice(*rows(0, 40)))


def test_bars_that_were_absent_are_not_asked_for_again(path: Path) -> None:
    source = Scripted()
    run(path, source, 5, 12)  # 7, 8 and 9 are absent
    run(path, source, 7, 10)
    run(path, source, 0, 12)
    assert source.asked == [rows(5, 12), rows(0, 5)]


def test_a_span_without_any_bars_is_remembered_too(path: Path) -> None:
    run(path, Scripted(), 0, 5)
    source = Scripted(candles_of(np.zeros(3, dtype=bool)))
    for _ in range(2):
        result = run(path, source, 5, 30)
    assert source.asked == [rows(5, 30)]
    assert (result.header.rows, result.header.covered) == (5, (rows(0, 30),))


def test_an_empty_span_asks_nothing_and_makes_an_empty_file(path: Path) -> None:
    source = Scripted()
    result = run(path, source, 30, 20)
    assert source.asked == []
    assert (result.header.rows, result.header.covered) == (0, ())


def test_ends_off_the_grid_reach_to_the_bars_that_open_inside(path: Path) -> None:
    source = Scripted()
    update(path, source, HOUR, T0 + 1, T0 + 5 * HOUR + 1)
    assert source.asked == [rows(1, 6)]


def test_bars_that_are_not_closed_are_never_asked_for(path: Path) -> None:
    now = time.time()
    latest = int(now) // HOUR * HOUR
    source = Scripted(candles_of(np.arange(latest - 9 * HOUR, latest, HOUR)))
    update(path, source, HOUR, int(now) - 5 * HOUR, int(now) + 50 * HOUR)
    update(path, source, HOUR, int(now) - 9 * HOUR, None)
    for start, end in source.asked:
        assert start % HOUR == end % HOUR == 0
        assert end <= time.time()
    assert max(end for _, end in source.asked) > now - HOUR
    assert read_header(path).covered[-1][1] <= time.time()


@dataclass(frozen=True)
class Late(Scripted):
    first: ClassVar[int] = T0 + 3 * HOUR


def test_a_source_is_not_asked_for_what_is_before_its_first_instant(path: Path) -> None:
    source = Late()
    update(path, source, HOUR, None, T0 + 6 * HOUR)
    run(path, source, 0, 8)
    assert source.asked == [rows(3, 6), rows(6, 8)]


@settings(max_examples=10)
@given(st.data())
def test_runs_in_any_order_end_with_what_one_run_gives(data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=20, max_size=20)), dtype=bool)
    mask[0] = True  # a first run without a candle would be refused
    series = candles_of(mask, optional=["trades"])
    cuts = [0, *sorted(data.draw(st.sets(st.integers(1, 19), min_size=1, max_size=3))), 20]
    pieces = list(pairwise(cuts))
    extra = data.draw(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=1))
    order = [(0, 1), *data.draw(st.permutations(pieces + extra))]
    bars = data.draw(st.integers(1, 20))
    with TemporaryDirectory() as folder:
        whole = run(Path(folder, "whole", "candles.h5"), Scripted(series), 0, 20).header
        path, source = Path(folder, "parts", "candles.h5"), Scripted(series, bars)
        for low, high in order:
            run(path, source, low, high)
        found = read_header(path)
        assert_same(read_candles(path), series.slice(*rows(0, 20)))
    assert (found.digest, found.covered, found.span) == (whole.digest, whole.covered, whole.span)
    seconds = [t for start, end in source.asked for t in range(start, end, HOUR)]
    assert sorted(seconds) == list(range(*rows(0, 20), HOUR))  # each bar asked for once


# --- changed values -----------------------------------------------------------------------------


def revised() -> Candles:
    """As ``Scripted`` serves by default, but for bars 12 and 30."""
    series = Scripted().candles
    volume = series["volume"].copy()
    volume[np.isin(series.open_time, [T0 + 12 * HOUR, T0 + 30 * HOUR])] += 1
    return changed(series, volume=volume)


def test_refresh_asks_again_for_all_and_takes_the_new_values_with_a_note(path: Path) -> None:
    run(path, Scripted(), 0, 40)
    source = Scripted(revised())
    result = run(path, source, 10, 50, refresh=True)
    assert source.asked == [rows(10, 50)]
    assert_same(read_candles(path), revised().slice(*rows(0, 50)))
    assert result.notes == (
        "scripted BTC: 2 candles came back different from what is stored, the first at "
        "2020-01-01T12:00:00Z: replaced",
    )
    assert run(path, source, 0, 50, refresh=True).notes == ()


def test_refresh_keeps_bars_that_the_source_has_no_more(path: Path) -> None:
    run(path, Scripted(), 0, 40)
    fewer = candles_of(HOLED & (np.arange(BARS) % 2 == 0), optional=["trades"])
    run(path, Scripted(fewer), 0, 40, refresh=True)
    assert_same(read_candles(path), Scripted().candles.slice(*rows(0, 40)))


@dataclass(frozen=True)
class Overlapping(Scripted):
    """Answers for more than it is asked: for all that it has."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        self.asked.append(span)
        yield Block(self.candles.span, self.candles, "script")


def test_without_refresh_what_is_stored_stays_and_the_difference_is_told(path: Path) -> None:
    run(path, Scripted(), 0, 40)
    result = run(path, Overlapping(revised()), 0, 50)
    assert result.notes == (
        "scripted BTC: 2 candles came back different from what is stored, the first at "
        "2020-01-01T12:00:00Z: kept as stored; `refresh: true` takes the new values",
    )
    stored = Scripted().candles
    assert_same(read_candles(path), stored)


# --- trouble ------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_a_run_that_fails_midway_keeps_what_it_had(path: Path, blocks: int) -> None:
    source = Scripted(fail_after=blocks)
    with pytest.raises(SourceError, match="the wire was cut"):
        run(path, source, 0, 40)
    again = replace(source, fail_after=None, asked=[])
    result = run(path, again, 0, 40)
    assert again.asked == [rows(10 * blocks, 40)]
    assert_same(read_candles(path), source.candles.slice(*rows(0, 40)))
    assert result.header.digest == digest_of(source.candles.slice(*rows(0, 40)))
    assert not path.with_suffix(".parts").exists()


def test_a_run_that_fails_again_and_again_gets_there(path: Path) -> None:
    source = Scripted(fail_after=1)
    for _ in range(4):
        with pytest.raises(SourceError):
            run(path, source, 0, 40)
    assert source.asked == [rows(low, 40) for low in (0, 10, 20, 30)]
    result = run(path, source, 0, 40)
    assert len(source.asked) == 4
    assert result.header.digest == digest_of(source.candles.slice(*rows(0, 40)))


def test_a_failing_extension_leaves_the_file_readable_as_it_was(path: Path) -> None:
    run(path, Scripted(), 0, 20)
    before = path.read_bytes()
    with pytest.raises(SourceError):
        run(path, Scripted(fail_after=1), 0, 60)
    assert path.read_bytes() == before


@dataclass(frozen=True)
class Faulty(Scripted):
    """Answers a block whose span is shorter than its candles by an hour at one end."""

    late: bool = False

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        start, end = (span[0], span[1] - interval) if self.late else (span[0] + interval, span[1])
        yield Block((start, end), self.candles.slice(*span), "script")


@pytest.mark.parametrize("late", [False, True])
def test_a_block_with_candles_outside_its_span_is_refused(path: Path, late: bool) -> None:
    with pytest.raises(SourceError, match=r"scripted broke its contract: .* candles outside it"):
        run(path, Faulty(late=late), 0, 6)
    assert not path.exists()


def test_a_block_of_another_interval_is_refused(path: Path) -> None:
    daily = Scripted(candles_of([T0, T0 + 86400], 86400))
    with pytest.raises(SourceError, match=r"broke its contract: .* of another interval"):
        run(path, daily, 0, 48)


def test_what_a_killed_write_left_is_swept_away(path: Path) -> None:
    run(path, Scripted(), 0, 10)
    leftover = path.with_name("candles.h5.1234.tmp")
    leftover.write_bytes(b"half a file")
    folder = path.with_name("candles.h5.5.tmp")  # of nobody who writes candle files
    folder.mkdir()
    run(path, Scripted(), 0, 20)
    assert (leftover.exists(), folder.exists()) == (False, True)


# --- sources that answer everything at once -----------------------------------------------------


def test_a_source_with_a_revision_is_read_once_whatever_is_asked(path: Path) -> None:
    source = Scripted(token="a")
    first = run(path, source, 10, 20)
    second = run(path, source, 0, 50)
    assert len(source.asked) == 1
    assert (first.header.revision, second.added) == ("a", 0)
    assert_same(read_candles(path), source.candles)


def test_a_new_revision_is_read_again(path: Path) -> None:
    series = Scripted().candles
    run(path, Scripted(series.slice(*rows(0, 40)), token="a"), 0, 60)
    source = Scripted(token="b")
    result = run(path, source, 0, 60)
    run(path, source, 0, 60)
    assert len(source.asked) == 1
    assert result.header.revision == "b"
    assert_same(read_candles(path), series)


@pytest.mark.parametrize("token", ["a", "b"])
def test_a_first_reading_that_was_broken_off_can_be_done_again(path: Path, token: str) -> None:
    with pytest.raises(SourceError, match="the wire was cut"):
        run(path, Scripted(token="a", block_bars=BARS, fail_after=1), 0, 60)
    source = Scripted(token=token, block_bars=BARS)
    result = run(path, source, 0, 60)
    assert result.header.digest == digest_of(source.candles)
    assert result.header.revision == token


# --- other processes ----------------------------------------------------------------------------


def hold(lock: Path, pipe: Connection) -> None:
    with FileLock(lock):
        pipe.send("held")
        pipe.recv()


def test_a_lock_that_another_process_holds_is_named_after_the_time_out(path: Path) -> None:
    path.parent.mkdir(parents=True)
    lock = path.with_suffix(".lock")
    here, there = SPAWN.Pipe()
    other = SPAWN.Process(target=hold, args=(lock, there))
    other.start()
    try:
        assert here.recv() == "held"
        source = Scripted()
        with pytest.raises(StoreError) as caught:
            update(path, source, HOUR, *rows(0, 9), lock_timeout=0.2)
        assert str(lock) in str(caught.value)
        assert "another process" in str(caught.value)
        assert source.asked == []
        path.with_suffix(".holder").write_text("process 7 on somewhere since 2020")
        with pytest.raises(StoreError, match=r"has been held for 0 s by process 7 on somewhere"):
            update(path, source, HOUR, *rows(0, 9), lock_timeout=0.2)
        here.send("let go")
        update(path, source, HOUR, *rows(0, 9), lock_timeout=30)
    finally:
        other.kill()
        other.join()
    assert read_header(path).covered == (rows(0, 9),)


def simulate(path: Path, gate: Any, results: Any) -> None:
    gate.wait(240)
    found = update(path, Simulator(seed=4), 60, T0, T0 + 3 * 86400)
    results.put((found.added, found.header.digest))


def test_four_processes_at_once_make_one_file_with_one_download(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    gate, results = SPAWN.Barrier(4), SPAWN.Queue()
    workers = [SPAWN.Process(target=simulate, args=(path, gate, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=240) for _ in workers]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    alone = update(tmp_path / "alone.h5", Simulator(seed=4), 60, T0, T0 + 3 * 86400)
    assert sorted(fetched for fetched, _ in found) == [0, 0, 0, 3 * 1440]
    assert {digest for _, digest in found} == {alone.header.digest}
    assert read_header(path).digest == alone.header.digest


@dataclass(frozen=True)
class Flat(Source):
    """One price for ever, in blocks so large that each is kept at once."""

    pause: float = 0.0
    asked: list[Span] = field(default_factory=list)

    name: ClassVar[str] = "flat"
    block_bars: ClassVar[int] = 1 << 18

    @property
    def series(self) -> str:
        return "BTC"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        self.asked.append(span)
        for start in range(*span, self.block_bars * interval):
            end = min(span[1], start + self.block_bars * interval)
            times = np.arange(start, end, interval)
            flat = {name: np.full(len(times), 7000.0) for name in REQUIRED[1:]}
            time.sleep(self.pause)
            yield Block((start, end), Candles(interval, {"open_time": times, **flat}), "flat")


FLAT_SPAN = (T0, T0 + 3 * Flat.block_bars)


def update_flat(path: Path) -> None:
    update(path, Flat(pause=0.3), 1, *FLAT_SPAN)


def kill_when(process: BaseProcess, ready: Callable[[], bool]) -> None:
    """Start a process and SIGKILL it once ``ready``, or let it end."""
    process.start()
    while process.is_alive() and not ready():
        time.sleep(0.001)
    if process.is_alive():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_a_killed_run_is_gone_on_from_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    path = tmp_path / "flat" / "candles.h5"
    parts = path.with_suffix(".parts")

    def kept(count: int) -> Callable[[], bool]:
        return lambda: len(list(parts.glob("*.h5"))) >= count

    moments: list[Callable[[], bool]] = [
        kept(1),
        kept(2),
        lambda: any(path.parent.glob("candles.h5.*.tmp")),
    ]
    for ready in moments:
        kill_when(SPAWN.Process(target=update_flat, args=(path,)), ready)
        assert not path.exists()
    known = len(list(parts.glob("*.h5")))
    source = Flat()
    result = update(path, source, 1, *FLAT_SPAN)
    assert known == 3
    assert source.asked == []
    times = np.arange(*FLAT_SPAN)
    undisturbed = Candles(
        1, {"open_time": times, **{name: np.full(len(times), 7000.0) for name in REQUIRED[1:]}}
    )
    assert result.header.digest == digest_of(undisturbed)
    assert result.header.covered == (FLAT_SPAN,)
    assert {file.name for file in path.parent.iterdir()} <= {"candles.h5", "candles.lock"}


def test_a_killed_extension_leaves_the_file_that_was_there(path: Path) -> None:
    first = Flat()
    before = update(path, first, 1, T0 - 100, T0).header
    kill_when(
        SPAWN.Process(target=update_flat, args=(path,)),
        lambda: any(path.with_suffix(".parts").glob("*.h5")),
    )
    assert read_header(path) == before
    source = Flat()
    result = update(path, source, 1, T0 - 100, FLAT_SPAN[1])
    assert len(source.asked) == 1
    assert source.asked[0][0] in (T0 + Flat.block_bars, T0 + 2 * Flat.block_bars)
    assert result.header.rows == 100 + 3 * Flat.block_bars
    assert result.header.covered == ((T0 - 100, FLAT_SPAN[1]),)


def test_a_file_of_another_series_is_refused_and_left_alone(path: Path) -> None:
    update(path, Simulator(seed=3), HOUR, T0, T0 + 10 * HOUR)
    before = path.read_bytes()
    for source, interval in ((Simulator(seed=4), HOUR), (Simulator(seed=3), 2 * HOUR)):
        with pytest.raises(StoreError, match=r"holds simulator \S+ 1h bars, not simulator \S+ "):
            update(path, source, interval, T0, T0 + 20 * HOUR)
    assert path.read_bytes() == before


def test_candles_that_were_altered_are_not_extended(path: Path) -> None:
    update(path, Simulator(), HOUR, T0, T0 + 100 * HOUR)
    with h5py.File(path, "r+") as file:
        file["candles/close"][40] = file["candles/close"][40] * 0.99999
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"candles.h5: the candles are not those .* written: move"):
        update(path, Simulator(), HOUR, T0, T0 + 110 * HOUR)
    assert path.read_bytes() == before


def test_refresh_tells_of_stored_bars_that_the_answers_lack_now(path: Path) -> None:
    source = Scripted()
    update(path, source, HOUR, T0, T0 + BARS * HOUR)
    whole = read_candles(path)
    fewer = HOLED.copy()
    fewer[[11, 12]] = False
    poorer = replace(source, candles=candles_of(fewer, optional=["trades"]))
    found = update(path, poorer, HOUR, T0, T0 + BARS * HOUR, refresh=True)
    assert found.notes == (
        "scripted BTC: 2 stored candles are not in the answer any more, the first at "
        "2020-01-01T11:00:00Z: kept",
    )
    assert_same(read_candles(path), whole)


def test_long_absences_are_told_once_over_all_blocks(path: Path) -> None:
    mask = np.ones(900, dtype=bool)
    mask[250:420] = False  # across the edge of two answers
    mask[600:699] = False
    source = Scripted(candles=candles_of(mask), block_bars=300)
    (note,) = update(path, source, HOUR, T0, T0 + 900 * HOUR).notes
    assert note == (
        "scripted BTC: long absences in the answers (100 bars or more): 1, the longest "
        "2020-01-11T10:00:00Z to 2020-01-18T12:00:00Z (170 bars): taken as holes; "
        "`refresh: true` asks again"
    )
