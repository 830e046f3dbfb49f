"""How long the report takes, how large it is, and how much memory it needs, for years of minutes.

    python benchmarks/report.py                            # a few minutes; temporary files
    python benchmarks/report.py --rows 4300000 --data-dir cache

One-minute bars of the simulator with outages, six features. Files are prepared and set up before
the clock starts. A row of the table is one length of history, the least of some rounds:

    facts     seconds of going through all rows: features, targets, holes, windows
    page      seconds of drawing, and of making the HTML
    size      bytes of the file
    memory    the most private memory (``RssAnon``) above that of before, in MiB, read every
              ``PAUSE`` seconds from a thread

What holds is said at the end: at most ``SECONDS`` and ``BYTES``.
"""

import argparse
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from footprint import private
from timing import machine

from btc_datamodule import BTCDataModule, Simulator
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.report.alerts import list_alerts
from btc_datamodule.report.facts import gather_facts
from btc_datamodule.report.page import MOST_BYTES, make_page

FIRST = "2018-01-01"
FEATURES = ("log_return", "log_range", "log_volume", "volatility", "momentum", "day_sin")
SECONDS = 10.0
BYTES = MOST_BYTES
PAUSE = 0.01


@contextmanager
def watch_memory() -> Iterator[list[float]]:
    """Give a list that has the most private memory in MiB, above that of before, at the end."""
    process, done, peak = os.getpid(), threading.Event(), [0.0]
    before = private(process)

    def watch() -> None:
        while not done.wait(PAUSE):
            peak[0] = max(peak[0], private(process) - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def measure(dm: BTCDataModule) -> tuple[float, float, int, float]:
    """One round."""
    with watch_memory() as peak:
        begin = time.perf_counter()
        facts = gather_facts(dm.stages)
        between = time.perf_counter()
        size = len(make_page(facts, list_alerts(facts)).encode())
        end = time.perf_counter()
    return between - begin, end - between, size, peak[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_300_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, help="keep the files there")
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(machine())
    print(f"{'rows':>12} {'facts':>8} {'page':>8} {'size':>10} {'memory':>8}")
    holds = True
    with tempfile.TemporaryDirectory() as folder:
        for rows in given.rows:
            dm = BTCDataModule(
                Simulator(outages_per_year=50),
                interval="1m",
                start=FIRST,
                end=format_instant(parse_instant(FIRST) + 60 * rows),
                features=FEATURES,
                data_dir=given.data_dir or folder,
            )
            dm.prepare_data()
            dm.setup()
            found = [measure(dm) for _ in range(given.rounds)]
            facts, page = (min(each[part] for each in found) for part in (0, 1))
            size, memory = found[0][2], max(each[3] for each in found)
            print(f"{rows:>12,} {facts:>8.2f} {page:>8.2f} {size:>10,} {memory:>8.0f}")
            holds = holds and facts + page <= SECONDS and size <= BYTES
    word = "holds" if holds else "DOES NOT HOLD"
    print(f"at most {SECONDS:g} seconds and {BYTES:,} bytes: {word}")


if __name__ == "__main__":
    main()
