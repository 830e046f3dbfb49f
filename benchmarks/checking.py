"""What it costs to compare a feature file with its digests before a process first reads it.

    python benchmarks/checking.py                          # two minutes; temporary files
    python benchmarks/checking.py --rows 1000000 --data-dir cache

A feature file is made from the simulator by ``BTCDataModule`` itself, ``--rows`` bars of a minute
with six features. One torch thread, page cache warm. A row of the table is one way, in milliseconds
of processor time, the least of some rounds, with and without the comparison in turn:

    setup    of a new datamodule on the prepared files
    first    its first train batch, with the rows scaled beforehand
    ahead    the same, of rows that are not: what is compared is what the batch is made of
    batch    one of the later batches
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from unittest.mock import patch

import torch
from timing import machine

from btc_datamodule import BTCDataModule, Simulator
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.features.checking import SegmentChecks

FIRST = "2018-01-01"
FEATURES = ("log_return", "log_open", "log_high", "log_low", "log_range", "log_volume")
PARTS = ("setup", "first", "ahead", "batch")
BATCHES = 200


def spend(work: Callable[[], object]) -> float:
    """Milliseconds of processor time of one call."""
    begin = time.process_time()
    work()
    return 1e3 * (time.process_time() - begin)


def measure(make: Callable[[], BTCDataModule]) -> dict[str, float]:
    """One round of each part."""
    dm = make()
    took = {"setup": spend(dm.setup)}
    loader = dm.train_dataloader()
    batches, count = iter(loader), min(BATCHES, len(loader) - 1)
    took["first"] = spend(lambda: next(batches))
    took["batch"] = spend(lambda: [next(batches) for _ in range(count)]) / count
    dm = make()
    dm.setup()
    loader = dm.train_dataloader()
    loader.dataset.windows.ahead_bytes = 0  # type: ignore[attr-defined]
    took["ahead"] = spend(lambda: next(iter(loader)))
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description="What checking a feature file costs.")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data-dir", help="keep the files there; by default they are temporary")
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    print(machine())
    print(f"{'rows':>12} {'checked':>8} " + " ".join(f"{part:>9}" for part in PARTS))
    with tempfile.TemporaryDirectory() as folder:
        for rows in given.rows:

            def make(rows: int = rows) -> BTCDataModule:
                return BTCDataModule(
                    Simulator(outages_per_year=0),
                    interval="1m",
                    start=FIRST,
                    end=format_instant(parse_instant(FIRST) + 60 * rows),
                    features=FEATURES,
                    data_dir=given.data_dir or folder,
                )

            make().prepare_data()
            least = {checked: dict.fromkeys(PARTS, float("inf")) for checked in (True, False)}
            for _ in range(given.rounds):
                for checked, known in least.items():
                    off = patch.object(SegmentChecks, "check_segment", lambda *_: None)
                    with nullcontext() if checked else off:
                        found = measure(make)
                    known |= {part: min(known[part], found[part]) for part in PARTS}
            for checked, known in least.items():
                shown = " ".join(f"{known[part]:>9,.2f}" for part in PARTS)
                print(f"{rows:>12,} {'yes' if checked else 'no':>8} {shown}")


if __name__ == "__main__":
    main()
