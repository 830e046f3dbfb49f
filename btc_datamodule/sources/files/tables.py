"""Tables of candles in files: from bytes to columns, in whatever format they are.

``read_tables`` opens a file and gives back its columns with their values as they stand. What the
columns are is the business of ``naming``, what the values mean that of ``values``. It promises that
no row is lost or shifted on the way: a row with a field too few or too many is an error that names
it.
"""

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
    path: Path, dataset: str | None, symbol: str | None, arrow: ArrowReader
) -> list[tuple[str, RawTable]]:
    """Read the tables of one file, with the name that errors call each by.

    Args:
        path: a file whose name ends in one of ``SUFFIXES``.
        dataset: path inside an HDF5 file; None where the file leaves no choice.
        symbol: which market, where JSON holds a table of each.
        arrow: reads Arrow and Parquet files.

    Raises:
        SourceError: if the file is missing, damaged, or holds no table.
        CandleError: naming the first row with too few or too many fields.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file, check `path`")
    size = path.stat().st_size
    if size == 0:
        raise SourceError(f"{path}: the file is empty")
    with path.open("rb") as file:
        head = file.read(len(_POINTER))
    if head == _POINTER:
        raise SourceError(
            f"{path}: this is a Git LFS pointer, not the file itself: run `git lfs pull` where it "
            "was cloned, or download the file"
        )
    if has_suffix(path.name, HDF5_SUFFIXES):
        where = f"{path.name}:{dataset.strip('/')}" if dataset else path.name
        return [(where, read_hdf5(path, dataset))]
    if not has_suffix(path.name):
        raise SourceError(f"{path}: cannot tell its format, rename it to end in {SHOWN}")
    if has_suffix(path.name, ARROW_SUFFIXES):
        return [(path.name, arrow.read(path))]
    raw = read_bytes(path)
    if has_suffix(path.name, (".zip",)):
        members = unzip(raw, f"{path}", lambda name: has_suffix(name, PACKED))
        return [
            (f"{path.name}: {name}", _read(data, name, str(path), symbol)) for name, data in members
        ]
    return [(path.name, _read(raw, path.name, str(path), symbol))]


def _read(raw: bytes, name: str, path: str, symbol: str | None) -> RawTable:
    """Read a table in unpacked bytes, by the name of its file."""
    for packed in STREAMS:
        name = name[: -len(packed)] if name.lower().endswith(packed) else name
    if raw.startswith(_POINTER):
        raise SourceError(f"{path}: {name} in it is a Git LFS pointer, not the file itself")
    if has_suffix(name, SHEET_SUFFIXES):
        return _read_sheet(raw, name, path)
    if not raw or raw.isspace():
        raise SourceError(f"{path}: the file is empty")
    return read_json(raw, path, symbol) if looks_like_json(raw) else read_text(raw, name)


def _read_sheet(raw: bytes, name: str, path: str) -> RawTable:
    """Read the first sheet of a workbook, as the text that it would be saved as."""
    import polars as pl

    try:
        import fastexcel
    except ImportError:
        raise SourceError(
            f'{path}: workbooks need fastexcel: pip install "btc-datamodule[files]", or save the '
            "sheet as CSV"
        ) from None
    failures: Any = (fastexcel.FastExcelError, pl.exceptions.PolarsError, OSError, ValueError)
    try:
        sheet = fastexcel.read_excel(raw).load_sheet(0, header_row=None, dtypes="string")
        text = pl.DataFrame(sheet).write_csv(include_header=False)
    except failures as error:
        raise SourceError(f"{path}: no readable workbook ({get_first_line(error)})") from None
    return read_text(text.encode(), name)


def list_folder(folder: Path) -> list[Path]:
    """The files of a folder that can be read, in order of name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and has_suffix(path.name) and not path.name.startswith(".")
    )
