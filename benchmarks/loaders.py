"""How fast windows come, beside other packages and hand-written loaders; ratios from one run.

    python benchmarks/loaders.py                       # ours, limits, and what is done by hand
    pip install -r benchmarks/peers-requirements.txt   # any subset: what is absent is left out
    python benchmarks/loaders.py                       # and other packages: a quarter of an hour
    python benchmarks/loaders.py --only datasets darts # some of the others
    python benchmarks/loaders.py --seconds 0.2 --no-workers    # quicker and less exact

The work: ``--rows`` x 6 float32, made from the simulator by ``BTCDataModule`` itself, in memory or
in a file, page cache warm. A sample is ``--lookback`` consecutive rows and one value of the row
after them, in random order over all windows; a batch is float32 torch tensors. One torch thread,
but where a row says otherwise.

There are five kinds of rows: ``limit`` is no loader at all, the order drawn beforehand; ``ours``
is ``BTCDataModule.train_dataloader()``; ``bare loop`` is a random order and a gather in a ``for``,
without a loader; ``by hand`` is a loader of a few lines of torch, numpy and h5py; and ``package``
is another package. ``ours is`` says how many times as fast the first row of ours is. Those that
store each window get fewer of them where memory is short, as the row says.

Every contender is first run once: its batch must have the right shape, and every window in it must
be one of the series, followed by its value, and not in order of time. Then all take turns: one
stretch each in every round, in an order that rotates; shown is the median over the rounds, of
ratios the median of those within a round, and the faster of 0 and 2 worker processes (threads, for
grain) where there is a choice. A contender that fails shows the first line of its error.
"""

import argparse
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import warnings
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import (
    BARE,
    CONTENDERS,
    FEATURES,
    FOLLOWING,
    OURS,
    Peer,
    Work,
    datamodule,
    windows_of,
)
from peers import PEERS
from timing import WORKERS, Contender, machine, measure, ratio

BATCHES = (64, 1024)
ALL = (*CONTENDERS, *PEERS)


def check(batch: Any, peer: Peer, work: Work, size: int, found: dict[bytes, int]) -> None:
    """Assert that a batch holds windows of the series, the values after them, and is shuffled."""
    if peer.content is None:
        return
    x, y = peer.content(batch)
    assert x.shape == (size, work.lookback, len(FEATURES)), f"x has the shape {tuple(x.shape)}"
    assert x.dtype == torch.float32, f"x is {x.dtype}"
    assert y.shape == (size,), f"y has the shape {tuple(y.shape)}"
    if peer.kind == "ours":  # scaling and its undoing leave no exact bytes; the times tell them
        dm, delivered = batch
        rows = (delivered.origin_time.numpy() - dm.table.first) // dm.table.interval
        starts = (rows - (work.lookback - 1) - work.series.first).tolist()
    else:
        starts = [found[np.asarray(each[0]).tobytes()] for each in x]
    for start, window, value in zip(starts, x.numpy(), y.numpy(), strict=True):
        expected = work.rows[start : start + work.lookback]
        tolerance = 1e-4 if peer.kind == "ours" else 0
        np.testing.assert_allclose(window, expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(
            value, work.rows[start + work.lookback, FOLLOWING], rtol=tolerance, atol=tolerance / 100
        )
    assert np.mean(np.diff(starts) == 1) < 0.5, "in order of time"


def installed(package: str | None) -> str | None:
    """The version of a distribution; None if it is not there."""
    for name in (package, f"u8{package}") if package else ():
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def prepared(work: Work, chosen: list[str] | None, workers: bool) -> tuple[Any, dict[str, str]]:
    """The streams to time, by batch size; and what is to be said of others."""
    found = {row.tobytes(): i for i, row in enumerate(work.rows[: work.count])}
    contenders: dict[int, list[Contender]] = {size: [] for size in BATCHES}
    notes: dict[str, str] = {}
    for peer in ALL:
        if (
            chosen
            and peer.kind in ("package", "by hand", "bare loop")
            and not any(text in (peer.package or peer.name) for text in chosen)
        ):
            continue
        if peer.package and installed(peer.package) is None:
            notes[peer.name] = f"left out: {peer.package} is not installed"
            continue
        print(f"\r{peer.name:60}", end="", file=sys.stderr, flush=True)
        try:
            start = peer.make(work)
            multiprocessing.set_start_method("fork", force=True)  # some packages change it for all
            ways = (0, WORKERS) if workers and peer.workers else (0,)
            for size in BATCHES:
                least = min(size, peer.batch or size)
                for count in ways:
                    stream = start(least, count)
                    check(next(stream), peer, work, least, found)
                    del stream
            threads = (os.cpu_count() or 1) if peer.threads else 1
            for size in BATCHES:
                least = min(size, peer.batch or size)
                contenders[size] += [
                    Contender(peer.name, least, partial(start, least, count), count, threads)
                    for count in ways
                ]
        except Exception as error:  # whatever a package raises
            first = next(iter(str(error).strip().splitlines()), "")
            notes[peer.name] = f"failed: {type(error).__name__}: {first}"
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)
    return contenders, notes


Rates = dict[str, tuple[int, list[float]]]
"""By name: the number of workers that was faster, and windows per second in each round."""


def faster(contenders: list[Contender], measured: list[list[float]]) -> Rates:
    """The better number of workers for each name."""
    best: Rates = {}
    for contender, rates in zip(contenders, measured, strict=True):
        known = best.get(contender.name)
        if known is None or statistics.median(rates) > statistics.median(known[1]):
            best[contender.name] = contender.workers, rates
    return best


def report(tables: dict[int, Rates], notes: dict[str, str], work: Work) -> None:
    """Print the table, in Markdown, what was left out, and whether what is expected holds."""
    columns = "".join(f" batch {size}: windows/s | workers | ours is |" for size in BATCHES)
    print(f"| | |{columns}\n|---|---|{'---:|' * 3 * len(BATCHES)}")
    for peer in ALL:
        if peer.name not in tables[BATCHES[0]]:
            continue
        known = installed(peer.package)
        name = f"{peer.name} {known}" if known else peer.name
        name += f" ({work.stored:,} windows)" if peer.stored and peer.package else ""
        name += f" (batch {peer.batch})" if peer.batch else ""
        cells = ""
        for size in BATCHES:
            table = tables[size]
            count, rates = table[peer.name]
            times = ratio(table[OURS][1], rates)
            cells += f" {statistics.median(rates):,.0f} | {count} | {times:,.2f} x |"
        print(f"| {name} | {peer.kind} |{cells}")
    print()
    for name, note in notes.items():
        print(f"{name}: {note}")

    kinds = {peer.name: peer.kind for peer in ALL}
    size = BATCHES[-1]
    table = tables[size]
    mine = table[OURS][1]
    print(f"\nbatch {size}")
    verdict("ours is at least 60 % of the bare gather", ratio(mine, table[BARE][1]), 0.6)
    for kind, bound in (("package", 3.0), ("by hand", 1.0)):
        rivals = {name: rates for name, (_, rates) in table.items() if kinds[name] == kind}
        if rivals:
            best = max(rivals, key=lambda name: statistics.median(rivals[name]))
            text = f"ours is at least {bound:g} x the fastest {kind} ({best})"
            verdict(text, ratio(mine, rivals[best]), bound)


def verdict(text: str, got: float, bound: float) -> None:
    print(f"{text}: {'holds' if got >= bound else 'DOES NOT HOLD'} ({got:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Windows per second of loaders, side by side.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="bars in the series")
    parser.add_argument("--lookback", type=int, default=256, help="rows in a window")
    parser.add_argument("--stored", type=int, default=20_000, help="windows of packages that store")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each stretch")
    parser.add_argument("--rounds", type=int, default=5, help="stretches of each contender")
    parser.add_argument("--no-workers", action="store_true", help="0 workers only")
    parser.add_argument("--only", nargs="+", help="parts of names of the others to run")
    parser.add_argument("--data-dir", help="keep our files here (default: a temporary folder)")
    options = parser.parse_args()

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the packages' own; what fails is reported
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(machine())
    print(
        f"windows of {options.lookback} x {len(FEATURES)} float32 from {options.rows:,} rows, "
        f"{options.rounds} rounds of {options.seconds} s each\n"
    )
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        data_dir = options.data_dir or folder
        dm = datamodule(options.rows, options.lookback, BATCHES[-1], data_dir)
        series = windows_of(dm)
        mapped = dm.table.x[series.first : series.first + series.count + series.lookback]
        work = Work(
            rows=np.array(mapped),
            mapped=mapped,
            lookback=options.lookback,
            series=series,
            stored=min(options.stored, series.count),
            data_dir=data_dir,
            folder=Path(folder) / "others",
            options=options,
        )
        work.folder.mkdir()
        contenders, notes = prepared(work, options.only, not options.no_workers)
        flat = [each for size in BATCHES for each in contenders[size]]
        measured = measure(flat, options.seconds, options.rounds)
        tables: dict[int, Rates] = {}
        at = 0
        for size in BATCHES:
            some = slice(at, at := at + len(contenders[size]))
            tables[size] = faster(flat[some], measured[some])
        report(tables, notes, work)


if __name__ == "__main__":
    main()
