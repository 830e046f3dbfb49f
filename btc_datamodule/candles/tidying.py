"""Rows as they came, put in order: each bar once, and nothing settled in silence.

What a row is depends on the rows beside it: two rows of one open time may be the same bar twice,
the bar before and after it was finished, or two different bars, of which no rule may choose one.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import (
    OPTIONAL,
    Candles,
    Columns,
    Fault,
    check_candles,
    convert_columns,
    find_faults,
    trust,
)
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import CandleError

ALIKE, ALIKE_PRICES = 1e-3, 1e-4
"""The shares by which two rows of one bar may differ by rounding, in volume and in prices."""

QUIET = 0.01
"""The share by which closes of one bar may differ where its volumes are alike, or not known."""

CONTRADICTION = 0.1
"""Closes of one open time further apart than this are an error, however few there are."""

FEW, SHARE = 3, 0.01
"""How many bars, or which share of all, may stand there twice with values that do not agree."""

MOST, MOST_SHARE = 10, 0.2
"""How many bars, or which share of all, may stand there both unfinished and finished."""

NEARLY_ALL = 0.95
"""The share of rows from which on leaving rows out is no repair."""


def tidy(
    columns: Columns,
    interval: int,
    where: str,
    rows: NDArray[np.int64] | None = None,
    *,
    drop_invalid: bool = False,
) -> tuple[Candles, tuple[str, ...]]:
    """Put rows as they came into order, each bar once; say what was repaired.

    Rows are sorted by open time. Of rows with the same open time the finished one stays, which has
    more volume and the wider range; of rows that differ by rounding alone the one that knows the
    most columns, and of equals the first. The notes count them.

    Args:
        columns: as ``Candles.columns``, in any order, with repeats.
        interval: seconds.
        where: what errors name, a file for instance.
        rows: (N,) numbers to call the rows by in errors.
        drop_invalid: leave out rows whose values are no candle, with a note that counts them,
            in place of an error.

    Raises:
        CandleError: naming the first row that is no candle, or the first of rows of one open time
            that are different bars.
    """
    columns = convert_columns(columns, where)
    notes: tuple[str, ...] = ()
    if drop_invalid:
        columns, rows, notes = _drop_invalid(columns, where, rows)
    check_candles(columns, interval, where, rows, ordered=False)
    for fault in _find_volume_faults(columns):
        if fault.bad.any():
            raise CandleError(fault.describe_first(columns, where, rows))
    volume = columns.get("volume")
    if volume is not None and len(volume) and np.isnan(volume).all():
        del columns["volume"]  # not known at all: a feature that needs it says so
    time = columns["open_time"]
    if (time[1:] > time[:-1]).all():  # as most files come: nothing to sort, nothing to copy
        return trust(interval, columns), notes
    order = _order_by_worth(columns)
    ordered = {name: values[order] for name, values in columns.items()}
    first = np.concatenate([[True], np.diff(ordered["open_time"]) > 0])[: len(time)]
    if not first.all():
        notes += (_settle_repeats(ordered, first, where, order if rows is None else rows[order]),)
    return trust(interval, {k: v[first] for k, v in ordered.items()}), notes


def _order_by_worth(columns: dict[str, NDArray[Any]]) -> NDArray[np.intp]:
    """The order by time in which the row that should stay comes first of those of one bar."""
    time = columns["open_time"]
    unknown = sum(np.isnan(columns[name]).astype(np.int64) for name in OPTIONAL if name in columns)
    unknown = np.broadcast_to(unknown, time.shape)
    _, bar = np.unique(time, return_inverse=True)
    less: list[NDArray[np.bool_]] = []
    spread = columns["high"] - columns["low"]
    for values in (columns.get("volume"), spread):
        if values is not None:
            most = np.full(int(bar.max(initial=-1)) + 1, -np.inf)
            known = np.where(np.isnan(values), -np.inf, values)
            np.maximum.at(most, bar, known)
            slack = ALIKE * np.where(np.isfinite(most), np.abs(most), 0)
            less.append(known < (most - slack)[bar])
    return np.lexsort((unknown, *reversed(less), time))


class _Repeats(NamedTuple):
    """Rows that repeat an open time, compared with the row that stays: (n,) each.

    Attributes:
        rows: their places.
        kept: the place of the row that stays.
        same: whether they differ by rounding at most.
        earlier: whether they are the bar before it was finished.
        gap: by which share their closes differ.
    """

    rows: NDArray[np.intp]
    kept: NDArray[np.intp]
    same: NDArray[np.bool_]
    earlier: NDArray[np.bool_]
    gap: NDArray[np.float64]


def _settle_repeats(
    ordered: dict[str, NDArray[Any]], first: NDArray[np.bool_], where: str, numbers: NDArray[Any]
) -> str:
    """Say which of the rows of one open time stay.

    Raises:
        CandleError: if they are different bars.
    """
    repeats = _compare(ordered, first)
    times = ordered["open_time"]
    odd = ~repeats.same & ~repeats.earlier
    bars = int(first.sum())
    i = int(np.argmax(np.where(odd, repeats.gap, -1)))
    row, kept = repeats.rows[i], repeats.kept[i]
    told = (
        f"two rows for {format_instant(int(times[row]))}, {numbers[kept]} and {numbers[row]}, "
        f"close at {ordered['close'][kept]:.10g} and {ordered['close'][row]:.10g}"
    )
    many = repeats.earlier.sum() > max(MOST, MOST_SHARE * bars)
    if many:
        odd = odd | repeats.earlier
    if many or odd.sum() > max(FEW, SHARE * bars):
        raise CandleError(
            f"{where}: of its {bars} bars {len(np.unique(times[repeats.rows[odd]]))} stand there "
            f"more than once with different values ({told}): is it more than one market or "
            "interval, or was the time of day lost?"
        )
    if odd.any() and repeats.gap[i] > CONTRADICTION:
        raise CandleError(f"{where}: {told}: remove the wrong one")
    parts = [
        (repeats.earlier, "are of bars not finished yet, which stand there finished too"),
        (repeats.same, "differ from it by rounding at most"),
        (odd, f"do not agree with it ({told})"),
    ]
    kinds = "; ".join(f"{int(rows.sum())} {text}" for rows, text in parts if rows.any())
    return (
        f"{where}: {len(repeats.rows)} rows repeat an open time; the finished and most complete of "
        f"each was kept: {kinds}"
    )


def _compare(ordered: dict[str, NDArray[Any]], first: NDArray[np.bool_]) -> _Repeats:
    """Compare rows that repeat an open time with the row before them that stays."""
    rows = np.flatnonzero(~first)
    kept = np.flatnonzero(first)[np.cumsum(first) - 1][rows]

    def share(name: str) -> NDArray[np.float64]:
        """By which share of the kept value the other lies above it; 0 where one is unknown."""
        if name not in ordered:
            return np.zeros(len(rows))
        ours, theirs = ordered[name][kept], ordered[name][rows]
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (theirs - ours) / np.maximum(np.abs(ours), np.abs(theirs))
        known: NDArray[np.float64] = np.nan_to_num(found, nan=0.0)
        return known

    above = {name: share(name) for name in ("open", "high", "low", "close", "volume")}
    near = {name: ALIKE if name == "volume" else ALIKE_PRICES for name in above}
    same = np.all([np.abs(values) <= near[name] for name, values in above.items()], axis=0)
    # Without a trade in between the price has not moved.
    traded = (above["volume"] < -ALIKE) | (np.abs(above["close"]) <= QUIET)
    earlier = (
        traded
        & (np.abs(above["open"]) <= ALIKE_PRICES)
        & (above["high"] <= ALIKE_PRICES)
        & (above["low"] >= -ALIKE_PRICES)
        & (above["volume"] <= ALIKE)
        & ~same
    )
    return _Repeats(rows, kept, same, earlier, np.abs(above["close"]))


def _find_volume_faults(columns: Columns) -> list[Fault]:
    """Rows without the volume that other rows have; a series that never has it is fine."""
    volume = columns.get("volume")
    if volume is None or np.isnan(volume).all():
        return []
    return [Fault(np.isnan(volume), "volume is not a number")]


def _drop_invalid(
    columns: dict[str, NDArray[Any]], where: str, rows: NDArray[np.int64] | None
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], tuple[str, ...]]:
    """The rows that are candles, the numbers of these rows, and a note about the rows left out."""
    numbers = np.arange(len(columns["open_time"])) if rows is None else rows
    found = [*find_faults(columns), *_find_volume_faults(columns)]
    faults = [fault for fault in found if fault.bad.any()]
    if not faults:
        return columns, numbers, ()
    good = ~np.logical_or.reduce([fault.bad for fault in faults])
    told = faults[0].describe_first(columns, where, rows)
    if len(good) >= 20 and good.sum() < (1 - NEARLY_ALL) * len(good):
        raise CandleError(f"{told}, and so it is in {int((~good).sum())} of {len(good)} rows")
    note = f"{int((~good).sum())} rows that are no candles were left out, such as {told}"
    return {name: values[good] for name, values in columns.items()}, numbers[good], (note,)
