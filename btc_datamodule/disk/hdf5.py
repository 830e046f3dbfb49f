"""HDF5 files: read with checks, and written so that a failing disk cannot bring HDF5 down.

``open_hdf5``, ``find_dataset``, ``read_attribute`` and ``check_schema`` raise a ``StoreError`` that
names the file and its damage; ``replace_hdf5`` writes a file whole or not at all.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from btc_datamodule.disk.atomic import explain_write_errors, replace_file
from btc_datamodule.errors import CandleError, StoreError, get_first_line

if TYPE_CHECKING:
    import h5py


def advise_repair(path: Path) -> str:
    """Advice on a damaged candle file or feature file, as the end of a sentence."""
    if path.name.startswith("features-"):
        return "delete it and run `btc-datamodule prepare`, which makes it again from the candles"
    return "move it away and run `btc-datamodule prepare` again"


def open_hdf5(path: Path) -> "h5py.File":
    """Open an HDF5 file of the package for reading.

    Raises:
        StoreError: if the file is missing, may not be read, or is not whole HDF5.
    """
    import h5py

    if not path.exists():
        raise StoreError(f"{path} does not exist: run `btc-datamodule prepare`")
    try:
        return h5py.File(path, "r", locking="best-effort")
    except PermissionError:
        raise StoreError(f"{path} may not be read by this user: change its permissions") from None
    except OSError as error:
        what = "is not a whole HDF5 file" if h5py.is_hdf5(path) else "is not an HDF5 file"
        raise StoreError(
            f"{path} {what}: {advise_repair(path)} ({get_first_line(error)})"
        ) from None


def find_dataset(path: Path, file: "h5py.File", name: str) -> "h5py.Dataset":
    """The dataset of a name, such as ``candles/close``, whose bytes lie in the file itself.

    Raises:
        StoreError: if there is none, or a link, virtual or external storage stands in for it.
    """
    import h5py

    node: Any = file
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(
            node.get(part, getlink=True), h5py.HardLink
        ):
            raise StoreError(f"{path} has no dataset {name!r}: {advise_repair(path)}")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.is_virtual or node.external:
        raise StoreError(
            f"{path}: {name!r} is not a dataset with its data inside: {advise_repair(path)}"
        )
    return node


def read_attribute(path: Path, file: "h5py.File", name: str, kind: type) -> Any:
    """An attribute of the file's root as a plain Python value of type ``kind``.

    Raises:
        StoreError: if there is none, or it is of another type.
    """
    value = file.attrs.get(name)
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, kind):
        raise StoreError(f"{path} has no attribute {name!r}: it is not a file of ours, or damaged")
    return value


def check_schema(path: Path, file: "h5py.File", schema: int, what: str) -> None:
    """Raise ``StoreError`` unless the file's schema is the one this version reads."""
    found = file.attrs.get("schema", "none")
    if np.ndim(found) or found != schema:
        raise StoreError(
            f"{path} is not a {what} of schema {schema} (it has {found}): {advise_repair(path)}"
        )


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into a ``StoreError`` that names the file."""
    try:
        yield
    except (OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged: {advise_repair(path)} ({get_first_line(error)})"
        ) from error
    except CandleError as error:
        raise StoreError(f"{path} is damaged: {advise_repair(path)} ({error})") from error


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
