"""What a person is told of an update: absences, what is not answered yet, what is used instead."""

from typing import Protocol, runtime_checkable

import numpy as np

from btc_datamodule.candles.series import find_holes
from btc_datamodule.candles.timeline import Span, format_instant, unite
from btc_datamodule.checks import list_first
from btc_datamodule.escaping import escape
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.store.locating import describe_origin
from btc_datamodule.store.series_file import Header

LONG_ABSENCE = 100
"""Bars in a row without an answer from which on a person is told of them."""


@runtime_checkable
class ReadsFiles(Protocol):
    """A source of several files, which tells those that are gone from those that have changed."""

    def find_missing(self, revision: str, origin: str, checksum: str) -> list[str]:
        """The names of files that are gone, where all others are as they were stored."""
        ...


def find_gone(source: Source, revision: str, header: Header) -> list[str]:
    """The names of files that a source was read from and that are gone, if all else is as stored.

    Args:
        source: which is read whole.
        revision: that it has now.
        header: of its candle file.
    """
    if revision == header.revision or not isinstance(source, ReadsFiles):
        return []
    origins = ", ".join(dict.fromkeys(record.origin for record in header.provenance))
    checksums = ", ".join(dict.fromkeys(record.checksum for record in header.provenance))
    return source.find_missing(header.revision, origins, checksums)


def find_absences(block: Block, interval: int) -> list[Span]:
    """Spans that a block has no candles for, without short ones inside the block."""
    start, end = block.span
    times = np.concatenate([[start - interval], block.candles.open_time, [end]])
    return [
        (first, after)
        for first, after in find_holes(times.astype(np.int64), interval).tolist()
        if after - first >= LONG_ABSENCE * interval or first == start or after == end
    ]


def describe_beginning(absent: list[Span], source: Source, header: Header) -> list[str]:
    """A note if a source begins long after it says; most say nothing, and begin when they do."""
    first, least = header.span[0], LONG_ABSENCE * header.interval
    before = [span for span in unite(absent) if span[0] < first]
    if not source.first or not before or first - before[0][0] < least:
        return []
    return [
        f"{source.name} {source.series}: its first bar is at {format_instant(first)}; it was asked "
        f"for all from {format_instant(before[0][0])} on"
    ]


def describe_absences(absent: list[Span], source: Source, interval: int) -> list[str]:
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


def describe_set_aside(aside: list[Span], source: Source, interval: int) -> list[str]:
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


def describe_fallback(label: str, problem: str, header: Header) -> str:
    """A note: something is in the way, and what is stored is used."""
    until = f"up to {format_instant(header.span[1])}" if header.rows else "without a candle"
    origin = describe_origin(header) if header.revision else ""  # of files, which file
    return escape(
        f"{label}: {problem}: what is stored is used, {until}{origin and f' ({origin})'}; "
        "`offline: true` asks nothing"
    )


def describe_gone(label: str, names: list[str], header: Header) -> str:
    """A note: some files of a source are gone, and what is stored of them is kept."""
    shown = list_first(names, most=5)
    until = format_instant(header.span[1])
    return escape(
        f"{label}: {shown} is not there any more, and the other files are as they were: what is "
        f"stored is used, up to {until}; `refresh: true` takes out for good what is gone"
    )
