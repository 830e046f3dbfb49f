"""How fast candles get from a CSV file into a candle file, and what compression costs.

    python benchmarks/ingest.py                       # a simulated file of a million rows
    python benchmarks/ingest.py --file BTCUSD_1m.csv --columns bitfinex --interval 1m
    python benchmarks/ingest.py --compression         # the rows stored in several ways: minutes,
                                                      # as gzip 9 is slow

The simulated file has the layout of Binance's klines: 12 columns without a header, prices in
cents, volumes of five decimals, written with eight. It is read through ``CandleFile`` and
``acquire.update``, the way of every candle.

How to read the first table:

    polars, pandas      ``read_csv`` of the same file and nothing else, column types inferred
    candles             from the file to one checked series, merged with what is stored (nothing):
                        all of an update but the hash and the writing
    hash                SHA-256 of the file; an update takes it twice, to know the file again and
                        to say where the candles came from
    part                what an update keeps of an answer until it commits: an uncompressed candle
                        file, synced, and read back
    write               the candle file: content digest, gzip, checksums, sync, rename
    by HDF5 alone       the same, its chunks packed by HDF5 one after the other
    plain write         the bytes of the same columns into a file, synced, and nothing else
    update              the whole of it

    of polars           seconds as a multiple of those that ``polars.read_csv`` takes

The second table stores the rows in files of the candle file's layout that differ in their filters
or the length of their chunks. All have Fletcher-32 checksums. Its seconds are processor time, as
all of it is one thread's work: what else a busy machine does then counts less. Written from
memory; read as ``CandleReader`` does, page cache warm, every block checked; a day is one ``slice``
of 24 hours from a file just opened. The content digest takes the same time for all and stands
apart. "Some shuffled" are the columns that the package shuffles (``store.SHUFFLED``).

Everything is timed once in each of several rounds, in an order that rotates; what is shown is the
median over the rounds, of ratios the median of the ratios taken within a round.
"""

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pandas as pd
import polars as pl

from btc_datamodule import CandleFile, Simulator, read_candles
from btc_datamodule.candles.digest import ContentDigest
from btc_datamodule.candles.series import Candles, concatenate, make_empty, merge
from btc_datamodule.candles.timeline import parse_instant, parse_interval
from btc_datamodule.sources.files import source as files
from btc_datamodule.store import series_file
from btc_datamodule.store.candle_file import CandleReader, write_candles
from btc_datamodule.store.series_file import CHUNK_ROWS, HDF5_CHUNK_ROWS
from btc_datamodule.store.update import update

FIRST = parse_instant("2020-01-01")
DAY = 86400
NEVER = 2**40

Options = Mapping[str, Any]
Work = Callable[[], object]


def simulated(path: Path, rows: int, interval: int) -> Candles:
    """Write a file of Binance's klines, and give back what is in it."""
    span = (FIRST, FIRST + rows * interval)
    candles = concatenate([block.candles for block in Simulator().blocks(interval, span)])
    milliseconds = pl.col("open_time") * 1000
    frame = candles.to_polars().with_columns(
        pl.col("volume", "taker_buy_volume").round(5),
        pl.col("quote_volume").round(8),
    )
    frame.select(
        milliseconds,
        *("open", "high", "low", "close", "volume"),
        (milliseconds + interval * 1000 - 1).alias("close_time"),
        "quote_volume",
        pl.col("trades").cast(pl.Int64),
        "taker_buy_volume",
        (pl.col("taker_buy_volume") * pl.col("close")).round(8).alias("taker_buy_quote_volume"),
        pl.lit(0).alias("ignore"),
    ).write_csv(path, include_header=False, float_precision=8)
    return Candles(interval, {name: frame[name].to_numpy() for name in frame.columns})


def measure(
    work: Mapping[str, Work], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds that each piece of work takes in each round."""
    names = list(work)
    seconds: dict[str, list[float]] = {name: [0.0] * rounds for name in names}
    for turn in range(rounds):
        print(f"\rround {turn + 1} of {rounds} ...", end="", file=sys.stderr, flush=True)
        shift = turn * len(names) // rounds
        for name in names[shift:] + names[:shift]:
            begin = clock()
            result = work[name]()
            seconds[name][turn] = clock() - begin
            del result
    print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)
    return seconds


def ratio(over: list[float], under: list[float]) -> float:
    """The median of the ratios taken within each round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def blocks_of(candles: Candles) -> Iterator[Candles]:
    """The candles as an update hands them to the writer."""
    step = CHUNK_ROWS * candles.interval
    for start in range(candles.span[0], candles.span[1], step):
        yield candles.slice(start, start + step)


def digest(candles: Candles) -> str:
    content = ContentDigest(candles.interval)
    for block in blocks_of(candles):
        content.update(block)
    return content.hexdigest()


def write(path: Path, candles: Candles, *, compress: bool = True) -> None:
    write_candles(
        path,
        blocks_of(candles),
        source="benchmark",
        series="BTC",
        interval=candles.interval,
        columns=candles.columns,
        covered=[candles.span],
        revision="",
        provenance=[],
        compress=compress,
    )


def synced(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_by_hdf5(path: Path, candles: Candles) -> None:
    """The same file, its chunks packed by HDF5's own filters, in one thread."""
    with mock.patch.object(series_file, "write_packed", series_file.write_plain):
        write(path, candles)


def plain_write(path: Path, candles: Candles) -> None:
    with path.open("wb") as file:
        for values in candles.columns.values():
            file.write(np.ascontiguousarray(values).data)
    synced(path)


def part(path: Path, candles: Candles) -> None:
    write(path, candles, compress=False)
    with CandleReader(path) as reader:
        for _ in reader.chunks():
            pass


# ---------------------------------------------------------------------------- from CSV to HDF5


def ingest(source: CandleFile, path: Path, candles: Candles, folder: Path, rounds: int) -> None:
    """Time every step from the file to the candle file, and print the first table."""
    interval = candles.interval
    with path.open() as file:
        header = 0 if file.read(1).isalpha() else None

    def parse() -> Candles:
        with mock.patch.object(files, "hash_file", return_value="0" * 64):  # it has its own row
            (block,) = source.blocks(interval, (0, NEVER))
        return merge(make_empty(interval), block.candles, False)[0]

    def whole() -> None:
        target = folder / "update"
        shutil.rmtree(target, ignore_errors=True)
        update(target / "candles.h5", source, interval, None, None)

    polars, parsed = "polars.read_csv", "candles: parse, check, order, merge"
    work: dict[str, Work] = {
        polars: lambda: pl.read_csv(path, has_header=header is not None),
        "pandas.read_csv": lambda: pd.read_csv(path, header=header),
        parsed: parse,
        "hash of the file, once": lambda: source.revision,
        "part: plain candle file, and read back": lambda: part(folder / "part.h5", candles),
        "write: digest, gzip, checksums, sync": lambda: write(folder / "candles.h5", candles),
        "  by HDF5 alone": lambda: write_by_hdf5(folder / "alone.h5", candles),
        "  of that the digest": lambda: digest(candles),
        "plain write of the same bytes, sync": lambda: plain_write(folder / "plain", candles),
        "update: the whole": whole,
    }
    seconds = measure(work, rounds)
    print(f"{'':42}{'seconds':>9}{'rows/s':>13}{'of polars':>11}")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        times = ratio(taken, seconds[polars])
        print(f"{name:42}{middle:9.3f}{len(candles) / middle:13,.0f}{times:9.2f} x")
    alone, ours = seconds["  by HDF5 alone"], seconds["write: digest, gzip, checksums, sync"]
    sizes = [(folder / name).stat().st_size for name in ("candles.h5", "alone.h5")]
    print(
        f"\npacked on all cores a file is written {ratio(alone, ours):.2f} times as fast as by "
        f"HDF5 alone, and has {sizes[0] / sizes[1]:.1%} of the bytes"
    )
    got = ratio(seconds[parsed], seconds[polars])
    verdict = "holds" if got <= 2 else "DOES NOT HOLD"
    print(f"\ncandles come within twice the time of bare polars: {verdict} ({got:.2f})")


# ------------------------------------------------------------------------------- ways to store


@dataclass(frozen=True)
class Layout:
    """One way to store columns.

    Attributes:
        name: its row in the table.
        options: of h5py's ``create_dataset``, for a column.
        chunk: rows.
    """

    name: str
    options: Callable[[str], Options]
    chunk: int = HDF5_CHUNK_ROWS


def default_options(candles: Candles, folder: Path) -> dict[str, dict[str, Any]]:
    """The filters that the package's own writer gives each column."""
    path = folder / "default.h5"
    write(path, candles.slice(candles.span[0], candles.span[0] + DAY))
    with h5py.File(path) as file:
        return {
            name: {
                "compression": data.compression,
                "compression_opts": data.compression_opts,
                "shuffle": data.shuffle,
            }
            for name, data in file["candles"].items()
        }


def layouts(candles: Candles, folder: Path) -> list[Layout]:
    """All that is compared: filters at the default chunk, chunks at the default filters."""
    ours = default_options(candles, folder)

    def same(**options: Any) -> Callable[[str], Options]:
        return lambda _: options

    def gzip(level: int) -> Callable[[str], Options]:
        return lambda name: ours[name] | {"compression": "gzip", "compression_opts": level}

    found = [
        Layout("none", same()),
        Layout("lzf", same(compression="lzf")),
        Layout("lzf, shuffled", same(compression="lzf", shuffle=True)),
    ]
    for level in (1, 4, 9):
        both: dict[str, Any] = {"compression": "gzip", "compression_opts": level}
        if level < 9:  # without any shuffling, 9 takes a minute or more
            found.append(Layout(f"gzip {level}", same(**both)))
        found.append(Layout(f"gzip {level}, shuffled", same(**both, shuffle=True)))
        found.append(Layout(f"gzip {level}, some shuffled", gzip(level)))
    return found + [
        Layout(f"default, chunks of {chunk:,}", lambda name: ours[name], chunk)
        for chunk in (1 << 11, 1 << 13, 1 << 15, 1 << 17)
    ]


def store(path: Path, candles: Candles, layout: Layout) -> None:
    """A candle file in some layout; all but the columns as the package's own writer makes it."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        group = file.create_group("candles")
        for name, values in candles.columns.items():
            group.create_dataset(
                name,
                data=values,
                maxshape=(None,),
                chunks=(layout.chunk,),
                fletcher32=True,
                **layout.options(name),
            )
    synced(path)


def compression(candles: Candles, folder: Path, rounds: int) -> None:
    """Store the rows in each layout, read them back, and print the second table."""
    header = folder / "header.h5"
    write(header, candles)
    with h5py.File(header, "r+") as file:
        del file["candles"]
    middle = (candles.span[0] + candles.span[1]) // 2 // DAY * DAY
    found = layouts(candles, folder)
    paths = {layout.name: folder / f"{i}.h5" for i, layout in enumerate(found)}

    def written(layout: Layout) -> Work:
        def run() -> None:
            # The old file's space inside is not given back: start from the header each time.
            shutil.copyfile(header, paths[layout.name])
            store(paths[layout.name], candles, layout)

        return run

    def read(layout: Layout) -> Work:
        def run() -> None:
            with CandleReader(paths[layout.name]) as reader:
                assert sum(map(len, reader.chunks())) == len(candles)

        return run

    def day(layout: Layout) -> Work:
        def run() -> None:
            with CandleReader(paths[layout.name]) as reader:
                reader.slice(middle, middle + DAY)

        return run

    cpu = time.process_time
    writes = measure({layout.name: written(layout) for layout in found}, rounds, cpu)
    expected = digest(candles)
    for name, path in paths.items():
        assert digest(read_candles(path)) == expected, name
    reads = measure({layout.name: read(layout) for layout in found}, rounds, cpu)
    days = measure({layout.name: day(layout) for layout in found}, 4 * rounds, cpu)
    again = measure({"digest": lambda: digest(candles)}, rounds, cpu)

    print(f"{'':28}{'MiB':>8}{'bytes/row':>11}{'write s':>9}{'read s':>9}{'a day, ms':>11}")
    base = header.stat().st_size
    for layout in found:
        size = paths[layout.name].stat().st_size - base
        print(
            f"{layout.name:28}{size / 2**20:8.1f}{size / len(candles):11.1f}"
            f"{statistics.median(writes[layout.name]):9.2f}"
            f"{statistics.median(reads[layout.name]):9.2f}"
            f"{statistics.median(days[layout.name]) * 1e3:11.1f}"
        )
    ours = default_options(candles, folder)
    shuffled = ", ".join(name for name in candles.columns if ours[name]["shuffle"])
    print(f"\ndefault: gzip {ours['open']['compression_opts']}; shuffled: {shuffled}")
    print(f"content digest: {statistics.median(again['digest']):.2f} s")


def machine() -> str:
    """The facts that figures depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), model)
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}; Python "
        f"{platform.python_version()}, numpy {np.__version__}, polars {pl.__version__}, "
        f"pandas {pd.__version__}, h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="From a CSV file to a candle file, step by step.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the simulated file")
    parser.add_argument("--file", type=Path, help="a CSV file to read instead of a simulated one")
    parser.add_argument("--columns", help="its layout, if it has no header: kraken, bitfinex, ...")
    parser.add_argument("--interval", default="1m", help="length of a bar")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compression", action="store_true", help="the second table instead")
    options = parser.parse_args()
    if options.file and options.file.suffix != ".csv":
        parser.error("--file must be a plain .csv")

    interval = parse_interval(options.interval)
    print(machine())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        path: Path = options.file or folder / "BTCUSDT-1m.csv"
        made = None if options.file else simulated(path, options.rows, interval)
        source = CandleFile(str(path), columns=options.columns)
        update(folder / "first" / "candles.h5", source, interval, None, None)
        candles = read_candles(folder / "first" / "candles.h5")
        if made is not None:  # nothing is lost or altered on the way
            assert digest(candles) == digest(made)
        print(
            f"{path.name if options.file else 'simulated'}: {len(candles):,} rows, "
            f"{path.stat().st_size / 1e6:,.0f} MB of CSV, {len(candles.columns)} columns stored, "
            f"rounds: {options.rounds}\n"
        )
        if options.compression:
            compression(candles, folder, options.rounds)
        else:
            ingest(source, path, candles, folder, options.rounds)


if __name__ == "__main__":
    main()
