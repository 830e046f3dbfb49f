"""Loader processes: several batches a message, in memory that is used again.

A batch that torch sends from one process to another takes a piece of shared memory, fresh from the
system, and a file descriptor for each of its tensors: many times what making a small one does. So
a process is asked for several batches at once, writes them into a *slot* of memory that all
processes have had from the start, and sends where they lie. This process hands out views of the
slot, and asks for new batches in it when the last of them is gone.

Whoever keeps a batch keeps its slot, ``GROUP_BYTES`` at most. Where all slots are kept, or batches
do not fit, they travel in fresh memory, of which a message has one piece.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from math import prod
from multiprocessing.sharedctypes import RawArray
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from btc_datamodule.windows.batch import Batch, pass_through
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.sampler import Positions
from btc_datamodule.windows.together import iterate_batches

GROUP = 16
"""Batches that a process is asked for at once, at most."""

GROUP_TRANSFORMED = 4
"""Likewise where each goes through a transform, which may be slow: others wait for the last."""

GROUP_BYTES = 1 << 22
"""Of the batches that a process is asked for at once, 4 MiB; one batch may be larger."""

SPARE = 3
"""Slots beside those of batches that are being made: of the last ones handed out."""

SLOTS_BYTES = 48 << 20
"""Of all slots of a loader, 48 MiB: a container often has no more than 64 MiB of shared memory."""

ALIGNED = 64
"""Bytes: where a tensor in a slot may begin."""


class Request(NamedTuple):
    """Batches that a process is asked for.

    Attributes:
        parts: the positions of each.
        slot: where to write them; None for fresh memory.
    """

    parts: list[Positions]
    slot: int | None


class Field(NamedTuple):
    """Where a tensor lies.

    Attributes:
        at: bytes from the beginning of the memory.
        dtype: of the tensor.
        shape: of the tensor.
    """

    at: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class Message(NamedTuple):
    """Batches that a process has made.

    Attributes:
        fields: of each batch where its tensors lie.
        memory: (bytes,) uint8, where they lie; None for the slot of the request.
    """

    fields: list[list[Field]]
    memory: Tensor | None

    def pin_memory(self) -> list[Batch]:
        """The batches, of fresh memory, in pinned memory of their own; torch asks for it."""
        assert self.memory is not None
        return [
            Batch(*(field.pin_memory() for field in batch))
            for batch in unpack(self.memory.numpy(), self.fields)
        ]


class Slots:
    """Memory for batches on their way between processes.

    Args:
        number: of slots; with 0 all memory is fresh.
        size: bytes of each.

    Attributes:
        memory: of all slots, one after the other; it can be sent to a process that starts, and to
            no other place.
    """

    def __init__(self, number: int, size: int) -> None:
        self.size = size
        self.memory: Any = RawArray("B", number * size)
        self._free = list(range(number))
        self._asked: deque[int | None] = deque()

    def take(self) -> int | None:
        """A slot for the next request, in which batches may be written; None if none is free."""
        slot = self._free.pop() if self._free else None
        self._asked.append(slot)
        return slot

    def receive(self, message: Message | list[Batch]) -> Iterable[Batch]:
        """The batches of a message, which is the answer to the oldest request.

        Their slot is free again when the last of them is gone.
        """
        slot = self._asked.popleft()
        if not isinstance(message, Message):
            self._give_back(slot)
            return message
        if message.memory is not None:
            self._give_back(slot)
            return unpack(message.memory.numpy(), message.fields)
        assert slot is not None
        memory = view_slot(self.memory, self.size, slot)
        finalize(memory, self._give_back, slot).atexit = False
        return unpack(memory, message.fields)

    def forget_requests(self) -> None:
        """Free the slots of all requests that no answer will come to."""
        while self._asked:
            self._give_back(self._asked.popleft())

    def _give_back(self, slot: int | None) -> None:
        if slot is not None:
            self._free.append(slot)


class Requests:
    """What the processes of a loader are asked for in an epoch: a few batches at first.

    Args:
        sampler: of the batches.
        slots: to write them in.
        most: how many batches may be asked for at once.
        workers: processes, which take turns.
    """

    def __init__(self, sampler: Iterable[Positions], slots: Slots, most: int, workers: int) -> None:
        self.sampler = sampler
        self.slots = slots
        self.most = most
        self.workers = workers

    def __iter__(self) -> Iterator[Request]:
        # Torch begins here only when each process has done with all it was asked for before.
        self.slots.forget_requests()
        asked = iter(self.sampler)
        for number in count():
            doublings = min(number // self.workers, self.most.bit_length())
            parts = list(islice(asked, min(self.most, 1 << doublings)))
            if not parts:
                return
            yield Request(parts, self.slots.take())


class GroupedWindows(Dataset["Message | list[Batch]"]):
    """Makes batches in a loader process, and writes them where they are read.

    Args:
        windows: of the stage.
        slots: whose memory they are written in.
    """

    def __init__(self, windows: WindowDataset, slots: Slots) -> None:
        self.windows = windows
        self.memory = slots.memory
        self.size = slots.size

    def __getitem__(self, request: Request) -> Message | list[Batch]:
        """The batches of a request; as they are where a transform made something else of them.

        Raises:
            ConfigError: if a transform has returned nothing.
        """
        batches = list(iterate_batches(self.windows, request.parts))
        if not all(map(is_plain, batches)):
            return batches
        fields, size = lay_out(batches)
        made = None
        if request.slot is None or size > self.size:
            made = torch.empty(size, dtype=torch.uint8)
            memory = made.numpy()
        else:
            memory = view_slot(self.memory, self.size, request.slot)
        for batch, target in zip(batches, unpack(memory, fields), strict=True):
            for source, place in zip(batch, target, strict=True):
                place.copy_(source)
        return Message(fields, made)


class WorkerBatches:
    """The batches of a loader, made by processes; one iteration at a time.

    The processes end when this is gone.

    Args:
        loader: says how to load, and in what order.
        windows: of its stage.
        length: windows of a batch.
        persistent: whether the processes stay for the next epoch.
    """

    def __init__(
        self, loader: DataLoader[Batch], windows: WindowDataset, length: int, *, persistent: bool
    ) -> None:
        each = count_bytes(windows, length)
        most = GROUP if windows.transform is None else GROUP_TRANSFORMED
        most = max(1, min(most, GROUP_BYTES // each))
        awaited = loader.num_workers * (loader.prefetch_factor or 1)
        number = 0 if loader.pin_memory else min(awaited + SPARE, SLOTS_BYTES // (most * each))
        self._slots = Slots(number, most * each)
        requests: Any = Requests(loader.sampler, self._slots, most, loader.num_workers)
        self._messages: DataLoader[Message | list[Batch]] = DataLoader(
            GroupedWindows(windows, self._slots),
            batch_size=None,
            sampler=requests,
            num_workers=loader.num_workers,
            collate_fn=pass_through,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=persistent,
        )

    def __iter__(self) -> Iterator[Batch]:
        for message in self._messages:
            yield from self._slots.receive(message)


def count_bytes(windows: WindowDataset, length: int) -> int:
    """Bytes of a batch of ``length`` windows in a slot, as far as no transform changes it."""
    seen, y = prod(windows.mask_shape), 8 * prod(windows.target.shape(windows.shape.horizon))
    inputs = windows.shape.lookback * len(windows.table.features) * windows.dtype.itemsize
    return sum(align(length * each) for each in (inputs, y, seen, 8))


def is_plain(batch: object) -> bool:
    """Whether a batch is a ``Batch`` of nothing but tensors that are numbers in memory."""
    return type(batch) is Batch and all(
        type(field) is Tensor
        and field.device.type == "cpu"
        and field.layout == torch.strided
        and not (field.requires_grad or field.is_quantized or field.is_complex())
        for field in batch
    )


def lay_out(batches: Sequence[Batch]) -> tuple[list[list[Field]], int]:
    """Where the tensors of some batches may lie one after the other, and how many bytes it is."""
    fields: list[list[Field]] = []
    at = 0
    for batch in batches:
        fields.append([])
        for field in batch:
            fields[-1].append(Field(at, field.dtype, tuple(field.shape)))
            at += align(field.numel() * field.itemsize)
    return fields, at


def unpack(memory: NDArray[np.uint8], fields: Sequence[Sequence[Field]]) -> Iterator[Batch]:
    """Batches whose tensors lie in some memory, which each of them keeps.

    To torch no tensor is a part of anything: each has a storage of its own size.
    """
    return (Batch(*(view_field(memory, field) for field in batch)) for batch in fields)


def view_field(memory: NDArray[np.uint8], field: Field) -> Tensor:
    """The tensor that lies in some memory."""
    count = prod(field.shape)
    if not count:
        return torch.empty(field.shape, dtype=field.dtype)
    flat = torch.frombuffer(memory, dtype=field.dtype, count=count, offset=field.at)
    return flat.view(field.shape).data


def view_slot(memory: Any, size: int, slot: int) -> NDArray[np.uint8]:
    """The bytes of a slot."""
    return np.frombuffer(memory, dtype=np.uint8, count=size, offset=slot * size)


def align(size: int) -> int:
    """Bytes from the beginning of a tensor of some bytes to that of the next."""
    return -(-size // ALIGNED) * ALIGNED
