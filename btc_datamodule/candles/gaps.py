"""Gaps that look made: bars that are absent as no market leaves them out.

A market at rest leaves bars out here and there, the more the less it trades. An answer that was cut
leaves out half a page in one go between bars that are all there; one that was thinned out leaves
every second bar, or one bar a day. An outage of an exchange looks like a cut answer too: what is
found here is suspicious, and no more than that.

``python -m pytest tests/candles/test_gaps.py`` shows that nothing of the kind is found in ten years
of Kraken's hours, with 3,254 holes, and two of Bitfinex' minutes, with 13,947.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import find_holes
from btc_datamodule.candles.timeline import Span, format_instant, format_interval

LONG = 48
"""Bars in a row whose absence is suspicious where the bars around them are there."""

AROUND = 100
"""Bars before and after a gap that are looked at."""

DENSE = 0.95
"""Share of the bars around a gap that must be there for them to count as complete."""

THINNED = 8
"""Equal gaps, each one bar after the other, that are suspicious where the bars around are there."""

SURELY_THINNED = 16
"""Equal gaps, each one bar after the other, that are suspicious anywhere: a market that leaves out
half of its bars at random has 8 of them by chance once in 65,000 bars, and 16 in four billion."""


class Stretch(NamedTuple):
    """A suspicious stretch.

    Attributes:
        span: from the first absent bar to the end of the last one.
        absent: how many bars are.
        step: seconds between the bars that are there; 0 where none is.
    """

    span: Span
    absent: int
    step: int

    def describe(self) -> str:
        """What is absent, as a sentence without its end."""
        where = f"from {format_instant(self.span[0])} to {format_instant(self.span[1])}"
        if self.step:
            return f"{where} one bar every {format_interval(self.step)} ({self.absent:,} absent)"
        return f"{where} no bar of {self.absent:,}"


def find_suspicious(
    holes: NDArray[np.int64], interval: int, span: Span, long: int = LONG
) -> list[Stretch]:
    """Find what looks cut out or thinned out of bars that are otherwise complete.

    Args:
        holes: (n, 2) int64, as ``find_holes`` gives them.
        interval: seconds of a bar.
        span: what is known about: the bars outside the holes and inside it are there.
        long: bars in a row whose absence is suspicious.

    Returns:
        In order of time.
    """
    starts, ends = holes[:, 0], holes[:, 1]
    absent_before = np.concatenate([[0], np.cumsum(ends - starts)])

    def count_absent(when: NDArray[np.int64]) -> NDArray[np.int64]:
        """Seconds before each instant that lie in a hole."""
        begun = np.searchsorted(starts, when)
        last = np.maximum(begun - 1, 0)
        over = np.where(begun > 0, np.maximum(ends[last] - when, 0), 0)
        counted: NDArray[np.int64] = absent_before[begun] - over
        return counted

    def is_dense(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.bool_]:
        absent = count_absent(high) - count_absent(low)
        dense: NDArray[np.bool_] = absent <= (1 - DENSE) * (high - low)
        return dense

    def is_amid_complete(
        first: NDArray[np.int64], after: NDArray[np.int64], least: int
    ) -> NDArray[np.bool_]:
        """Whether the bars around stretches are there, and are ``least`` bars or more."""
        low = np.maximum(first - AROUND * interval, span[0])
        high = np.minimum(after + AROUND * interval, span[1])
        enough = (first - low) + (high - after) >= least * interval
        whole: NDArray[np.bool_] = is_dense(low, first) & is_dense(after, high) & enough
        return whole

    if not len(holes):
        return []
    length = ends - starts
    cut = (length >= long * interval) & is_amid_complete(starts, ends, long)
    found = [
        Stretch((first, after), (after - first) // interval, 0)
        for first, after in holes[cut].tolist()
    ]
    linked = (starts[1:] - ends[:-1] == interval) & (length[1:] == length[:-1])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], linked, [False]]).astype(np.int8)))
    low, high = edges[::2], edges[1::2]  # numbers of the first and the last hole of each chain
    many = high - low + 1 >= THINNED
    low, high = low[many], high[many]
    # The gaps next to a chain may be shorter, where it begins or ends between two bars.
    before, beyond = low - 1, np.minimum(high + 1, len(holes) - 1)
    shorter = (before >= 0) & (starts[low] - ends[before] == interval)
    first = np.where(shorter & (length[before] < length[low]), starts[before], starts[low])
    shorter = (beyond > high) & (starts[beyond] - ends[high] == interval)
    after = np.where(shorter & (length[beyond] < length[low]), ends[beyond], ends[high])
    count = high - low + 1
    thinned = (count >= SURELY_THINNED) | is_amid_complete(first, after, THINNED)
    absent = count_absent(after) - count_absent(first)
    for i in np.flatnonzero(thinned).tolist():
        where = (int(first[i]), int(after[i]))
        step = int(length[low[i]]) + interval
        found.append(Stretch(where, int(absent[i]) // interval, step))
    return sorted(found)


def find_cuts(
    times: NDArray[np.int64], interval: int, span: Span, long: int = LONG
) -> list[Stretch]:
    """Find what looks cut or thinned out of the bars of an answer, its edges included.

    Args:
        times: (N,) open times of the bars, each once and in order, all inside ``span``.
        interval: seconds of a bar.
        span: what was answered for.
        long: bars in a row whose absence is suspicious.
    """
    edges = np.concatenate([[span[0] - interval], times, [span[1]]])
    return find_suspicious(find_holes(edges, interval), interval, span, long)
