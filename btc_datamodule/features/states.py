"""States: what is known of a feature, each time that something of its series becomes known.

A feature on the rows of a grid has a state for each row, once that is over. One of records has a
state for each instant at which a record becomes known, of all records that are known then: late
ones and revised ones change the states from then on, and none before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.features.clocks import Clock, GridClock, RecordClock, Rows
from btc_datamodule.features.methods import compute_rolling_max, compute_rolling_min

FIRST_READ = 64
"""Rows that are read beyond those that are needed for sure, the first time; then twice as many."""

WINDOW_ROWS = 1 << 16
"""Rows of windows, each on its own, that are computed at once."""

Compute = Callable[[Rows], NDArray[np.float64]]
"""The values of a feature for consecutive rows of its series: (n,) float64, NaN where undefined."""


class States(NamedTuple):
    """What was known of a feature, each time that something became known.

    Attributes:
        known_at: (n,) int64, in order.
        heard_at: (n,) int64, in order: ``Rows.heard_at`` of the newest row of each.
        values: (n,) float64, NaN where it was not defined.
        since: (n,) int64, the earliest instant that each value, or that there is none, hangs on;
            in order.
    """

    known_at: NDArray[np.int64]
    heard_at: NDArray[np.int64]
    values: NDArray[np.float64]
    since: NDArray[np.int64]


def compute_states(
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
        values[np.isnan(rows.columns["close"])] = np.nan  # of an outage, in which nothing is told
        begin = np.maximum(np.arange(len(values)) - lookback + 1, 0)
        own = slice(low - early, None)
        states = States(rows.known_at[own], rows.heard_at[own], values[own], rows.since[begin][own])
        return states, low == 0
    assert isinstance(clock, RecordClock)
    return _compute_record_states(clock, start, end, lookback, compute, columns)


@dataclass(frozen=True, eq=False)
class Events:
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
    def of(cls, records: RecordSet, interval: int | None) -> "Events":
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
        return Rows(times, known_at, known_at, since, columns)


def _compute_record_states(
    clock: RecordClock,
    start: int,
    end: int,
    lookback: int,
    compute: Compute,
    columns: tuple[str, ...] | None,
) -> tuple[States, bool]:
    interval = clock.beside.interval
    records, whole = read_records(clock, start, end, lookback, columns)
    if not len(records):
        nothing = np.zeros(0, dtype=np.int64)
        return States(nothing, nothing, np.zeros(0), nothing), whole
    events = Events.of(records, interval)
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
    own = slice(begun, None)
    states = States(instants[own], instants[own], values[own], since[own])
    return states, whole and begun == 0


def _list_times(events: Events, interval: int | None) -> NDArray[np.int64]:
    """The time of each event."""
    time = events.records.time
    if interval is None:
        times: NDArray[np.int64] = time[events.first_record]
        return times
    return int(time[0]) + interval * np.arange(len(events.first_known), dtype=np.int64)


def _find_others(
    events: Events, instants: NDArray[np.int64], newest: NDArray[np.int64], lookback: int
) -> NDArray[np.int64]:
    """The states whose rows are not the first records of consecutive events.

    One of these was not known yet, as it came late, or has been revised.
    """
    pad = lookback - 1
    first = compute_rolling_max(np.append(np.full(pad, -np.inf), events.first_known), lookback)
    revised = compute_rolling_min(np.append(np.full(pad, np.inf), events.revised), lookback)
    return np.flatnonzero((first[pad:][newest] > instants) | (revised[pad:][newest] <= instants))


def _find_windows(
    events: Events,
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
    events: Events, instants: NDArray[np.int64], newest: NDArray[np.int64], lookback: int
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


def read_records(
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
