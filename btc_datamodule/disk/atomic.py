"""Writing files whole or not at all, whatever the disk does.

A write makes a new file beside the old one, syncs it and renames it over: a reader sees the old
content or the new, never a half. What the system says of a disk that is full, read-only or broken
becomes one ``StoreError``, and leaves what was stored as it was. ``write_in_place`` adds to a file
what nothing refers to before such a write.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from btc_datamodule.errors import ConfigError, StoreError

DISK_TROUBLE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO),
    }
)
"""Error numbers by which the system says that a file cannot be written, whatever its content."""


_lasting: ContextVar[bool] = ContextVar("lasting", default=True)


@contextmanager
def forgo_sync() -> Iterator[None]:
    """Write files meanwhile that need not outlive a loss of power: they are not synced."""
    token = _lasting.set(False)
    try:
        yield
    finally:
        _lasting.reset(token)


def follow_link(path: Path) -> Path:
    """The file that a link leads to; a link to nowhere or to itself, and any other path, as it is.

    What belongs beside a file, its lock too, lies beside this one: all who share it find the same.
    """
    if os.path.islink(path) and os.path.exists(path):  # noqa: PTH110, PTH114 (which raise)
        return path.resolve()
    return path


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file written there is synced and takes the place of ``path``.

    Where ``path`` is a link to a file, that file is replaced, and the link stays. If the body of
    the ``with`` raises, ``path`` stays as it was and nothing is left behind.

    Raises:
        StoreError: if the file cannot be written: no room, a read-only disk.
    """
    path = follow_link(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with explain_write_errors(path):
            yield temporary
            if _lasting.get():
                _sync(temporary)
            temporary.replace(path)
            if _lasting.get():
                _sync(path.parent)
    finally:
        with suppress(OSError):  # a disk that has become read-only keeps it
            temporary.unlink(missing_ok=True)


@contextmanager
def write_in_place(path: Path) -> Iterator[Callable[[int, bytes], None]]:
    """Give a function that writes bytes into a file, at an offset that nobody reads yet.

    At the end of the ``with`` they are on disk.

    Raises:
        StoreError: if the file cannot be written.
    """
    with explain_write_errors(path):
        file = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
        try:

            def write(offset: int, data: bytes) -> None:
                left = memoryview(data)
                while left:
                    done = os.pwrite(file, left, offset)
                    left, offset = left[done:], offset + done

            yield write
            if _lasting.get():
                os.fsync(file)
        finally:
            os.close(file)


def check_room(path: Path, size: int) -> None:
    """Raise ``StoreError`` if a file of ``size`` bytes does not fit on the disk of ``path``."""
    found = shutil.disk_usage(path.parent)
    if found.total and size > found.free:  # some disks do not tell
        raise StoreError(
            f"{path} would take {size / 1e6:,.0f} MB, and {found.free / 1e6:,.0f} MB are free: "
            "make room, or narrow `start` and `end`"
        )


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn errors of ``DISK_TROUBLE`` into a ``StoreError`` that names ``path``; others pass."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        number = find_errno(error, r"\(os error (\d+)\)")  # as polars says it
        if number not in DISK_TROUBLE:
            raise
        raise StoreError(
            f"{path} cannot be written ({os.strerror(number)}): make room, or make the folder "
            "writable, and run it again; what was stored before is as it was"
        ) from error


def check_output(given: Any, suffixes: Sequence[str]) -> Path:
    """See that a file that a person names can be written, before the work that fills it.

    Args:
        given: the file, a path or its text.
        suffixes: what its name may end in.

    Returns:
        The path, with ``~`` made the home folder.

    Raises:
        ConfigError: if it is no path, ends in something else, is a folder, or its folder is not
            there.
        StoreError: if the folder cannot be written.
    """
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise ConfigError(
            f"output is {given!r:.80}: give the path of a file that ends in one of "
            f"{', '.join(suffixes)}"
        )
    path = Path(given).expanduser()
    what = f"output {str(path)!r}"
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"{what} must end in one of {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise ConfigError(f"{what}: there is no folder {path.parent}: make it, or name another")
    if path.is_dir():
        raise ConfigError(f"{what} is a folder: name a file")
    try:
        with explain_write_errors(path), TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"{what}: the folder {path.parent} cannot be written ({error.strerror}): name another"
        ) from None
    return path


def find_errno(error: BaseException, told: str) -> int:
    """The ``errno`` behind an error; 0 if there is none.

    Args:
        error: any.
        told: a pattern of the words with the number in which a library gives it in its text alone.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(told, str(error))
    return int(found[1]) if found else 0


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
