"""Copies of windows by their size, in one thread and shared out, on an idle and on a busy machine.

    python benchmarks/threads.py                # a minute; do nothing else meanwhile
    python benchmarks/threads.py --busy 2       # so many other processes that never rest

Windows of 256 x 6 float32 at random places of a million rows. For each size, microseconds of a
copy, the mean of many:

    one         numpy, in the thread that asks
    all         torch's ``index_select`` on all of its threads
    chosen      what the package does: ``windows/overlapping.py``

first alone, then beside processes that this program starts. The three take turns.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from timing import machine

from btc_datamodule.windows.buffers import BufferPool
from btc_datamodule.windows.overlapping import Overlapping

COUNTS = (16, 64, 170, 340, 1024, 4096)
BARS, FEATURES = 256, 6
WAYS = ("one", "all", "chosen")


def spin() -> None:
    """Use a core for ever."""
    while True:
        pass


def time_copies(windows: Overlapping, count: int, seconds: float) -> dict[str, float]:
    """Mean seconds of a copy of ``count`` windows, each way."""
    pool, random = BufferPool(), np.random.default_rng(0)
    made = torch.empty(count, BARS * FEATURES)
    ways: dict[str, Callable[[NDArray[np.int64]], object]] = {
        "one": windows.copy,
        "all": lambda starts: torch.index_select(
            windows.tensor, 0, torch.from_numpy(starts), out=made
        ),
        "chosen": lambda starts: pool.select(windows, starts),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times["one"]) < 10:
        for name, copy in ways.items():
            for starts in random.integers(len(windows), size=(20, count)):
                begin = time.perf_counter()
                copy(starts)
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.mean(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Copies of windows, by size and threads.")
    parser.add_argument("--busy", type=int, default=1, help="processes beside the second half")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each size")
    options = parser.parse_args()

    rows = np.random.default_rng(0).random((1_000_000, FEATURES), np.float32)
    windows = Overlapping(rows, BARS)
    print(machine())
    print(f"{torch.get_num_threads()} torch threads, load average {os.getloadavg()[0]:.1f}")
    print(f"\n{'MB':>7}" + "".join(f"{way:>12}" for way in WAYS * 2) + "   (µs; alone, then busy)")
    found: dict[tuple[int, int], dict[str, float]] = {}
    for busy in (0, options.busy):
        with ExitStack() as stack:
            for _ in range(busy):
                other = multiprocessing.Process(target=spin, daemon=True)
                other.start()
                stack.callback(other.kill)
            for count in COUNTS:
                found[busy, count] = time_copies(windows, count, options.seconds)
    for count in COUNTS:
        cells = [found[busy, count][way] for busy in (0, options.busy) for way in WAYS]
        size = count * windows.items.itemsize / 1e6
        print(f"{size:7.2f}" + "".join(f"{seconds * 1e6:12,.0f}" for seconds in cells))


if __name__ == "__main__":
    main()
