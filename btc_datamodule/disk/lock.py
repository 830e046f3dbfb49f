"""One writer at a time: a lock on a file, and a note of who holds it for those who wait."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.disk.atomic import writable
from btc_datamodule.errors import StoreError

_log = logging.getLogger(__name__)


PATIENCE_SECONDS = 2.0
"""How long to wait for another writer before saying so."""


@contextmanager
def only_writer(path: Path, timeout: float) -> Iterator[None]:
    """Hold the series' lock, with a note of who holds it for those who wait in vain."""
    lock = FileLock(path.with_suffix(".lock"))
    note = path.with_suffix(".holder")

    def holder() -> str:
        return (note.read_text() if note.exists() else "") or "another process"

    try:
        with writable(Path(lock.lock_file)):
            lock.acquire(timeout=min(timeout, PATIENCE_SECONDS))
    except Timeout:
        _log.warning("waiting for %s, which holds %s", holder(), lock.lock_file)
        try:
            lock.acquire(timeout=max(0.0, timeout - PATIENCE_SECONDS))
        except Timeout:
            raise StoreError(
                f"{lock.lock_file} has been held for {timeout:.0f} s by {holder()}: wait for "
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
