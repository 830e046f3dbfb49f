"""The process that reads Arrow and Parquet files of strangers, so that a crash is not ours.

polars ends the whole process where a damaged file makes it ask for more memory than there is.
``arrow_tables`` runs this file as a module, for all files of a source. A line of stdin is a path;
the answer is a line of JSON, ``{"error": text}`` or ``{"size": bytes}``, and then the table as an
Arrow stream of so many bytes.
"""

import json
import os
import sys
from io import BytesIO
from pathlib import Path

import polars as pl

from btc_datamodule.errors import get_first_line
from btc_datamodule.sources.files.child_limits import limit_process

ROOM = 2**30
"""Bytes of address space for the threads of polars."""

FAILURES = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
    *(OSError, ValueError, MemoryError, RuntimeError),
)
"""What polars raises on a file that is damaged; it panics, outside its own errors, on some."""


def serve() -> None:
    """Read the files that are named on stdin, one after the other."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not to stand between the bytes of a table
    for line in sys.stdin:
        path = Path(json.loads(line))
        limit_process(path.stat().st_size, ROOM)
        try:
            stream = encode(path)
        except FAILURES as error:
            out.write(json.dumps({"error": get_first_line(error)}).encode() + b"\n")
        else:
            out.write(json.dumps({"size": len(stream)}).encode() + b"\n")
            out.write(stream)
        out.flush()


def encode(path: Path) -> memoryview:
    """The table in a file as an Arrow stream, dictionaries written out."""
    frame = read(path)
    texts = [name for name, kind in frame.schema.items() if kind in (pl.Categorical, pl.Enum)]
    frame = frame.with_columns(pl.col(texts).cast(pl.String)) if texts else frame
    frame.write_ipc_stream(stream := BytesIO())
    return stream.getbuffer()


def read(path: Path) -> pl.DataFrame:
    """The table in an Arrow, Feather or Parquet file."""
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"FEA1"):
        raise ValueError(
            "Feather of version 1, which is no longer read: write it anew with `to_feather` of a "
            "present pandas, or as Parquet"
        )
    with path.open("rb") as file:  # an open file: polars would take "[" in a path for a glob
        if head.startswith(b"PAR1"):
            return pl.read_parquet(file)
        return pl.read_ipc(file) if head.startswith(b"ARROW1") else pl.read_ipc_stream(file)


if __name__ == "__main__":
    serve()
