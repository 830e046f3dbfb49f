"""What a person is told of an update: absences, what is not answered yet, what is used instead."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from btc_datamodule.candles.series import find_holes
from btc_datamodule.candles.timeline import Span, format_instant, unite
from btc_datamodule.checks import list_first
from btc_datamodule.escaping import escape
from btc_datamodule.store.forms import AnyBlock, AnySource, Form, find_form
from btc_datamodule.store.locating import describe_origin, tell_ends
from btc_datamodule.store.series_file import Header

LONG_ABSENCE = 100
"""Bars, or records with an interval, in a row without an answer from which on a person is told."""


ALIKE = 3
"""Notes of a source that say the same with other numbers, of which more are told as one."""


def gather_alike(notes: Iterable[str]) -> list[str]:
    """Notes, those that many files or pages share told once: the first, and where else it is so.

    Args:
        notes: one sentence each, that begins with where it is and a colon.
    """
    groups: dict[str, list[str]] = {}
    for note in notes:
        groups.setdefault(re.sub(r"\d[\d,]*", "0", note), []).append(note)
    told: list[str] = []
    for first, *others in groups.values():
        if len(others) < ALIKE:
            told += [first, *others]
        else:
            where = list_first([note.partition(": ")[0] for note in others])
            told.append(f"{first} (and {len(others):,} notes alike: {where})")
    return told


@runtime_checkable
class ReadsFiles(Protocol):
    """A source of several files, which tells those that are gone from those that have changed."""

    def find_missing(self, revision: str, origin: str, checksum: str) -> list[str]:
        """The names of files that are gone, where all others are as they were stored."""
        ...


def find_gone(source: AnySource, revision: str, header: Header) -> list[str]:
    """The names of files that a source was read from and that are gone, if all else is as stored.

    Args:
        source: which is read whole.
        revision: that it has now.
        header: of its file.
    """
    if revision == header.revision or not isinstance(source, ReadsFiles):
        return []
    origins = ", ".join(dict.fromkeys(record.origin for record in header.provenance))
    checksums = ", ".join(dict.fromkeys(record.checksum for record in header.provenance))
    return source.find_missing(header.revision, origins, checksums)


def find_absences(block: AnyBlock, form: Form, interval: int | None) -> list[Span]:
    """Spans that a block has no rows for, without short ones inside the block.

    Where rows follow no interval, none is too long.
    """
    if interval is None:
        return []
    start, end = block.span
    times = np.concatenate([[start - interval], form.get_keys(block.content)[0], [end]])
    return [
        (first, after)
        for first, after in find_holes(times.astype(np.int64), interval).tolist()
        if after - first >= LONG_ABSENCE * interval or first == start or after == end
    ]


def describe_beginning(
    absent: list[Span], source: AnySource, header: Header, interval: int | None
) -> list[str]:
    """A note if a source begins long after it says; most say nothing, and begin when they do."""
    first, least = header.span[0], LONG_ABSENCE * (interval or 1)
    before = [span for span in unite(absent) if span[0] < first]
    if not source.first or not before or first - before[0][0] < least:
        return []
    return [
        f"{source.name} {source.series}: its first {find_form(source).row} is at "
        f"{format_instant(first)}; it was asked for all from {format_instant(before[0][0])} on"
    ]


def describe_absences(absent: list[Span], source: AnySource, interval: int | None) -> list[str]:
    """A note on the absences of ``LONG_ABSENCE`` bars or more, if there are any."""
    rows, step = f"{find_form(source).row}s", interval or 1
    least = LONG_ABSENCE * step
    stretches = [span for span in unite(absent) if span[1] - span[0] >= least]
    if not stretches:
        return []
    start, end = max(stretches, key=lambda span: span[1] - span[0])
    return [
        f"{source.name} {source.series}: long absences in the answers ({LONG_ABSENCE} {rows} or "
        f"more): {len(stretches)}, the longest {format_instant(start)} to {format_instant(end)} "
        f"({(end - start) // step:,} {rows}): taken as holes; `refresh: true` asks again"
    ]


def describe_set_aside(aside: list[Span], source: AnySource, interval: int | None) -> list[str]:
    """A note on the spans that the source has no answer for yet, if there are any."""
    spans, form = unite(aside), find_form(source)
    if not spans:
        return []
    seconds = sum(end - start for start, end in spans)
    what = f"{seconds // interval:,} {form.row}s" if interval else f"{form.row}s"
    return [
        f"{source.name} {source.series}: not answered yet: {what} between "
        f"{format_instant(spans[0][0])} and {format_instant(spans[-1][1])}: neither "
        f"{form.content}s nor holes, and asked for again by the next run"
    ]


def describe_pending(late: list[int], source: AnySource) -> list[str]:
    """A note on records of a source that are left out until they are known, if there are any.

    Args:
        late: since when each will be known.
        source: which is read whole.
    """
    if not late:
        return []
    return [
        f"{source.name} {source.series}: {len(late):,} records are not known yet, the first until "
        f"{format_instant(min(late))}: left out, and read by the first run after that"
    ]


def describe_fallback(source: AnySource, problem: str, header: Header) -> str:
    """A note: something is in the way, and what is stored is used."""
    label, item = f"{source.name} {source.series}", find_form(source).content
    until = f"up to {tell_ends(header)[1]}" if header.rows else f"without a {item}"
    origin = describe_origin(header) if header.revision else ""  # of files, which file
    return escape(
        f"{label}: {problem}: what is stored is used, {until}{origin and f' ({origin})'}; "
        "`offline: true` asks nothing"
    )


def describe_gone(source: AnySource, names: list[str], header: Header) -> str:
    """A note: some files of a source are gone, and what is stored of them is kept."""
    label = f"{source.name} {source.series}"
    shown = list_first(names, most=5)
    until = tell_ends(header)[1]
    return escape(
        f"{label}: {shown} is not there any more, and the other files are as they were: what is "
        f"stored is used, up to {until}; `refresh: true` takes out for good what is gone"
    )


def describe_unwritable(path: Path, form: Form, stored: Header | None, lacking: list[Span]) -> str:
    """What is missing in a file whose folder cannot be written, and the ways out."""
    if stored is None:
        return (
            f"{path} does not exist, and its folder cannot be written: set a `data_dir` that can, "
            f"or that has the {form.content}s"
        )
    what = "what its source says now"
    if not stored.revision:
        span = f"{format_instant(lacking[0][0])} to {format_instant(lacking[-1][1])}"
        what = f"{form.row}s from {span} that are wanted"
    return (
        f"{path} lacks {what}, and its folder cannot be written: set `offline: true` to take what "
        "is stored, or a `data_dir` that can be written"
    )


def describe_nothing(source: AnySource, headers: Iterable[Header]) -> str:
    """What to say if none came of all that a source was asked for.

    Args:
        source: that was asked.
        headers: of its answers.
    """
    answers = list(headers)
    covered = unite(span for header in answers for span in header.covered)
    asked = ""
    if covered:
        start, end = format_instant(covered[0][0]), format_instant(covered[-1][1])
        asked = f"asked from {start} to {end}, "
    origin = next((each.origin for header in answers for each in header.provenance), "")
    where = ", or `source.base_url`" if hasattr(source, "base_url") else ""
    came_from = f" ({origin:.200})" if origin else ""
    return (
        f"{source.name} {source.series}: {asked}the source has no {find_form(source).content}s "
        f"there{came_from}: check the name of the market and `start` and `end`{where}"
    )
