"""``ForecastFile``: the file that ``follow`` writes, which says what is done.

CSV is appended to, whole lines, each synced before the forecast is given out; half a line that a
kill has left is cut off. HDF5 and Parquet are replaced whole each time, which takes longer the more
there is: they suit bars of minutes and more. What the forecasts are made by stands in a small file
beside, so that those of two models never mix.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.disk.atomic import explain_write_errors, replace_file
from btc_datamodule.errors import ConfigError
from btc_datamodule.training.predictions import Predictions, flatten_columns, write_hdf5

SUFFIXES = (".csv", ".parquet", ".h5")
TIME = "origin_time"
TAIL_BYTES = 1 << 12
"""Read of the end of a CSV file at first; more where a line is longer."""


@dataclass
class ForecastFile:
    """A file of forecasts in order of time, each origin once.

    Attributes:
        path: the file; it need not exist.
        last: the origin of the newest forecast in it, epoch seconds; None if there is none.
    """

    path: Path
    last: int | None = None

    @classmethod
    def open(cls, path: Path, made_by: Mapping[str, str]) -> "ForecastFile":
        """Open a file to go on with, or begin one.

        Args:
            path: ends in one of ``SUFFIXES``.
            made_by: what tells its forecasts from others, by what it is.

        Raises:
            ConfigError: if there is a file that is not one of ``follow``, or is made by another.
            StoreError: if it cannot be written.
        """
        note = path.with_name(f"{path.name}.json")
        if path.exists():
            _check_made_by(path, note, made_by)
        else:
            with replace_file(note) as temporary:
                temporary.write_text(json.dumps(dict(made_by), indent=1) + "\n")
        file = cls(path)
        file.last = file._mend() if path.suffix == ".csv" else file._read_last()
        return file

    def append(self, columns: Predictions) -> None:
        """Add forecasts that are newer than all in the file; they are on disk on return.

        Raises:
            ConfigError: if the file has other columns.
            StoreError: if it cannot be written; it is as it was then.
        """
        if self.path.suffix == ".csv":
            self._append_lines(columns)
        else:
            self._replace(columns)
        self.last = int(columns[TIME][-1])

    def _mend(self) -> int | None:
        """Cut off half a line at the end of a CSV file; give the time of the last whole one."""
        if not self.path.exists():
            return None
        with explain_write_errors(self.path), self.path.open("r+b") as file:
            size, length = self.path.stat().st_size, TAIL_BYTES
            while True:
                file.seek(max(0, size - length))
                tail = file.read()
                if tail.count(b"\n") >= 2 or length >= size:
                    break
                length *= 4
            whole = tail.rfind(b"\n") + 1
            if whole < len(tail):
                file.truncate(size - len(tail) + whole)
                os.fsync(file.fileno())
            file.seek(0)
            header = file.readline()
        if not header:
            return None
        line = tail[:whole].splitlines()[-1]
        if line == header.rstrip(b"\n"):
            return None
        return _read_line(self.path, line.decode("utf-8", "replace"), header)

    def _append_lines(self, columns: Predictions) -> None:
        flat = list(flatten_columns({name: columns[name] for name in columns if name != TIME}))
        header = ",".join([TIME, *(_check_name(name) for name, _ in flat)])
        times = map(format_instant, columns[TIME].tolist())
        numbers = [map(_write_number, values.tolist()) for _, values in flat]
        lines = [",".join(line) for line in zip(times, *numbers, strict=True)]
        with explain_write_errors(self.path), self.path.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(0)
                _check_columns(self.path, file.readline().decode().strip().split(","), header)
            else:
                lines.insert(0, header)
            try:
                file.write("".join(f"{line}\n" for line in lines).encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, size)
                raise

    def _read_last(self) -> int | None:
        if not self.path.exists():
            return None
        times = _read(self.path)[TIME]
        return int(times[-1]) if len(times) else None

    def _replace(self, columns: Predictions) -> None:
        whole = columns
        if self.path.exists():
            stored = _read(self.path)
            if self.path.suffix == ".parquet":
                whole = dict(flatten_columns(columns))
            _check_columns(self.path, [*stored], ",".join(whole))
            whole = {name: np.concatenate([stored[name], whole[name]]) for name in whole}
        if self.path.suffix == ".h5":
            write_hdf5(self.path, iter([whole]))
            return
        import polars as pl

        frame = pl.DataFrame(dict(flatten_columns(whole)))
        frame = frame.with_columns(pl.from_epoch(TIME).dt.replace_time_zone("UTC"))
        with replace_file(self.path) as temporary:
            frame.write_parquet(temporary)


def _read(path: Path) -> Predictions:
    """The columns of an HDF5 or Parquet file, in their order there; times as epoch seconds."""
    if path.suffix == ".h5":
        import h5py

        with h5py.File(path) as file:
            return {name: item[()] for name, item in file.items()}
    import polars as pl

    frame = pl.read_parquet(path).with_columns(pl.col(TIME).dt.epoch("s"))
    return {each.name: each.to_numpy() for each in frame}


def _check_made_by(path: Path, note: Path, made_by: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` if a file of forecasts is made by another model, or of other data."""
    try:
        known: Any = json.loads(note.read_text())
    except (OSError, ValueError):
        raise ConfigError(
            f"{path} is no file that follow has begun: {note.name}, which says what it is made by, "
            "is not beside it; name another --output, or remove it"
        ) from None
    for what, given in made_by.items():
        if known.get(what) != given:
            raise ConfigError(
                f"{path} has forecasts of another {what} ({known.get(what)}, not {given}): name "
                "another --output, or go on with what it was made by"
            )


def _check_columns(path: Path, has: list[str], header: str) -> None:
    if sorted(has) != sorted(header.split(",")):
        raise ConfigError(
            f"{path} has the columns {', '.join(has)}, and the model gives {header}: name another "
            "--output, or go on with the `prices` and the `predict_step` that it was made with"
        )


def _read_line(path: Path, line: str, header: bytes) -> int:
    """The time of a line of a CSV file."""
    fields = line.split(",")
    if len(fields) == header.count(b",") + 1:
        try:
            return parse_instant(fields[0], TIME)
        except ConfigError:
            pass
    raise ConfigError(
        f"{path} ends in a line that follow did not write, {line:.60}: remove that line, or name "
        "another --output"
    )


def _check_name(name: str) -> str:
    """A name as it can stand in the first line of a CSV file."""
    if not {*name}.isdisjoint(',"\r\n'):
        raise ConfigError(
            f"predict_step gives {name!r}, a name that would need quotes in CSV: give one without "
            "commas, quotes and line ends, or an --output that ends in .parquet or .h5"
        )
    return name


def _write_number(value: float) -> str:
    """A number such that reading it as float64 gives it back; nothing for NaN."""
    return "" if math.isnan(value) else repr(value)
