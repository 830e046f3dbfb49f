"""CSV files of candles, plain or gzipped, with a header, a banner before it, or neither.

The fast way reads typed columns in polars. Only where that fails, or the number of fields does
not add up, are lines looked at one by one, to name the first broken one.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from btc_datamodule.candles.series import REQUIRED
from btc_datamodule.errors import CandleError, SourceError, get_first_line
from btc_datamodule.sources.columns import (
    LAYOUTS,
    LEFT_OUT,
    FileTable,
    apply_names,
    check_width,
    name_columns,
    recognise,
)

if TYPE_CHECKING:
    import polars as pl

_NULLS = ["NULL", "Null", "null", "None", "NA", "N/A", "#N/A"]


class _Line(NamedTuple):
    """A line that is not blank: its fields, its offset in bytes, its number counted from 1."""

    fields: list[str]
    start: int
    number: int


class _Layout(NamedTuple):
    """The layout of a CSV: a name per field, and the first line that is a row."""

    names: list[str]
    first: _Line


def read_csv(path: Path, columns: tuple[str, ...] | None) -> FileTable:
    """Read the candle columns of a CSV file.

    Args:
        path: the file, plain or gzipped.
        columns: a name per column of the file, in its order, ``LEFT_OUT`` for some; None to go
            by the file's own names.

    Raises:
        SourceError: if the file is damaged, or its columns cannot be told.
        CandleError: naming the first row with too few or too many fields.
    """
    where = path.name
    raw = _read_bytes(path)
    names, first = _find_layout(raw, columns, where)
    body = _strip_blank_end(raw[first.start :])
    frame = _parse_typed(body, names, first)
    if frame is None or _has_suspect_rows(frame, body):
        _check_lines(body, len(names), first.number, where)
    if frame is None:
        frame = _parse_as_text(body, names, where)
    return FileTable(apply_names(frame, names), first.number)


def _read_bytes(path: Path) -> bytes:
    """Read the bytes of a text file, unpacked, without a byte order mark."""
    try:
        raw = path.read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(
            f"{path}: the gzip data is damaged or cut short ({error}): get the file again"
        ) from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    if b"\0" in raw[:4096]:
        raise SourceError(f"{path}: this is no CSV text (it holds binary data)")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if not raw or raw.isspace():  # not strip, which copies
        raise SourceError(f"{path}: the file is empty")
    return raw


def _strip_blank_end(body: bytes) -> bytes:
    """Take off blank lines at the end, which polars would read as rows of nulls.

    One line end is left where there is no more: cutting it off would copy the file's bytes.
    """
    return body.rstrip(b"\r\n") if body[-3:].count(b"\n") > 1 else body


def _find_layout(raw: bytes, columns: tuple[str, ...] | None, where: str) -> _Layout:
    """Find the header, or do without one: it is the first line, or the second under a banner."""
    lines = _read_first_lines(raw, 3, where)
    for separator in (";", "\t"):
        if all(line.fields[0].count(separator) >= len(REQUIRED) - 1 for line in lines[-1:]):
            raise SourceError(
                f"{where}: its fields are separated by {separator!r}: write it with commas, and "
                "points in its numbers"
            )
    words = 0
    while words < len(lines) and not any(map(_is_value, lines[words].fields)):
        words += 1
    for i, line in enumerate(lines[: min(words, 2)]):
        if sum(name != LEFT_OUT for name in recognise(line.fields, [False] * len(line.fields))) < 2:
            continue
        if i + 1 == len(lines):
            raise SourceError(f"{where}: there is a header and no row under it")
        first = lines[i + 1]
        shown = first.fields + [""] * len(line.fields)
        is_text = [not _is_number(text) for text in shown]
        return _Layout(name_columns(line.fields, columns, where, is_text), first)
    if columns is None and words:
        header = max(lines[:words], key=lambda line: len(line.fields))
        name_columns(header.fields, None, where, [False] * len(header.fields))  # raises
    if words == len(lines):
        raise SourceError(f"{where}: no row of numbers in the first lines")
    first = lines[words]
    if columns is None and _is_kline(first.fields):
        columns = LAYOUTS["binance"]
    if columns is None:
        raise SourceError(
            f"{where}: no header; the first row is {_shorten(','.join(first.fields))!r}: set "
            f"`columns` to the names of its {len(first.fields)} columns in order, or to one of "
            f"{', '.join(LAYOUTS)}"
        )
    check_width(len(first.fields), columns, where)
    return _Layout(list(columns), first)


def _read_first_lines(raw: bytes, count: int, where: str) -> list[_Line]:
    """Read the first ``count`` lines that are not blank."""
    lines: list[_Line] = []
    start = number = 0
    while start < len(raw) and len(lines) < count:
        end = raw.find(b"\n", start)
        end = len(raw) if end < 0 else end
        number += 1
        try:
            text = raw[start:end].decode().strip()
        except UnicodeDecodeError:
            raise SourceError(f"{where}, row {number}: this is no CSV text in UTF-8") from None
        if text:
            fields = [field.strip() for field in _split_fields(text, where, number)]
            lines.append(_Line(fields, start, number))
        start = end + 1
    return lines


def _parse_typed(body: bytes, names: Sequence[str], first: _Line) -> "pl.DataFrame | None":
    """Parse every column as the type that it should have; None where some value is not of it."""
    import polars as pl

    text = first.fields[names.index("open_time")] if len(first.fields) == len(names) else ""
    kinds: list[Any] = [pl.Int64, pl.Float64] if text.isdigit() else [pl.Float64]
    # polars takes half as long again if it is to know words for nothing, and most files have none.
    attempts = list(product(kinds, (None, _NULLS))) if _is_number(text) else [(pl.String, _NULLS)]
    for kind, nulls in attempts:
        schema: dict[str, Any] = {}
        for i, name in enumerate(names):
            known = kind if name == "open_time" else pl.Float64
            schema[name or f"left out {i}"] = known if name else pl.String
        try:
            return pl.read_csv(body, has_header=False, schema=schema, null_values=nulls)
        except pl.exceptions.PolarsError:
            continue
    return None


def _has_suspect_rows(frame: "pl.DataFrame", body: bytes) -> bool:
    """Whether some row may have too few fields, so that a line cut in half passes for a bar.

    polars fills a short row with nulls, the last column's among them. Longer rows it refuses: as
    many commas as a whole table has means that none is short.
    """
    return frame.to_series(-1).has_nulls() and body.count(b",") != frame.height * (frame.width - 1)


def _parse_as_text(body: bytes, names: Sequence[str], where: str) -> "pl.DataFrame":
    """Parse every column as text, so that the conversion to numbers can name the row at fault."""
    import polars as pl

    schema = {name or f"left out {i}": pl.String for i, name in enumerate(names)}
    try:
        return pl.read_csv(body, has_header=False, schema=schema, null_values=_NULLS)
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{where}: not readable as CSV ({get_first_line(error)})") from None


def _check_lines(body: bytes, width: int, number: int, where: str) -> None:
    """Raise for the first line that is not text or has not ``width`` fields; blank ones may be.

    Slow, line by line: it runs only where the fast reading found something amiss.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        row = number + body.count(b"\n", 0, error.start)
        raise SourceError(f"{where}, row {row}: this is no CSV text in UTF-8") from None
    for row, line in enumerate(text.split("\n"), number):
        if not line.strip():
            continue
        fields = len(_split_fields(line, where, row)) if '"' in line else line.count(",") + 1
        if fields != width:
            raise CandleError(
                f"{where}, row {row}: {fields} fields instead of {width}: {_shorten(line)!r}"
            )


def _split_fields(line: str, where: str, number: int) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise SourceError(f"{where}, row {number}: this is no CSV text ({error})") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_value(text: str) -> bool:
    return _is_number(text) or re.match(r"\d{4}-\d\d", text) is not None


def _is_kline(fields: Sequence[str]) -> bool:
    """Whether fields are a kline of Binance: 12 numbers, the 7th a time shortly after the 1st."""
    if len(fields) != len(LAYOUTS["binance"]) or not all(map(_is_number, fields)):
        return False
    opened, closed = float(fields[0]), float(fields[6])
    return 1e9 < opened < closed < opened * 1.01


def _shorten(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 100 else f"{text[:97]}..."
