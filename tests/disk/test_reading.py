"""What keeps a file from being read is told apart from damage, and said with what mends it."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest

from btc_datamodule import StoreError, read_candles
from btc_datamodule.audit.verify import verify_candles, verify_table
from btc_datamodule.disk import hdf5
from btc_datamodule.errors import UnreadableError
from btc_datamodule.features.build import build
from btc_datamodule.features.table import Table
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import read_header
from btc_datamodule.store.export import export_candles
from btc_datamodule.store.update import update
from tests.factories import HOUR, T0
from tests.features.tables import EVER, recipe, series
from tests.helpers import write

WRITE = """
import sys, h5py
file = h5py.File(sys.argv[1], "r+")
print("open", flush=True)
sys.stdin.read()
file.close()
"""
READS: dict[str, Callable[[Path], Any]] = {
    "read_candles": read_candles,
    "read_header": read_header,
    "export": lambda path: export_candles(path, EVER, path.with_name("out.csv")),
    "prepare": lambda path: update(path, Simulator(), HOUR, T0, T0 + HOUR),
    "build": lambda path: build(path, recipe()),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "candles.h5", series())


@contextmanager
def writing(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another program that has a file open for writing."""
    other = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"open\n"
    yield other
    other.communicate()


def refused(path: Path, wanted: str) -> None:
    """Every way of reading says the same: not damaged, and nothing to move away."""
    for name, read in READS.items():
        with pytest.raises(UnreadableError) as caught:
            read(path)
        assert str(caught.value) == wanted, name
    assert verify_candles(path) == [wanted]


def test_a_file_that_another_program_writes_to_is_open_there_and_not_damaged(path: Path) -> None:
    whole = path.read_bytes()
    with writing(path):
        refused(
            path,
            f"{path} is open in another program, which may be writing to it: close it there and "
            f"run this again; if that program is gone, run `h5clear -s {path}` and "
            "`btc-datamodule verify`",
        )
    assert path.read_bytes() == whole
    assert len(read_candles(path)) == 108


def test_a_file_whose_writer_was_killed_says_how_to_clear_the_mark(path: Path) -> None:
    with writing(path) as other:
        other.kill()
    with pytest.raises(UnreadableError, match=r"if that program is gone, run `h5clear -s .*h5`"):
        read_candles(path)
    path.unlink()
    assert len(read_candles(write(path, series()))) == 108


def test_a_feature_file_that_is_open_elsewhere_is_neither_damaged_nor_built_again(
    path: Path,
) -> None:
    features = build(path, recipe())
    whole, inode = features.read_bytes(), features.stat().st_ino
    wanted = (
        f"{features} is open in another program, which may be writing to it: close it there and "
        "run this again; if that program is gone, delete the file and run `btc-datamodule prepare`"
    )
    with writing(features):
        for read in (lambda: Table.open(features), lambda: build(path, recipe())):
            with pytest.raises(UnreadableError) as caught:
                read()
            assert str(caught.value) == wanted
        assert verify_table(features) == [wanted]
    assert (features.read_bytes(), features.stat().st_ino) == (whole, inode)
    assert build(path, recipe()) == features


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (13, "may not be read by this user: change its permissions"),
        (24, "cannot be opened, as too many files are open: close some, or allow more"),
        (5, "cannot be read (Input/output error): that is the disk, or the way to it"),
        (116, "cannot be read (Stale file handle): that is the disk, or the way to it"),
        (107, "cannot be read (Transport endpoint is not connected): that is the disk"),
        (12, "there is not memory enough to read it: free some"),
    ],
)
@pytest.mark.parametrize("in_text", [False, True])
def test_what_the_system_says_of_a_disk_is_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str, in_text: bool
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        told = f"Unable to open (errno = {number}, error message = '{os.strerror(number)}')"
        raise OSError(told) if in_text else OSError(number, told)

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(UnreadableError) as caught:
        read_candles(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_disk_that_fails_amid_reading_is_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("'Unable to open object (file read failed: time = now\n, errno = 5)'")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(UnreadableError, match=r"cannot be read \(Input/output error\)"):
        read_candles(path)


def test_too_many_open_files_are_said_as_such(path: Path) -> None:
    read_candles(path)  # what is imported on first use
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few, kept = min(soft, 512), []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
        for _ in range(few):
            try:
                kept.append(path.open("rb"))
            except OSError:
                break
        with pytest.raises(UnreadableError, match="too many files are open"):
            read_candles(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in kept:
            file.close()
    assert len(read_candles(path)) == 108


def test_a_disk_without_locks_is_read_without_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = h5py.File, []

    def no_locks(*given: Any, locking: Any = None, **more: Any) -> Any:
        asked.append(locking)
        if locking is not False:
            raise OSError(37, "unable to flock (errno = 37, 'No locks available')")
        return real(*given, locking=locking, **more)

    monkeypatch.setattr(h5py, "File", no_locks)
    assert len(read_candles(path)) == 108
    assert asked == ["best-effort", False]


def pack(path: Path, code: int) -> None:
    """Have a column packed by a filter that is not there."""
    with h5py.File(path, "r+") as file:
        rows = len(file["candles/close"])
        del file["candles/close"]
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk((rows,))
        how.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((rows,))
        made = h5py.h5d.create(file["candles"].id, b"close", h5py.h5t.IEEE_F64LE, space, how)
        made.write_direct_chunk((0,), b"packed bytes")


def test_a_filter_that_is_not_installed_is_named_with_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(path, 32_099)
    refused(
        path,
        f"{path}: 'candles/close' is packed with the HDF5 filter 32099 (of no name), which is not "
        "installed: store it anew by `h5repack -f GZIP=4` where it is",
    )
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(UnreadableError, match="installed: run `pip install hdf5plugin`, or store"):
        read_candles(path)


def test_a_file_that_was_packed_anew_with_an_installed_filter_is_read(path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    whole = read_candles(path)
    with h5py.File(path, "r+") as file:
        for name in whole.columns:
            values = file["candles"][name][()]
            del file["candles"][name]
            file["candles"].create_dataset(name, data=values, chunks=(60,), **hdf5plugin.Blosc())
    assert read_candles(path)["close"].tolist() == whole["close"].tolist()
    assert verify_candles(path) == [
        f"{path}: 108 candles lie outside the spans asked for: move it away and run "
        "`btc-datamodule prepare` again"
    ]


def test_damage_is_still_called_damage(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(StoreError, match="is not a whole HDF5 file: move it away") as caught:
        read_candles(path)
    assert not isinstance(caught.value, UnreadableError)
    assert hdf5.explain_trouble(path, ValueError("nonsense")) == ""
