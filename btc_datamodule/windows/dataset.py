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
from btc_datamodule.windows.batch import Batch, Transform, apply_transform
from btc_datamodule.windows.blocks import BatchRequest
from btc_datamodule.windows.buffers import BufferPool
from btc_datamodule.windows.mapped import Mapped, map_rows
from btc_datamodule.windows.overlapping import split_alone, split_apart
from btc_datamodule.windows.positions import Index, read_positions
from btc_datamodule.windows.sampler import Positions

SCALED_AHEAD_BYTES = 1 << 28
"""Up to this size (256 MiB, 11 million rows of 6 features) a process keeps its rows scaled."""

INPUT_BYTES = 1 << 18
"""Of ``x`` that is gathered at once for several small batches: more would leave the cache."""

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
        size = (self.shape.lookback, len(self.table.features))
        ends: NDArray[np.int64] = np.array([0, -1]) % max(1, len(self))
        times = self.table.first + self.origins[ends] * self.table.interval if len(self) else ends
        span = f", origins {' to '.join(map(format_instant, times))}" if len(self) else ""
        return f"WindowDataset({len(self):,} windows: x {size}, y {shape}{span})"

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
        (batch,) = self._gather(self.origins[self.resolve_positions(index)], [len(index)])
        if single:
            batch = Batch(*(field[0] for field in batch))
        return batch if self.transform is None else apply_transform(self.transform, batch)

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """The shape of one sample's ``observed``: (L,), or with ``mask`` feature (L, F)."""
        by_feature = self.table.mask == "feature"
        return (self.shape.lookback, *[len(self.table.features)] * by_feature)

    def gather_several(self, requests: Sequence[Positions]) -> Iterator[Batch]:
        """What ``dataset[request]`` gives for each of some requests, in less time for small ones.

        Each batch can be written into and kept by itself. Their inputs are gathered, and the
        transform is called, as each is asked for.
        """
        parts = []
        for request in requests:
            if isinstance(request, BatchRequest):
                self.read_ahead(request.ahead)
            parts.append(request.positions if isinstance(request, BatchRequest) else request)
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        origins = self.origins[self.resolve_positions(joined)]
        batches = self._gather(origins, list(map(len, parts)))
        if self.transform is None:
            return batches
        return (apply_transform(self.transform, batch) for batch in batches)

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

    def _gather(self, origins: NDArray[np.int64], lengths: Sequence[int]) -> Iterator[Batch]:
        """The samples of some origins (rows), as batches of some lengths, each apart from others.

        Inputs are gathered as they are asked for, up to ``INPUT_BYTES`` of them at once; all else
        of all batches at once.
        """
        views, bars = self._get_views(), self.shape.lookback
        first = origins - (bars - 1)
        views.inputs.check(first, bars)
        y, times = self.gather_outputs(origins)
        observed = self._gather_observed(views, first)
        if len(lengths) == 1:
            yield Batch(self._gather_x(views, first, observed), y, observed, times)
            return
        others = zip(*(split_apart(field, lengths) for field in (y, observed, times)), strict=True)
        taken = 4 * views.x.tensor.shape[1] * max(lengths)
        # Of pinned memory torch waits for transfers of what it has allocated, of no part of that.
        apart = taken % LINE_BYTES or self.buffers.pinned
        count = 1 if apart else max(1, INPUT_BYTES // taken)
        low = 0
        for at in range(0, len(lengths), count):
            some = lengths[at : at + count]
            part = slice(low, low := low + sum(some))
            if at and not views.scaled:  # they are read from the file, and only now
                views.inputs.check(first[part], bars)
            x = self._gather_x(views, first[part], observed[part])
            for each in split_apart(x, some):
                yield Batch(each, *next(others))

    def _gather_observed(self, views: Mapped, first: NDArray[np.int64]) -> Tensor:
        """``Batch.observed`` of windows that begin at rows ``first``."""
        size = (len(first), *self.mask_shape)
        # Made anew for each batch, though all may be alike: whoever gets one may write into it.
        seen = np.ones(size, np.bool_) if self.complete else views.observed.copy(first)
        return torch.from_numpy(seen.view(np.bool_).reshape(size))

    def _gather_x(self, views: Mapped, first: NDArray[np.int64], observed: Tensor) -> Tensor:
        """``Batch.x`` of windows that begin at rows ``first``."""
        x = self.buffers.select(views.x, first - views.first if views.first else first)
        bars = self.shape.lookback
        x = x.view(len(first), bars, views.x.tensor.shape[1] // bars)
        if not views.scaled and self.scaler.method == "window":
            self._scale_(x, observed)
        elif not views.scaled:
            for part in split_alone(x, observed):
                self._scale_(*part)
        if self.dtype != x.dtype:
            x = self.buffers.convert(x.flatten(1), self.dtype).view(x.shape)
        return x.data  # to autograd a view of nothing

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
