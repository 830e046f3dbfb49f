"""The guarantee of functions: features remember nothing, and read nothing but their frame.

What a feature keeps from one call to the next, or reads from a file, can hold the future, and no
change of its bars shows that. So features of the user's own are computed in a process that has
seen nothing (``process``), of frames that end early before any that end later, and what they open
meanwhile is noted. Those that no other process can load, as they stand in a script or a notebook,
are computed in this one. What a module reads when it is imported, or numbers that somebody typed
in, cannot be told from a constant: a feature that gives the same bars another value at another time
is said to be one that could not be checked.
"""

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.compare import LeakError, UncheckedError
from btc_datamodule.audit.known import open_files
from btc_datamodule.audit.process import Frames, compute_last, compute_watched
from btc_datamodule.audit.twins import is_exact
from btc_datamodule.candles.runs import Mask
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.features.causality import measure_spread
from btc_datamodule.features.feature import Feature
from btc_datamodule.stages import Stages

ROWS = 48
"""Rows at which a feature is computed in a fresh process."""

SPREAD_ROWS = 100_000
"""Rows that the spread of a feature is taken of."""

PATIENCE = 600
"""Seconds that the process may take."""

TOLERATED = 1e-5
"""Beside a value and beside the spread of all: a running sum over another past rounds otherwise."""


def check_features_are_functions(used: Stages) -> Counter[str]:
    """Features of the user's own give the stored rows in a process that has seen no later bar.

    Raises:
        LeakError: if one gives others, or opens a file.
        UncheckedError: if one depends on the time beyond the hour and the day of the week.
    """
    count = Counter[str]()
    features = [feature for feature in used.settings.features if not is_exact(feature)]
    cut, rows = _cut_frames(features, used)
    found = _compute_elsewhere([_pickle(feature) for feature in features], cut)
    unsure: list[str] = []
    for feature, told, frames in zip(features, found, cut, strict=True):
        here = "unknown" in told
        count["here" if here else "elsewhere"] += 1
        result = compute_watched(feature, frames, forbid=False) if here else told
        # Of a series an older row stands for one in which the feature has no value.
        own = [not feature.series or np.isfinite(compute_last(feature, each)) for each in frames]
        count["rows"] += _check_values(feature, used, rows, np.array(own), result)
        if not np.allclose(result["values"], result["later"], TOLERATED, 0.0, equal_nan=True):
            unsure.append(feature.name)
    if unsure:
        raise UncheckedError(
            f"the same bars at another time give another value of {', '.join(unsure)}: whether a "
            "table is looked up by time, and what that knows, cannot be told"
        )
    return count


def _check_values(
    feature: Feature, used: Stages, rows: NDArray[np.int64], own: Mask, told: dict[str, Any]
) -> int:
    """Whether a feature gave the stored values and opened nothing; at how many rows.

    Args:
        feature: which.
        used: whose feature file.
        rows: (n,) of that.
        own: (n,) which have a value that was computed of the frames that were given.
        told: what came of these.
    """
    if "failed" in told:
        raise LeakError(f"{feature.name} fails in a fresh process: {told['failed']}")
    number = used.table.features.index(feature.name)
    column, seen = used.table.x[:, number], used.table.observed
    seen = seen if seen.ndim == 1 else seen[:, number]
    stored, values = column[rows].astype(np.float64), np.array(told["values"], dtype=np.float64)
    known = own & (seen[rows] == 1) & np.isfinite(stored)
    allowed = TOLERATED * measure_spread(column[:SPREAD_ROWS])
    bad = np.flatnonzero(known & ~np.isclose(values, stored, TOLERATED, allowed))
    if len(bad):
        at = bad[0]
        raise LeakError(
            f"{feature.name} at {format_instant(used.table.find_time(int(rows[at])))}: "
            f"{stored[at]:.8g} in the feature file, {values[at]:.8g} where no later bar has been "
            "seen: it remembers what it once computed, or looks it up"
        )
    if told["opened"]:
        raise LeakError(
            f"{feature.name} opens {', '.join(told['opened'][:3])} while it is computed: what a "
            "file or a connection knows of the future cannot be checked. Make it of its bars alone"
        )
    return int(known.sum())


def _cut_frames(features: list[Feature], used: Stages) -> tuple[list[Frames], NDArray[np.int64]]:
    """For each feature what it is given to compute some rows, and those rows, in order.

    The rows of its lookback, and none that was not known at the close.
    """
    table = used.table
    low = min(table.warm_up, table.rows - 1)
    rows = np.unique(np.random.default_rng(0).integers(low, table.rows, ROWS))
    cut: list[Frames] = [[] for _ in features]
    with open_files(used) as files:
        for row in rows.tolist():
            known = files.cut_series(table.find_time(row + 1))
            for frames, feature in zip(cut, features, strict=True):
                frames.append(files.make_frames(feature, row, known))
    return cut, rows


def _pickle(feature: Feature) -> bytes:
    """A feature for another process; empty if it cannot be sent, as a lambda cannot."""
    with suppress(pickle.PicklingError, AttributeError, TypeError):
        return pickle.dumps(feature)
    return b""


def _compute_elsewhere(features: list[bytes], frames: list[Frames]) -> list[dict[str, Any]]:
    """What came of each feature in a fresh process, as ``process.main`` prints it."""
    found: list[dict[str, Any]] = [{"unknown": True} for _ in features]
    known = [number for number, sent in enumerate(features) if sent]
    if not known:
        return found
    with TemporaryDirectory(prefix="btc-datamodule-audit-") as folder:
        task = Path(folder) / "task.pickle"
        chosen = ([features[number] for number in known], [frames[number] for number in known])
        task.write_bytes(pickle.dumps(chosen))
        path = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
        ran = subprocess.run(
            [sys.executable, "-m", "btc_datamodule.audit.process", str(task)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or [f"it ended with {ran.returncode}"]
        raise LeakError(f"features cannot be computed in a fresh process: {said[-1]}")
    for number, told in zip(known, json.loads(ran.stdout.splitlines()[-1]), strict=True):
        found[number] = told
    return found
