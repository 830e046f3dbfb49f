"""A segment of the feature file: features and bars of some rows, made of what was known by then.

Features of the candles are computed on the rows of the regular grid; those that see series beside
them by what was known of these at the close of each row (``joined``).
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask, mark_runs
from btc_datamodule.features.asof import NEVER
from btc_datamodule.features.causality import check_lookback, choose_rows
from btc_datamodule.features.feature import Feature, make_frame
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.joined import JoinedSeries, Values
from btc_datamodule.features.layout import BAR_COLUMNS, REACH
from btc_datamodule.features.memory import capture_state, check_memory
from btc_datamodule.features.methods import compute_rolling_min
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.undefined import JudgedRows, find_counting, find_known, judge_rows
from btc_datamodule.store.candle_file import CandleReader

FAR = 1 << 52
"""Later than any instant, and exact as a float64."""


class Segment(NamedTuple):
    """Rows of the feature file.

    Attributes:
        judged: features, and which rows count as observed.
        columns: (n,) float64 of each of ``BAR_COLUMNS``, and where a feature sees a covariate
            ``REACH``, (n,) int64: the earliest instant of one that each row hangs on.
    """

    judged: JudgedRows
    columns: dict[str, NDArray[np.generic]]


def compute_segment(
    reader: CandleReader,
    grid: Grid,
    recipe: Recipe,
    joined: JoinedSeries,
    rows: slice,
    *,
    check: Collection[str] = (),
    since: int = 0,
) -> Segment:
    """Features and bars of some rows.

    Args:
        reader: the candle file.
        grid: of its candles.
        recipe: which features.
        joined: the series beside the candles that these name.
        rows: of the grid.
        check: names of the features that are tested for look-ahead.
        since: the first row on which features of the candles are tested.

    Raises:
        LookAheadError: if a feature reads other rows than it says, or keeps something.
    """
    low, high, features = rows.start, rows.stop, recipe.features
    early = max(0, low - recipe.warm_up)
    bars = grid.read_bars(reader, early, high)
    closes = grid.times(early, high) + grid.interval
    frame = make_frame(grid.times(early, high), bars)
    outage = mark_runs(grid.outages, early, high)
    known = find_known(outage, [feature.lookback for feature in features], high - low)
    counts = np.repeat(find_counting(outage[low - early :], low, recipe.warm_up), len(features), 1)
    x = np.empty((high - low, len(features)), dtype=np.float32)
    reach = np.full(high - low, NEVER)
    for column, feature in enumerate(features):
        if feature.series:
            found = joined.compute(feature, closes[low - early :], check=feature.name in check)
            known[:, column] = found.known
            counts[:, column] = np.arange(low, high) >= recipe.warm_up
        else:
            frames = joined.make_frames(feature, closes, grid.interval)
            before = capture_state(feature.compute)
            values = feature(frame, *frames.frames)
            check_memory(feature, before)
            if feature.name in check:
                chosen = choose_rows(grid, early, max(low, since), high, values, bars["close"])
                check_lookback(feature, frame, values, chosen, frames.frames)
            found = _take_last(values, frames.known, frames.since, feature, high - low)
            known[:, column] &= found.known
        with np.errstate(over="ignore"):  # too large for float32 counts as not finite
            x[:, column] = found.values
        reach = np.minimum(reach, found.since)
    judged = judge_rows(x, known, counts, flag=recipe.flag, by_feature=recipe.mask == "feature")
    columns: dict[str, NDArray[np.generic]] = {
        name: bars[name][low - early :] for name in BAR_COLUMNS
    }
    return Segment(judged, columns | ({REACH: reach} if recipe.beside else {}))


def _take_last(
    values: NDArray[np.float64],
    known: Mask,
    since: NDArray[np.int64],
    feature: Feature,
    count: int,
) -> Values:
    """The last rows of a feature of a frame, each of all that its lookback holds."""
    if not feature.beside:
        return Values(values[-count:], known[-count:], since[-count:])
    absent, back = ~known, feature.lookback
    rows = np.arange(len(known))
    last = np.maximum.accumulate(np.where(absent, rows, -1))
    whole = rows - last >= np.minimum(back, rows + 1)
    instants = np.append(np.full(back - 1, FAR), np.minimum(since, FAR)).astype(np.float64)
    least = compute_rolling_min(instants, back)[back - 1 :].astype(np.int64)
    oldest = np.where(least == FAR, NEVER, least)
    return Values(values[-count:], whole[-count:], oldest[-count:])
