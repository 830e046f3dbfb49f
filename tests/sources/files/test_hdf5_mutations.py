"""HDF5 files with bytes changed: the right values, one line of error, and never a crash of ours.

HDF5 puts a checksum on what it stores only where it is asked to: on values by the filter
Fletcher-32, on the file's own structure from format 1.10 on. A file with both gives its values or
an error. In any other a changed byte may be a changed price, a changed name, or a changed place:
there nobody can tell, and the tests ask for a table or an error.
"""

import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files import foreign_hdf5
from btc_datamodule.sources.files.children import explain_end
from btc_datamodule.sources.files.foreign_hdf5 import read_hdf5
from btc_datamodule.sources.files.raw import RawTable
from tests.sources.files.helpers import start_reader
from tests.sources.files.pandas_hdf5 import UTC, Index, write_fixed, write_table

ROWS = 40
NAMES = ("open", "high", "low", "close", "volume")
TIMES = 1_577_836_800_000_000 + np.arange(ROWS) * 3_600_000_000
COLUMNS = {name: np.arange(ROWS) + number / 8 for number, name in enumerate(NAMES)}


def matrix() -> Any:
    return np.stack([TIMES / 1e6, *COLUMNS.values()], axis=1)


def write_matrix(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["bars"] = matrix()


def write_checked(path: Path) -> None:
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.create_dataset("bars", data=matrix(), chunks=(16, 6), fletcher32=True)


def write_records(path: Path) -> None:
    records = np.zeros(ROWS, [("time", "i8"), *((name, "f8") for name in NAMES)])
    records["time"] = TIMES
    for name in NAMES:
        records[name] = COLUMNS[name]
    with h5py.File(path, "w") as file:
        file.create_dataset("spot/bars", data=records, compression="gzip")


def write_group(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, values in {"time": TIMES, **COLUMNS}.items():
            file.create_dataset(f"BTC/{name}", data=values, chunks=(16,), shuffle=True)
        file["BTC/day"] = np.array(["Monday"] * ROWS, dtype=h5py.string_dtype())


def write_pandas_fixed(path: Path) -> None:
    write_fixed(path, "BTC", Index(TIMES, "datetime64[us]", "date", UTC), [COLUMNS])


def write_pandas_table(path: Path) -> None:
    write_table(
        path, "BTC/ohlcv", Index(np.arange(ROWS)), [COLUMNS],
        {"date": TIMES.view("M8[us]")}, {"date": UTC}, compression="gzip",
    )  # fmt: skip


def write_blosc(path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    write_table(
        path, "ohlcv", Index(TIMES * 1000, "datetime64[ns]", "date"), [COLUMNS],
        **hdf5plugin.Blosc(cname="blosclz"),
    )  # fmt: skip


LAYOUTS: list[Callable[[Path], None]] = [
    write_matrix, write_checked, write_records, write_group, write_pandas_fixed,
    write_pandas_table, write_blosc,
]  # fmt: skip


class Outcome(NamedTuple):
    """What came of one file: a table, or what the error says; and what it took."""

    table: RawTable | None
    error: str
    seconds: float
    mebibytes: float


class Reader:
    """Reads files in forks of another process, as ``foreign_hdf5`` in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "changed.h5"
        self.output = folder / "output"
        self.process = start_reader("fork_reader")

    def read(self, data: bytes) -> Outcome:
        self.path.write_bytes(data)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{self.path}\t{self.output}\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        took = told["seconds"], told["mebibytes"]
        assert told["code"] <= 0, f"a traceback in the process: {self.output.read_bytes()[:500]!r}"
        try:
            table = foreign_hdf5._receive(BytesIO(self.output.read_bytes()), self.path, len(data))
        except SourceError as error:
            return Outcome(None, str(error), *took)
        if table is None:
            said = explain_end(self.path, len(data), told["code"], None, b"")
            return Outcome(None, said, *took)
        return Outcome(table, "", *took)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(tmp_path_factory.mktemp("mutations"))
    yield made
    made.close()


def change(data: bytes, random: np.random.Generator) -> bytes:
    """Some bytes changed, a number put in their place, or the end cut off."""
    changed = bytearray(data)
    kind = random.integers(0, 8)
    if kind == 0:
        return data[: int(random.integers(0, len(data)))]
    if kind == 1:
        at = int(random.integers(0, len(data) - 8))
        number = (0, 1, 2**31 - 1, 2**32, 2**40, 2**62, 2**64 - 1)[random.integers(0, 7)]
        changed[at : at + 8] = number.to_bytes(8, "little")
        return bytes(changed)
    for at in random.integers(0, len(data), int(random.integers(1, 4))):
        changed[at] = int(random.integers(0, 256)) if kind < 5 else changed[at] ^ (1 << kind)
    return bytes(changed)


@pytest.mark.parametrize("write", LAYOUTS)
@pytest.mark.parametrize("times", [24, pytest.param(3000, marks=pytest.mark.stress)])
def test_a_changed_file_gives_a_table_or_one_line(
    tmp_path: Path, reader: Reader, write: Callable[[Path], None], times: int
) -> None:
    write(tmp_path / "a.h5")
    data = (tmp_path / "a.h5").read_bytes()
    right = reader.read(data).table
    assert right is not None
    assert right.frame.height == ROWS
    random = np.random.default_rng(len(data))
    count = Counter[str]()
    for _ in range(times):
        changed = change(data, random)
        found = reader.read(changed)
        (tmp_path / "last.h5").write_bytes(changed)  # what to look at if this fails
        assert found.mebibytes < 1024
        assert found.seconds < 5.5  # of computing: a busy machine takes longer, and hangs nothing
        if found.table is None:
            assert "changed.h5" in found.error
            assert "\n" not in found.error
            assert "Traceback" not in found.error
            count["crash" if "crashed" in found.error else "error"] += 1
        elif found.table.names == right.names and found.table.frame.equals(right.frame):
            count["right"] += 1
        else:
            assert write is not write_checked, "a change in a file with checksums, and no error"
            count["differs"] += 1
    print(write.__name__, dict(count))
    assert count["right"]
    assert count["error"]


def test_a_crash_of_the_library_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_matrix(tmp_path / "a.h5")
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(foreign_hdf5, "COMMAND", (sys.executable, "-c", crash))
    with pytest.raises(SourceError) as caught:
        read_hdf5(tmp_path / "a.h5", None)
    assert str(caught.value) == (
        f"{tmp_path}/a.h5: damaged HDF5 data: the library crashed on it (signal "
        f"{signal.SIGSEGV.value})"
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_changed_file_read_by_the_process_itself(tmp_path: Path, seed: int) -> None:
    write_checked(tmp_path / "a.h5")
    data = (tmp_path / "a.h5").read_bytes()
    right = read_hdf5(tmp_path / "a.h5", None) if seed == 0 else None
    (tmp_path / "a.h5").write_bytes(change(data, np.random.default_rng(seed)))
    try:
        found = read_hdf5(tmp_path / "a.h5", None)
    except SourceError as error:
        said = str(error)
    else:
        said = "a.h5"
        np.testing.assert_array_equal(found.frame.to_numpy(), matrix())
    assert "a.h5" in said
    assert "\n" not in said
    if right is not None:
        np.testing.assert_array_equal(right.frame.to_numpy(), matrix())
