"""What the tests of failing disks have in common."""

import gc
import multiprocessing as mp
import re
from pathlib import Path

from btc_datamodule.audit.verify import verify_series
from btc_datamodule.errors import StoreError
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.series_file import Header
from btc_datamodule.store.update import update
from tests.factories import T0

FORKED = mp.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.disk.trouble", "polars", "h5py", "tqdm"])


def one_line(error: StoreError, file: str, reason: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert re.search(
        rf"{file} cannot be written \({reason}\): make room, or make the folder writable, and run "
        r"it again; what was stored before is as it was$",
        text,
    ), text


def nothing_lost(path: Path, before: bytes) -> None:
    gc.collect()  # handles that HDF5 still had would be closed here
    assert path.read_bytes() == before
    assert verify_series(path) == []
    assert list(path.parent.rglob("*.tmp")) == []
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [name for name in opened if ".tmp" in str(name)] == []


def days(path: Path, count: int) -> Header:
    return update(path, Simulator(seed=4), 60, T0, T0 + count * 86_400).header
