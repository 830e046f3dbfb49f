"""How contenders are timed: in turns, so that the drift of a busy machine hits all alike."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

WORKERS = 2
WARM_UP = 2 * WORKERS + 1
"""Batches: what the workers have made before the clock starts, and one."""


@dataclass(frozen=True)
class Contender:
    """One way to load, of one batch size.

    Attributes:
        name: contenders of one name share a row, of which the fastest is shown.
        batch: windows in a batch.
        start: a fresh endless stream of batches.
        workers: processes that load.
        threads: that torch may use.
    """

    name: str
    batch: int
    start: Callable[[], Iterator[object]]
    workers: int = 0
    threads: int = 1


def stretch(contender: Contender, seconds: float) -> float:
    """Windows per second over one stretch of time."""
    torch.set_num_threads(contender.threads)
    batches = contender.start()
    for _ in range(WARM_UP):
        batch = next(batches)
    count = 0
    begin = now = time.perf_counter()
    while count < 2 or now - begin < seconds:
        batch = next(batches)  # the one before is let go only now, as in any training loop
        count += 1
        now = time.perf_counter()
    del batch, batches  # and with it the workers
    torch.set_num_threads(1)
    return count * contender.batch / (now - begin)


def measure(found: Sequence[Contender], seconds: float, rounds: int) -> list[list[float]]:
    """Windows per second of each contender in each round."""
    rates: list[list[float]] = [[] for _ in found]
    for turn in range(rounds):
        print(f"\rround {turn + 1} of {rounds} ...", end="", file=sys.stderr, flush=True)
        for i in range(len(found)):
            at = (i + turn * len(found) // rounds) % len(found)
            rates[at].append(stretch(found[at], seconds))
    print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)
    return rates


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the ratios taken within each round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def choose_device(named: str | None) -> torch.device:
    """A device by its name; without one an accelerator, if there is one, else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device(named or found or "cpu")


def machine() -> str:
    """The facts that figures depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), model)
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}; Python "
        f"{platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"h5py {h5py.__version__}"
    )
