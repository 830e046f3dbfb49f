"""Tables of candles in files: from bytes to columns under the package's names.

``read_table`` opens a CSV, Arrow, Parquet or HDF5 file, finds out which column is which, and
gives them back with their values as they stand: times in whatever unit or spelling, empty cells
empty. What the values mean is the business of ``files.py``. It promises that no row is lost or
shifted on the way: a row with a field too few or too many is an error that names it.

Which column is which comes from ``columns`` where the user set it, else from the file's own
names, looked up in ``ALIASES`` without regard to case and punctuation. Files are data, never
programs: nothing is unpickled, and no link leads out of the file that was named.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles import COLUMNS, REQUIRED
from btc_datamodule.errors import CandleError, SourceError

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".csv", ".csv.gz", ".feather", ".arrow", ".parquet", ".h5", ".hdf5")
HDF5_SUFFIXES = (".h5", ".hdf5")

LEFT_OUT = ""
"""Stands in a column order for a column that is not read."""

LAYOUTS: dict[str, tuple[str, ...]] = {
    "kraken": ("open_time", "open", "high", "low", "close", "volume", "trades"),
    "bitfinex": ("open_time", "open", "close", "high", "low", "volume"),
    "coinbase": ("open_time", "low", "high", "open", "close", "volume"),
    "binance": (
        *("open_time", "open", "high", "low", "close", "volume", LEFT_OUT),  # "": close_time
        *("quote_volume", "trades", "taker_buy_volume", LEFT_OUT, LEFT_OUT),
    ),
}
"""Column orders of files that come without a header."""

ALIASES: dict[str, tuple[str, ...]] = {
    "open_time": (
        *("unix", "unixtimestamp", "unixtime", "opentime", "timestamp", "time"),
        *("datetime", "date", "day"),
    ),
    "open": ("open", "openprice"),
    "high": ("high", "highprice"),
    "low": ("low", "lowprice"),
    "close": ("close", "closeprice"),
    "volume": ("volume", "volumebtc", "volumexbt", "vol", "basevolume", "volumebase"),
    "quote_volume": (
        *("quotevolume", "quoteassetvolume", "volumequote", "volumeusd", "volumeusdt"),
        *("volumeusdc", "volumeeur", "volumecurrency"),
    ),
    "trades": ("trades", "tradecount", "numberoftrades", "numtrades", "count"),
    "taker_buy_volume": (
        *("takerbuyvolume", "takerbuybase", "takerbuybasevolume", "takerbuybaseassetvolume"),
        *("takerbaseassetvolume", "takerbuybasevol"),
    ),
}
"""Names that files use for each column, letters and digits only, the preferred ones first."""

_NULLS = ["NULL", "Null", "null", "None", "NA", "N/A", "#N/A"]


class Table(NamedTuple):
    """The columns of one file under the package's names, values as they stand in it.

    Attributes:
        frame: some of ``candles.COLUMNS``, with all of ``REQUIRED``, of any type.
        first_row: what to call the frame's first row in errors: its line in a text file, 1 in
            any other.
    """

    frame: "pl.DataFrame"
    first_row: int


def has_suffix(path: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Whether the name of a file ends in one of ``suffixes``, in any case."""
    return path.lower().endswith(suffixes)


def read_table(path: Path, columns: tuple[str, ...] | None, dataset: str | None) -> Table:
    """The candle columns of one file.

    Args:
        path: a file whose name ends in one of ``SUFFIXES``.
        columns: a name per column of the file, in its order, ``LEFT_OUT`` for some; None to go
            by the file's own names.
        dataset: path inside an HDF5 file; None where the file leaves no choice.

    Raises:
        SourceError: if the file is missing, damaged, or its columns cannot be told.
        CandleError: naming the first row with too few or too many fields.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file, check `path`")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")
    if has_suffix(path.name, (".csv", ".csv.gz")):
        return _read_csv(path, columns)
    if has_suffix(path.name, HDF5_SUFFIXES):
        return _read_hdf5(path, columns, dataset)
    if has_suffix(path.name):
        return _read_arrow(path, columns)
    raise SourceError(f"{path}: cannot tell its format, rename it to end in {', '.join(SUFFIXES)}")


# ---------------------------------------------------------------------------- names of columns


def _name_columns(
    found: Sequence[str],
    columns: tuple[str, ...] | None,
    where: str,
    is_text: Sequence[bool],
) -> list[str]:
    """A candle column or ``LEFT_OUT`` for each column of a file.

    Args:
        found: the file's own names in its order.
        columns: as the user set them, or None.
        where: the file, for errors.
        is_text: for each column, whether it holds words rather than numbers or instants.
    """
    own = _recognise(found, is_text)
    missing = [name for name in REQUIRED if name not in own]
    if columns is None:
        if missing:
            raise SourceError(
                f"{where}: no column {', '.join(missing)} (the file has: {', '.join(found)}); "
                "rename its columns, or set `columns` to their order"
            )
        return own
    _check_width(len(found), columns, where)
    if not missing and any(own.index(name) != columns.index(name) for name in REQUIRED):
        raise SourceError(
            f"{where}: `columns` contradicts the file's own names ({', '.join(found)}): "
            "leave `columns` out"
        )
    return list(columns)


def _recognise(found: Sequence[str], is_text: Sequence[bool]) -> list[str]:
    """The candle column that each name stands for; of rivals the best known one, once.

    A numeric time beats one in words: files with both often round, or misspell, the words.
    """
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in found]
    own = [LEFT_OUT] * len(found)
    for column, aliases in ALIASES.items():
        rivals = [i for i, name in enumerate(plain) if name in aliases]
        if rivals:
            own[min(rivals, key=lambda i: (is_text[i], aliases.index(plain[i])))] = column
    return own


def _check_width(width: int, columns: tuple[str, ...], where: str) -> None:
    if width != len(columns):
        raise SourceError(
            f"{where}: the file has {width} columns and `columns` names {len(columns)}: "
            "name each column in order, 'ignore' for those to leave out"
        )


def _named(frame: "pl.DataFrame", names: Sequence[str]) -> "pl.DataFrame":
    """The columns that have a name, under it, in the package's order."""
    import polars as pl

    series = frame.get_columns()
    return pl.DataFrame([series[names.index(c)].alias(c) for c in COLUMNS if c in names])


# ----------------------------------------------------------------------------------------- CSV


class _Line(NamedTuple):
    fields: list[str]
    start: int
    number: int


class _Layout(NamedTuple):
    """What the first lines of a CSV say: a name per field, and where the rows begin."""

    names: list[str]
    first: _Line


def _read_csv(path: Path, columns: tuple[str, ...] | None) -> Table:
    where = path.name
    raw = _text_bytes(path)
    names, first = _csv_layout(raw, columns, where)
    body = raw[first.start :].rstrip(b"\r\n")
    frame = _csv_typed(body, names, first)
    # polars fills a short row with nulls, so that a line cut in half would pass for a bar without
    # trades. Longer rows it refuses: as many commas as a whole table has means that none is short.
    if frame is None or body.count(b",") != frame.height * (len(names) - 1):
        _check_lines(body, len(names), first.number, where)
    if frame is None:
        frame = _csv_as_text(body, names, where)
    return Table(frame, first.number)


def _text_bytes(path: Path) -> bytes:
    """The bytes of a text file, unpacked, without a byte order mark."""
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
    if not raw.strip():
        raise SourceError(f"{path}: the file is empty")
    return raw


def _csv_layout(raw: bytes, columns: tuple[str, ...] | None, where: str) -> _Layout:
    """Find the header, or do without one: it is the first line, or the second under a banner."""
    lines = _first_lines(raw, 3, where)
    words = 0
    while words < len(lines) and not any(map(_is_value, lines[words].fields)):
        words += 1
    for i, line in enumerate(lines[: min(words, 2)]):
        if (
            sum(name != LEFT_OUT for name in _recognise(line.fields, [False] * len(line.fields)))
            < 2
        ):
            continue
        if i + 1 == len(lines):
            raise SourceError(f"{where}: there is a header and no row under it")
        first = lines[i + 1]
        shown = first.fields + [""] * len(line.fields)
        is_text = [not _is_number(text) for text in shown]
        return _Layout(_name_columns(line.fields, columns, where, is_text), first)
    if columns is None and words:
        header = max(lines[:words], key=lambda line: len(line.fields))
        _name_columns(header.fields, None, where, [False] * len(header.fields))  # raises
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
    _check_width(len(first.fields), columns, where)
    return _Layout(list(columns), first)


def _first_lines(raw: bytes, count: int, where: str) -> list[_Line]:
    """The first lines that are not blank, with the offset and number of each."""
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
            fields = [field.strip() for field in _fields(text, where, number)]
            lines.append(_Line(fields, start, number))
        start = end + 1
    return lines


def _csv_typed(body: bytes, names: Sequence[str], first: _Line) -> "pl.DataFrame | None":
    """Every column parsed as what it should be, or None where some value is not."""
    import polars as pl

    text = first.fields[names.index("open_time")] if len(first.fields) == len(names) else ""
    kinds: list[Any] = [pl.Int64, pl.Float64] if text.isdigit() else [pl.Float64]
    for kind in kinds if _is_number(text) else [pl.String]:
        schema: dict[str, Any] = {}
        for i, name in enumerate(names):
            known = kind if name == "open_time" else pl.Float64
            schema[name or f"left out {i}"] = known if name else pl.String
        try:
            frame = pl.read_csv(body, has_header=False, schema=schema, null_values=_NULLS)
        except pl.exceptions.PolarsError:
            continue
        return _named(frame, names)
    return None


def _csv_as_text(body: bytes, names: Sequence[str], where: str) -> "pl.DataFrame":
    """Every column as text, for the conversion after to find the row that is at fault."""
    import polars as pl

    schema = {name or f"left out {i}": pl.String for i, name in enumerate(names)}
    try:
        frame = pl.read_csv(body, has_header=False, schema=schema, null_values=_NULLS)
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{where}: not readable as CSV ({_first_line(error)})") from None
    return _named(frame, names)


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
        fields = len(_fields(line, where, row)) if '"' in line else line.count(",") + 1
        if fields != width:
            raise CandleError(
                f"{where}, row {row}: {fields} fields instead of {width}: {_shorten(line)!r}"
            )


def _fields(line: str, where: str, number: int) -> list[str]:
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
    """Whether a row is one of Binance's: 12 numbers, the 7th a time shortly after the 1st."""
    if len(fields) != len(LAYOUTS["binance"]) or not all(map(_is_number, fields)):
        return False
    opened, closed = float(fields[0]), float(fields[6])
    return 1e9 < opened < closed < opened * 1.01


def _shorten(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 100 else f"{text[:97]}..."


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# --------------------------------------------------------------------------- Arrow and Parquet


def _read_arrow(path: Path, columns: tuple[str, ...] | None) -> Table:
    import polars as pl

    try:
        with path.open("rb") as file:
            is_stream = not file.read(8).startswith(b"ARROW1")
        with path.open("rb") as file:  # an open file: polars would take "[" in a path for a glob
            if has_suffix(path.name, (".parquet",)):
                frame = pl.read_parquet(file)
            else:
                frame = pl.read_ipc_stream(file) if is_stream else pl.read_ipc(file)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise SourceError(  # polars panics, outside its own exceptions, on some damaged footers
            f"{path}: damaged, or not what its name says ({_first_line(error)})"
        ) from None
    is_text = [kind == pl.String for kind in frame.dtypes]
    return Table(_named(frame, _name_columns(frame.columns, columns, path.name, is_text)), 1)


# ---------------------------------------------------------------------------------------- HDF5


def _read_hdf5(path: Path, columns: tuple[str, ...] | None, dataset: str | None) -> Table:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise SourceError(f"{path}: not a readable HDF5 file ({_first_line(error)})") from None
    with file:
        try:
            node, inside = _hdf5_node(file, dataset, path)
            where = f"{path.name}:{inside}"
            if isinstance(node, h5py.Group):
                found = _hdf5_group(node, where)
            else:
                found = _hdf5_dataset(node, columns, where)
        except (OSError, RuntimeError, KeyError, ValueError) as error:  # h5py's, for any damage
            raise SourceError(f"{path}: damaged HDF5 data ({_first_line(error)})") from None
    return Table(_hdf5_frame(found, columns, where), 1)


def _hdf5_node(file: Any, dataset: str | None, path: Path) -> tuple[Any, str]:
    """The dataset or group to read and its path, reached through hard links only."""
    import h5py

    if dataset is None:
        tables = _hdf5_tables(file)
        if len(tables) != 1:
            raise SourceError(f"{path}: set `dataset`: {_hdf5_choice(tables)}")
        dataset = tables[0]
    node = file
    for part in [part for part in dataset.split("/") if part not in {"", "."}]:
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise SourceError(
                f"{path}: no dataset {dataset!r}, set `dataset`: {_hdf5_choice(_hdf5_tables(file))}"
            )
        if not isinstance(link, h5py.HardLink):
            raise SourceError(
                f"{path}: {dataset!r} leads through a soft or external link, which is not "
                "followed: set `dataset` to where the data itself lies"
            )
        node = node[part]
    return node, dataset


def _hdf5_tables(file: Any) -> list[str]:
    """Paths of what could hold candles: tables, and the groups of plain columns."""
    import h5py

    tables: set[str] = set()

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            is_column = node.ndim == 1 and node.dtype.names is None
            tables.add((name.rpartition("/")[0] or "/") if is_column else name)

    file.visititems(visit)  # follows no soft or external links
    return sorted(tables)


def _hdf5_choice(tables: Sequence[str]) -> str:
    more = f" and {len(tables) - 20} more" if len(tables) > 20 else ""
    return f"the file has {', '.join(tables[:20])}{more}" if tables else "the file has none"


def _hdf5_group(group: Any, where: str) -> dict[str, NDArray[Any]]:
    """The columns of a group whose datasets are columns; others in it are left alone."""
    import h5py

    found: dict[str, NDArray[Any]] = {}
    for name in group:
        if all(column == LEFT_OUT for column in _recognise([name], [False])):
            continue
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise SourceError(f"{where}/{name}: a soft or external link, which is not followed")
        node = group[name]
        if isinstance(node, h5py.Dataset) and node.ndim == 1:
            found[name] = _hdf5_values(node, f"{where}/{name}")
    if len({len(values) for values in found.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in found.items())
        raise SourceError(f"{where}: its columns differ in length ({lengths})")
    return found


def _hdf5_dataset(
    node: Any, columns: tuple[str, ...] | None, where: str
) -> dict[str, NDArray[Any]]:
    """The columns of a compound dataset by name, or of a matrix by number."""
    if node.dtype.names is not None and node.ndim == 1:
        values = _hdf5_values(node, where)
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
    return {str(i): column for i, column in enumerate(_hdf5_values(node, where).T)}


def _hdf5_values(node: Any, where: str) -> NDArray[Any]:
    """Read a dataset that lies in this very file and holds plain numbers or short texts."""
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


def _hdf5_frame(
    found: dict[str, NDArray[Any]], columns: tuple[str, ...] | None, where: str
) -> "pl.DataFrame":
    import polars as pl

    is_text = [values.dtype.kind == "S" for values in found.values()]
    names = _name_columns(list(found), columns, where, is_text)
    series = []
    for i, values in enumerate(found.values()):
        if values.dtype.kind == "S":
            native: NDArray[Any] = np.char.decode(values, "utf-8", "replace")
        elif values.dtype.kind == "f":
            native = values.astype(np.float64)
        else:
            native = values.astype(values.dtype.newbyteorder("="))
        series.append(pl.Series(f"{i}", np.ascontiguousarray(native)))
    return _named(pl.DataFrame(series), names)
