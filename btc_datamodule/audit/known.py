"""The guarantee of the join: a row is made of nothing but what was known when its bar closed.

Rows are made again, one by one, of files cut to what was known: candles that had closed, records
that had become known. What the join does inside does not matter then: there is nothing else for it
to look at.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.compare import compare
from btc_datamodule.audit.series import list_files, read_records_of
from btc_datamodule.audit.twins import EVALUATED, is_exact
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import ceil_to
from btc_datamodule.covariates import Covariate
from btc_datamodule.features.clocks import BarClock, Clock, GridClock, RecordClock, Rows
from btc_datamodule.features.feature import Feature, make_frame
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.joined import JoinedSeries, make_series_frame
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.segment import Segment, compute_segment
from btc_datamodule.progress import show_each
from btc_datamodule.stages import Stages
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.record_file import RecordReader

if TYPE_CHECKING:
    import polars as pl

OF_EACH = 4
"""Records of each series and kind (any, revisions, late ones) around which rows are made again."""

AT_RANDOM = 16
"""Rows that are made again beside those."""


class KnownCandles(CandleReader):
    """A candle file as it was at an instant: with the candles that had closed."""

    def __init__(self, reader: CandleReader, instant: int) -> None:
        self.path, self.header = reader.path, reader.header
        self._whole, self._end = reader, instant - reader.header.interval + 1

    def slice(self, start: int, end: int) -> Candles:
        """The candles that open in [start, end) and had closed."""
        return self._whole.slice(start, max(start, min(end, self._end)))


class KnownRecords(RecordReader):
    """Records as they were at an instant, in memory."""

    def __init__(self, records: RecordSet, instant: int) -> None:
        self._records = records.take(records.known_at <= instant)

    def find(self, time: int) -> int:
        """The number of the first record whose time is ``time`` or later."""
        return int(np.searchsorted(self._records.time, time))

    def rows(self, low: int, high: int) -> RecordSet:
        """Records by their numbers, [low, high), as far as there are any."""
        return self._records.take(np.arange(max(0, low), min(high, len(self._records))))


@dataclass(frozen=True, eq=False)
class OpenFiles:
    """The files of some stages, open.

    Attributes:
        used: the stages.
        reader: the candle file.
        grid: of its candles.
        series: all that is known of the series at the end.
        recipe: of the stages.
        covariates: the series by name.
    """

    used: Stages
    reader: CandleReader
    grid: Grid
    series: JoinedSeries
    recipe: Recipe
    covariates: dict[str, Covariate]

    def cut_series(self, instant: int) -> JoinedSeries:
        """The series as they were at an instant."""
        return JoinedSeries(
            {
                name: self._cut_clock(name, clock, instant)
                for name, clock in self.series.clocks.items()
            }
        )

    def _cut_clock(self, name: str, clock: Clock, instant: int) -> Clock:
        if isinstance(clock, BarClock):
            grid = clock.grid
            rows = (instant - grid.first) // grid.interval
            known = KnownCandles(clock.reader, instant)
            return type(clock)(clock.beside, known, cut_grid(grid, max(0, rows)))
        assert isinstance(clock, RecordClock)
        settings, table = self.used.settings, self.used.table
        span = instant - table.interval, instant
        records = read_records_of(clock.reader, settings, table, self.covariates[name], span)
        return RecordClock(clock.beside, KnownRecords(records, instant))

    def compute_row(self, row: int) -> Segment:
        """A row of the feature file, of what was known when its bar closed."""
        close = self.used.table.find_time(row + 1)
        return compute_segment(
            KnownCandles(self.reader, close),
            cut_grid(self.grid, row + 1),
            self.recipe,
            self.cut_series(close),
            slice(row, row + 1),
        )

    def make_frames(
        self, feature: Feature, row: int, series: JoinedSeries
    ) -> tuple["pl.DataFrame", ...]:
        """What a feature is given to compute a row: the rows of its lookback, and those beside.

        Args:
            feature: which.
            row: of the feature file; of a feature of a series the newest row known at its close.
            series: as they were then.
        """
        back, table = feature.lookback, self.used.table
        if feature.series:
            clock, instant = series.clocks[feature.series], table.find_time(row + 1)
            rows = _read_newest(clock, instant, back, feature.list_columns(feature.series))
            frame, interval = make_series_frame(clock, rows), clock.beside.interval or 0
            closes = rows.time + interval
        else:
            low, interval = max(0, row - back + 1), self.grid.interval
            times = self.grid.times(low, row + 1)
            frame = make_frame(times, self.grid.read_bars(self.reader, low, row + 1))
            closes = times + interval
        return frame, *(series.make_frames(feature, closes, interval).frames if len(closes) else ())


def _read_newest(clock: Clock, instant: int, back: int, columns: tuple[str, ...] | None) -> Rows:
    """The newest rows of a series as they were known at an instant, ``back`` of them at most."""
    if isinstance(clock, GridClock):
        high = clock.count_known(instant)
        return clock.read(max(0, high - back), high)
    assert isinstance(clock, RecordClock)
    records = clock.read_known(0, instant)
    if clock.beside.interval is None and columns is not None:
        has = [np.isfinite(records[name]) for name in columns]
        records = records.take(np.all([np.ones(len(records), dtype=np.bool_), *has], axis=0))
    last = np.append(np.diff(records.time) > 0, True)[: len(records)]
    rows = make_rows(clock, records.take(last))
    return rows.slice(max(0, len(rows.time) - back))


def make_rows(clock: RecordClock, records: RecordSet) -> Rows:
    """Rows of records, the first of each time, with empty ones where a grid has no record."""
    new = np.diff(records.time, prepend=records.time[:1] - 1) > 0
    rows, interval = clock.to_rows(records.take(new)), clock.beside.interval
    if interval is None or not len(rows.time):
        return rows
    slot = (rows.time - rows.time[0]) // interval
    time = rows.time[0] + interval * np.arange(slot[-1] + 1)
    known_at, columns = time + interval, {name: np.full(len(time), np.nan) for name in rows.columns}
    known_at[slot] = rows.known_at
    for name, values in rows.columns.items():
        columns[name][slot] = values
    return Rows(time, known_at, known_at, time - clock.beside.covers, columns)


def cut_grid(grid: Grid, rows: int) -> Grid:
    """The grid of the first rows, as if there were no later ones."""
    holes = grid.holes[grid.holes[:, 0] < rows].clip(max=rows)
    return replace(grid, rows=rows, holes=holes)


@contextmanager
def open_files(used: Stages) -> Iterator[OpenFiles]:
    """Open the files of some stages."""
    settings, table = used.settings, used.table
    with ExitStack() as stack:
        reader = stack.enter_context(CandleReader(settings.candle_path))
        grid = Grid.of(reader, table.span, settings.max_fill)
        clocks, recipe = {}, settings.recipe
        for stored in recipe.beside:
            file = stack.enter_context(stored.open_reader())
            clocks[stored.beside.name] = stored.make_clock(file, table.span[1])
        covariates = {covariate.name: covariate for covariate in settings.named_covariates}
        yield OpenFiles(used, reader, grid, JoinedSeries(clocks), recipe, covariates)


def check_rows_are_known(used: Stages) -> Counter[str]:
    """Rows come out the same from nothing but what was known when their bars closed.

    Rows at the ends of stages, around records that become known, and at random.

    Raises:
        LeakError: if one does not.
    """
    table, features = used.table, used.settings.features
    rows = _choose_rows(used)
    with open_files(used) as files:
        made = [files.compute_row(row) for row in show_each(rows.tolist(), "rows made again")]
    when = table.first + table.interval * rows
    what = "{}, in rows made of nothing but what was known when they closed,".format
    x, valued, observed = (
        np.concatenate([getattr(each.judged, name) for each in made])
        for name in ("x", "valued", "observed")
    )
    stored = table.pick("observed", rows) == 1
    for column, name in enumerate(table.features):
        ours, theirs = table.pick("x", rows)[:, column].copy(), x[:, column].copy()
        if table.mask == "bar":  # a row without one of the features has none of them: which is it?
            if column < len(features):
                gone = stored & ~observed & ~valued[:, column]
                compare(what(name), gone, np.zeros_like(gone), when)
            ours[~stored | ~observed] = theirs[~stored | ~observed] = 0
        exact = column >= len(features) or is_exact(features[column])
        compare(what(name), ours, theirs, when, exact=exact)
    compare(what("observed"), stored, observed, when)
    return Counter(rows=len(rows), series=len(used.settings.named_covariates))


def _choose_rows(used: Stages) -> NDArray[np.int64]:
    table, rng = used.table, np.random.default_rng(0)
    starts = [start for stage in EVALUATED for start, _ in used.fold.spans(stage)]
    edges = np.array([table.find_row(start) for start in starts])
    around = [edges - 1, edges]
    for covariate, path in list_files(used.settings):
        for instants in _list_instants(covariate, path, table.span[1], rng):
            # The row whose bar is the first to close then or later, and the one before it.
            first = -((table.first - instants) // table.interval) - 1
            around += [first - 1, first]
    for covariate in used.settings.named_covariates:
        if covariate.beside.is_candles and covariate.beside.interval is not None:
            opens = rng.integers(table.first, table.span[1], OF_EACH)
            close = [ceil_to(int(each), covariate.beside.interval) for each in opens]
            first = -((table.first - np.array(close)) // table.interval) - 1
            around += [first - 1, first]
    rows = np.unique(np.concatenate([*around, rng.integers(0, table.rows, AT_RANDOM)]))
    return rows[(rows >= 0) & (rows < table.rows)]


def _list_instants(
    covariate: Covariate, path: Path, end: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """When some records become known: any, some of the latest beside others, some revisions."""
    if covariate.beside.is_candles:
        return
    with RecordReader(path) as reader:
        for low in rng.integers(0, max(1, reader.find(end)), OF_EACH).tolist():
            records = reader.rows(low, low + 500)
            late = np.argsort(records.known_at - records.time)[-1:]
            revised = np.flatnonzero(np.diff(records.time) == 0)[:1] + 1
            for rows in (slice(0, 1), late, revised):
                yield records.known_at[rows]
