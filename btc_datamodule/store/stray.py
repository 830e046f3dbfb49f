"""Stray tails: the newest bars of a candle file that is not the one beside them.

A tail that a merge has left has bars that are all in the file, and is of no use. Any other that
does not follow its file has lost it: the file was moved away, or is a copy of another day. Its bars
are not read, since nothing says that they follow; nor are they lost: before anything is written in
its place it is moved aside, under a name that nothing reads.
"""

from contextlib import closing
from itertools import count
from pathlib import Path

import numpy as np

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.disk.atomic import explain_write_errors
from btc_datamodule.errors import StoreError
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.candle_layout import OpenCandles
from btc_datamodule.store.series_file import Header
from btc_datamodule.store.tail import locate_tail


def describe_stray(path: Path) -> list[str]:
    """A sentence on the tail of a candle file if it has lost its file; none otherwise.

    Raises:
        StoreError: if the candle file cannot be read.
    """
    lost = _find_lost(path)
    if lost is None:
        return []
    tail = locate_tail(path)
    return [
        f"{tail} does not follow {path}, and its {lost} are not read: put the candles.h5 back that "
        f"it belongs to, or move it away; the next bars that are stored move it aside"
    ]


def set_aside_stray(path: Path) -> list[str]:
    """Move the tail of a candle file aside if it has lost its file; a sentence on that.

    The lock of updates is held.

    Raises:
        StoreError: if it cannot be moved, or the candle file cannot be read.
    """
    lost = _find_lost(path)
    if lost is None:
        return []
    tail = locate_tail(path)
    names = (tail.with_suffix(f".aside-{number}.h5") for number in count(1))
    aside = next(name for name in names if not name.exists())
    with explain_write_errors(tail):
        tail.rename(aside)
    return [
        f"{tail.name} did not follow {path.name}: it was moved aside to {aside}, with {lost} that "
        f"are not read; under its old name, beside the {path.name} that it belongs to, they are"
    ]


def _find_lost(path: Path) -> str | None:
    """What a tail has that the candle file beside it has not, in words; None if nothing is lost."""
    tail_path = locate_tail(path)
    if not tail_path.exists() or (path.exists() and _is_followed(path)):
        return None
    # Opened before the file: if both are merged meanwhile, the bars of the tail are in the file.
    try:
        with closing(OpenCandles(tail_path)) as tail:
            header, times = tail.header, tail.read_times(0, tail.rows)
    except StoreError:
        return "bars, which cannot be read," if tail_path.exists() else None
    if path.exists():
        with CandleReader(path) as reader:
            if len(reader.files) > 1:
                return None
            if _is_same(header, reader.header):
                times = np.setdiff1d(times, reader.slice(*header.span)["open_time"])
    if not len(times):
        return None
    start, end = (format_instant(int(time)) for time in times[[0, -1]])
    return f"{len(times):,} bars from {start} to {end}"


def _is_followed(path: Path) -> bool:
    """Whether a candle file is read with its tail."""
    with CandleReader(path) as reader:
        return len(reader.files) > 1


def _is_same(one: Header, other: Header) -> bool:
    """Whether two headers are of one series, so that equal times are the same bars."""
    return (one.source, one.series, one.interval) == (other.source, other.series, other.interval)
