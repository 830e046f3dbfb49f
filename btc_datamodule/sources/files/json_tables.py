"""Tables in JSON: rows as lists or as objects, columns as lists, and what exchanges wrap them in.

The table of an answer is the largest list of rows in it, whatever it is wrapped in: ``{"Data":
{"Data": [...]}}`` of one service, ``{"result": {"XXBTZUSD": [...], "last": 1}}`` of another.
"""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from btc_datamodule.errors import CandleError, SourceError, get_first_line
from btc_datamodule.sources.columns import LEFT_OUT, normalise, recognise
from btc_datamodule.sources.files.raw import RawTable, make_frame

if TYPE_CHECKING:
    import polars as pl

DEEPEST = 6
"""Wrappings around a table."""


class Looked(NamedTuple):
    """The table that is looked for in a JSON text.

    Attributes:
        names: of columns by which it is known, as ``normalise`` gives them; none for candles.
    """

    names: frozenset[str]

    def knows(self, name: str) -> bool:
        """Whether a column is one of those by which the table is known."""
        return normalise(name) in self.names if self.names else recognise([name]) != [LEFT_OUT]

    def is_named(self, names: Iterable[Any] | None) -> bool:
        """Whether names are those of the table: all, or of candles four that are known."""
        found = list(map(str, names or []))
        if self.names:
            return self.names <= set(map(normalise, found))
        return sum(map(bool, recognise(found))) >= 4

    def may_be(self, table: RawTable) -> bool:
        """Whether a table may be it: by its names, or a matrix that is wide enough for candles."""
        return table.frame.width >= 5 if table.names is None else self.is_named(table.names)


def looks_like_json(raw: bytes) -> bool:
    """Whether bytes begin as JSON does that could hold a table."""
    return raw[:200].lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"[", b"{")


def read_json(
    raw: bytes, where: str, symbol: str | None = None, names: Sequence[str] = ()
) -> RawTable:
    """Read every column of the table in a JSON text, or in a text of one object a line.

    Args:
        raw: the text.
        where: the file, for errors.
        symbol: which table, where there is one for each market.
        names: of columns by which the table is known; none for one of candles.

    Raises:
        SourceError: if it is no JSON, or there is no table in it, or several.
        CandleError: naming the first row that is longer or shorter than the others.
    """
    try:
        content = _parse(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # RecursionError: brackets nested without end
        raise SourceError(
            f"{where}: damaged, or not JSON ({get_first_line(error)}): get the file again"
        ) from None
    looked = Looked(frozenset(map(normalise, names)))
    tables = _find_tables(content, "", where, DEEPEST, looked)
    named = {name: table for name, table in tables.items() if looked.may_be(table)}
    tables = named or tables
    if symbol is not None and len(tables) > 1:
        tables = {
            name: table._replace(market=name)
            for name, table in tables.items()
            if normalise(symbol) in normalise(name)
        }
    if not tables:
        what = ", ".join(names) or "candles"
        raise SourceError(
            f"{where}: there is no table of {what} in this JSON: it should hold rows (lists or "
            "objects of one kind) or columns (lists of one length)"
        )
    if len(tables) > 1:
        names = list(tables)
        raise SourceError(
            f"{where}: it holds several tables ({', '.join(names[:5])}): choose one, such as "
            f"`symbol: {names[0]}`, or make a file of each"
        )
    return next(iter(tables.values()))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if error.msg != "Extra data" or len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def _find_tables(
    content: Any, name: str, where: str, deepest: int, looked: Looked
) -> dict[str, RawTable]:
    """The tables that a value is or wraps, each by the name of what it stands under."""
    table = None
    if isinstance(content, list) and content:
        pages = [page for page in content if isinstance(page, list) and page]
        if len(pages) == len(content) and all(isinstance(page[0], list | dict) for page in pages):
            content = [row for page in pages for row in page]
        if all(isinstance(row, list) for row in content):
            table = _read_lists(content, where, looked)
        elif all(isinstance(row, dict) for row in content):
            table = _read_objects(content)
            if len(content) == 1 and deepest and not looked.may_be(table):
                table = None
    elif isinstance(content, dict):
        table = _read_columns(content, where, looked)
    if table is not None:
        return {name: table}
    if not deepest or not isinstance(content, dict | list):
        return {}
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    found: dict[str, RawTable] = {}
    for key, value in inner:
        if isinstance(value, dict | list):
            found |= _find_tables(value, str(key), where, deepest - 1, looked)
    return found


def _read_lists(
    rows: Sequence[list[Any]], where: str, looked: Looked, names: list[str] | None = None
) -> RawTable | None:
    """Rows as lists; the first one may be a header."""
    if (
        names is None
        and all(isinstance(name, str) for name in rows[0])
        and looked.is_named(rows[0])
    ):
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
    if any(isinstance(value, dict) for value in rows[0].values()):
        rows = [_flatten(row) for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    series = [_make_series([row.get(name) for row in rows]) for name in names]
    return RawTable(names, make_frame(series))


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what objects in it hold, under their own names; those of the row win."""
    flat = {name: value for name, value in row.items() if not isinstance(value, dict)}
    for value in row.values():
        if isinstance(value, dict):
            flat = {**_flatten(value), **flat}
    return flat


def _gather_lists(content: Any, deepest: int) -> dict[str, list[Any]]:
    """The lists of plain values in an object and in what it holds, by their names."""
    found: dict[str, list[Any]] = {}
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        return found
    for name, value in content.items():
        if isinstance(value, list) and value and not isinstance(value[0], dict | list):
            found[name] = value
        elif deepest:
            found = {**_gather_lists(value, deepest - 1), **found}
    return found


def _read_columns(content: dict[str, Any], where: str, looked: Looked) -> RawTable | None:
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
        return _read_lists(rows, where, looked, names) if rows else None
    if len(lists) == 1:  # the times beside an object that holds the others
        lists = _gather_lists(content, DEEPEST)
    known = {name: values for name, values in lists.items() if looked.knows(name)}
    if looked.is_named(list(lists)):
        if len({len(values) for values in known.values()}) > 1:
            lengths = ", ".join(f"{name} {len(values)}" for name, values in known.items())
            raise CandleError(f"{where}: its columns differ in length ({lengths})")
        height = len(next(iter(known.values())))
        lists = {name: values for name, values in lists.items() if len(values) == height}
        return RawTable(list(lists), make_frame([_make_series(v) for v in lists.values()]))
    inner = {name: value for name, value in content.items() if isinstance(value, dict)}
    if len(inner) != len(content) or not inner:
        return None
    if looked.is_named(list(inner)):  # a column's values by the index
        index = list(dict.fromkeys(key for column in inner.values() for key in column))
        series = [_make_series([column.get(key) for key in index]) for column in inner.values()]
        return RawTable(["", *inner], make_frame([_make_series(index), *series]))
    table = _read_objects(list(inner.values()))
    if not looked.is_named(table.names):
        return None
    return RawTable(  # a row's values by the index
        ["", *(table.names or [])],
        make_frame([_make_series(list(inner)), *table.frame.get_columns()]),
    )


def _spell(name: Any) -> str:
    """A column's name, which pandas may write as a list of levels."""
    return str(tuple(name)) if isinstance(name, list) else str(name)


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
