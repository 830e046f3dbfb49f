"""One writer at a time: a lock on a file, and a note of who holds it for those who wait."""

import logging
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.disk.atomic import explain_write_errors
from btc_datamodule.errors import StoreError
from btc_datamodule.escaping import escape

_log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""How long to wait for another writer before saying so."""


@contextmanager
def hold_lock(path: Path, timeout: float = math.inf) -> Iterator[None]:
    """Hold a lock, with a note beside it of who holds it for those who wait.

    Args:
        path: the lock file, such as ``candles.lock``; the note is ``candles.holder``.
        timeout: seconds to wait for the process that holds it.

    Raises:
        StoreError: if the lock was not to be had in time, or the lock file cannot be written.
    """
    lock = FileLock(path)
    note = path.with_suffix(".holder")

    def read_holder() -> str:
        try:
            return escape(note.read_text(errors="replace")[:200]) or "another process"
        except OSError:  # it could not be written, or has just been removed
            return "another process"

    try:
        with explain_write_errors(path):
            lock.acquire(timeout=min(timeout, PATIENCE_SECONDS))
    except Timeout:
        _log.warning("waiting for %s, which holds %s", read_holder(), escape(str(path)))
        try:
            lock.acquire(timeout=max(0.0, timeout - PATIENCE_SECONDS))
        except Timeout:
            raise StoreError(
                f"{path} has been held for {timeout:.0f} s by {read_holder()}: wait for "
                "that process, or stop it"
            ) from None
    try:
        since = format_instant(int(time.time()))
        with suppress(OSError):  # a courtesy, for which a full disk may have no room
            note.unlink(missing_ok=True)  # of a process that was killed
            note.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()
