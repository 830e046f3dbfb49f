"""Bring a file up to date, of candles or of records: fetch what it lacks, merge, replace.

The one way from a source to ``candles.h5`` and ``records.h5``; what the two do not share stands in
``forms``. While a source answers, the answers are kept as small files of their own (*parts*) beside
the file; at the end the file and its parts become one (``committing``). A run that was killed
leaves its parts, and the next one goes on from them. One process at a time does this for a series;
the others wait for it.

Whether there is anything to do is asked first: where there is not, no lock is taken, no permission
to write is needed and no source is asked. Rows that are missing are *needed*, but for the latest
ones of a series whose end is open: these are welcome. Where only such are missing, a source that
does not answer soon, or a folder that cannot be written, is told, and what is stored is used.

A record that is not known yet is no more stored than a bar that is not closed yet.
"""

import os
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from btc_datamodule.candles.timeline import Span, ceil_to, floor_to, subtract
from btc_datamodule.disk.atomic import explain_write_errors, follow_link
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.errors import AbsentError, BrokenError, ConfigError, SourceError, StoreError
from btc_datamodule.escaping import escape
from btc_datamodule.progress import show_step
from btc_datamodule.sources.answering import read_revision
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.records import RecordSource
from btc_datamodule.sources.resampling import choose_base
from btc_datamodule.store.committing import commit
from btc_datamodule.store.doubts import check_address, refuse_nothing
from btc_datamodule.store.forms import CANDLES, AnyBlock, AnySource, find_form
from btc_datamodule.store.locating import describe_origin, is_there, tell_ends
from btc_datamodule.store.notes import (
    describe_absences,
    describe_beginning,
    describe_fallback,
    describe_gone,
    describe_pending,
    describe_set_aside,
    describe_unwritable,
    find_absences,
    find_gone,
    gather_alike,
)
from btc_datamodule.store.parts import Parts, list_leftovers
from btc_datamodule.store.planning import Plan, Wanted, leave_out_late
from btc_datamodule.store.record_file import RecordHeader
from btc_datamodule.store.series_file import Header
from btc_datamodule.store.stray import describe_stray
from btc_datamodule.store.tail import locate_tail

DAY = 86_400


@dataclass(frozen=True)
class Update:
    """The outcome of an update.

    Attributes:
        header: of the candle file as it is now.
        added: candles that were not stored before.
        notes: what a person should read, one sentence each, escaped.
    """

    header: Header
    added: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RecordUpdate(Update):
    """The outcome of an update of records: as of candles."""

    header: RecordHeader


@dataclass
class _Heard:
    """What comes of asking a source beside rows.

    Attributes:
        notes: of its blocks.
        absent: spans without rows, as ``find_absences`` gives them.
        aside: spans that it has no answer for yet.
        late: of one that is read whole, since when each record that is left out will be known.
    """

    notes: list[str] = field(default_factory=list)
    absent: list[Span] = field(default_factory=list)
    aside: list[Span] = field(default_factory=list)
    late: list[int] = field(default_factory=list)


class _SilentError(Exception):
    """A source did not answer; its ``__cause__`` tells why."""


def update(
    path: Path,
    source: Source,
    interval: int,
    start: int | None,
    end: int | None,
    *,
    refresh: bool = False,
    lock_timeout: float = 3600.0,
) -> Update:
    """Make the candle file at ``path`` hold the source's candles for [start, end).

    Only spans that the file has no answer for yet are fetched, and nothing stored is dropped. A
    source with a ``revision`` is read whole when that is another one, and what it says then takes
    the place of everything that was stored.

    Args:
        path: the candle file; it need not exist.
        source: whom to ask.
        interval: seconds.
        start: first instant wanted; None for as early as the source has.
        end: instant past the last one wanted; None for up to the latest closed bar.
        refresh: ask again for the whole span, and let answers replace stored candles.
        lock_timeout: seconds to wait for another process that updates the same file.

    Raises:
        ConfigError: if the source has another ``base_url`` than what is stored came from, and other
            bars there (``doubts.check_address``).
        SourceError: if the source cannot answer for bars that are needed, or has no bars of this
            interval nor any that can be joined. What it had answered before is kept.
        StoreError: if the file is damaged or cannot be written, or the lock was not to be had in
            time. What is stored stays as it is.
    """
    choose_base(source, interval, source.intervals)
    span = start, end
    found = _update(path, source, interval, span, refresh=refresh, lock_timeout=lock_timeout)
    stray = [] if found.added else describe_stray(path)  # which no commit leaves
    return replace(found, notes=(*found.notes, *map(escape, stray)))


def update_records(
    path: Path,
    source: RecordSource,
    start: int | None,
    end: int | None,
    *,
    with_end: bool = False,
    refresh: bool = False,
    lock_timeout: float = 3600.0,
) -> RecordUpdate:
    """Make the file of records at ``path`` hold the source's records for [start, end).

    As ``update`` does for candles. A record that is not known yet is left out, and asked for again
    by a run that comes later.

    Args:
        path: the file of records; it need not exist.
        source: whom to ask.
        start: first time wanted; None for as early as the source has.
        end: instant past the last time wanted; None for up to the latest that is known.
        with_end: whether a record of ``end`` itself is wanted too: it is welcome, and not needed.
        refresh: ask again for the whole span, and let answers replace stored records.
        lock_timeout: seconds to wait for another process that updates the same file.

    Raises:
        ConfigError: as of ``update``.
        SourceError: if the source cannot answer for records that are needed. What it had answered
            before is kept.
        StoreError: as of ``update``.
    """
    found = _update(
        path,
        source,
        source.interval,
        (start, end),
        with_end=with_end,
        refresh=refresh,
        lock_timeout=lock_timeout,
    )
    assert isinstance(found.header, RecordHeader)
    return RecordUpdate(found.header, found.added, found.notes)


def _update(
    path: Path,
    source: AnySource,
    interval: int | None,
    asked: tuple[int | None, int | None],
    *,
    with_end: bool = False,
    refresh: bool,
    lock_timeout: float,
) -> Update:
    try:
        with show_step(f"{source.name} {source.series}: looking for changes"):  # files are read
            revision = read_revision(source)
    except AbsentError as error:
        stored = None if refresh else _read_stored(path, source, interval)
        if stored is None:
            raise
        return Update(stored, 0, (describe_fallback(source, str(error), stored),))
    stored = _read_stored(path, source, interval)
    if revision is not None and not refresh and stored is not None:
        gone = find_gone(source, revision, stored)
        if gone:
            return Update(stored, 0, (describe_gone(source, gone, stored),))
    given = {"with_end": with_end, "refresh": refresh, "whole": revision is not None}
    wanted = _find_wanted(source, interval or 1, asked, **given)
    parts = Parts(path, source, interval, revision or "")
    kept = wanted.list_kept(stored, parts.revision)
    lacking = wanted.list_lacking(kept)
    if stored is not None and not lacking:  # nor is a lock needed: what was left can wait
        return Update(stored, 0, ())
    real = follow_link(path)
    folders = (path.parent, real.parent)
    closed = [each for each in folders if each.is_dir() and not os.access(each, os.W_OK)]
    if closed:
        if stored is None or not wanted.can_wait(stored, parts.revision):
            raise StoreError(describe_unwritable(path, parts.form, stored, lacking))
        problem = f"{closed[0]} cannot be written, so that nothing is added"
        return Update(stored, 0, (describe_fallback(source, problem, stored),))
    with hold_lock(real.with_suffix(".lock"), lock_timeout):
        return _update_locked(parts, wanted)


def _find_wanted(
    source: AnySource,
    grid: int,
    asked: tuple[int | None, int | None],
    *,
    with_end: bool,
    refresh: bool,
    whole: bool,
) -> Wanted:
    """What a file is to hold of a source; ``grid``: seconds on which spans begin and end."""
    (start, end), now = asked, time.time()
    latest = floor_to(now, grid)
    first = source.first if start is None else max(start, source.first)
    needed = latest if end is None else ceil_to(end, grid)
    last = latest if end is None else min(needed + with_end, latest)
    return Wanted(
        (0, latest) if whole else (ceil_to(first, grid), last),
        needed,
        open_start=start is None,
        open_end=not whole and (end is None or end > latest),
        refresh=refresh,
        whole=whole,
        now=now,
    )


def use_stored(
    path: Path, source: AnySource, start: int | None, end: int | None, *, name: str
) -> Update:
    """The file at ``path`` as it is: nothing is asked, and nothing is written.

    Args:
        path: the candle file, or file of records, which exists.
        source: whose candles or records they are, under the name by which they are stored.
        start: first instant wanted, as of ``update``.
        end: instant past the last one wanted.
        name: of the series that is meant.
    """
    form = find_form(source)
    header: Header = form.read_header(path)
    low, high = header.span
    label, notes = f"{source.name} {name}", list[str]()
    if name != source.series:
        notes.append(f"{label}: stored as {source.series}, {describe_origin(header)}")
    wanted = (low if start is None else max(start, source.first), high if end is None else end)
    if not header.revision and subtract(wanted, header.covered):  # a file has what it has
        stored = " to ".join(tell_ends(header))
        notes.append(
            f"{label}: stored are {form.content}s from {stored}, and `offline: true` asks for no "
            "others"
        )
    notes += describe_stray(path) if form is CANDLES else []
    return Update(header, 0, tuple(map(escape, notes)))


def _read_stored(path: Path, source: AnySource, interval: int | None) -> Header | None:
    """The header of the file; None if there is none."""
    if not is_there(path):
        return None
    form = find_form(source)
    stored: Header = form.read_header(path)
    form.check_series(path, stored, source.name, source.series, interval)
    return stored


def _make_plan(parts: Parts, stored: Header | None, wanted: Wanted) -> Plan:
    """Look at what is stored, in parts too, and tell what is missing. The lock is held."""
    kept = wanted.list_kept(stored, parts.revision)
    known = kept if wanted.whole else [*kept, *parts.read_covered()]
    return Plan(
        stored,
        tuple(
            (span, not (stored and wanted.is_welcome(span, known)))
            for span in wanted.list_lacking(known)
        ),
    )


def _update_locked(parts: Parts, wanted: Wanted) -> Update:
    path, source, interval = parts.path, parts.source, parts.interval
    with explain_write_errors(path):
        for file in (follow_link(path), locate_tail(path)):
            for leftover in list_leftovers(file.parent, file.name):
                leftover.unlink()
    stored = _read_stored(path, source, interval)
    if stored is not None:
        parts.discard_merged(stored)
    if wanted.whole:  # what an interrupted reading left is read again
        parts.discard()
    plan, heard = _make_plan(parts, stored, wanted), _Heard()
    silence: BaseException | None = None
    doubts = list[str]()
    try:
        doubts = check_address(parts, plan, lambda *asked: _fetch(parts, wanted, *asked))
        with parts:
            for span, is_needed in plan.missing:
                _hear(parts, span, wanted, heard, is_needed=is_needed)
    except _SilentError as error:
        silence = error.__cause__
    refuse_nothing(parts, plan, heard.notes)
    added, told = 0, list[str]()
    if parts.list_files() or plan.stored is None or (wanted.whole and plan.missing):
        added, told = commit(parts, wanted, heard.late)
        told += doubts
    header: Header = parts.form.read_header(path)
    notes, absent = gather_alike(heard.notes), heard.absent
    if wanted.open_start and header.rows:  # before its first bar a source has no holes
        notes += describe_beginning(absent, source, header, interval)
        absent = [part for span in absent for part in subtract(span, [(0, header.span[0])])]
    notes += describe_absences(absent, source, interval)
    notes += describe_set_aside(heard.aside, source, interval)
    notes += describe_pending(heard.late, source)
    if silence is not None:
        told.append(describe_fallback(source, str(silence), header))
    return Update(header, added, tuple(map(escape, (*notes, *told))))


def _hear(parts: Parts, span: Span, wanted: Wanted, heard: _Heard, *, is_needed: bool) -> None:
    """Ask for a span, and gather in ``parts`` and ``heard`` what comes."""
    with closing(_fetch(parts, wanted, span, is_needed)) as blocks:
        for block in blocks:
            heard.notes += block.notes
            if not block.answered:
                heard.aside.append(block.span)
                continue
            known, late = leave_out_late(block, wanted)
            if wanted.whole:
                heard.late += late
            else:
                heard.absent += find_absences(known, parts.form, parts.interval)
            if not late or known.span[0] < known.span[1]:
                parts.add(known)
            if late and not wanted.whole:  # what comes after it is not settled
                return


def _fetch(
    parts: Parts, wanted: Wanted, span: Span, is_needed: bool
) -> Generator[AnyBlock, None, None]:
    """Yield what the source answers for a span and is known by now; show how far it is.

    Raises:
        _SilentError: if it does not answer soon, and is not needed.
    """
    source, interval, form = parts.source, parts.interval, parts.form
    label = f"{source.name} {source.series}{': reading' * wanted.whole}"
    pace, unit = (interval, f" {form.row}s") if interval else (DAY, " days")
    total = None if wanted.whole else (span[1] - span[0]) // pace
    count = received = 0
    with (
        show_step(label, total, unit) as step,
        closing(form.ask(source if is_needed else source.hurry(), interval, span)) as blocks,
    ):  # an error ends the downloads that are under way
        while True:
            try:
                block: AnyBlock | None = next(blocks, None)
            except (SourceError, ConfigError) as error:
                if is_needed or isinstance(error, BrokenError):
                    raise
                raise _SilentError from error
            if block is None:
                return
            form.check_block(block, source, interval)
            yield block
            count, received = count + 1, received + block.received
            told = f"{count:,} files, {received / 1e6:,.1f} MB" if received else None
            step.advance((block.span[1] - block.span[0]) // pace, told)
