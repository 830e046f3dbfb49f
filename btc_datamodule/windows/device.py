"""The gather on the accelerator: rows and targets go there once, and after that only positions.

With ``gather: device`` the loaders hand out ``WindowStarts`` in place of batches, which say no more
than which windows they are of (``starts``). ``DeviceGather`` makes a ``Batch`` of them, on the
device that the batch is for, bit for bit the one that the host would have made: rows are scaled and
targets computed on the host, on their way to the device, and gathering only copies (``held``).

Each device holds the rows from the first to the last one that any stage of the fold uses: train
and val take turns, and most rows belong to one of them. Targets come stage by stage, when the first
batch of one is asked for. Where rows do not fit the windows are gathered on the host after all,
from the feature file, in the process that asks for the batch; where targets do not, these are.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import astuple
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from btc_datamodule.errors import ConfigError
from btc_datamodule.windows.batch import Batch, Transform, apply_transform
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.held import Held, HeldStage
from btc_datamodule.windows.starts import Brought, StartsDataset, WindowStarts

DEVICE_SHARE = 0.5
"""Of the free memory of a device that rows may take, and targets: training needs the rest."""

COPIED_BYTES = 1 << 26
"""Rows that are scaled and copied to a device at once."""

Made = TypeVar("Made")


class DeviceGather:
    """Gathers windows on any device; a device is given its rows when it is first asked for.

    Args:
        stages: the windows of each stage, by its name, of which one at least has any.

    Attributes:
        stages: likewise, without a transform.
        rows: how many rows a device holds.
        key: names these rows, their scaling and their type, and the windows in them.
    """

    def __init__(self, stages: Mapping[str, WindowDataset]) -> None:
        self.stages = {name: copy(windows) for name, windows in stages.items()}
        for windows in self.stages.values():
            windows.transform = None
        self.windows = next(iter(self.stages.values()))
        spans = [windows.origins.span for windows in stages.values() if len(windows)]
        self.first, end = min(first for first, _ in spans), max(end for _, end in spans)
        self.rows = end - self.first + self.windows.shape.lookback - 1
        self.key = self._compute_key()
        self._held: dict[torch.device, Held | None] = {}

    def make_dataset(self, stage: str) -> StartsDataset:
        """The dataset that the loader of a stage draws ``WindowStarts`` from."""
        return StartsDataset(self.stages[stage], stage, self.key)

    def __call__(self, starts: WindowStarts, device: torch.device | str) -> Batch:
        """The batch of some windows, on a device.

        Raises:
            ConfigError: if they are other windows, or lie in other rows, than those that this
                gather holds.
        """
        if starts.key != self.key:
            raise ConfigError(
                "this batch comes from a loader that was made before the candles, the split or "
                "the statistics changed: ask the datamodule for its loader again"
            )
        device = _resolve_device(torch.device(device))
        if device not in self._held:
            self._held[device] = self._bring_rows(device)
        held, name = self._held[device], starts.stage
        if held is None:
            moved = move_data_to_device(self.stages[name][starts.request], device)
            return Batch(*moved)
        if name not in held.stages:
            held.add(name, self._bring_stage(name, device))
        brought = starts.stretch.bring_to(device)
        batch = brought.ready.pop(starts.at, None)
        if batch is None:
            batch = self._gather_ahead(held, starts, brought)
        if held.stages[name].has_y:
            return batch
        at = slice(starts.at, starts.at + len(starts))
        windows = self.stages[name]
        y, _ = windows.gather_outputs(windows.origins[starts.stretch.positions[at].numpy()])
        return batch._replace(y=y.to(device))

    def _gather_ahead(self, held: Held, starts: WindowStarts, brought: Brought) -> Batch:
        """Gather a batch, and with it as many of the next as are small enough: see ``Held``."""
        length, at = len(starts), starts.at
        left = (len(starts.stretch) - at) // max(1, length)
        count = max(1, min(left, held.count_together(length)))
        first, *others = held.gather(starts.stage, brought.positions, at, length, count)
        for number, batch in enumerate(others, 1):
            brought.ready[at + number * length] = batch
        return first

    def release(self) -> None:
        """Let go of the rows on all devices; a device is given them again if it is asked for."""
        self._held.clear()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_held": {}}

    def _compute_key(self) -> str:
        one = self.windows
        what = (one.table.key, self.first, self.rows, astuple(one.scaler), one.shape, one.dtype)
        digest = hashlib.sha256(repr((what, one.target)).encode())
        for windows in self.stages.values():
            origins, scaler = windows.origins, windows.target_scaler
            scaled = None if scaler is None else astuple(scaler)  # as text it is rounded
            digest.update(repr((origins.stride, scaled)).encode())
            digest.update(origins.starts.tobytes() + origins.offsets.tobytes())
        return digest.hexdigest()[:16]

    def _bring_rows(self, device: torch.device) -> Held | None:
        """Copy the rows to a device; None, with a warning, if they do not fit there."""
        one, table = self.windows, self.windows.table
        features = len(table.features)
        masks = (features if table.mask == "feature" else 1) * (not one.complete)
        size = self.rows * (one.dtype.itemsize * features + masks)

        def make() -> Held:
            x = torch.empty((self.rows, features), dtype=one.dtype, device=device)
            observed = torch.empty((self.rows, masks), dtype=torch.bool, device=device)
            self._copy(x, observed)
            return Held(
                x,
                observed if masks else None,
                lookback=one.shape.lookback,
                by_feature=table.mask == "feature",
                first=table.find_time(self.first),
                interval=table.interval,
            )

        held = _make_if_it_fits(make, size, device)
        if held is None:
            warnings.warn(
                f"{size / 1e6:,.0f} MB of rows do not fit on {device} beside what training needs: "
                "windows are gathered on the host, as with `gather: host`",
                stacklevel=2,
            )
        return held

    def _copy(self, x: Tensor, observed: Tensor) -> None:
        """Fill arrays on a device with the rows, ``COPIED_BYTES`` at a time."""
        table, begin = self.windows.table, self.first - self.windows.shape.lookback + 1
        count = max(1, COPIED_BYTES // (4 * x.shape[1]))
        for low in range(0, self.rows, count):
            high = min(low + count, self.rows)
            scaled = torch.from_numpy(self.windows.scale_rows(begin + low, begin + high))
            x[low:high] = scaled.to(x.dtype)
            if observed.numel():
                seen = table.read("observed", slice(begin + low, begin + high)) != 0
                observed[low:high] = torch.from_numpy(seen).view(high - low, -1)

    def _bring_stage(self, name: str, device: torch.device) -> HeldStage:
        """Copy to a device where the windows of a stage start, and their targets if these fit."""
        windows = self.stages[name]
        starts = windows.origins[np.arange(len(windows), dtype=np.int64)] - self.first
        return HeldStage(torch.from_numpy(starts).to(device), _bring_targets(windows, device))


def _bring_targets(windows: WindowDataset, device: torch.device) -> Tensor | None:
    """The targets of some windows on a device; None, with a warning, if they do not fit there."""
    asked = windows.without_inputs()
    parts = (asked.gather_outputs(origins)[0] for origins in asked.stream_origins())
    first = next(parts, None)
    if first is None:
        return None
    shape, dtype = (len(windows), *first.shape[1:]), first.dtype
    size = first[0].numel() * dtype.itemsize * len(windows)
    y = _make_if_it_fits(lambda: torch.empty(shape, dtype=dtype, device=device), size, device)
    if y is None:
        warnings.warn(
            f"{size / 1e6:,.0f} MB of targets do not fit on {device} beside what training needs: "
            "they are made on the host, a batch at a time",
            stacklevel=2,
        )
        return None
    done = 0
    for part in chain([first], parts):
        y[done : done + len(part)] = part
        done += len(part)
    return y


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


def _make_if_it_fits(make: Callable[[], Made], size: int, device: torch.device) -> Made | None:
    """What a function makes of ``size`` bytes on a device; None if there is no room for them."""
    if size > DEVICE_SHARE * count_free_bytes(device):
        return None
    try:
        return make()
    except RuntimeError as error:  # not all devices have an error of their own for it
        if "out of memory" not in str(error):
            raise
        return None


def count_free_bytes(device: torch.device) -> float:
    """Bytes of a device's memory that are free; infinite for a kind that cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and hasattr(os, "sysconf"):  # what is asked too much of it is killed
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def _resolve_device(device: torch.device) -> torch.device:
    """A device by its full name: "cuda" is the current one of several."""
    if device.index is not None or device.type == "cpu":
        return device
    if device.type == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.empty(0, device=device).device
