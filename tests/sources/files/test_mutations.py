"""Candle files with bytes changed: an error of one line, or bars of which the others are right.

A changed digit in a text is another price, which nobody can tell. But a change in one row must not
lose or change another row without a word, and a packed file has a checksum: whatever is changed in
it is an error, or makes no difference.
"""

import bz2
import gzip
import json
import lzma
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.factories import candles_of
from tests.sources.files.helpers import start_reader
from tests.sources.files.test_hdf5_mutations import change

ROWS = 60
BARS = candles_of(np.ones(ROWS, dtype=bool), optional=["quote_volume", "trades"])
FRAME = BARS.to_polars().rename({"open_time": "timestamp"})
WRITTEN = FRAME.with_columns(date=pl.from_epoch("timestamp")).drop("timestamp")


def pack_csv() -> bytes:
    return FRAME.write_csv().encode()


def pack_dates() -> bytes:
    return WRITTEN.select("date", pl.exclude("date")).write_csv(separator=";").encode()


def pack_json() -> bytes:
    return json.dumps([list(row) for row in FRAME.drop("quote_volume", "trades").rows()]).encode()


def pack_records() -> bytes:
    return FRAME.write_json().encode()


def pack_parquet() -> bytes:
    WRITTEN.write_parquet(file := BytesIO())
    return file.getvalue()


def pack_feather() -> bytes:
    WRITTEN.write_ipc(file := BytesIO(), compression="zstd")
    return file.getvalue()


def pack_plain_feather() -> bytes:
    WRITTEN.write_ipc(file := BytesIO())
    return file.getvalue()


def pack_zip() -> bytes:
    with zipfile.ZipFile(file := BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bars.csv", pack_csv())
    return file.getvalue()


KINDS: list[tuple[str, Callable[[], bytes], bool]] = [
    ("csv", pack_csv, False),
    ("txt", pack_dates, False),
    ("json", pack_json, False),
    ("jsonl", pack_records, False),
    ("parquet", pack_parquet, False),
    ("feather", pack_feather, False),
    ("arrow", pack_plain_feather, False),
    ("zip", pack_zip, True),
    ("csv.gz", lambda: gzip.compress(pack_csv()), True),
    ("csv.bz2", lambda: bz2.compress(pack_csv()), True),
    ("csv.xz", lambda: lzma.compress(pack_csv()), True),
]
"""The ending, what makes a file of it, and whether all of it is covered by a checksum."""


TEXTS = ("csv", "txt", "json", "jsonl")
SLOW = ("parquet", "feather", "arrow")
"""What is read in a process of its own, as slowly as that starts."""


class Worker:
    """Reads files in another process, which must not die."""

    def __init__(self) -> None:
        self.process = start_reader("mutation_worker")

    def read(self, path: Path) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the process died with {self.process.wait()}"
        told: dict[str, Any] = json.loads(line)
        return told

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is bounded by what Linux tells of a process")
    made = Worker()
    yield made
    made.close()


@pytest.mark.parametrize(("ending", "pack", "checked"), KINDS, ids=[kind[0] for kind in KINDS])
@pytest.mark.parametrize("times", [24, pytest.param(3000, marks=pytest.mark.stress)])
def test_a_changed_file_is_one_line_of_error_or_changes_no_other_row(
    tmp_path: Path,
    worker: Worker,
    ending: str,
    pack: Callable[[], bytes],
    checked: bool,
    times: int,
) -> None:
    data, path = pack(), tmp_path / f"bars.{ending}"
    path.write_bytes(data)
    right = worker.read(path)
    assert right["times"] == BARS.open_time.tolist(), right
    random, count = np.random.default_rng(len(data)), Counter[str]()
    if ending in SLOW:
        times //= 8
    for _ in range(times):
        by_letter = ending in TEXTS and random.integers(0, 2)
        changed = (change_text if by_letter else change)(data, random)
        path.write_bytes(changed)
        found = worker.read(path)
        assert "traceback" not in found, found
        assert found["seconds"] < 5
        assert found["mebibytes"] < 1024 + 300
        if "error" in found:
            assert "\n" not in found["error"]
            assert len(found["error"]) < 2000
            count["error"] += 1
        elif found["times"] == right["times"] and found["close"] == right["close"]:
            count["same"] += 1
        else:
            count["told" if set(found["notes"]) - set(right["notes"]) else "differs"] += 1
            assert not checked, found
            if ending in ("csv", "txt"):
                check_other_rows(data, changed, found, right)
    print(ending, dict(count))
    assert count["error"]


def check_other_rows(
    data: bytes, changed: bytes, found: dict[str, Any], right: dict[str, Any]
) -> None:
    """Rows of lines that stand there as before are in the bars, unless a note says why not."""
    if set(found["notes"]) - set(right["notes"]):
        return
    kept = set(changed.split(b"\n"))
    bars = dict(zip(found["times"], found["close"], strict=True))
    rows = zip(data.split(b"\n")[1:], right["times"], right["close"], strict=False)
    for line, when, close in rows:
        assert line not in kept or bars.get(when) == close, line


def change_text(data: bytes, random: np.random.Generator) -> bytes:
    """One letter in place of another, put in or taken out; of those that mean something here."""
    letters = b"0123456789,;.\n\r\t\"' -:eE#/KM"
    at, kind = int(random.integers(0, len(data))), int(random.integers(0, 4))
    letter = letters[(place := int(random.integers(0, len(letters)))) : place + 1]
    lines = data.split(b"\n")
    if kind == 3 and len(lines) > 3:  # two lines in one another's place
        one, other = (int(row) for row in random.integers(1, len(lines) - 1, 2))
        lines[one], lines[other] = lines[other], lines[one]
        return b"\n".join(lines)
    return data[:at] + (letter if kind < 2 else b"") + data[at + (kind != 1) :]
