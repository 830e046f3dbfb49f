"""Twins: the whole way of a datamodule again, on candles in which some bars are changed.

What the audit and tests of leakage are made of. A ``Piece`` is a stretch of the stored candles
with the fold cut to it, and of the series beside them what it can be made of; a ``Twin`` are the
stages of the same settings on such files, in a temporary folder that is removed in any case and
with their fold pinned, so that boundaries stay where they are; and what a Trainer would hand to a
model of them. Changed bars and records have other values, some are taken out, and some are put in
where there were none (``others``).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.handing import Serve, Twin
from btc_datamodule.audit.others import (
    Region,
    mark_candles,
    vary_candles,
    vary_candles_beside,
    vary_records,
)
from btc_datamodule.audit.series import Series, count_joined, read_series, write_beside
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.runs import Mask
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, unite
from btc_datamodule.disk.atomic import forgo_sync
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.evaluation.splits import Fold, Split, Stage
from btc_datamodule.features.asof import NEVER
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import FEATURES
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.language import Expression
from btc_datamodule.features.layout import REACH
from btc_datamodule.features.table import Table
from btc_datamodule.features.varying import MILD, STRONG, change_bars
from btc_datamodule.settings import Settings
from btc_datamodule.stages import Stages, fit
from btc_datamodule.store.candle_file import CandleReader, write_series

SAMPLES = 256
"""Samples of a stage that are taken out of their surroundings together, at most."""

EVALUATED: tuple[Stage, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class _Pinned(Split):
    """A split whose only fold is given."""

    spans: Fold

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        return (self.spans,)


@dataclass(frozen=True, eq=False)
class Piece:
    """A stretch of candles under audit.

    Attributes:
        used: the stages under audit, on all of the candles.
        fold: their fold, cut to this stretch.
        candles: the candles.
        series: what they are made of beside them.
        clean: the twin on these very candles and series.
        serve: gives what a Trainer would hand to a model of other stages.
        origins: those of stages that have been listed so far; see ``recount.list_origins``.
    """

    used: Stages
    fold: Fold
    candles: Candles
    series: tuple[Series, ...]
    clean: Twin
    serve: Serve
    origins: dict[Stage, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The settings of the twins: those under audit, with files and fold of their own."""
        return self.clean.stages.settings

    @property
    def table(self) -> Table:
        """The feature file of the clean twin."""
        return self.clean.stages.table

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """(T,) open times of the rows."""
        first, interval = self.table.first, self.table.interval
        return first + interval * np.arange(self.table.rows, dtype=np.int64)

    @cached_property
    def present(self) -> Mask:
        """(T,) which rows have a candle."""
        return mark_candles(self.candles)

    @cached_property
    def exact(self) -> Mask:
        """(F,) which columns must be the same bits whatever bars came before their lookback."""
        recipe = self.settings.recipe
        return np.array([*map(is_exact, recipe.features), *[True] * recipe.flag])

    def find_row(self, instant: int) -> int:
        """The row that opens at an instant, or the nearest end of the rows."""
        return min(max(0, self.table.find_row(instant)), self.table.rows)

    @contextmanager
    def open_twin(
        self, rows: Mask, fitted: Fitted | None = None, *, holes: bool = True
    ) -> Iterator[Twin]:
        """A twin with other candles in the rows (T,) that ``rows`` marks.

        Of the series beside them all is another that no other row can be made of.

        Args:
            rows: which may be others.
            fitted: statistics to take over; None to fit them anew.
            holes: whether there are more candles and records, and fewer, too; else all have other
                values.
        """
        strength = STRONG if self.exact.all() else MILD
        if holes:
            candles = vary_candles(self.candles, strength, rows, self.settings.max_fill)
        else:
            columns = change_bars(self.candles.columns, strength, rows[self.present])
            candles = Candles(self.candles.interval, columns)
        series = self._vary_series(strength, rows, holes=holes)
        serve = self.serve if fitted is None else partial(self.serve, fitted=self.clean.server)
        with open_twin(self.used.settings, self.fold, candles, series, serve, fitted) as twin:
            yield twin

    def _vary_series(self, strength: float, rows: Mask, *, holes: bool) -> list[Series]:
        region = Region.of(rows, self.table.first, self.table.interval)
        varied: list[Series] = []
        for seed, (covariate, content) in enumerate(self.series, start=1):
            other: Candles | RecordSet
            if isinstance(content, RecordSet):
                interval, covers = covariate.beside.interval, covariate.beside.covers
                other = vary_records(
                    content, strength, region, seed, interval=interval, covers=covers, holes=holes
                )
            else:
                fill = covariate.max_fill
                other = vary_candles_beside(content, strength, region, fill, seed, holes=holes)
            varied.append(Series(covariate, other))
        return varied


def is_exact(feature: Feature) -> bool:
    """Whether a feature gives the same bits in any frame that holds its lookback."""
    own = FEATURES.get(feature.name.removeprefix(f"{feature.series}."))
    if own is None:
        return isinstance(feature.compute, Expression)
    return own == replace(feature, name=own.name, series="")


def choose_spans(stages: Stages, read_bars: int) -> list[Span]:
    """Everything, or as much around each boundary of the stages as makes ``read_bars`` bars.

    And before that what longer bars are joined of.
    """
    table, fold = stages.table, stages.fold
    if table.rows <= read_bars:
        return [table.span]
    starts = sorted(start for start, _ in (*fold.train, *fold.val, *unite(fold.test)))[1:]
    reach = read_bars // (2 * len(starts)) * table.interval
    low, high = table.span
    before = reach + count_joined(stages.settings) // table.interval * table.interval
    return unite((max(low, when - before), min(high, when + reach)) for when in starts)


@contextmanager
def open_piece(used: Stages, span: Span, serve: Serve) -> Iterator[Piece]:
    """The candles of some stages in ``span``, and the clean twin on them.

    Raises:
        ConfigError: if they leave a stage without windows.
    """
    with CandleReader(used.settings.candle_path) as reader:
        candles = reader.slice(*span)
    low, high = candles.span
    series = read_series(used.settings, used.table, candles.span)
    cut: dict[Stage, list[Span]] = {
        stage: [
            (max(a, low), min(b, high)) for a, b in used.fold.spans(stage) if a < high > low < b
        ]
        for stage in EVALUATED
    }
    if not cut["train"] and cut["val"]:  # where test begins: the first part of val stands in
        start, end = cut["val"][0]
        interval = used.table.interval
        middle = start + (end - start) // interval // 3 * interval
        cut["train"], cut["val"][0] = [(start, middle)], (middle, end)
    if not cut["train"]:
        raise ConfigError("there is no train near this boundary")
    fold = Fold.of(cut["train"], cut["val"], cut["test"], high)
    with open_twin(used.settings, fold, candles, series, serve) as clean:
        clean.stages.check(clean.server.batch_size)
        yield Piece(used, fold, candles, series, clean, serve)


@contextmanager
def open_twin(
    settings: Settings,
    fold: Fold,
    candles: Candles,
    series: Sequence[Series],
    serve: Serve,
    fitted: Fitted | None = None,
) -> Iterator[Twin]:
    """The stages of some settings on other candles, and what is handed to a model of them.

    Args:
        settings: those under audit.
        fold: the spans of the stages.
        candles: the candles.
        series: those beside them that features name.
        serve: gives the loaders and hooks of the datamodule under audit.
        fitted: statistics to take over; None to fit them anew, as setup does.
    """
    with TemporaryDirectory(prefix="btc-datamodule-audit-", ignore_cleanup_errors=True) as folder:
        here = replace(settings, data_dir=Path(folder), split=_Pinned(fold), start=None, end=None)
        with forgo_sync():
            source = settings.source
            write_series(here.candle_path, candles, source=source.name, series=source.series)
            write_beside(here, series)
            # Not Stages.open, which would find that the train rows are not those fitted on.
            table = Table.open(build(here.candle_path, here.recipe, check=False, recheck=False))
        taken = fit(here, table) if fitted is None else replace(fitted, first=table.first)
        stages = Stages(here, table, taken)
        yield Twin(stages, serve(stages))


class Extent(NamedTuple):
    """The rows that a sample, or a part of it, is made of: [low, high) counted from its origin.

    Attributes:
        low: the first.
        high: the one past the last.
        beside: whether it is made of series beside the candles, too, which may reach further back.
    """

    low: int
    high: int
    beside: bool

    def find_rows(self, stages: Stages, origins: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 2) rows [low, high) of samples, which may lie outside the table."""
        rows = np.stack([origins + self.low, origins + self.high], axis=1)
        table, lookback = stages.table, stages.settings.shape.lookback
        if self.beside and table.has_reach:
            inputs = np.maximum(origins[:, np.newaxis] - np.arange(lookback), 0)
            since = table.pick(REACH, inputs).min(axis=1, initial=NEVER)
            back = np.minimum(since - table.first, table.rows * table.interval) // table.interval
            rows[:, 0] = np.minimum(rows[:, 0], back)
        return rows


def choose_samples(
    stages: Stages, extent: Extent, seed: int, chosen_from: tuple[Stage, ...] = EVALUATED
) -> dict[Stage, NDArray[np.int64]]:
    """Origins (rows) of samples of each stage that share no bar, nor have neighbouring ones.

    The ends of runs first (boundaries of stages, outages), then random ones.

    Args:
        stages: to choose from.
        extent: the rows of a sample.
        seed: of the choice.
        chosen_from: which stages.
    """
    rng = np.random.default_rng(seed)
    guard = max(8, stages.settings.shape.reach)
    taken = np.zeros(stages.table.rows, dtype=np.bool_)
    chosen: dict[Stage, NDArray[np.int64]] = {}
    for stage in np.roll(chosen_from, -seed).tolist():
        origins = stages.windows(stage).origins
        if not len(origins):
            continue
        ends = rng.permutation(np.concatenate([origins.starts[:-1], origins.starts[1:] - 1]))
        last = np.array([len(origins) - 1, 0])
        tried = np.concatenate([last, ends[:SAMPLES], rng.integers(0, len(origins), SAMPLES)])
        free: list[int] = []
        rows = origins[tried]
        extents = (extent.find_rows(stages, rows) + np.array([-guard, guard])).clip(0)
        for row, (low, high) in zip(rows.tolist(), extents.tolist(), strict=True):
            around = slice(low, high)
            if len(free) < SAMPLES and not taken[around].any():
                taken[around] = True
                free.append(row)
        if free:
            chosen[stage] = np.array(free, dtype=np.int64)
    return chosen
