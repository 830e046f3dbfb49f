"""Values of HDF5 datasets: what is read, what is refused, and how much of it.

Runs in the process of ``hdf5_child``. Files are data, never programs: nothing is unpickled, and
nothing leads out of the file.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from btc_datamodule.checks import format_size
from btc_datamodule.errors import SourceError
from btc_datamodule.filters import is_filter_available, load_plugins

NO_TIME = np.iinfo(np.int64).min
"""What numpy and pandas store for an instant that is not known."""

FILTERS = {
    305: "lzo",
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32022: "sz3",
    32026: "blosc2",
    32028: "sperr",
}
"""Filters that HDF5 does not bring along. All but lzo come with the package hdf5plugin."""


class Column(NamedTuple):
    """One column of a file.

    Attributes:
        name: its name in the file, "" for none.
        values: (N,) numbers or bytes; for instants int64 since the epoch, ``NO_TIME`` for none.
        unit: of instants, "s", "ms", "us" or "ns"; None for numbers and texts.
        is_utc: whether instants are those of UTC, rather than of a clock nobody names.
    """

    name: str
    values: NDArray[Any]
    unit: str | None = None
    is_utc: bool = False


@dataclass
class Budget:
    """How many bytes may still be unpacked."""

    left: int
    of: int

    def spend(self, size: int, where: str) -> None:
        """Take ``size`` bytes.

        Raises:
            SourceError: if there are not so many left.
        """
        self.left -= size
        if self.left < 0:
            raise SourceError(
                f"{where}: unpacks to {format_size(self.of - self.left)}, and a file of this size "
                f"may unpack to {format_size(self.of)}: it is damaged, or made to fill the memory"
            )


class NotPlainError(Exception):
    """A dataset holds something else than numbers and texts; says what."""


def get_dtype(node: h5py.Dataset) -> np.dtype[Any] | None:
    """The type of a dataset's values, None where numpy has none, as for HDF5's own times."""
    try:
        found: np.dtype[Any] = node.dtype
    except TypeError:
        return None
    return found


def read_values(
    node: h5py.Dataset, where: str, budget: Budget, *, blocks: bool = False
) -> NDArray[Any]:
    """Read a dataset of numbers, texts, or records of both.

    Args:
        node: the dataset.
        where: file and path, for errors.
        budget: what its size is taken from.
        blocks: whether a field of a record may be a block of several numbers.

    Raises:
        NotPlainError: if it holds anything else.
        SourceError: if its values lie in another file, are too many, or packed with a filter
            that is not there.
    """
    if node.is_virtual or node.external:
        raise SourceError(f"{where}: its data lie in other files, which are not followed")
    kind = get_dtype(node)
    if kind is None:
        raise NotPlainError("values of a type that only HDF5 knows")
    if not node.shape:
        raise NotPlainError("a single value" if node.shape == () else "nothing")
    if h5py.check_string_dtype(kind) is not None and kind.kind == "O":
        _check_filters(node, where)
        return _read_texts(node, where, budget)
    for field in [kind[name] for name in kind.names or ()] or [kind]:
        if (field.base if blocks else field).kind not in "iufSM" or (field.shape and not blocks):
            raise NotPlainError(str(field))
    _check_filters(node, where)
    budget.spend(int(np.prod(node.shape, dtype=object)) * kind.itemsize, where)
    values: NDArray[Any] = np.asarray(node[()])
    return values


def _read_texts(node: h5py.Dataset, where: str, budget: Budget) -> NDArray[Any]:
    """Read texts of any length as an array of bytes objects, some at a time."""
    budget.spend(64 * int(np.prod(node.shape, dtype=object)), where)
    if len(node.shape) != 1:
        raise NotPlainError("texts in a matrix")
    texts: NDArray[Any] = np.empty(len(node), dtype=object)
    for low in range(0, len(node), 4096):
        some = [
            text.encode() if isinstance(text, str) else bytes(text)
            for text in node[low : low + 4096]
        ]
        budget.spend(sum(map(len, some)), where)
        texts[low : low + 4096] = some
    return texts


def _encode(text: str | bytes) -> bytes:
    return text.encode("utf-8", "replace") if isinstance(text, str) else text


def _check_filters(node: h5py.Dataset, where: str) -> None:
    """Raise ``SourceError`` if the dataset is packed with a filter that cannot be had."""
    properties = node.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, label = properties.get_filter(number)
        if is_filter_available(code):
            continue
        name = FILTERS.get(code) or label.decode("ascii", "replace").split("\0")[0] or "unknown"
        told = f"{where}: is packed with the HDF5 filter {code} ({name}), which is not installed"
        if code in FILTERS and name != "lzo" and not load_plugins():
            raise SourceError(f"{told}: run pip install hdf5plugin")
        raise SourceError(f"{told}: write it anew packed with zlib (gzip), or not at all")


def as_column(name: str, values: NDArray[Any]) -> Column:
    """A column of values as a dataset holds them, instants of numpy told as such."""
    if values.dtype.kind != "M":
        return Column(name, values)
    unit = np.datetime_data(values.dtype)[0]
    if unit not in {"s", "ms", "us", "ns"}:
        values, unit = values.astype("M8[s]"), "s"
    return Column(name, values.astype(values.dtype.newbyteorder("=")).view(np.int64), unit)
