"""Writing files whole or not at all, whatever the disk does.

A write makes a new file beside the old one, syncs it and renames it over: a reader sees the old
content or the new, never a half. What the system says of a disk that is full, read-only or broken
becomes one ``StoreError``, and leaves what was stored as it was.
"""

import errno
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from btc_datamodule.errors import StoreError

if TYPE_CHECKING:
    import h5py

DISK_TROUBLE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO),
    }
)
"""What the system says when a file cannot be written, whatever is in it."""


@contextmanager
def replacing(path: Path) -> Iterator[tuple["h5py.File", Callable[[], None]]]:
    """An HDF5 file to write that takes the place of ``path`` once it is whole and on disk.

    With it comes a function to call now and then (once a block): it raises if a write has failed
    since, and lets a Ctrl-C through that came in the middle of one.

    If the block raises, ``path`` stays as it was and nothing is left behind.

    Raises:
        StoreError: if the file cannot be written: no room, a read-only disk.
    """
    import h5py

    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacement(path) as temporary, _Sink(temporary) as sink, sink.signals_held():
        # Format 1.10 puts a checksum on the metadata too, which the oldest format does not.
        with h5py.File(sink, "w", libver=("v110", "v110")) as file:
            yield file, sink.check
        sink.check()


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A path to write to; what is there at the end is synced and takes the place of ``path``.

    If the block raises, ``path`` stays as it was and nothing is left behind.

    Raises:
        StoreError: if the file cannot be written: no room, a read-only disk.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with writable(path):
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        with suppress(OSError):  # a disk that has become read-only keeps it
            temporary.unlink(missing_ok=True)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn what the system says when ``path`` cannot be written into one ``StoreError``."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        number = _system_error(error)
        if number not in DISK_TROUBLE:
            raise
        raise StoreError(
            f"{path} cannot be written ({os.strerror(number)}): make room, or make the folder "
            "writable, and run it again; what was stored before is as it was"
        ) from error


def _system_error(error: Exception) -> int:
    """The ``errno`` behind an error, which polars tells in its text alone; 0 if there is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else 0


class _Sink:
    """The file that HDF5 writes to, as Python's file methods; it hides every failure from HDF5.

    HDF5 does not survive a write that fails: what it could not flush it tries to flush again when
    the file is closed, when handles are collected and when the process ends, and that last is a
    segmentation fault (HDF5 2.0; disks are full in ``tests/store/test_crash.py``). So the first
    failure is kept for ``check``, and what HDF5 writes from then on stays in memory.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._trouble: BaseException | None = None
        self._unwritten: list[tuple[int, bytes]] = []
        self._signals: list[int] = []
        self._at = 0

    def __enter__(self) -> "_Sink":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def check(self) -> None:
        """Raise what went wrong so far, and deliver the signals that came meanwhile."""
        while self._signals:
            signal.raise_signal(self._signals.pop())
        if self._trouble is not None:
            raise self._trouble

    @contextmanager
    def signals_held(self) -> Iterator[None]:
        """Keep signal handlers, which may raise, out of the methods below until ``check``.

        Python runs a handler between any two steps of the main thread. A Ctrl-C while HDF5 is
        busy would be raised where HDF5 next calls a method of this object, as a failed write.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        every = {number: signal.getsignal(number) for number in signal.valid_signals()}
        handlers = {number: handler for number, handler in every.items() if callable(handler)}

        def hold(number: int, frame: FrameType | None) -> None:
            if frame is not None and frame.f_code in _CALLED_BY_HDF5:
                self._signals.append(number)
            else:
                handlers[signal.Signals(number)](number, frame)

        try:
            for held in handlers:
                signal.signal(held, hold)
            yield
        finally:
            for held, handler in handlers.items():
                signal.signal(held, handler)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            end = os.fstat(self._file).st_size if whence == os.SEEK_END else 0
            self._at = offset + end
        except BaseException as error:
            self._trouble = self._trouble or error
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        left = memoryview(data)
        size, at = len(left), self._at
        try:
            while left and self._trouble is None:
                done = os.pwrite(self._file, left, at)
                left, at = left[done:], at + done
        except BaseException as error:
            self._trouble = error
        if left:
            self._unwritten.append((at, bytes(left)))
        self._at += size
        return size

    def read(self, size: int) -> bytes:
        data = bytearray(size)
        try:
            found = os.pread(self._file, size, self._at)
            data[: len(found)] = found
        except BaseException as error:
            self._trouble = self._trouble or error
        for at, unwritten in self._unwritten:
            low, high = max(at, self._at), min(at + len(unwritten), self._at + size)
            if low < high:
                data[low - self._at : high - self._at] = unwritten[low - at : high - at]
        self._at += size
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        view[:] = self.read(len(view))
        return len(view)

    def truncate(self, size: int) -> int:
        try:
            if self._trouble is None:
                os.ftruncate(self._file, size)
        except BaseException as error:
            self._trouble = error
        return size

    def flush(self) -> None:
        """Nothing is buffered here."""


_CALLED_BY_HDF5 = {
    method.__code__
    for method in (
        *(_Sink.seek, _Sink.tell, _Sink.write, _Sink.read, _Sink.readinto),
        *(_Sink.truncate, _Sink.flush),
    )
}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
