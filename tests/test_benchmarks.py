"""The benchmarks run and yield their tables; what they measure is not judged here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from btc_datamodule import Simulator
from btc_datamodule.store import CHUNK_ROWS
from btc_datamodule.timeline import parse_instant

INGEST = Path(__file__).parents[1] / "benchmarks" / "ingest.py"


def ingest(*arguments: str) -> str:
    """What the benchmark prints."""
    command = [sys.executable, str(INGEST), *arguments, "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    assert f"default, chunks of {CHUNK_ROWS:,}" in found
    assert found["none"] > found["lzf"] > found["gzip 4"]
    assert "default: gzip 4; shuffled: open_time, quote_volume, trades" in lines
