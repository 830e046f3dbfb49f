"""The process that has seen nothing: features of the user's own, computed of frames cut short.

``fresh`` runs this file as a module and reads what it prints. What it imports is little, since
each audit starts it.
"""

import contextlib
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from btc_datamodule.features.feature import Feature, make_frame

Frames = list[dict[str, NDArray[Any]]]
"""Columns of the bars up to some row each, ``open_time`` among them."""

CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll")
SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/")
WATCHED = ("open", "socket.connect", "subprocess.Popen")
"""What Python tells of: an opened file, a connection, another process."""


def compute_last(feature: Feature, frame: dict[str, NDArray[Any]]) -> float:
    """The value of a feature at the last row of a frame."""
    bars = {name: values for name, values in frame.items() if name != "open_time"}
    return float(feature(make_frame(frame["open_time"], bars))[-1])


def compute_watched(feature: Feature, frames: Frames, opened: list[str]) -> dict[str, Any]:
    """The values of a feature at the last rows of some frames, and what it opens meanwhile."""
    opened.clear()
    try:
        values = [compute_last(feature, frame) for frame in frames]
    except Exception as error:  # a user's own code, which may raise anything
        return {"failed": f"{type(error).__name__}: {error}"}
    if not opened and _needs_files(feature, frames[-1]):
        opened.append("a file or a connection")
    return {"values": values, "opened": sorted(set(opened))}


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
            compute_last(feature, frame)
            return False
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _first_close(bars: Any) -> Any:
    return bars["close"]


def main(path: str) -> None:
    """Compute the features of a task in a file, and print what came of each as a line of JSON."""
    features, frames_of = pickle.loads(Path(path).read_bytes())
    opened: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED:
            name = str(arguments[1 if event == "socket.connect" else 0])
            if not name.endswith(CODE) and not name.startswith((*SYSTEM, sys.prefix)):
                opened.append(name)

    compute_last(Feature("first", 1, _first_close), frames_of[0][0])  # polars begins its threads
    sys.addaudithook(watch)
    found = []
    for sent, frames in zip(features, frames_of, strict=True):
        try:
            feature = pickle.loads(sent)
        except (AttributeError, ImportError):  # it stands in the script itself
            found.append({"unknown": True})
        else:
            found.append(compute_watched(feature, frames, opened))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
