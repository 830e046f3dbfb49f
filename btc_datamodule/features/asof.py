"""The join: what was known of a series at the close of each bar of another.

The law, for every kind of series: each time that something of a series becomes known, its features
are computed of what is known then; a bar takes the latest value that is defined and was known at
its close, unless that is older than ``max_age``. Its age is that of the newest row that it is made
of: a bar that is filled is as old as the one that it repeats. Nothing is filled backwards.

``join_feature`` gives the values of a feature that has a clock of its own, ``join_rows`` whole rows
for features that see several series. Both with the earliest instant that they are made of, by which
a wall knows what may not cross it. That there is nothing hangs on something too: had anything
become known within ``max_age`` of the close, it would be there.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.clocks import Clock, GridClock, RecordClock, Rows
from btc_datamodule.features.states import Compute, States, compute_states, read_records

NEVER = np.iinfo(np.int64).max


class Joined(NamedTuple):
    """Values that have entered bars.

    Attributes:
        values: (n,) float64, NaN where there is none.
        heard_at: (n,) int64, from when on they are aged; 0 where there is none.
        since: (n,) int64, the earliest instant that each, or that there is none, hangs on;
            ``NEVER`` before anything was known of the series.
    """

    values: NDArray[np.float64]
    heard_at: NDArray[np.int64]
    since: NDArray[np.int64]


class JoinedRows(NamedTuple):
    """Whole rows of a series as they were known at the closes of some bars.

    Attributes:
        rows: of the series, with NaN where nothing was known; ``since`` as that of ``Joined``.
        some: (n,) where something was known.
        age: (n,) float64, seconds since ``Rows.heard_at``; NaN where nothing was known.
    """

    rows: Rows
    some: Mask
    age: NDArray[np.float64]


def join_feature(
    clock: Clock,
    closes: NDArray[np.int64],
    lookback: int,
    compute: Compute,
    columns: tuple[str, ...] | None,
) -> Joined:
    """The values of a feature that enter bars.

    Args:
        clock: the series that it is a feature of.
        closes: (n,) closes of the bars, in order.
        lookback: rows of the series that each value needs.
        compute: the feature.
        columns: those that it is made of; None where that is not known. On a clock without an
            interval a record without one of them is none for this feature.
    """
    for start in _list_starts(clock, int(closes[0])):
        states, whole = compute_states(clock, start, int(closes[-1]), lookback, compute, columns)
        at, since = _take_latest(states, closes, clock.beside)
        if whole or _is_enough(states, at, start):
            break
    return Joined(_pick(states.values, at, np.nan), _pick(states.heard_at, at, 0), since)


def join_rows(clock: Clock, closes: NDArray[np.int64]) -> JoinedRows:
    """The newest row of a series that was known at each close, unless it is too old.

    A bar of an outage is none.

    Args:
        clock: the series.
        closes: (n,) closes of bars, in order.
    """
    first, last = (int(closes[0]), int(closes[-1])) if len(closes) else (0, 0)
    for start in _list_starts(clock, first):
        rows, whole = _read_newest(clock, start, last)
        there = rows.columns["close"] if clock.beside.is_candles else np.zeros(len(rows.time))
        states = States(rows.known_at, rows.heard_at, there, rows.since)
        at, since = _take_latest(states, closes, clock.beside)
        if whole or _is_enough(states, at, start):
            break
    time, known_at, heard_at = (_pick(each, at, 0) for each in rows[:3])
    columns = {name: _pick(values, at, np.nan) for name, values in rows.columns.items()}
    some: Mask = at >= 0
    age = np.where(some, closes - heard_at, np.nan)
    return JoinedRows(Rows(time, known_at, heard_at, since, columns), some, age)


def _read_newest(clock: Clock, start: int, last: int) -> tuple[Rows, bool]:
    """The rows that were the newest at any instant of [start, last], by when they became known.

    Returns:
        The rows, and whether there are none before them.
    """
    if isinstance(clock, GridClock):
        low = max(0, clock.count_known(start) - 1)
        return clock.read(low, max(low, clock.count_known(last))), low == 0
    assert isinstance(clock, RecordClock)
    records, whole = read_records(clock, start, last, 1, None)
    records = records.take(np.lexsort((records.time, records.known_at)))
    newest = np.maximum.accumulate(records.time) if len(records) else records.time
    return clock.to_rows(records.take(records.time >= newest)), whole


def _list_starts(clock: Clock, first: int) -> Iterator[int]:
    """From when on to read a series, further back each time, until ``_is_enough``.

    Args:
        clock: the series.
        first: close of the first bar.
    """
    max_age = np.inf if clock.beside.max_age is None else clock.beside.max_age
    back = min(max_age, clock.look_back(first))
    yield first - int(back)
    while back < max_age:
        back = min(max_age, 4 * back)
        yield first - int(back)


def _is_enough(states: States, at: NDArray[np.int64], start: int) -> bool:
    """Whether bars take of the states from ``start`` on what they take of all.

    They do if the first takes something that was heard of since: where a later one takes nothing,
    that is too old, and all that this hangs on is later.
    """
    return not len(at) or bool(at[0] >= 0 and states.heard_at[at[0]] >= start)


def _take_latest(
    states: States, closes: NDArray[np.int64], beside: Beside
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which state each bar takes, -1 for none; and the earliest instant that this hangs on."""
    known_at, heard_at, values, since = states
    latest = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))
    newest = np.searchsorted(known_at, closes, side="right") - 1
    at = _pick(latest, newest, -1)
    if beside.max_age is not None:
        at[closes - _pick(heard_at, at, 0) > beside.max_age] = -1
    nothing = at < 0
    of_all = _pick(since, at, NEVER)
    of_all[nothing] = _find_since_of_nothing(known_at, since, closes[nothing], beside)
    return at, of_all


def _find_since_of_nothing(
    known_at: NDArray[np.int64],
    since: NDArray[np.int64],
    closes: NDArray[np.int64],
    beside: Beside,
) -> NDArray[np.int64]:
    """The earliest instant that it hangs on that there is nothing at some closes.

    Args:
        known_at: (m,) int64, in order: when something became known of a series.
        since: (m,) int64, the earliest instant that this is made of.
        closes: (n,) int64, of bars that have nothing, all of which is known.
        beside: the series.
    """
    max_age = beside.max_age
    newest = np.searchsorted(known_at, closes, side="right") - 1
    if max_age is None:
        return _pick(np.minimum.accumulate(since), newest, NEVER)
    first = np.searchsorted(known_at, closes - max_age)
    edges = np.stack([first, newest + 1], axis=1).ravel()
    least = np.minimum.reduceat(np.append(since, NEVER), edges)[::2] if len(edges) else closes
    # A record that is not there would tell of the time before it became known.
    absent = 0 if beside.is_candles else beside.covers + (beside.interval or 0)
    least = np.minimum(closes - max_age - 1 - absent, np.where(first <= newest, least, NEVER))
    return np.where(newest >= 0, least, NEVER)


Number = TypeVar("Number", np.int64, np.float64)


def _pick(values: NDArray[Number], at: NDArray[np.int64], nothing: float) -> NDArray[Number]:
    """The values of numbers, with ``nothing`` for -1."""
    return np.append(values, np.array([nothing], dtype=values.dtype))[at]
