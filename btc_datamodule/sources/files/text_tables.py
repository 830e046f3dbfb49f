"""Tables in text: CSV with any separator, with header lines, banners and comments, or without.

The fast way reads typed columns in polars. Only where that fails, or the number of fields does not
add up, are lines looked at one by one, to name the first broken one.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from btc_datamodule.errors import CandleError, SourceError, get_first_line
from btc_datamodule.sources.columns import LEFT_OUT, normalise, recognise
from btc_datamodule.sources.files.raw import LEVELS, RawTable, make_frame

if TYPE_CHECKING:
    import polars as pl

NULLS = ["NULL", "Null", "null", "None", "NA", "N/A", "#N/A", "-", "--"]
"""Words for nothing, beside the empty one and "nan"."""

_NOTHING = {"", "nan", "nat", *(word.lower() for word in NULLS)}
_SAMPLE = 64
"""Lines that a table is judged by."""

_NUMBER = re.compile(r"[+-]?[$€£]?\s?\.?\d[\d.,' \u00a0\u202f]*(?:[eE][+-]?\d+)?[KMBTkmbt%]?")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2}|[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4}"
    r"|\d{1,2}[- ][A-Z][a-z]{2,8}[- ,]|\d{1,2}:\d\d|\d{8}[T ]"
)


class _Line(NamedTuple):
    """A line that is neither blank nor a comment: text, offset in bytes, number from 1."""

    text: str
    start: int
    number: int


class _Layout(NamedTuple):
    """Where the rows of a text begin, and how they are parted.

    Attributes:
        names: a name per field; None without a header.
        first: the first line that is a row.
        rows: the fields of the first rows.
        separator: between two fields.
        comment: what begins a line that is none; "" if none was seen.
    """

    names: list[str] | None
    first: _Line
    rows: list[list[str]]
    separator: str
    comment: str

    @property
    def width(self) -> int:
        """Fields of a row."""
        return len(self.rows[0] if self.names is None else self.names)


def read_text(
    raw: bytes, where: str, *, drop_invalid: bool = False, names: Sequence[str] = ()
) -> RawTable:
    """Read every column of a table in text.

    Args:
        raw: the bytes of the text, unpacked.
        where: the file, for errors.
        drop_invalid: leave out lines with too few or too many fields, with a note.
        names: of columns that the header has; none where it is told by those of candles.

    Raises:
        SourceError: if it is no text, or holds no table.
        CandleError: naming the first row with too few or too many fields.
    """
    raw = _convert_to_utf8(raw, where)
    layout = _find_layout(raw, where, frozenset(map(normalise, names)))
    body = _strip_blank_end(raw[layout.first.start :])
    frame = _parse_typed(body, layout)
    notes: tuple[str, ...] = ()
    if frame is None or _has_suspect_rows(frame, body, layout):
        if drop_invalid:
            body, notes = _leave_out_lines(body, layout, where)
        _check_lines(body, layout, where)
        frame = _parse_typed(body, layout) if notes else frame
    if frame is None:
        frame = _parse_as_text(body, layout, where)
    return RawTable(
        layout.names,
        make_frame(frame.get_columns()),
        layout.first.number,
        layout.separator,
        notes=notes,
    )


def _convert_to_utf8(raw: bytes, where: str) -> bytes:
    """The text in UTF-8, without a byte order mark, its lines ended as on Unix."""
    head = raw[:4096]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        evens, odds = head[::2].count(0), head[1::2].count(0)
        encoding = "utf-16"
        if not head.startswith((b"\xff\xfe", b"\xfe\xff")):
            if max(evens, odds) < len(head) // 4 or min(evens, odds) > len(head) // 16:
                raise SourceError(f"{where}: this is no CSV text (it holds binary data)")
            encoding = "utf-16-le" if odds > evens else "utf-16-be"
        try:
            raw = raw.decode(encoding).encode()
        except UnicodeError as error:
            raise SourceError(
                f"{where}: this is no CSV text in UTF-16 ({get_first_line(error)})"
            ) from None
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\n" not in raw[:65536] and b"\r" in raw[:65536]:  # as old Macs and some programs write
        raw = raw.replace(b"\r", b"\n")
    if not raw or raw.isspace():  # not strip, which copies
        raise SourceError(f"{where}: the file is empty")
    if re.match(rb"\s*<(!doctype|html|\?xml)", raw[:200], re.IGNORECASE):
        raise SourceError(f"{where}: this is a web page, no table: download the data itself")
    return raw


def _strip_blank_end(body: bytes) -> bytes:
    """Take off blank lines at the end, which polars would read as rows of nulls.

    One line end is left where there is no more: cutting it off would copy the file's bytes.
    """
    return body.rstrip(b"\r\n") if body[-3:].count(b"\n") > 1 else body


def _find_layout(raw: bytes, where: str, wanted: frozenset[str]) -> _Layout:
    """Find where rows begin, and what the lines above them say; ``wanted``: names of a header."""
    lines, comments = _read_first_lines(raw, where)
    if not lines:
        raise SourceError(f"{where}: there are comments and no row")
    separator = _find_separator(lines, wanted)
    fields = [_split_fields(line.text, separator, where, line.number) for line in lines]
    width = Counter(map(len, fields)).most_common(1)[0][0]
    above, first = _find_header(fields, width, wanted)
    if first == len(fields):
        if above:
            raise SourceError(f"{where}: there is a header and no row under it")
        raise SourceError(f"{where}: no row of numbers in the first lines: this is no CSV text")
    names = _join_levels([fields[i] for i in above]) if above else None
    if names is None and comments:
        texts = _split_fields(comments[-1].text.lstrip("#% "), separator, where, 1)
        if len(texts) == width and any(column != LEFT_OUT for column in recognise(texts)):
            names = texts
    mark = comments[0].text[0] if comments else ""
    return _Layout(names, lines[first], fields[first:], separator, mark)


def _find_header(fields: list[list[str]], width: int, wanted: frozenset[str]) -> tuple[range, int]:
    """The lines of the header, and the first line that is a row; every line after it is one.

    A line that has all wanted names is the header.

    The header is the line that names most columns, with lines of words as long right above and
    below it. Where no line names any, it is what stands right above the first row.
    """
    for i, line in enumerate(fields):
        if _has_names(line, wanted):
            return range(i, i + 1), i + 1
    known = [sum(map(bool, recognise(line))) for line in fields]
    first = next((i for i, line in enumerate(fields) if _is_row(line)), len(fields))
    top = max(range(len(fields)), key=lambda i: (known[i], -i))
    if known[top] < 2 or _is_row(fields[top]):
        top = first - 1
        if top < 0 or len(fields[top]) != width or width < 2:
            return range(0), first
    length = len(fields[top])
    first = top + 1
    while first < len(fields) and len(fields[first]) == length and not _is_row(fields[first]):
        first += 1
    while top > 0 and len(fields[top - 1]) == length and not _is_row(fields[top - 1]):
        top -= 1
    return range(top, first), first


def _read_first_lines(raw: bytes, where: str) -> tuple[list[_Line], list[_Line]]:
    """Read the first lines that hold something, and the comments before and among them."""
    lines: list[_Line] = []
    comments: list[_Line] = []
    start = number = 0
    while start < len(raw) and len(lines) < _SAMPLE:
        end = raw.find(b"\n", start)
        end = len(raw) if end < 0 else end
        number += 1
        try:
            text = raw[start:end].decode().strip("\r\n ")
        except UnicodeDecodeError:
            raise SourceError(f"{where}, row {number}: this is no CSV text in UTF-8") from None
        if text.startswith(("#", "%")):
            comments.append(_Line(text, start, number))
        elif text.strip() and not re.fullmatch(r"sep=.", text):
            lines.append(_Line(text, start, number))
        start = end + 1
    return lines, comments


def _find_separator(lines: Sequence[_Line], wanted: frozenset[str]) -> str:
    """What parts the fields: whatever but a comma stands equally often in each of the last lines.

    Or what parts the wanted names in one of them. A comma may be the mark of decimals, so it is the
    last to be thought of.
    """
    for separator in ("\t", ";", "|", ","):
        split = [line.text.split(separator) for line in lines]
        if any(len(fields) > 1 and _has_names(fields, wanted) for fields in split):
            return separator
    judged = lines[-max(1, len(lines) * 2 // 3) :]
    for separator in ("\t", ";", "|"):
        counts = {line.text.count(separator) for line in judged}
        if len(counts) == 1 and counts.pop() >= 2:
            return separator
    return ","


def _has_names(fields: Sequence[str], wanted: frozenset[str]) -> bool:
    """Whether fields are those of a header that has all wanted names, of which there are some."""
    return bool(wanted) and wanted <= set(map(normalise, fields))


def _split_fields(line: str, separator: str, where: str, number: int) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=separator))]
    except (csv.Error, StopIteration) as error:
        raise SourceError(f"{where}, row {number}: this is no CSV text ({error})") from None


def _is_row(fields: Sequence[str]) -> bool:
    """Whether fields are those of a row: at least half of them, and one, numbers or times."""
    told = [field for field in fields if field.lower() not in _NOTHING]
    values = sum(_is_value(field) for field in told)
    return len(fields) > 1 and 0 < values >= len(told) / 2


def _is_value(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text) or _DATE.match(text))


def _join_levels(header: list[list[str]]) -> list[str]:
    """The names in one header line or several, each level that says something once."""
    return [
        LEVELS.join(dict.fromkeys(filter(None, levels))) for levels in zip(*header, strict=True)
    ]


def _parse_typed(body: bytes, layout: _Layout) -> "pl.DataFrame | None":
    """Parse every column as the type that its first rows have; None where some value is not."""
    import polars as pl

    columns = zip(*(row for row in layout.rows if len(row) == layout.width), strict=True)
    kinds: list[Any] = [_find_kind(values, layout.separator) for values in columns]
    if len(kinds) != layout.width:
        return None
    floats = [pl.Float64 if kind == pl.Int64 else kind for kind in kinds]
    # polars takes half as long again if it is to know words for nothing, and most files have none.
    for attempt, nulls in ((kinds, None), (kinds, NULLS), (floats, NULLS)):
        try:
            return _parse(body, layout, attempt, nulls)
        except pl.exceptions.PolarsError:
            continue
    return None


def _find_kind(values: Sequence[str], separator: str) -> Any:
    """The type of a column, judged by its first rows: an integer if it is a long one, a time.

    Where numbers may have commas, 84.350 may be thousands: it is left for all columns to tell.
    """
    import polars as pl

    told = [value for value in values if value.lower() not in _NOTHING]
    doubtful = separator != "," and all(re.fullmatch(r"\d{1,3}\.\d{3}", value) for value in told)
    if not told or doubtful or not all(map(_is_plain_number, told)):
        return pl.String
    return pl.Int64 if all(value.isdigit() and len(value) >= 8 for value in told) else pl.Float64


def _is_plain_number(text: str) -> bool:
    """Whether polars reads a text as a number; one with noughts before it is a time of day."""
    if len(text) > 1 and text[0] == "0" and text.isdigit():
        return False
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _parse(
    body: bytes, layout: _Layout, kinds: Sequence[Any], nulls: list[str] | None
) -> "pl.DataFrame":
    import polars as pl

    return pl.read_csv(
        body,
        has_header=False,
        schema={f"{i}": kind for i, kind in enumerate(kinds)},
        null_values=nulls,
        separator=layout.separator,
        comment_prefix=layout.comment or None,
    )


def _has_suspect_rows(frame: "pl.DataFrame", body: bytes, layout: _Layout) -> bool:
    """Whether some row may have too few fields, so that a line cut in half passes for a bar.

    polars fills a short row with nulls, the last column's among them. Longer rows it refuses: as
    many separators as a whole table has means that none is short.
    """
    found = body.count(layout.separator.encode())
    return frame.to_series(-1).has_nulls() and found != frame.height * (frame.width - 1)


def _parse_as_text(body: bytes, layout: _Layout, where: str) -> "pl.DataFrame":
    """Parse every column as text, so that the conversion to numbers can name the row at fault."""
    import polars as pl

    try:
        return _parse(body, layout, [pl.String] * layout.width, NULLS)
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{where}: not readable as CSV ({get_first_line(error)})") from None


def _check_lines(body: bytes, layout: _Layout, where: str) -> None:
    """Raise for the first line that is not text or has too few or too many fields."""
    for row, line, fields in _find_odd_lines(body, layout, where):
        raise CandleError(
            f"{where}, row {row}: {fields} fields instead of {layout.width}: {_shorten(line)!r}: "
            "set `source.drop_invalid: true` to leave such rows out"
        )


def _leave_out_lines(body: bytes, layout: _Layout, where: str) -> tuple[bytes, tuple[str, ...]]:
    """The text without the lines that have too few or too many fields, and a note on them.

    Empty lines take their places, so that rows keep their numbers.
    """
    odd = {row: line for row, line, _ in _find_odd_lines(body, layout, where)}
    if not odd:
        return body, ()
    first = layout.first.number
    lines = body.split(b"\n")
    for row in odd:
        lines[row - first] = b""
    row, line = next(iter(odd.items()))
    note = (
        f"{where}: {len(odd)} lines with too few or too many fields were left out, such as row "
        f"{row}: {_shorten(line)!r}"
    )
    return b"\n".join(lines), (note,)


def _find_odd_lines(body: bytes, layout: _Layout, where: str) -> Iterator[tuple[int, str, int]]:
    """Yield the number, the text and the fields of each line that has not as many as it should.

    Slow, line by line: it runs only where the fast reading found something amiss.
    """
    first, width, separator = layout.first.number, layout.width, layout.separator
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        row = first + body.count(b"\n", 0, error.start)
        raise SourceError(f"{where}, row {row}: this is no CSV text in UTF-8") from None
    for row, line in enumerate(text.split("\n"), first):
        if not line.strip("\r ") or (layout.comment and line.startswith(layout.comment)):
            continue
        if '"' in line:
            fields = len(_split_fields(line, separator, where, row))
        else:
            fields = line.count(separator) + 1
        if fields != width:
            yield row, line, fields


def _shorten(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 100 else f"{text[:97]}..."
