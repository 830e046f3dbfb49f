"""Does with damaged files what a user does, each time in a fork of this process.

Run as a module. A line of stdin is ``folder<TAB>output``: what came of each step goes to
``output`` as JSON, a digest of all batches or the one line of an error. The answer is a line of
JSON: ``code`` as in ``subprocess``, ``seconds`` of computing, ``mebibytes`` at most.
"""

import hashlib
import io
import json
import os
import resource
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from btc_datamodule import BTCDataError, BTCDataModule, Simulator, read_candles
from btc_datamodule.audit.verify import verify_series
from btc_datamodule.cli.info import describe
from btc_datamodule.evaluation.splits import STAGES
from btc_datamodule.features import layout
from tests.forks import tell_end

MEBIBYTE = 2**20
SECONDS = 20


def make(folder: Path) -> BTCDataModule:
    return BTCDataModule(
        source=Simulator(seed=1, outages_per_year=50),
        start="2021-03-01",
        end="2021-04-10",
        lookback=12,
        horizon=3,
        min_observed=0.8,
        scaling="robust",
        data_dir=folder,
    )


def digest_batches(dm: BTCDataModule) -> str:
    """SHA-256 of every batch of every stage, in the order in which a Trainer gets them."""
    dm.setup()
    digest = hashlib.sha256()
    for stage in STAGES:
        for batch in dm._make_loader(stage):
            for tensor in batch:
                digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def fit(folder: Path) -> str:
    return digest_batches(make(folder))


def prepare(folder: Path) -> str:
    dm = make(folder)
    dm.prepare_data()
    return digest_batches(dm)


def read(folder: Path) -> str:
    candles = read_candles(make(folder).candle_path)
    return hashlib.sha256(b"".join(c.tobytes() for c in candles.columns.values())).hexdigest()


def info(folder: Path) -> str:
    dm = make(folder)
    dm.setup()
    return describe(dm)[:9]  # it says how large a file is, and where it lies


def verify(folder: Path) -> str:
    return "\n".join(verify_series(make(folder).candle_path)) or "nothing"


STEPS: dict[str, Callable[[Path], str]] = {
    "verify": verify, "fit": fit, "info": info, "read": read, "prepare": prepare,
}  # fmt: skip


def run(folder: Path) -> dict[str, str]:
    told = {}
    for name, step in STEPS.items():
        try:
            with redirect_stdout(io.StringIO()):
                told[name] = step(folder)
        except BTCDataError as error:
            told[name] = f"error: {error}"
    return told


def limit() -> None:
    pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    most = pages * resource.getpagesize() + 1024 * MEBIBYTE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve() -> None:
    warnings.simplefilter("ignore")
    layout.SEGMENT_ROWS = 256  # several of them in a small file
    for line in sys.stdin:
        folder, output = map(Path, line.rstrip("\n").split("\t"))
        pid = os.fork()
        if not pid:
            code = 1
            try:
                limit()
                output.write_text(json.dumps(run(folder)))
                code = 0
            except BaseException as error:
                import traceback

                output.write_text(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
            finally:
                os._exit(code)
        tell_end(pid)


if __name__ == "__main__":
    serve()
