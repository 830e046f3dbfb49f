"""HDF5 files that are not ours: read in a process of its own, which may crash as it likes.

What is read is told in ``hdf5_nodes`` (a matrix, a compound dataset, a group of columns, a table
of pandas), and how the process is limited in ``hdf5_child``. Here the process is started, its
table received as plain bytes, never as a pickle, and its end told in one line.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files.child_limits import limit_bytes
from btc_datamodule.sources.files.children import (
    choose_patience,
    end_late,
    explain_end,
    start_child,
)
from btc_datamodule.sources.files.raw import RawTable

if TYPE_CHECKING:
    import polars as pl

COMMAND = (sys.executable, "-P", "-m", "btc_datamodule.sources.files.hdf5_child")
"""Starts the process; ``-P``: files in the working directory are not taken for modules."""

_NUMBER = re.compile(r"float64|u?int(8|16|32|64)")


def read_hdf5(path: Path, dataset: str | None) -> RawTable:
    """Read one table of an HDF5 file.

    Args:
        path: the file.
        dataset: path of a dataset or group inside the file, or the key of a table of pandas; None
            where there is only one.

    Raises:
        SourceError: if the file cannot be read, is damaged, or the table cannot be told.
    """
    if dataset is not None and "\0" in dataset:
        raise SourceError(f"{path}: no dataset {dataset!r}, set `dataset`")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}), check `path`") from None
    arguments = [*COMMAND, str(path), *([] if dataset is None else [dataset])]
    patience = choose_patience(size)
    with (
        TemporaryFile() as said,
        start_child(
            arguments, said, stdin=subprocess.DEVNULL, variable=("OPENBLAS_NUM_THREADS", "1")
        ) as child,
    ):
        assert child.stdout is not None
        try:
            with end_late(child, patience) as late:
                table = _receive(child.stdout, path, size)
                child.wait()
        except BaseException:
            child.kill()
            raise
        if table is None:
            waited = patience if late.is_set() else None
            said.seek(0)
            raise SourceError(explain_end(path, size, child.returncode, waited, said.read()))
    return table


def _receive(stream: IO[bytes], path: Path, size: int) -> RawTable | None:
    """Receive a table from the process; None if it ends before the table does."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    told = json.loads(line)
    if "error" in told:
        raise SourceError(told["error"])
    import polars as pl

    columns = []
    for number, each in enumerate(told["columns"]):
        series = _receive_column(stream, str(number), each, told["rows"], limit_bytes(size))
        if series is None:
            return None
        columns.append(series)
    names = [each["name"] for each in told["columns"]] if told["is_named"] else None
    return RawTable(names, pl.DataFrame(columns), 1)


def _receive_column(
    stream: IO[bytes], name: str, told: dict[str, Any], rows: int, limit: int
) -> "pl.Series | None":
    import polars as pl

    if told["kind"] == "text":
        lengths, blob = _receive_array(stream, "int64", rows, limit), b""
        if lengths is not None:
            blob = stream.read(min(int(told["size"]), limit))
        if lengths is None or len(blob) < told["size"]:
            return None
        ends = np.cumsum(lengths).tolist()
        starts = [0, *ends[:-1]] if ends else []
        texts = [
            blob[low:high].decode("utf-8", "replace")
            for low, high in zip(starts, ends, strict=True)
        ]
        return pl.Series(name, texts, dtype=pl.String)
    kind = "int64" if told["kind"] == "time" else told["dtype"]
    values = _receive_array(stream, kind, rows, limit)
    if values is None:
        return None
    if told["kind"] == "time":
        zone = "UTC" if told["is_utc"] else None
        instants = pl.Series(name, values.view(f"M8[{told['unit']}]"))  # numpy's NaT becomes null
        return instants.dt.replace_time_zone(zone) if zone else instants
    return pl.Series(name, values)


def _receive_array(stream: IO[bytes], kind: str, rows: int, limit: int) -> NDArray[Any] | None:
    """Receive an array of numbers; None if the process ends before it does."""
    if not _NUMBER.fullmatch(kind) or not 0 <= rows * 8 <= 8 * limit:
        return None
    values = np.empty(rows, kind)
    left = values.view(np.uint8).data
    while left:
        got = stream.readinto(left)  # type: ignore[attr-defined]
        if not got:
            return None
        left = left[got:]
    return values
