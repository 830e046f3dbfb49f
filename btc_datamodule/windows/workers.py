"""Loader processes: several batches a message, in memory that is used again.

A batch that torch sends from one process to another takes a piece of shared memory, fresh from the
system, and a file descriptor for each of its tensors: many times what making a small one does. So
a process is asked for several batches at once, gathers them into a *slot* of memory that all
processes have had from the start, and sends where they lie. This process hands out views of the
slot, and asks for new batches in it when the last of them is gone.

Whoever keeps a batch keeps its slot, ``GROUP_BYTES`` at most. Where all slots are kept, or batches
do not fit, they travel in fresh memory, of which a message has one piece.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from multiprocessing.sharedctypes import RawArray
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from btc_datamodule.windows.batch import Batch, Described, make_batch, pass_through
from btc_datamodule.windows.blocks import Run
from btc_datamodule.windows.dataset import LINE_BYTES, WindowDataset
from btc_datamodule.windows.overlapping import find_array_type, split_array, view_as
from btc_datamodule.windows.sampler import WindowSampler
from btc_datamodule.windows.together import cut_runs, iterate_batches

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


class Request(NamedTuple):
    """Batches that a process is asked for.

    Attributes:
        run: which they are.
        slot: where to write them; None for fresh memory.
    """

    run: Run
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


class Part(NamedTuple):
    """Batches of one length that lie together, as one.

    Attributes:
        number: of these batches.
        fields: where the tensors lie of the one that they make.
    """

    number: int
    fields: list[Field]


class Message(NamedTuple):
    """Batches that a process has made.

    Attributes:
        parts: all of them.
        memory: (bytes,) uint8, where they lie; None for the slot of the request.
    """

    parts: list[Part]
    memory: Tensor | None

    def pin_memory(self) -> list[Batch]:
        """The batches, of fresh memory, in pinned memory of their own; torch asks for it."""
        assert self.memory is not None
        return [
            make_batch(field.pin_memory() for field in batch)
            for batch in unpack(self.memory.numpy(), self.parts)
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
            return unpack(message.memory.numpy(), message.parts)
        assert slot is not None
        memory = view_slot(self.memory, self.size, slot)
        finalize(memory, self._give_back, slot).atexit = False
        return unpack(memory, message.parts)

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

    def __init__(self, sampler: WindowSampler, slots: Slots, most: int, workers: int) -> None:
        self.sampler = sampler
        self.slots = slots
        self.most = most
        self.workers = workers

    def __iter__(self) -> Iterator[Request]:
        # Torch begins here only when each process has done with all it was asked for before.
        self.slots.forget_requests()
        number = 0
        for run in self.sampler.iterate_runs():
            low = 0
            while low < len(run):
                doublings = min(number // self.workers, self.most.bit_length())
                high = low + min(self.most, 1 << doublings)
                yield Request(run.cut(low, high), self.slots.take())
                low, number = high, number + 1


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
        if self.windows.transform is None:
            return self._gather(request)
        batches = list(iterate_batches(self.windows, [request.run]))
        if not all(map(is_plain, batches)):
            return batches
        message, memory = self._lay_out(
            request.slot,
            [(1, [(field.dtype, field.shape) for field in batch]) for batch in batches],
        )
        for part, batch in zip(message.parts, batches, strict=True):
            for field, source in zip(part.fields, batch, strict=True):
                view_field(memory, field).copy_(source)
        return message

    def _gather(self, request: Request) -> Message:
        """The batches of a request, gathered where they are to lie."""
        windows, whole = self.windows, request.run
        if windows.may_join(whole.positions.shape[1]):
            runs = list(cut_runs(windows, [whole]))
        else:
            runs = [whole.cut(number, number + 1) for number in range(len(whole))]
        message, memory = self._lay_out(
            request.slot, [(len(run), windows.describe(run.positions.size)) for run in runs]
        )
        for run, part in zip(runs, message.parts, strict=True):
            windows.gather_joined(
                run, make_batch(view_field(memory, field) for field in part.fields)
            )
        return message

    def _lay_out(
        self, slot: int | None, parts: Sequence[tuple[int, Sequence[Described]]]
    ) -> tuple[Message, NDArray[np.uint8]]:
        """Where some parts are to lie one after the other, and the memory that is."""
        laid: list[Part] = []
        at = 0
        for number, described in parts:
            fields = []
            for dtype, shape in described:
                fields.append(Field(at, dtype, tuple(shape)))
                at += count_room(dtype, shape)
            laid.append(Part(number, fields))
        if slot is not None and at <= self.size:
            return Message(laid, None), view_slot(self.memory, self.size, slot)
        made = torch.empty(at, dtype=torch.uint8)
        return Message(laid, made), made.numpy()


class WorkerBatches:
    """The batches of a loader, made by processes; one iteration at a time.

    The processes end when this is gone.

    Args:
        loader: says how to load.
        windows: of its stage.
        sampler: of its batches.
        persistent: whether the processes stay for the next epoch.
    """

    def __init__(
        self,
        loader: DataLoader[Batch],
        windows: WindowDataset,
        sampler: WindowSampler,
        *,
        persistent: bool,
    ) -> None:
        each = count_bytes(windows.describe(sampler.batch_size))
        most = GROUP if windows.transform is None else GROUP_TRANSFORMED
        most = max(1, min(most, GROUP_BYTES // each))
        awaited = loader.num_workers * (loader.prefetch_factor or 1)
        number = 0 if loader.pin_memory else min(awaited + SPARE, SLOTS_BYTES // (most * each))
        self._slots = Slots(number, most * each)
        requests: Any = Requests(sampler, self._slots, most, loader.num_workers)
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


def count_bytes(described: Iterable[Described]) -> int:
    """Bytes of some tensors in a slot."""
    return sum(count_room(dtype, shape) for dtype, shape in described)


def is_plain(batch: object) -> bool:
    """Whether a batch is a ``Batch`` of nothing but tensors that are numbers in memory."""
    return type(batch) is Batch and all(
        type(field) is Tensor
        and field.device.type == "cpu"
        and field.layout == torch.strided
        and not (field.requires_grad or field.is_quantized or field.is_complex())
        for field in batch
    )


def unpack(memory: NDArray[np.uint8], parts: Iterable[Part]) -> Iterator[Batch]:
    """The batches that lie in some memory, which each of their tensors keeps."""
    for number, fields in parts:
        tensors = (split_field(memory, field, number) for field in fields)
        yield from map(make_batch, zip(*tensors, strict=True))


def split_field(memory: NDArray[np.uint8], field: Field, count: int) -> Iterator[Tensor]:
    """Equal parts of the tensor that lies in some memory."""
    if count == 1:
        return iter([view_field(memory, field)])
    return split_array(view_array(memory, field), count, field.dtype)


def view_field(memory: NDArray[np.uint8], field: Field) -> Tensor:
    """The tensor that lies in some memory."""
    return view_as(torch.from_numpy(view_array(memory, field)), field.dtype)


def view_array(memory: NDArray[np.uint8], field: Field) -> NDArray[Any]:
    """The same as an array of its ``find_array_type``."""
    end = field.at + prod(field.shape) * field.dtype.itemsize
    return memory[field.at : end].view(find_array_type(field.dtype)).reshape(field.shape)


def view_slot(memory: Any, size: int, slot: int) -> NDArray[np.uint8]:
    """The bytes of a slot."""
    return np.frombuffer(memory, dtype=np.uint8, count=size, offset=slot * size)


def count_room(dtype: torch.dtype, shape: Sequence[int]) -> int:
    """Bytes from the beginning of a tensor to that of the next, in whole lines of the cache."""
    return -(-prod(shape) * dtype.itemsize // LINE_BYTES) * LINE_BYTES
