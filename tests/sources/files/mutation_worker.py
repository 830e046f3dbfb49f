"""Reads many candle files one after the other, within a bounded memory, for the tests of mutations.

Run as a module. A line of stdin is a path; the answer is a line of JSON: ``error`` (what it says,
and its kind) or ``times``, ``close`` and ``notes``; ``seconds`` of computing. A process that dies
answers nothing.
"""

import json
import resource
import sys
import time
from pathlib import Path

import polars as pl

from btc_datamodule.errors import BTCDataError
from btc_datamodule.sources.files.source import CandleFile
from tests.sources.files.helpers import EVER, HOUR

ROOM = 2**30


def answer(path: str) -> dict[str, object]:
    began = time.process_time()
    try:
        (block,) = CandleFile(path).blocks(HOUR, EVER)
        bars = block.candles
        told: dict[str, object] = {
            "times": bars.open_time.tolist(),
            "close": bars["close"].tolist(),
            "notes": block.notes,
        }
    except BTCDataError as error:
        told = {"error": str(error)}
    return told | {"seconds": time.process_time() - began}


def serve() -> None:
    pl.DataFrame({"a": [1]}).write_parquet(Path("/dev/null"))  # its threads take their room
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * ROOM, used + 2 * ROOM))
    for line in sys.stdin:
        try:
            told = answer(line.rstrip("\n"))
        except BaseException as error:
            told = {"traceback": f"{type(error).__name__}: {error}"}
        told["mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    serve()
