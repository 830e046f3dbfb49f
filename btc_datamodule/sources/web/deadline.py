"""``Deadline``: the one clock of a request, which runs from the look-up of the host to the end.

A time-out of a socket is over with each byte, and a service that sends one now and then, of any
kind, is never silent: slow headers, early hints without end, a name in a gzip header. So whatever
waits for the network waits for what is left of its request (``transport``).

What arrives as content earns time, ``MIN_RATE`` bytes a second, so that a long download goes on
while it comes at a decent pace; never more than ``timeout`` ahead, and ``longest`` in all.

What waits for others, and ends in time or by a Ctrl-C, is here too: ``wait_for``, ``run_apart``.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    import httpcore

MIN_RATE = 1000
"""Bytes of content a second under which an answer trickles."""

_T = TypeVar("_T")


class LateError(Exception):
    """A request has reached its deadline."""


class Deadline:
    """What is left of a request.

    Args:
        timeout: seconds that it may take until content comes, and stand still after that.
        longest: seconds that it may take in all.
    """

    def __init__(self, timeout: float, longest: float) -> None:
        self._timeout = timeout
        self._began = time.monotonic()
        self._last = self._began + longest
        self._end = self._began + min(timeout, longest)
        self._received = 0

    def grant(self, received: int) -> None:
        """Take note of bytes of content, which earn time."""
        self._received += received
        earned = min(self._end + received / MIN_RATE, time.monotonic() + self._timeout)
        self._end = min(max(self._end, earned), self._last)

    def check(self) -> float:
        """The seconds that are left, above 0.

        Raises:
            LateError: if none are.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise LateError(str(self))
        return left

    def __str__(self) -> str:
        """What came so far."""
        return f"{self._received:,} bytes of content in {time.monotonic() - self._began:.1f} s"


class Deadlines:
    """The deadlines of the requests of one client, of each thread its own, and its connections."""

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._streams: WeakSet[httpcore.NetworkStream] = WeakSet()
        self._turn = threading.Lock()
        self._broken = False

    @contextmanager
    def hold(self, deadline: Deadline) -> Iterator[Deadline]:
        """Let a deadline hold for what this thread does with the client in this block."""
        self._of_thread.now = deadline
        try:
            yield deadline
        finally:
            self._of_thread.now = None

    def limit(self, timeout: float | None) -> float | None:
        """The shorter of a time-out and what is left of this thread's request.

        Raises:
            LateError: if nothing is left.
        """
        if self._broken:
            raise LateError("broken off")
        if self.current is None:
            return timeout
        left = self.current.check()
        return left if timeout is None else min(timeout, left)

    @property
    def current(self) -> Deadline | None:
        """The deadline of this thread's request; None where a connection is closed after it."""
        deadline: Deadline | None = getattr(self._of_thread, "now", None)
        return deadline

    def keep(self, stream: "httpcore.NetworkStream") -> None:
        """Remember a connection, for ``break_off``."""
        with self._turn:
            self._streams.add(stream)

    def break_off(self) -> None:
        """End all connections at once, whoever waits for them, for good."""
        with self._turn:
            self._broken = True
            streams = list(self._streams)
        for stream in streams:
            # Not the method of an SSLSocket, which would take TLS off it while a thread reads.
            with suppress(OSError):  # closed meanwhile
                socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)


def run_apart(call: Callable[[], _T], timeout: float | None) -> _T:
    """Call something in another thread, and wait for it no longer than ``timeout`` seconds.

    Raises:
        TimeoutError: if it has not ended by then; else whatever it raises.
    """
    results: list[_T] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)
        ended.set()

    threading.Thread(target=run, name="look-up", daemon=True).start()
    if not wait_for(ended, timeout):
        raise TimeoutError("timed out")
    if errors:
        raise errors[0]
    return results[0]


def wait_for(event: threading.Event, seconds: float | None) -> bool:
    """Wait for an event, and see a Ctrl-C meanwhile; whether it came.

    Where a library has put its own handler of SIGINT in place of Python's, as polars does, a wait
    for a lock is not interrupted: it is cut in pieces.
    """
    end = None if seconds is None else time.monotonic() + seconds
    while not event.is_set():
        left = 0.2 if end is None else end - time.monotonic()
        if left <= 0:
            return False
        event.wait(min(left, 0.2))
    return True
