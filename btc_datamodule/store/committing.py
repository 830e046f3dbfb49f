"""Committing: a file and the parts that a source has answered become one file.

As a rule both are merged in bounded memory into a new file, which replaces the old one. New bars
that only follow those of a large candle file are written to its tail instead. Either way a reader
sees the old content or the new, and whoever is killed leaves one of them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from btc_datamodule.candles.timeline import unite
from btc_datamodule.progress import Step, show_step
from btc_datamodule.store.appending import append_candles, is_appended
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.forms import CANDLES, Content
from btc_datamodule.store.locating import is_there
from btc_datamodule.store.merging import (
    Merge,
    Replacement,
    join_provenance,
)
from btc_datamodule.store.parts import Parts
from btc_datamodule.store.planning import Wanted
from btc_datamodule.store.series_file import Header
from btc_datamodule.store.stray import set_aside_stray
from btc_datamodule.store.tail import discard_tail


def commit(parts: Parts, wanted: Wanted, late: list[int]) -> tuple[int, list[str]]:
    """Write what is stored and the parts, or the parts alone, as one; drop the parts.

    Args:
        parts: the answers.
        wanted: what the file is to hold.
        late: when each record that is left out will be known.

    Returns:
        How many rows were not stored before, and notes.
    """
    path, files = parts.path, parts.list_files()
    stored = path if is_there(path) else None
    found = None
    if stored and parts.form is CANDLES and not wanted.whole and not wanted.refresh:
        found = _append(stored, files)
    if found is None:
        found = _merge(parts, stored, files, wanted, {"pending": min(late)} if late else {})
    parts.discard()
    added, notes = found
    label = f"{parts.source.name} {parts.source.series}"
    return added, [f"{label}: {note}" for note in notes]


def _gather_facts(headers: Sequence[Header]) -> dict[str, Any]:
    """What the header of all says of the files that they are made of."""
    return {
        "covered": unite(span for header in headers for span in header.covered),
        "provenance": join_provenance(
            [record for header in headers for record in header.provenance]
        ),
    }


def _append(path: Path, files: list[Path]) -> tuple[int, list[str]] | None:
    """Write the bars of parts to the tail of a file; None if they do not belong there."""
    answers = Merge(CANDLES, None, files, refresh=False)
    with CandleReader(path) as reader:
        if not is_appended(reader, answers.headers):
            return None
        aside = set_aside_stray(path) if len(reader.files) == 1 else []
        found: list[Any] = list(answers.chunks())
        append_candles(reader, found, **_gather_facts([reader.header, *answers.headers]))
    return answers.added, aside


def _merge(
    parts: Parts,
    stored: Path | None,
    files: list[Path],
    wanted: Wanted,
    others: dict[str, int],
) -> tuple[int, list[str]]:
    """Write a new file in the place of the old one and its tail."""
    form = parts.form
    aside = set_aside_stray(parts.path) if form is CANDLES else []
    if wanted.whole:
        merged: Merge | Replacement = Replacement(form, stored, files)
    else:
        merged = Merge(form, stored, files, wanted.refresh)
    headers = merged.headers

    def count_chunks(step: Step) -> Iterator[Content]:
        for chunk in merged.chunks():
            yield chunk
            step.advance(len(chunk))

    label = f"{parts.source.name} {parts.source.series}: merging"
    with show_step(label, sum(each.rows for each in headers), f" {form.row}s") as step:
        form.write(
            parts.path,
            count_chunks(step),
            source=parts.source.name,
            series=parts.source.series,
            interval=parts.interval,
            columns=dict.fromkeys(name for header in headers for name in header.columns),
            revision=parts.revision,
            **_gather_facts(headers),
            **others,
        )
    discard_tail(parts.path)
    return merged.added, [*aside, *merged.describe()]
