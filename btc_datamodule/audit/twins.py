"""Twins: a datamodule's whole way again, on candles in which some bars have other values.

What the audit and tests of leakage are made of. A ``Piece`` is a stretch of the stored candles
with the fold cut to it; a *twin* is the datamodule under audit on such candles, its files in a
temporary folder that is removed in any case and its fold pinned, so that boundaries stay where
they are. A source is never asked. ``same`` says whether two twins agree.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, format_instant, union
from btc_datamodule.errors import BTCDataError, ConfigError
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.evaluation.splits import Fold, Split, Stage
from btc_datamodule.features.build import build
from btc_datamodule.features.causality import changed
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.table import Table
from btc_datamodule.store.candle_file import CandleReader, write_candles
from btc_datamodule.windows.dataset import Batch

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule


ROUNDING = 1e-5
"""What such rounding may come to, beside a float32 value and beside the spread of its column."""

WINDOW_BYTES = 1 << 28
"""Windows of a stage that are compared, in bytes; those at the ends of runs come on top."""

SAMPLES = 256
"""Samples of a stage that are taken out of their surroundings together, at most."""

EVALUATED: tuple[Stage, ...] = ("train", "val", "test")


class LeakError(BTCDataError):
    """Something depends on bars that it must not see; the message says what and where."""


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
        data: the datamodule under audit.
        fold: its fold, cut to this stretch.
        candles: the candles.
        clean: the twin on these very candles, set up.
    """

    data: "BTCDataModule"
    fold: Fold
    candles: Candles
    clean: "BTCDataModule"

    @property
    def times(self) -> NDArray[np.int64]:
        """(T,) open times of the rows."""
        first, interval = self.clean.table.first, self.clean.interval
        return first + interval * np.arange(self.clean.table.rows, dtype=np.int64)

    @cached_property
    def bars(self) -> dict[str, NDArray[np.float64]]:
        """The columns of the rows, as features see them."""
        with CandleReader(self.clean.candle_path) as reader:
            grid = Grid.of(reader, self.candles.span, self.data.max_fill)
            return grid.bars(reader, 0, grid.rows)

    def row_of(self, instant: int) -> int:
        """The row that opens at an instant, or the nearest end of the rows."""
        return min(max(0, self.clean.table.row_of(instant)), self.clean.table.rows)

    @contextmanager
    def twin(
        self, rows: Mask, strength: float, fitted: Fitted | None = None
    ) -> Iterator["BTCDataModule"]:
        """A twin with other values in the candles that ``rows`` marks; see ``twin_of``."""
        columns = changed(self.candles.columns, strength, rows)
        candles = Candles(self.candles.interval, columns)
        with twin_of(self.data, self.fold, candles, fitted) as twin:
            yield twin


def where_to_look(data: "BTCDataModule", bars: int) -> list[Span]:
    """Everything, or as much around each boundary of the stages as makes ``bars`` bars."""
    table, fold = data.table, data.fold
    if table.rows <= bars:
        return [table.span]
    starts = sorted(start for start, _ in (*fold.train, *fold.val, *union(fold.test)))[1:]
    reach = bars // (2 * len(starts)) * table.interval
    low, high = table.span
    return union((max(low, when - reach), min(high, when + reach)) for when in starts)


@contextmanager
def piece_of(data: "BTCDataModule", span: Span) -> Iterator[Piece]:
    """The candles of a datamodule in ``span``, and the clean twin on them.

    Raises:
        ConfigError: if they leave a stage without windows.
    """
    with CandleReader(data.candle_path) as reader:
        candles = reader.slice(*span)
    low, high = candles.span
    cut: dict[Stage, list[Span]] = {
        stage: [
            (max(a, low), min(b, high)) for a, b in data.fold.spans(stage) if a < high > low < b
        ]
        for stage in EVALUATED
    }
    if not cut["train"] and cut["val"]:  # where test begins: the first part of val stands in
        start, end = cut["val"][0]
        middle = start + (end - start) // data.interval // 3 * data.interval
        cut["train"], cut["val"][0] = [(start, middle)], (middle, end)
    if not cut["train"]:
        raise ConfigError("there is no train near this boundary")
    fold = Fold.of(cut["train"], cut["val"], cut["test"], high)
    with twin_of(data, fold, candles) as clean:
        yield Piece(data, fold, candles, clean)


@contextmanager
def twin_of(
    data: "BTCDataModule", fold: Fold, candles: Candles, fitted: Fitted | None = None
) -> Iterator["BTCDataModule"]:
    """The same datamodule on other candles, set up.

    It runs in this process, without the ``transform``, which sees nothing but batches, and
    gathers on the host.

    Args:
        data: the datamodule.
        fold: the spans of its stages.
        candles: the candles.
        fitted: statistics to take over; None to fit them anew, as setup does.
    """
    twin = copy(data)
    with TemporaryDirectory(prefix="btc-datamodule-audit-", ignore_cleanup_errors=True) as folder:
        plain = {"trainer": None, "transform": None, "num_workers": 0, "pin_memory": False}
        host = {"gather": "host", "_device_gather": None}
        bare = {"start": None, "end": None, "_table": None, "_verified_key": None}
        here = {"data_dir": Path(folder), "split": _Pinned(fold), "_fitted": fitted}
        for settings in (plain, host, bare, here):
            vars(twin).update(settings)
        write_candles(
            twin.candle_path,
            [candles],
            source=data.source.name,
            series=data.source.series,
            interval=candles.interval,
            columns=candles.columns,
            covered=[candles.span],
            revision="",
            provenance=[],
            compress=False,
        )
        path = build(twin.candle_path, twin.recipe)
        if fitted is None:
            twin.setup()
        else:  # setup would find that the train rows are not those that were fitted on
            twin._table = Table.open(path)
        yield twin


def same(
    what: str,
    one: NDArray[Any],
    other: NDArray[Any],
    when: NDArray[np.int64],
    *,
    exact: bool = True,
) -> None:
    """Raise ``LeakError`` unless two arrays agree: bit for bit, or up to rounding.

    Args:
        what: what they are, for the message.
        one: (n, ...) as it is.
        other: likewise, after bars were changed that it must not depend on.
        when: (n,) the time of each item, for the message.
        exact: False to allow for rounding of floats.
    """
    if one.shape != other.shape:
        raise LeakError(f"{what}: shape {one.shape} becomes {other.shape}")
    if not one.size:
        return
    if exact or one.dtype.kind != "f":
        bits = (np.ascontiguousarray(each).view(np.uint8) for each in (one, other))
        differs = np.not_equal(*(each.reshape(len(one), -1) for each in bits))
    else:
        columns = (each.reshape(-1, each.shape[-1]).astype(np.float64) for each in (one, other))
        mine, theirs = columns
        spread = np.nanstd(mine, axis=0)
        differs = ~np.isclose(theirs, mine, ROUNDING, ROUNDING * spread, equal_nan=True)
        differs = differs.reshape(len(one), -1)
    bad = np.flatnonzero(differs.any(axis=1))
    if len(bad):
        at = format_instant(when[bad[0]])
        raise LeakError(f"{what} changes in {len(bad):,} of {len(one):,}, the first at {at}")


def some_windows(data: "BTCDataModule", stage: Stage) -> Iterator[Batch]:
    """Batches of a stage's loader, ``WINDOW_BYTES`` of them, then the windows at ends of runs."""
    dataset = data.dataset(stage)
    size = data.lookback * (4 * data.n_features + 1) + 8
    most = max(1, WINDOW_BYTES // (data.batch_size * size))
    yield from islice(getattr(data, f"{stage}_dataloader")(), most)
    starts = dataset.origins.starts
    edges = np.concatenate([starts + shift for shift in range(-4, 4)])
    edges = np.unique(edges[(edges >= 0) & (edges < len(dataset))])
    for low in range(0, min(len(edges), most * data.batch_size), data.batch_size):
        yield dataset[edges[low : low + data.batch_size]]


def apart(data: "BTCDataModule", extent: tuple[int, int], seed: int) -> dict[Stage, NDArray[Any]]:
    """Positions of samples of each stage that have no bar in common, nor a neighbouring one.

    The ends of runs first (boundaries of stages, outages), then random ones.

    Args:
        data: set up.
        extent: the rows of a sample, [low, high) counted from its origin.
        seed: of the choice.
    """
    rng = np.random.default_rng(seed)
    guard = max(8, data.shape.reach)
    low, high = extent[0] - guard, extent[1] + guard
    taken = np.zeros(data.table.rows + high - low, dtype=np.bool_)
    chosen: dict[Stage, NDArray[Any]] = {}
    for stage in np.roll(EVALUATED, -seed).tolist():
        origins = data.dataset(stage).origins
        if not len(origins):
            continue
        ends = rng.permutation(np.concatenate([origins.starts[:-1], origins.starts[1:] - 1]))
        last = np.array([len(origins) - 1, 0])
        tried = np.concatenate([last, ends[:SAMPLES], rng.integers(0, len(origins), SAMPLES)])
        free: list[int] = []
        for position, start in zip(tried, (origins[tried] + low).clip(0), strict=True):
            if len(free) < SAMPLES and not taken[start : start + high - low].any():
                taken[start : start + high - low] = True
                free.append(int(position))
        if free:
            chosen[stage] = np.array(free, dtype=np.int64)
    return chosen
