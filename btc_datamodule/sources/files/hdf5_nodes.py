"""The table in an HDF5 file: which node it is, and its columns.

A matrix, a compound dataset, a group of columns of one length, or a table of pandas. Runs in the
process of ``hdf5_child``. It promises that no link leads out of the file, and that an error is a
``SourceError`` of one line, whatever is damaged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from btc_datamodule.errors import SourceError, get_first_line
from btc_datamodule.sources.files.hdf5_pandas import check_lengths, get_pandas_type, read_pandas
from btc_datamodule.sources.files.hdf5_values import (
    Budget,
    Column,
    NotPlainError,
    as_column,
    get_dtype,
    read_values,
)


class Found(NamedTuple):
    """What a file holds: its columns, and whether their names are the file's own."""

    columns: list[Column]
    is_named: bool


def read_columns(path: Path, dataset: str | None, budget: Budget) -> Found:
    """Read the columns of one table in an HDF5 file.

    Args:
        path: the file.
        dataset: path of a dataset, a group, or a table of pandas; None where there is only one.
        budget: how many bytes may be unpacked.

    Raises:
        SourceError: if the file cannot be read, or the table cannot be told.
    """
    file = _open(path)
    try:
        node, inside = _find_node(file, dataset, path)
        return _read_node(node, f"{path.name}:{inside}", budget)
    except SourceError:
        raise
    except MemoryError:
        raise SourceError(
            f"{path}: damaged HDF5 data (it asks for more memory than a file of this size needs)"
        ) from None
    except Exception as error:  # h5py and numpy raise whatever they like for damage
        raise SourceError(f"{path}: damaged HDF5 data ({get_first_line(error)})") from None


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking="best-effort")
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file, check `path`") from None
    except PermissionError:
        raise SourceError(f"{path}: may not be read by this user, change its permissions") from None
    except Exception as error:
        told = get_first_line(error)
        if isinstance(error, BlockingIOError) or "unable to lock file" in told:
            raise SourceError(
                f"{path}: another program has it open for writing: close it there, or copy the file"
            ) from None
        if "already open for write" in told:
            raise SourceError(
                f"{path}: a program that writes it has not closed it: close it there; if that "
                "program is gone, run `h5clear -s` on the file"
            ) from None
        raise SourceError(f"{path}: not a readable HDF5 file ({told})") from None


def _find_node(file: h5py.File, dataset: str | None, path: Path) -> tuple[Any, str]:
    """Find what to read, through hard links only; return it and its path."""
    if dataset is None:
        tables = _list_tables(file)
        if len(tables) != 1:
            raise SourceError(f"{path}: set `dataset`: {_describe_choice(tables)}")
        dataset = tables[0]
    node: Any = file
    for part in [part for part in dataset.split("/") if part not in {"", "."}]:
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise SourceError(
                f"{path}: no dataset {dataset!r}, set `dataset`: "
                f"{_describe_choice(_list_tables(file))}"
            )
        if not isinstance(link, h5py.HardLink):
            raise SourceError(
                f"{path}: {dataset!r} leads through a soft or external link, which is not "
                "followed: set `dataset` to where the data itself lies"
            )
        if part == "table" and get_pandas_type(node) == "frame_table":
            return node, dataset
        node = node[part]
    return node, dataset


def _list_tables(file: h5py.File) -> list[str]:
    """List the paths of tables, and of groups of plain columns: whatever could hold candles.

    A table of pandas is one path; what pandas and PyTables keep inside it is none.
    """
    tables: set[str] = set()
    closed: set[str] = set()

    def visit(name: str, node: Any) -> None:
        parents = [name[:at] for at, sign in enumerate(name) if sign == "/"]
        is_inside = not closed.isdisjoint(parents)
        if isinstance(node, h5py.Group):
            kind = get_pandas_type(node)
            if kind.startswith("frame") or (kind and not is_inside):
                tables.add(name)
                closed.add(name)
            elif node.attrs.get("CLASS") == b"TINDEX":  # how PyTables finds rows
                closed.add(name)
        elif isinstance(node, h5py.Dataset) and not is_inside:
            kind_of_values = get_dtype(node)
            is_column = node.ndim == 1 and (kind_of_values is None or not kind_of_values.names)
            tables.add((name.rpartition("/")[0] or "/") if is_column else name)

    file.visititems(visit)  # follows no soft or external links
    return sorted(tables)


def _describe_choice(tables: Sequence[str]) -> str:
    """Say which paths there are to choose from, twenty at most."""
    more = f" and {len(tables) - 20} more" if len(tables) > 20 else ""
    return f"the file has {', '.join(tables[:20])}{more}" if tables else "the file has none"


def _read_node(node: Any, where: str, budget: Budget) -> Found:
    if isinstance(node, h5py.Group):
        if get_pandas_type(node):
            return Found(read_pandas(node, where, budget), True)
        return Found(_read_group(node, where, budget), True)
    if not isinstance(node, h5py.Dataset):
        raise SourceError(f"{where}: is a type, not a table: set `dataset` to a table")
    kind = get_dtype(node)
    is_record = kind is not None and kind.names is not None and node.ndim == 1
    if not is_record and node.ndim != 2:
        raise SourceError(
            f"{where}: has the shape {node.shape}, which is no table: set `dataset` to a matrix, "
            "a compound dataset, or a group of columns"
        )
    try:
        values = read_values(node, where, budget)
    except NotPlainError as error:
        raise SourceError(_say_not_plain(where, error)) from None
    if is_record:
        return Found([as_column(name, values[name]) for name in values.dtype.names or ()], True)
    return Found([as_column(str(i), values[:, i]) for i in range(values.shape[1])], False)


def _read_group(group: h5py.Group, where: str, budget: Budget) -> list[Column]:
    """Read the columns of a group: all its datasets of one dimension that hold plain values."""
    columns: list[Column] = []
    unread: list[str] = []
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise SourceError(f"{where}/{name}: a soft or external link, which is not followed")
        node = group[name]
        if not isinstance(node, h5py.Dataset) or node.ndim != 1:
            continue
        try:
            values = read_values(node, f"{where}/{name}", budget)
        except NotPlainError as error:
            unread.append(_say_not_plain(f"{where}/{name}", error))
            continue
        if values.dtype.names is None:
            columns.append(as_column(name, values))
    if not columns:
        raise SourceError(
            unread[0]
            if unread
            else f"{where}: a group without columns: set `dataset` to one with a table"
        )
    longest = max(len(column.values) for column in columns)
    if longest > 1:  # a value alone beside columns is a remark on them
        columns = [column for column in columns if len(column.values) != 1]
    return check_lengths(columns, where)


def _say_not_plain(where: str, error: NotPlainError) -> str:
    return f"{where}: holds {error}, not plain numbers (nothing is unpickled): write it as numbers"
