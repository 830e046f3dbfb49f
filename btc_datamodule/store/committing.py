"""Committing: a file and the parts that a source has answered become one file.

As a rule both are merged in bounded memory into a new file, which replaces the old one. New bars
that only follow those of a large candle file are written to its tail instead. Either way a reader
sees the old content or the new, and whoever is killed leaves one of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from btc_datamodule.candles.timeline import unite
from btc_datamodule.progress import Step, show_step
from btc_datamodule.store.appending import append_candles, is_appended
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.forms import CANDLES, Content
from btc_datamodule.store.locating import is_there
from btc_datamodule.store.merging import Merge, Replacement, join_provenance
from btc_datamodule.store.parts import Parts
from btc_datamodule.store.planning import Wanted
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
    path, form = parts.path, parts.form
    stored, files = path if is_there(path) else None, parts.list_files()
    if wanted.whole:
        merged: Merge | Replacement = Replacement(form, stored, files)
    else:
        merged = Merge(form, stored, files, wanted.refresh)
    facts = {
        "covered": unite(span for header in merged.headers for span in header.covered),
        "provenance": join_provenance(
            [record for header in merged.headers for record in header.provenance]
        ),
    }
    label = f"{parts.source.name} {parts.source.series}"
    asked_anew = wanted.whole or wanted.refresh
    added = None if stored is None or asked_anew else _append(stored, parts, files, facts)
    if added is None:
        _write(parts, merged, facts | ({"pending": min(late)} if late else {}), label)
        discard_tail(path)
        added = merged.added
    parts.discard()
    return added, [f"{label}: {note}" for note in merged.describe()]


def _append(path: Path, parts: Parts, files: list[Path], facts: dict[str, Any]) -> int | None:
    """Write the bars of parts to the tail of a file; how many. None if they do not belong there."""
    if parts.form is not CANDLES:
        return None
    answers = Merge(CANDLES, None, files, refresh=False)
    with CandleReader(path) as reader:
        if not is_appended(reader, answers.headers):
            return None
        found: list[Any] = list(answers.chunks())
        append_candles(reader, found, **facts)
    return answers.added


def _write(parts: Parts, merged: Merge | Replacement, facts: dict[str, Any], label: str) -> None:
    """Write a new file in the place of the old one."""
    headers, form = merged.headers, parts.form

    def count_chunks(step: Step) -> Iterator[Content]:
        for chunk in merged.chunks():
            yield chunk
            step.advance(len(chunk))

    total = sum(each.rows for each in headers)
    with show_step(f"{label}: merging", total, f" {form.row}s") as step:
        form.write(
            parts.path,
            count_chunks(step),
            source=parts.source.name,
            series=parts.source.series,
            interval=parts.interval,
            columns=dict.fromkeys(name for header in headers for name in header.columns),
            revision=parts.revision,
            **facts,
        )
