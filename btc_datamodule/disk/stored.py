"""Datasets of files of ours, whose declared sizes are believed only where bytes stand behind them.

HDF5 does what a file says: it makes room for any shape, as what was never written takes no space
on disk; unpacks whatever a chunk grows to; crashes on a chunk that is shorter than its checksum.
So a dataset's shape is compared with what is stored of it when it is found, and each chunk's
stored size looked at before HDF5 unpacks it.
"""

from collections.abc import Iterator
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.disk.hdf5 import advise_repair, find_dataset
from btc_datamodule.errors import StoreError, UnreadableError
from btc_datamodule.filters import is_filter_available, load_plugins

if TYPE_CHECKING:
    import h5py

CHUNK_BYTES = 1 << 20
"""Of a chunk at most, unpacked: gzip makes a thousand bytes of one, and a chunk is read whole."""

SMALL_BYTES = 1 << 26
"""Of what is read whole, unpacked at most, unless half as much is stored of it."""

_CHECKSUM_BYTES = 4


class Stored:
    """A dataset of one or two dimensions, read by rows.

    Attributes:
        shape: its shape.
        dtype: type of its values.

    Raises:
        StoreError: if there is none, it lies elsewhere, or less is stored of it than it declares.
        UnreadableError: if it is packed with a filter that is not installed.
    """

    def __init__(self, path: Path, file: "h5py.File", name: str) -> None:
        self.path = path
        self.name = name
        self._data = find_dataset(path, file, name)
        self.shape: tuple[int, ...] = self._data.shape or ()
        self.dtype: np.dtype[Any] = self._data.dtype
        self._filters = _list_filters(path, name, self._data)
        self._seen: set[int] = set()
        self._check_size(path.stat().st_size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice) -> Any:
        """One value, or the values of a slice of rows without a step."""
        low, high, _ = (rows if isinstance(rows, slice) else slice(rows, None)).indices(len(self))
        self._check_chunks(low, high if isinstance(rows, slice) else low + 1)
        return self._data[rows]

    def read_small(self) -> Iterator[NDArray[Any]]:
        """All rows, some at a time: who checks each piece stops at the first that is wrong.

        Raises:
            StoreError: if it is larger than anything that was written would be.
        """
        size = prod(self.shape) * self.dtype.itemsize
        if size > max(SMALL_BYTES, 2 * self._data.id.get_storage_size()):
            raise self._refuse(f"declares {size:,} bytes, and {self._count_stored():,} are stored")
        step = max(1, (1 << 20) // max(1, size // max(1, len(self))))
        for low in range(0, len(self), step):
            yield self[low : low + step]

    def _count_stored(self) -> int:
        return int(self._data.id.get_storage_size())

    def _check_size(self, of_file: int) -> None:
        import h5py

        size = prod(self.shape) * self.dtype.itemsize
        layout = self._data.id.get_create_plist().get_layout()
        if layout == h5py.h5d.COMPACT or not size:
            return
        stored = self._count_stored()
        if layout == h5py.h5d.CONTIGUOUS:
            offset = self._data.id.get_offset()
            whole = offset is not None and offset + size <= of_file
        else:
            chunk = prod(self._data.chunks) * self.dtype.itemsize
            if chunk > CHUNK_BYTES:
                raise self._refuse(
                    f"is stored in chunks of {chunk:,} bytes, and {CHUNK_BYTES:,} may be unpacked "
                    "at once"
                )
            number = prod(
                ceil(length / each)
                for length, each in zip(self.shape, self._data.chunks, strict=True)
            )
            whole = number <= stored and self._data.id.get_num_chunks() == number
        if not whole or stored > of_file:
            raise self._refuse(f"declares {size:,} bytes, which are not all in the file")

    def _check_chunks(self, low: int, high: int) -> None:
        """Look at the chunks that hold rows [low, high), each once."""
        if self._data.chunks is None:
            return
        rows, *others = self._data.chunks
        starts = [
            range(0, length, each) for length, each in zip(self.shape[1:], others, strict=True)
        ]
        for number in range(low // rows, ceil(high / rows)):
            if number not in self._seen:
                for rest in product(*starts):
                    self._check_chunk((number * rows, *rest))
                self._seen.add(number)

    def _check_chunk(self, start: tuple[int, ...]) -> None:
        import h5py

        found = self._data.id.get_chunk_info_by_coord(start)
        size = prod(self._data.chunks) * self.dtype.itemsize
        used = [code for at, code in enumerate(self._filters) if not found.filter_mask >> at & 1]
        checksum = _CHECKSUM_BYTES * (h5py.h5z.FILTER_FLETCHER32 in used)
        least = most = size + checksum
        if set(used) - {h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_SHUFFLE}:
            least, most = checksum + 1, most + size // 8 + 4096
        if found.byte_offset is None or not least <= found.size <= most:
            raise self._refuse(f"has a chunk of {found.size:,} bytes for {size:,}, at {start[0]:,}")

    def _refuse(self, what: str) -> StoreError:
        return StoreError(f"{self.path}: {self.name!r} {what}: {advise_repair(self.path)}")


def _list_filters(path: Path, name: str, data: "h5py.Dataset") -> tuple[int, ...]:
    """The codes of a dataset's filters, in order, all of which can be had, and none twice."""
    properties = data.id.get_create_plist()
    codes = []
    for number in range(properties.get_nfilters()):
        code, _, _, label = properties.get_filter(number)
        codes.append(code)
        if is_filter_available(code):
            continue
        known = label.split(b"\0")[0].decode("ascii", "replace").split(":")[0] or "of no name"
        advice = "run `pip install hdf5plugin`, or " if not load_plugins() else ""
        raise UnreadableError(
            f"{path}: {name!r} is packed with the HDF5 filter {code} ({known}), which is not "
            f"installed: {advice}store it anew by `h5repack -f GZIP=4` where it is"
        )
    if len(set(codes)) < len(codes):
        raise StoreError(f"{path}: {name!r} is packed twice over: {advise_repair(path)}")
    return tuple(codes)
