"""Doubts about an answer: whether its rows can be what was asked for at all.

A cache that ignores the query, a service that has changed its unit, a proxy that answers with the
newest page: what comes is well-formed, and no answer. Taken as one, its rows would all be filtered
away, and the span would be settled as without candles for good. Pure functions of the rows' times.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import Span, format_instant, format_interval

CERTAIN = 1e6
"""Odds from which on bars are taken for longer ones than those that were asked for."""

LIKELY = 1e3
"""Odds from which on they are not believed to be those that were asked for."""

DOUBTED = 3
"""Times that is asked where the answers are none."""

ADVICE = (
    "run it again: what was answered before is kept, and this span is asked for again; if it stays,"
    " a cache or proxy on the way changes what is asked or answered, or `source.base_url` is not "
    "the service"
)
"""What to do about an answer that is none."""

_LATEST = 10**11
"""Epoch seconds (the year 5138) after which a time is in another unit."""


def find_fault(times: NDArray[np.float64], interval: int, span: Span) -> str:
    """Say in what rows are no answer to the question for a span; "" if they may be one.

    No rows are an answer, and so are those that are next to the span and not in it: some services
    count its ends otherwise.

    Args:
        times: (N,) open times as they came, in epoch seconds if the service keeps its word.
        interval: seconds of a bar.
        span: what was asked for, half-open.
    """
    if not len(times):
        return ""
    if unit := find_unit(times):
        return unit
    start, end = span
    inside = times[(times >= start) & (times < end)]
    if not len(inside):
        if np.isin(times, (start - interval, end)).all():
            return ""
        first, last = (format_instant(int(when)) for when in (times.min(), times.max()))
        return f"{len(times)} rows of {first} to {last}, none of the span that was asked for"
    off = inside % interval != 0
    if 2 * off.sum() > len(inside):
        apart = np.diff(np.unique(inside))
        step = f", its bars are {format_interval(int(apart.min()))} apart" if len(apart) else ""
        return (
            f"{int(off.sum())} of {len(inside)} rows open off the grid of "
            f"{format_interval(interval)}{step}"
        )
    return ""


def find_unit(times: NDArray[np.float64] | NDArray[np.int64]) -> str:
    """Say in which unit times are that should be epoch seconds; "" if they may be."""
    if times.max() < _LATEST:
        return ""
    unit = "milliseconds" if times.max() < _LATEST * 1000 else "microseconds"
    return f"its times look like {unit}, such as {times.max():.0f}"


def find_longer(
    times: NDArray[np.float64] | NDArray[np.int64], interval: int, offered: Iterable[int]
) -> tuple[int, float]:
    """Find the longer bars that rows may be in place of those that were asked for.

    Args:
        times: (N,) open times, on the interval's grid.
        interval: seconds of the bars that were asked for.
        offered: seconds of the bars that the service has.

    Returns:
        The length of the longest ones at which every row opens, and the odds against that chance
        made it so: ``(length / interval) ** rows``. ``(0, 1.0)`` if there are none.
    """
    opened = np.unique(times)
    for step in sorted(offered, reverse=True):
        if step > interval and step % interval == 0 and not (opened % step).any():
            return (step, (step / interval) ** min(len(opened), 50)) if len(opened) else (0, 1.0)
    return 0, 1.0


def describe_longer(rows: int, step: int, interval: int) -> str:
    """Say that rows are longer bars than those that were asked for."""
    return (
        f"its bars are {format_interval(step)} apart, not {format_interval(interval)}: all of "
        f"{rows} rows open on the grid of {format_interval(step)}"
    )
