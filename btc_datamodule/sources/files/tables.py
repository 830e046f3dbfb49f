"""Tables of candles in files: from bytes to columns, in whatever format they are.

``read_tables`` opens a file and gives back its columns with their values as they stand. What the
columns are is the business of ``naming``, what the values mean that of ``values``. It promises that
no row is lost or shifted on the way: a row with a field too few or too many is an error that names
it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from btc_datamodule.errors import SourceError, get_first_line
from btc_datamodule.sources.files.arrow_tables import ArrowReader
from btc_datamodule.sources.files.containers import STREAMS, read_bytes, unzip
from btc_datamodule.sources.files.foreign_hdf5 import read_hdf5
from btc_datamodule.sources.files.json_tables import looks_like_json, read_json
from btc_datamodule.sources.files.raw import RawTable
from btc_datamodule.sources.files.text_tables import read_text

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson")
ARROW_SUFFIXES = (".feather", ".arrow", ".ipc", ".parquet")
SHEET_SUFFIXES = (".xlsx",)
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
PACKED = (*TEXT_SUFFIXES, *(f"{each}{end}" for end in STREAMS for each in TEXT_SUFFIXES))
SUFFIXES = (
    *PACKED,
    *(".zip", *ARROW_SUFFIXES, *SHEET_SUFFIXES, *HDF5_SUFFIXES),
)
"""Endings of the names of files that can be read."""

SHOWN = (
    ".csv, .txt, .tsv or .json, plain or packed (.gz, .bz2, .xz, .zst, .zip), .parquet, .feather, "
    ".arrow, .xlsx, .h5 or .hdf5"
)

_POINTER = b"version https://git-lfs.github.com/spec/"


def has_suffix(path: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Whether the name of a file ends in one of ``suffixes``, in any case."""
    return path.lower().endswith(suffixes)


def read_tables(
    path: Path,
    arrow: ArrowReader,
    *,
    dataset: str | None,
    symbol: str | None,
    drop_invalid: bool,
    names: Sequence[str] = (),
) -> list[tuple[str, RawTable]]:
    """Read the tables of one file, with the name that errors call each by.

    Args:
        path: a file whose name ends in one of ``SUFFIXES``.
        arrow: reads Arrow and Parquet files.
        dataset: path inside an HDF5 file; None where the file leaves no choice.
        symbol: which market, where JSON holds a table of each.
        drop_invalid: leave out lines of a text with too few or too many fields.
        names: of columns by which a table or its header is known; none for one of candles.

    Raises:
        SourceError: if the file is missing, damaged, or holds no table.
        CandleError: naming the first row with too few or too many fields.
    """
    _check_file(path)
    if has_suffix(path.name, HDF5_SUFFIXES):
        where = f"{path.name}:{dataset.strip('/')}" if dataset else path.name
        return [(where, read_hdf5(path, dataset))]
    if not has_suffix(path.name):
        raise SourceError(f"{path}: cannot tell its format, rename it to end in {SHOWN}")
    if has_suffix(path.name, ARROW_SUFFIXES):
        return [(path.name, arrow.read(path))]
    raw = read_bytes(path)
    members = [("", raw)]
    if has_suffix(path.name, (".zip",)):
        members = unzip(raw, f"{path}", lambda name: has_suffix(name, PACKED))
    tables = []
    for name, data in members:
        where = f"{path.name}: {name}" if name else path.name
        if has_suffix(path.name, SHEET_SUFFIXES):
            tables.append((where, _read_sheet(data, where, drop_invalid, names)))
        elif not data or data.isspace() or data.startswith(_POINTER):
            empty = "a Git LFS pointer" if data.startswith(_POINTER) else "empty"
            raise SourceError(f"{path}: the file is {empty}{' in the zip' if name else ''}")
        elif looks_like_json(data):
            tables.append((where, read_json(data, str(path), symbol, names)))
        else:
            tables.append((where, read_text(data, where, drop_invalid=drop_invalid, names=names)))
    return tables


def _check_file(path: Path) -> None:
    """Raise ``SourceError`` for a file that is not there, is empty, or stands for another."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file, check `path`")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")
    with path.open("rb") as file:
        head = file.read(len(_POINTER))
    if head == _POINTER:
        raise SourceError(
            f"{path}: this is a Git LFS pointer, not the file itself: run `git lfs pull` where it "
            "was cloned, or download the file"
        )


def _read_sheet(raw: bytes, where: str, drop_invalid: bool, names: Sequence[str]) -> RawTable:
    """Read the first sheet of a workbook, as the text that it would be saved as."""
    import polars as pl

    try:
        import fastexcel
    except ImportError:
        raise SourceError(
            f"{where}: workbooks need fastexcel: pip install fastexcel, or save the sheet as CSV"
        ) from None
    failures: Any = (fastexcel.FastExcelError, pl.exceptions.PolarsError, OSError, ValueError)
    try:
        sheet = fastexcel.read_excel(raw).load_sheet(0, header_row=None, dtypes="string")
        text = pl.DataFrame(sheet).write_csv(include_header=False)
    except failures as error:
        raise SourceError(f"{where}: no readable workbook ({get_first_line(error)})") from None
    return read_text(text.encode(), where, drop_invalid=drop_invalid, names=names)


def list_folder(folder: Path) -> list[Path]:
    """The files of a folder that can be read, in order of name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and has_suffix(path.name) and not path.name.startswith(".")
    )
