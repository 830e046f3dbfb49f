"""The join: what was known of a series at the close of each bar of another.

The law, for every kind of series: each time that something of a series becomes known, its features
are computed of what is known then; a bar takes the latest value that is defined and was known at
its close, unless that is older than ``max_age``. Nothing is filled backwards.

``join_feature`` gives the values of a feature that has a clock of its own, ``join_rows`` whole rows
for features that see several series. Both with the earliest instant that they are made of, by which
a wall knows what may not cross it. That there is nothing hangs on something too: had anything
become known within ``max_age`` of the close, it would be there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.clocks import Clock, GridClock, RecordClock, Rows
from btc_datamodule.features.methods import compute_rolling_max, compute_rolling_min

FIRST_READ = 64
"""Rows that are read beyond those that are needed for sure, the first time; then twice as many."""

WINDOW_ROWS = 1 << 16
"""Rows of windows, each on its own, that are computed at once."""

NEVER = np.iinfo(np.int64).max

Compute = Callable[[Rows], NDArray[np.float64]]
"""The values of a feature for consecutive rows of its series: (n,) float64, NaN where undefined."""


class States(NamedTuple):
    """What was known of a feature, each time that something became known.

    Attributes:
        known_at: (n,) int64, in order.
        values: (n,) float64, NaN where it was not defined.
        since: (n,) int64, the earliest instant that each value, or that there is none, hangs on;
            in order.
    """

    known_at: NDArray[np.int64]
    values: NDArray[np.float64]
    since: NDArray[np.int64]


class Joined(NamedTuple):
    """Values that have entered bars.

    Attributes:
        values: (n,) float64, NaN where there is none.
        known_at: (n,) int64, since when each was known; 0 where there is none.
        since: (n,) int64, the earliest instant that each, or that there is none, hangs on;
            ``NEVER`` before anything was known of the series.
    """

    values: NDArray[np.float64]
    known_at: NDArray[np.int64]
    since: NDArray[np.int64]


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
    max_age = clock.beside.max_age
    first, last = int(closes[0]), int(closes[-1])
    back = FIRST_READ if max_age is None else max_age
    while True:
        states, whole = _compute_states(clock, first - back, last, lookback, compute, columns)
        joined = _join(states, closes, clock.beside)
        if max_age is not None or whole or joined.known_at[0]:
            return joined
        back *= 2


def _join(states: States, closes: NDArray[np.int64], beside: Beside) -> Joined:
    """The latest defined value of each bar."""
    if not len(states.known_at):
        nothing = np.full(len(closes), np.nan)
        return Joined(nothing, np.zeros_like(closes), np.full_like(closes, NEVER))
    known_at, values, since = states
    defined = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))
    newest = np.searchsorted(known_at, closes, side="right") - 1
    at = np.where(newest >= 0, defined[newest], -1)
    some = at >= 0
    if beside.max_age is not None:
        some &= closes - known_at[at] <= beside.max_age
    of_all = np.where(some, since[at], NEVER)
    of_all[~some] = _find_since_of_nothing(known_at, since, closes[~some], beside)
    return Joined(np.where(some, values[at], np.nan), np.where(some, known_at[at], 0), of_all)


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
        return np.where(newest >= 0, np.minimum.accumulate(since)[newest], NEVER)
    first = np.searchsorted(known_at, closes - max_age)
    edges = np.stack([first, newest + 1], axis=1).ravel()
    least = np.minimum.reduceat(np.append(since, NEVER), edges)[::2] if len(edges) else closes
    # A record that is not there would tell of the time before it became known.
    absent = 0 if beside.is_candles else beside.covers + (beside.interval or 0)
    least = np.minimum(closes - max_age - 1 - absent, np.where(first <= newest, least, NEVER))
    return np.where(newest >= 0, least, NEVER)


def _compute_states(
    clock: Clock,
    start: int,
    end: int,
    lookback: int,
    compute: Compute,
    columns: tuple[str, ...] | None,
) -> tuple[States, bool]:
    """The states of a feature from ``start``, and the one before, to ``end``.

    Returns:
        The states, and whether there are none before them.
    """
    if isinstance(clock, GridClock):
        low = max(0, clock.count_known(start) - 1)
        early, high = max(0, low - lookback + 1), clock.count_known(end)
        rows = clock.read(early, max(early, high))
        values = np.array(compute(rows))
        values[: max(0, lookback - 1 - early)] = np.nan
        begin = np.maximum(np.arange(len(values)) - lookback + 1, 0)
        own = slice(low - early, None)
        return States(rows.known_at[own], values[own], rows.since[begin][own]), low == 0
    assert isinstance(clock, RecordClock)
    return _compute_record_states(clock, start, end, lookback, compute, columns)


@dataclass(frozen=True, eq=False)
class _Events:
    """Records, and which event each is of: one of each time, or each slot of a grid.

    Attributes:
        records: by event, then by when they became known.
        event: (n,) int64, the number of the event of each record.
        first_known: (m,) float64, when an event first became known; -inf of one without records.
        revised: (m,) float64, when its second record became known; inf if there is none.
        first_record: (m,) int64, number of its first record; -1 of one without records.
    """

    records: RecordSet
    event: NDArray[np.int64]
    first_known: NDArray[np.float64]
    revised: NDArray[np.float64]
    first_record: NDArray[np.int64]

    @classmethod
    def of(cls, records: RecordSet, interval: int | None) -> "_Events":
        """The events of some records: on a grid of ``interval`` or, if None, one for each time."""
        time = records.time
        event: NDArray[np.int64] = (time - time[:1]) // (interval or 1)
        if interval is None:
            event = np.cumsum(np.diff(time, prepend=time[:1]) > 0, dtype=np.int64)
        count = int(event[-1]) + 1 if len(event) else 0
        starts = np.flatnonzero(np.diff(event, prepend=-1) > 0)
        first_known, revised = np.full(count, -np.inf), np.full(count, np.inf)
        first_record = np.full(count, -1, dtype=np.int64)
        first_record[event[starts]] = starts
        first_known[event[starts]] = records.known_at[starts]
        again = starts[np.append(starts[1:], len(event)) - starts > 1]
        revised[event[again]] = records.known_at[again + 1]
        return cls(records, event, first_known, revised, first_record)

    @cached_property
    def _keys(self) -> tuple[NDArray[np.int64], int, int]:
        """What each record is found by: its event, then when it became known; and two numbers."""
        known_at = self.records.known_at
        base = int(known_at.min())
        extent = int(known_at.max()) - base + 2
        return self.event * extent + (known_at - base), base, extent

    def find_known(
        self, event: NDArray[np.int64], instant: NDArray[np.int64] | np.int64
    ) -> NDArray[np.int64]:
        """The record that stood for each event at an instant, by number; -1 if none was known."""
        keys, base, extent = self._keys
        moment = np.clip(instant - base, -1, extent - 1)
        number = np.searchsorted(keys, event * extent + moment, side="right") - 1
        stood = (number >= 0) & (event >= 0) & (self.event[np.maximum(number, 0)] == event)
        return np.where(stood, number, -1)

    def make_rows(
        self, clock: RecordClock, records: NDArray[np.int64], times: NDArray[np.int64]
    ) -> Rows:
        """Rows of some records, by number; -1 for a slot of the grid without one.

        Args:
            clock: whose they are.
            records: (n,) numbers.
            times: (n,) of the slots.
        """
        none = records < 0
        rows = clock.to_rows(self.records.take(np.maximum(records, 0)))
        columns = {name: np.where(none, np.nan, values) for name, values in rows.columns.items()}
        since = np.where(none, times - clock.beside.covers, rows.since)
        known_at = np.where(none, times + (clock.beside.interval or 0), rows.known_at)
        return Rows(times, known_at, since, columns)


def _compute_record_states(
    clock: RecordClock,
    start: int,
    end: int,
    lookback: int,
    compute: Compute,
    columns: tuple[str, ...] | None,
) -> tuple[States, bool]:
    interval = clock.beside.interval
    records, whole = _read_records(clock, start, end, lookback, columns)
    if not len(records):
        nothing = np.zeros(0, dtype=np.int64)
        return States(nothing, np.zeros(0), nothing), whole
    events = _Events.of(records, interval)
    times = _list_times(events, interval)
    reference = events.make_rows(clock, events.first_record, times)
    # The instants at which something became known, and the latest event that was known then.
    order = np.lexsort((records.time, records.known_at))
    known_at, event = records.known_at[order], events.event[order]
    last = np.append(np.diff(known_at) > 0, True)
    instants = known_at[last]
    newest, first = (of.accumulate(event)[last] for of in (np.maximum, np.minimum))
    touched = np.maximum.reduceat(event, np.flatnonzero(np.append(True, last[:-1])))
    values = np.array(compute(reference))[newest]
    oldest = np.maximum(newest - lookback + 1, first)
    others = _find_others(events, instants, newest, lookback)
    values[others], oldest[others] = np.nan, first[others]  # unless enough was known
    for which, numbers, slots in _find_windows(
        events, instants[others], newest[others], lookback, interval
    ):
        rows, at = events.make_rows(clock, numbers, times[slots]), others[which]
        values[at] = compute(rows)[lookback - 1 :: lookback]
        oldest[at] = np.maximum(slots[::lookback], first[at])
    values[newest - first < lookback - 1] = np.nan
    news = touched >= oldest  # of older events alone nothing becomes newer
    instants, values, since = instants[news], values[news], reference.since[oldest[news]]
    begun = max(0, int(np.searchsorted(instants, start, side="right")) - 1)
    return States(instants[begun:], values[begun:], since[begun:]), whole and begun == 0


def _list_times(events: _Events, interval: int | None) -> NDArray[np.int64]:
    """The time of each event."""
    time = events.records.time
    if interval is None:
        times: NDArray[np.int64] = time[events.first_record]
        return times
    return int(time[0]) + interval * np.arange(len(events.first_known), dtype=np.int64)


def _find_others(
    events: _Events, instants: NDArray[np.int64], newest: NDArray[np.int64], lookback: int
) -> NDArray[np.int64]:
    """The states whose rows are not the first records of consecutive events.

    One of these was not known yet, as it came late, or has been revised.
    """
    pad = lookback - 1
    first = compute_rolling_max(np.append(np.full(pad, -np.inf), events.first_known), lookback)
    revised = compute_rolling_min(np.append(np.full(pad, np.inf), events.revised), lookback)
    return np.flatnonzero((first[pad:][newest] > instants) | (revised[pad:][newest] <= instants))


def _find_windows(
    events: _Events,
    instants: NDArray[np.int64],
    newest: NDArray[np.int64],
    lookback: int,
    interval: int | None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """The records that some states are made of, ``WINDOW_ROWS`` at a time.

    Yields:
        Numbers of states, and of each the ``lookback`` records and events in one array. A state
        for which there are fewer is left out.
    """
    step = max(1, WINDOW_ROWS // lookback)
    for low in range(0, len(instants), step):
        part = slice(low, low + step)
        slots = newest[part, np.newaxis] - np.arange(lookback)[::-1]
        numbers = events.find_known(slots, instants[part, np.newaxis])
        if interval is None:  # events that were not known yet are none: what is before counts
            gaps = np.flatnonzero((numbers < 0).any(axis=1))
            at = low + gaps
            numbers[gaps] = _find_last_known(events, instants[at], newest[at], lookback)
            slots[gaps] = events.event[numbers[gaps]]
            whole = (numbers >= 0).all(axis=1)
        else:
            whole = slots[:, 0] >= 0
        yield low + np.flatnonzero(whole), numbers[whole].ravel(), slots[whole].ravel()


def _find_last_known(
    events: _Events, instants: NDArray[np.int64], newest: NDArray[np.int64], lookback: int
) -> NDArray[np.int64]:
    """The records of the last ``lookback`` events known at instants: (n, lookback), -1 for none."""
    found = np.full((len(instants), lookback), -1, dtype=np.int64)
    left, reach = np.arange(len(instants)), 2 * lookback
    while len(left):
        for part in np.array_split(left, len(left) * reach // WINDOW_ROWS + 1):
            slots = newest[part, np.newaxis] - np.arange(reach)
            numbers = events.find_known(slots, instants[part, np.newaxis])
            rank = np.cumsum(numbers >= 0, axis=1)
            row, at = np.nonzero((numbers >= 0) & (rank <= lookback))
            found[part[row], lookback - rank[row, at]] = numbers[row, at]
        left = left[(found[left, 0] < 0) & (newest[left] >= reach)]
        reach *= 2
    return found


def _read_records(
    clock: RecordClock, start: int, end: int, lookback: int, columns: tuple[str, ...] | None
) -> tuple[RecordSet, bool]:
    """The records that the states from ``start``, and the one before, to ``end`` are made of.

    Returns:
        The records, and whether there are none before them.
    """
    interval = clock.beside.interval
    last, back = clock.find(start + 1), lookback + FIRST_READ
    while True:
        low = clock.find_event(max(0, last - back))
        records = clock.read_known(low, end)
        if interval is None and columns is not None:
            has = np.ones(len(records), dtype=np.bool_)
            for name in columns:
                has &= np.isfinite(records[name])
            records = records.take(has)
        if low == 0:
            return records, True
        before = records.time[records.known_at <= start]
        if interval is None:
            enough = len(np.unique(before)) > lookback
        else:
            enough = len(before) > 0 and before[-1] - before[0] >= lookback * interval
        if enough:
            return records, False
        back *= 2


class JoinedRows(NamedTuple):
    """Whole rows of a series as they were known at the closes of some bars.

    Attributes:
        rows: of the series, with NaN where nothing was known; ``since`` as that of ``Joined``.
        some: (n,) where something was known.
        age: (n,) float64, seconds since it was; NaN where nothing was.
    """

    rows: Rows
    some: NDArray[np.bool_]
    age: NDArray[np.float64]


def join_rows(clock: Clock, closes: NDArray[np.int64]) -> JoinedRows:
    """The newest row of a series that was known at each close, unless it is too old.

    Args:
        clock: the series.
        closes: (n,) closes of bars, in order.
    """
    max_age = clock.beside.max_age
    first, last = (int(closes[0]), int(closes[-1])) if len(closes) else (0, 0)
    rows = _read_newest(clock, first, last)
    if not len(rows.time):
        empty = np.full(len(closes), np.nan)
        nowhere, never = np.zeros_like(closes), np.full_like(closes, NEVER)
        columns = dict.fromkeys(rows.columns, empty)
        return JoinedRows(Rows(nowhere, nowhere, never, columns), np.isfinite(empty), empty)
    at = np.searchsorted(rows.known_at, closes, side="right") - 1
    some = at >= 0
    if max_age is not None:
        some &= closes - rows.known_at[at] <= max_age
    since = np.where(some, rows.since[at], NEVER)
    since[~some] = _find_since_of_nothing(rows.known_at, rows.since, closes[~some], clock.beside)
    taken = Rows(
        rows.time[at],
        rows.known_at[at],
        since,
        {name: np.where(some, values[at], np.nan) for name, values in rows.columns.items()},
    )
    return JoinedRows(taken, some, np.where(some, closes - taken.known_at, np.nan))


def _read_newest(clock: Clock, first: int, last: int) -> Rows:
    """The rows that were the newest at any instant of [first, last], by when they became known."""
    if isinstance(clock, GridClock):
        low = max(0, clock.count_known(first) - 1)
        return clock.read(low, max(low, clock.count_known(last)))
    assert isinstance(clock, RecordClock)
    records, _ = _read_records(clock, first, last, 1, None)
    records = records.take(np.lexsort((records.time, records.known_at)))
    newest = np.maximum.accumulate(records.time) if len(records) else records.time
    return clock.to_rows(records.take(records.time >= newest))
