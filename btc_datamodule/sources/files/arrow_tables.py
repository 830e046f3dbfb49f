"""Arrow, Feather and Parquet files: read in a process of its own, which may crash as it likes.

One process reads all files of a source, as its start takes longer than most files; after a crash
the next file gets another.
"""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files.child_limits import limit_bytes
from btc_datamodule.sources.files.children import (
    choose_patience,
    end_late,
    explain_end,
    start_child,
)
from btc_datamodule.sources.files.raw import RawTable, make_frame

COMMAND = (sys.executable, "-P", "-m", "btc_datamodule.sources.files.arrow_child")
"""Starts the process; ``-P``: files in the working directory are not taken for modules."""


class ArrowReader:
    """Reads files one after the other. A context manager, which ends the process."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self, path: Path) -> RawTable:
        """Read every column of a file.

        Raises:
            SourceError: if it is damaged, or not what its name says.
        """
        import polars as pl

        child = self._start()
        size = path.stat().st_size
        patience = choose_patience(size)
        try:
            with end_late(child, patience) as late:
                stream = self._ask(child, path, size)
        except BaseException:
            self._end()
            raise
        if stream is None:
            code, waited = child.wait(), patience if late.is_set() else None
            assert self._said is not None
            self._said.seek(0)
            problem = explain_end(path, size, code, waited, self._said.read(), "Arrow or Parquet")
            self._end()
            raise SourceError(problem)
        frame = pl.read_ipc_stream(BytesIO(stream))
        return RawTable(list(frame.columns), make_frame(frame.get_columns()))

    def _start(self) -> "subprocess.Popen[bytes]":
        """The process, started if there is none."""
        if self._child is None:
            self._said = TemporaryFile()  # noqa: SIM115 (closed with the process)
            self._child = start_child(
                COMMAND, self._said, stdin=subprocess.PIPE, variable=("RUST_BACKTRACE", "0")
            )
        return self._child

    def _ask(self, child: "subprocess.Popen[bytes]", path: Path, size: int) -> bytes | None:
        """The table of a file as an Arrow stream; None if the process ends before it does."""
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(str(path.absolute())).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            return None
        line = child.stdout.readline()
        if not line.endswith(b"\n"):
            return None
        told = json.loads(line)
        if "error" in told:
            raise SourceError(f"{path}: damaged, or not what its name says ({told['error']})")
        stream = child.stdout.read(min(told["size"], limit_bytes(size)))
        return stream if len(stream) == told["size"] else None

    def _end(self) -> None:
        """End the process, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()
        if self._said is not None:
            self._said.close()
            self._said = None
