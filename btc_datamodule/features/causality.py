"""The law of look-ahead, as a check: a feature reads the rows that it declares and no others.

``check_lookback`` tests the law on real rows by computing a value again from its own bars alone;
a feature file is built with that test on the rows that ``choose_rows`` picks. ``check_every_row``
tests as many rows as it is given the work for, by changing every bar that a value must not depend
on, and which bars there are (``varying``). Frames of series beside the first one are cut, and
changed, in the same rows.

What a value may differ by is bound by what was promised, not by the feature's own largest values:
float32 is what a model is given, so a difference that it could show is one. Only where bars of the
past are changed there is room for the rounding that running sums carry along.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask, mark_intervals
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import LookAheadError
from btc_datamodule.features.beside import AGE
from btc_datamodule.features.feature import Feature, make_frame
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.memory import capture_state, check_memory
from btc_datamodule.features.varying import get_times, vary_frames

if TYPE_CHECKING:
    import polars as pl

CHECKED_ROWS = 24
"""Rows of each segment on which the look-ahead check computes every feature again."""

SCAN_WORK = 50_000_000
"""Rows for which ``check_every_row`` computes a feature again, those between tested rows too."""

SUSPECTS = 8
"""Rows of each scan that are judged one by one: so many of the largest, and of the clearest."""

NOTED = 1e-10
"""A difference beside a value: far below what float32 shows, far above what float64 rounds."""

LEAST_SPREAD = 1e-13
CARRIED = 1e-6
"""What rounding may come to beside the spread of a feature's values: of one and the same sum, and
of a running one that was fed other bars before."""


def check_lookback(
    feature: Feature,
    bars: "pl.DataFrame",
    values: NDArray[np.float64],
    rows: Sequence[int],
    others: Sequence["pl.DataFrame"] = (),
) -> None:
    """Raise ``LookAheadError`` unless the feature keeps its law at ``rows``.

    Each value is computed again from the ``lookback`` bars that end at its row.

    Args:
        feature: the feature under test.
        bars: real rows of its series.
        values: the feature's values on all of ``bars``.
        rows: the rows to test.
        others: frames of the series beside the first, a row for each row of ``bars``.
    """
    spread = measure_spread(values) if len(rows) else 0.0
    for row in rows:
        first = max(0, row - feature.lookback + 1)
        own = [frame[first : row + 1] for frame in (bars, *others)]
        alone = feature(*own)[-1]
        if _agree(values[row], alone, 0.0):
            continue
        past = feature(*(frame[: row + 1] for frame in (bars, *others)))[-1]
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
        when = format_instant(get_times(bars)[row])
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


def _is_rounding(
    feature: Feature, own: Sequence["pl.DataFrame"], value: float, alone: float
) -> bool:
    """Whether a value differs from that of its own bars no more than by what rounding does.

    That is so if it is that of own bars which differ from the real ones in their last digits.
    """
    import polars as pl
    import polars.selectors as cs

    if abs(value - alone) <= 1e-6 * max(abs(value), abs(alone)):
        return True
    rng = np.random.default_rng(0)
    for _ in range(SUSPECTS):
        nudge = pl.Series(1 + 1e-13 * rng.normal(size=own[0].height))
        floats = cs.float() - cs.by_name(AGE, require_all=False)
        nudged = [frame.with_columns(floats * nudge) for frame in own]
        if _agree(value, feature(*nudged)[-1], 1e-6 * abs(value - alone)):
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
    others: Sequence["pl.DataFrame"] = (),
    work: int = SCAN_WORK,
    first: Sequence[int] = (),
    exact: bool = False,
) -> Mask:
    """Compute rows of a feature of bars again with all bars changed that it may not read.

    Args:
        feature: the feature under test.
        times: (T,) open times of a regular grid.
        bars: (T,) columns, NaN where a bar is not known.
        others: frames of T rows of the series beside the first.
        work: rows to compute, at most; but one scan in any case.
        first: rows to begin with, if there is not the work for all.
        exact: whether values must be the same bits, as those of built-in features are.

    Returns:
        (T,) which rows were tested.

    Raises:
        LookAheadError: naming the feature, the time and the size.
    """
    frames = [make_frame(times, bars), *others]
    return check_frames(feature, frames, work=work, first=first, exact=exact)


def check_frames(
    feature: Feature,
    frames: Sequence["pl.DataFrame"],
    *,
    work: int = SCAN_WORK,
    first: Sequence[int] = (),
    exact: bool = False,
) -> Mask:
    """As ``check_every_row``, for rows of any series: those of the first frame.

    Rows are computed as many at a time as leave room for changed rows between them. Rows whose
    values differ are then judged one by one with ``check_lookback``: a running sum only rounds.

    Args:
        feature: the feature under test.
        frames: that of its series, T rows, and one as long for each series beside it.
        work: as there, and so are the others and what is raised.
        first: rows to begin with.
        exact: whether values must be the same bits.
    """
    size = frames[0].height
    varied = vary_frames(frames)
    before = capture_state(feature.compute)
    values = feature(*frames)
    check_memory(feature, before)
    tested = np.zeros(size, dtype=np.bool_)
    for rows in _choose_scans(feature.lookback, size, work, first):
        kept = mark_intervals(size, rows - feature.lookback + 1, feature.lookback)
        mixed = [_mix_frames(kept, *both) for both in zip(frames, varied, strict=True)]
        again = feature(*mixed)
        suspects = _find_suspects(rows, values[rows], again[rows], exact=exact)
        if suspects and exact:
            _refuse_bits(feature, get_times(frames[0]), values, again, suspects[0])
        check_lookback(feature, frames[0], values, suspects, frames[1:])
        check_lookback(feature, mixed[0], again, suspects, mixed[1:])
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

    mask = pl.Series(kept)
    return pl.DataFrame([column.zip_with(mask, others[column.name]) for column in table])


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
    times: "pl.Series",
    values: NDArray[np.float64],
    again: NDArray[np.float64],
    row: int,
) -> None:
    raise LookAheadError(
        f"feature {feature.name!r} at {format_instant(times[row])}: {values[row]:.17g} becomes "
        f"{again[row]:.17g} when bars other than its last {feature.lookback} change: it looks "
        "ahead or further back"
    )
