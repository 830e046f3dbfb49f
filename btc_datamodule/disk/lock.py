"""One writer at a time: a lock on a file, and a note of who holds it for those who wait.

A lock may be wanted where there is no folder yet. The folders that are made for it are removed
again if nothing else has come to lie in them, and the lock file with them: a writer that fails
before it writes leaves nothing. Who waits for a lock file that was removed meanwhile begins anew.
"""

import errno
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
from btc_datamodule.errors import ConfigError, StoreError
from btc_datamodule.escaping import escape

_log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""How long to wait for another writer before saying so."""

PAUSE_SECONDS = 0.05
"""Between two attempts to get the lock."""


class LockedError(StoreError):
    """Another process held a lock for as long as one was to wait for it."""


@contextmanager
def hold_lock(
    path: Path, timeout: float = math.inf, *, setting: str = "data_dir"
) -> Iterator[None]:
    """Hold a lock, with a note beside it of who holds it for those who wait.

    Args:
        path: the lock file, such as ``candles.lock``; the note is ``candles.holder``. The folder
            that it lies in is made if need be.
        timeout: seconds to wait for the process that holds it.
        setting: the argument that says where the folder is.

    Raises:
        ConfigError: if the folder cannot be made.
        LockedError: if the lock was not to be had in time.
        StoreError: if the lock file cannot be written.
    """
    lock = FileLock(path)
    note = path.with_suffix(".holder")
    made: list[Path] = []
    try:
        _acquire(lock, note, timeout, made, setting)
        since = format_instant(int(time.time()))
        with suppress(OSError):  # a courtesy, for which a full disk may have no room
            note.unlink(missing_ok=True)  # of a process that was killed
            note.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):
                note.unlink(missing_ok=True)
            with suppress(OSError):  # as where a file that is open cannot be removed
                if made and [*path.parent.iterdir()] == [path]:
                    path.unlink()
            lock.release()
        for folder in reversed(made):
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _acquire(lock: FileLock, note: Path, timeout: float, made: list[Path], setting: str) -> None:
    """Take the lock; what folders were made for it is added to ``made``, outermost first."""
    started, told = time.monotonic(), False
    path = Path(lock.lock_file)
    while not _try_once(lock, path, made, setting):
        waited = time.monotonic() - started
        if waited > min(timeout, PATIENCE_SECONDS) and not told:
            told = True
            if waited <= timeout:
                _log.warning(
                    "waiting for %s, which holds %s", _read_holder(note), escape(str(path))
                )
        if waited > timeout:
            raise LockedError(
                f"{path} has been held for {timeout:.0f} s by {_read_holder(note)}: wait for "
                "that process, or stop it"
            )
        time.sleep(PAUSE_SECONDS)


def _try_once(lock: FileLock, path: Path, made: list[Path], setting: str) -> bool:
    """Whether the lock could be had at once, on the file that lies at ``path`` now."""
    _make_folders(path.parent, made, setting)
    try:
        with explain_write_errors(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
            before = path.stat().st_ino
            lock.acquire(timeout=0)
            if path.stat().st_ino == before:
                return True
    except Timeout:  # held
        pass
    except FileNotFoundError:  # just removed with its folder
        if path.is_symlink():
            raise _refuse(path, "a link to nowhere") from None
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ELOOP):
            raise
        raise _refuse(path, os.strerror(error.errno)) from None
    # What was locked is not what others find there: its holder removed it before letting go.
    lock.release()
    return False


def _refuse(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path} is no file that can be locked ({what}): move it away and run this again"
    )


def _make_folders(folder: Path, made: list[Path], setting: str) -> None:
    """Make a folder and those that it lies in; the new ones are added to ``made``."""
    absent: list[Path] = []
    while not os.path.exists(folder):  # noqa: PTH110 (which is False too where one may not look)
        absent.append(folder)
        folder = folder.parent
    for each in reversed(absent):
        try:
            each.mkdir()
        except FileNotFoundError:  # another process has just removed the one that it lies in
            return
        except OSError as error:
            is_other = each.is_symlink() or each.is_file()
            if isinstance(error, FileExistsError) and not is_other:
                continue  # another process has just made it, and may remove it again
            raise ConfigError(
                f"the folder {absent[0]} cannot be made ({error.strerror}): change `{setting}`"
            ) from None
        if each not in made:
            made.append(each)


def _read_holder(note: Path) -> str:
    try:
        return escape(note.read_text(errors="replace")[:200]) or "another process"
    except OSError:  # it could not be written, or has just been removed
        return "another process"
