"""Bars of one file or several, joined to one series of the interval that is wanted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import COLUMNS, Candles
from btc_datamodule.candles.tidying import ALIKE, tidy
from btc_datamodule.candles.timeline import (
    Interval,
    floor_to,
    format_instant,
    format_interval,
    get_offset,
)
from btc_datamodule.errors import CandleError, SourceError
from btc_datamodule.sources.base import read_or_advise
from btc_datamodule.sources.columns import normalise
from btc_datamodule.sources.files.values import Bars

ENOUGH_TO_JUDGE = 10
"""Bars from which on their common spacing is the file's interval, not chance."""

ENOUGH_ALIKE = 4
"""Bars from which on it is if all of them have the same spacing."""

ENOUGH_TO_FIND = 20
"""Bars from which on their common spacing may be taken for their length, though few follow so."""

AUTUMN = (3, 4, 9, 10, 11)
"""Months in which clocks are put back somewhere, always in a night to Sunday."""


def join_bars(
    tables: Sequence[Bars], interval: int, label: str, *, drop_invalid: bool
) -> tuple[Candles, tuple[str, ...]]:
    """Join the bars of all tables to one series, and longer bars of shorter ones if need be.

    Args:
        tables: bars as they stand in files.
        interval: seconds of the bars that are wanted.
        label: all files, for errors.
        drop_invalid: leave out rows that are no candles, with a note.

    Returns:
        The series, and notes on what was repaired.

    Raises:
        SourceError: if bars cannot be joined to such of ``interval``, or there are none.
        CandleError: naming the first row that is no candle.
    """
    _refuse_markets(tables)
    length = _choose_length(tables, interval)
    length = interval if length == interval else Interval(length, get_offset(interval) % length)
    notes: list[str] = []
    parts: list[Candles] = []
    for table in tables:
        bars, left_out = _leave_out_live(table, length)
        _refuse_local_times(bars)
        candles, repaired = _tidy(bars, length, drop_invalid)
        parts.append(candles)
        notes += [*bars.notes, *left_out, *repaired]
    candles, repaired = _merge(parts, length)
    notes += repaired
    if not len(candles):
        raise SourceError(f"{label}: holds no closed bar: {'; '.join(notes) or 'no rows'}")
    if length != interval:
        candles, count = candles.resample(interval)
        whole = int((count == interval // length).sum())
        notes.append(
            f"{label}: bars of {format_interval(length)} were joined to {len(candles)} of "
            f"{format_interval(interval)}, {len(candles) - whole} of them from fewer than "
            f"{interval // length}"
        )
        if not len(candles):
            raise SourceError(f"{label}: holds no closed bar of {format_interval(interval)}")
    _check_spacing(candles, label)
    return candles, tuple(notes)


def _refuse_markets(tables: Sequence[Bars]) -> None:
    """Raise if tables say that they are of different markets."""
    told = {normalise(bars.market): bars for bars in tables if bars.market}
    if len(told) > 1:
        one, other = list(told.values())[:2]
        raise SourceError(
            f"{other.label} is of {other.market}, {one.label} of {one.market}: name files of one "
            f"market in `path`, or choose one, such as `symbol: {one.market}`"
        )


def _choose_length(tables: Sequence[Bars], interval: int) -> int:
    """The length of the bars in the tables, seconds, which longer ones can be joined of."""
    lengths = {bars.label: _find_length(bars, interval) for bars in tables}
    known = {length for length in lengths.values() if length}
    if not known:
        return interval
    shortest = min(known)
    for label, length in lengths.items():
        if length and length != shortest:
            other = next(name for name, found in lengths.items() if found == shortest)
            raise SourceError(
                f"{label}: its bars are {format_interval(length)} apart, those of {other} "
                f"{format_interval(shortest)}: name files of one interval in `path`"
            )
    if interval % shortest:
        raise SourceError(
            f"{next(iter(lengths))}: its bars are {format_interval(shortest)} apart, of which none "
            f"of {format_interval(interval)} can be joined: set `interval` to "
            f"{format_interval(shortest)} or a multiple"
        )
    return shortest


def _find_length(bars: Bars, interval: int) -> int:
    """The length of a table's bars, seconds: ``interval`` if not shorter, 0 if not to be told."""
    if len(bars.rows) < 3 and not 0 < bars.spacing < interval:
        return 0
    if bars.spacing >= interval:
        return interval
    steps = np.diff(np.sort(bars.columns["open_time"]))
    steps = steps[steps > 0]
    common = int(np.gcd.reduce(steps))
    if len(steps) >= ENOUGH_TO_FIND and bars.spacing % common == 0 and (steps % bars.spacing).any():
        return common if (steps % bars.spacing != 0).mean() > 0.05 else bars.spacing
    return bars.spacing


def _leave_out_live(bars: Bars, length: int) -> tuple[Bars, tuple[str, ...]]:
    """Leave out a last row that opens off the grid, and the bar that was going on then.

    Some services end an answer with the price of this very moment: the bar that it falls into was
    not finished.
    """
    time = bars.columns["open_time"]
    if len(time) < 2:
        return bars, ()
    last = int(time.max())
    begun = floor_to(last, length)
    others = time[time < last]
    if begun == last or not len(others) or ((others - get_offset(length)) % length).any():
        return bars, ()
    kept = time < begun
    note = (
        f"{bars.label}: the last row is of {format_instant(last)}, within a bar, so that one was "
        f"not finished: {int((~kept).sum())} rows from {format_instant(begun)} on were left out"
    )
    return _select(bars, kept), (note,)


def _select(bars: Bars, kept: NDArray[np.bool_]) -> Bars:
    columns = {name: values[kept] for name, values in bars.columns.items()}
    return bars._replace(columns=columns, rows=bars.rows[kept])


def _refuse_local_times(bars: Bars) -> None:
    """Raise if an hour stands there twice as it does where clocks are put back."""
    if not bars.naive:
        return
    time, opened = bars.columns["open_time"], bars.columns["open"]
    order = np.argsort(time, kind="stable")
    twice = np.flatnonzero(np.diff(time[order]) == 0)
    first, second = order[twice], order[twice + 1]
    differ = np.abs(opened[first] / opened[second] - 1) > ALIKE
    days = time[first].astype("datetime64[s]").astype("datetime64[D]").astype(np.int64)
    months = time[first].astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    night = ((days + 4) % 7 == 0) & np.isin(months, AUTUMN) & (time[first] % 86_400 < 4 * 3600)
    if not night.any() or not (differ & night).any():
        return
    i = int(np.argmax(differ & night))
    raise CandleError(
        f"{bars.label}, row {bars.rows[second[i]]}: {format_instant(int(time[first[i]]))} stands "
        f"there twice with different values (row {bars.rows[first[i]]}), as where clocks are put "
        "back: if these are local times, set `timezone`, such as Europe/Berlin; if not, "
        "`timezone: UTC`"
    )


def _tidy(bars: Bars, length: int, drop_invalid: bool) -> tuple[Candles, tuple[str, ...]]:
    return read_or_advise(
        lambda drop: tidy(bars.columns, length, bars.label, bars.rows, drop_invalid=drop),
        drop_invalid,
    )


def _merge(parts: list[Candles], length: int) -> tuple[Candles, tuple[str, ...]]:
    """Merge several series into one; where they overlap, the finished bar stays, and a note."""
    if len(parts) == 1:
        return parts[0], ()
    parts = [part for part in parts if len(part)] or parts[:1]
    names = [name for name in COLUMNS if any(name in part.columns for part in parts)]
    columns: dict[str, NDArray[Any]] = {
        name: np.concatenate([part[name] for part in parts]) for name in names
    }
    return tidy(columns, length, f"{len(parts)} files together")


def _check_spacing(candles: Candles, where: str) -> None:
    """Raise if the bars are longer than asked for: hourly bars are minute bars full of holes."""
    steps = np.diff(candles.open_time)
    alike = len(candles) >= ENOUGH_ALIKE and bool((steps == steps[0]).all())
    if len(candles) < ENOUGH_TO_JUDGE and not alike:
        return
    spacing = int(np.gcd.reduce(steps))
    if spacing > candles.interval:
        raise SourceError(
            f"{where}: its bars are {format_interval(spacing)} apart, not "
            f"{format_interval(candles.interval)}: set `interval` to {format_interval(spacing)}"
        )
