"""The benchmarks run and yield their tables; what they measure is not judged here."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from btc_datamodule import Simulator
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.store.series_file import HDF5_CHUNK_ROWS
from btc_datamodule.windows.blocks import BLOCK_WINDOWS, POOL_BLOCKS

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *arguments: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(FOLDER / name), *arguments, "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ingest(*arguments: str) -> str:
    return run("ingest.py", *arguments)


@pytest.mark.stress
def test_loaders_gives_every_contender_that_is_installed_and_says_what_is_left_out() -> None:
    lines = run("loaders.py", "--rows", "4000", "--seconds", "0.01", "--no-workers").splitlines()
    row = re.compile(r"\| (.+?) \| (limit|ours|bare loop|by hand|package) \|( [\d,.]+ x? ?\|)+.*")
    kinds = [match[2] for match in map(row.fullmatch, lines) if match]
    assert kinds[:12] == ["limit"] * 2 + ["ours"] * 3 + ["bare loop"] + ["by hand"] * 6
    assert not [line for line in lines if ": failed: " in line]
    absent = find_spec("tensorstore") is None
    assert ("tensorstore: left out: tensorstore is not installed" in lines) == absent
    assert sum("holds (" in line or "DOES NOT HOLD (" in line for line in lines) == 2


@pytest.mark.stress
def test_overhead_gives_the_parts_of_a_batch() -> None:
    out = run("overhead.py", "--rows", "4000", "--window", "16x3", "--batch", "8", "64")
    *_, heads, one, other = out.splitlines()
    assert heads.split()[:4] == ["window", "batch", "total", "gather"]
    assert [line.split()[:2] for line in (one, other)] == [["16x3", "8"], ["16x3", "64"]]
    assert all(float(value.replace(",", "")) > 0 for value in one.split()[2:6])


@pytest.mark.stress
def test_checking_gives_what_it_costs_with_and_without() -> None:
    *_, heads, yes, no = run("checking.py", "--rows", "4000").splitlines()
    assert heads.split() == ["rows", "checked", "setup", "first", "ahead", "batch"]
    assert [line.split()[:2] for line in (yes, no)] == [["4,000", "yes"], ["4,000", "no"]]
    assert all(float(value) > 0 for line in (yes, no) for value in line.split()[2:])


@pytest.mark.stress
def test_report_gives_seconds_size_and_memory() -> None:
    *_, heads, row, last = run("report.py", "--rows", "20000").splitlines()
    assert heads.split() == ["rows", "facts", "page", "size", "memory"]
    rows, facts, page, size, _ = row.split()
    assert rows == "20,000"
    assert float(facts) > 0 < float(page)
    assert 100_000 < int(size.replace(",", "")) < 1_000_000
    assert last.startswith("at most 10 seconds and 1,000,000 bytes: ")


def test_newest_gives_seconds_and_bytes_of_a_bar() -> None:
    out = run("newest.py", "--rows", "70000", "--bars", "2", "--whole")
    row = re.compile(r"(.+?) {2,}([\d,]+) +(\d+\.\d{3}) +(\d+\.\d{3}) +([\d,]+|nan)")
    _, *found = out.splitlines()
    tail, whole = (match.groups() for match in map(row.fullmatch, found) if match)
    assert (tail[:2], whole[:2]) == (
        ("a bar into the tail", "70,002"),
        ("a bar, all written anew", "70,001"),
    )


@pytest.mark.stress
def test_covariates_gives_builds_and_windows_with_and_without_series_beside() -> None:
    out = run("covariates.py", "--rows", "60000", "--lookback", "16", "--batch", "64")
    row = re.compile(r"(.+?) +([\d,.]+) +(\d+\.\d{3}) x")
    found = [match for match in map(row.fullmatch, out.splitlines()) if match]
    ways = ["the candles alone", "with five series", "with five series, mask: feature"]
    assert [match[1] for match in found] == [*ways[:2], *ways]
    assert [match[3] for match in found if match[1] == ways[0]] == ["1.000"] * 2
    assert sum("holds (" in line or "DOES NOT HOLD (" in line for line in out.splitlines()) == 2


@pytest.mark.stress
def test_shuffle_gives_speeds_and_mixing_of_every_order() -> None:
    out = run("shuffle.py", "--gigabytes", "0.02", "--seconds", "0.05", "--lookback", "32")
    orders = ["none", "full", f"block {BLOCK_WINDOWS} x {POOL_BLOCKS}*"]
    names = [line[:24].strip() for line in out.splitlines()]
    assert [name for name in names if name in orders] == orders * 3


@pytest.mark.stress
def test_training_gives_steps_a_second_of_every_way_to_load() -> None:
    sizes = ("--rows", "4000", "--lookback", "16", "--batch", "32", "--steps", "2")
    lines = run("training.py", "--device", "cpu", *sizes).splitlines()
    names = [line[:16].strip() for line in lines]
    ways = ["no loading", "workers 0", "workers 2", "pinned", "thread", "gather: device"]
    assert names[4:10] == ways


@pytest.mark.stress
def test_device_gives_the_gather_beside_a_copy_and_whole_batches() -> None:
    sizes = ("--rows", "4000", "--lookback", "16", "--batch", "32", "--steps", "2")
    out = run("device.py", "--device", "cpu", *sizes)
    assert "device: cpu, which is no accelerator\n" in out
    row = re.compile(r"(\D+?) +([\d.]+) +([\d,]+) *(\d+%)?")
    found = [match for match in map(row.fullmatch, out.splitlines()) if match]
    assert [match[1] for match in found][:3] == ["copy", "before", "plain torch"]
    assert found[0][4] == "100%"
    assert out.splitlines()[-2].startswith("float32 ")
    assert out.splitlines()[-1].startswith("bfloat16 ")


def test_ingest_gives_seconds_rows_per_second_and_a_ratio_for_every_step() -> None:
    lines = ingest("--rows", "2000").splitlines()
    assert lines[1].startswith("simulated: 2,000 rows, ")
    row = re.compile(r"(.+?) +(\d+\.\d{3}) +([\d,]+) +(\d+\.\d\d) x")
    found = [match for match in map(row.fullmatch, lines) if match]
    assert [match[1].strip() for match in found] == [
        "polars.read_csv",
        "pandas.read_csv",
        "candles: parse, check, order, merge",
        "hash of the file, once",
        "part: plain candle file, and read back",
        "write: digest, gzip, checksums, sync",
        "by HDF5 alone",
        "of that the digest",
        "plain write of the same bytes, sync",
        "update: the whole",
    ]
    assert found[0][4] == "1.00"
    assert lines[-1].startswith("candles come within twice the time of bare polars: ")


@pytest.mark.parametrize("header", [True, False])
def test_ingest_reads_a_file_of_ones_own(tmp_path: Path, header: bool) -> None:
    start = parse_instant("2020-01-01")
    (block,) = Simulator().blocks(3600, (start, start + 500 * 3600))
    kraken = ["open_time", "open", "high", "low", "close", "volume", "trades"]
    frame = block.candles.to_polars().select(kraken)
    frame.write_csv(tmp_path / "own.csv", include_header=header)
    layout = [] if header else ["--columns", "kraken"]
    lines = ingest("--file", str(tmp_path / "own.csv"), "--interval", "1h", *layout).splitlines()
    assert lines[1] == "own.csv: 500 rows, 0 MB of CSV, 7 columns stored, rounds: 1"


def test_compression_gives_size_and_times_for_every_layout() -> None:
    lines = ingest("--rows", "1000", "--compression").splitlines()
    row = re.compile(r"(.+?) +(\d+\.\d) +(\d+\.\d) +(\d+\.\d\d) +(\d+\.\d\d) +(\d+\.\d)")
    found = {match[1]: float(match[3]) for match in map(row.fullmatch, lines) if match}
    shuffled = [f"gzip {level}, {how}shuffled" for level in (1, 4, 9) for how in ("", "some ")]
    assert {"none", "lzf", "lzf, shuffled", "gzip 1", "gzip 4", *shuffled} < set(found)
    assert f"default, chunks of {HDF5_CHUNK_ROWS:,}" in found
    assert found["none"] > found["lzf"] > found["gzip 4"]
    assert "default: gzip 4; shuffled: open_time, quote_volume, trades" in lines


@pytest.mark.stress
def test_zips_gives_an_update_beside_polars_alone() -> None:
    *_, heads, alone, whole, before = run("zips.py", "--months", "1").splitlines()
    assert heads.split()[:2] == ["seconds", "rows/s"]
    assert [line.split()[0] for line in (alone, whole, before)] == ["polars", "update", "update,"]


@pytest.mark.stress
def test_scale_gives_a_line_for_each_table() -> None:
    command = [sys.executable, str(FOLDER / "scale.py"), "--rows", "3000000", "--features", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    (line,) = done.stdout.splitlines()[1:]
    assert line.startswith("3,000,000 x 2 | 0.1 | ")
