"""Tables in JSON: rows as lists or as objects, columns as lists, and what exchanges wrap them in.

The table of an answer is the largest list of rows in it, whatever it is wrapped in: ``{"Data":
{"Data": [...]}}`` of one service, ``{"result": {"XXBTZUSD": [...], "last": 1}}`` of another.
"""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from btc_datamodule.errors import CandleError, SourceError, get_first_line
from btc_datamodule.sources.columns import recognise
from btc_datamodule.sources.files.raw import RawTable, make_frame

if TYPE_CHECKING:
    import polars as pl

DEEPEST = 6
"""Wrappings around a table."""


def looks_like_json(raw: bytes) -> bool:
    """Whether bytes begin as JSON does that could hold a table."""
    return raw[:200].lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"[", b"{")


def read_json(raw: bytes, where: str) -> RawTable:
    """Read every column of the table in a JSON text, or in a text of one object a line.

    Raises:
        SourceError: if it is no JSON, or there is no table in it.
        CandleError: naming the first row that is longer or shorter than the others.
    """
    try:
        content = _parse(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # RecursionError: brackets nested without end
        raise SourceError(
            f"{where}: damaged, or not JSON ({get_first_line(error)}): get the file again"
        ) from None
    table = _find_table(content, where, DEEPEST)
    if table is None:
        raise SourceError(
            f"{where}: there is no table of candles in this JSON: it should hold rows (lists or "
            "objects of one kind) or columns (lists of one length)"
        )
    return table


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if error.msg != "Extra data" or len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def _find_table(content: Any, where: str, deepest: int) -> RawTable | None:
    """The table that a value is or wraps, the one of most rows; None if there is none."""
    if isinstance(content, list) and content:
        if all(isinstance(row, list) for row in content):
            return _read_lists(content, where)
        if all(isinstance(row, dict) for row in content):
            objects = _read_objects(content)
            if _is_named(objects.names) or len(content) > 1 or not deepest:
                return objects
    if isinstance(content, dict):
        table = _read_columns(content, where)
        if table is not None:
            return table
    if not deepest:
        return None
    inner = content.values() if isinstance(content, dict) else content
    if not isinstance(content, dict | list):
        return None
    tables = [
        _find_table(value, where, deepest - 1) for value in inner if isinstance(value, dict | list)
    ]
    return max(
        (table for table in tables if table is not None),
        key=lambda table: table.frame.height,
        default=None,
    )


def _read_lists(rows: Sequence[list[Any]], where: str) -> RawTable | None:
    """Rows as lists; the first one may be a header."""
    names = None
    if all(isinstance(name, str) for name in rows[0]) and _is_named(rows[0]):
        names, rows = list(map(str, rows[0])), rows[1:]
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise CandleError(
                f"{where}, row {number}: {len(row)} values instead of {width}: {str(row)[:100]}"
            )
    if width < 2:
        return None
    return RawTable(names, make_frame([_make_series(values) for values in zip(*rows, strict=True)]))


def _read_objects(rows: Sequence[dict[str, Any]]) -> RawTable:
    """Rows as objects; a column that an object lacks is not known there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    series = [_make_series([row.get(name) for row in rows]) for name in names]
    return RawTable(names, make_frame(series))


def _read_columns(content: dict[str, Any], where: str) -> RawTable | None:
    """Columns as lists, or as pandas writes frames; None if it is neither."""
    lists = {name: value for name, value in content.items() if isinstance(value, list)}
    if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):
        rows = content["data"]
        names = [_spell(name) for name in content["columns"]]
        if isinstance(content.get("index"), list) and len(content["index"]) == len(rows):
            names = ["", *names]
            rows = [
                [at, *(row if isinstance(row, list) else [row])]
                for at, row in zip(content["index"], rows, strict=True)
            ]
        return _read_lists([names, *rows], where) if rows else None
    if _is_named(list(lists)):
        longest = max(map(len, lists.values()))
        lists = {name: values for name, values in lists.items() if len(values) == longest}
        return RawTable(list(lists), make_frame([_make_series(v) for v in lists.values()]))
    inner = {name: value for name, value in content.items() if isinstance(value, dict)}
    if len(inner) != len(content) or not inner:
        return None
    if _is_named(list(inner)):  # a column's values by the index
        index = list(dict.fromkeys(key for column in inner.values() for key in column))
        series = [_make_series([column.get(key) for key in index]) for column in inner.values()]
        return RawTable(["", *inner], make_frame([_make_series(index), *series]))
    table = _read_objects(list(inner.values()))
    if not _is_named(table.names):
        return None
    return RawTable(  # a row's values by the index
        ["", *(table.names or [])],
        make_frame([_make_series(list(inner)), *table.frame.get_columns()]),
    )


def _spell(name: Any) -> str:
    """A column's name, which pandas may write as a list of levels."""
    return str(tuple(name)) if isinstance(name, list) else str(name)


def _is_named(names: Iterable[Any] | None) -> bool:
    """Whether names are those of a table of candles: four columns known, or more."""
    return sum(map(bool, recognise(list(map(str, names or []))))) >= 4


def _make_series(values: Sequence[Any]) -> "pl.Series":
    """A column of values parsed from JSON: numbers, truths, or texts where there is any text."""
    import polars as pl

    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {bool}:
        return pl.Series(values, dtype=pl.Boolean)
    try:
        if kinds == {int}:
            return pl.Series(values, dtype=pl.Int64)
        if kinds <= {int, float}:
            floats = [None if value is None else float(value) for value in values]
            return pl.Series(floats, dtype=pl.Float64)
    except (OverflowError, TypeError):  # an integer that no type holds
        pass
    return pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)
