"""Processor seconds that commands take to start, the least of some tries.

    python benchmarks/startup.py [--tries 3]

Each is a process of its own, on simulated candles in a temporary folder. Processor time is told and
not that of the clock, since a busy machine changes it less.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = """\
data:
  class_path: btc_datamodule.BTCDataModule
  init_args: {start: 2020-01-01, end: 2020-06-01}
"""
HELPED = ("prepare", "info", "fit")
RUN = {
    "prepare": [],
    "info": [],
    "verify": [],
    "export": ["--output", "candles.csv"],
    "plot": ["--output", "candles.png"],
    "report": ["--output", "report.html"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=3)
    tries = parser.parse_args().tries
    with tempfile.TemporaryDirectory() as place:
        Path(place, "config.yaml").write_text(CONFIG)
        measure(place, ["-m", "btc_datamodule", "--help"], tries)
        for command in HELPED:
            measure(place, ["-m", "btc_datamodule", command, "--help"], tries)
        for command, options in RUN.items():
            arguments = [command, "--config", "config.yaml", *options]
            measure(place, ["-m", "btc_datamodule", *arguments], tries)
        for package in ("torch", "lightning.pytorch"):
            measure(place, ["-c", f"import {package}"], tries)


def measure(place: str, arguments: list[str], tries: int) -> None:
    """Print the least processor seconds of a process of Python."""
    least = float("inf")
    for _ in range(tries):
        before = os.times()
        subprocess.run([sys.executable, *arguments], cwd=place, capture_output=True, check=True)
        after = os.times()
        used = (after.children_user - before.children_user) + (
            after.children_system - before.children_system
        )
        least = min(least, used)
    print(f"{least:6.2f} s  python {' '.join(arguments)}", flush=True)


if __name__ == "__main__":
    main()
