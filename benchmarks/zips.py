"""How fast years of minutes get from a folder of zip files into a candle file.

    python benchmarks/zips.py              # eight years: 96 zips, 4.2 million rows
    python benchmarks/zips.py --months 12

A zip for each month, with one CSV of Binance's layout, simulated; read by ``CandleFile("*.zip")``.

    polars alone        unzips and parses the same files, one after the other, and nothing else
    update              the whole of it: read, checked, merged, stored, digests, sync
    by HDF5 alone       the same, the chunks of the candle file packed by HDF5 one after the other

Everything is timed once in each of several rounds, in turns: medians, ratios within a round.
Processor time is that of all threads.
"""

import argparse
import shutil
import statistics
import tempfile
import time
import zipfile
from pathlib import Path
from unittest import mock

import polars as pl
from ingest import machine, measure, ratio, simulated

from btc_datamodule import CandleFile
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.store import series_file
from btc_datamodule.store.update import update

MONTH_ROWS = 30 * 24 * 60
MINUTE = Interval(60)


def make_zips(folder: Path, months: int) -> None:
    """A zip for each month of simulated minutes."""
    whole = folder / "all.csv"
    simulated(whole, months * MONTH_ROWS, MINUTE)
    with whole.open("rb") as lines:
        for month in range(months):
            name = f"BTCUSDT-1m-{2020 + month // 12}-{month % 12 + 1:02}"
            text = b"".join(next(lines) for _ in range(MONTH_ROWS))
            with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"{name}.csv", text)
    whole.unlink()


def read_alone(folder: Path) -> int:
    """Unzip and parse all files by polars; give the number of rows."""
    rows = 0
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0])
        rows += pl.read_csv(text, has_header=False).height
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="From a folder of zips to a candle file.")
    parser.add_argument("--months", type=int, default=96, help="one zip each")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        make_zips(folder, options.months)
        rows = options.months * MONTH_ROWS
        assert read_alone(folder) == rows

        def whole() -> None:
            target = folder / "update"
            shutil.rmtree(target, ignore_errors=True)
            source = CandleFile(str(folder / "*.zip"))
            update(target / "candles.h5", source, MINUTE, None, None)

        def by_hdf5() -> None:
            with mock.patch.object(series_file, "write_packed", series_file.write_plain):
                whole()

        work = {
            "polars alone": lambda: read_alone(folder),
            "update": whole,
            "update, by HDF5 alone": by_hdf5,
        }
        seconds = measure(work, options.rounds)
        busy = measure(work, 1, time.process_time)
    print(f"{options.months} zips, {rows:,} rows; rounds: {options.rounds}\n")
    print(f"{'':24}{'seconds':>9}{'rows/s':>12}{'of polars':>11}{'processor s':>13}")
    for name, taken in seconds.items():
        middle, times = statistics.median(taken), ratio(taken, seconds["polars alone"])
        cpu = busy[name][0]
        print(f"{name:24}{middle:9.2f}{rows / middle:12,.0f}{times:9.2f} x{cpu:13.2f}")


if __name__ == "__main__":
    main()
