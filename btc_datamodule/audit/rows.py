"""Guarantees of every row of the feature file: made of the candles, and of no later one.

The whole history is gone through, a segment of the feature file or a part of a series beside it at
a time: memory does not depend on its length, and how many rows are tested is bound by ``SCAN_WORK``
for each feature.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.compare import LeakError, compare
from btc_datamodule.audit.known import make_rows
from btc_datamodule.audit.twins import EVALUATED, is_exact
from btc_datamodule.features.causality import SCAN_WORK, check_frames
from btc_datamodule.features.clocks import Clock, GridClock, RecordClock, Rows
from btc_datamodule.features.feature import Feature, make_frame
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.joined import JoinedSeries, make_series_frame, open_series
from btc_datamodule.features.segment import compute_segment
from btc_datamodule.features.writing import SeenNotes
from btc_datamodule.progress import show_step
from btc_datamodule.stages import Stages
from btc_datamodule.store.candle_file import CandleReader

if TYPE_CHECKING:
    import polars as pl

BEYOND = 64
"""Rows after a part that a feature is given beside it, for it to look at if it does."""

ROWS_AT_ONCE = 1 << 16
"""Rows of a series beside the candles that a feature is given at once."""


class Part(NamedTuple):
    """Rows of the series that a feature is of.

    Attributes:
        own: which of them are this part's.
        known_at: (n,) int64, since when each is known.
        frames: that the feature is given.
    """

    own: slice
    known_at: NDArray[np.int64]
    frames: tuple["pl.DataFrame", ...]


def check_feature(feature: Feature, used: Stages) -> Counter[str]:
    """A feature depends on the rows of its lookback alone, row by row.

    Every row of a history for which the work suffices; else rows at the ends of stages, and others
    at random. Rows are those of the feature's own series.
    """
    total = Counter[str]()
    ends = [start for stage in EVALUATED for start, _ in used.fold.spans(stage)]
    with _open(used) as (reader, grid, joined):
        if feature.series:
            size = _count_rows(joined.clocks[feature.series], used.table.span[1])
            parts = _read_series(feature, size, joined)
        else:
            size = grid.rows
            parts = _read_bars(feature, used, reader, grid, joined)
        with show_step(feature.name, size, " rows") as step:
            for own, known_at, frames in parts:
                edges = np.searchsorted(known_at, ends, side="right") - 1
                tested = check_frames(
                    feature,
                    frames,
                    work=SCAN_WORK * len(known_at) // max(1, size),
                    first=edges[(edges >= 0) & (edges < len(known_at) - 1)].tolist(),
                    exact=is_exact(feature),
                )
                total["tested"] += int(tested[own].sum())
                total["rows"] += len(tested[own])
                step.advance(len(tested[own]))
    return total


def _read_bars(
    feature: Feature, used: Stages, reader: CandleReader, grid: Grid, joined: JoinedSeries
) -> Iterator[Part]:
    """Bars of the candles, and what a feature sees beside them, a segment at a time."""
    for rows in used.table.segments(0, grid.rows):
        early = max(0, rows.start - feature.lookback + 1)
        late = min(grid.rows, rows.stop + BEYOND)
        times = grid.times(early, late)
        frame, closes = (
            make_frame(times, grid.read_bars(reader, early, late)),
            times + grid.interval,
        )
        others = joined.make_frames(feature, closes, grid.interval).frames
        yield Part(slice(rows.start - early, rows.stop - early), closes, (frame, *others))


def _read_series(feature: Feature, size: int, joined: JoinedSeries) -> Iterator[Part]:
    """Rows of a feature's series, and what it sees beside them, ``ROWS_AT_ONCE`` at a time."""
    clock = joined.clocks[feature.series]
    for low in range(0, size, ROWS_AT_ONCE):
        high = min(low + ROWS_AT_ONCE, size)
        early, late = max(0, low - feature.lookback + 1), min(high + BEYOND, size)
        rows, own = _read_rows(clock, (early, low, high, late))
        others: tuple[pl.DataFrame, ...] = ()
        if feature.beside:
            interval = clock.beside.interval
            assert interval is not None
            others = joined.make_frames(feature, rows.time + interval, interval).frames
        yield Part(own, rows.known_at, (make_series_frame(clock, rows), *others))


def _read_rows(clock: Clock, edges: tuple[int, int, int, int]) -> tuple[Rows, slice]:
    """Rows of a series from the first edge to the last, and which lie between the others."""
    early, low, high, late = edges
    if isinstance(clock, GridClock):
        return clock.read(early, late), slice(low - early, high - early)
    assert isinstance(clock, RecordClock)
    records = clock.reader.rows(early, late)
    rows = make_rows(clock, records)
    inner = records.time[low - early : high - early]
    own = np.searchsorted(rows.time, [inner[0], inner[-1] + 1])
    return rows, slice(*own.tolist())


def _count_rows(clock: Clock, end: int) -> int:
    """How many rows a series has at an instant, or records."""
    if isinstance(clock, GridClock):
        return clock.count_known(end)
    assert isinstance(clock, RecordClock)
    return clock.find(end)


def check_table(used: Stages) -> Counter[str]:
    """The feature file has the rows that the stored files give when it is made again."""
    table, features, recipe = used.table, used.settings.features, used.settings.recipe
    notes, count = SeenNotes(), Counter[str]()
    what = "{} in the feature file".format
    with (
        _open(used) as (reader, grid, joined),
        show_step("features made again", table.rows, " bars") as step,
    ):
        for rows in table.segments(0, table.rows):
            judged, columns = compute_segment(reader, grid, recipe, joined, rows)
            when = grid.times(rows.start, rows.stop)
            compare(what("observed"), judged.observed.astype("u1"), table.observed[rows], when)
            for name, values in columns.items():
                compare(what(name), values, np.array(table.read(name, rows)), when)
            for column, name in enumerate(table.features):
                ours, theirs = judged.x[:, column], np.array(table.x[rows, column])
                exact = column >= len(features) or is_exact(features[column])
                compare(what(name), ours, theirs, when, exact=exact)
            notes.add(judged, rows.start)
            count["rows"] += len(when)
            step.advance(len(when))
    for name, found in notes.collect().items():
        if not np.array_equal(found, getattr(table, name)):
            raise LeakError(f"what the feature file has as {name!r} is something else")
    return count


@contextmanager
def _open(used: Stages) -> Iterator[tuple[CandleReader, Grid, JoinedSeries]]:
    """The candle file, the grid of its candles, and the series beside them."""
    table, settings = used.table, used.settings
    with (
        CandleReader(settings.candle_path) as reader,
        open_series(settings.recipe.beside, table.span[1]) as joined,
    ):
        yield reader, Grid.of(reader, table.span, settings.max_fill), joined
