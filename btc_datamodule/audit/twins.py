"""Twins: the whole way of a datamodule again, on candles in which some bars are changed.

What the audit and tests of leakage are made of. A ``Piece`` is a stretch of the stored candles
with the fold cut to it; a ``Twin`` are the stages of the same settings on such candles, their
files in a temporary folder that is removed in any case and their fold pinned, so that boundaries
stay where they are; and what a Trainer would hand to a model of them. Changed bars have other
values, some are taken out, and some are put in where there were none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.handing import Serve, Twin
from btc_datamodule.candles.runs import Mask, find_runs, mark_runs
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, unite
from btc_datamodule.disk.atomic import forgo_sync
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.evaluation.splits import Fold, Split, Stage
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import FEATURES
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.language import Expression
from btc_datamodule.features.table import Table
from btc_datamodule.features.varying import MILD, STRONG, change_bars
from btc_datamodule.settings import Settings
from btc_datamodule.stages import Stages, fit
from btc_datamodule.store.candle_file import CandleReader, write_series

SAMPLES = 256
"""Samples of a stage that are taken out of their surroundings together, at most."""

EVALUATED: tuple[Stage, ...] = ("train", "val", "test")

HOLES = 0.03
"""Share of the bars that may change at which a hole begins in a twin."""


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
        clean: the twin on these very candles.
        serve: gives what a Trainer would hand to a model of other stages.
        origins: those of stages that have been listed so far; see ``recount.list_origins``.
    """

    used: Stages
    fold: Fold
    candles: Candles
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

        Args:
            rows: which may be others.
            fitted: statistics to take over; None to fit them anew.
            holes: whether there are more candles, and fewer, too; else all have other values.
        """
        strength = STRONG if self.exact.all() else MILD
        if holes:
            candles = vary_candles(self.candles, strength, rows, self.settings.max_fill)
        else:
            columns = change_bars(self.candles.columns, strength, rows[self.present])
            candles = Candles(self.candles.interval, columns)
        serve = self.serve if fitted is None else partial(self.serve, fitted=self.clean.server)
        with open_twin(self.used.settings, self.fold, candles, serve, fitted) as twin:
            yield twin


def is_exact(feature: Feature) -> bool:
    """Whether a feature gives the same bits in any frame that holds its lookback."""
    own = FEATURES.get(feature.name.removeprefix(f"{feature.series}."))
    if own is None:
        return isinstance(feature.compute, Expression)
    return own == replace(feature, name=own.name, series="")


def mark_candles(candles: Candles) -> Mask:
    """(T,) which rows of their grid have a candle, from the first one to the last."""
    rows = (candles.open_time - candles.open_time[0]) // candles.interval
    return np.bincount(rows) > 0


def vary_candles(candles: Candles, strength: float, rows: Mask, max_fill: int) -> Candles:
    """Candles with other ones in some rows of their grid, fewer there and more.

    Args:
        candles: as they are.
        strength: of the change of values; see ``change_bars``.
        rows: (T,) which rows of the grid, from the first candle to the last, may change. The first
            and the last candle stay in any case, so that the grid does.
        max_fill: holes are made shorter than, as long as and longer than this.
    """
    present, rng = mark_candles(candles), np.random.default_rng(0)
    marked = np.flatnonzero(rows)
    # Every other stretch begins with a hole, at a wall for instance.
    starts = np.concatenate(
        [marked[rng.uniform(size=len(marked)) < HOLES], find_runs(rows)[::2, 0]]
    )
    lengths = rng.integers(1, max_fill + 3, len(starts))
    gone = rows & mark_runs(np.stack([starts, starts + lengths], axis=1), 0, len(rows))
    added = rows & ~present & (rng.uniform(size=len(rows)) < 1 / 2)  # of holes: a half
    kept = (present & ~gone) | added
    kept[[0, -1]] = True
    at = np.flatnonzero(kept)
    before = np.cumsum(present)[at] - 1  # a new bar begins as the one before it
    columns = {name: values[before] for name, values in candles.columns.items()}
    changed = change_bars(columns, strength, rows[at])
    times = candles.open_time[0] + at * candles.interval
    return Candles(candles.interval, {**changed, "open_time": times})


def choose_spans(stages: Stages, read_bars: int) -> list[Span]:
    """Everything, or as much around each boundary of the stages as makes ``read_bars`` bars."""
    table, fold = stages.table, stages.fold
    if table.rows <= read_bars:
        return [table.span]
    starts = sorted(start for start, _ in (*fold.train, *fold.val, *unite(fold.test)))[1:]
    reach = read_bars // (2 * len(starts)) * table.interval
    low, high = table.span
    return unite((max(low, when - reach), min(high, when + reach)) for when in starts)


@contextmanager
def open_piece(used: Stages, span: Span, serve: Serve) -> Iterator[Piece]:
    """The candles of some stages in ``span``, and the clean twin on them.

    Raises:
        ConfigError: if they leave a stage without windows.
    """
    with CandleReader(used.settings.candle_path) as reader:
        candles = reader.slice(*span)
    low, high = candles.span
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
    with open_twin(used.settings, fold, candles, serve) as clean:
        clean.stages.check(clean.server.batch_size)
        yield Piece(used, fold, candles, clean, serve)


@contextmanager
def open_twin(
    settings: Settings,
    fold: Fold,
    candles: Candles,
    serve: Serve,
    fitted: Fitted | None = None,
) -> Iterator[Twin]:
    """The stages of some settings on other candles, and what is handed to a model of them.

    Args:
        settings: those under audit.
        fold: the spans of the stages.
        candles: the candles.
        serve: gives the loaders and hooks of the datamodule under audit.
        fitted: statistics to take over; None to fit them anew, as setup does.
    """
    with TemporaryDirectory(prefix="btc-datamodule-audit-", ignore_cleanup_errors=True) as folder:
        here = replace(settings, data_dir=Path(folder), split=_Pinned(fold), start=None, end=None)
        with forgo_sync():
            source = settings.source
            write_series(here.candle_path, candles, source=source.name, series=source.series)
            # Not Stages.open, which would find that the train rows are not those fitted on.
            table = Table.open(build(here.candle_path, here.recipe, check=False))
        stages = Stages(here, table, fit(here, table) if fitted is None else fitted)
        yield Twin(stages, serve(stages))


def choose_samples(
    stages: Stages, extent: tuple[int, int], seed: int, chosen_from: tuple[Stage, ...] = EVALUATED
) -> dict[Stage, NDArray[np.int64]]:
    """Origins (rows) of samples of each stage that share no bar, nor have neighbouring ones.

    The ends of runs first (boundaries of stages, outages), then random ones.

    Args:
        stages: to choose from.
        extent: the rows of a sample, [low, high) counted from its origin.
        seed: of the choice.
        chosen_from: which stages.
    """
    rng = np.random.default_rng(seed)
    guard = max(8, stages.settings.shape.reach)
    low, high = extent[0] - guard, extent[1] + guard
    taken = np.zeros(stages.table.rows + high - low, dtype=np.bool_)
    chosen: dict[Stage, NDArray[np.int64]] = {}
    for stage in np.roll(chosen_from, -seed).tolist():
        origins = stages.windows(stage).origins
        if not len(origins):
            continue
        ends = rng.permutation(np.concatenate([origins.starts[:-1], origins.starts[1:] - 1]))
        last = np.array([len(origins) - 1, 0])
        tried = np.concatenate([last, ends[:SAMPLES], rng.integers(0, len(origins), SAMPLES)])
        free: list[int] = []
        for row in origins[tried].tolist():
            around = slice(max(0, row + low), max(0, row + low) + high - low)
            if len(free) < SAMPLES and not taken[around].any():
                taken[around] = True
                free.append(row)
        if free:
            chosen[stage] = np.array(free, dtype=np.int64)
    return chosen
