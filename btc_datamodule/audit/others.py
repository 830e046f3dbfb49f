"""Other candles and other records, where nothing may depend on what there is.

Which rows of the candles may be others is given as a mask. Of another series may be others what
none of the rows that stay is made of (``Region``): it became known in a row that may be another, or
it is about such a row's time and became known no earlier. It gets other values; where it became
known in such a row it may also be gone, or have become known at another instant, and there may be
more of it: of times that had none, or revisions, also of records of long before.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.runs import Mask, find_runs, mark_runs
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import get_offset
from btc_datamodule.features.varying import change_bars

HOLES = 0.03
"""Share of the bars, or records, that may be gone at which a hole begins in a twin."""

MORE = 0.2
"""Records that are added, beside those that may be gone."""

MOVED = 0.1
"""Share of the records that may be gone which become known at another instant."""

RECENT = 24
"""Of how many records before an instant one is revised at it, at most."""

ALWAYS, NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Region:
    """Which part of the time of some rows stays in a twin, and which may be another.

    Attributes:
        kept: (n, 2) int64, instants [from, to] of unbroken rows that stay. What is about a time no
            earlier than the one and became known by the other, a row among these may be made of.
        free: (m, 2) int64, instants (from, to] of unbroken rows that may be others.
    """

    kept: NDArray[np.int64]
    free: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Mask, first: int, interval: int) -> "Region":
        """The region of rows (T,) that may be others.

        Args:
            rows: which.
            first: open time of row 0.
            interval: seconds.
        """
        kept, free = (first + interval * find_runs(each) for each in (~rows, rows))
        for runs in (kept, free):  # what was before the rows belongs to the first of them
            runs[runs == first] = ALWAYS
        return cls(kept, free)

    def may_change(self, since: NDArray[np.int64], known_at: NDArray[np.int64]) -> Mask:
        """Whether no row that stays is made of what is about ``since`` and was known then."""
        if not len(self.kept):
            return np.ones(len(since), dtype=np.bool_)
        at = np.searchsorted(self.kept[:, 0], since, side="right") - 1
        changes: Mask = (at < 0) | (known_at > self.kept[at, 1])
        return changes

    def may_go(self, since: NDArray[np.int64], known_at: NDArray[np.int64]) -> Mask:
        """Whether, besides, it became known in a row that may be another."""
        if not len(self.free):
            return np.zeros(len(since), dtype=np.bool_)
        at = np.searchsorted(self.free[:, 0], known_at) - 1
        known: Mask = (at >= 0) & (known_at <= self.free[at, 1])
        return known & self.may_change(since, known_at)

    def draw(self, rng: np.random.Generator, count: int, low: int, high: int) -> NDArray[np.int64]:
        """Instants of (low, high] at which something may become known."""
        spans = self.free.clip(low, max(low, high))
        ends = np.cumsum(spans[:, 1] - spans[:, 0])
        if not len(ends) or not ends[-1]:
            return np.zeros(0, dtype=np.int64)
        drawn = rng.integers(0, ends[-1], count)
        at = np.searchsorted(ends, drawn, side="right")
        instants: NDArray[np.int64] = spans[at, 1] - (ends[at] - 1 - drawn)
        return instants


def mark_candles(candles: Candles) -> Mask:
    """(T,) which rows of their grid have a candle, from the first one to the last."""
    rows = (candles.open_time - candles.open_time[0]) // candles.interval
    return np.bincount(rows) > 0


def vary_candles(
    candles: Candles,
    strength: float,
    rows: Mask,
    max_fill: int,
    going: Mask | None = None,
    seed: int = 0,
) -> Candles:
    """Candles with other ones in some rows of their grid, fewer there and more.

    Args:
        candles: as they are.
        strength: of the change of values; see ``change_bars``.
        rows: (T,) which rows of the grid, from the first candle to the last, may change. The first
            and the last candle stay in any case, so that the grid does.
        max_fill: holes are made shorter than, as long as and longer than this.
        going: (T,) which of these rows may also lose or gain a candle; None for all of them.
        seed: see ``change_bars``.
    """
    present, rng = mark_candles(candles), np.random.default_rng(seed)
    going = rows if going is None else going
    marked, runs = np.flatnonzero(going), find_runs(going)[::2]
    # Every other stretch begins with a hole, at a wall for instance, and ends with one.
    starts = np.concatenate([marked[rng.uniform(size=len(marked)) < HOLES], runs[:, 0]])
    lengths = rng.integers(1, max_fill + 3, len(starts))
    ends = np.stack([runs[:, 1] - rng.integers(1, max_fill + 3, len(runs)), runs[:, 1]], axis=1)
    holes = np.concatenate([np.stack([starts, starts + lengths], axis=1), ends])
    gone = going & mark_runs(holes, 0, len(rows))
    added = going & ~present & (rng.uniform(size=len(rows)) < 1 / 2)  # of holes: a half
    kept = (present & ~gone) | added
    kept[[0, -1]] = True
    at = np.flatnonzero(kept)
    before = np.cumsum(present)[at] - 1  # a new bar begins as the one before it
    columns = {name: values[before] for name, values in candles.columns.items()}
    changed = change_bars(columns, strength, rows[at], seed)
    times = candles.open_time[0] + at * candles.interval
    return Candles(candles.interval, {**changed, "open_time": times})


def vary_candles_beside(
    candles: Candles, strength: float, region: Region, max_fill: int, seed: int, *, holes: bool
) -> Candles:
    """Other candles of a series beside those that ``region`` is of."""
    if not len(candles):
        return candles
    count = (candles.open_time[-1] - candles.open_time[0]) // candles.interval + 1
    times = candles.open_time[0] + candles.interval * np.arange(count)
    known_at = times + candles.interval
    rows, going = region.may_change(times, known_at), region.may_go(times, known_at)
    if holes:
        return vary_candles(candles, strength, rows, max_fill, going, seed)
    columns = change_bars(candles.columns, strength, rows[mark_candles(candles)], seed)
    return Candles(candles.interval, columns)


def vary_records(
    records: RecordSet,
    strength: float,
    region: Region,
    seed: int,
    *,
    interval: int | None,
    covers: int,
    holes: bool = True,
) -> RecordSet:
    """Other records of a series beside the candles that ``region`` is of.

    Args:
        records: as they are.
        strength: of the change of values; see ``change_bars``.
        region: which may be others.
        seed: see ``change_bars``.
        interval: of the records; None where there is none.
        covers: seconds before its time that a record tells of.
        holes: whether there are more records, and fewer, too; else all have other values.
    """
    since = records.time - covers
    rows = region.may_change(since, records.known_at)
    columns = change_bars(records.columns, strength, rows, seed)
    first = _find_first(records)
    if not holes or not first:
        return RecordSet(columns)
    rng = np.random.default_rng(seed)
    begun = list(first.values())
    going = region.may_go(since, records.known_at)
    going[begun] = False
    marked = np.flatnonzero(going)
    starts = np.concatenate(
        [marked[rng.uniform(size=len(marked)) < HOLES], find_runs(going)[::2].ravel() - 1]
    )
    lengths = rng.integers(1, 6, len(starts))
    gone = going & mark_runs(np.stack([starts, starts + lengths], axis=1), 0, len(records))
    known = int(records.known_at[begun].max())
    moved = np.flatnonzero(going & ~gone & (rng.uniform(size=len(records)) < MOVED))
    columns["known_at"][moved] = _move(records.take(moved), region, rng, interval, known)
    more = _add_records(records, strength, region, rng, seed, interval, count=len(marked))
    fine = region.may_go(more["time"] - covers, more["known_at"])
    fine &= more["known_at"] >= more["time"] + (interval or 0)
    for name, row in first.items():  # before it there was nothing of the kind
        early = more["known_at"] <= records.known_at[row]
        more[name] = np.where(early, np.nan, more[name])
    fine &= np.any([np.isfinite(more[name]) for name in first], axis=0)
    return _join(
        {name: values[~gone] for name, values in columns.items()},
        {name: values[fine] for name, values in more.items()},
    )


def _find_first(records: RecordSet) -> dict[str, int]:
    """For each value that there is the record by which one became known first."""
    order = np.lexsort((records.time, records.known_at))
    has = {name: np.isfinite(records[name][order]) for name in records.values}
    return {name: int(order[each.argmax()]) for name, each in has.items() if each.any()}


def _move(
    records: RecordSet,
    region: Region,
    rng: np.random.Generator,
    interval: int | None,
    known: int,
) -> NDArray[np.int64]:
    """Other instants at which records might have become known, earlier and later.

    Args:
        records: which may go.
        region: in whose rows they stay.
        rng: draws them.
        interval: of the records; None where there is none.
        known: instant after which they become known.
    """
    was, shortest = records.known_at, records.time + (interval or 0)
    at = np.searchsorted(region.free[:, 0], was) - 1
    low = np.maximum(shortest, np.maximum(region.free[at, 0], known) + 1)
    high = np.minimum(region.free[at, 1], was + _find_step(records, interval))
    drawn = low + (rng.uniform(size=len(was)) * (high - low + 1)).astype(np.int64)
    return np.where(low <= high, drawn, was)


def _find_step(records: RecordSet, interval: int | None) -> int:
    """Seconds from one record to the next: always, or most often."""
    if interval is not None:
        return interval
    return max(1, int(np.median(np.diff(records.time)))) if len(records) > 1 else 1


def _add_records(
    records: RecordSet,
    strength: float,
    region: Region,
    rng: np.random.Generator,
    seed: int,
    interval: int | None,
    *,
    count: int,
) -> dict[str, NDArray[Any]]:
    """Records of times that had none, and revisions, with values like those of recent ones."""
    time, step = records.time, _find_step(records, interval)
    span = int(records.known_at.min()), int(records.known_at.max())
    known_at = region.draw(rng, int(np.ceil(MORE * count)), *span)
    size = len(known_at)
    newest = known_at - (interval or 0)
    recent = np.searchsorted(time, newest, side="right") - 1 - rng.integers(0, RECENT, size)
    new = newest - rng.integers(0, 2 * step, size)
    if interval is not None:
        new = (new - get_offset(interval)) // step * step + get_offset(interval)
    revised = rng.uniform(size=size) < 1 / 2
    at = np.maximum(recent, 0)
    columns = {name: values[at] for name, values in records.columns.items()}
    columns = change_bars(columns, strength, np.ones(size, dtype=np.bool_), seed + 1)
    return columns | {"time": np.where(revised, time[at], new), "known_at": known_at}


def _join(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> RecordSet:
    """The records of both, in order; of two of the same instants that of the first."""
    columns = {name: np.concatenate([values, other[name]]) for name, values in one.items()}
    order = np.lexsort((columns["known_at"], columns["time"]))
    columns = {name: values[order] for name, values in columns.items()}
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = (np.diff(columns["time"]) > 0) | (np.diff(columns["known_at"]) > 0)
    return RecordSet({name: values[new] for name, values in columns.items()})
