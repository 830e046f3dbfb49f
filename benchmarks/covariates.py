"""What series beside the candles cost: while the feature file is built, and in each batch.

    python benchmarks/covariates.py                   # about ten minutes; temporary files
    python benchmarks/covariates.py --rounds 3 --seconds 1
    python benchmarks/covariates.py --data-dir cache  # what is stored is kept for the next run

The work: ``--rows`` bars of a minute from the simulator, beside them the same in bars of an hour
and of a day, its ether in minutes, its funding and its open interest. Thirteen features, most of
them of these series (``PAIRS``). Against it stand thirteen features of the candles alone: each does
the same computation, on the rows of the candles, and nothing is joined.

    build     seconds of ``prepare_data`` where everything is stored and no feature file is there
    windows   windows per second of ``train_dataloader()``, in random order, as many features wide;
              also with ``mask: feature``, whose batches say of each value whether it was observed

All take turns in every round. Shown are medians over the rounds, and of ratios the median of those
within a round. One torch thread, page cache warm.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from timing import Contender, machine, measure, ratio

from btc_datamodule import (
    BTCDataModule,
    FractionSplit,
    Resampled,
    SimulatedFunding,
    SimulatedOpenInterest,
    Simulator,
)
from btc_datamodule.candles.timeline import format_instant, parse_instant

FIRST = "2018-01-01"

COVARIATES = {
    "hour": Resampled("1h"),
    "day": Resampled("1d"),
    "eth": Simulator(coin="ETH"),
    "funding": SimulatedFunding(),
    "oi": SimulatedOpenInterest(),
}

PAIRS = {
    "log_return": "log_return",
    "log_range": "log_range",
    "hour.log_return": "hour = close.log().diff()",
    "hour.volatility": "volatility",
    "day.log_return": "day = close.log().diff()",
    "day.momentum": "momentum",
    "eth.log_return": "eth = close.log().diff()",
    "eth.log_volume": "log_volume",
    "ratio = (eth.close / close).log().diff()": "ratio = (open / close).log().diff()",
    "funding.rate": "rate = volume",
    "since_funding = age(funding) / 480": "since = trades / 480",
    "oi_change = oi.sum_open_interest.log().diff()": "oi_change = quote_volume.log().diff()",
    "longs = oi.count_long_short_ratio.log()": "longs = taker_buy_volume.log()",
}
"""Features of series, and what does the same to the candles alone."""

ALONE, BESIDE, BY_FEATURE = (
    "the candles alone",
    "with five series",
    "with five series, mask: feature",
)
WAYS: dict[str, dict[str, Any]] = {
    ALONE: {"features": list(PAIRS.values())},
    BESIDE: {"features": list(PAIRS), "covariates": COVARIATES},
    BY_FEATURE: {"features": list(PAIRS), "covariates": COVARIATES, "mask": "feature"},
}

SLOWER_BUILD, SLOWER_WINDOWS = 2.0, 0.95
"""What is held: a build takes at most twice as long, and windows come 0.95 times as fast."""


def make(way: str, options: argparse.Namespace, data_dir: str) -> BTCDataModule:
    """A datamodule of one way; almost all rows are train."""
    return BTCDataModule(
        Simulator(),
        interval="1m",
        start=FIRST,
        end=format_instant(parse_instant(FIRST) + 60 * options.rows),
        lookback=options.lookback,
        split=FractionSplit(val=0.005, test=0.005),
        batch_size=options.batch,
        data_dir=data_dir,
        **WAYS[way],
    )


def prepare(dm: BTCDataModule) -> BTCDataModule:
    """The datamodule with its files, set up."""
    dm.prepare_data()
    dm.setup()
    assert dm.n_features == len(PAIRS)
    return dm


def build(dm: BTCDataModule) -> float:
    """Seconds of building a feature file that was there.

    Of the candles that are stored now: whoever has longer bars beside them wants more of these.
    """
    prepare(dm).table.path.unlink()
    begin = time.perf_counter()
    dm.prepare_data()
    return time.perf_counter() - begin


def windows(dm: BTCDataModule) -> Iterator[object]:
    """Train batches without end, in a new order each epoch."""
    loader, epoch = dm.train_dataloader(), 0
    while True:
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader
        epoch += 1


def report(what: str, unit: str, found: dict[str, list[float]], bound: float) -> None:
    """Print how each way did, and whether what is held of series beside the candles holds."""
    print(f"\n{what + ', ' + unit:34} {'median':>12}   of the candles alone")
    for name, values in found.items():
        median = statistics.median(values)
        shown = f"{median:,.2f}" if median < 1000 else f"{median:,.0f}"
        print(f"{name:34} {shown:>12}   {ratio(values, found[ALONE]):.3f} x")
    got = ratio(found[BESIDE], found[ALONE])
    least = bound < 1
    holds = "holds" if (got >= bound if least else got <= bound) else "DOES NOT HOLD"
    print(f"{what}: at {'least' if least else 'most'} {bound:g} times: {holds} ({got:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description="What series beside the candles cost.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="bars of the candles")
    parser.add_argument("--lookback", type=int, default=256, help="rows in a window")
    parser.add_argument("--batch", type=int, default=1024, help="windows in a batch")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each stretch of windows")
    parser.add_argument("--rounds", type=int, default=5, help="builds and stretches of each way")
    parser.add_argument("--data-dir", help="keep the files here (default: a temporary folder)")
    options = parser.parse_args()

    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(machine())
    print(
        f"{options.rows:,} bars of a minute, {len(PAIRS)} features, rounds: {options.rounds}; "
        f"windows of {options.lookback}, batch {options.batch}; load {os.getloadavg()[0]:.1f}"
    )
    with ExitStack() as stack:
        folder = options.data_dir or stack.enter_context(
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        )
        made = {way: prepare(make(way, options, folder)) for way in WAYS}
        seconds: dict[str, list[float]] = {ALONE: [], BESIDE: []}
        for turn in range(options.rounds):
            print(
                f"\rbuild {turn + 1} of {options.rounds} ...", end="", file=sys.stderr, flush=True
            )
            for way in list(seconds)[:: 1 if turn % 2 else -1]:
                seconds[way].append(build(made[way]))
        print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)
        report("build", "seconds", seconds, SLOWER_BUILD)
        found = [
            Contender(way, options.batch, partial(windows, prepare(make(way, options, folder))))
            for way in WAYS
        ]
        rates = measure(found, options.seconds, options.rounds)
        report("windows", "a second", dict(zip(WAYS, rates, strict=True)), SLOWER_WINDOWS)


if __name__ == "__main__":
    main()
