"""Tables that pandas wrote into an HDF5 file, in its fixed and its table format.

What pandas keeps there is laid out for itself. Fixed: ``axis0`` the names of the columns,
``axis1`` the index, ``block0_items`` and ``block0_values`` the columns of one type. Table: a
compound dataset ``table`` whose field ``index`` is the index; a field ``values_block_0`` holds the
columns that the pickled attribute ``values_block_0_kind`` names, any other field one column.
Pickled names are read without running the pickle; pickled columns are left out.
"""

import re
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files.hdf5_values import (
    NO_TIME,
    Budget,
    Column,
    NotPlainError,
    read_values,
)
from btc_datamodule.sources.files.pickled import OPAQUE, read_pickled

_EPOCH = 719_163
"""Python's ordinal of 1970-01-01."""

_MANY = 1000
"""Blocks that a table may have; pandas makes one for each type of values."""


def get_pandas_type(node: Any) -> str:
    """What pandas says that a group is, "frame" and "frame_table" for tables; "" for no pandas."""
    found = read_attribute(node, "pandas_type") if isinstance(node, h5py.Group) else None
    return found if isinstance(found, str) else ""


def read_attribute(node: Any, name: str) -> Any:
    """An attribute as PyTables writes it, a pickled one as ``read_pickled`` gives it back."""
    value = node.attrs.get(name)
    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        if value.endswith(b"."):
            try:
                return read_pickled(value)
            except ValueError:
                pass
        return value.decode("utf-8", "replace")
    return value


def read_pandas(group: h5py.Group, where: str, budget: Budget) -> list[Column]:
    """Read a table of pandas: its index, then its columns in their order.

    Raises:
        SourceError: if it is no table, or damaged.
    """
    kind = get_pandas_type(group)
    if kind == "frame":
        columns = _read_fixed(group, where, budget)
    elif kind == "frame_table":
        columns = _read_table(group, where, budget)
    else:
        raise SourceError(f"{where}: pandas wrote a {kind} there: write a DataFrame instead")
    if not columns:
        raise SourceError(
            f"{where}: holds pickled values alone, and nothing is unpickled: write it as numbers"
        )
    return columns


def _find(group: h5py.Group, name: str, where: str) -> h5py.Dataset:
    """A dataset that belongs to the table; the path may have several parts."""
    node: Any = group
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(
            node.get(part, getlink=True), h5py.HardLink
        ):
            raise SourceError(f"{where}: damaged, its {name} is missing")
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise SourceError(f"{where}: damaged, its {name} is no dataset")
    return node


# ------------------------------------------------------------------------------- the fixed format


def _read_fixed(group: h5py.Group, where: str, budget: Budget) -> list[Column]:
    index = list(_read_axis(group, "axis1", where, budget))
    columns: list[Column] = []
    blocks = read_attribute(group, "nblocks")
    if not isinstance(blocks, int) or not 0 <= blocks <= _MANY:
        raise SourceError(f"{where}: damaged, it says that it has {blocks!r} blocks")
    for number in range(blocks):
        try:
            items = _read_items(group, f"block{number}_items", where, budget)
        except NotPlainError:
            raise SourceError(
                f"{where}: the names of its columns are pickled, and nothing is unpickled: write "
                "it with texts for names"
            ) from None
        node = _find(group, f"block{number}_values", where)
        try:
            values = _read_array(node, f"{where}/block{number}_values", budget)
        except NotPlainError:
            continue
        if values.ndim != 2 or values.shape[1] != len(items):
            raise SourceError(
                f"{where}: damaged, block{number}_values has the shape {values.shape} and "
                f"{len(items)} names"
            )
        told, is_utc = read_attribute(node, "value_type"), _has_zone(node)
        for i, item in enumerate(items):
            columns += _make_column(item, values[:, i], told, is_utc)
    try:
        order = {name: i for i, name in enumerate(_read_items(group, "axis0", where, budget))}
    except NotPlainError:
        order = {}
    columns.sort(key=lambda column: order.get(column.name, len(order)))
    return check_lengths([*index, *columns], where)


def _read_array(node: h5py.Dataset, where: str, budget: Budget) -> NDArray[Any]:
    """An array of the fixed format, rows first; an empty one has its shape in an attribute."""
    values = read_values(node, where, budget)
    shape = read_attribute(node, "shape")
    if isinstance(shape, tuple) and 0 in shape and len(shape) <= 2:
        return np.empty([int(size) for size in shape][::-1], values.dtype)
    return values if read_attribute(node, "transposed") else values.T


def _read_axis(group: h5py.Group, key: str, where: str, budget: Budget) -> Iterator[Column]:
    """The columns of an axis: one, or one for each level; none that is pickled."""
    if read_attribute(group, f"{key}_variety") != "multi":
        yield from _read_index(_find(group, key, where), f"{where}/{key}", budget)
        return
    levels = read_attribute(group, f"{key}_nlevels")
    for number in range(levels if isinstance(levels, int) and levels < _MANY else 0):
        node = _find(group, f"{key}_level{number}", where)
        labels = _find(group, f"{key}_label{number}", where)
        for level in _read_index(node, f"{where}/{key}_level{number}", budget):
            yield _take(level, _read_array(labels, f"{where}/{key}_label{number}", budget), where)


def _read_index(node: h5py.Dataset, where: str, budget: Budget) -> Iterator[Column]:
    try:
        values = _read_array(node, where, budget)
    except NotPlainError:
        return
    if read_attribute(node, "index_class") == "period":
        raise _refuse_periods(where)
    name = name_text(read_attribute(node, "name"))
    yield from _make_column(name, values, read_attribute(node, "kind"), _has_zone(node))


def _read_items(group: h5py.Group, key: str, where: str, budget: Budget) -> list[str]:
    """The names of columns that an axis holds; those of several levels as a tuple's text."""
    levels = [
        [name_text(value) for value in level.values.tolist()]
        for level in _read_axis(group, key, where, budget)
    ]
    if not levels:
        raise NotPlainError("pickled names")
    if len(levels) == 1:
        return levels[0]
    return [str(names) for names in zip(*levels, strict=True)]


def _has_zone(node: h5py.Dataset) -> bool:
    return read_attribute(node, "tz") is not None


# ------------------------------------------------------------------------------- the table format


def _read_table(group: h5py.Group, where: str, budget: Budget) -> list[Column]:
    node = _find(group, "table", where)
    try:
        values = read_values(node, f"{where}/table", budget, blocks=True)
    except NotPlainError as error:
        raise SourceError(
            f"{where}/table: holds {error}, not plain numbers: write its times as datetime64, and "
            "other columns as numbers"
        ) from None
    if values.dtype.names is None or values.ndim != 1:
        raise SourceError(f"{where}: damaged, its table is no table of records")
    info = _read_info(group)
    is_numbered = isinstance(read_attribute(group, "levels"), list)  # the index is a MultiIndex
    index: list[Column] = []
    columns: list[Column] = []
    for field in values.dtype.names:
        told = info.get(field, {})
        is_utc = told.get("tz") is not None
        if field == "index":
            kind = read_attribute(node, "index_kind")
            if kind == "integer" and told.get("freq") is not None:
                raise _refuse_periods(where)
            if not is_numbered:
                name = name_text(told.get("index_name"))
                index += _make_column(name, values[field], kind, is_utc)
            continue
        block = values[field] if values[field].ndim == 2 else values[field].reshape(-1, 1)
        kind = read_attribute(node, f"{field}_dtype")
        is_category = read_attribute(node, f"{field}_meta") == "category"
        for i, name in enumerate(_name_block(node, field, block.shape[1], where)):
            if is_category:
                columns.append(_read_category(group, field, name, block[:, i], where, budget))
            else:
                columns += _make_column(name, block[:, i], kind, is_utc)
    order = _read_order(group)
    columns.sort(key=lambda column: order.get(column.name, len(order)))
    return index + columns


def _name_block(node: h5py.Dataset, field: str, width: int, where: str) -> list[str]:
    """The names of the columns that a field of a table holds."""
    names = read_attribute(node, f"{field}_kind")
    if isinstance(names, list) and len(names) == width:
        return [name_text(name) for name in names]
    if width == 1 and not field.startswith("values_block_"):
        return [field]
    raise SourceError(f"{where}: damaged, it does not tell the names of {width} columns ({field})")


def _read_info(group: h5py.Group) -> dict[str, dict[str, Any]]:
    """What pandas says of each field: zone, frequency, name of the index."""
    info = read_attribute(group, "info")
    found = info.items() if isinstance(info, dict) else ()
    return {key: told for key, told in found if isinstance(key, str) and isinstance(told, dict)}


def _read_order(group: h5py.Group) -> dict[str, int]:
    """The place of each column, by its name."""
    axes = read_attribute(group, "non_index_axes")
    try:
        ((_, names),) = axes
        return {name_text(name): i for i, name in enumerate(names)}
    except (TypeError, ValueError):
        return {}


def _read_category(
    group: h5py.Group, field: str, name: str, codes: NDArray[Any], where: str, budget: Budget
) -> Column:
    """A column of categories: what the codes stand for."""
    place = f"meta/{field}/meta/table"
    try:
        records = read_values(_find(group, place, where), f"{where}/{place}", budget)
        return _take(Column(name, records["values"]), codes, where)
    except (NotPlainError, ValueError, IndexError):
        raise SourceError(f"{where}: damaged, the categories of {name} cannot be read") from None


# ------------------------------------------------------------------------------- what values mean


def name_text(name: Any) -> str:
    """The name of a column as a text, "" for none."""
    if name is None or name is OPAQUE:
        return ""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _make_column(name: str, values: NDArray[Any], kind: Any, is_utc: bool) -> list[Column]:
    """A column of values that pandas calls ``kind``; none if it has no meaning in a file."""
    kind = str(kind)
    instant = re.fullmatch(r"datetime64(?:\[(s|ms|us|ns)(?:, .*)?\])?", kind)
    if values.dtype.kind not in "iu" and (instant or kind in {"date", "datetime"}):
        return []
    if instant:
        unit = instant[1] or "ns"
        return [Column(name, values.astype(np.int64), unit, is_utc)]
    if kind == "date":
        return [Column(name, (values.astype(np.int64) - _EPOCH) * 86_400, "s")]
    if kind.startswith(("timedelta", "object", "complex")):
        return []
    return [Column(name, values)]


def _take(level: Column, labels: NDArray[Any], where: str) -> Column:
    """The values that labels stand for; a label below zero stands for none."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or level.values.ndim != 1:
        raise SourceError(f"{where}: damaged, labels that are no numbers")
    if len(labels) and int(labels.max()) >= len(level.values):
        raise SourceError(f"{where}: damaged, a label beyond the values that there are")
    missing: Any = {"S": b"", "f": np.nan}.get(level.values.dtype.kind, NO_TIME)
    values = level.values
    if values.dtype.kind in "iu" and level.unit is None and (labels < 0).any():
        values, missing = values.astype(np.float64), np.nan
    values = np.concatenate([values, np.array([missing]).astype(values.dtype)])
    return level._replace(values=values[np.maximum(labels.astype(np.int64), -1)])


def _refuse_periods(where: str) -> SourceError:
    return SourceError(
        f"{where}: its index is of periods, not of instants: write it with "
        "frame.to_timestamp().to_hdf(...)"
    )


def check_lengths(columns: list[Column], where: str) -> list[Column]:
    """The columns, if they are of one length.

    Raises:
        SourceError: if they are not.
    """
    if len({len(column.values) for column in columns}) > 1:
        lengths = ", ".join(f"{column.name} {len(column.values)}" for column in columns)
        raise SourceError(f"{where}: its columns differ in length ({lengths})")
    return columns
