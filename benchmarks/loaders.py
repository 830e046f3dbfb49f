"""How fast windows come, beside the ways people load them today; all ratios from one run.

    python benchmarks/loaders.py                      # about three minutes; files in a temporary
    python benchmarks/loaders.py --data-dir cache     # folder, or kept for the next run
    python benchmarks/loaders.py --seconds 0.3        # quicker and less exact

The work: a feature file of ``--rows`` x 6 float32, made from the simulator by ``BTCDataModule``
itself. A sample is ``--lookback`` consecutive rows and the log return of the bar after them, in a
uniform random order over all train windows. One torch thread, page cache warm.

How to read the table:

    limit       numpy copies the same windows out of the memory-mapped file and nothing else: no
                loader, no scaling, the order drawn beforehand. Every window is one void item, and
                so one memcpy. The row below it is the same over plain ``sliding_window_view``.
    ours        ``BTCDataModule.train_dataloader()``. Beyond the limit it draws the order, makes
                the target in float64, the mask of observed bars and the times, and scales.
    others      a ``Dataset`` that gives one sample at a time, in a ``DataLoader(shuffle=True)``;
                the faster of 0 and 2 workers is shown. "HDF5, whole dataset read per item" is
                the pattern of many tutorials, in smaller batches as it is so slow.

    of limit    windows/s as a share of the limit's
    ours is     how many times as fast ours (scaled, no workers) is

Every contender is timed once in each of several rounds, in an order that rotates, so that the
drift of a busy machine hits all alike; what is shown is the median over the rounds, of ratios the
median of the ratios taken within a round. Workers are started, and have filled their queue, before
the clock starts, and are gone when the next contender's turn comes. Before any of it, all
contenders must deliver the same content for the same windows.
"""

import argparse
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from btc_datamodule import BTCDataModule, FractionSplit
from btc_datamodule.timeline import format_instant, parse_instant
from btc_datamodule.windows import as_items

FIRST = "2018-01-01"
FEATURES = ("log_return", "log_range", "log_volume", "taker_share", "day_sin", "day_cos")
FOLLOWING = FEATURES.index("log_return")  # the value to forecast: the next bar's
WORKERS = 2
WHOLE_BATCH = 32  # 24 MB are read for every item
WARM_UP = 2 * WORKERS + 1  # batches: what the workers have made before the clock starts, and one

Sample = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Series:
    """Where the rows lie, and which windows are to be had: starts [first, first + count)."""

    path: str
    lookback: int
    first: int
    count: int


class PerItem(Dataset[Sample]):
    """Sample i: the rows of the i-th window and the value that follows it."""

    def __init__(self, series: Series) -> None:
        self.series = series

    def __len__(self) -> int:
        return self.series.count

    def __getitem__(self, index: int) -> Sample:
        start = self.series.first + index
        rows = self._rows(start, start + self.series.lookback + 1)
        return rows[:-1], rows[-1, FOLLOWING]

    def _rows(self, start: int, end: int) -> Tensor:
        """Rows [start, end) of the table, (n, F) float32."""
        raise NotImplementedError


class ReadWhole(PerItem):
    """The tutorial: opens the file and reads all of it, for each item."""

    def _rows(self, start: int, end: int) -> Tensor:
        with h5py.File(self.series.path, "r") as file:
            data = file["x"][:]
        return torch.from_numpy(data[start:end])


class OpenEach(PerItem):
    """Opens the file for each item and reads what is needed."""

    def _rows(self, start: int, end: int) -> Tensor:
        with h5py.File(self.series.path, "r") as file:
            return torch.from_numpy(file["x"][start:end])


class KeepOpen(PerItem):
    """Opens the file once in each process."""

    def __init__(self, series: Series) -> None:
        super().__init__(series)
        self.process = 0
        self.data: Any = None

    def _rows(self, start: int, end: int) -> Tensor:
        if self.process != os.getpid():
            self.process, self.data = os.getpid(), h5py.File(self.series.path, "r")["x"]
        return torch.from_numpy(self.data[start:end])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "process": 0, "data": None}


class InMemory(PerItem):
    """Holds the whole table as a tensor."""

    def __init__(self, series: Series) -> None:
        super().__init__(series)
        with h5py.File(series.path, "r") as file:
            self.data = torch.from_numpy(file["x"][:])

    def _rows(self, start: int, end: int) -> Tensor:
        return self.data[start:end]


@dataclass(frozen=True)
class Contender:
    """One row of the table, or one of two of which the faster is shown.

    Attributes:
        name: contenders of one name share a row.
        workers: processes that load.
        batch: windows in a batch.
        start: a fresh endless stream of batches.
    """

    name: str
    workers: int
    batch: int
    start: Callable[[], Iterator[object]]


LIMIT = "limit: numpy gather, a void item per window"
LIMIT_VIEW = "limit: numpy gather, sliding_window_view"
OURS = "ours: train_dataloader()"
OURS_RAW = "ours, scaling='none'"
OURS_WORKERS = f"ours, num_workers={WORKERS}"
PER_ITEM: dict[str, type[PerItem]] = {
    "in memory, per-item Dataset": InMemory,
    "HDF5, handle kept open, slice per item": KeepOpen,
    "HDF5, opened per item, slice": OpenEach,
    "HDF5, whole dataset read per item": ReadWhole,
}
IN_MEMORY, _, OPEN_EACH, WHOLE = PER_ITEM


def datamodule(options: argparse.Namespace, data_dir: str, **changes: Any) -> BTCDataModule:
    """Ours, set up: almost all rows are train."""
    dm = BTCDataModule(
        interval="1m",
        start=FIRST,
        end=format_instant(parse_instant(FIRST, "start") + 60 * options.rows),
        features=FEATURES,
        lookback=options.lookback,
        split=FractionSplit(val=0.005, test=0.005),
        batch_size=options.batch,
        data_dir=data_dir,
        **changes,
    )
    dm.prepare_data()
    dm.setup()
    return dm


def windows_of(dm: BTCDataModule) -> Series:
    """The train windows of a series without holes."""
    dataset = dm.dataset("train")
    starts = dataset.origins[np.arange(len(dataset))] - (dm.lookback - 1)
    first, count = int(starts[0]), len(starts)
    assert np.array_equal(starts, np.arange(first, first + count))
    return Series(str(dm.table.path), dm.lookback, first, count)


def limit(view: NDArray[Any], following: NDArray[np.float32], series: Series, batch: int) -> Any:
    """A function that starts a stream of bare gathers, whole batches in an order drawn here."""
    order = series.first + np.random.default_rng(0).permutation(series.count)
    batches = [order[at : at + batch] for at in range(0, series.count - batch + 1, batch)]

    def stream() -> Iterator[object]:
        while True:
            for starts in batches:
                yield view[starts], following[starts + series.lookback]

    return stream


def epochs(loader: DataLoader[Any]) -> Iterator[object]:
    """A loader's batches without end, in a new order each epoch."""
    epoch = 0
    while True:
        if isinstance(loader.sampler, DistributedSampler):
            loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def contenders(options: argparse.Namespace, data_dir: str) -> list[Contender]:
    """All there is to time, after a check that they deliver the same."""
    ours = datamodule(options, data_dir)
    raw = datamodule(options, data_dir, scaling="none")
    parallel = datamodule(options, data_dir, num_workers=WORKERS)
    series, batch, x = windows_of(ours), options.batch, ours.table.x
    items = as_items(x, series.lookback)
    view = sliding_window_view(x, (series.lookback, x.shape[1]))[:, 0]
    following = x[:, FOLLOWING]
    datasets = {name: kind(series) for name, kind in PER_ITEM.items()}
    check(ours, raw, items, view, datasets)

    def per_item(dataset: PerItem, size: int, workers: int) -> Callable[[], Iterator[object]]:
        return lambda: epochs(
            DataLoader(
                dataset,
                batch_size=size,
                shuffle=True,
                num_workers=workers,
                persistent_workers=workers > 0,
            )
        )

    found = [
        Contender(LIMIT, 0, batch, limit(items, following, series, batch)),
        Contender(LIMIT_VIEW, 0, batch, limit(view, following, series, batch)),
        Contender(OURS, 0, batch, lambda: epochs(ours.train_dataloader())),
        Contender(OURS_RAW, 0, batch, lambda: epochs(raw.train_dataloader())),
        Contender(OURS_WORKERS, WORKERS, batch, lambda: epochs(parallel.train_dataloader())),
    ]
    for name, dataset in datasets.items():
        size = min(batch, WHOLE_BATCH) if name == WHOLE else batch
        found += [Contender(name, n, size, per_item(dataset, size, n)) for n in (0, WORKERS)]
    return found


def check(
    ours: BTCDataModule,
    raw: BTCDataModule,
    items: NDArray[Any],
    view: NDArray[np.float32],
    datasets: dict[str, PerItem],
) -> None:
    """Assert that all contenders deliver the same content for the same windows.

    The windows are those of the first batch of ours, unscaled, as its loader hands it out.
    """
    got = next(iter(raw.train_dataloader()))
    origins = (got.origin_time.numpy() - raw.table.first) // raw.table.interval
    starts = origins - (raw.lookback - 1)
    assert len(np.unique(starts)) == raw.batch_size
    assert bool(got.observed.all())
    expected = np.stack([raw.table.x[start : start + raw.lookback] for start in starts])
    following = raw.table.x[origins + 1, FOLLOWING]
    np.testing.assert_array_equal(got.x, expected)
    # The target is a difference of logarithms of its own making: equal but for rounding.
    np.testing.assert_allclose(got.y[:, 0, 0], following, rtol=1e-6, atol=1e-12)

    np.testing.assert_array_equal(view[starts], expected)
    np.testing.assert_array_equal(items[starts].view(np.float32), expected.reshape(-1))
    for name, dataset in datasets.items():
        some = slice(WHOLE_BATCH if name == WHOLE else None)
        positions = starts[some] - dataset.series.first
        x, y = default_collate([dataset[int(position)] for position in positions])
        np.testing.assert_array_equal(x, expected[some])
        np.testing.assert_array_equal(y, following[some])

    scaled = next(iter(ours.train_dataloader()))
    np.testing.assert_array_equal(scaled.origin_time, got.origin_time)
    mean, std = np.array(ours.scaler.center), np.array(ours.scaler.scale)
    np.testing.assert_allclose(scaled.x, (expected - mean) / std, rtol=1e-5, atol=1e-5)


def stretch(contender: Contender, seconds: float) -> float:
    """Windows per second over one stretch of time."""
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


def report(found: Sequence[Contender], measured: list[list[float]], options: Any) -> None:
    """Print the table, the time outside the gather, and whether what is expected holds."""
    rows: dict[str, tuple[Contender, list[float]]] = {}
    for contender, rates in zip(found, measured, strict=True):
        best = rows.get(contender.name)
        if best is None or statistics.median(rates) > statistics.median(best[1]):
            rows[contender.name] = contender, rates
    ours, bare = rows[OURS][1], rows[LIMIT][1]

    print(f"{'':45}{'workers':>8}{'batch':>7}{'windows/s':>12}{'of limit':>10}{'ours is':>11}")
    for name, (contender, rates) in rows.items():
        print(
            f"{name:45}{contender.workers:8}{contender.batch:7}{statistics.median(rates):12,.0f}"
            f"{ratio(rates, bare):10.2%}{ratio(ours, rates):9,.2f} x"
        )

    print()
    for name in (OURS, OURS_RAW):
        pairs = zip(rows[name][1], bare, strict=True)
        extra = statistics.median(options.batch / rate - options.batch / top for rate, top in pairs)
        print(f"time outside the gather, {name}: {extra * 1e6:,.0f} µs per batch")

    print()
    for text, got, bound in (
        ("ours is at least 60 % of the limit", ratio(ours, bare), 0.6),
        (f"ours is over 2 x '{IN_MEMORY}'", ratio(ours, rows[IN_MEMORY][1]), 2),
        (f"ours is over 100 x '{OPEN_EACH}'", ratio(ours, rows[OPEN_EACH][1]), 100),
    ):
        verdict = "holds" if got >= bound else "DOES NOT HOLD"
        print(f"{text}: {verdict} ({got:,.2f})")


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Windows per second of loaders, side by side.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="bars in the series")
    parser.add_argument("--lookback", type=int, default=256, help="rows in a window")
    parser.add_argument("--batch", type=int, default=1024, help="windows in a batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each stretch")
    parser.add_argument("--rounds", type=int, default=5, help="stretches of each contender")
    parser.add_argument("--data-dir", help="keep the files here (default: a temporary folder)")
    options = parser.parse_args()

    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(machine())
    with ExitStack() as stack:
        folder = options.data_dir or stack.enter_context(
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        )
        found = contenders(options, folder)
        print(
            f"windows of {options.lookback} x {len(FEATURES)} float32 from {options.rows:,} rows, "
            f"stretches of {options.seconds} s, {options.rounds} rounds; "
            "all contenders deliver the same\n"
        )
        report(found, measure(found, options.seconds, options.rounds), options)


if __name__ == "__main__":
    main()
