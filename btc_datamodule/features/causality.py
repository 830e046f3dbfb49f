"""The law of look-ahead, as a check: a feature reads the rows that it declares and no others.

``check_lookback`` tests the law on real rows by computing a value again from its own bars alone;
a feature file is built with that test on the rows that ``choose_rows`` picks. ``check_every_row``
tests all rows, by changing every bar that a value must not depend on (``change_bars``).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask, mark_intervals
from btc_datamodule.candles.series import Columns
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import LookAheadError
from btc_datamodule.features.feature import Feature, make_frame
from btc_datamodule.features.grid import Grid

if TYPE_CHECKING:
    import polars as pl

CHECKED_ROWS = 24
"""Rows of each segment on which the look-ahead check computes every feature again."""

SCAN_WORK = 500_000_000
"""Rows times bars of lookback for which ``check_every_row`` computes a feature again, at most."""

STRONG, MILD = 1.0, 0.1
"""Standard deviation of the log factors of changed bars. Mild where earlier bars are changed: a
running sum, as in polars' rolling means, carries rounding from them along."""


def check_lookback(
    feature: Feature,
    bars: "pl.DataFrame",
    values: NDArray[np.float64],
    rows: Sequence[int],
) -> None:
    """Raise ``LookAheadError`` unless the feature keeps its law at ``rows``.

    Each value is computed again from the ``lookback`` bars that end at its row. The two may
    differ by rounding: 1e-10 of the value, 1e-6 of the feature's usual spread (its 5 % to 95 %
    range, which no single outlier widens), and 1e-13 of its largest value, which is what running
    sums leave behind.

    Args:
        feature: the feature under test.
        bars: real rows.
        values: the feature's values on all of ``bars``.
        rows: the rows to test.
    """
    defined = values[np.isfinite(values)]
    rounding = 0.0
    if len(defined):
        low, high = np.quantile(defined, [0.05, 0.95])
        rounding = float(1e-6 * (high - low) + 1e-13 * np.abs(defined).max())
    for row in rows:
        start = max(0, row - feature.lookback + 1)
        alone = feature(bars[start : row + 1])[-1]
        if _agree(values[row], alone, rounding):
            continue
        past = feature(bars[: row + 1])[-1]
        when = format_instant(bars["open_time"][row])
        if _agree(values[row], past, rounding):
            problem = f"it reads further back than its lookback of {feature.lookback}: raise it"
        else:
            problem = "it looks ahead"
        raise LookAheadError(
            f"feature {feature.name!r} at {when}: {values[row]:.8g} with all bars, {alone:.8g} "
            f"from its last {feature.lookback} alone (difference "
            f"{abs(values[row] - alone):.3g}): {problem}"
        )


def _agree(one: float, other: float, rounding: float) -> bool:
    if not (np.isfinite(one) and np.isfinite(other)):
        return not (np.isfinite(one) or np.isfinite(other))
    return abs(one - other) <= 1e-10 * abs(one) + rounding


def choose_rows(
    grid: Grid,
    early: int,
    low: int,
    high: int,
    values: NDArray[np.float64],
    close: NDArray[np.float64],
) -> list[int]:
    """Rows of a segment on which to test the law, counted from ``early``.

    Random rows; rows next to outages; and rows where a feature that peeks only now and then is
    likely to peek: where its values are extreme, and before and at the largest moves of the price.
    """
    first, count = low - early, high - early
    near = grid.outages[(grid.outages[:, 0] >= low) & (grid.outages[:, 1] < high)].ravel() - early
    move = np.abs(np.diff(close, prepend=close[:1]) / close)
    unusual = np.abs(values - np.nanmedian(values)) if np.isfinite(values).any() else move
    rows = [
        np.random.default_rng(low).integers(first, count, CHECKED_ROWS),
        np.array([first, count - 1]),
        *(near[:CHECKED_ROWS] - back for back in (0, 1)),
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
    first: Sequence[int] = (),
) -> int:
    """Compute rows of a feature again with all bars changed that the feature may not read.

    Rows are computed as many at a time as leave room for changed bars between them. Rows whose
    values differ are then judged one by one with ``check_lookback``: a running sum only rounds.

    Args:
        feature: the feature under test.
        times: (T,) open times of a regular grid.
        bars: (T,) columns, NaN where a bar is not known.
        first: rows to begin with, if there is not the time for all (``SCAN_WORK``).

    Returns:
        How many rows were tested.

    Raises:
        LookAheadError: naming the feature, the time and the size.
    """
    back, size = feature.lookback, len(times)
    others = change_bars(bars, MILD, np.ones(size, dtype=np.bool_))
    table = make_frame(times, bars)
    values = feature(table)
    defined = values[np.isfinite(values)]
    spread = np.subtract(*np.quantile(defined, [0.95, 0.05])) if len(defined) else 0.0
    apart_by = back + min(max(back, 8), 64)
    scans = min(apart_by, max(4, SCAN_WORK // (size * back)))
    phases = dict.fromkeys(row % apart_by for row in first)
    phases |= dict.fromkeys(np.random.default_rng(0).permutation(apart_by).tolist())
    tested = 0
    for phase in list(phases)[:scans]:
        rows = np.arange(phase, size, apart_by)
        kept = mark_intervals(size, rows - back + 1, back)
        mixed = {name: np.where(kept, bars[name], others[name]) for name in bars}
        other = make_frame(times, mixed)
        again = feature(other)
        like = np.isclose(again[rows], values[rows], 1e-6, 1e-6 * spread, equal_nan=True)
        suspects = rows[~like][:8].tolist()
        check_lookback(feature, table, values, suspects)
        check_lookback(feature, other, again, suspects)
        tested += len(rows)
    return tested


def change_bars(columns: Columns, strength: float, rows: Mask) -> dict[str, NDArray[Any]]:
    """Columns of bars with other prices, shapes and volumes where ``rows`` (N,) is true.

    Open times stay, valid bars stay valid, and of one length of columns and one strength the
    other values are always the same.
    """
    rng = np.random.default_rng(0)
    factor = {name: np.exp(strength * rng.normal(size=len(rows))) for name in columns}
    if "taker_buy_volume" in factor:  # still no more than the volume
        factor["taker_buy_volume"] = np.minimum(factor["volume"], 1) * rng.uniform(0, 1, len(rows))
    old, new = columns, dict(columns)
    for name in columns.keys() - {"open_time"}:
        new[name] = columns[name] * factor[name]
    top, bottom = np.maximum(old["open"], old["close"]), np.minimum(old["open"], old["close"])
    upper, lower = rng.uniform(0.5, 2, (2, len(rows)))
    new["high"] = np.maximum(new["open"], new["close"]) * (old["high"] / top) ** upper
    new["low"] = np.minimum(new["open"], new["close"]) * (old["low"] / bottom) ** lower
    return {name: np.where(rows, new[name], old[name]) for name in columns}
