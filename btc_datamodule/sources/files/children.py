"""Processes that read files of strangers: how one is started, bounded in time, and its end told.

What such a process does is told in ``hdf5_child`` and ``arrow_child``, how it is limited from
within in ``child_limits``.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from btc_datamodule.sources.files.child_limits import limit_seconds

_CRASHES = {"SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"}


def start_child(
    command: Sequence[str], said: IO[bytes], *, stdin: int, variable: tuple[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a process that finds the same modules as this one.

    Args:
        command: what to run.
        said: where its stderr goes.
        stdin: as of ``subprocess.Popen``.
        variable: one more of its environment, name and value.
    """
    paths = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": paths, variable[0]: variable[1]},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=said,
        process_group=0,  # a Ctrl-C is for this process, which then ends the other
    )


def choose_patience(size: int) -> int:
    """Seconds to wait for a file of ``size`` bytes, on a slow disk and a busy machine too."""
    return 60 + size // 1_000_000 + limit_seconds(size)


@contextmanager
def end_late(child: "subprocess.Popen[bytes]", patience: int) -> Iterator[threading.Event]:
    """End a process that takes longer than ``patience`` seconds; the event tells whether it did."""
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(patience, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def explain_end(
    path: Path, size: int, code: int, waited: int | None, said: bytes, library: str = "HDF5"
) -> str:
    """Say why the process ended before the table did."""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else ""
    if waited is not None:
        return (
            f"{path}: reading it took more than {waited} seconds, the limit for a file of "
            f"{size:,} bytes: copy it to a faster disk, or write it anew"
        )
    if name == "SIGXCPU":
        return (
            f"{path}: damaged {library} data: the library computed for more than "
            f"{limit_seconds(size)} seconds, the limit for a file of {size:,} bytes"
        )
    if name in _CRASHES:
        return f"{path}: damaged {library} data: the library crashed on it (signal {-code})"
    if name:
        return (
            f"{path}: the process that read it was ended from outside (signal {-code}), as for "
            "want of memory: try again"
        )
    lines = said.decode("utf-8", "replace").strip().splitlines() or [f"it ended with {code}"]
    return f"{path}: the process that reads {library} files failed: {lines[-1]}"
