"""Columns packed on all cores, and put into an HDF5 file chunk by chunk as they are to lie there.

HDF5 packs a chunk when it writes it, one after the other, which is most of the time that a candle
file takes. Here threads do so ahead of it, by the filters that the dataset declares, in HDF5's
order: shuffle, deflate, Fletcher-32. Any HDF5 reads it. HDF5 itself is called by one thread alone.

Deflate is that of ISA-L, which takes an eighth of zlib's time and 6 % more space (real minutes);
where it cannot be installed, that of zlib. Both let go of Python's lock.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

try:
    from isal import isal_zlib
except ImportError:  # there is none for every processor
    isal_zlib = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import h5py

MOST_THREADS = 16
"""More would wait for the one thread that writes."""

ISAL_LEVEL = 2
"""Of 0 to 3. The last takes twice the time, for files that are 1.4 % smaller."""

AHEAD = 4
"""Chunks for each thread that are on their way at a time, each at most a chunk of memory."""


class Columns(Protocol):
    """Rows of some columns, by name."""

    def __len__(self) -> int: ...

    def __getitem__(self, name: str) -> NDArray[Any]: ...


def write_packed(
    datasets: "Mapping[str, h5py.Dataset]", tables: Iterable[Columns], check: Callable[[], None]
) -> int:
    """Fill empty datasets of one dimension, all with gzip and Fletcher-32, from front to back.

    Args:
        datasets: by the name of the column; their chunks are all of one length.
        tables: the rows in order, any number at a time.
        check: is called after each table, and raises if a write has failed.

    Returns:
        The number of rows.
    """
    at = rows = 0
    rest = {name: np.empty(0, data.dtype) for name, data in datasets.items()}
    with _Packers() as packers:
        for table in tables:
            rows += len(table)
            for name, data in datasets.items():
                (size,) = data.chunks
                values = np.concatenate([rest[name], table[name]], dtype=data.dtype)
                data.resize((rows,))
                whole = len(values) // size * size
                for low in range(0, whole, size):
                    packers.put(data, at + low, values[low : low + size])
                rest[name] = values[whole:].copy()
            at += whole
            check()
        for name, values in rest.items():
            if len(values):
                data = datasets[name]
                packers.put(data, at, np.pad(values, (0, data.chunks[0] - len(values))))
        packers.drain(0)
    check()
    return rows


class _Packers:
    """Threads that pack chunks, which ``put`` and ``drain`` write in the order they came in."""

    def __init__(self) -> None:
        threads = min(MOST_THREADS, _count_cores())
        self._pool = ThreadPoolExecutor(threads, "pack")
        self._most = AHEAD * threads
        self._waiting: deque[tuple[h5py.Dataset, int, Future[bytes]]] = deque()

    def __enter__(self) -> "_Packers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put(self, data: "h5py.Dataset", row: int, values: NDArray[Any]) -> None:
        """Take one whole chunk of a dataset, which begins at a row."""
        packed = self._pool.submit(pack, values, shuffle=data.shuffle, level=data.compression_opts)
        self._waiting.append((data, row, packed))
        self.drain(self._most)

    def drain(self, most: int) -> None:
        """Write chunks until at most so many are on their way."""
        while len(self._waiting) > most:
            data, row, packed = self._waiting.popleft()
            data.id.write_direct_chunk((row,), packed.result())


def pack(values: NDArray[Any], *, shuffle: bool, level: int) -> bytes:
    """One chunk as it lies in a file.

    Args:
        values: all of the chunk, contiguous.
        shuffle: whether bytes are sorted by their place in a number first.
        level: of zlib, where there is no ISA-L.
    """
    raw = values.view(np.uint8)
    if shuffle:
        raw = np.ascontiguousarray(raw.reshape(-1, values.itemsize).T)
    if isal_zlib is None:
        packed = zlib.compress(raw.data, level)
    else:
        packed = isal_zlib.compress(raw.data, ISAL_LEVEL)
    return packed + compute_fletcher32(packed).to_bytes(4, "little")


def compute_fletcher32(data: bytes) -> int:
    """HDF5's Fletcher-32 (``H5_checksum_fletcher32``): of big-endian words of 16 bits.

    Both sums are modulo 65,535, which stands for 0 unless all that was added is 0.
    """
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.int64)
    plain = int(words.sum())
    # Sums of so many words fit 63 bits: a chunk is at most 2**20 bytes.
    weighted = int(words @ np.arange(len(words), 0, -1))
    low, high = (total and (total - 1) % 65_535 + 1 for total in (plain, weighted))
    return high << 16 | low


def _count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
