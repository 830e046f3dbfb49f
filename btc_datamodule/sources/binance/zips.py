"""A zip from Binance's archive, from bytes to a table of typed columns.

The zip is never trusted: it must hold one plain CSV of a size that its period allows, it is
unpacked in memory a few megabytes at a time, and nothing of it is written to disk. Rows may come
with a header or without. What is wrong with a file is a ``BadFileError`` that names the row.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Literal, Self

from btc_datamodule.candles.timeline import Span
from btc_datamodule.errors import SourceError, get_first_line

if TYPE_CHECKING:
    import polars as pl

ROW_BYTES = 400
"""Upper bound of a row's length; real ones have 30 to 160 bytes."""

MEND = (
    "its checksum is right, so Binance published it like this: set `end` before it or `start` "
    "after it until Binance has mended it"
)

Cell = Literal["int", "float", "text", "time"]

_CHUNK = 8 * 2**20
_TIME = "%Y-%m-%d %H:%M:%S"


class BadFileError(SourceError):
    """A file that came as it was published, and is not what it should be.

    Attributes:
        problem: what is wrong, and in which row.
    """

    def __init__(self, url: str, problem: str, row: int | None = None) -> None:
        at = "" if row is None else f"row {row}: "
        super().__init__(f"{url}{', ' if at else ': '}{at}{problem}; {MEND}")
        self.problem = f"{at}{problem}"


@dataclass(frozen=True)
class CsvForm:
    """How the files of one type are written.

    Attributes:
        cells: the columns in order, and what their cells hold: whole numbers, numbers, a text, or
            a time such as "2020-09-01 00:05:00", in UTC.
        is_header: whether a first line with these cells, which is no row, names the columns.
        row: what a row is, for errors.
        may_be_blank: columns of numbers whose cells may be empty; NaN stands for these.
        unread: columns that are checked with the others, and not given.
    """

    cells: Mapping[str, Cell]
    is_header: Callable[[Sequence[str]], bool]
    row: str
    may_be_blank: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @classmethod
    def of(cls, cells: Mapping[str, Cell], row: str, may_be_blank: tuple[str, ...]) -> Self:
        """A form whose headers have the names of its columns."""
        return cls(cells, lambda fields: list(fields) == list(cells), row, may_be_blank)


def compute_size_limit(period: Span, step: int) -> int:
    """Bytes that a file about ``period`` can have at most, zipped or not; a row each ``step`` s."""
    return (period[1] - period[0]) // step * ROW_BYTES + 2**16


def read_table(body: bytes, form: CsvForm, limit: int, url: str) -> "pl.DataFrame | None":
    """Read the rows of the CSV in a zip; None if it has none.

    Args:
        body: the zip.
        form: how its CSV is written.
        limit: bytes that the CSV may have, see ``compute_size_limit``.
        url: of the file, for errors.

    Returns:
        The columns of ``form``, times as int64 epoch seconds, and ``row``: a row's number in the
        file, from 1 on.

    Raises:
        BadFileError: if it is no zip of one plain CSV of this form and of a fitting size.
    """
    import polars as pl

    tables: list[pl.DataFrame] = []
    row = 1
    for chunk in _unzip_lines(body, limit, url):
        lines = _strip_header(chunk, form, url) if row == 1 else chunk
        row += lines is not chunk
        if lines:
            tables.append(_parse_lines(lines, row, form, url))
            row += tables[-1].height
    return pl.concat(tables) if tables else None


def _unzip_lines(body: bytes, limit: int, url: str) -> Iterator[bytes]:
    """Yield whole lines of the one file in a zip, some megabytes at a time, ``limit`` bytes in all.

    Raises:
        BadFileError: if the zip is damaged, or not one plain file of a fitting size.
    """
    size, rest = 0, b""
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            member = _pick_member(archive.infolist(), limit)
            with archive.open(member) as file:
                while chunk := file.read(_CHUNK):
                    size += len(chunk)
                    if size > limit:  # whatever the zip's directory says
                        raise _UnsafeError(f"it unpacks to more than {limit:,} bytes")
                    lines, end, rest = (rest + chunk).rpartition(b"\n")
                    if end:
                        yield lines + end
        if rest:
            yield rest
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, OSError) as error:
        problem = f"the zip is damaged or cut short ({get_first_line(error)})"
    except (_UnsafeError, NotImplementedError) as error:
        problem = f"the zip is refused: {get_first_line(error)}"
    else:
        return
    raise BadFileError(url, problem)


class _UnsafeError(Exception):
    """A zip that no archive of candles would hold."""


def _pick_member(members: list[zipfile.ZipInfo], limit: int) -> zipfile.ZipInfo:
    """Return the only file in a zip; ``_UnsafeError`` unless it is one plain CSV that fits."""
    if len(members) != 1:
        raise _UnsafeError(f"it holds {len(members)} files instead of one")
    member = members[0]
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.csv", member.filename):
        raise _UnsafeError(f"the file in it is called {member.filename[:80]!r}")
    if member.flag_bits & 1:
        raise _UnsafeError("it is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _UnsafeError(f"it is packed by method {member.compress_type}, not deflated")
    if member.file_size > limit:
        raise _UnsafeError(f"it unpacks to {member.file_size:,} bytes, more than {limit:,}")
    return member


def _strip_header(lines: bytes, form: CsvForm, url: str) -> bytes:
    """Take off the first line if it is a header; the archive has files with and without."""
    if lines[:1].isdigit():
        return lines
    header, _, rest = lines.partition(b"\n")
    fields = header.decode("utf-8", "replace").strip("\ufeff\r ").split(",")
    if not form.is_header(fields):
        raise BadFileError(url, f"no row of {form.row} and no header, but {quote(header)}", 1)
    return rest


def _parse_lines(lines: bytes, first_row: int, form: CsvForm, url: str) -> "pl.DataFrame":
    """Parse lines into typed columns; ``row`` is a line's number in the file."""
    import polars as pl

    types: dict[Cell, pl.DataType] = {"int": pl.Int64(), "float": pl.Float64()}
    schema = {name: types.get(cell, pl.String()) for name, cell in form.cells.items()}
    problem = "unreadable"
    try:
        table = pl.read_csv(lines, has_header=False, schema=schema, quote_char=None)
        times = [name for name, cell in form.cells.items() if cell == "time"]
        read = [pl.col(name).str.to_datetime(_TIME, strict=False).dt.epoch("s") for name in times]
        table = table.with_columns(read)
        # polars fills a short row with nulls, and refuses a longer one.
        whole = lines.count(b",") == table.height * (len(schema) - 1)
        needed = [
            name
            for name, cell in form.cells.items()
            if cell != "text" and name not in form.may_be_blank
        ]
        if whole and not any(table[name].null_count() for name in needed):
            blank = [pl.col(name).fill_null(float("nan")) for name in form.may_be_blank]
            table = table.drop(form.unread).with_columns(blank)
            return table.with_row_index("row", first_row)
    except pl.exceptions.PolarsError as error:
        problem = get_first_line(error)
    row, problem = _find_broken_line(lines, form) or (0, problem)
    raise BadFileError(url, problem, first_row + row)


def _find_broken_line(lines: bytes, form: CsvForm) -> tuple[int, str] | None:
    """Find the first line that is no row, counted from 0, and say why it is none.

    Slow: for lines known to hold such a one.
    """
    for row, line in enumerate(lines.splitlines()):
        fields = line.decode("utf-8", "replace").split(",")
        if len(fields) != len(form.cells):
            return row, f"{len(fields)} fields instead of {len(form.cells)}: {quote(line)}"
        for (name, cell), text in zip(form.cells.items(), fields, strict=True):
            if cell == "text" or (not text and name in form.may_be_blank):
                continue
            try:
                _READ[cell](text)
            except ValueError:
                thing = "time" if cell == "time" else "number"
                return row, f"{name} is {text[:60]!r}, which is no {thing}"
    return None


_READ: dict[str, Callable[[str], object]] = {
    "int": int,
    "float": float,
    "time": lambda text: datetime.strptime(text, _TIME),  # of no zone, as written
}


def quote(body: bytes) -> str:
    """Quote the beginning of an unexpected text, for an error."""
    return repr(" ".join(body[:300].decode("utf-8", "replace").split())[:80])
