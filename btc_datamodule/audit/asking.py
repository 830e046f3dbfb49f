"""The guarantee of a source: closed bars do not change with what is asked.

A source that smooths, shifts or fills before anyone looks gives other last bars when it is asked
for a span that ends earlier. One that keeps what it once computed, or a file that was smoothed
before, cannot be told from the truth by asking.
"""

import time
from collections import Counter

import numpy as np

from btc_datamodule.audit.compare import LeakError, UncheckedError
from btc_datamodule.candles.series import Candles, concatenate, make_empty
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.resampling import ask
from btc_datamodule.stages import Stages
from btc_datamodule.store.candle_file import CandleReader

ASKED = 500
"""Bars that a source is asked for again before each of some ends."""

ENDS = 30
"""At how many ends, those of stages first, then others at random."""

SECONDS = 10.0
"""Not at more of them once so much time has gone."""


def check_source(used: Stages) -> Counter[str]:
    """A source gives the stored bars again when it is asked for less.

    Raises:
        LeakError: if bars change with what is asked.
        UncheckedError: if the source does not answer, or has other bars now than are stored.
    """
    count = Counter[str]()
    started = time.monotonic()
    for span in _choose_spans(used):
        if count["ends"] and time.monotonic() - started > SECONDS:
            break
        with CandleReader(used.settings.candle_path) as reader:
            stored = reader.slice(*span)
        again = _ask(used, span)
        at = _find_difference(stored, again)
        if at is not None:
            longer = (span[0], min(span[1] + ASKED * used.table.interval, used.table.span[1]))
            when, until = format_instant(at), format_instant(span[1])
            if _find_difference(again, _ask(used, longer).slice(*span)) is None:
                raise UncheckedError(
                    f"the source has another bar at {when} than is stored: `refresh: true` takes it"
                )
            raise LeakError(
                f"asked for bars up to {until} alone, the source gives another one at {when}: what "
                "it gives depends on bars that come later"
            )
        count.update(bars=len(again), ends=1)
    return count


def _choose_spans(used: Stages) -> list[Span]:
    """The spans of ``ASKED`` bars, or fewer, up to where stages begin and up to other bars."""
    table, fold = used.table, used.fold
    low, high = table.span
    starts = {start for start, _ in (*fold.train, *fold.val, *fold.test)}
    rng = np.random.default_rng(0)
    ends = rng.permutation([end for end in starts if low < end <= high]).astype(np.int64).tolist()
    if _read_revision(used) is None:
        ends += [table.find_time(row) for row in rng.integers(1, table.rows, ENDS).tolist()]
    else:  # it gives all it has, whatever it is asked
        ends = ends[:1]
    spans = [(max(low, end - ASKED * table.interval), end) for end in ends[:ENDS]]
    return spans or [(max(low, high - ASKED * table.interval), high)]


def _read_revision(used: Stages) -> str | None:
    """The source's revision.

    Raises:
        UncheckedError: if what it reads is not there any more.
    """
    try:
        return used.settings.source.revision
    except SourceError as error:
        raise UncheckedError(f"the source does not answer: {error}") from error


def _ask(used: Stages, span: Span) -> Candles:
    """What the source answers for a span.

    Raises:
        UncheckedError: if it does not.
    """
    interval = used.table.interval
    try:
        blocks = list(ask(used.settings.source.hurry(), interval, span))
    except Exception as error:  # a source of the user's own may raise anything
        name = "" if isinstance(error, SourceError) else f"{type(error).__name__}: "
        raise UncheckedError(f"the source does not answer: {name}{error}") from error
    for block in blocks:
        if not block.answered:
            where = format_instant(block.span[0])
            raise UncheckedError(f"the source has no answer yet for the time from {where} on")
    return concatenate([make_empty(interval), *(each.candles for each in blocks)]).slice(*span)


def _find_difference(one: Candles, other: Candles) -> int | None:
    """The time of the first bar that is not the same in both; None if all are."""
    times = np.union1d(one.open_time, other.open_time)
    differs = np.zeros(len(times), dtype=np.bool_)
    for name in one.columns.keys() & other.columns.keys():
        columns = []
        for candles in (one, other):
            column = np.full(len(times), np.nan)
            column[np.searchsorted(times, candles.open_time)] = candles[name]
            columns.append(column)
        differs |= ~((columns[0] == columns[1]) | np.isnan(columns[0]) & np.isnan(columns[1]))
    at = np.flatnonzero(differs)
    return int(times[at[0]]) if len(at) else None
