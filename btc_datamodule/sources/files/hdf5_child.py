"""The process that reads an HDF5 file of a stranger, so that a crash is not ours.

libhdf5 was not written for files that somebody has tampered with: it crashes on some, runs for
ever on others, and asks for any amount of memory. ``foreign_hdf5`` runs this file as a module for
each file; here it gets limits of its own, reads one table, writes it to stdout and ends. What is
written: a line of JSON, either ``{"error": text}`` or ``{"is_named", "rows", "columns"}``, then
the bytes of each column. Each start imports this, so that it imports little.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files.child_limits import MEBIBYTE, limit_bytes, limit_process

if TYPE_CHECKING:
    from btc_datamodule.sources.files.hdf5_nodes import Found
    from btc_datamodule.sources.files.hdf5_values import Column

_MILLISECONDS = {"s": 1000}  # polars has no seconds


def main(path: str, dataset: str | None) -> None:
    """Read one table and write it to stdout."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not to stand between the bytes of the table
    size = os.stat(path).st_size if os.path.exists(path) else 0  # noqa: PTH110, PTH116
    from btc_datamodule.sources.files.hdf5_nodes import read_columns
    from btc_datamodule.sources.files.hdf5_values import Budget

    limit_process(size)
    allowed = limit_bytes(size)
    try:
        found = read_columns(Path(path), dataset, Budget(allowed, allowed))
        parts = [_encode(column) for column in found.columns]
    except SourceError as error:
        out.write(json.dumps({"error": str(error)}).encode() + b"\n")
    else:
        _send(out, found, parts)
    out.flush()
    os._exit(0)  # closing a damaged file may crash


def _encode(column: "Column") -> tuple[dict[str, Any], list[Any]]:
    """A column as what to say of it, and the arrays or bytes that it is sent as."""
    import numpy as np

    told: dict[str, Any] = {"name": column.name}
    values = column.values
    if values.dtype.kind in "SO":
        texts: list[bytes] = values.tolist()
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return {**told, "kind": "text", "size": int(lengths.sum())}, [lengths, b"".join(texts)]
    if column.unit is not None:
        unit = column.unit
        if unit == "s":
            values, unit = _to_milliseconds(values, column.name), "ms"
        return {**told, "kind": "time", "unit": unit, "is_utc": column.is_utc}, [values]
    if values.dtype.kind == "f":
        return {**told, "kind": "number", "dtype": "float64"}, [values]
    return {**told, "kind": "number", "dtype": values.dtype.newbyteorder("=").name}, [values]


def _to_milliseconds(seconds: Any, name: str) -> Any:
    """Seconds as milliseconds, those of no instant left as they are."""
    import numpy as np

    from btc_datamodule.sources.files.hdf5_values import NO_TIME

    known = seconds != NO_TIME
    if (np.abs(seconds[known].astype(np.float64)) > 9e15).any():
        raise SourceError(f"{name}: times millions of years away: it is damaged")
    return np.where(known, seconds * known * 1000, NO_TIME)


def _send(out: BinaryIO, found: "Found", parts: list[tuple[dict[str, Any], list[Any]]]) -> None:
    """Write a table: what it is, and then its columns one after the other."""
    import numpy as np

    rows = len(found.columns[0].values) if found.columns else 0
    told = {"is_named": found.is_named, "rows": rows, "columns": [each for each, _ in parts]}
    out.write(json.dumps(told).encode() + b"\n")
    for each, sent in parts:
        for one in sent:
            if isinstance(one, bytes):
                out.write(one)
                continue
            kind = {"number": each.get("dtype"), "time": "int64", "text": "int64"}[each["kind"]]
            for low in range(0, len(one), MEBIBYTE):  # some at a time: a copy of all costs memory
                out.write(np.ascontiguousarray(one[low : low + MEBIBYTE], kind).data)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
