"""Bring a candle file up to date: fetch the spans that it lacks, merge, replace.

The one way from a source to ``candles.h5``. While a source answers, the answers are kept as
small candle files of their own (*parts*) beside the candle file; at the end the candle file and
its parts are merged in bounded memory into a new candle file, which replaces the old one. A run
that was killed leaves its parts, and the next one goes on from them. One process at a time does
this for a series; the others wait for it.

Whether there is anything to do is asked first: where there is not, no lock is taken, no permission
to write is needed and no source is asked. Bars that are missing are *needed*, but for the latest
ones of a series whose end is open: these are welcome. Where only such are missing, a source that
does not answer soon, or a folder that cannot be written, is told, and what is stored is used.
"""

import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, ceil_to, floor_to, format_instant, subtract, unite
from btc_datamodule.disk.atomic import explain_write_errors
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.errors import AbsentError, ConfigError, SourceError, StoreError
from btc_datamodule.escaping import escape
from btc_datamodule.progress import Step, show_step
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.sources.resampling import ask, choose_base
from btc_datamodule.store.candle_file import (
    Header,
    check_series,
    read_header,
    write_candles,
)
from btc_datamodule.store.locating import describe_origin, is_there
from btc_datamodule.store.merging import Merge, Replacement, join_records
from btc_datamodule.store.notes import (
    describe_absences,
    describe_beginning,
    describe_fallback,
    describe_gone,
    describe_set_aside,
    find_absences,
    find_gone,
)
from btc_datamodule.store.parts import Parts, list_leftovers


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
class _Wanted:
    """What a candle file is to hold.

    Attributes:
        span: of the candles, closed bars only.
        open_start: whether it begins as early as the source has.
        open_end: whether it ends with the latest closed bar, whenever that is.
        refresh: whether all of it is to be asked for again.
        whole: whether the source has a revision: it is read whole, or not at all.
    """

    span: Span
    open_start: bool
    open_end: bool
    refresh: bool
    whole: bool

    def list_kept(self, stored: Header | None, revision: str) -> list[Span]:
        """The spans that a candle file settles.

        Args:
            stored: its header; None if there is none.
            revision: ``Source.revision``, "" if the source has none.
        """
        if stored is None:
            return []
        if self.whole:
            return [self.span] if stored.revision == revision else []
        return [*stored.covered] if stored.rows else []  # without a candle nothing is settled

    def list_lacking(self, known: list[Span]) -> list[Span]:
        """The spans that are to be asked for where ``known`` are settled."""
        if self.refresh:
            return [self.span] if self.span[0] < self.span[1] else []
        return subtract(self.span, known)

    def is_welcome(self, missing: Span, known: list[Span]) -> bool:
        """Whether a missing span is one of latest bars, which nobody needs where others are known.

        Args:
            missing: the span.
            known: spans that are not missing.
        """
        within = [end for start, end in known if start < self.span[1] and end > self.span[0]]
        return self.open_end and not self.refresh and bool(within) and missing[0] >= max(within)


@dataclass(frozen=True)
class _Plan:
    """What there is to do.

    Attributes:
        stored: header of the candle file; None if there is none.
        missing: the spans to ask for, and whether each is needed.
    """

    stored: Header | None
    missing: tuple[tuple[Span, bool], ...]


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
        SourceError: if the source cannot answer for bars that are needed, or has no bars of this
            interval nor any that can be joined. What it had answered before is kept.
        StoreError: if the file is damaged or cannot be written, or the lock was not to be had in
            time. What is stored stays as it is.
    """
    choose_base(source, interval, source.intervals)
    label = f"{source.name} {source.series}"
    try:
        with show_step(f"{label}: looking for changes"):  # of files, which are read for it
            revision = source.revision
    except AbsentError as error:
        stored = None if refresh else _read_stored(path, source, interval)
        if stored is None:
            raise
        return Update(stored, 0, (describe_fallback(label, str(error), stored),))
    stored = _read_stored(path, source, interval)
    if revision is not None and not refresh and stored is not None:
        gone = find_gone(source, revision, stored)
        if gone:
            return Update(stored, 0, (describe_gone(label, gone, stored),))
    latest = floor_to(time.time(), interval)
    first = source.first if start is None else max(start, source.first)
    last = latest if end is None else min(ceil_to(end, interval), latest)
    wanted = _Wanted(
        (ceil_to(first, interval), last) if revision is None else (0, latest),
        open_start=start is None,
        open_end=revision is None and (end is None or end > latest),
        refresh=refresh,
        whole=revision is not None,
    )
    parts = Parts(path, source, interval, revision or "")
    kept = wanted.list_kept(stored, parts.revision)
    lacking = wanted.list_lacking(kept)
    if stored is not None and not lacking:  # nor is a lock needed: what was left can wait
        return Update(stored, 0, ())
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
        if stored is None or not all(wanted.is_welcome(span, kept) for span in lacking):
            raise StoreError(_describe_unwritable(path, stored, lacking))
        problem = f"{path.parent} cannot be written, so that nothing is added"
        return Update(stored, 0, (describe_fallback(label, problem, stored),))
    with hold_lock(path.with_suffix(".lock"), lock_timeout):
        return _update_locked(parts, wanted)


def use_stored(
    path: Path, source: Source, start: int | None, end: int | None, *, name: str
) -> Update:
    """The candle file at ``path`` as it is: nothing is asked, and nothing is written.

    Args:
        path: the candle file, which exists.
        source: whose candles they are, under the name by which they are stored.
        start: first instant wanted, as of ``update``.
        end: instant past the last one wanted.
        name: of the series that is meant.
    """
    header = read_header(path)
    low, high = header.span
    label, notes = f"{source.name} {name}", list[str]()
    if name != source.series:
        notes.append(f"{label}: stored as {source.series}, {describe_origin(header)}")
    wanted = (low if start is None else max(start, source.first), high if end is None else end)
    if not header.revision and subtract(wanted, header.covered):  # a file has what it has
        stored = f"{format_instant(low)} to {format_instant(high)}"
        notes.append(
            f"{label}: stored are candles from {stored}, and `offline: true` asks for no others"
        )
    return Update(header, 0, tuple(map(escape, notes)))


def _read_stored(path: Path, source: Source, interval: int) -> Header | None:
    """The header of the candle file; None if there is none."""
    if not is_there(path):
        return None
    stored = read_header(path)
    check_series(path, stored, source.name, source.series, interval)
    return stored


def _make_plan(parts: Parts, wanted: _Wanted) -> _Plan:
    """Look at what is stored, in parts too, and tell what is missing. The lock is held."""
    stored = _read_stored(parts.path, parts.source, parts.interval)
    kept = wanted.list_kept(stored, parts.revision)
    known = kept if wanted.whole else [*kept, *parts.read_covered()]
    return _Plan(
        stored,
        tuple(
            (span, not (stored and wanted.is_welcome(span, known)))
            for span in wanted.list_lacking(known)
        ),
    )


def _describe_unwritable(path: Path, stored: Header | None, lacking: list[Span]) -> str:
    """What is missing in a candle file whose folder cannot be written, and the ways out."""
    if stored is None:
        return (
            f"{path} does not exist, and its folder cannot be written: set a `data_dir` that can, "
            "or that has the candles"
        )
    what = "what its source says now"
    if not stored.revision:
        span = f"{format_instant(lacking[0][0])} to {format_instant(lacking[-1][1])}"
        what = f"bars from {span} that are wanted"
    return (
        f"{path} lacks {what}, and its folder cannot be written: set `offline: true` to take what "
        "is stored, or a `data_dir` that can be written"
    )


def _update_locked(parts: Parts, wanted: _Wanted) -> Update:
    path, source, interval = parts.path, parts.source, parts.interval
    with explain_write_errors(path):
        for leftover in list_leftovers(path.parent, path.name):
            leftover.unlink()
    if is_there(path):
        parts.discard_merged(read_header(path))
    if wanted.whole:  # what an interrupted reading left is read again
        parts.discard()
    plan = _make_plan(parts, wanted)
    notes: list[str] = []
    absent: list[Span] = []
    aside: list[Span] = []
    silence: BaseException | None = None
    try:
        with parts:
            for span, is_needed in plan.missing:
                with closing(_fetch(parts, span, wanted, is_needed=is_needed)) as blocks:
                    for block in blocks:
                        _check_block(block, source, interval)
                        notes += block.notes
                        if not block.answered:
                            aside.append(block.span)
                            continue
                        parts.add(block)
                        absent += [] if wanted.whole else find_absences(block, interval)
    except _SilentError as error:
        silence = error.__cause__
    _refuse_nothing(parts, plan)
    added, told = 0, list[str]()
    if parts.list_files() or plan.stored is None or (wanted.whole and plan.missing):
        added, told = _commit(parts, wanted)
    header = read_header(path)
    if wanted.open_start and header.rows:  # before its first bar a source has no holes
        notes += describe_beginning(absent, source, header)
        absent = [part for span in absent for part in subtract(span, [(0, header.span[0])])]
    notes += describe_absences(absent, source, interval)
    notes += describe_set_aside(aside, source, interval)
    if silence is not None:
        told.append(describe_fallback(f"{source.name} {source.series}", str(silence), header))
    return Update(header, added, tuple(map(escape, (*notes, *told))))


def _refuse_nothing(parts: Parts, plan: _Plan) -> None:
    """Raise ``SourceError`` if no candle is stored, and none came of all that was answered.

    It would be settled for good; what is more likely is that something else was meant.
    """
    headers = parts.read_headers().values()
    known = [*headers, *([] if plan.stored is None else [plan.stored])]
    if not headers or any(header.rows for header in known):
        return
    covered = unite(span for header in headers for span in header.covered)
    start, end = format_instant(covered[0][0]), format_instant(covered[-1][1])
    origin = next((each.origin for header in headers for each in header.provenance), "")
    parts.discard()
    where = ", or `source.base_url`" if hasattr(parts.source, "base_url") else ""
    raise SourceError(
        f"{parts.source.name} {parts.source.series}: asked from {start} to {end}, the source has "
        f"no candles there{origin and f' ({origin:.200})'}: check the name of the market and "
        f"`start` and `end`{where}"
    )


def _fetch(
    parts: Parts, span: Span, wanted: _Wanted, *, is_needed: bool
) -> Generator[Block, None, None]:
    """Yield what the source answers for a span, and show how far it is.

    Raises:
        _SilentError: if it does not answer soon, and is not needed.
    """
    source, interval = parts.source, parts.interval
    label = f"{source.name} {source.series}{': reading' * wanted.whole}"
    total = None if wanted.whole else (span[1] - span[0]) // interval
    count = received = 0
    with (
        show_step(label, total, " bars") as step,
        closing(ask(source if is_needed else source.hurry(), interval, span)) as blocks,
    ):  # an error ends the downloads that are under way
        while True:
            try:
                block = next(blocks, None)
            except (SourceError, ConfigError, OSError) as error:
                if is_needed:
                    raise
                raise _SilentError from error
            if block is None:
                return
            yield block
            count, received = count + 1, received + block.received
            told = f"{count:,} files, {received / 1e6:,.1f} MB" if received else None
            step.advance((block.span[1] - block.span[0]) // interval, told)


def _check_block(block: Block, source: Source, interval: int) -> None:
    inside = len(block.candles.slice(*block.span)) == len(block.candles)
    if block.candles.interval != interval or not inside:
        raise SourceError(
            f"{source.name} broke its contract: a block for {format_instant(block.span[0])} to "
            f"{format_instant(block.span[1])} holds candles outside it, or of another interval"
        )
    if len(block.candles) and not block.answered:
        raise SourceError(
            f"{source.name} broke its contract: a block for {format_instant(block.span[0])} to "
            f"{format_instant(block.span[1])} is not answered, and holds candles"
        )


def _commit(parts: Parts, wanted: _Wanted) -> tuple[int, list[str]]:
    """Write a new candle file of the old one and the parts, or of the parts alone; drop the parts.

    Returns:
        How many candles were not stored before, and notes.
    """
    path, source, interval = parts.path, parts.source, parts.interval
    stored, files = path if is_there(path) else None, parts.list_files()
    merged = (
        Replacement(stored, files, interval)
        if wanted.whole
        else Merge(stored, files, interval, wanted.refresh)
    )
    headers = merged.headers
    label = f"{source.name} {source.series}"

    def count_chunks(step: Step) -> Iterator[Candles]:
        for chunk in merged.chunks():
            yield chunk
            step.advance(len(chunk))

    with show_step(f"{label}: merging", sum(each.rows for each in headers), " bars") as step:
        write_candles(
            path,
            count_chunks(step),
            source=source.name,
            series=source.series,
            interval=interval,
            columns={name for header in headers for name in header.columns},
            covered=unite(span for header in headers for span in header.covered),
            revision=parts.revision,
            provenance=join_records([record for header in headers for record in header.provenance]),
        )
    parts.discard()
    return merged.added, [f"{label}: {note}" for note in merged.describe()]
