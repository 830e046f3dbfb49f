"""The guarantee of a function: a feature remembers nothing and reads nothing but its frame.

What a feature keeps from one call to the next, or reads from a file, can hold the future, and no
change of its bars shows that. So each feature of the user's own is computed in a fresh process, of
frames that end early before any that end later, and what it opens meanwhile is noted. Run as a
module, this file is that process.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.asking import UncheckedError
from btc_datamodule.audit.compare import LeakError
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.features.causality import measure_spread
from btc_datamodule.features.feature import Feature, make_frame
from btc_datamodule.features.grid import Grid
from btc_datamodule.stages import Stages
from btc_datamodule.store.candle_file import CandleReader

ROWS = 48
"""Rows at which a feature is computed in a fresh process."""

PATIENCE = 300
"""Seconds that such a process may take."""

WEEKS = 7 * 86_400 * 10_000
"""A shift of the clock that leaves the time of day and week as they are."""

TOLERATED = 1e-5
"""Beside a value and beside the spread of all: a running sum over another past rounds otherwise."""

CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll")
SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/")


def check_feature_is_function(feature: Feature, used: Stages) -> Counter[str]:
    """A feature gives the rows of the feature file in a process that has seen nothing else.

    Raises:
        LeakError: if it gives others, or opens a file.
        UncheckedError: if it cannot be sent to another process, and depends on the time.
    """
    number = used.table.features.index(feature.name)
    frames, rows = _cut_frames(feature, used)
    try:
        sent = pickle.dumps(feature)
        found = _compute_elsewhere(sent, frames)
    except (pickle.PicklingError, AttributeError, TypeError, _UnknownError):
        found = _compute_here(feature, frames)
    values = np.array(found["values"], dtype=np.float64)
    stored = used.table.x[rows, number].astype(np.float64)
    known = used.table.observed[rows] == 1
    spread = measure_spread(used.table.x[: ROWS * ROWS * ROWS, number])
    like = np.isclose(values, stored, TOLERATED, TOLERATED * spread)
    bad = np.flatnonzero(known & ~like)
    if len(bad):
        at = bad[0]
        raise LeakError(
            f"{feature.name} at {format_instant(used.table.find_time(int(rows[at])))}: "
            f"{stored[at]:.8g} in the feature file, {values[at]:.8g} in a fresh process that has "
            "seen no later bar: it remembers what it once computed, or looks it up"
        )
    if found["opened"]:
        names = ", ".join(found["opened"][:3])
        raise LeakError(
            f"{feature.name} opens {names} while it is computed: what a file or a connection "
            "knows of the future cannot be checked. Give it what is in the bars alone"
        )
    return Counter(rows=int(known.sum()), here=int(found["here"]))


def _cut_frames(
    feature: Feature, used: Stages
) -> tuple[list[dict[str, NDArray[Any]]], NDArray[np.int64]]:
    """Columns of the bars up to some rows, as far back as the lookback, and those rows in order."""
    table = used.table
    low, high = min(table.warm_up, table.rows - 1), table.rows
    rows = np.unique(np.random.default_rng(0).integers(low, high, ROWS))
    frames: list[dict[str, NDArray[Any]]] = []
    with CandleReader(used.settings.candle_path) as reader:
        grid = Grid.of(reader, table.span, used.settings.max_fill)
        for row in rows.tolist():
            early = max(0, row - feature.lookback + 1)
            bars = grid.read_bars(reader, early, row + 1)
            frames.append({"open_time": grid.times(early, row + 1), **bars})
    return frames, rows


class _UnknownError(Exception):
    """A fresh process does not know the feature: it was typed in, or lies in the script itself."""


def _compute_elsewhere(feature: bytes, frames: list[dict[str, NDArray[Any]]]) -> dict[str, Any]:
    """The last value of each frame, and what was opened, in a fresh process."""
    with TemporaryDirectory(prefix="btc-datamodule-audit-") as folder:
        task = Path(folder) / "task.pickle"
        task.write_bytes(pickle.dumps((feature, frames)))
        path = os.pathsep.join(each or os.getcwd() for each in sys.path)
        ran = subprocess.run(
            [sys.executable, "-m", "btc_datamodule.audit.fresh", str(task)],
            env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    if ran.returncode == UNKNOWN:
        raise _UnknownError
    if ran.returncode:
        told = ran.stderr.strip().splitlines() or [f"it ended with {ran.returncode}"]
        raise LeakError(f"it cannot be computed in a fresh process: {told[-1]}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _compute_here(feature: Feature, frames: list[dict[str, NDArray[Any]]]) -> dict[str, Any]:
    """Likewise in this process, for a feature that has no other; its clock is moved instead.

    Raises:
        UncheckedError: if its values depend on the time, as they would if it looked them up.
    """
    values, later = [], []
    for frame in frames:
        moved = {**frame, "open_time": frame["open_time"] + WEEKS}
        try:
            later.append(_compute_last(feature, moved))
        except Exception:  # of a look-up that finds nothing, for instance
            later.append(np.nan)
        values.append(_compute_last(feature, frame))
    if not np.allclose(values, later, TOLERATED, 0.0, equal_nan=True):
        raise UncheckedError(
            f"{feature.name} depends on the time, and no other process can compute it: whether it "
            "looks up what it once computed cannot be told. Put it into a module of its own"
        )
    return {"values": values, "opened": [], "here": True}


def _compute_last(feature: Feature, frame: dict[str, NDArray[Any]]) -> float:
    bars = {name: values for name, values in frame.items() if name != "open_time"}
    return float(feature(make_frame(frame["open_time"], bars))[-1])


# --- the fresh process ----------------------------------------------------------------------------

UNKNOWN = 3
"""Exit status of a process that cannot load the feature."""


def main(path: str) -> int:
    """Compute the feature of a task in a file, and print what came of it as a line of JSON."""
    sent, frames = pickle.loads(Path(path).read_bytes())
    try:
        feature = pickle.loads(sent)
    except (AttributeError, ImportError):
        return UNKNOWN
    opened: list[str] = []
    watching = False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in ("open", "socket.connect", "subprocess.Popen"):
            name = str(arguments[0] if event != "socket.connect" else arguments[1])
            if not name.endswith(CODE) and not name.startswith((*SYSTEM, sys.prefix)):
                opened.append(name)

    _compute_last(Feature("first", 1, _first_close), frames[0])  # polars has begun all it begins
    sys.addaudithook(watch)
    values = []
    for frame in frames:
        watching = True
        try:
            values.append(_compute_last(feature, frame))
        finally:
            watching = False
    if not opened and _needs_files(feature, frames[-1]):
        opened.append("a file or a connection")
    print(json.dumps({"values": values, "opened": sorted(set(opened)), "here": False}))
    return 0


def _first_close(bars: Any) -> Any:
    return bars["close"]


def _needs_files(feature: Feature, frame: dict[str, NDArray[Any]]) -> bool:
    """Whether a feature fails where nothing can be opened, as one does whose library reads files.

    Python is told of what Python opens; what polars or h5py open by themselves it is not.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with contextlib.suppress(Exception):
            _compute_last(feature, frame)
            return False
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
