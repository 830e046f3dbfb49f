"""What one new bar costs in the feature file: processor seconds and bytes on disk.

A candle file of ``--rows`` minutes is made in ``--folder``, and its feature file. Then bars come in
one at a time, and the feature file is brought up to date for each in two ways, in turns: it grows,
or it is built anew, as every bar had it built before files could grow. Of the seconds the start of
the process and the candle file are left out.

    python benchmarks/newest_features.py --folder /tmp/newest
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Interval, parse_instant
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table
from btc_datamodule.store.candle_file import write_candles

MINUTE = Interval(60)
START = parse_instant("2017-01-01")
FEATURES = ("log_return", "log_range", "log_volume", "volatility", "day_sin", "day_cos")


def make_candles(rows: int) -> Candles:
    """Minutes of prices and volumes in decimals, one in a thousand absent."""
    rng = np.random.default_rng(19)
    close = np.round(20_000 * np.exp(np.cumsum(rng.normal(0, 3e-4, rows))), 2)
    opened = np.concatenate([close[:1], close[:-1]])
    columns = {
        "open_time": START + 60 * np.arange(rows),
        "open": opened,
        "high": np.maximum(opened, close) + 0.5,
        "low": np.minimum(opened, close) - 0.5,
        "close": close,
        "volume": np.round(rng.gamma(0.5, 20.0, rows), 5) + 0.00001,
    }
    present = rng.random(rows) > 0.001
    present[0], present[-1000:] = True, True
    return Candles(MINUTE, {name: values[present] for name, values in columns.items()})


def write(path: Path, candles: Candles) -> None:
    """The candle file of some candles, without compression."""
    write_candles(
        path,
        [candles],
        source="memory",
        series="newest",
        interval=MINUTE,
        columns=candles.columns,
        covered=[candles.span],
        revision="",
        provenance=[],
        compress=False,
    )


def count_bytes(folder: Path) -> int:
    """Bytes that the disk holds of the feature files in a folder."""
    return sum(512 * path.stat().st_blocks for path in folder.glob("features-*.h5"))


def measure(path: Path, recipe: Recipe) -> tuple[float, int]:
    """Processor seconds of a build, and bytes that it adds to the disk."""
    held, spent = count_bytes(path.parent), time.process_time()
    build(path, recipe)
    return time.process_time() - spent, count_bytes(path.parent) - held


def main() -> None:
    """Print a table of what a bar costs in each way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=4_350_000, help="minutes that are there before")
    parser.add_argument("--bars", type=int, default=5, help="that come in")
    parser.add_argument("--folder", type=Path, help="where files are made and kept")
    given = parser.parse_args()
    recipe = Recipe(resolve(FEATURES), 3, (0, 1 << 40))
    candles = make_candles(given.rows + given.bars)
    found: dict[str, list[tuple[float, int]]] = {"the first bar": [], "a bar": [], "built anew": []}
    with tempfile.TemporaryDirectory() as temporary:
        path = (given.folder or Path(temporary)) / "grown" / "candles.h5"
        for bar in range(given.bars + 1):
            write(path, candles.slice(START, START + 60 * (given.rows + bar)))
            if bar:
                found["the first bar" if bar == 1 else "a bar"].append(measure(path, recipe))
            else:
                measure(path, recipe)
            anew = path.parent.with_name("anew") / "candles.h5"
            write(anew, candles.slice(START, START + 60 * (given.rows + bar)))
            for old in anew.parent.glob("features-*.h5"):
                old.unlink()
            if bar in (1, given.bars):
                found["built anew"].append(measure(anew, recipe))
        print(f"{Table.open(build(path, recipe)).rows:,} rows, {len(FEATURES)} features")
    for way, all_of in found.items():
        seconds, size = (statistics.median(each) for each in zip(*all_of, strict=True))
        print(f"{way:<16} {seconds:8.3f} s processor time {size / 1e3:12,.0f} kB on disk")


if __name__ == "__main__":
    main()
