"""The process that has seen nothing: features of the user's own, computed of frames cut short.

``fresh`` runs this file as a module and reads what it prints. What it imports is little, since
each audit starts it.
"""

import contextlib
import functools
import json
import math
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from btc_datamodule.features.beside import TIMES
from btc_datamodule.features.feature import Feature

Frames = list[tuple[pl.DataFrame, ...]]
"""What a feature is given to compute some rows: the rows up to each, and those beside them."""

CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".zip")
SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/")
WATCHED = ("open", "socket.connect", "subprocess.Popen", "os.system", "sqlite3.connect")
"""What Python tells of: an opened file, a connection, another process."""


LATER = 7 * 86_400 * 10_000
"""Seconds: weeks that leave the time of day and of the week as they are."""

_watchers: list[list[str]] = []


def compute_watched(feature: Feature, frames: Frames, *, forbid: bool) -> dict[str, Any]:
    """What a feature gives at the last rows of some frames.

    Args:
        feature: the feature.
        frames: what it is computed of.
        forbid: whether to try it where nothing can be opened, too; for a process of its own.

    Returns:
        ``values``; ``later``, those of the same bars at another time, NaN where it fails; and
        ``opened``, the names of what it opens meanwhile.
    """
    with watch_opened() as opened:
        values = [compute_last(feature, each) for each in frames]
    if not opened and forbid and _needs_files(feature, frames):
        opened.append("a file or a connection")
    later = [float("nan")] * len(frames)
    for number, each in enumerate(frames):
        with contextlib.suppress(Exception):  # of a look-up that finds nothing, for instance
            later[number] = compute_last(feature, tuple(map(_shift, each)))
    return {"values": values, "later": later, "opened": sorted(set(opened))}


def compute_last(feature: Feature, frames: Sequence[pl.DataFrame]) -> float:
    """The value of a feature in the last row of some frames; NaN where they have none."""
    return float(feature(*frames)[-1]) if frames[0].height else math.nan


def _shift(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows ``LATER``."""
    return frame.with_columns(pl.col([name for name in TIMES if name in frame.columns]) + LATER)


@contextlib.contextmanager
def watch_opened() -> Iterator[list[str]]:
    """Give a list of what Python opens meanwhile, without code and what belongs to the system."""
    _watch()
    opened: list[str] = []
    _watchers.append(opened)
    try:
        yield opened
    finally:
        _watchers.pop()


@functools.cache
def _watch() -> None:
    """Have what is opened told to those who watch; Python has no way to end that again."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if not _watchers or event not in WATCHED:
            return
        name = arguments[1 if event == "socket.connect" else 0]
        known = str(name).endswith(CODE) or str(name).startswith(
            (*SYSTEM, sys.prefix, sys.base_prefix)
        )
        if not known and not isinstance(name, int):  # a number is a handle that is open already
            _watchers[-1].append(str(name))

    sys.addaudithook(note)


def _needs_files(feature: Feature, frames: Frames) -> bool:
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
            compute_last(feature, frames[-1])
            return False
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def main(path: str) -> None:
    """Compute the features of a task in a file, and print what came of each as a line of JSON."""
    features, frames_of = pickle.loads(Path(path).read_bytes())
    frames_of[0][0][0].select(pl.all().sum())  # so that polars begins its threads
    found: list[dict[str, Any]] = []
    for sent, frames in zip(features, frames_of, strict=True):
        try:
            feature = pickle.loads(sent)
        except (AttributeError, ImportError):  # it stands in the script itself
            found.append({"unknown": True})
            continue
        try:
            found.append(compute_watched(feature, frames, forbid=True))
        except Exception as error:  # a user's own code, which may raise anything
            found.append({"failed": f"{type(error).__name__}: {error}"})
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
