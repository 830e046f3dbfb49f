"""What loader processes cost: windows per second beside none, memory and descriptors over epochs.

    python benchmarks/workers.py                # a minute; do nothing else meanwhile
    python benchmarks/workers.py --epochs 200   # and what is held after so many short epochs

Windows of 256 x 6 float32 of a million rows, torch on one thread. They take turns in each round;
shown are medians, of ratios the medians of those within a round:

    none        ``num_workers=0``
    alone       2 processes, each batch sent alone by torch's own DataLoader: its four tensors
    together    ``num_workers=2``: several batches a message, in memory that is used again
"""

import argparse
import logging
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contenders import datamodule, epochs
from footprint import private
from timing import WORKERS, Contender, machine, measure, ratio
from torch.utils.data import DataLoader

from btc_datamodule.windows.batch import pass_through

ROWS = 1_000_000
LOOKBACK = 256
BATCHES = (64, 1024)


def make_loader(workers: int, rows: int, batch: int, data_dir: str) -> DataLoader[Any]:
    return datamodule(rows, LOOKBACK, batch, data_dir, num_workers=workers).train_dataloader()


def make_alone(rows: int, batch: int, data_dir: str) -> DataLoader[Any]:
    """A loader of torch that sends each batch alone."""
    ours = make_loader(0, rows, batch, data_dir)
    return DataLoader(
        ours.dataset,
        batch_size=None,
        sampler=ours.sampler,
        num_workers=WORKERS,
        collate_fn=pass_through,
        persistent_workers=True,
    )


MAKERS: dict[str, Callable[[int, int, str], DataLoader[Any]]] = {
    "none": partial(make_loader, 0),
    "alone": make_alone,
    "together": partial(make_loader, WORKERS),
}


def report_speed(seconds: float, rounds: int, data_dir: str) -> None:
    """Windows per second, as a table in Markdown."""
    found = [
        Contender(name, batch, partial(epochs, make(ROWS, batch, data_dir)))
        for batch in BATCHES
        for name, make in MAKERS.items()
    ]
    measured = measure(found, seconds, rounds)
    print("| batch | | windows/s | of `num_workers=0` |\n|---:|---|---:|---:|")
    for at, (contender, rates) in enumerate(zip(found, measured, strict=True)):
        none = measured[at - at % len(MAKERS)]
        share = 100 * ratio(rates, none)
        rate = statistics.median(rates)
        print(f"| {contender.batch} | {contender.name} | {rate:,.0f} | {share:.0f} % |")


def report_held(count: int, data_dir: str) -> None:
    """Memory and descriptors of this process after some epochs of a short series."""
    print("\n| | epoch | private MiB | open files |\n|---|---:|---:|---:|")
    for name in ("none", "together"):
        loader = MAKERS[name](20_000, BATCHES[0], data_dir)
        shown = sorted({1, 2, count // 2, count})
        for epoch in range(1, count + 1):
            for _ in loader:
                pass
            if epoch in shown:
                files = len(list(Path("/proc/self/fd").iterdir()))
                print(f"| {name} | {epoch} | {private(os.getpid()):.1f} | {files} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="of each stretch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=0, help="of a short series, one by one")
    parser.add_argument("--data-dir", help="keep our files here (default: a temporary folder)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(machine())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data_dir = options.data_dir or folder
        report_speed(options.seconds, options.rounds, data_dir)
        if options.epochs:
            report_held(options.epochs, data_dir)


if __name__ == "__main__":
    main()
