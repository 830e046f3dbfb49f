"""What an update refuses to store: rows of another exchange than those stored, and nothing at all.

The address of a service (scheme and host) belongs to what is known of a series, by its provenance.
Where it is another one than before, the service is first asked for rows that are stored: a mirror
has the same, and another exchange, such as a sandbox, has others.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.store.forms import CANDLES, AnyBlock
from btc_datamodule.store.notes import describe_nothing
from btc_datamodule.store.parts import Parts
from btc_datamodule.store.planning import Plan
from btc_datamodule.store.series_file import Header

_COMPARED = 100
"""Bars, back from the newest one, that a new address is asked for."""

_PACE = 28_800
"""Seconds taken for those of one record where records follow no interval."""


def check_address(
    parts: Parts, plan: Plan, fetch: Callable[[Span, bool], Iterable[AnyBlock]]
) -> list[str]:
    """A note if rows come from another address than those stored, and cannot be compared.

    Nothing is asked where the address has been heard before, or the source has none. The newest row
    that is stored is not compared: it may have been asked for too soon after its close.

    Args:
        parts: what was answered and is not merged.
        plan: what is stored, and what there is to ask.
        fetch: asks the source for a span, which is needed or not.

    Raises:
        ConfigError: if a row has other values there.
        SourceError: as of ``fetch``.
    """
    source, form = parts.source, parts.form
    if not plan.missing or parts.revision or not hasattr(source, "base_url"):
        return []
    headers = parts.read_headers() | ({} if plan.stored is None else {parts.path: plan.stored})
    old, new = _list_addresses(headers.values()), _find_address(source.base_url or "")
    if getattr(type(source), "base_url", "") is not None:  # its own address is told in each origin
        old.discard("")
    filled = [file for file, header in headers.items() if header.rows]
    if not old or new in old or not filled:
        return []
    label, where = f"{source.name} {source.series}", ", ".join(sorted(map(_name, old)))
    with form.open(filled[-1]) as reader:
        end, pace = reader.header.span[1], parts.interval or _PACE
        times = form.get_keys(reader.slice(end - _COMPARED * pace, end))[0]
        span = (int(times[0]), int(times[-1]))
        stored = reader.slice(*span)
    if len(stored):
        is_needed = any(is_needed for _, is_needed in plan.missing)
        answers = [block.content for block in fetch(span, is_needed) if block.answered]
        answered = form.concatenate([stored.slice(0, 0), *answers])
        differing = form.merge(stored, answered, False)[1]
        if len(differing):
            told = _describe_first(stored, answered, int(differing[0]))
            raise ConfigError(
                f"{label}: {_name(new)} has other {form.content}s than those stored, which came "
                f"from {where}: of {len(stored)} that were compared {len(differing)} differ, the "
                f"first at {told}: it is another exchange, such as a sandbox: set another "
                "`data_dir` for it, or `source.base_url` as it was"
            )
        if len(form.find_lacking(stored, [answered])) < len(stored):
            return []
    return [
        f"{label}: new {form.content}s come from {_name(new)}, those stored from {where}, and it "
        "has none of these to compare: in one file they are right only if these are one "
        "exchange, such as a mirror; if not (a sandbox), set another `data_dir`"
    ]


def refuse_nothing(parts: Parts, plan: Plan, notes: Sequence[str]) -> None:
    """Raise ``SourceError`` if no row is stored, and none came of all that was answered.

    It would be settled for good; what is more likely is that something else was meant. Candles that
    are all set aside are refused too: there would be a file of none.

    Args:
        parts: what was answered.
        plan: what is stored.
        notes: of the answers, those without an answer too.
    """
    if plan.stored is not None and plan.stored.rows:
        return
    headers = parts.read_headers().values()
    if any(header.rows for header in headers):
        return
    if headers:
        parts.discard()
        raise SourceError(describe_nothing(parts.source, headers))
    if notes and parts.form is CANDLES:
        raise SourceError(
            f"no candles are stored, and none came: {notes[0]}: check `source`, `start` and `end`, "
            "or run it again later"
        )


def _list_addresses(headers: Iterable[Header]) -> set[str]:
    """The addresses of all origins."""
    return {_find_address(record.origin) for header in headers for record in header.provenance}


def _find_address(origin: str) -> str:
    """The scheme and host in a text; "" if there are none."""
    found = re.search(r"https?://[^/\s]+", origin)
    return found[0] if found else ""


def _name(address: str) -> str:
    return address or "the exchange's own address"


def _describe_first(stored: Any, answered: Any, time: int) -> str:
    """When a row is, and the first value of it that is another."""
    ours, theirs = (each.slice(time, time + 1) for each in (stored, answered))
    for name in ours.columns:
        for old, new in zip(ours[name], theirs[name], strict=False):
            if old != new and not np.isnan([old, new]).any():
                return f"{format_instant(time)}, where {name} is {new} and not {old}"
    return format_instant(time)
