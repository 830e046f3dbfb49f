"""A file that is used says so to a clean-up, as long as somebody uses it and no longer."""

import gc
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from btc_datamodule.disk import in_use
from btc_datamodule.disk.in_use import claim_unused, use_file
from btc_datamodule.features.build import build
from btc_datamodule.features.table import Table
from tests.features.tables import recipe, series
from tests.helpers import write

HOLD = """
import sys
from pathlib import Path
from btc_datamodule.disk.in_use import use_file
used = use_file(Path(sys.argv[1]))
print(used is not None, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = 1
    return tmp_path / "a.h5"


def is_unused(path: Path) -> bool:
    with claim_unused(path) as unused:
        return unused


def test_a_file_is_in_use_until_nothing_refers_to_it(path: Path) -> None:
    assert is_unused(path)
    one, other = use_file(path), use_file(path)
    assert one is other, "one descriptor, however often it is opened"
    del one
    assert not is_unused(path)
    del other
    assert is_unused(path)


def test_a_file_that_another_process_uses_is_not_claimed(path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"True\n"
    assert not is_unused(path)
    other.kill()
    other.communicate()
    assert is_unused(path), "the lock ends with the process"


def test_hdf5_reads_a_file_in_use_and_does_not_write_to_it(path: Path) -> None:
    used = use_file(path)
    with h5py.File(path) as file:
        assert file["a"][()] == 1
    with pytest.raises(BlockingIOError):
        h5py.File(path, "r+")
    del used
    h5py.File(path, "r+").close()


def test_a_file_that_somebody_reads_with_hdf5_is_in_use(path: Path) -> None:
    with h5py.File(path):
        assert not is_unused(path)
    assert is_unused(path)


def test_nothing_is_kept_from_anybody_without_locks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_use, "fcntl", None)
    assert use_file(path) is None
    assert is_unused(path)


def test_a_file_that_is_gone_is_nobody_s(tmp_path: Path) -> None:
    assert use_file(tmp_path / "gone") is None
    assert not is_unused(tmp_path / "gone")


def test_opening_tables_again_and_again_opens_no_more_files(tmp_path: Path) -> None:
    path = build(write(tmp_path / "candles.h5", series()), recipe())

    def count() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    Table.open(path).x.sum()
    before = count()
    kept = [Table.open(path) for _ in range(30)]
    assert count() == before + 1
    del kept
    for _ in range(100):
        Table.open(path)
    assert count() == before
