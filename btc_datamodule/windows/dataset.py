"""Windows: the gather from the mapped feature file, and the dataset around it.

A batch is copied from a view of the rows in which each window is an item of its own, so that every
window is one memcpy, by one thread or several (``overlapping``). Nothing is done per sample. The
rows are the mapped feature file, scaled after the gather, in place; or, where the rows of the stage
take no more than ``SCALED_AHEAD_BYTES``, a copy of them that each process scales once. The values
are the same, bit for bit: the copy only saves scaling each row again in each window that has it,
which costs a third to a half of the gather (``benchmarks/overhead.py``).
"""

import os
from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.origins import Origins, SampleShape
from btc_datamodule.evaluation.scaling import Scaler
from btc_datamodule.evaluation.targets import IGNORED, Target, to_numbers
from btc_datamodule.features.table import Table
from btc_datamodule.public import public
from btc_datamodule.windows.batch import Batch, Described, Transform, apply_transform, make_batch
from btc_datamodule.windows.blocks import BatchRequest, Run
from btc_datamodule.windows.buffers import BufferPool
from btc_datamodule.windows.mapped import Mapped, map_rows
from btc_datamodule.windows.overlapping import split_alone, split_apart
from btc_datamodule.windows.positions import Index, read_positions

SCALED_AHEAD_BYTES = 1 << 28
"""Up to this size (256 MiB, 11 million rows of 6 features) a process keeps its rows scaled."""

INPUT_BYTES = 1 << 20
"""Of ``x`` that is gathered at once for several small batches, 1 MiB: the Python between two
gathers runs cold, and takes twice as long as alone; more would leave the cache."""

LINE_BYTES = 64
"""Small batches lie as many lines of the cache apart, or each by itself: what a matrix product of
few rows gives hangs, in the last bit, on where in a line its rows begin."""

TARGET_BYTES = 1 << 24
"""Bars of targets, float64, that are gathered at once for statistics."""


@public
class WindowDataset(Dataset[Batch]):
    """Windows of one stage, read from the feature file on demand.

    ``dataset[i]`` is one sample; ``dataset[positions]`` with several positions is a whole batch in
    one gather. Holds no file handle: it can be pickled, forked and spawned, and each process
    maps the file for itself.

    Args:
        table: the feature file.
        origins: the origins of the stage.
        shape: extent of a sample.
        target: makes ``y`` of the bars of a sample.
        scaler: applied to ``x``.
        target_scaler: applied to ``y``, along its last axis; None to leave ``y`` unscaled.
        complete: whether all of every input bar of every origin is known to be observed.
        transform: called with every batch (or sample) that is handed out.
        ahead_bytes: up to this size the rows are scaled once, and kept by each process.
        dtype: of ``x``, torch.float32 or torch.bfloat16: what float32 gave, rounded.
    """

    def __init__(
        self,
        table: Table,
        origins: Origins,
        shape: SampleShape,
        target: Target,
        scaler: Scaler,
        *,
        target_scaler: Scaler | None = None,
        complete: bool = False,
        transform: Transform | None = None,
        ahead_bytes: int = SCALED_AHEAD_BYTES,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.table = table
        self.origins = origins
        self.shape = shape
        self.target = target
        self.scaler = scaler
        self.target_scaler = target_scaler
        self.complete = complete
        self.transform = transform
        self.ahead_bytes = ahead_bytes
        self.dtype = dtype
        self._views: tuple[int, Mapped] | None = None
        self.buffers = BufferPool()

    def __len__(self) -> int:
        return len(self.origins)

    def __repr__(self) -> str:
        shape = self.target.shape(self.shape.horizon)
        ends: NDArray[np.int64] = np.array([0, -1]) % max(1, len(self))
        times = self.table.first + self.origins[ends] * self.table.interval if len(self) else ends
        span = f", origins {' to '.join(map(format_instant, times))}" if len(self) else ""
        return f"WindowDataset({len(self):,} windows: x {self.input_shape}, y {shape}{span})"

    def __getitem__(self, index: Index | BatchRequest) -> Batch:
        """One sample for a whole number, a batch for several positions or a ``BatchRequest``.

        Several are a slice, a list or an array (n,) of whole numbers, or a mask with a bool for
        each window, and mean what they mean to numpy. An int64 array is the fastest.

        Raises:
            IndexError: if a position lies outside [-len, len), or the index is none of these.
        """
        if isinstance(index, BatchRequest):
            self.read_ahead(index.ahead)
            index = index.positions
        single = False
        if type(index) is not np.ndarray or index.dtype != np.int64 or index.ndim != 1:
            index, single = read_positions(index, len(self))
        (batch,) = self._gather(self.origins[self.resolve_positions(index)], 1)
        if single:
            batch = Batch(*(field[0] for field in batch))
        return batch if self.transform is None else apply_transform(self.transform, batch)

    @property
    def input_shape(self) -> tuple[int, int]:
        """The shape of one sample's ``x``: (L, F)."""
        return self.shape.lookback, len(self.table.features)

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """The shape of one sample's ``observed``: (L,), or with ``mask`` feature (L, F)."""
        by_feature = self.table.mask == "feature"
        return self.input_shape if by_feature else self.input_shape[:1]

    def describe(self, length: int) -> list[Described]:
        """Type and shape of each field of a batch, as far as no transform changes it."""
        kind = torch.float32 if self.target.n_classes is None else torch.int64
        return [
            (self.dtype, (length, *self.input_shape)),
            (kind, (length, *self.target.shape(self.shape.horizon))),
            (torch.bool, (length, *self.mask_shape)),
            (torch.int64, (length,)),
        ]

    def may_join(self, length: int) -> bool:
        """Whether the inputs of batches of ``length`` windows may follow each other in memory."""
        return length * prod(self.input_shape) * self.dtype.itemsize % LINE_BYTES == 0

    def gather_run(self, run: Run) -> Iterator[Batch]:
        """The batches of a run, in less time than one by one where they are small.

        Each can be written into and kept by itself. Their inputs are gathered, and the transform is
        called, as each is asked for.
        """
        batches = self._gather(self._find_origins(run), len(run))
        if self.transform is None:
            return batches
        return map(partial(apply_transform, self.transform), batches)

    def gather_joined(self, run: Run, made: Batch) -> None:
        """Write the batches of a run, without the transform, into memory as one batch.

        Args:
            run: n batches of B windows.
            made: has the shapes and types of n * B windows, in tensors that are contiguous.
        """
        views = self._get_views()
        first, *others = self._gather_others(views, self._find_origins(run))
        rows = made.x.flatten(1)
        as_it_is = None if self.dtype != torch.float32 else rows
        x = self.buffers.select(views.x, first - views.first, as_it_is)
        self._finish_x(views, x, others[1], rows)
        for source, place in zip(others, made[1:], strict=True):
            place.copy_(source)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_views": None, "buffers": BufferPool()}

    def gather_outputs(self, origins: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """``Batch.y`` and ``Batch.origin_time`` of some origins (rows)."""
        y = torch.from_numpy(self._compute_targets(self._get_views(), origins))
        if self.target_scaler is not None:
            self.target_scaler.apply_(y)
        times = origins * self.table.interval
        times += self.table.first
        return y, torch.from_numpy(times)

    def without_inputs(self) -> "WindowDataset":
        """The same windows for who asks for no inputs: none are scaled ahead."""
        other = copy(self)
        other.ahead_bytes, other._views = 0, None
        return other

    def compute_targets(self, origins: NDArray[np.int64]) -> NDArray[np.float64]:
        """Targets of some origins (rows), not scaled: (n, *target shape), NaN where not known."""
        return to_numbers(self._make_targets(self._get_views(), origins))

    def scale_rows(self, low: int, high: int) -> NDArray[np.float32]:
        """Rows [low, high) of ``x`` scaled, and 0 where not observed: (high - low, F) float32.

        For any method of scaling but "window".
        """
        rows, table = slice(low, high), self.table
        x = self.scaler.apply_(torch.from_numpy(np.array(table.read("x", rows)))).numpy()
        if table.is_flagged:
            x[np.isnan(x)] = 0
        x[table.read("observed", rows) == 0] = 0
        return x

    def read_ahead(self, spans: Sequence[tuple[int, int]], *, inputs: bool = True) -> None:
        """Have the rows of some spans of positions read from disk in the background.

        Args:
            spans: half-open.
            inputs: whether the rows of ``x`` too, and not only the bars of the targets.
        """
        if not spans or self._get_views().scaled:  # they are in memory already
            return
        names = self.target.columns
        if inputs:
            names = ("x", *names) if self.complete else ("x", "observed", *names)
        for start, end in spans:
            first, last = self.origins[np.array([start, end - 1], dtype=np.int64)].tolist()
            low, high = first - self.shape.lookback + 1, last + self.shape.reach
            self.table.read_ahead(low, high, names)

    def resolve_positions(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions counted from 0 on; negative ones count from the end.

        Raises:
            IndexError: if a position lies outside [-len, len).
        """
        size = len(self)
        # One pass finds either fault: taken for unsigned, a negative number is huge.
        if positions.size and positions.view(np.uint64).max() >= size:
            if positions.min() < -size or positions.max() >= size:
                outside = positions[(positions < -size) | (positions >= size)][0]
                raise IndexError(f"position {outside} lies outside a dataset of {size} windows")
            return positions % size
        return positions

    def _find_origins(self, run: Run) -> NDArray[np.int64]:
        """The origins (rows) of a run, whose rows begin to be read ahead."""
        for spans in run.ahead or ():
            self.read_ahead(spans)
        return self.origins[self.resolve_positions(run.positions.reshape(-1))]

    def _gather(self, origins: NDArray[np.int64], count: int) -> Iterator[Batch]:
        """The samples of some origins (rows), as ``count`` batches of one length, each apart.

        Inputs are gathered as they are asked for, up to ``INPUT_BYTES`` of them at once; all else
        of all batches at once.
        """
        views = self._get_views()
        first, y, observed, times = self._gather_others(views, origins)
        others = [split_apart(field, count) for field in (y, observed, times)]
        starts = first - views.first if views.first else first
        length = len(origins) // count
        # Of pinned memory torch waits for transfers of what it has allocated, of no part of that.
        joined = self.may_join(length) and not self.buffers.pinned
        taken = views.x.items.itemsize * length
        step = max(1, INPUT_BYTES // max(1, taken)) if joined else 1
        for at in range(0, count, step):
            some = min(step, count - at)
            part = slice(at * length, (at + some) * length)
            if at and not views.scaled:  # they are read from the file, and only now
                views.inputs.check(first[part], self.shape.lookback)
            x = self._gather_x(views, starts[part], observed, part, some)
            yield from map(make_batch, zip(x, *others, strict=False))

    def _gather_others(
        self, views: Mapped, origins: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Tensor, Tensor, Tensor]:
        """The first rows of the windows of some origins, once checked, and all fields but ``x``."""
        first = origins - (self.shape.lookback - 1)
        views.inputs.check(first, self.shape.lookback)
        y, times = self.gather_outputs(origins)
        return first, y, self._gather_observed(views, first), times

    def _gather_observed(self, views: Mapped, first: NDArray[np.int64]) -> Tensor:
        """``Batch.observed`` of windows that begin at rows ``first``."""
        size = (len(first), *self.mask_shape)
        # Made anew for each batch, though all may be alike: whoever gets one may write into it.
        seen = np.ones(size, np.bool_) if self.complete else views.observed.copy(first)
        return torch.from_numpy(seen.view(np.bool_).reshape(size))

    def _gather_x(
        self, views: Mapped, starts: NDArray[np.int64], seen: Tensor, part: slice, count: int
    ) -> Iterator[Tensor]:
        """``Batch.x`` of some windows, as ``count`` batches of one length.

        Args:
            views: the rows.
            starts: the first row of each window, among those of ``views.x``.
            seen: ``Batch.observed`` of these windows and of others.
            part: says which are of these.
            count: of batches.
        """
        if views.scaled and self.dtype == torch.float32 and self.buffers.is_small(views.x, starts):
            # Nothing else is to be done: what is not called has no need of the processor's cache.
            rows = views.x.items[starts].view(np.float32)
            return map(torch.from_numpy, rows.reshape(count, -1, *self.input_shape))
        x = self._finish_x(views, self.buffers.select(views.x, starts), seen[part])
        return split_apart(x.data, count)  # to autograd a view of nothing

    def _finish_x(
        self, views: Mapped, rows: Tensor, seen: Tensor, made: Tensor | None = None
    ) -> Tensor:
        """``Batch.x`` of windows as they were gathered, (n, L * F) float32.

        Args:
            views: the rows.
            rows: the windows; scaled in place.
            seen: ``Batch.observed``.
            made: (n, L * F), where to write another type; None for memory of its own.
        """
        x = rows.view(len(rows), *self.input_shape)
        if not views.scaled and self.scaler.method == "window":
            self._scale_(x, seen)
        elif not views.scaled:
            for some in split_alone(x, seen):
                self._scale_(*some)
        if self.dtype != x.dtype:
            x = self.buffers.convert(rows, self.dtype, made).view(x.shape)
        return x

    def _scale_(self, x: Tensor, observed: Tensor) -> None:
        """Scale windows in place, and set what was not observed to 0."""
        self.scaler.apply_(x, None if self.complete else observed)
        if self.table.is_flagged:
            torch.nan_to_num_(x)
        if not self.complete and not observed.numpy().all():
            x.masked_fill_(
                ~(observed if x.dim() == observed.dim() else observed.unsqueeze(-1)), 0.0
            )

    def stream_targets(self) -> Iterator[NDArray[np.float32]]:
        """All targets in order of time, not scaled, as chunks of shape (n, C); NaN left out."""
        for y in self._stream_chunks():
            rows = y.reshape(-1, y.shape[-1])
            yield rows[np.isfinite(rows).all(axis=1)].astype(np.float32, copy=False)

    def count_classes(self, n_classes: int) -> NDArray[np.int64]:
        """(n_classes,) how often each class is a target, or a part of it; unknown ones not."""
        counts = np.zeros(n_classes, dtype=np.int64)
        for y in self._stream_chunks():
            counts += np.bincount(y[y != IGNORED].astype(np.int64), minlength=n_classes)
        return counts

    def stream_origins(self) -> Iterator[NDArray[np.int64]]:
        """All origins (rows) in order of time, as many at a time as ``TARGET_BYTES`` of bars."""
        each = (self.shape.reference_bars + self.shape.horizon) * len(self.target.columns) * 8
        count = max(1, TARGET_BYTES // each)
        for low in range(0, len(self), count):
            yield self.origins[np.arange(low, min(low + count, len(self)), dtype=np.int64)]

    def _stream_chunks(self) -> Iterator[NDArray[np.float32] | NDArray[np.int64]]:
        """All targets in order of time, not scaled, (n, *target shape) at a time."""
        for origins in self.stream_origins():
            yield self._compute_targets(self._get_views(), origins)

    def _compute_targets(
        self, views: Mapped, origins: NDArray[np.int64]
    ) -> NDArray[np.float32] | NDArray[np.int64]:
        """(n, *target shape) of some origins, float32; int64 of classes."""
        y = self._make_targets(views, origins)
        if self.target.n_classes is None:
            return y.astype(np.float32)
        return y.astype(np.int64, copy=False)

    def _make_targets(
        self, views: Mapped, origins: NDArray[np.int64]
    ) -> NDArray[np.floating | np.integer]:
        """(n, *target shape) of some origins, as the target makes them.

        Raises:
            ConfigError: if the target gives another shape than it says, no numbers, or no classes
                where it has some.
        """
        y = np.asarray(self.target(self._gather_bars(views, origins)))
        due = (len(origins), *self.target.shape(self.shape.horizon))
        if y.shape != due or y.dtype.kind not in "fiub":
            raise ConfigError(
                f"the target {type(self.target).__name__} gave {y.dtype} of shape {y.shape} for "
                f"{len(origins)} samples: it must give numbers of shape {due}"
            )
        classes = self.target.n_classes
        if classes is None:
            return y
        if y.dtype.kind not in "iu" or ((y != IGNORED) & ((y < 0) | (y >= classes))).any():
            raise ConfigError(
                f"the target {type(self.target).__name__} gave {y.dtype} such as "
                f"{y.reshape(-1)[:5].tolist()}: as it has {classes} classes it must give whole "
                f"numbers from 0 to {classes - 1}, or {IGNORED} where a bar is not known"
            )
        return y

    def _gather_bars(self, views: Mapped, origins: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bars that the targets of some origins are made of: (n, bars, columns) float64.

        NaN where the table does not reach.
        """
        first = origins + (1 + self.shape.gap - self.shape.reference_bars)
        columns, beyond = views.bars, views.beyond
        known = np.clip(first, 0, len(columns[0]) - 1) if beyond else first
        length = self.shape.reference_bars + self.shape.horizon
        views.outputs.check(first, length)
        parts = [column[known].view(np.float64).reshape(-1, length, 1) for column in columns]
        future = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        if beyond:
            at = np.flatnonzero(first != known)
            rows = first[at, np.newaxis] + np.arange(length)
            inside = (rows >= 0) & (rows < self.table.rows)
            for number, name in enumerate(self.target.columns):
                bars = self.table.map(name)[np.where(inside, rows, 0)]
                future[at, :, number] = np.where(inside, bars, np.nan)
        return future

    def _get_views(self) -> Mapped:
        """The rows as this process maps them."""
        if self._views is None or self._views[0] != os.getpid():
            self._views = (os.getpid(), map_rows(self))
        return self._views[1]
