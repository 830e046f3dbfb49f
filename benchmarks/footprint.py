"""How much memory each step takes, by the length of history: it must not grow with it.

    python benchmarks/footprint.py                       # 1 and 10 million rows, some minutes
    python benchmarks/footprint.py --large               # and 100 million: a quarter of an hour or
                                                      # more, and 11 GB of disk while it lasts
    python benchmarks/footprint.py --data-dir cache      # files are kept there for the next run

One-second bars of the simulator, three features, stored on disk. Each step runs in a process of
its own:

    imports     import, and make the datamodule: what all others begin with
    candles     prepare_data, the first half: simulate, store, merge
    features    prepare_data, the second half: build the feature file
    setup       setup()
    epoch       setup(), and the first ``--batches`` batches of train in random order
    index       no data: the windows of train and their random order, 1,000 batches of it, for a
                table with ``OUTAGES`` outages; also for a billion rows

A number is the most private memory (``RssAnon``) that the process had at any time, read every
``PAUSE`` seconds from outside. Pages of the mapped feature file are not in it: they are the page
cache's, shared by all processes, and the system takes them back when it needs room.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

START = "2020-01-01"
FEATURES = ("log_return", "log_range", "log_volume")
LOOKBACK = 128
BATCH = 256
OUTAGES = 10_000
PAUSE = 0.002

ROWS = (1_000_000, 10_000_000)
LARGE = 100_000_000
INDEX_ONLY = 1_000_000_000
ROW_BYTES = 110
"""Of disk for each row while candles are merged: uncompressed answers and the candle file."""

STEPS = ("imports", "candles", "features", "setup", "epoch", "index")


class Measured(NamedTuple):
    """What a step took: private memory at its peak in MiB, and its own seconds."""

    peak: float
    seconds: float


def measure(step: str, rows: int, batches: int, folder: Path) -> Measured:
    """Run one step in a new process, and watch it from here."""
    command = [sys.executable, __file__, "--step", step, "--rows", str(rows)]
    command += ["--batches", str(batches), "--data-dir", str(folder)]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while child.poll() is None:
            peak = max(peak, private(child.pid))
            time.sleep(PAUSE)
        told = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return Measured(peak, json.loads(told.splitlines()[-1]))


def private(process: int) -> float:
    """MiB of anonymous memory of a process; 0 once it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(sizes[0]) / 1024 if sizes else 0.0


def work(step: str, rows: int, batches: int, folder: Path) -> Callable[[], None]:
    """What a step does; what is done before it is called is not timed."""
    from btc_datamodule import BTCDataModule, Simulator
    from btc_datamodule.candles.timeline import format_instant, parse_instant
    from btc_datamodule.features.build import build
    from btc_datamodule.store.update import update

    dm = BTCDataModule(
        source=Simulator(),
        interval="1s",
        start=START,
        end=format_instant(parse_instant(START) + rows),
        features=FEATURES,
        lookback=LOOKBACK,
        batch_size=BATCH,
        data_dir=str(folder),
    )

    def candles() -> None:
        update(dm.candle_path, dm.source, dm.interval, dm.settings.start, dm.settings.end)

    def features() -> None:
        build(dm.candle_path, dm.settings.recipe)

    def epoch() -> None:
        dm.setup()
        for _ in zip(range(batches), dm.train_dataloader(), strict=False):
            pass

    def nothing() -> None:
        pass

    steps = (nothing, candles, features, dm.setup, epoch, lambda: index(rows, batches))
    return dict(zip(STEPS, steps, strict=True))[step]


def index(rows: int, batches: int) -> None:
    """The windows of a table that nobody made, and the order of some batches of them."""
    import numpy as np

    from btc_datamodule.evaluation.origins import Origins, SampleShape, Unseen, find_origins
    from btc_datamodule.windows.sampler import WindowSampler

    starts = np.sort(np.random.default_rng(0).choice(rows // 1000, OUTAGES, replace=True)) * 1000
    starts = np.unique(starts)
    outages = np.stack([starts, starts + 60], axis=1)
    found = find_origins(
        SampleShape(LOOKBACK, 1),
        span=(0, rows),
        rows=rows,
        warm_up=1,
        min_observed=1.0,
        holes=outages,
        outages=outages,
        unseen=[Unseen(outages, outages[:0])],
    )
    origins = Origins.of(found.runs, 1)
    sampler = WindowSampler(len(origins), BATCH, shuffle="full", drop_last=True)
    for _, positions in zip(range(batches), sampler, strict=False):
        assert isinstance(positions, np.ndarray)
        assert len(origins[positions]) == BATCH


def report(rows: int, steps: tuple[str, ...], batches: int, folder: Path) -> None:
    """One line of the table, as far as it goes."""
    print(f"{rows:>13,}", end="", flush=True)
    for step in STEPS:
        cell = ""
        if step in steps:
            found = measure(step, rows, batches, folder)
            cell = f"{found.peak:,.0f} / {found.seconds:,.2f}"
        print(f"{cell:>17}", end="", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="lengths of history")
    parser.add_argument("--large", action="store_true", help=f"{LARGE:,} rows too")
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--data-dir", type=Path, help="folder to keep the files in")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # in a child
    given = parser.parse_args()
    if given.step:
        run = work(given.step, given.rows[0], given.batches, given.data_dir)
        started = time.perf_counter()
        run()
        print(json.dumps(time.perf_counter() - started))
        return
    print(f"private memory at its peak in MiB / seconds; {given.batches:,} batches of {BATCH}")
    print(f"{'rows':>13}" + "".join(f"{step:>17}" for step in STEPS))
    with ExitStack() as stack:
        for rows in [*given.rows, *([LARGE] if given.large else [])]:
            folder = given.data_dir and given.data_dir / str(rows)
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if free < rows * ROW_BYTES:
                raise SystemExit(
                    f"{rows:,} rows need {rows * ROW_BYTES / 1e9:.1f} GB in {folder} while they "
                    f"are made, and {free / 1e9:.1f} GB are free: give another --data-dir"
                )
            report(rows, STEPS, given.batches, folder)
            if given.data_dir is None:
                stack.close()  # removes the files
        report(INDEX_ONLY, ("index",), given.batches, Path())


if __name__ == "__main__":
    main()
