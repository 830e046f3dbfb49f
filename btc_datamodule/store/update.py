"""Bring a candle file up to date: fetch the spans that it lacks, merge, replace.

The one way from a source to ``candles.h5``. While a source answers, the answers are kept as
small candle files of their own (*parts*) beside the candle file; at the end the candle file and
its parts are merged in bounded memory into a new candle file, which replaces the old one. A run
that was killed leaves its parts, and the next one goes on from them. One process at a time does
this for a series; the others wait for it.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from btc_datamodule.candles.series import find_holes
from btc_datamodule.candles.timeline import Span, ceil_to, floor_to, format_instant, subtract, unite
from btc_datamodule.disk.atomic import explain_write_errors
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.escaping import escape
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.sources.resampling import ask, choose_base
from btc_datamodule.store.candle_file import (
    Header,
    check_series,
    read_header,
    write_candles,
)
from btc_datamodule.store.merging import Merge, Replacement, join_records
from btc_datamodule.store.parts import Parts

LONG_ABSENCE = 100
"""Bars in a row without an answer from which on a person is told of them."""


_log = logging.getLogger(__name__)


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


def locate_series(data_dir: Path, source: Source, interval_text: str) -> Path:
    """Where everything of one series and interval lies."""
    return data_dir / source.name / source.series / interval_text


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
        SourceError: if the source cannot answer, or has no bars of this interval nor any that can
            be joined. What it had answered before is kept.
        StoreError: if the file is damaged or cannot be written, or the lock was not to be had in
            time. What is stored stays as it is.
    """
    choose_base(source, interval, source.intervals)
    latest = floor_to(time.time(), interval)
    asked = (
        ceil_to(source.first if start is None else max(start, source.first), interval),
        latest if end is None else min(ceil_to(end, interval), latest),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder {path.parent} cannot be made ({error.strerror}): change `data_dir`"
        ) from None
    with hold_lock(path.with_suffix(".lock"), lock_timeout):
        return _update_locked(path, source, interval, asked, refresh)


def _update_locked(path: Path, source: Source, interval: int, asked: Span, refresh: bool) -> Update:
    with explain_write_errors(path):
        for leftover in path.parent.glob(f"{path.name}.*.tmp"):
            leftover.unlink()
    revision = source.revision  # once, and before reading: for files it reads them whole
    parts = Parts(path, source, interval, revision or "")
    stored = read_header(path) if path.exists() else None
    if stored:
        check_series(path, stored, source.name, source.series, interval)
        parts.discard_merged(stored)
    if revision is None:
        known = [*(stored.covered if stored else ()), *parts.read_covered()]
    else:  # read whole or not at all: what an interrupted reading left is read again
        parts.discard()
        asked = (0, floor_to(time.time(), interval))
        known = [asked] if stored and stored.revision == revision else []
    missing = [asked] if refresh and asked[0] < asked[1] else subtract(asked, known)
    notes: list[str] = []
    absent: list[Span] = []
    aside: list[Span] = []
    with parts:
        for span in missing:
            total = None if revision else (span[1] - span[0]) // interval
            with closing(ask(source, interval, span)) as blocks:  # no download goes on
                for block in _show_progress(blocks, total, interval, source):
                    _check_block(block, source, interval)
                    notes += block.notes
                    if not block.answered:
                        aside.append(block.span)
                        continue
                    parts.add(block)
                    absent += [] if revision else _find_absences(block, interval)
    notes += _describe_absences(absent, source, interval)
    notes += _describe_set_aside(aside, source, interval)
    added = 0
    if parts.list_files() or stored is None or (revision is not None and missing):
        added, told = _commit(path, parts, refresh, whole=revision is not None)
        notes += told
    return Update(read_header(path), added, tuple(map(escape, notes)))


def _find_absences(block: Block, interval: int) -> list[Span]:
    """Spans that a block has no candles for, without short ones inside the block."""
    start, end = block.span
    times = np.concatenate([[start - interval], block.candles.open_time, [end]])
    return [
        (first, after)
        for first, after in find_holes(times.astype(np.int64), interval).tolist()
        if after - first >= LONG_ABSENCE * interval or first == start or after == end
    ]


def _describe_absences(absent: list[Span], source: Source, interval: int) -> list[str]:
    """A note on the absences of ``LONG_ABSENCE`` bars or more, if there are any."""
    least = LONG_ABSENCE * interval
    stretches = [span for span in unite(absent) if span[1] - span[0] >= least]
    if not stretches:
        return []
    start, end = max(stretches, key=lambda span: span[1] - span[0])
    return [
        f"{source.name} {source.series}: long absences in the answers ({LONG_ABSENCE} bars or "
        f"more): {len(stretches)}, the longest {format_instant(start)} to {format_instant(end)} "
        f"({(end - start) // interval:,} bars): taken as holes; `refresh: true` asks again"
    ]


def _describe_set_aside(aside: list[Span], source: Source, interval: int) -> list[str]:
    """A note on the spans that the source has no answer for yet, if there are any."""
    spans = unite(aside)
    if not spans:
        return []
    bars = sum(end - start for start, end in spans) // interval
    return [
        f"{source.name} {source.series}: not answered yet: {bars:,} bars between "
        f"{format_instant(spans[0][0])} and {format_instant(spans[-1][1])}: neither candles nor "
        "holes, and asked for again by the next run"
    ]


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


def _show_progress(
    blocks: Iterator[Block], total: int | None, interval: int, source: Source
) -> Iterator[Block]:
    """Pass blocks on and show one bar for all on a terminal; silent elsewhere."""
    from tqdm import tqdm

    label = escape(f"{source.name} {source.series}")
    received = 0
    shape = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} bars, {remaining} left{postfix}"
    with tqdm(
        total=total,
        desc=label,
        unit=" bars",
        unit_scale=True,
        disable=None,
        dynamic_ncols=True,
        bar_format=shape if total else None,
    ) as bar:
        for count, block in enumerate(blocks, start=1):
            yield block
            received += block.received
            if received:
                bar.set_postfix_str(f"{count:,} files, {received / 1e6:,.1f} MB", refresh=False)
            bar.update((block.span[1] - block.span[0]) // interval)


def _commit(path: Path, parts: Parts, refresh: bool, *, whole: bool) -> tuple[int, list[str]]:
    """Write a new candle file of the old one and the parts, or of the parts alone; drop the parts.

    Returns:
        How many candles were not stored before, and notes.
    """
    source, interval = parts.source, parts.interval
    stored, files = path if path.exists() else None, parts.list_files()
    merged = (
        Replacement(stored, files, interval) if whole else Merge(stored, files, interval, refresh)
    )
    headers = merged.headers
    write_candles(
        path,
        merged.chunks(),
        source=source.name,
        series=source.series,
        interval=interval,
        columns={name for header in headers for name in header.columns},
        covered=unite(span for header in headers for span in header.covered),
        revision=parts.revision,
        provenance=join_records([record for header in headers for record in header.provenance]),
    )
    parts.discard()
    return merged.added, [f"{source.name} {source.series}: {note}" for note in merged.describe()]
