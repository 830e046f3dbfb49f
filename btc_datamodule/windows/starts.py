"""What loaders hand out with ``gather: device``: which windows a batch is of, and nothing else.

Positions go to a device a stretch at a time, ``STRETCH_WINDOWS`` of them, and each batch is a part
of one: a transfer costs as much for eight bytes as for a megabyte, and more than the gather of a
small batch. The order is made on the host, where it is the same for any device.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from btc_datamodule.errors import ConfigError
from btc_datamodule.windows.blocks import BatchRequest
from btc_datamodule.windows.dataset import Batch, WindowDataset
from btc_datamodule.windows.rebuilt import refuse_rebuilt
from btc_datamodule.windows.sampler import Positions

STRETCH_WINDOWS = 1 << 18
"""Windows whose positions travel together: 2 MB, made in 1 to 2 ms."""


class Stretch:
    """Positions of batches that follow each other, on the host and on the devices that had any.

    Args:
        positions: (n,) int64, none of them negative.
    """

    def __init__(self, positions: NDArray[np.int64]) -> None:
        self.positions = torch.from_numpy(positions)
        self._there: dict[torch.device, tuple[Tensor, Any]] = {}

    def bring_to(self, device: torch.device) -> Tensor:
        """The positions on a device: (n,) int64, for as long as the stretch is there."""
        stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        if device not in self._there:
            # It waits for the copy: another stream that asks later finds it done.
            self._there[device] = self.positions.to(device), stream
        positions, made_on = self._there[device]
        if stream is not None and stream != made_on:
            positions.record_stream(stream)
        return positions

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_there": {}}


class WindowStarts:
    """A batch of windows that is still to be gathered.

    Neither a tuple nor a dataclass: a Trainer would look into one for floating-point tensors, to
    convert them to its precision before ``x`` is there.

    Attributes:
        key: what a device must hold, as ``DeviceGather.key`` has it.
        stage: that the windows belong to.
        request: which they are, as the sampler asked for them.
        stretch: the positions of these and of other windows.
        at: where in the stretch those of this batch begin.
        count: how many they are, B.
    """

    __slots__ = ("at", "count", "key", "request", "stage", "stretch")

    def __init__(
        self, key: str, stage: str, request: Positions, stretch: Stretch, at: int, count: int
    ) -> None:
        self.key = key
        self.stage = stage
        self.request = request
        self.stretch = stretch
        self.at = at
        self.count = count

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in Batch._fields:
                raise ConfigError(
                    f"a batch has no {name} before `transfer_batch_to_device`: with `gather: "
                    "device` it is made there. A Trainer calls it by itself; elsewhere write "
                    "`batch = dm.transfer_batch_to_device(batch, device, 0)`"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class StartsDataset(Dataset[WindowStarts]):
    """The windows of a stage as ``WindowStarts``.

    Args:
        windows: the windows of the stage.
        stage: its name.
        key: what a device must hold, as ``DeviceGather.key`` has it.
    """

    def __init__(self, windows: WindowDataset, stage: str, key: str) -> None:
        self.windows = windows
        self.stage = stage
        self.key = key

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        return f"StartsDataset of {self.windows!r}"

    def __getitem__(self, request: Positions) -> WindowStarts:
        """The windows at some positions, as one batch.

        Raises:
            ConfigError: if they are no int64 array: the loader was taken apart.
            IndexError: if a position lies outside [-len, len).
        """
        (starts,) = self._join([request])
        return starts

    def iterate(self, requests: Iterable[Positions]) -> Iterator[WindowStarts]:
        """The batches that a sampler asks for, their positions joined in stretches.

        Raises:
            ConfigError: if what is asked for is no int64 array: the loader was taken apart.
        """
        asked = iter(requests)
        for first in asked:
            count = STRETCH_WINDOWS // max(1, len(_get_positions(first)))
            yield from self._join([first, *islice(asked, max(0, count - 1))])

    def _join(self, requests: list[Positions]) -> Iterator[WindowStarts]:
        parts = list(map(_get_positions, requests))
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        stretch, at = Stretch(self.windows.resolve_positions(joined)), 0
        for request, part in zip(requests, parts, strict=True):
            yield WindowStarts(self.key, self.stage, request, stretch, at, len(part))
            at += len(part)


def _get_positions(request: Positions) -> NDArray[np.int64]:
    positions = request.positions if isinstance(request, BatchRequest) else request
    if not isinstance(positions, np.ndarray):
        refuse_rebuilt()
    return positions
