"""The law of look-ahead, as a check: a feature reads the rows that it declares and no others.

``check_lookback`` tests the law on real rows by computing a value again from its own bars alone;
a feature file is built with that test on the rows that ``choose_rows`` picks. ``check_every_row``
tests as many rows as it is given the work for, by changing every bar that a value must not depend
on, and which bars there are (``vary_rows``).

What a value may differ by is bound by what was promised, not by the feature's own largest values:
float32 is what a model is given, so a difference that it could show is one. Only where bars of the
past are changed there is room for the rounding that running sums carry along.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask, mark_intervals
from btc_datamodule.candles.series import PRICES, Columns
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import LookAheadError
from btc_datamodule.features.feature import Feature, make_frame
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.memory import capture_state, check_memory

if TYPE_CHECKING:
    import polars as pl

CHECKED_ROWS = 24
"""Rows of each segment on which the look-ahead check computes every feature again."""

SCAN_WORK = 50_000_000
"""Rows for which ``check_every_row`` computes a feature again, those between tested rows too."""

SUSPECTS = 8
"""Rows of each scan that are judged one by one: so many of the largest, and of the clearest."""

STRONG, MILD = 1.0, 0.1
"""Standard deviation of the log factors of changed bars. Mild where earlier bars are changed: a
running sum, as in polars' rolling means, carries rounding from them along."""

NOTED = 1e-10
"""A difference beside a value: far below what float32 shows, far above what float64 rounds."""

LEAST_SPREAD = 1e-13
CARRIED = 1e-6
"""What rounding may come to beside the spread of a feature's values: of one and the same sum, and
of a running one that was fed other bars before."""

QUIET, ABSENT = 0.1, 0.05
"""Shares of the rows that ``vary_rows`` makes bars without trades, and bars that are not known."""


def check_lookback(
    feature: Feature,
    bars: "pl.DataFrame",
    values: NDArray[np.float64],
    rows: Sequence[int],
) -> None:
    """Raise ``LookAheadError`` unless the feature keeps its law at ``rows``.

    Each value is computed again from the ``lookback`` bars that end at its row.

    Args:
        feature: the feature under test.
        bars: real rows.
        values: the feature's values on all of ``bars``.
        rows: the rows to test.
    """
    spread = measure_spread(values) if len(rows) else 0.0
    for row in rows:
        own = bars[max(0, row - feature.lookback + 1) : row + 1]
        alone = feature(own)[-1]
        if _agree(values[row], alone, 0.0):
            continue
        past = feature(bars[: row + 1])[-1]
        if not _agree(values[row], past, LEAST_SPREAD * spread):
            problem = (
                f"it looks ahead: from the bars up to then it is {past:.8g} (a function of a whole "
                "column, such as a mean or a Fourier transform, reads all of it)"
            )
        elif _agree(values[row], alone, CARRIED * spread):
            continue
        elif _is_rounding(feature, own, values[row], alone):
            problem = (
                "a running sum, as polars' rolling functions keep, carries the rounding of earlier "
                "bars along, and what is made of it (a sign, a comparison, a root) turns on that. "
                "Write it as a line of text, whose rolling_mean and the others are computed of "
                "each window by itself"
            )
        else:
            problem = f"it reads further back than its lookback of {feature.lookback}: raise it"
        when = format_instant(bars["open_time"][row])
        raise LookAheadError(
            f"feature {feature.name!r} at {when}: {values[row]:.8g} with all bars, {alone:.8g} "
            f"from its last {feature.lookback} alone (difference "
            f"{abs(values[row] - alone):.3g}): {problem}"
        )


def measure_spread(values: NDArray[np.floating]) -> float:
    """The 5 % to 95 % range of the different finite values; 0 if there are fewer than two.

    Of the different ones, so that a number which stands for something else, such as -1e6 where
    there was no trade, counts once, however many rows have it.
    """
    different = np.unique(values[np.isfinite(values)].astype(np.float64))
    if len(different) < 2:
        return 0.0
    low, high = np.quantile(different, [0.05, 0.95])
    return float(high - low)


def _agree(one: float, other: float, rounding: float) -> bool:
    if not (np.isfinite(one) and np.isfinite(other)):
        return not (np.isfinite(one) or np.isfinite(other))
    return bool(abs(one - other) <= NOTED * abs(one) + rounding)


def _is_rounding(feature: Feature, own: "pl.DataFrame", value: float, alone: float) -> bool:
    """Whether a value differs from that of its own bars no more than by what rounding does.

    That is so if it is that of own bars which differ from the real ones in their last digits.
    """
    import polars as pl

    if abs(value - alone) <= 1e-6 * max(abs(value), abs(alone)):
        return True
    rng = np.random.default_rng(0)
    for _ in range(SUSPECTS):
        nudge = pl.Series(1 + 1e-13 * rng.normal(size=own.height))
        nudged = own.with_columns(pl.col(pl.Float64) * nudge)
        if _agree(value, feature(nudged)[-1], 1e-6 * abs(value - alone)):
            return True
    return False


def choose_rows(
    grid: Grid,
    early: int,
    low: int,
    high: int,
    values: NDArray[np.float64],
    close: NDArray[np.float64],
) -> list[int]:
    """Rows of a segment on which to test the law, counted from ``early``.

    Random rows; rows next to holes; and rows where a feature that peeks only now and then is
    likely to peek: where its values are extreme, and before and at the largest moves of the price.
    """
    first, count = low - early, high - early
    near = grid.holes[(grid.holes[:, 0] >= low) & (grid.holes[:, 1] < high)]
    rng = np.random.default_rng(low)
    near = near[np.sort(rng.permutation(len(near))[: CHECKED_ROWS // 2])].ravel() - early
    move = np.abs(np.diff(close, prepend=close[:1]) / close)
    unusual = np.abs(values - np.nanmedian(values)) if np.isfinite(values).any() else move
    rows = [
        rng.integers(first, count, CHECKED_ROWS),
        np.array([first, count - 1]),
        *(near - back for back in (0, 1)),
        *(_find_largest(move) - back for back in (0, 1)),
        _find_largest(unusual),
        _find_largest(-unusual),
    ]
    return [int(row) for row in np.unique(np.concatenate(rows)) if first <= row < count]


def _find_largest(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows of the few largest finite values."""
    ordered = np.where(np.isfinite(values), values, -np.inf)
    few = min(CHECKED_ROWS // 2, len(values))
    return np.argpartition(ordered, -few)[-few:]


def check_every_row(
    feature: Feature,
    times: NDArray[np.int64],
    bars: Mapping[str, NDArray[np.float64]],
    *,
    work: int = SCAN_WORK,
    first: Sequence[int] = (),
    exact: bool = False,
) -> Mask:
    """Compute rows of a feature again with all bars changed that the feature may not read.

    Rows are computed as many at a time as leave room for changed bars between them. Rows whose
    values differ are then judged one by one with ``check_lookback``: a running sum only rounds.

    Args:
        feature: the feature under test.
        times: (T,) open times of a regular grid.
        bars: (T,) columns, NaN where a bar is not known.
        work: rows to compute, at most; but one scan in any case.
        first: rows to begin with, if there is not the work for all.
        exact: whether values must be the same bits, as those of built-in features are.

    Returns:
        (T,) which rows were tested.

    Raises:
        LookAheadError: naming the feature, the time and the size.
    """
    table = make_frame(times, bars)
    others = make_frame(times, vary_rows(bars))
    before = capture_state(feature.compute)
    values = feature(table)
    check_memory(feature, before)
    tested = np.zeros(len(times), dtype=np.bool_)
    for rows in _choose_scans(feature.lookback, len(times), work, first):
        kept = mark_intervals(len(times), rows - feature.lookback + 1, feature.lookback)
        mixed = _mix_frames(kept, table, others)
        again = feature(mixed)
        suspects = _find_suspects(rows, values[rows], again[rows], exact=exact)
        if suspects and exact:
            _refuse_bits(feature, times, values, again, suspects[0])
        check_lookback(feature, table, values, suspects)
        check_lookback(feature, mixed, again, suspects)
        tested[rows] = True
    return tested


def _choose_scans(
    lookback: int, size: int, work: int, first: Sequence[int]
) -> Iterator[NDArray[np.int64]]:
    """The rows of each scan: so far apart that other bars lie between the lookbacks of two."""
    apart = lookback + min(max(lookback, 8), 64)
    phases = dict.fromkeys(row % apart for row in first)
    phases |= dict.fromkeys(np.random.default_rng(0).permutation(apart).tolist())
    for phase in list(phases)[: max(1, work // size)]:
        yield np.arange(phase, size, apart)


def _mix_frames(kept: Mask, table: "pl.DataFrame", others: "pl.DataFrame") -> "pl.DataFrame":
    """The rows of ``table`` where ``kept``, else those of ``others``."""
    import polars as pl

    mask, names = pl.Series(kept), table.columns[1:]
    columns = [table[name].zip_with(mask, others[name]) for name in names]
    return table.with_columns(columns)


def _find_suspects(
    rows: NDArray[np.int64],
    values: NDArray[np.float64],
    again: NDArray[np.float64],
    *,
    exact: bool,
) -> list[int]:
    """Rows whose two values differ: the largest differences, and the largest beside the value."""
    like = np.isclose(again, values, 0.0 if exact else NOTED, 0.0, equal_nan=True)
    unlike = np.flatnonzero(~like)
    if not len(unlike):
        return []
    with np.errstate(all="ignore"):
        size = np.nan_to_num(np.abs(again[unlike] - values[unlike]), nan=np.inf)
        beside = np.nan_to_num(size / np.abs(values[unlike]), nan=np.inf)
    few = np.concatenate([np.argsort(-each)[:SUSPECTS] for each in (size, beside)])
    return rows[unlike[np.unique(few)]].tolist()  # type: ignore[no-any-return]


def _refuse_bits(
    feature: Feature,
    times: NDArray[np.int64],
    values: NDArray[np.float64],
    again: NDArray[np.float64],
    row: int,
) -> None:
    raise LookAheadError(
        f"feature {feature.name!r} at {format_instant(times[row])}: {values[row]:.17g} becomes "
        f"{again[row]:.17g} when bars other than its last {feature.lookback} change: it looks "
        "ahead or further back"
    )


def change_bars(columns: Columns, strength: float, rows: Mask) -> dict[str, NDArray[Any]]:
    """Columns of bars with other prices, shapes and volumes where ``rows`` (N,) is true.

    Open times stay, valid bars stay valid, and of one length of columns and one strength the
    other values are always the same.
    """
    rng = np.random.default_rng(0)
    factor = {name: np.exp(strength * rng.normal(size=len(rows))) for name in columns}
    if "taker_buy_volume" in factor:  # still no more than the volume
        factor["taker_buy_volume"] = np.minimum(factor.get("volume", 1.0), 1) * rng.uniform(
            0, 1, len(rows)
        )
    old, new = columns, dict(columns)
    for name in columns.keys() - {"open_time"}:
        new[name] = columns[name] * factor[name]
    top, bottom = np.maximum(old["open"], old["close"]), np.minimum(old["open"], old["close"])
    upper, lower = rng.uniform(0.5, 2, (2, len(rows)))
    new["high"] = np.maximum(new["open"], new["close"]) * (old["high"] / top) ** upper
    new["low"] = np.minimum(new["open"], new["close"]) * (old["low"] / bottom) ** lower
    return {name: np.where(rows, new[name], old[name]) for name in columns}


def vary_rows(columns: Columns) -> dict[str, NDArray[Any]]:
    """Other columns for all rows of a grid: other bars, and others without trades or not known.

    Which rows are without trades, or not known, has nothing to do with which were before: what
    looks at that alone meets other rows too.

    Args:
        columns: (T,) each, as ``Grid.read_bars`` gives them.
    """
    size = len(columns["close"])
    rng = np.random.default_rng(0)
    every, draw = np.ones(size, dtype=np.bool_), rng.uniform(size=size)
    known = np.flatnonzero(np.isfinite(columns["close"]) & (columns["volume"] != 0))
    if not len(known):
        return change_bars(columns, MILD, every)
    # Each row takes the shape and volume of the nearest traded bar before it: prices stay alike.
    at = known[np.maximum(np.searchsorted(known, np.arange(size), side="right") - 1, 0)]
    others = change_bars({name: values[at] for name, values in columns.items()}, MILD, every)
    quiet, absent = draw < QUIET, draw > 1 - ABSENT
    for name, values in others.items():
        values[quiet] = others["close"][quiet] if name in PRICES else 0.0 * values[quiet]
        values[absent] = np.nan
    return others
