"""Tables in HDF5 as pandas lays them out, written by h5py alone.

What is written here can be read by ``pandas.read_hdf``, and has the nodes and attributes of what
pandas 2.2 and 3.1 write with PyTables 3.11; PyTables itself is not needed for the tests.
"""

import datetime
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np


class Index(NamedTuple):
    """The index of a table: its values as stored, what pandas calls them, its name and zone."""

    values: Any
    kind: str = "integer"
    name: str | None = None
    zone: Any = None


UTC = datetime.UTC


def pickled(value: Any) -> np.bytes_:
    """A value as PyTables pickles it into an attribute."""
    return np.bytes_(pickle.dumps(value, 0))


def put(node: Any, name: str, value: Any) -> None:
    """Set an attribute as PyTables does: texts of a fixed size in UTF-8, pickles in ASCII."""
    if isinstance(value, str) and not value:
        node.attrs[name] = h5py.Empty("S1")
    elif isinstance(value, str):
        text = value.encode()
        node.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", len(text)))
    else:
        node.attrs[name] = value


def describe(node: Any, what: str, version: str, **more: Any) -> None:
    """Give a node the attributes that PyTables gives it, and more."""
    for name, value in {"CLASS": what, "TITLE": "", "VERSION": version, **more}.items():
        put(node, name, value)


def make_group(file: h5py.File, key: str, **more: Any) -> h5py.Group:
    """A group under a key, with what PyTables says of it and of those above it."""
    describe(file, "GROUP", "1.0", PYTABLES_FORMAT_VERSION="2.1")
    node: Any = file
    for part in key.split("/"):
        node = node.require_group(part)
        describe(node, "GROUP", "1.0")
    for name, value in more.items():
        put(node, name, value)
    return node


def write_fixed(
    path: Path, key: str, index: Index, blocks: list[Mapping[str, Any]], **packing: Any
) -> None:
    """Write a table in the fixed format; each block is columns of one type."""
    names = [name for block in blocks for name in block]
    with h5py.File(path, "a", libver=("earliest", "v110")) as file:
        varieties = {
            f"{axis}_variety": "regular"
            for axis in ("axis0", "axis1", *(f"block{i}_items" for i in range(len(blocks))))
        }
        group = make_group(
            file, key, pandas_type="frame", encoding="UTF-8", errors="strict", ndim=np.int64(2),
            nblocks=np.int64(len(blocks)), **varieties,
        )  # fmt: skip

        def write(node: str, values: Any, **more: Any) -> None:
            data = group.create_dataset(node, data=values, **(packing if values.ndim == 2 else {}))
            describe(data, "ARRAY", "2.4", FLAVOR="numpy", transposed=np.uint8(1), **more)

        def write_names(node: str, values: list[str]) -> None:
            texts = np.array([value.encode() for value in values])
            write(node, texts, kind="string", name=pickled(None), nan_rep="")

        write_names("axis0", names)
        more = {} if index.zone is None else {"tz": _write_zone(index.zone)}
        if index.kind.startswith("datetime64"):
            more |= {"freq": pickled(None), "index_class": "datetime"}
        name = pickled(None) if index.name is None else index.name
        write("axis1", np.asarray(index.values), kind=index.kind, name=name, **more)
        for number, block in enumerate(blocks):
            write_names(f"block{number}_items", list(block))
            values = np.stack([np.asarray(column) for column in block.values()], axis=1)
            more = {}
            if values.dtype.kind == "M":
                more = {"value_type": str(values.dtype)}
                values = values.view(np.int64)
            write(f"block{number}_values", values, **more)


def write_table(
    path: Path, key: str, index: Index, blocks: list[Mapping[str, Any]],
    data_columns: Mapping[str, Any] | None = None, zones: Mapping[str, Any] | None = None,
    order: list[str] | None = None, is_indexed: bool = False, **packing: Any,
) -> None:  # fmt: skip
    """Write a table in the table format; ``data_columns`` have fields of their own.

    With ``is_indexed`` there is a stub of what PyTables finds rows by, which it could not read.
    """
    index_values = np.asarray(index.values)
    fields: dict[str, Any] = {
        f"values_block_{i}": np.stack([np.asarray(c) for c in block.values()], axis=1)
        for i, block in enumerate(blocks)
    }
    names = {f"values_block_{i}": list(block) for i, block in enumerate(blocks)}
    for name, values in (data_columns or {}).items():
        fields[name], names[name] = np.asarray(values), [name]
    kinds = {name: str(values.dtype) for name, values in fields.items()}
    fields = {n: v.view(np.int64) if v.dtype.kind == "M" else v for n, v in fields.items()}
    layout = [("index", index_values.dtype)] + [
        (name, values.dtype, values.shape[1:]) for name, values in fields.items()
    ]
    records = np.zeros(len(index_values), layout)
    records["index"] = index_values
    for name, values in fields.items():
        records[name] = values
    about: dict[str, Any] = {} if index.zone is None else {"tz": index.zone}
    about |= {} if index.name is None else {"index_name": index.name}
    info = {1: {"names": [None], "type": "Index"}, "index": about}
    info |= {n: {"tz": zones[n]} if n in (zones or {}) else {} for n in fields}  # type: ignore[index]
    every = order or [each for field in fields for each in names[field]]
    with h5py.File(path, "a", libver=("earliest", "v110")) as file:
        group = make_group(
            file, key, pandas_type="frame_table", table_type="appendable_frame",
            encoding="UTF-8", errors="strict", levels=np.int64(1), nan_rep="nan",
            data_columns=pickled(list(data_columns or {})), info=pickled(info),
            index_cols=pickled([(0, "index")]), non_index_axes=pickled([(1, every)]),
            values_cols=pickled(list(fields)),
        )  # fmt: skip
        packing = {"chunks": (max(len(records), 1),), "maxshape": (None,), **packing}
        table = group.create_dataset("table", data=records, **packing)
        describe(table, "TABLE", "2.7", NROWS=np.int64(len(records)), index_kind=index.kind)
        for number, name in enumerate(records.dtype.names or ()):
            put(table, f"FIELD_{number}_NAME", name)
            table.attrs[f"FIELD_{number}_FILL"] = np.float64(0)
        for name, kind in kinds.items():
            put(table, f"{name}_dtype", kind)
            put(table, f"{name}_kind", pickled(names[name]))
            put(table, f"{name}_meta", pickled(None))
        if is_indexed:
            rows = group.create_group("_i_table")
            describe(rows, "TINDEX", "1.0")
            describe(rows.create_group("index"), "INDEX", "2.1")
            describe(rows["index"].create_dataset("abounds", (0,), "<i8"), "EARRAY", "1.1")


def _write_zone(zone: Any) -> str | np.bytes_:
    return zone if isinstance(zone, str) else pickled(zone)
