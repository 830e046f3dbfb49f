"""Twins: the whole way of a datamodule again, on candles in which some bars are changed.

What the audit and tests of leakage are made of. A ``Piece`` is a stretch of the stored candles
with the fold cut to it; a ``Twin`` are the stages of the same settings on such candles, their
files in a temporary folder that is removed in any case and their fold pinned, so that boundaries
stay where they are; and what a Trainer would hand to a model of them. A source is never asked.
``compare`` says whether two twins agree.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btc_datamodule.candles.runs import Mask
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, format_instant, unite
from btc_datamodule.errors import BTCDataError, ConfigError, get_first_line
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.evaluation.origins import Origins
from btc_datamodule.evaluation.splits import Fold, Split, Stage
from btc_datamodule.features.build import build
from btc_datamodule.features.causality import change_bars
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.table import Table
from btc_datamodule.settings import Settings
from btc_datamodule.stages import Stages, fit
from btc_datamodule.store.candle_file import CandleReader, write_candles
from btc_datamodule.windows.dataset import WindowDataset

ROUNDING = 1e-5
"""What the rounding of running sums may come to, beside a float32 value and beside the spread of
its column: they carry what they round of bars before along (polars' rolling means)."""

WINDOW_BYTES = 1 << 28
"""Windows of a stage that are compared, in bytes; those at the ends of runs come on top."""

SAMPLES = 256
"""Samples of a stage that are taken out of their surroundings together, at most."""

EVALUATED: tuple[Stage, ...] = ("train", "val", "test")


class LeakError(BTCDataError):
    """Something depends on bars that it must not see; the message says what and where."""


class Server(Protocol):
    """What hands batches to a model: the loaders and hooks of a LightningDataModule, set up."""

    batch_size: int

    def dataset(self, stage: Stage) -> WindowDataset:
        """The windows of a stage."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lightning's hook."""

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Lightning's hook."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lightning's hook."""


Serve = Callable[[Stages], Server]
"""Gives the loaders and hooks of the datamodule under audit over other stages."""


@dataclass(frozen=True)
class _Pinned(Split):
    """A split whose only fold is given."""

    spans: Fold

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        return (self.spans,)


@dataclass(frozen=True, eq=False)
class Twin:
    """Stages, and what a Trainer would hand to a model of them.

    Attributes:
        stages: what each stage may see.
        server: the loaders and hooks over these stages.
    """

    stages: Stages
    server: Server

    def hand_batches(self, stage: Stage) -> Iterator[Any]:
        """The batches of a stage's loader, as the model would get them.

        What is random in them comes out alike for every twin.
        """
        with seed_random_numbers():
            batches = iter(getattr(self.server, f"{stage}_dataloader")())
        for number in count():
            with seed_random_numbers(number):
                batch = next(batches, None)
                if batch is None:
                    return
                handed = self._transfer(batch)
            yield handed

    def hand_samples(self, stage: Stage, rows: NDArray[np.int64], seed: int = 0) -> Any:
        """The samples with their origins at some rows as one batch, as the model would get it."""
        with seed_random_numbers(seed):
            windows = self._take(stage, rows)
            return self._transfer(windows[np.searchsorted(np.unique(rows), rows)])

    def hand_one_by_one(self, stage: Stage, rows: NDArray[np.int64]) -> Iterator[Any]:
        """The samples with their origins at some rows, each as a batch of one."""
        windows = self._take(stage, rows)
        for position in np.searchsorted(np.unique(rows), rows):
            with seed_random_numbers():
                yield self._transfer(windows[np.array([position])])

    def _take(self, stage: Stage, rows: NDArray[np.int64]) -> WindowDataset:
        """The windows of a stage, but with these origins alone, in order of time."""
        windows, each = self.server.dataset(stage), np.unique(rows)
        windows.origins = Origins.of(np.stack([each, each + 1], axis=1), 1)
        return windows

    def _transfer(self, batch: Any) -> Any:
        """What the hooks of batches, and the transfer to a device, make of a batch.

        Raises:
            LeakError: if a hook fails, as one does that asks for its Trainer.
        """
        try:
            batch = self.server.on_before_batch_transfer(batch, 0)
            batch = self.server.transfer_batch_to_device(batch, torch.device("cpu"), 0)
            return self.server.on_after_batch_transfer(batch, 0)
        except BTCDataError:
            raise
        except Exception as error:  # a user's own code, which may raise anything
            raise LeakError(
                "the hooks of batches cannot be checked, as they fail without a Trainer "
                f"({type(error).__name__}: {get_first_line(error)})"
            ) from error


@dataclass(frozen=True, eq=False)
class Piece:
    """A stretch of candles under audit.

    Attributes:
        used: the stages under audit, on all of the candles.
        fold: their fold, cut to this stretch.
        candles: the candles.
        clean: the twin on these very candles.
        serve: gives what a Trainer would hand to a model of other stages.
    """

    used: Stages
    fold: Fold
    candles: Candles
    clean: Twin
    serve: Serve

    @property
    def settings(self) -> Settings:
        """The settings of the twins: those under audit, with files and fold of their own."""
        return self.clean.stages.settings

    @property
    def table(self) -> Table:
        """The feature file of the clean twin."""
        return self.clean.stages.table

    @property
    def times(self) -> NDArray[np.int64]:
        """(T,) open times of the rows."""
        first, interval = self.table.first, self.table.interval
        return first + interval * np.arange(self.table.rows, dtype=np.int64)

    @cached_property
    def bars(self) -> dict[str, NDArray[np.float64]]:
        """The columns of the rows, as features see them."""
        with CandleReader(self.settings.candle_path) as reader:
            grid = Grid.of(reader, self.candles.span, self.settings.max_fill)
            return grid.read_bars(reader, 0, grid.rows)

    def find_row(self, instant: int) -> int:
        """The row that opens at an instant, or the nearest end of the rows."""
        return min(max(0, self.table.find_row(instant)), self.table.rows)

    @contextmanager
    def open_twin(
        self, rows: Mask, strength: float, fitted: Fitted | None = None
    ) -> Iterator[Twin]:
        """A twin with other values in the candles that ``rows`` marks; see ``open_twin``."""
        columns = change_bars(self.candles.columns, strength, rows)
        candles = Candles(self.candles.interval, columns)
        with open_twin(self.used.settings, self.fold, candles, self.serve, fitted) as twin:
            yield twin


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
        write_candles(
            here.candle_path,
            [candles],
            source=settings.source.name,
            series=settings.source.series,
            interval=candles.interval,
            columns=candles.columns,
            covered=[candles.span],
            revision="",
            provenance=[],
            compress=False,
        )
        # Not Stages.open, which would find that the train rows are not those fitted on.
        table = Table.open(build(here.candle_path, here.recipe))
        stages = Stages(here, table, fit(here, table) if fitted is None else fitted)
        yield Twin(stages, serve(stages))


def compare(
    what: str,
    one: NDArray[Any],
    other: NDArray[Any],
    when: NDArray[np.int64] | None,
    *,
    exact: bool = True,
) -> None:
    """Raise ``LeakError`` unless two arrays agree: bit for bit, or up to rounding.

    Args:
        what: what they are, for the message.
        one: (n, ...) as it is.
        other: likewise, after bars were changed that it must not depend on.
        when: (n,) the time of each item, for the message; None where it is not known.
        exact: False to allow for rounding of floats.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        raise LeakError(f"{what}: {one.dtype} {one.shape} becomes {other.dtype} {other.shape}")
    if not one.size:
        return
    one, other = (each.reshape(1) if not each.ndim else each for each in (one, other))
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
        known = when is not None and len(when) == len(one)
        at = format_instant(when[bad[0]]) if known and when is not None else f"item {bad[0]}"
        raise LeakError(f"{what} changes in {len(bad):,} of {len(one):,}, the first at {at}")


def list_arrays(batch: Any, name: str = "") -> dict[str, NDArray[Any]]:
    """The tensors and arrays of a batch by name, whatever a transform or a hook has made of it.

    Those of a dict or a named tuple have their names, those of a tuple or list their numbers.
    """
    if isinstance(batch, Tensor):
        values = batch.detach().cpu()
        half = values.dtype in (torch.bfloat16, torch.float16)
        return {name or "batch": (values.float() if half else values).numpy()}
    if isinstance(batch, np.ndarray):
        return {name or "batch": batch}
    if isinstance(batch, Mapping):
        parts = {str(key): value for key, value in batch.items()}
    elif isinstance(batch, tuple | list):
        names = getattr(batch, "_fields", None) or map(str, range(len(batch)))
        parts = dict(zip(names, batch, strict=True))
    else:
        parts = vars(batch) if hasattr(batch, "__dict__") else {}
    arrays: dict[str, NDArray[Any]] = {}
    for key, value in parts.items():
        arrays |= list_arrays(value, f"{name}.{key}" if name else key)
    return arrays


def sample_windows(twin: Twin, stage: Stage) -> Iterator[dict[str, NDArray[Any]]]:
    """Batches of a stage's loader, ``WINDOW_BYTES`` of them, then the windows at ends of runs."""
    windows, settings = twin.stages.windows(stage), twin.stages.settings
    size = settings.shape.lookback * (4 * settings.n_features + 1) + 8
    batch = twin.server.batch_size
    most = max(1, WINDOW_BYTES // (batch * size))
    yield from map(list_arrays, islice(twin.hand_batches(stage), most))
    starts = windows.origins.starts
    edges = np.concatenate([starts + shift for shift in range(-4, 4)])
    edges = np.unique(edges[(edges >= 0) & (edges < len(windows))])
    for low in range(0, min(len(edges), most * batch), batch):
        rows = windows.origins[edges[low : low + batch]]
        yield list_arrays(twin.hand_samples(stage, rows))


def choose_samples(
    stages: Stages, extent: tuple[int, int], seed: int
) -> dict[Stage, NDArray[np.int64]]:
    """Origins (rows) of samples of each stage that share no bar, nor have neighbouring ones.

    The ends of runs first (boundaries of stages, outages), then random ones.

    Args:
        stages: to choose from.
        extent: the rows of a sample, [low, high) counted from its origin.
        seed: of the choice.
    """
    rng = np.random.default_rng(seed)
    guard = max(8, stages.settings.shape.reach)
    low, high = extent[0] - guard, extent[1] + guard
    taken = np.zeros(stages.table.rows + high - low, dtype=np.bool_)
    chosen: dict[Stage, NDArray[np.int64]] = {}
    for stage in np.roll(EVALUATED, -seed).tolist():
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


@contextmanager
def seed_random_numbers(seed: int = 0) -> Iterator[None]:
    """Have torch, numpy and Python draw the same random numbers; then go on as before."""
    kept = np.random.get_state(), random.getstate()  # noqa: NPY002  # what transforms may use
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(kept[0])  # noqa: NPY002
            random.setstate(kept[1])
