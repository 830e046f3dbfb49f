"""The gather on the accelerator: the rows go there once, and after that only where windows start.

With ``gather: device`` the loaders hand out ``WindowStarts`` in place of batches: the targets and
times of the windows, made on the host as ever, and where each window starts. ``DeviceGather`` makes
a ``Batch`` of them, on the device that the batch is for, bit for bit the one that the host would
have made: the rows are scaled on the host, on their way to the device, and gathering only copies.

Each device holds the rows from the first to the last one that any stage of the fold uses: train
and val take turns, and most rows belong to one of them. Where they do not fit the windows are
gathered on the host after all, from the feature file, in the process that asks for the batch.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from btc_datamodule.candles.runs import Runs
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.origins import Origins
from btc_datamodule.windows.blocks import BatchRequest
from btc_datamodule.windows.dataset import Batch, Transform, WindowDataset, apply_transform
from btc_datamodule.windows.rebuilt import refuse_rebuilt

DEVICE_SHARE = 0.5
"""Of the free memory of a device that rows may take: training needs the rest."""

COPIED_BYTES = 1 << 26
"""Rows that are scaled and copied to a device at once."""


class WindowStarts:
    """A batch of windows whose inputs are still to be gathered.

    Neither a tuple nor a dataclass: a Trainer would look into one for floating-point tensors, to
    convert them to its precision before ``x`` is there.

    Attributes:
        key: which rows a device must hold, as ``DeviceGather.key`` has it.
        rows: (B,) int64, the first row of each window, counted in the rows that a device holds.
        y: as in ``Batch``.
        origin_time: as in ``Batch``.
    """

    def __init__(self, key: str, rows: Tensor, y: Tensor, origin_time: Tensor) -> None:
        self.key = key
        self.rows = rows
        self.y = y
        self.origin_time = origin_time

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in Batch._fields:
                raise ConfigError(
                    f"a batch has no {name} before `transfer_batch_to_device`: with `gather: "
                    "device` it is made there. A Trainer calls it by itself; elsewhere write "
                    "`batch = dm.transfer_batch_to_device(batch, device, 0)`"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def pin_memory(self) -> "WindowStarts":
        """A copy in pinned memory: ``DataLoader(pin_memory=True)`` asks for it."""
        pinned = (tensor.pin_memory() for tensor in (self.rows, self.y, self.origin_time))
        return WindowStarts(self.key, *pinned)


class StartsDataset(Dataset[WindowStarts]):
    """The windows of a stage as ``WindowStarts``.

    Args:
        windows: the windows of the stage.
        first: the origin, a row of the table, of the window that starts at the first row held.
        key: which rows a device must hold, as ``DeviceGather.key`` has it.
    """

    def __init__(self, windows: WindowDataset, first: int, key: str) -> None:
        self.windows = windows
        self.windows.ahead_bytes = 0  # inputs are not gathered here: no process scales a copy
        self.windows.transform = None  # it is done on the device, and loader processes need none
        self.first = first
        self.key = key

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        return f"StartsDataset of {self.windows!r}"

    def __getitem__(self, positions: NDArray[np.int64] | BatchRequest) -> WindowStarts:
        """The windows at some positions, which must lie in [0, len).

        Raises:
            ConfigError: if they are no int64 array: the loader was taken apart.
        """
        if isinstance(positions, BatchRequest):
            self.windows.read_ahead(positions.ahead, inputs=False)
            positions = positions.positions
        if not isinstance(positions, np.ndarray):
            refuse_rebuilt()
        origins = self.windows.origins[positions]
        y, times = self.windows.gather_outputs(origins)
        return WindowStarts(self.key, torch.from_numpy(origins - self.first), y, times)


class _Rows(NamedTuple):
    """Rows that a device holds, as views with an item for each window."""

    x: Tensor  # (n, L * F) float32, overlapping
    observed: Tensor | None  # (n, L) or (n, L * F) bool, overlapping; None if all is observed


class DeviceGather:
    """Gathers windows on any device; a device is given its rows when it is first asked for.

    Args:
        windows: one window for each row of a span of the table, whatever stage it belongs to:
            ``windows[i]`` starts at row i of those held.

    Attributes:
        rows: how many rows a device holds.
        key: names these rows and their scaling.
    """

    def __init__(self, windows: WindowDataset) -> None:
        self.windows = windows
        self.first, end = windows.origins.span
        self.rows = end - self.first + windows.shape.lookback - 1
        what = (windows.table.key, self.first, end, astuple(windows.scaler))
        self.key = hashlib.sha256(repr(what).encode()).hexdigest()[:16]
        self._rows: dict[torch.device, _Rows | None] = {}

    @classmethod
    def from_stages(cls, stages: Sequence[WindowDataset]) -> "DeviceGather":
        """A gather for all the windows of some stages, of which one at least has any."""
        spans = np.array([windows.origins.span for windows in stages if len(windows)])
        runs: Runs = np.array([[spans[:, 0].min(), spans[:, 1].max()]], dtype=np.int64)
        one = stages[0]
        return cls(
            WindowDataset(
                one.table,
                Origins.of(runs, 1),
                one.shape,
                one.target,
                one.scaler,
                complete=one.complete,
            )
        )

    def make_dataset(self, windows: WindowDataset) -> StartsDataset:
        """The dataset that the loader of a stage draws ``WindowStarts`` from."""
        return StartsDataset(windows, self.first, self.key)

    def __call__(self, starts: WindowStarts, device: torch.device | str) -> Batch:
        """The batch of some windows, on a device.

        Raises:
            ConfigError: if the windows start in other rows than those that this gather holds.
        """
        if starts.key != self.key:
            raise ConfigError(
                "this batch comes from a loader that was made before the candles, the split or "
                "the statistics changed: ask the datamodule for its loader again"
            )
        device = _resolve_device(torch.device(device))
        if device not in self._rows:
            self._rows[device] = self._bring_rows(device)
        rows = self._rows[device]
        if rows is None:
            x, observed = self.windows.gather_inputs(starts.rows.numpy() + self.first)
            moved = move_data_to_device(Batch(x, starts.y, observed, starts.origin_time), device)
            return Batch(*moved)
        index, y, times = move_data_to_device((starts.rows, starts.y, starts.origin_time), device)
        size = (len(index), self.windows.shape.lookback)
        x = rows.x.index_select(0, index).view(*size, -1)
        shape = x.shape if self.windows.table.mask == "feature" else size
        if rows.observed is None:
            observed = torch.ones(shape, dtype=torch.bool, device=device)
        else:
            observed = rows.observed.index_select(0, index).view(shape)
        return Batch(x, y, observed, times)

    def release(self) -> None:
        """Let go of the rows on all devices; a device is given them again if it is asked for."""
        self._rows.clear()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_rows": {}}

    def _bring_rows(self, device: torch.device) -> _Rows | None:
        """Copy the rows to a device; None, with a warning, if they do not fit there."""
        features, lookback = len(self.windows.table.features), self.windows.shape.lookback
        complete = self.windows.complete
        masks = features if self.windows.table.mask == "feature" else 1
        size = self.rows * (4 * features + masks * (not complete))
        if size <= DEVICE_SHARE * count_free_bytes(device):
            try:
                x = torch.empty((self.rows, features), dtype=torch.float32, device=device)
                observed = torch.empty(
                    (0 if complete else self.rows, masks), dtype=torch.bool, device=device
                )
                self._copy(x, observed)
            except RuntimeError as error:  # not all devices have an error of their own for it
                if "out of memory" not in str(error):
                    raise
            else:
                parts = [(x, features), *[(observed, masks)] * (not complete)]
                views = [
                    rows.as_strided((self.rows - lookback + 1, lookback * width), (width, 1))
                    for rows, width in parts
                ]
                return _Rows(views[0], None if complete else views[1])
        warnings.warn(
            f"{size / 1e6:,.0f} MB of rows do not fit on {device} beside what training needs: "
            "windows are gathered on the host, as with `gather: host`",
            stacklevel=2,
        )
        return None

    def _copy(self, x: Tensor, observed: Tensor) -> None:
        """Fill arrays on a device with the rows, ``COPIED_BYTES`` at a time."""
        table, begin = self.windows.table, self.first - self.windows.shape.lookback + 1
        count = max(1, COPIED_BYTES // (4 * x.shape[1]))
        for low in range(0, self.rows, count):
            high = min(low + count, self.rows)
            x[low:high] = torch.from_numpy(self.windows.scale_rows(begin + low, begin + high))
            if len(observed):
                seen = table.read("observed", slice(begin + low, begin + high)) != 0
                observed[low:high] = torch.from_numpy(seen).view(high - low, -1)


def gather_nested(
    nested: Any,
    gather: Callable[[], DeviceGather],
    device: torch.device,
    *changes: Transform | None,
) -> Any:
    """What a loader has handed out with a ``Batch`` in the place of each ``WindowStarts`` in it.

    Args:
        nested: ``WindowStarts``, or what a model has put loaders into: lists, tuples, dicts.
        gather: gives the ``DeviceGather``; called only where there is something to gather.
        device: where the batches are to be.
        changes: functions that each batch goes through, one after another; None for none.

    Returns:
        The same nesting.

    Raises:
        ConfigError: if windows start in other rows than those that the gather holds.
    """

    def gather_one(starts: WindowStarts) -> Batch:
        batch = gather()(starts, device)
        for change in changes:
            if change is not None:
                batch = apply_transform(change, batch)
        return batch

    return apply_to_collection(nested, WindowStarts, gather_one)


def count_free_bytes(device: torch.device) -> float:
    """Bytes of a device's memory that are free; infinite for a kind that cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and hasattr(os, "sysconf"):  # what is asked too much of it is killed
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def _resolve_device(device: torch.device) -> torch.device:
    """A device by its full name: "cuda" is the current one of several."""
    if device.index is None and device.type != "cpu":
        return torch.empty(0, device=device).device
    return device
