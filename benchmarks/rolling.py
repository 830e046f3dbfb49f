"""What a window of the expression language costs, beside numpy's views and polars' running sums.

    python benchmarks/rolling.py                      # about two minutes
    python benchmarks/rolling.py --bars 24 --rounds 9
    python benchmarks/rolling.py --block 10000000     # ours of all rows at once

One column of ``--rows`` log-normal values, one thread. How to read the table:

    ours      milliseconds for a million windows of a method of the language (``METHODS``), whose
              values have the same bits in every frame
    views     of numpy's function of ``sliding_window_view``, as a multiple of ours: every window
              anew. Timed on fewer windows where they are long (``--values`` in all of them)
    polars    of polars' own method, as a multiple of ours: running sums, whose last bits depend on
              all rows before. Its exponential mean goes back to the first row

Milliseconds are the best round's; multiples are medians of the ratios taken within a round.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from timing import machine, ratio

from btc_datamodule.features import methods

Floats = NDArray[np.float64]

SPAN = 20
"""Of the exponential mean."""

VIEWS: dict[str, Callable[[Floats], Floats]] = {
    "rolling_mean": lambda views: views.mean(axis=1),
    "rolling_sum": lambda views: views.sum(axis=1),
    "rolling_var": lambda views: views.var(axis=1, ddof=1),
    "rolling_std": lambda views: views.std(axis=1, ddof=1),
    "rolling_min": lambda views: views.min(axis=1),
    "rolling_max": lambda views: views.max(axis=1),
    "rolling_median": lambda views: np.median(views, axis=1),
    "ewm_mean": lambda views: views @ (1 - 2 / (SPAN + 1)) ** np.arange(views.shape[1])[::-1],
}


def per_million(compute: Callable[[Floats], object], values: Floats, bars: int) -> float:
    """Milliseconds for a million windows."""
    begin = time.perf_counter()
    compute(values)
    return (time.perf_counter() - begin) * 1e9 / (len(values) - bars + 1)


def contenders(name: str, bars: int) -> tuple[Callable[[Floats], object], ...]:
    """The method as ours, as numpy's views and as polars has it."""
    of_views, arguments = VIEWS[name], (SPAN, bars) if name == "ewm_mean" else (bars,)

    def run_polars(values: Floats) -> object:
        series = pl.Series(values)
        if name == "ewm_mean":
            return series.ewm_mean(span=SPAN).to_numpy()
        return getattr(series, name)(bars).to_numpy()

    return (
        lambda values: methods.METHODS[name].apply(values, *arguments),
        lambda values: of_views(np.lib.stride_tricks.sliding_window_view(values, bars)),
        run_polars,
    )


def measure(name: str, bars: int, values: Floats, options: argparse.Namespace) -> list[list[float]]:
    """Milliseconds for a million windows of each contender in each round."""
    few = values[: options.values // bars + bars]
    times: list[list[float]] = [[], [], []]
    for _ in range(options.rounds):
        runs = zip(contenders(name, bars), (values, few, values), times, strict=True)
        for compute, given, found in runs:
            found.append(per_million(compute, given, bars))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="Windows of the expression language.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="in the column")
    parser.add_argument("--bars", type=int, nargs="+", default=[24, 60, 1440], help="of a window")
    parser.add_argument("--block", type=int, default=methods.BLOCK_ROWS, help="rows at a time")
    parser.add_argument("--values", type=int, default=20_000_000, help="in numpy's views, at most")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each")
    options = parser.parse_args()

    methods.BLOCK_ROWS = options.block
    print(machine(), f"polars {pl.__version__}, load average {os.getloadavg()[0]:.1f}", sep="\n")
    values = np.random.default_rng(0).lognormal(size=options.rows)
    print(f"\n{'':16}" + "".join(f"{f'{bars} bars':>27}" for bars in options.bars))
    print(f"{'method':16}" + f"{'ours':>9}{'views':>9}{'polars':>9}" * len(options.bars))
    for name in VIEWS:
        line = f"{name:16}"
        for bars in options.bars:
            ours, views, polars = measure(name, bars, values, options)
            line += f"{min(ours):6.1f} ms{ratio(views, ours):8.1f}x{ratio(polars, ours):8.2f}x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
