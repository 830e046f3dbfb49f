"""The tail of a candle file: its newest bars, in a small file of their own beside it.

To add a bar to a file of millions costs as much as to write all of it. So where new bars only
follow those of a large file, the *base*, they are written as ``candles.tail.h5``: what has come
since the base was written, with what the header of all of it says. A reader opens both as one.
When the tail has grown, both are merged into a new base, and the tail is removed.

Nobody who reads takes a lock. A tail names the very base that it follows. One that names another
is what a merge has left, and its bars are in the base; or the base was replaced while it was
opened, and both are opened again. So what a reader sees is one state, and none that is older than
what another has seen before. What becomes of the tail of a file that was moved away or restored is
told in ``stray``.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from btc_datamodule.disk.atomic import follow_link
from btc_datamodule.disk.hdf5 import advise_repair
from btc_datamodule.disk.in_use import Identity
from btc_datamodule.errors import StoreError, UnreadableError
from btc_datamodule.store.candle_layout import OpenCandles
from btc_datamodule.store.series_file import Header

LARGE_ROWS = 1 << 16
"""Bars of a base at least for it to have a tail: fewer are quickly written."""

TAIL_ROWS = 1 << 11
"""Bars of a tail at most. Each new bar writes the tail, and once in so many bars the base: of four
million minutes this makes about the fewest bytes."""

TRIES = 100
"""How often files are opened anew that others replace meanwhile."""


def locate_tail(path: Path) -> Path:
    """Where the tail of a candle file is, if it has one: beside the file that a link leads to."""
    return follow_link(path).with_suffix(".tail.h5")


def list_files(path: Path) -> list[Path]:
    """The files that are there of those in which the candles of ``path`` may be."""
    return [each for each in (path, locate_tail(path)) if each.exists()]


def discard_tail(path: Path) -> None:
    """Delete the tail of a candle file that has its bars; where it stays, it is not read."""
    with suppress(OSError):
        locate_tail(path).unlink(missing_ok=True)


def identify(header: Header) -> str:
    """What tells a base from one with other bars, or that says anything else of itself."""
    records = [[*asdict(record).values()] for record in header.provenance]
    known = [header.digest, header.revision, header.columns, header.covered, records]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def open_files(path: Path) -> tuple[OpenCandles, OpenCandles | None]:
    """The candle file at ``path`` and its tail, as they are at one moment; None if it has none.

    Raises:
        StoreError: if one is damaged; of a tail, too, if it is not one of this file.
        UnreadableError: if they are replaced all the time.
    """
    for _ in range(TRIES):
        before = _identify_file(path)
        base = _open_checked(path, _check_base)
        try:
            tail = _open_tail(base)
        except BaseException:
            base.close()
            raise
        if tail is not None or _identify_file(path) == before:
            return base, tail
        base.close()
    raise UnreadableError(f"{path} is replaced all the time: run this again")


def _identify_file(path: Path) -> Identity | None:
    """What tells a file from another in its place; None if there is none, which opening it says."""
    try:
        return Identity.of(path.stat())
    except OSError:
        return None


def _open_checked(path: Path, check: Callable[[OpenCandles], None]) -> OpenCandles:
    opened = OpenCandles(path)
    try:
        check(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def _check_base(base: OpenCandles) -> None:
    if base.follows:
        raise StoreError(
            f"{base.path} has the newest bars of another candle file, which is read with it: give "
            "the path of that one"
        )
    if base.segments is not None:
        base.check_digest(base.segments)


def _open_tail(base: OpenCandles) -> OpenCandles | None:
    """The tail that follows a base; None if there is none."""
    path = locate_tail(base.path)
    if not path.exists():
        return None
    try:
        tail = _open_checked(path, lambda tail: _check_tail(base, tail))
    except StoreError:
        if path.exists():
            raise
        return None  # it was removed after a merge: the base is another one now
    if tail.follows == identify(base.header):
        return tail
    tail.close()
    return None


def _check_tail(base: OpenCandles, tail: OpenCandles) -> None:
    """Raise ``StoreError`` if a tail is damaged, or says to follow a base that it cannot."""
    if tail.follows and tail.follows != identify(base.header):
        return
    ours, theirs = tail.header, base.header
    same = all(
        getattr(ours, name) == getattr(theirs, name)
        for name in ("source", "series", "interval", "columns")
    )
    later = not tail.rows or ours.span[0] >= theirs.span[1]
    if not (tail.follows and same and later and tail.segments and base.segments):
        raise StoreError(
            f"{tail.path} does not have bars that follow those of {base.path}: "
            f"{advise_repair(tail.path)}"
        )
    tail.check_digest(base.segments.followed_by(tail.segments))
