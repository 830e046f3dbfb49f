"""Tables of candles in files: from bytes to columns under the package's names.

``read_table`` opens a CSV, Arrow, Parquet or HDF5 file and gives back its columns with their
values as they stand: times in whatever unit or spelling, empty cells empty. What the values mean
is the business of ``values``. It promises that no row is lost or shifted on the way: a row with
a field too few or too many is an error that names it.
"""

from pathlib import Path

from btc_datamodule.errors import SourceError, get_first_line
from btc_datamodule.sources.columns import FileTable, apply_names, name_columns
from btc_datamodule.sources.files.csv_tables import read_csv
from btc_datamodule.sources.files.hdf5_tables import read_hdf5

SUFFIXES = (".csv", ".csv.gz", ".feather", ".arrow", ".parquet", ".h5", ".hdf5")
HDF5_SUFFIXES = (".h5", ".hdf5")


def has_suffix(path: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Whether the name of a file ends in one of ``suffixes``, in any case."""
    return path.lower().endswith(suffixes)


def read_table(path: Path, columns: tuple[str, ...] | None, dataset: str | None) -> FileTable:
    """Read the candle columns of one file.

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
        return read_csv(path, columns)
    if has_suffix(path.name, HDF5_SUFFIXES):
        return read_hdf5(path, columns, dataset)
    if has_suffix(path.name):
        return _read_arrow(path, columns)
    raise SourceError(f"{path}: cannot tell its format, rename it to end in {', '.join(SUFFIXES)}")


def _read_arrow(path: Path, columns: tuple[str, ...] | None) -> FileTable:
    """Read the candle columns of an Arrow, Feather or Parquet file."""
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
            f"{path}: damaged, or not what its name says ({get_first_line(error)})"
        ) from None
    is_text = [kind == pl.String for kind in frame.dtypes]
    return FileTable(
        apply_names(frame, name_columns(frame.columns, columns, path.name, is_text)), 1
    )
