"""The rows file: the arrays of feature files that grow, with room for rows to come.

``features-<id>.rows.h5`` has arrays of ``layout.DTYPES``, contiguous, of more rows than there are
yet. A *head* claims the first T of them: a feature file by its name, and in all that it says of
itself, some or all of whose arrays are virtual datasets over those of rows files, so that any HDF5
program reads them there. Several heads may claim the same rows (``sharing``).

How many rows have ever been claimed lies in the file itself, as ``claimed``, an int64: it is
written before rows are, and rows only past it. So no row is written twice, whatever became of the
heads, and however many folders have the file (as hard links): whoever reads an older head reads on,
undisturbed.

HDF5 writes to a rows file only to make it. What is added later is written past it, to where the
arrays lie, so that nothing else that HDF5 reads of the file changes.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.disk.atomic import write_in_place
from btc_datamodule.disk.hdf5 import (
    advise_repair,
    explain_damage,
    find_dataset,
    is_inside,
    open_hdf5,
    replace_hdf5,
)
from btc_datamodule.disk.in_use import UsedFile, leave_unused, use_file
from btc_datamodule.errors import StoreError, UnreadableError
from btc_datamodule.features.checking import Extent
from btc_datamodule.features.layout import DTYPES

if TYPE_CHECKING:
    import h5py

_CLAIMED = "claimed"
_NAME = re.compile(r"features-[0-9a-f]{16}\.rows\.h5")

_FIRST = ("x", "close")
"""Of the arrays that lie in one file in whatever is written here."""

ROOM_ROWS = 1 << 14
"""Rows that a new rows file has room for at least, beside those that there are."""

ROOM_SHARE = 64
"""One in so many rows is room for more."""


class Claim(NamedTuple):
    """What a head claims of a rows file.

    Attributes:
        head: the feature file.
        file: the rows file.
        rows: how many of its rows, from the first.
        names: of which arrays.
    """

    head: Path
    file: Path
    rows: int
    names: tuple[str, ...]


class Arrays(NamedTuple):
    """Where arrays of a feature file lie that lie in one file.

    Attributes:
        path: of that file: the feature file itself, or a rows file.
        used: it, kept in use, if it is another one and there are locks.
        extents: by name.
        capacity: rows that there is room for.
        claimed: how many of them have been claimed, all in a feature file.
        claimed_at: the byte at which a rows file says so; None in a feature file.
    """

    path: Path
    used: UsedFile | None
    extents: dict[str, Extent]
    capacity: int
    claimed: int
    claimed_at: int | None = None


# --- reading --------------------------------------------------------------------------------------


def read_claims(path: Path, file: "h5py.File", names: Iterable[str] = tuple(DTYPES)) -> list[Claim]:
    """What an open feature file claims of rows files; nothing of one whose arrays are its own.

    Args:
        path: the feature file.
        file: opened.
        names: of the arrays that are looked at.

    Raises:
        StoreError: if arrays are virtual, and not as those of a head are.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for name in names:
        source = _read_source(path, file, name)
        if source is not None:
            found.setdefault(source, []).append(name)
    return [
        Claim(path, path.with_name(name), rows, tuple(inside))
        for (name, rows), inside in found.items()
    ]


def _read_source(path: Path, file: "h5py.File", name: str) -> tuple[str, int] | None:
    """The name of the rows file that an array lies in, and how many rows it has; None if in none.

    Args:
        path: the feature file.
        file: opened.
        name: of the array, which need not be there.
    """
    import h5py

    # By the lower of h5py's two layers: to open a feature file takes 1.5 ms less of 13.
    data = h5py.h5o.open(file.id, name.encode()) if is_inside(file, name) else None
    if not isinstance(data, h5py.h5d.DatasetID):
        return None
    made = data.get_create_plist()
    if made.get_layout() != h5py.h5d.VIRTUAL:
        return None
    shape = data.shape or ()
    if made.get_virtual_count() == 1 and shape:
        from_first = (tuple([0] * len(shape)), tuple(length - 1 for length in shape))
        whole = all(
            space.get_select_npoints() == prod(shape) and space.get_select_bounds() == from_first
            for space in (made.get_virtual_vspace(0), made.get_virtual_srcspace(0))
        )
        source = made.get_virtual_filename(0)
        if whole and made.get_virtual_dsetname(0) == name and _NAME.fullmatch(source):
            return source, shape[0]
    raise _refuse(path, f"{name!r} is neither in it nor in a file of rows")


def find_arrays(
    path: Path, file: "h5py.File", names: Iterable[str], due: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Extent], int]:
    """Where arrays lie in an open file, all of them inside it, and how many rows they have.

    Args:
        path: the file: a feature file with its own arrays, or a rows file.
        file: opened.
        names: of the arrays.
        due: the shape of each without the rows.

    Raises:
        StoreError: if one is absent, of another kind, or not all in the file.
    """
    of_file = path.stat().st_size
    extents: dict[str, Extent] = {}
    rows: int | None = None
    for name in names:
        data, dtype = find_dataset(path, file, name), np.dtype(DTYPES[name])
        rows = (data.shape or (0,))[0] if rows is None else rows
        shape = rows, *due[name]
        if data.shape != shape or data.dtype != dtype or data.chunks is not None:
            raise _refuse(path, f"{name!r} is not a contiguous {shape} array of {dtype.name}")
        offset, width = data.id.get_offset(), dtype.itemsize * prod(shape[1:])
        if offset is None or offset + rows * width > of_file:
            raise _refuse(path, f"{name!r} is not in the file as a whole")
        extents[name] = Extent(int(offset), width)
    return extents, rows or 0


def open_rows(claim: Claim, due: Mapping[str, tuple[int, ...]]) -> Arrays:
    """The arrays that a head claims rows of.

    Args:
        claim: of the head.
        due: the shape of each without the rows.

    Raises:
        StoreError: if the rows file is missing, damaged, or has fewer rows.
    """
    path, used = claim.file, use_file(claim.file)
    with open_hdf5(path) as file, explain_damage(path):
        if used is not None and not used.is_same(file.id.get_vfd_handle()):
            raise _refuse(path, "another file has taken its place just now")
        extents, capacity = find_arrays(path, file, claim.names, due)
        claimed, claimed_at = _read_claimed(path, file)
    if (there := min(capacity, claimed)) < claim.rows:
        raise _refuse(path, f"it has {there:,} rows, and {claim.head} has {claim.rows:,}")
    return Arrays(path, used, extents, capacity, claimed, claimed_at)


def _read_claimed(path: Path, file: "h5py.File") -> tuple[int, int]:
    """How many rows of an open rows file have been claimed, and where it says so."""
    data = find_dataset(path, file, _CLAIMED)
    offset = None if data.chunks is not None else data.id.get_offset()
    if data.shape != (1,) or data.dtype != np.int64 or offset is None:
        raise _refuse(path, f"{_CLAIMED!r} is not a contiguous array of one int64")
    return int(data[0]), int(offset)


def list_claims(heads: Iterable[Path]) -> list[Claim] | None:
    """What some feature files claim of rows files; None if that cannot be told of all of them."""
    claims = []
    for path in heads:
        try:
            with leave_unused(path), open_hdf5(path) as file, explain_damage(path):
                claims += read_claims(path, file, _FIRST)
        except UnreadableError:
            return None
        except StoreError:
            continue
    return claims


def list_rows_files(folder: Path) -> list[Path]:
    """The rows files in a folder, by their names."""
    return sorted(filter(is_rows_file, folder.glob("features-*.h5")))


def is_rows_file(path: Path) -> bool:
    """Whether a file is a rows file, by its name."""
    return _NAME.fullmatch(path.name) is not None


# --- writing --------------------------------------------------------------------------------------


def count_room(rows: int) -> int:
    """Rows that a rows file is made for, of so many that there are."""
    return rows + max(ROOM_ROWS, rows // ROOM_SHARE)


def name_rows_file(path: Path) -> Path:
    """A name for a new rows file beside a feature file."""
    return path.with_name(f"features-{secrets.token_hex(8)}.rows.h5")


@contextmanager
def remove_if_vain(path: Path) -> Iterator[None]:
    """Remove a rows file that is written meanwhile if no head comes to claim it, for an error."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def make_rows_file(
    path: Path,
    arrays: Mapping[str, tuple[int, ...]],
    claimed: int,
    parts: Iterable[tuple[slice, Any]],
) -> None:
    """Write a rows file, of which the rows to come take no room on disk yet.

    Args:
        path: where it shall be.
        arrays: the shape of each, room included.
        claimed: how many rows there are.
        parts: runs of rows that follow each other, each with what gives an array of it by its name.

    Raises:
        StoreError: if it cannot be written, or what it is made of is not as it was written.
    """
    with replace_hdf5(path) as (file, check_disk):
        file.create_dataset(_CLAIMED, data=np.array([claimed], dtype="<i8"))
        data = {name: file.create_dataset(name, arrays[name], DTYPES[name]) for name in arrays}
        for rows, read in parts:
            for name, values in data.items():
                values[rows] = read(name)
            check_disk()


@contextmanager
def add_rows(arrays: Arrays, rows: int) -> Iterator[Callable[[str, int, NDArray[Any]], None]]:
    """Give a function that writes rows of an array, from one on that nobody has claimed yet.

    At the end of the ``with`` they are on disk.

    Args:
        arrays: of a rows file.
        rows: how many there will be: they are claimed, on disk, before any is written.
    """
    assert arrays.claimed_at is not None
    with write_in_place(arrays.path) as write:
        write(arrays.claimed_at, np.array(rows, dtype="<i8").tobytes())
    with write_in_place(arrays.path) as write:

        def write_rows(name: str, row: int, values: NDArray[Any]) -> None:
            offset, width = arrays.extents[name]
            write(offset + row * width, np.ascontiguousarray(values).tobytes())

        yield write_rows


def write_virtual(file: "h5py.File", arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write arrays of a head, open to be written: the first rows of those of a rows file.

    Args:
        file: open, without these arrays.
        arrays: of the rows file.
        shapes: of the arrays of the head, by name.
    """
    import h5py

    for name, shape in shapes.items():
        room = (arrays.capacity, *shape[1:])
        virtual = h5py.VirtualLayout(shape, DTYPES[name])
        virtual[:] = h5py.VirtualSource(arrays.path.name, name, room, DTYPES[name])[: shape[0]]
        file.create_virtual_dataset(name, virtual)


def _refuse(path: Path, what: str) -> StoreError:
    return StoreError(f"{path}: {what}: {advise_repair(path)}")
