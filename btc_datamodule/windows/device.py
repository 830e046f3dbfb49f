"""The gather on the accelerator: the rows go there once, and after that only where windows start.

With ``gather: device`` the loaders hand out ``Places`` in place of batches: the targets and times
of the windows, made on the host as ever, and where each window starts. ``DeviceGather`` makes a
``Batch`` of them, on the device that the batch is for, bit for bit the one that the host would
have made: the rows are scaled on the host, on their way there, and gathering only copies.

Each device holds the rows from the first to the last one that any stage of the fold uses: train
and val take turns, and most rows belong to one of them. Where they do not fit the windows are
gathered on the host after all, from the feature file, in the process that asks for the batch.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from btc_datamodule.windows.blocks import Request
from btc_datamodule.windows.dataset import Batch, Transform, WindowDataset

DEVICE_SHARE = 0.5
"""Of the free memory of a device that rows may take: training needs the rest."""

COPIED_BYTES = 1 << 26
"""Rows that are scaled and copied to a device at once."""


class Places:
    """Windows that are still to be gathered.

    Neither a tuple nor a dataclass: such the Trainer would look into for floating-point tensors,
    to convert them to its precision before ``x`` is there.

    Attributes:
        key: of the rows that ``starts`` are counted in.
        starts: (B,) int64, first rows of the windows.
        y: as in ``Batch``.
        origin_time: as in ``Batch``.
    """

    def __init__(self, key: str, starts: Tensor, y: Tensor, origin_time: Tensor) -> None:
        self.key = key
        self.starts = starts
        self.y = y
        self.origin_time = origin_time

    def pin_memory(self) -> "Places":
        """What ``DataLoader(pin_memory=True)`` calls."""
        pinned = (tensor.pin_memory() for tensor in (self.starts, self.y, self.origin_time))
        return Places(self.key, *pinned)


class PlacesDataset(Dataset[Places]):
    """The windows of a stage as ``Places``.

    Args:
        windows: of the stage.
        first: the origin (row) of the window that starts at 0.
        key: of the rows.
    """

    def __init__(self, windows: WindowDataset, first: int, key: str) -> None:
        self.windows = windows
        self.windows.ahead_bytes = 0  # inputs are not gathered here: no process scales a copy
        self.first = first
        self.key = key

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, positions: NDArray[np.int64] | Request) -> Places:
        """The windows at some positions, which must lie in [0, len)."""
        if isinstance(positions, Request):
            self.windows.read_ahead(positions.ahead, inputs=False)
            positions = positions.positions
        origins = self.windows.origins[positions]
        y, times = self.windows.outputs(origins)
        return Places(self.key, torch.from_numpy(origins - self.first), y, times)


class _Rows(NamedTuple):
    """Rows on a device, a view with an item per window."""

    x: Tensor  # (n, L * F) float32, overlapping
    observed: Tensor | None  # (n, L) bool, overlapping; None if all are


class DeviceGather:
    """Gathers windows on any device; a device is given its rows when it is first asked for.

    Args:
        windows: one window for each row on, whatever stage it belongs to: ``windows[i]`` starts
            at row i.
    """

    def __init__(self, windows: WindowDataset) -> None:
        self.windows = windows
        self.first, end = windows.origins.span
        self.rows = end - self.first + windows.shape.lookback - 1
        what = (windows.table.key, self.first, end, windows.scaler)
        self.key = hashlib.sha256(repr(what).encode()).hexdigest()[:16]
        self._rows: dict[torch.device, _Rows | None] = {}

    @classmethod
    def over(cls, stages: Sequence[WindowDataset]) -> "DeviceGather":
        """A gather for all the windows of some stages, of which one at least has any."""
        spans = np.array([windows.origins.span for windows in stages if len(windows)])
        runs: Runs = np.array([[spans[:, 0].min(), spans[:, 1].max()]], dtype=np.int64)
        one = stages[0]
        return cls(
            WindowDataset(
                one.table,
                Origins.of(runs, 1, last=False),
                one.shape,
                one.target,
                one.scaler,
                complete=one.complete,
            )
        )

    def of(self, windows: WindowDataset) -> PlacesDataset:
        """What the loader of a stage draws from."""
        return PlacesDataset(windows, self.first, self.key)

    def __call__(self, places: Places, device: torch.device | str) -> Batch:
        """The batch, on the device.

        Raises:
            ConfigError: if the places are those of other rows.
        """
        if places.key != self.key:
            raise ConfigError(
                "this batch comes from a loader that was made before the candles, the split or "
                "the statistics changed: ask the datamodule for its loader again"
            )
        device = _indexed(torch.device(device))
        if device not in self._rows:
            self._rows[device] = self._brought_to(device)
        rows = self._rows[device]
        if rows is None:
            x, observed = self.windows.inputs(places.starts.numpy() + self.first)
            moved = move_data_to_device(Batch(x, places.y, observed, places.origin_time), device)
            return Batch(*moved)
        starts, y, times = move_data_to_device(
            (places.starts, places.y, places.origin_time), device
        )
        size = (len(starts), self.windows.shape.lookback)
        x = rows.x.index_select(0, starts).view(*size, -1)
        if rows.observed is None:
            observed = torch.ones(size, dtype=torch.bool, device=device)
        else:
            observed = rows.observed.index_select(0, starts)
        return Batch(x, y, observed, times)

    def release(self) -> None:
        """Let go of the rows on all devices; they are brought there again if need be."""
        self._rows.clear()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_rows": {}}

    def _brought_to(self, device: torch.device) -> _Rows | None:
        """The rows on a device; None, with a warning, if they do not fit."""
        features, lookback = len(self.windows.table.features), self.windows.shape.lookback
        complete = self.windows.complete
        size = self.rows * (4 * features + (not complete))
        if size <= DEVICE_SHARE * free_bytes(device):
            try:
                x = torch.empty((self.rows, features), dtype=torch.float32, device=device)
                observed = torch.empty(
                    0 if complete else self.rows, dtype=torch.bool, device=device
                )
                self._copy(x, observed)
            except RuntimeError as error:  # not all devices have an error of their own for it
                if "out of memory" not in str(error):
                    raise
            else:
                count = self.rows - lookback + 1
                return _Rows(
                    x.as_strided((count, lookback * features), (features, 1)),
                    None if complete else observed.as_strided((count, lookback), (1, 1)),
                )
        warnings.warn(
            f"{size / 1e6:,.0f} MB of rows do not fit on {device} beside what training needs: "
            "windows are gathered on the host, as with `gather: host`",
            stacklevel=2,
        )
        return None

    def _copy(self, x: Tensor, observed: Tensor) -> None:
        """Fill the arrays on a device, a block of rows at a time."""
        table, begin = self.windows.table, self.first - self.windows.shape.lookback + 1
        block = max(1, COPIED_BYTES // (4 * x.shape[1]))
        for low in range(0, self.rows, block):
            high = min(low + block, self.rows)
            x[low:high] = torch.from_numpy(self.windows.scaled(begin + low, begin + high))
            if len(observed):
                seen = table.observed[begin + low : begin + high] != 0
                observed[low:high] = torch.from_numpy(seen)


def gather_nested(
    nested: Any,
    gather: Callable[[], DeviceGather],
    device: torch.device,
    *changes: Transform | None,
) -> Any:
    """What a loader has handed out with a ``Batch`` in the place of each ``Places`` in it.

    Args:
        nested: ``Places``, or what a model has put loaders into: lists, tuples, dicts.
        gather: gives the gather of their rows; called only where there is something to gather.
        device: where the batches are to be.
        changes: called with each batch, one after another; None for nothing.
    """

    def gather_one(places: Places) -> Batch:
        batch = gather()(places, device)
        for change in changes:
            if change is not None:
                batch = change(batch)
        return batch

    return apply_to_collection(nested, Places, gather_one)


def free_bytes(device: torch.device) -> float:
    """Memory of a device that is free, as far as it can be asked; infinite where it cannot."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and hasattr(os, "sysconf"):  # what is asked too much of it is killed
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def _indexed(device: torch.device) -> torch.device:
    """The same device by its full name: "cuda" is the current one of several."""
    if device.index is None and device.type != "cpu":
        return torch.empty(0, device=device).device
    return device
