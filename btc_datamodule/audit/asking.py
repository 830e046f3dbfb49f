"""The guarantee of a source: closed bars, and records, do not change with what is asked.

A source that smooths, shifts or fills before anyone looks gives other last bars when it is asked
for a span that ends earlier, and one that tells of a time before it is over gives other last
records. One that keeps what it once computed, or a file that was smoothed before, cannot be told
from the truth by asking; nor can a figure that was revised before anybody asked.
"""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.compare import LeakError, UncheckedError
from btc_datamodule.audit.series import list_files
from btc_datamodule.candles.timeline import Interval, Span, ceil_to, floor_to, format_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.progress import show_each
from btc_datamodule.sources.answering import read_revision
from btc_datamodule.stages import Stages
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.forms import AnySource, Content, Form, find_form
from btc_datamodule.store.record_file import RecordReader

ASKED = 500
"""Bars or records that a source is asked for again before each of some ends."""

ENDS = 30
"""At how many ends, those of stages and inside what looks filled first, then others at random."""

FILLED = 8
"""At how many ends inside stretches of bars that look filled, at most."""

SECONDS = 10.0
"""Not at more of them once so much time has gone, for all series together."""

Reader = CandleReader | RecordReader

LOOKED_AT, WINDOW = 16, 10_000
"""Stretches in which bars that look filled are looked for, and bars of each."""


@dataclass(frozen=True)
class Asked:
    """A series whose source is asked again.

    Attributes:
        name: of the covariate; "" of the candles.
        source: whose it is.
        path: its file.
        interval: of its candles; None of records.
        step: seconds from one bar to the next; of records that follow none those of the candles.
        among: how many series there are.
    """

    name: str
    source: AnySource
    path: Path
    interval: Interval | None
    step: int
    among: int

    @property
    def form(self) -> Form:
        """That of its file."""
        return find_form(self.source)

    @property
    def row(self) -> str:
        """What one of its rows is called."""
        return self.form.row


def list_asked(used: Stages) -> list[Asked]:
    """The candles, and the series beside them."""
    settings, interval = used.settings, used.table.interval
    files = list_files(settings)
    among = 1 + len(files)
    found = [Asked("", settings.source, settings.candle_path, interval, interval, among)]
    for covariate, path in files:
        assert covariate.source is not None
        stored = covariate.stored
        step = int(stored or covariate.beside.interval or interval)
        found.append(Asked(covariate.name, covariate.source, path, stored, step, among))
    return found


def check_source(asked: Asked, used: Stages) -> Counter[str]:
    """A source gives the stored rows again when it is asked for less.

    Raises:
        LeakError: if rows change with what is asked.
        UncheckedError: if the source does not answer, or has other rows now than are stored.
    """
    count = Counter[str]()
    started = time.monotonic()
    label = f"asking {asked.source.name} {asked.source.series}"
    with asked.form.open(asked.path) as reader:
        end = _find_end(reader, asked, used)
        spans = _choose_spans(reader, asked, used, end)
        rows = [reader.slice(*span) for span in spans]
    for span, stored in show_each(list(zip(spans, rows, strict=True)), label):
        if count["ends"] and time.monotonic() - started > SECONDS / asked.among:
            break
        again = _ask(asked, span, stored)
        at = _find_difference(asked, stored, again)
        if at is not None:
            longer = (span[0], min(span[1] + ASKED * asked.step, end))
            when, until = format_instant(at), format_instant(span[1])
            if _find_difference(asked, again, _ask(asked, longer, stored).slice(*span)) is None:
                raise UncheckedError(
                    f"the source has another {asked.row} at {when} than is stored: `refresh: true` "
                    "takes it"
                )
            raise LeakError(
                f"asked for {asked.row}s up to {until} alone, the source gives another one at "
                f"{when}: what it gives depends on {asked.row}s that come later"
            )
        count.update(rows=len(again), ends=1)
    if not count["rows"]:
        raise UncheckedError(f"no {asked.row} is stored in the time that it was asked for")
    return count


def _find_end(reader: Reader, asked: Asked, used: Stages) -> int:
    """The instant up to which a series is stored and used, on its grid."""
    stored = max((end for _, end in reader.header.covered), default=reader.header.span[1])
    end = min(stored, used.table.span[1])
    return end if asked.interval is None else floor_to(end, asked.interval)


def _choose_spans(reader: Reader, asked: Asked, used: Stages, high: int) -> list[Span]:
    """The spans of ``ASKED`` rows, or fewer, up to where stages begin and up to other times."""
    fold, rng = used.fold, np.random.default_rng(0)
    low = reader.header.span[0]
    filled = _find_filled(reader, used) if isinstance(reader, CandleReader) else []
    starts = {start for start, _ in (*fold.train, *fold.val, *fold.test)}
    ends = rng.permutation(sorted(starts)).tolist()
    if _read_revision(asked) is None:
        ends = [*ends, *filled, *rng.integers(low, max(low + 1, high), ENDS).tolist()]
    else:  # it gives all it has, whatever it is asked
        ends = ends[:1]
    if asked.interval is not None:
        low = ceil_to(low, asked.interval)
        ends = [ceil_to(end, asked.interval) for end in ends]
    ends = [end for end in ends if low < end <= high]
    return [(_find_begin(reader, asked, low, end), end) for end in ends[:ENDS] or [high]]


def _find_begin(reader: Reader, asked: Asked, low: int, end: int) -> int:
    """From when on ``ASKED`` rows are stored up to an instant; ``low`` if there are fewer."""
    if isinstance(reader, CandleReader) or asked.interval is not None:
        return max(low, end - ASKED * asked.step)
    row = max(0, reader.find(end) - ASKED)
    return int(next(iter(reader.rows(row, row + 1).time), low))


def _find_filled(reader: CandleReader, used: Stages) -> list[int]:
    """Instants inside stretches in which bars look filled: flat, one as the other."""
    interval, (low, high) = reader.header.interval, reader.header.span
    starts = np.linspace(low, min(high, used.table.span[1]), LOOKED_AT + 1).astype(np.int64)
    found: list[int] = []
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        bars = reader.slice(start, min(end, start + WINDOW * interval))
        close, flat = bars["close"], bars["high"] == bars["low"]
        rows = np.flatnonzero(flat[1:] & flat[:-1] & (close[1:] == close[:-1]))
        found += (bars.open_time[rows] + interval).tolist()
    return found[:: max(1, len(found) // FILLED)][:FILLED]


def _read_revision(asked: Asked) -> str | None:
    """The source's revision.

    Raises:
        UncheckedError: if what it reads is not there any more.
    """
    try:
        return read_revision(asked.source)
    except SourceError as error:
        raise UncheckedError(f"the source does not answer: {error}") from error


def _ask(asked: Asked, span: Span, stored: Content) -> Content:
    """What the source answers for a span; ``stored`` is any content of the same kind.

    Raises:
        UncheckedError: if it does not.
    """
    form = asked.form
    try:
        blocks = list(form.ask(asked.source.hurry(), asked.interval, span))
        content: Content = form.concatenate(
            [stored.slice(0, 0), *(each.content for each in blocks)]
        )
    except Exception as error:  # a source of the user's own may raise anything
        name = "" if isinstance(error, SourceError) else f"{type(error).__name__}: "
        raise UncheckedError(f"the source does not answer: {name}{error}") from error
    for block in blocks:
        if not block.answered:
            where = format_instant(block.span[0])
            raise UncheckedError(f"the source has no answer yet for the time from {where} on")
    return content.slice(*span)


def _find_difference(asked: Asked, one: Content, other: Content) -> int | None:
    """The time of the first row that is not the same in both; None if all are."""
    keys = [np.stack(asked.form.get_keys(each), axis=1) for each in (one, other)]
    every, place = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    places = np.split(place.ravel(), [len(keys[0])])
    there = [np.isin(np.arange(len(every)), each) for each in places]
    differs: NDArray[np.bool_] = there[0] != there[1]
    for name in one.columns.keys() & other.columns.keys():
        columns = []
        for content, at in zip((one, other), places, strict=True):
            column = np.full(len(every), np.nan)
            column[at] = content[name]
            columns.append(column)
        differs |= ~((columns[0] == columns[1]) | np.isnan(columns[0]) & np.isnan(columns[1]))
    first = np.flatnonzero(differs)
    return int(every[first[0], 0]) if len(first) else None
