"""HDF5 files: read with checks, and written so that a failing disk cannot bring HDF5 down.

``open_hdf5``, ``find_dataset``, ``read_attribute`` and ``check_schema`` raise a ``StoreError`` that
names the file and its damage; ``replace_hdf5`` writes a file whole or not at all.
"""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from btc_datamodule.disk.atomic import explain_write_errors, find_errno, replace_file
from btc_datamodule.errors import (
    BTCDataError,
    CandleError,
    RecordError,
    StoreError,
    UnreadableError,
    get_first_line,
)

if TYPE_CHECKING:
    import h5py


ATTRIBUTE_BYTES = 1 << 20
"""Of an attribute of ours at most, beside a text of any length that lies elsewhere in the file."""


def is_feature_file(path: Path) -> bool:
    """Whether a file is a feature file by its name: it can be made again from the candles."""
    return path.name.startswith("features-")


def advise_repair(path: Path) -> str:
    """Advice on a damaged file of ours, as the end of a sentence."""
    if is_feature_file(path):
        return "delete it and run `btc-datamodule prepare`, which makes it again from the candles"
    return "move it away and run `btc-datamodule prepare` again"


def open_hdf5(path: Path) -> "h5py.File":
    """Open an HDF5 file of the package for reading.

    Raises:
        UnreadableError: if it cannot be read now: another program writes it, a disk fails.
        StoreError: if the file is missing, or is not whole HDF5.
    """
    import h5py

    try:
        if not path.exists():
            raise StoreError(f"{path} does not exist: run `btc-datamodule prepare`")
        if not path.is_file():  # to open a pipe would wait for somebody to write to it
            raise StoreError(f"{path} is no regular file: {advise_repair(path)}")
        return _open_locked(path)
    except OSError as error:
        trouble = explain_trouble(path, error)
        if trouble:
            raise UnreadableError(trouble) from None
        what = "is not a whole HDF5 file" if h5py.is_hdf5(path) else "is not an HDF5 file"
        raise StoreError(
            f"{path} {what}: {advise_repair(path)} ({get_first_line(error)})"
        ) from None


def _open_locked(path: Path) -> "h5py.File":
    """Open with a shared lock; without one on a disk that has no locks."""
    import h5py

    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        if find_errno(error, _TOLD) not in _NO_LOCKS:
            raise
        return h5py.File(path, "r", locking=False)


def explain_trouble(path: Path, error: BaseException) -> str:
    """One line on an error that says nothing of what is in a file; "" if it is none of these."""
    told, number = get_first_line(error), find_errno(error, _TOLD)
    if "unable to lock file" in told or "already open for" in told:
        gone = (
            "delete the file and run `btc-datamodule prepare`"
            if is_feature_file(path)
            else f"run `h5clear -s {path}` and `btc-datamodule verify`"
        )
        return (
            f"{path} is open in another program, which may be writing to it: close it there and "
            f"run this again; if that program is gone, {gone}"
        )
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return f"{path}: there is not memory enough to read it: free some, or read less at once"
    if number in (errno.EACCES, errno.EPERM):
        return f"{path} may not be read by this user: change its permissions"
    if number in (errno.EMFILE, errno.ENFILE):
        return (
            f"{path} cannot be opened, as too many files are open: close some, or allow more "
            "(`ulimit -n 65536`)"
        )
    if number in _DISK_FAILS:
        return (
            f"{path} cannot be read ({os.strerror(number)}): that is the disk, or the way to it, "
            "not what was written: mend it, or mount it anew, and run this again"
        )
    return ""


_TOLD = r"errno = (\d+)"
"""How h5py tells a number of the system's in its text."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

_DISK_FAILS = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EBADF, errno.EBUSY),
        *(errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN),
        *(errno.ENETUNREACH, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED),
    }
)
"""Error numbers by which the system says that it cannot read, whatever there is to be read."""


def find_dataset(path: Path, file: "h5py.File", name: str) -> "h5py.Dataset":
    """The dataset of a name, such as ``candles/close``, whose bytes lie in the file itself.

    Of a file that is open for reading, by what is below h5py's groups, in half of the time.

    Raises:
        StoreError: if there is none, or a link, virtual or external storage stands in for it.
    """
    import h5py

    node: Any = file.id
    for part in name.encode().split(b"/"):
        if not isinstance(node, h5py.h5g.GroupID) or not _has_inside(node, part):
            raise StoreError(f"{path} has no dataset {name!r}: {advise_repair(path)}")
        node = h5py.h5o.open(node, part)
    found = h5py.Dataset(node, readonly=True) if isinstance(node, h5py.h5d.DatasetID) else None
    if found is None or found.is_virtual or found.external:
        raise StoreError(
            f"{path}: {name!r} is not a dataset with its data inside: {advise_repair(path)}"
        )
    return found


def is_inside(group: "h5py.Group", name: str) -> bool:
    """Whether a group has something of a name that lies in the file itself.

    A link to another file, or to another name, is not followed, not even to see where it leads:
    opening what is there may take forever.
    """
    return _has_inside(group.id, name.encode())


def _has_inside(group: Any, code: bytes) -> bool:
    import h5py

    links = group.links
    return bool(links.exists(code)) and links.get_info(code).type == h5py.h5l.TYPE_HARD


def read_attribute(path: Path, file: "h5py.File", name: str, kind: type) -> Any:
    """An attribute of the file's root as a plain Python value of type ``kind``.

    Raises:
        StoreError: if there is none, or it is of another type, or larger than any of ours.
    """
    value = _peek(file, name)
    if not isinstance(value, kind):
        raise StoreError(
            f"{path} has no attribute {name!r} that says what it should: it is not a file of "
            f"ours, or damaged: {advise_repair(path)}"
        )
    return value


def _peek(file: "h5py.File", name: str) -> Any:
    """The value of an attribute of the root; None unless it is a single number or text."""
    import h5py

    code = name.encode()
    if not h5py.h5a.exists(file.id, code):
        return None
    attribute = h5py.h5a.open(file.id, code)
    plain = isinstance(attribute.get_type(), h5py.h5t.TypeIntegerID | h5py.h5t.TypeStringID)
    if attribute.shape != () or not plain or attribute.get_storage_size() > ATTRIBUTE_BYTES:
        return None
    read = np.zeros((), dtype=attribute.dtype)
    attribute.read(read)  # as ``attrs`` does, which opens it again, and takes twice as long
    value = read.item()
    if isinstance(value, bytes) and read.dtype.kind == "O":  # a text of any length
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str) and not value.isprintable():  # nor can all of it be written
        return None
    return value


def check_schema(path: Path, file: "h5py.File", schema: int, what: str) -> None:
    """Raise ``StoreError`` unless the file's schema is the one this version reads."""
    found = _peek(file, "schema")
    if found != schema:
        has = "none" if found is None else repr(found)[:20]
        raise StoreError(
            f"{path} is not a {what} of schema {schema} (it has {has}): {advise_repair(path)}"
        )


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into a ``StoreError`` that names the file.

    Raises:
        UnreadableError: if it is not the file that is to blame.
    """
    try:
        yield
    except (CandleError, RecordError) as error:
        raise StoreError(f"{path} is damaged: {advise_repair(path)} ({error})") from error
    except BTCDataError:
        raise
    except _OF_DAMAGE as error:
        trouble = explain_trouble(path, error)
        if trouble:
            raise UnreadableError(trouble) from error
        raise StoreError(
            f"{path} is damaged: {advise_repair(path)} ({get_first_line(error)})"
        ) from error


_OF_DAMAGE = (
    *(OSError, LookupError, RuntimeError, TypeError, ValueError),
    *(ArithmeticError, AttributeError, MemoryError),
)
"""What h5py, numpy and json raise on damage, or for want of memory."""


@contextmanager
def replace_hdf5(path: Path) -> Iterator[tuple["h5py.File", Callable[[], None]]]:
    """Give an HDF5 file to write; once it is whole and on disk, it takes the place of ``path``.

    With the file comes a function to call now and then (once a chunk): the function raises if a
    write has failed since its last call, and lets a Ctrl-C through that came during a write.

    If the body of the ``with`` raises, ``path`` stays as it was and nothing is left behind.

    Raises:
        StoreError: if the file cannot be written: no room, a read-only disk.
    """
    import h5py

    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary, _Sink(temporary) as sink, sink.hold_signals():
        # Format 1.10 puts a checksum on the metadata too, which the oldest format does not.
        with h5py.File(sink, "w", libver=("v110", "v110")) as file:
            yield file, sink.check
        sink.check()


class _Sink:
    """The file that HDF5 writes to, as Python's file methods, which hide every failure from HDF5.

    HDF5 does not survive a write that fails: what it could not flush it tries to flush again when
    the file is closed, when handles are collected and when the process ends, and that last is a
    segmentation fault (HDF5 2.0; disks are full in ``tests/disk``). So the first
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
        """Deliver the signals that came since the last call; raise the first failure so far."""
        while self._signals:
            signal.raise_signal(self._signals.pop())
        if self._trouble is not None:
            raise self._trouble

    @contextmanager
    def hold_signals(self) -> Iterator[None]:
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
