"""A zip from Binance's archive, from bytes to candles.

The zip is never trusted: it must hold one plain CSV of a size that its period allows, it is
unpacked in memory a few megabytes at a time, and nothing of it is written to disk. Rows may come
with a header or without, their times in milliseconds or microseconds. Known damage is settled by
rule and noted: rows off the grid, outside the period or of longer bars are left out, bars that
closed too early are kept. A file of which no row would be left is an error.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING

from btc_datamodule.candles.series import Candles, make_empty
from btc_datamodule.candles.tidying import tidy
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.errors import SourceError, get_first_line
from btc_datamodule.sources.columns import LAYOUTS, recognise

if TYPE_CHECKING:
    import polars as pl

ROW_BYTES = 400
"""Upper bound of a row's length; real ones have 90 to 150 bytes."""

_CHUNK = 8 * 2**20
_FIELDS = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
    *("trades", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
MEND = (
    "its checksum is right, so Binance published it like this: set `end` before it or `start` "
    "after it until Binance has mended it"
)


def compute_size_limit(period: Span, interval: int) -> int:
    """Bytes that a file about ``period`` can have at most, zipped or not; bars in seconds."""
    return (period[1] - period[0]) // interval * ROW_BYTES + 2**16


def read_klines(
    body: bytes, name: str, period: Span, interval: int, url: str, *, drop_invalid: bool = False
) -> tuple[Candles, tuple[str, ...]]:
    """Read the candles in a zip, and notes on what was left out or looks odd.

    Args:
        body: the zip.
        name: of the file, for notes.
        period: the half-open span (epoch seconds) that the file is about.
        interval: seconds of a bar.
        url: of the file, for errors.
        drop_invalid: leave out rows that are no candles, with a note that counts them.

    Raises:
        SourceError: if it is no zip of one plain kline CSV of a fitting size.
        CandleError: naming the first row that is no candle.
    """
    import polars as pl

    where = f"binance {name}"
    tables: list[pl.DataFrame] = []
    row = 1
    for chunk in _unzip_lines(body, compute_size_limit(period, interval), url):
        lines = _strip_header(chunk, url) if row == 1 else chunk
        row += lines is not chunk
        if lines:
            tables.append(_parse_lines(lines, row, url))
            row += tables[-1].height
    if not tables:
        return make_empty(interval), (f"{where}: holds no rows",)
    table, notes = _sift(pl.concat(tables), period, interval, url)
    columns = {name: table[name].to_numpy() for name in LAYOUTS["binance"] if name}
    columns["open_time"] = columns["open_time"] // 10**6
    rows = table["row"].to_numpy()
    candles, repaired = tidy(columns, interval, where, rows, drop_invalid=drop_invalid)
    return candles, (*(f"{where}: {note}" for note in notes), *repaired)


def _sift(
    table: "pl.DataFrame", period: Span, interval: int, url: str
) -> "tuple[pl.DataFrame, list[str]]":
    """Leave out rows that are no bars of the file's period; count what was odd, as notes.

    The times of the rows that come back are in microseconds.
    """
    import polars as pl

    def to_micros(name: str) -> pl.Expr:  # until the year 5138, milliseconds stay below 1e14
        time = pl.col(name)
        return pl.when(time < 10**14).then(time * 1000).otherwise(time)

    table = table.with_columns(to_micros("open_time"), to_micros("close_time"))
    opened, step, height = pl.col("open_time"), interval * 10**6, table.height
    start, end = (second * 10**6 for second in period)
    oddities = {
        "open outside its period and were left out": (opened < start) | (opened >= end),
        "open off the grid and were left out": opened % step != 0,
        "close too late for bars of this length and were left out": (
            pl.col("close_time") > opened + step
        ),
        "close too early and were kept": pl.col("close_time") < opened + step - 1000,
    }
    notes = []
    for text, odd in oddities.items():
        rows = table.filter(odd)
        if rows.height:
            first = format_instant(rows["open_time"][0] // 10**6)
            notes.append(f"{rows.height} of {height} rows {text}, the first at {first}")
            if text.endswith("left out"):
                table = table.filter(~odd)
            if not table.height:  # of another period, another unit, another length of bars
                raise SourceError(f"{url}: {'; '.join(notes)}: is it another file? {MEND}")
    return table, notes


def _unzip_lines(body: bytes, limit: int, url: str) -> Iterator[bytes]:
    """Yield whole lines of the one file in a zip, some megabytes at a time, ``limit`` bytes in all.

    Raises:
        SourceError: if the zip is damaged, or not one plain file of a fitting size.
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
    raise SourceError(f"{url}: {problem}; {MEND}")


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


def _strip_header(lines: bytes, url: str) -> bytes:
    """Take off the first line if it is a header; the archive has files with and without."""
    if lines[:1].isdigit():
        return lines
    header, _, rest = lines.partition(b"\n")
    fields = header.decode("utf-8", "replace").strip("\ufeff\r ").split(",")
    if tuple(recognise(fields)) != LAYOUTS["binance"]:
        raise SourceError(f"{url}, row 1: no row of a candle and no header, but {quote(header)}")
    return rest


def _parse_lines(lines: bytes, first_row: int, url: str) -> "pl.DataFrame":
    """Parse lines of 12 values into typed columns; ``row`` is a line's number in the file."""
    import polars as pl

    numbers: dict[str, pl.DataType] = {name: pl.Float64() for name in _FIELDS}
    schema = numbers | {"open_time": pl.Int64(), "close_time": pl.Int64(), "ignore": pl.String()}
    problem = "unreadable"
    try:
        table = pl.read_csv(lines, has_header=False, schema=schema, quote_char=None)
        # polars fills a short row with nulls, and refuses a longer one.
        whole = lines.count(b",") == table.height * (len(_FIELDS) - 1)
        if whole and not any(table[name].null_count() for name in _FIELDS[:-1]):
            table = table.drop("taker_buy_quote_volume", "ignore")
            return table.with_row_index("row", first_row)
    except pl.exceptions.PolarsError as error:
        problem = get_first_line(error)
    row, problem = _find_broken_line(lines) or (0, problem)
    raise SourceError(f"{url}, row {first_row + row}: {problem}; {MEND}")


def _find_broken_line(lines: bytes) -> tuple[int, str] | None:
    """Find the first line that is no row, counted from 0, and say why it is none.

    Slow: for lines known to hold such a one.
    """
    for row, line in enumerate(lines.splitlines()):
        fields = line.decode("utf-8", "replace").split(",")
        if len(fields) != len(_FIELDS):
            return row, f"{len(fields)} fields instead of {len(_FIELDS)}: {quote(line)}"
        for name, text in zip(_FIELDS[:-1], fields, strict=False):
            try:
                int(text) if name.endswith("_time") else float(text)
            except ValueError:
                return row, f"{name} is {text[:60]!r}, which is no number"
    return None


def quote(body: bytes) -> str:
    """Quote the beginning of an unexpected text, for an error."""
    return repr(" ".join(body[:300].decode("utf-8", "replace").split())[:80])
