"""HDF5 files that are not ours: read in a process of its own, which may crash as it likes.

What is read is told in ``hdf5_nodes`` (a matrix, a compound dataset, a group of columns, a table
of pandas), and how the process is limited in ``hdf5_child``. Here the process is started, its
table received as plain bytes, never as a pickle, and its end told in one line.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files.child_limits import limit_bytes, limit_seconds
from btc_datamodule.sources.files.raw import RawTable

if TYPE_CHECKING:
    import polars as pl

COMMAND = (sys.executable, "-P", "-m", "btc_datamodule.sources.files.hdf5_child")
"""Starts the process; ``-P``: files in the working directory are not taken for modules."""

_NUMBER = re.compile(r"float64|u?int(8|16|32|64)")
_CRASHES = {"SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"}


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
    paths = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
    patience = 60 + size // 1_000_000 + limit_seconds(size)
    with (
        TemporaryFile() as said,
        subprocess.Popen(
            arguments,
            env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            process_group=0,  # a Ctrl-C is for this process, which then ends the other
        ) as child,
    ):
        assert child.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(patience, end)
        timer.daemon = True
        timer.start()
        try:
            table = _receive(child.stdout, path, size)
            child.wait()
        except BaseException:
            child.kill()
            raise
        finally:
            timer.cancel()
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


def explain_end(
    path: Path, size: int, code: int, waited: int | None, said: bytes, library: str = "HDF5"
) -> str:
    """Say why the process ended before the table did."""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else ""
    if waited is not None:
        return (
            f"{path}: reading it took more than {waited} seconds, the limit for a file of "
            f"{size:,} bytes: copy it to a faster disk, or write it anew"
        )
    if name == "SIGXCPU":
        return (
            f"{path}: damaged {library} data: the library computed for more than "
            f"{limit_seconds(size)} seconds, the limit for a file of {size:,} bytes"
        )
    if name in _CRASHES:
        return f"{path}: damaged {library} data: the library crashed on it (signal {-code})"
    if name:
        return (
            f"{path}: the process that read it was ended from outside (signal {-code}), as for "
            "want of memory: try again"
        )
    lines = said.decode("utf-8", "replace").strip().splitlines() or [f"it ended with {code}"]
    return f"{path}: the process that reads {library} files failed: {lines[-1]}"
