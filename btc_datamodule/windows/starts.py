"""What loaders hand out with ``gather: device``: which windows a batch is of, and nothing else.

Positions go to a device a stretch at a time, ``STRETCH_WINDOWS`` of them, and each batch is a part
of one: a transfer costs as much for eight bytes as for a megabyte, and more than the gather of a
small batch. The order is made on the host, where it is the same for any device.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from btc_datamodule.errors import ConfigError
from btc_datamodule.windows.batch import Batch
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.rebuilt import get_positions
from btc_datamodule.windows.sampler import Positions

STRETCH_WINDOWS = 1 << 18
"""Windows whose positions travel together: 2 MB, made in 1 to 2 ms."""


@dataclass(frozen=True, eq=False)
class Brought:
    """What a device has of a stretch.

    Attributes:
        positions: (n,) int64, on the device.
        stream: of a GPU, on which they were brought there, and batches are gathered; 0 elsewhere.
        ready: batches that were gathered with an earlier one, by where theirs begin.
    """

    positions: Tensor
    stream: int
    ready: dict[int, Batch]


class Stretch:
    """Positions of batches that follow each other, on the host and on the devices that had any.

    Args:
        positions: (n,) int64, none of them negative.
        length: windows of each batch; the last may have fewer.
    """

    def __init__(self, positions: NDArray[np.int64], length: int) -> None:
        self.positions = torch.from_numpy(positions)
        self.length = length
        self._brought: dict[torch.device, Brought] = {}

    def __len__(self) -> int:
        return len(self.positions)

    def bring_to(self, device: torch.device) -> Brought:
        """The stretch on a device, given by its full name.

        Another stream of a GPU than before is given a copy of its own: nothing there waits for what
        was gathered on the other.
        """
        on_gpu = device.type == "cuda"
        stream = torch.cuda.current_stream(device.index).cuda_stream if on_gpu else 0
        found = self._brought.get(device)
        if found is None or found.stream != stream:
            found = self._brought[device] = Brought(self.positions.to(device), stream, {})
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_brought": {}}


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
    """

    __slots__ = ("at", "key", "request", "stage", "stretch")

    def __init__(self, key: str, stage: str, request: Positions, stretch: Stretch, at: int) -> None:
        self.key = key
        self.stage = stage
        self.request = request
        self.stretch = stretch
        self.at = at

    def __len__(self) -> int:
        return min(self.stretch.length, len(self.stretch) - self.at)

    def __repr__(self) -> str:
        return f"WindowStarts({len(self):,} windows of {self.stage}, for transfer_batch_to_device)"

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

        Args:
            requests: of one length, but for a last one that may have fewer.

        Raises:
            ConfigError: if what is asked for is no int64 array: the loader was taken apart.
        """
        asked = iter(requests)
        for first in asked:
            count = STRETCH_WINDOWS // max(1, len(get_positions(first)))
            yield from self._join([first, *islice(asked, max(0, count - 1))])

    def _join(self, requests: list[Positions]) -> Iterator[WindowStarts]:
        parts = list(map(get_positions, requests))
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        length = len(parts[0])
        stretch = Stretch(self.windows.resolve_positions(joined), length)
        for number, request in enumerate(requests):
            yield WindowStarts(self.key, self.stage, request, stretch, number * length)
