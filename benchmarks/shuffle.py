"""What ``shuffle: block`` costs and keeps, for a feature file that is not in memory.

    python benchmarks/shuffle.py                      # a file of 4 GB, removed afterwards: minutes
    python benchmarks/shuffle.py --gigabytes 0.5      # quicker; --folder on the disk to measure
    python benchmarks/shuffle.py --block 32768 131072 --pool 8 32

The file has the columns of a feature file that windows are made of, rows of ``--features`` float32
and a close, a random walk whose volatility changes slowly, and nothing else. Before each run its
pages are dropped from the page cache. Two strides are measured: at 1 each row is part of L
windows, and memory decides; at L each row is read once, and the disk decides.

How to read the table:

    read        the file from its beginning with plain reads of a MB, and nothing else
    none        windows in order of time
    full        all windows in random order
    block n x m blocks of n rows, m of them mixed with each other; * marks what the package uses

    windows/s   of a loader's batches, the first included, over ``--seconds``
    MB/s        of file that an epoch gets through: windows/s times the stride times the bytes of
                a row
    of read     MB/s as a share of that of plain reads
    of none     windows/s as a share of those in order of time
    disk MB/s   what was read from the disk for it, read ahead included

Shares are medians of the ratios taken within a round; speeds are the best round's,
as a shared disk varies.

The mixing table takes batches of the same order from all over an epoch:

    apart       median distance of two windows of a batch, as a share of the file (0.29 at random)
    var(y)      variance of the batch means of y, as a multiple of that under ``full``
    var(|y|)    the same for |y|, which keeps its size for days, as real markets' does
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timing import machine

from btc_datamodule import BTCDataModule
from btc_datamodule.candles.runs import Runs
from btc_datamodule.disk.in_use import Identity
from btc_datamodule.evaluation.origins import Origins, SampleShape
from btc_datamodule.evaluation.scaling import Scaler
from btc_datamodule.evaluation.targets import LogReturn
from btc_datamodule.features.checking import Extent, Place, SegmentChecks
from btc_datamodule.features.layout import DTYPES
from btc_datamodule.features.table import Table
from btc_datamodule.windows.batch import pass_through
from btc_datamodule.windows.blocks import BLOCK_WINDOWS, POOL_BLOCKS
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.loader import WindowLoader
from btc_datamodule.windows.sampler import Shuffle, WindowSampler

WRITTEN_ROWS = 1 << 20
READ_BYTES = 1 << 20
CALM_ROWS = 1 << 18
"""Rows over which volatility changes: three days of seconds."""


def big_table(folder: Path, gigabytes: float, features: int) -> Table:
    """A table of which only ``x`` and ``close`` are in the file."""
    dm = BTCDataModule(data_dir=str(folder), start="2020-01-01", end="2020-03-01")
    dm.prepare_data()
    dm.setup()
    rows = int(gigabytes * 1e9 / (4 * features + 8))
    path, generator = folder / "big", np.random.default_rng(0)
    noise = generator.normal(size=(WRITTEN_ROWS, features)).astype(np.float32)
    levels = np.exp(generator.normal(size=rows // CALM_ROWS + 2))
    log_close = 0.0
    with path.open("wb") as file:
        for low in range(0, rows, WRITTEN_ROWS):
            count = min(WRITTEN_ROWS, rows - low)
            at = np.arange(low, low + count)
            volatility = np.interp(at / CALM_ROWS, np.arange(len(levels)), levels)
            block = noise[:count] * volatility[:, np.newaxis].astype(np.float32)
            walk = log_close + 1e-4 * np.cumsum(volatility * generator.normal(size=count))
            log_close = float(walk[-1])
            file.seek(low * 4 * features)
            file.write(block.data)
            file.seek(rows * 4 * features + low * 8)
            file.write(np.exp(walk).data)
        file.flush()
        os.fsync(file.fileno())
    extents = {  # of arrays that are never read the place does not matter
        **{name: Extent(0, 1) for name in DTYPES},
        "x": Extent(0, 4 * features),
        "close": Extent(rows * 4 * features, 8),
    }
    checks = SegmentChecks(
        tuple(extents),
        (Place(path, None, Identity.of(path.stat()), extents),),
        np.array([0, rows]),
        np.zeros((1, len(DTYPES), 32), dtype=np.uint8),
        dm.table.first,
        dm.table.interval,
    )
    checks.fine[:] = True  # the time of reading is asked for, not that of checking
    return replace(
        dm.table,
        path=path,
        rows=rows,
        features=tuple(f"f{n}" for n in range(features)),
        checks=checks,
    )


def windows_of(table: Table, lookback: int, stride: int) -> WindowDataset:
    """All windows of a table, its maps its own."""
    runs: Runs = np.array([[lookback - 1, table.rows - 1]], dtype=np.int64)
    return WindowDataset(
        replace(table),
        Origins.of(runs, stride),
        SampleShape(lookback, 1),
        LogReturn(),
        Scaler("train", (0.0,) * len(table.features), (2.0,) * len(table.features)),
        complete=True,
        ahead_bytes=0,
    )


def drop(path: Path) -> None:
    """Let the system forget the pages of a file; those that a process has mapped stay."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_read(path: Path, seconds: float) -> float:
    """Bytes per second of plain reads."""
    drop(path)
    buffer = bytearray(READ_BYTES)
    total, begin = 0, time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while time.perf_counter() - begin < seconds and (got := file.readinto(buffer)):
            total += got
    return total / (time.perf_counter() - begin)


def disk_bytes() -> int:
    """What this process has had read from disk so far; 0 where the system does not say."""
    with suppress(OSError):
        lines = Path("/proc/self/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))
    return 0


def sampler_of(
    dataset: WindowDataset, batch: int, order: Shuffle, block: int, pool: int
) -> WindowSampler:
    return WindowSampler(
        len(dataset),
        batch,
        shuffle=order,
        drop_last=True,
        block=max(1, block // dataset.origins.stride),
        pool=pool,
    )


def speed(dataset: WindowDataset, sampler: WindowSampler, seconds: float) -> tuple[float, float]:
    """Windows per second from a cold start, and bytes from the disk."""
    drop(dataset.table.path)
    loader = WindowLoader(dataset, sampler=sampler, batch_size=None, collate_fn=pass_through)
    count, before, begin = 0, disk_bytes(), time.perf_counter()
    for batch in loader:
        count += len(batch.x)
        if time.perf_counter() - begin > seconds:
            break
    passed = time.perf_counter() - begin
    return count / passed, (disk_bytes() - before) / passed


def orders(options: argparse.Namespace) -> Iterator[tuple[str, Shuffle, int, int]]:
    """Name, order, rows of a block, blocks of a pool."""
    yield "none", "none", 1, 1
    yield "full", "full", 1, 1
    for block in options.block:
        for pool in options.pool:
            ours = "*" if (block, pool) == (BLOCK_WINDOWS, POOL_BLOCKS) else ""
            yield f"block {block} x {pool}{ours}", "block", block, pool


def measure(
    table: Table, stride: int, options: argparse.Namespace
) -> dict[str, list[tuple[float, float]]]:
    """What ``speed`` says of each order in each round; of plain reads, bytes per second twice."""
    found: dict[str, list[tuple[float, float]]] = {"read": []}
    for _ in range(options.rounds):
        read = plain_read(table.path, options.seconds)
        found["read"].append((read, read))
        for name, order, block, pool in orders(options):
            dataset = windows_of(table, options.lookback, stride)
            sampler = sampler_of(dataset, options.batch, order, block, pool)
            found.setdefault(name, []).append(speed(dataset, sampler, options.seconds))
            del dataset, sampler  # and the maps, whose pages cannot be dropped
    return found


def report(found: dict[str, list[tuple[float, float]]], stride: int, row_bytes: int) -> None:
    """Print the table of one stride."""
    heads = ("windows/s", "MB/s", "of read", "of none", "disk MB/s")
    print(f"{f'stride {stride}':24}" + "".join(f"{head:>12}" for head in heads))
    reads = [rate for rate, _ in found.pop("read")]
    print(f"{'read':24}{'':12}{max(reads) / 1e6:12,.0f}{1:12.0%}")
    for name, runs in found.items():
        of_read = [
            rate * stride * row_bytes / read for (rate, _), read in zip(runs, reads, strict=True)
        ]
        of_none = [rate / none for (rate, _), (none, _) in zip(runs, found["none"], strict=True)]
        rate, disk = max(runs)
        print(
            f"{name:24}{rate:12,.0f}{rate * stride * row_bytes / 1e6:12,.0f}"
            f"{statistics.median(of_read):12.0%}{statistics.median(of_none):12.0%}"
            f"{disk / 1e6:12,.0f}"
        )
    print()


def mixing(
    dataset: WindowDataset, sampler: WindowSampler, close: NDArray[np.float64], count: int
) -> tuple[float, float, float]:
    """Median distance within batches, variance of the means of y and of |y|."""
    apart, means, sizes = [], [], []
    for skipped in np.linspace(0, len(sampler) - 1, count).astype(int).tolist():
        sampler.skip(skipped)
        given = next(iter(sampler))
        positions = given if isinstance(given, np.ndarray) else given.positions
        rows = dataset.origins[positions]
        y = np.log(close[rows + 1] / close[rows])
        apart.append(np.median(np.abs(rows - np.roll(rows, 1))) / dataset.table.rows)
        means.append(y.mean())
        sizes.append(np.abs(y).mean())
    return float(np.median(apart)), float(np.var(means)), float(np.var(sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description="Block shuffle beside full shuffle, from disk.")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of the file")
    parser.add_argument("--folder", help="make it here (default: a temporary folder)")
    parser.add_argument("--features", type=int, default=6, help="columns of x")
    parser.add_argument("--lookback", type=int, default=64, help="rows in a window")
    parser.add_argument("--batch", type=int, default=1024, help="windows in a batch")
    parser.add_argument("--block", type=int, nargs="+", default=[BLOCK_WINDOWS], help="rows")
    parser.add_argument("--pool", type=int, nargs="+", default=[POOL_BLOCKS], help="blocks")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each order")
    options = parser.parse_args()

    torch.set_num_threads(1)
    print(machine(), f"load average {os.getloadavg()[0]:.1f}", sep="\n")
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as folder:
        table = big_table(Path(folder), options.gigabytes, options.features)
        print(
            f"{table.rows:,} rows of {4 * options.features + 8} bytes; windows of "
            f"{options.lookback} x {options.features}, batch {options.batch}\n"
        )
        for stride in (1, options.lookback):
            report(measure(table, stride, options), stride, 4 * options.features + 8)
        print(f"{'mixing, stride 1':24}{'apart':>12}{'var(y)':>9}{'var(|y|)':>9}")
        dataset = windows_of(table, options.lookback, 1)
        close = np.array(table.bars("close"))
        mixed = {
            name: mixing(
                dataset, sampler_of(dataset, options.batch, order, block, pool), close, 1000
            )
            for name, order, block, pool in orders(options)
        }
        for name, (apart, *variances) in mixed.items():
            over = "".join(
                f"{own / base:9.2f}" for own, base in zip(variances, mixed["full"][1:], strict=True)
            )
            print(f"{name:24}{apart:12.4f}{over}")


if __name__ == "__main__":
    main()
