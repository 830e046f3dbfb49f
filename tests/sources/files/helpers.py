"""Three bars in files of every kind, for tests of what reads them."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.files.source import CandleFile

HOUR = 3600
T0 = parse_instant("2020-01-01")
EVER: Span = (0, parse_instant("2030-01-01"))

TIME = [T0, T0 + HOUR, T0 + 3 * HOUR]
VALUES: dict[str, list[float]] = {
    "open": [7000.1, 7001.0, 7003.123456789],
    "high": [7010.25, 7001.5, 7100.0],
    "low": [6990.0, 6999.9, 7000.0],
    "close": [7001.0, 7000.3, 7099.99],
    "volume": [12.5, 0.0, 1e-8],
}
TRADES = [3.0, 0.0, 1.0]
ORDER = ("open", "high", "low", "close", "volume")


def read(path: Path | list[Path], interval: int = HOUR, end: int = EVER[1], **fields: Any) -> Block:
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    (block,) = CandleFile(paths, **fields).blocks(interval, (0, end))
    return block


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def csv_text(time: list[Any] = TIME, names: tuple[str, ...] = ORDER, end: str = "\n") -> str:
    rows = zip(time, *(VALUES[name] for name in names), strict=True)
    return "".join(",".join(str(value) for value in row) + end for row in rows)


def expect_bars(candles: Candles, **more: list[float]) -> None:
    """Exactly the three bars of this module, bit by bit, and no column more."""
    wanted = {**VALUES, **more}
    assert candles.open_time.dtype == np.int64
    assert candles.open_time.tolist() == TIME
    assert set(candles.columns) == {"open_time", *wanted}
    for name, values in wanted.items():
        assert candles[name].dtype == np.float64
        np.testing.assert_array_equal(candles[name], values, err_msg=name)


HEADER = "open_time,open,high,low,close,volume\n"


def matrix() -> np.ndarray[Any, Any]:
    """The bars as one matrix in Coinbase's column order."""
    return np.array([TIME, *(VALUES[n] for n in ("low", "high", "open", "close", "volume"))]).T


def start_reader(module: str) -> "subprocess.Popen[str]":
    """Start a module of these tests that answers lines on its stdin by lines on its stdout."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.sources.files.{module}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each or "." for each in sys.path)},
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
