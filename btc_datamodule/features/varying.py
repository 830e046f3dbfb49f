"""Other bars and other records than the real ones, for checks of who looks where.

What must not depend on a row must be the same where that row is another one. The other rows are as
the real ones might be: valid bars stay valid, values keep their kind of size, and what is known of
a series beside a frame keeps its times consistent. Of the same rows the others are always the same.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.candles.series import COLUMNS, PRICES, Columns
from btc_datamodule.features.beside import AGE, TIMES

if TYPE_CHECKING:
    import polars as pl

STRONG, MILD = 1.0, 0.1
"""Standard deviation of the log factors of changed bars. Mild where earlier bars are changed: a
running sum, as in polars' rolling means, carries rounding from them along."""

QUIET, ABSENT = 0.1, 0.05
"""Shares of the rows that ``vary_rows`` makes bars without trades, and bars that are not known."""

OLDER = 8
"""Bars by which ``vary_frames`` makes what is known of a series older, at most."""


def change_bars(
    columns: Columns, strength: float, rows: Mask, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """Columns of bars with other prices, shapes and volumes where ``rows`` (N,) is true.

    Times stay, valid bars stay valid, and of one length of columns, one strength and one seed the
    other values are always the same. Columns of records get other values of the same kind of size.
    Two series need a seed each: changed alike, their ratio would stay what it was.
    """
    rng = np.random.default_rng(seed)
    if not _are_candles(columns):
        values = {name: each for name, each in columns.items() if name not in TIMES}
        new = {name: _change_values(each, strength, rng) for name, each in values.items()}
        return {
            name: np.where(rows, new[name], each) if name in new else each.copy()
            for name, each in columns.items()
        }
    factor = {name: np.exp(strength * rng.normal(size=len(rows))) for name in columns}
    if "taker_buy_volume" in factor:  # still no more than the volume
        factor["taker_buy_volume"] = np.minimum(factor.get("volume", 1.0), 1) * rng.uniform(
            0, 1, len(rows)
        )
    old, new = columns, dict(columns)
    for name in columns.keys() - {*TIMES}:
        new[name] = columns[name] * factor[name]
    top, bottom = np.maximum(old["open"], old["close"]), np.minimum(old["open"], old["close"])
    upper, lower = rng.uniform(0.5, 2, (2, len(rows)))
    new["high"] = np.maximum(new["open"], new["close"]) * (old["high"] / top) ** upper
    new["low"] = np.minimum(new["open"], new["close"]) * (old["low"] / bottom) ** lower
    return {name: np.where(rows, new[name], old[name]) for name in columns}


def _are_candles(columns: Columns) -> bool:
    """Whether columns are those of candles, whose prices are above 0, and no others."""
    known = columns.keys() <= {*COLUMNS, *TIMES} and columns.keys() >= {*PRICES}
    return known and not any((columns[name] <= 0).any() for name in PRICES)


def _change_values(
    values: NDArray[np.float64], strength: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Other values of the same kind of size; of one sign if these are. NaN stays."""
    factor, shift = np.exp(strength * rng.normal(size=len(values))), rng.normal(size=len(values))
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    size = float(np.median(sizes)) if len(sizes) else 1.0
    other = values * factor + strength * size * shift
    if not (values < 0).any():
        return np.abs(other)
    return other if (values > 0).any() else -np.abs(other)


def vary_rows(columns: Columns, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Other columns for all rows of a grid: other bars, and others without trades or not known.

    Which rows are without trades, or not known, has nothing to do with which were before: what
    looks at that alone meets other rows too.

    Args:
        columns: (T,) each, as ``Grid.read_bars`` gives them, or values of records.
        seed: see ``change_bars``.
    """
    size = len(next(iter(columns.values())))
    rng = np.random.default_rng(seed)
    every, draw = np.ones(size, dtype=np.bool_), rng.uniform(size=size)
    candles = _are_candles(columns)
    if candles:
        traded = columns["volume"] != 0 if "volume" in columns else every
        known = np.flatnonzero(np.isfinite(columns["close"]) & traded)
    else:
        known = np.flatnonzero(np.any([np.isfinite(each) for each in columns.values()], axis=0))
    if not len(known):
        return change_bars(columns, MILD, every, seed)
    # Each row takes the shape and volume of the nearest traded bar before it: prices stay alike.
    at = _find_nearest(known, size)
    nearest = {name: values[at] for name, values in columns.items()}
    others = change_bars(nearest, MILD, every, seed)
    quiet, absent = draw < QUIET, draw > 1 - ABSENT
    for name, values in others.items():
        if candles:
            values[quiet] = others["close"][quiet] if name in PRICES else 0.0 * values[quiet]
        values[absent] = np.nan
    return others


def _find_nearest(known: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """For each of ``size`` rows the last known one up to it, or the first one."""
    found: NDArray[np.int64] = known[
        np.maximum(np.searchsorted(known, np.arange(size), side="right") - 1, 0)
    ]
    return found


def vary_frames(frames: Sequence["pl.DataFrame"]) -> list["pl.DataFrame"]:
    """Other frames of the same rows: other values in each row, as those of ``vary_rows``.

    Args:
        frames: of bars or records, whose times stay; then of the series beside them, of which in
            some rows something older is known, and in some the newest that there can be.
    """
    first, *beside = (_vary_values(frame, seed) for seed, frame in enumerate(frames))
    return [first, *(_vary_ages(frame, get_times(first).to_numpy()) for frame in beside)]


def get_times(frame: "pl.DataFrame") -> "pl.Series":
    """Open times of bars, or times of records."""
    return frame[next(name for name in TIMES if name in frame.columns)]


def _list_values(frame: "pl.DataFrame") -> list[str]:
    return [name for name in frame.columns if name not in (*TIMES, AGE)]


def _vary_values(frame: "pl.DataFrame", seed: int) -> "pl.DataFrame":
    import polars as pl

    names = _list_values(frame)
    if not names or not frame.height:
        return frame
    values = {name: frame[name].cast(pl.Float64).to_numpy() for name in names}
    others = vary_rows(values, seed)
    varied = [pl.Series(name, others[name]).fill_nan(None) for name in names]
    return frame.with_columns(varied)


def _vary_ages(frame: "pl.DataFrame", opens: NDArray[np.int64]) -> "pl.DataFrame":
    """What is known of a series, as if it had become known at another instant.

    Args:
        frame: rows beside bars.
        opens: at which these open, at least two.
    """
    import polars as pl

    known = np.flatnonzero(frame["known_at"].is_not_null().to_numpy())
    if not len(known) or len(opens) < 2:
        return frame
    rng, size, interval = np.random.default_rng(1), frame.height, opens[1] - opens[0]
    nearest = frame[_find_nearest(known, size)]
    draw, age = rng.uniform(size=size), nearest[AGE].cast(pl.Float64).to_numpy().copy()
    older = draw > 1 - QUIET
    age[older] += rng.integers(1, OLDER, size, endpoint=True)[older]
    age[draw < QUIET] = 0
    known_at = opens + interval - np.round(age * interval).astype(np.int64)
    lag = (nearest["known_at"] - nearest["time"]).to_numpy()
    there = frame.select(
        pl.any_horizontal(pl.col(_list_values(frame) or [AGE]).is_not_null())
    ).to_series()
    columns = {"time": known_at - lag, "known_at": known_at, AGE: age}
    nothing = pl.lit(None)
    return frame.with_columns(
        pl.when(there).then(pl.Series(name, values)).otherwise(nothing).alias(name)
        for name, values in columns.items()
    )
