"""Where the time of a batch goes, at ``num_workers=0``: the gather, and everything else.

    python benchmarks/overhead.py                     # three minutes; temporary files
    python benchmarks/overhead.py --batch 32 1024 --window 64x6
    python benchmarks/overhead.py --data-dir cache    # files are kept for the next run

A feature file is made from the simulator by ``BTCDataModule`` itself, ``--rows`` bars of a minute
without holes; its rows are scaled once, beforehand. One torch thread, page cache warm. For each
batch size and window (L x F float32) the benchmark goes through the train loader in random order.

How to read the table, in microseconds of processor time per batch:

    total       ``next`` of the iterator of ``train_dataloader()``, which makes small batches
                together; all other columns are of a batch alone
    gather      ``x`` and ``observed`` of the same windows, in the same order, and nothing else
    target      ``y`` of the same windows: their bars are gathered, and the log return taken
    order       the sampler: positions, and their permutation
    loader      the DataLoader's machinery
    wrapping    what is left of the dataset: positions to rows, tensors, times
    outside     order + loader + wrapping; beside it the same per window, in nanoseconds
    scaling     of a batch after its gather; not part of the total: a file whose rows are too
                large to be scaled beforehand has it on top

Order, loader, target and scaling are timed by themselves, and so is wrapping, in a dataset whose
inputs are empty and whose targets are made already: differences between large figures would drown
it. Each is timed in several rounds, in turn, and the least is shown: what else a busy machine does
only ever adds to it. Of large batches the parts add up to less than the total: alone, each finds
its data in the processor's cache, which a batch of more than a megabyte has just been written
through.
"""

import argparse
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timing import machine
from torch.utils.data import Dataset

from btc_datamodule import BTCDataModule, FractionSplit
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.features.builtin import FEATURES
from btc_datamodule.windows.batch import pass_through
from btc_datamodule.windows.buffers import BufferPool
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.loader import WindowLoader
from btc_datamodule.windows.overlapping import Overlapping
from btc_datamodule.windows.permutation import PERMUTED_AT_ONCE

FIRST = "2018-01-01"
PARTS = ("total", "gather", "target", "order", "loader", "wrapping")
SAMPLE_BYTES = 1 << 24
"""Of windows that one timing goes through. Many short timings: the least of them is undisturbed."""


class Nothing(Dataset[Any]):
    """Hands back the positions it is asked for."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, positions: Any) -> Any:
        return positions


class Hollow(WindowDataset):
    """Windows with nothing in their inputs, and always the same in their targets."""

    known: NDArray[np.float32]

    @classmethod
    def of(cls, dm: BTCDataModule) -> "Hollow":
        """Those of train."""
        like = dm.dataset("train")
        shape = replace(like.shape, lookback=1)
        dataset = cls(like.table, like.origins, shape, like.target, like.scaler, complete=True)
        dataset.known = np.zeros((dm.batch_size, 1, 1), dtype=np.float32)
        hollow = Overlapping(np.empty((dm.table.rows, 0), np.float32), 1)
        dataset._views = (os.getpid(), like._get_views()._replace(x=hollow))
        return dataset

    def _compute_targets(self, columns: Any, origins: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.known[: len(origins)]


def bare(dataset: WindowDataset) -> Callable[[NDArray[np.int64]], object]:
    """A function that gathers the inputs of windows from their starts, and does nothing else."""
    views, buffers = dataset._get_views(), BufferPool()

    def gather(starts: NDArray[np.int64]) -> object:
        observed = np.ones((len(starts), dataset.shape.lookback), dtype=np.bool_)
        return buffers.select(views.x, starts), torch.from_numpy(observed)

    return gather


def datamodule(rows: int, lookback: int, features: int, batch: int, data_dir: str) -> BTCDataModule:
    """Ours, set up: almost all rows are train."""
    dm = BTCDataModule(
        interval="1m",
        start=FIRST,
        end=format_instant(parse_instant(FIRST, "start") + 60 * rows),
        features=list(FEATURES)[:features],
        lookback=lookback,
        split=FractionSplit(val=0.02, test=0.02),
        batch_size=batch,
        data_dir=data_dir,
    )
    dm.prepare_data()
    dm.setup()
    return dm


def endless(dm: BTCDataModule, dataset: Dataset[Any]) -> Iterator[Any]:
    """Batches of a dataset in the order of train, epoch after epoch."""
    sampler = dm.train_dataloader().sampler
    loader = WindowLoader(dataset, sampler=sampler, batch_size=None, collate_fn=pass_through)
    for epoch in itertools.count():
        sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader


def each(function: Callable[[Any], object], over: list[Any]) -> Iterator[object]:
    """A function of one thing after the other, without end."""
    return map(function, itertools.cycle(over))


def timings(dm: BTCDataModule, rounds: int) -> dict[str, float]:
    """Least seconds per batch of every part, and of ``scaling``."""
    dataset, batch = dm.dataset("train"), dm.batch_size
    order = dm.train_dataloader().sampler
    batches = [np.array(positions) for positions in itertools.islice(order, 64)]
    origins = [dataset.origins[positions] for positions in batches]
    before = dataset._get_views().first + dm.lookback - 1
    starts = [rows - before for rows in origins]
    x = dataset[batches[0]].x

    def positions() -> Iterator[object]:
        for epoch in itertools.count():
            order.set_epoch(epoch)  # type: ignore[attr-defined]
            yield from order

    streams: dict[str, Iterator[object]] = {
        "total": endless(dm, dm.train_dataloader().dataset),
        "gather": each(bare(dataset), starts),
        "target": each(target(dataset), origins),
        "order": positions(),
        "machinery": endless(dm, Nothing(len(dataset))),
        "wrapping": each(Hollow.of(dm).__getitem__, batches),
        "scaling": each(dataset.scaler.apply_, [x]),
    }
    few = min(200, max(2, SAMPLE_BYTES // (x.numel() * 4)))
    whole = max(few, PERMUTED_AT_ONCE // batch)  # as many as the sampler permutes at once
    least = dict.fromkeys(streams, float("inf"))
    for _ in range(rounds):
        for name, stream in streams.items():
            count = whole if name in ("total", "order", "machinery") else few
            next(stream)
            begin = time.process_time()
            for _ in range(count):
                next(stream)
            least[name] = min(least[name], (time.process_time() - begin) / count)
    least["loader"] = least.pop("machinery") - least["order"]
    return least


def target(dataset: WindowDataset) -> Callable[[NDArray[np.int64]], object]:
    """What makes ``y`` of origins."""
    views = dataset._get_views()
    return lambda origins: dataset._compute_targets(views, origins)


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of a batch goes.")
    parser.add_argument("--rows", type=int, default=300_000, help="bars in the series")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 256, 1024, 8192])
    parser.add_argument("--window", nargs="+", default=["64x6", "256x6", "1024x16"], help="L x F")
    parser.add_argument("--rounds", type=int, default=30, help="timings of each part")
    parser.add_argument("--data-dir", help="keep the files here (default: a temporary folder)")
    options = parser.parse_args()

    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(machine())
    print(f"load average: {os.getloadavg()[0]:.1f}; microseconds of processor time per batch\n")
    heads = "".join(f"{name:>10}" for name in (*PARTS, "outside", "ns/window", "scaling"))
    print(f"{'window':>8}{'batch':>7}{heads}")
    with ExitStack() as stack:
        folder = options.data_dir or stack.enter_context(
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        )
        for window, batch in itertools.product(options.window, options.batch):
            lookback, features = map(int, window.split("x"))
            dm = datamodule(options.rows, lookback, features, batch, folder)
            found = timings(dm, options.rounds)
            outside = found["order"] + found["loader"] + found["wrapping"]
            shown = [*(found[part] * 1e6 for part in PARTS), outside * 1e6, outside / batch * 1e9]
            cells = "".join(f"{value:10,.1f}" for value in (*shown, found["scaling"] * 1e6))
            print(f"{window:>8}{batch:7}{cells}", flush=True)


if __name__ == "__main__":
    main()
