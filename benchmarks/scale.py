"""What very long and very wide tables take before the first batch, and what breaks first.

    python benchmarks/scale.py                # eight years of one-second bars, one and fifty series
    python benchmarks/scale.py --rows 25_000_000 100_000_000 --features 6

For each number of rows and of features a feature file is made whose rows were never written: it
takes no room on a disk that knows sparse files, and reads as zeros. What it says of itself is as
large as that of a real one. Each file is measured in a process of its own:

    stored        bytes that a real one has
    open          opening it: attributes, small datasets, their digest
    fit           splitting its time and the statistics of train, from those of segments
    windows       the windows of train and their index
    private       MiB of memory that these three have added to the process
    order         microseconds a rank takes to know the positions of its next batch of 1,024, one of
                  64 ranks, windows in full random order
    check         GB/s at which segments are compared with their SHA-256, by one process
    first batch   seconds until all segments of train are compared, which a first batch in full
                  random order waits for: arithmetic, the features and the targets' column by check
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
import polars as pl

from btc_datamodule import BTCDataModule, Feature
from btc_datamodule.eligible import make_windows
from btc_datamodule.features.layout import (
    BAR_COLUMNS,
    DTYPES,
    SCHEMA,
    SEGMENT_ROWS,
    combine_digests,
    shape_array,
    stack_digests,
)
from btc_datamodule.features.table import Table
from btc_datamodule.stages import fit
from btc_datamodule.windows.sampler import WindowSampler

EIGHT_YEARS = 8 * 365 * 86_400 + 2 * 86_400
T = TypeVar("T")

RANKS = 64
BATCH = 1024
BATCHES = 20
SEGMENTS = 5
"""That are compared with their digests: the fastest tells what that takes."""
ARRAYS = ("x", "observed", *BAR_COLUMNS)


def make_sparse(path: Path, rows: int, features: int) -> None:
    """A feature file of segments of zeros, none of which is written."""
    number = -(-rows // SEGMENT_ROWS)
    sizes = [SEGMENT_ROWS] * (number - 1) + [rows - (number - 1) * SEGMENT_ROWS]
    shapes = {name: shape_array(name, (rows, features), "bar") for name in ARRAYS}
    zeros = {
        (name, size): hashlib.sha256(
            bytes(size * np.dtype(DTYPES[name]).itemsize * int(np.prod(shapes[name][1:])))
        ).digest()
        for name in ARRAYS
        for size in {*sizes}
    }
    counts = np.repeat(np.array(sizes, "<i8")[:, None], features, axis=1)
    none = np.zeros((0, 2), "<i8")
    small = {
        "segment_count": counts,
        "segment_mean": np.zeros((number, features)),
        "segment_squares": counts.astype("<f8"),
        "segment_digest": stack_digests([[zeros[name, size] for name in ARRAYS] for size in sizes]),
        "valued": counts.sum(axis=0),
        "holes": none,
        "unobserved": none,
        "unobserved_cells": np.zeros((0, 3), "<i8"),
        "undefined": np.zeros((0, 3), "<i8"),
    }
    attributes: dict[str, int | str] = {
        **{"schema": SCHEMA, "first": 0, "interval": 1, "warm_up": 0, "present": rows},
        **{"max_fill": 0, "flag": 0, "key": "0" * 16, "candles": "", "mask": "bar"},
        **{"features": json.dumps([f"f{i}" for i in range(features)]), "beside": "[]"},
    }
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        for name in ARRAYS:
            space = h5py.h5s.create_simple(shapes[name])
            how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            kind = h5py.h5t.py_create(np.dtype(DTYPES[name]))
            h5py.h5d.create(file.id, name.encode(), kind, space, how)
        for name, values in small.items():
            file[name] = values
        digest = combine_digests(small["segment_digest"], (rows, features), small, attributes)
        file.attrs.update({**attributes, "digest": digest})


def count_private() -> float:
    """MiB of anonymous memory of this process."""
    status = Path("/proc/self/status").read_text()
    (size,) = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(size) / 1024


def take(work: Callable[[], T]) -> tuple[T, float]:
    """What some work gives, and its seconds."""
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin


def measure(rows: int, features: int, folder: Path) -> dict[str, float]:
    """All figures of one table."""
    path = folder / "features.h5"
    make_sparse(path, rows, features)
    named = [Feature(f"f{i}", 1, pl.col("close")) for i in range(features)]
    dm = BTCDataModule(interval="1s", features=named, lookback=256, data_dir=str(folder))
    before = count_private()
    table, opening = take(lambda: Table.open(path))
    fitted, fitting = take(lambda: fit(dm.settings, table))
    windows, indexing = take(
        lambda: make_windows(dm.settings, table, fitted.fold, "train", fitted.scaler)
    )
    private = count_private() - before
    sampler = WindowSampler(
        len(windows), BATCH, shuffle="full", drop_last=True, ranks=lambda: (RANKS, 7)
    )
    batches = iter(sampler)
    next(batches)
    _, ordering = take(lambda: [next(batches) for _ in range(BATCHES)])
    width = 4 * features + 1
    checks = [
        take(partial(table.checks.check_segment, ("x", "observed"), number))[1]
        for number in range(1, 1 + SEGMENTS)
    ]
    rate = SEGMENT_ROWS * width / min(checks)
    return {
        "stored": float(path.stat().st_size),
        "open": opening,
        "fit": fitting,
        "windows": indexing,
        "private": private,
        "order": ordering / BATCHES * 1e6,
        "check": rate / 1e9,
        "first batch": len(windows) * (width + 8) / rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[25_000_000, EIGHT_YEARS])
    parser.add_argument("--features", type=int, nargs="+", default=[6, 300])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # in a child
    given = parser.parse_args()
    if given.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(given.rows[0], given.features[0], Path(folder))))
        return
    print(
        "rows, features | stored GB | open s | fit s | windows s | private MiB | order us | "
        "check GB/s | first batch s"
    )
    for rows in given.rows:
        for features in given.features:
            command = [sys.executable, __file__, "--one", "--rows", str(rows)]
            command += ["--features", str(features)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{rows:,} x {features} | {found['stored'] / 1e9:,.1f} | {found['open']:.2f} | "
                f"{found['fit']:.2f} | {found['windows']:.3f} | {found['private']:.0f} | "
                f"{found['order']:.0f} | {found['check']:.2f} | {found['first batch']:,.0f}"
            )


if __name__ == "__main__":
    main()
