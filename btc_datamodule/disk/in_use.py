"""Who has a file open: a shared lock for as long as a process uses it, which a clean-up respects.

The lock is the system's own (``flock``), on the file itself: it ends with the process, however that
ends, and HDF5 refuses to write to a file that has one. Other machines that share a disk may not
see it. Where there are no such locks (Windows, some network disks) nobody is kept from anything.
"""

import errno
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed anyway
    fcntl = None  # type: ignore[assignment]


_AT_ONCE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""How a file is opened: a pipe in its place, to which nobody writes, would be waited for."""


class Identity(NamedTuple):
    """What tells one content of a file from another without reading it."""

    device: int
    inode: int
    size: int
    changed: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Identity":
        """From what the system says of a file; the time is that of the last write."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class UsedFile:
    """A file that this process uses: a descriptor of it, with a shared lock.

    A forked process has it too. It is let go of when nothing refers to it any more.

    Attributes:
        descriptor: of the very file that was opened, whatever has become of its name.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor).atexit = False

    def is_same(self, descriptor: int) -> bool:
        """Whether another descriptor is of the same file."""
        return os.path.samestat(os.fstat(self.descriptor), os.fstat(descriptor))

    def identify(self) -> Identity:
        """Which content the file has now."""
        return Identity.of(os.fstat(self.descriptor))


_used: weakref.WeakValueDictionary[tuple[int, int], UsedFile] = weakref.WeakValueDictionary()
"""By device and inode: however often a process opens a file, it has one descriptor."""


def use_file(path: Path) -> UsedFile | None:
    """Keep a file from being cleaned up, until what is given is let go of.

    Returns:
        None where there are no locks, or the file cannot be opened: whoever reads it says why.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | _AT_ONCE)
    except OSError:
        return None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        return None
    known = _used.get((found.st_dev, found.st_ino))
    if known is not None:
        os.close(descriptor)
        return known
    with suppress(OSError):  # a disk without locks, or a writer, whom HDF5 will name
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    used = _used[found.st_dev, found.st_ino] = UsedFile(descriptor)
    return used


@contextmanager
def leave_unused(path: Path) -> Iterator[None]:
    """Look into a file meanwhile without using it: its time of last access stays."""
    before = path.stat() if path.is_file() else None
    try:
        yield
    finally:
        with suppress(OSError):  # on a read-only share nothing is ever removed either
            if before is not None and path.stat().st_atime_ns != before.st_atime_ns:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def claim_unused(path: Path) -> Iterator[bool]:
    """Say whether no process of this machine uses a file, and let none begin to meanwhile."""
    if fcntl is None:
        yield True
        return
    try:
        # Some network disks lock exclusively only what may be written to.
        descriptor = os.open(path, os.O_RDWR | _AT_ONCE)
    except OSError:
        try:
            descriptor = os.open(path, os.O_RDONLY | _AT_ONCE)
        except OSError:
            yield False
            return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError as error:
            free = error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
        yield free
    finally:
        os.close(descriptor)
