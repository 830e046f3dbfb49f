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

CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".zip")
SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/")
WATCHED = ("open", "socket.connect", "subprocess.Popen", "os.system", "sqlite3.connect")
"""What Python tells of: an opened file, a connection, another process."""


def compute_last(feature: Feature, frame: dict[str, NDArray[Any]]) -> float:
    """The value of a feature at the last row of a frame."""
    bars = {name: values for name, values in frame.items() if name != "open_time"}
    return float(feature(make_frame(frame["open_time"], bars))[-1])


LATER = 7 * 86_400 * 10_000
"""Seconds: weeks that leave the time of day and of the week as they are."""


def compute_later(feature: Feature, frames: Frames) -> list[float]:
    """The values of the same bars at another time; NaN where the feature fails."""
    values = []
    for frame in frames:
        value = float("nan")
        with contextlib.suppress(Exception):  # a look-up that finds nothing, for instance
            value = compute_last(feature, {**frame, "open_time": frame["open_time"] + LATER})
        values.append(value)
    return values


def compute_watched(feature: Feature, frames: Frames, opened: list[str]) -> dict[str, Any]:
    """The values of a feature at the last rows of some frames, and what it opens meanwhile."""
    opened.clear()
    try:
        values = [compute_last(feature, frame) for frame in frames]
    except Exception as error:  # a user's own code, which may raise anything
        return {"failed": f"{type(error).__name__}: {error}"}
    if not opened and _needs_files(feature, frames[-1]):
        opened.append("a file or a connection")
    names = sorted(set(opened))
    return {"values": values, "later": compute_later(feature, frames), "opened": names}


def note_opened(event: str, arguments: tuple[Any, ...], opened: list[str]) -> None:
    """Add to ``opened`` what Python tells that it opens, unless it is code or the system's own."""
    name = arguments[1 if event == "socket.connect" else 0]
    if isinstance(name, int):  # a handle that is open already
        return
    text = str(name)
    if not text.endswith(CODE) and not text.startswith((*SYSTEM, sys.prefix, sys.base_prefix)):
        opened.append(text)


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
            note_opened(event, arguments, opened)

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
