"""HDF5 files of candles: a matrix, a compound dataset, or a group of columns, by path.

Files are data, never programs: nothing is unpickled, and no link leads out of the file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import SourceError, get_first_line
from btc_datamodule.sources.columns import (
    LAYOUTS,
    LEFT_OUT,
    FileTable,
    apply_names,
    name_columns,
    recognise,
)

if TYPE_CHECKING:
    import polars as pl


def read_hdf5(path: Path, columns: tuple[str, ...] | None, dataset: str | None) -> FileTable:
    """Read the candle columns of an HDF5 file.

    Args:
        path: the file.
        columns: a name per column, ``LEFT_OUT`` for some; None to go by the names in the file.
        dataset: path of a dataset or group inside the file; None where there is only one.

    Raises:
        SourceError: if the file is damaged, or its columns cannot be told.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise SourceError(f"{path}: not a readable HDF5 file ({get_first_line(error)})") from None
    with file:
        try:
            node, inside = _find_node(file, dataset, path)
            where = f"{path.name}:{inside}"
            if isinstance(node, h5py.Group):
                found = _read_group(node, where)
            else:
                found = _read_dataset(node, columns, where)
        except (OSError, RuntimeError, KeyError, ValueError) as error:  # h5py's, for any damage
            raise SourceError(f"{path}: damaged HDF5 data ({get_first_line(error)})") from None
    return FileTable(_make_frame(found, columns, where), 1)


def _find_node(file: Any, dataset: str | None, path: Path) -> tuple[Any, str]:
    """Find the dataset or group to read, through hard links only; return it and its path."""
    import h5py

    if dataset is None:
        tables = _list_tables(file)
        if len(tables) != 1:
            raise SourceError(f"{path}: set `dataset`: {_describe_choice(tables)}")
        dataset = tables[0]
    node = file
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
        node = node[part]
    return node, dataset


def _list_tables(file: Any) -> list[str]:
    """List the paths of tables, and of groups of plain columns: whatever could hold candles."""
    import h5py

    tables: set[str] = set()

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            is_column = node.ndim == 1 and node.dtype.names is None
            tables.add((name.rpartition("/")[0] or "/") if is_column else name)

    file.visititems(visit)  # follows no soft or external links
    return sorted(tables)


def _describe_choice(tables: Sequence[str]) -> str:
    """Say which paths there are to choose from, twenty at most."""
    more = f" and {len(tables) - 20} more" if len(tables) > 20 else ""
    return f"the file has {', '.join(tables[:20])}{more}" if tables else "the file has none"


def _read_group(group: Any, where: str) -> dict[str, NDArray[Any]]:
    """Read the datasets of a group that are known columns; leave any other alone."""
    import h5py

    found: dict[str, NDArray[Any]] = {}
    for name in group:
        if all(column == LEFT_OUT for column in recognise([name], [False])):
            continue
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise SourceError(f"{where}/{name}: a soft or external link, which is not followed")
        node = group[name]
        if isinstance(node, h5py.Dataset) and node.ndim == 1:
            found[name] = _read_values(node, f"{where}/{name}")
    if len({len(values) for values in found.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in found.items())
        raise SourceError(f"{where}: its columns differ in length ({lengths})")
    return found


def _read_dataset(
    node: Any, columns: tuple[str, ...] | None, where: str
) -> dict[str, NDArray[Any]]:
    """Read the columns of a compound dataset, by name, or of a matrix, by number."""
    if node.dtype.names is not None and node.ndim == 1:
        values = _read_values(node, where)
        return {name: values[name] for name in node.dtype.names}
    if node.ndim != 2:
        raise SourceError(
            f"{where}: has the shape {node.shape}, which is no table: set `dataset` to a matrix, "
            "a compound dataset, or a group of columns"
        )
    if columns is None:
        raise SourceError(
            f"{where}: a matrix has no names: set `columns` to the names of its {node.shape[1]} "
            f"columns in order, or to one of {', '.join(LAYOUTS)}"
        )
    return {str(i): column for i, column in enumerate(_read_values(node, where).T)}


def _read_values(node: Any, where: str) -> NDArray[Any]:
    """Read a dataset; refuse one that lies in another file, or holds no plain values."""
    if node.is_virtual or node.external:
        raise SourceError(f"{where}: its data lie in other files, which are not followed")
    fields = [node.dtype[name] for name in node.dtype.names or ()] or [node.dtype]
    for kind in fields:
        if kind.kind not in "iufS" or kind.shape:
            raise SourceError(
                f"{where}: holds {kind}, not plain numbers (nothing is unpickled): write it as "
                "numbers"
            )
    values: NDArray[Any] = np.asarray(node[()])
    return values


def _make_frame(
    found: dict[str, NDArray[Any]], columns: tuple[str, ...] | None, where: str
) -> "pl.DataFrame":
    """Make a frame of the columns found in a file, under the package's names."""
    import polars as pl

    is_text = [values.dtype.kind == "S" for values in found.values()]
    names = name_columns(list(found), columns, where, is_text)
    series = []
    for i, values in enumerate(found.values()):
        if values.dtype.kind == "S":
            native: NDArray[Any] = np.char.decode(values, "utf-8", "replace")
        elif values.dtype.kind == "f":
            native = values.astype(np.float64)
        else:
            native = values.astype(values.dtype.newbyteorder("="))
        series.append(pl.Series(f"{i}", np.ascontiguousarray(native)))
    return apply_names(pl.DataFrame(series), names)
