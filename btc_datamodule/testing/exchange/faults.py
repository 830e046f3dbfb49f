"""What goes wrong with one reply on its way out: another status, silence, a cut wire, other rows.

A ``Fault`` is given the reply that would have been sent, and the ``Wire`` to send over what
becomes of it.
"""

import gzip
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Protocol

import numpy as np

from btc_datamodule.testing.exchange.messages import Reply

Rows = list[list[Any]]


class Wire(Protocol):
    """The connection that a fault acts on."""

    def send(self, reply: Reply, *, body_bytes: int | None = None, byte_pause: float = 0.0) -> None:
        """Send a reply.

        Args:
            reply: with the whole body announced.
            body_bytes: bytes of the body to send before hanging up; None for all, and no hanging
                up.
            byte_pause: seconds before each byte of the body; 0 to send the body at once.
        """

    def write(self, data: bytes) -> None:
        """Send bytes as they are, whether they are HTTP or not.

        Raises:
            OSError: if the client has left.
        """

    def hang_up(self) -> None:
        """End the connection."""

    def wait(self, seconds: float) -> bool:
        """Do nothing for a while, or until the server stops; whether it has."""


class Fault(Protocol):
    """Something that goes wrong with one reply."""

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """Send over ``wire`` what becomes of ``reply``."""


@dataclass(frozen=True)
class Instead:
    """Another reply goes out than the exchange's."""

    reply: Reply

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.send(self.reply)


@dataclass(frozen=True)
class Silence:
    """Nothing comes for ``seconds``, then the connection ends."""

    seconds: float

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.wait(self.seconds)
        wire.hang_up()


class Cut:
    """The connection ends before a byte is sent."""

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.hang_up()


class CutShort:
    """The headers promise the whole body; half of it comes."""

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.send(reply, body_bytes=len(reply.body) // 2)


@dataclass(frozen=True)
class Trickle:
    """The body comes a byte at a time, with ``seconds`` before each."""

    seconds: float

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.send(reply, byte_pause=self.seconds)


@dataclass(frozen=True)
class Endless:
    """An answer without an end, which is never silent for long, and never brings any content.

    Attributes:
        begin: the bytes that it begins with.
        again: the bytes that come every ``seconds`` after that, until the client leaves.
    """

    begin: bytes
    again: bytes
    seconds: float = 0.02

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.write(self.begin)
        while not wire.wait(self.seconds):
            wire.write(self.again)
        wire.hang_up()


@dataclass(frozen=True)
class Dated:
    """The reply comes from a server whose clock is ``late`` seconds behind."""

    late: float

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        then = datetime.fromtimestamp(time.time() - self.late, UTC)
        date = {"Date": format_datetime(then, usegmt=True)}
        wire.send(replace(reply, headers={**reply.headers, **date}))


@dataclass(frozen=True)
class EditBody:
    """The HTTP is well-formed, and the body another than the exchange's."""

    edit: Callable[[bytes], bytes]

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.send(replace(reply, body=self.edit(reply.body)))


@dataclass(frozen=True)
class Packed:
    """The body comes packed, as ``encoding`` ("gzip" or "deflate") says."""

    encoding: str

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        pack = gzip.compress if self.encoding == "gzip" else zlib.compress
        headers = {**reply.headers, "Content-Encoding": self.encoding}
        wire.send(replace(reply, body=pack(reply.body), headers=headers))


@dataclass(frozen=True)
class EditRows:
    """The HTTP and JSON are well-formed, and the rows in it others than the exchange's."""

    edit: Callable[[Rows], Rows]

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.send(Reply.json(reply.status, self.edit(json.loads(reply.body))))


class Stale:
    """A cache that ignores the query: the first reply it was given goes out each time."""

    def __init__(self) -> None:
        self._kept: Reply | None = None

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        self._kept = self._kept or reply
        wire.send(self._kept)


def too_many_requests(retry_after: str, status: int = 429) -> Fault:
    """Make a fault that refuses and says when to come back.

    Args:
        retry_after: seconds, or an HTTP date.
        status: 429, or 418 for a ban.
    """
    return Instead(Reply(status, b'{"message":"slow down"}', {"Retry-After": retry_after}))


def redirect(location: str) -> Fault:
    """Make a fault that answers with 301: the service has moved to another URL."""
    return Instead(Reply(301, b"", {"Location": location}))


def oversized(size: int) -> Fault:
    """Make a fault that answers with a list that is empty, after ``size`` bytes of space."""
    return Instead(Reply(200, b"[" + b" " * size + b"]"))


def gzip_bomb(size: int, layers: int = 1) -> Fault:
    """Make a fault that answers with ``size`` bytes of space, packed so many times over."""
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    step = min(size, 2**20)
    body = b"".join(packer.compress(b" " * step) for _ in range(size // step)) + packer.flush()
    for _ in range(layers - 1):
        body = gzip.compress(body, 9)
    return Instead(Reply(200, body, {"Content-Encoding": ", ".join(["gzip"] * layers)}))


def malformed(row: Any) -> Fault:
    """Make a fault that puts ``row`` in place of the third row."""
    return EditRows(lambda rows: [*rows[:2], row, *rows[3:]])


def in_unit(ticks: int) -> Fault:
    """Make a fault that gives times in another unit, of which a second has ``ticks``."""
    return EditRows(lambda rows: [[row[0] * ticks, *row[1:]] for row in rows])


def _shuffle(rows: Rows) -> Rows:
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def _add_neighbours(rows: Rows) -> Rows:
    """Add each row again, 1000 and 500 rows later and earlier: out of the range of any page."""
    step = abs(rows[0][0] - rows[1][0])
    shifts = (-1000, -500, 0, 500, 1000)
    return [[row[0] + shift * step, *row[1:]] for shift in shifts for row in rows]


TOO_MANY_REQUESTS = Instead(Reply(429, b'{"message":"Public rate limit exceeded"}'))
BANNED = Instead(Reply(418, b"{}"))
SERVER_ERROR = Instead(Reply(500, b'{"message":"Internal server error"}'))
UNAVAILABLE = Instead(Reply(503, b"<html>Service Unavailable</html>"))
HTML_PAGE = Instead(Reply(200, b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"))
CUT = Cut()
CUT_SHORT = CutShort()
DUPLICATED_ROWS = EditRows(lambda rows: [row for row in rows for _ in range(2)])
SHUFFLED_ROWS = EditRows(_shuffle)
ROWS_OUT_OF_RANGE = EditRows(_add_neighbours)
_OK = b"HTTP/1.1 200 OK\r\n"
SLOW_STATUS = Endless(b"HTTP/1.1 200 O", b"K")
SLOW_HEADER = Endless(_OK + b"X-Padding: ", b"a")
ENDLESS_HEADERS = Endless(_OK, b"X-Padding: a\r\n")
ENDLESS_HINTS = Endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20)
ENDLESS_EXTENSION = Endless(_OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=", b"a")
ENDLESS_TRAILERS = Endless(
    _OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n", b"X-Padding: a\r\n"
)
ENDLESS_GZIP_NAME = Endless(
    _OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\x03", b"A" * 4096
)
EMPTY_GZIP_BLOCKS = Endless(
    _OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03",
    b"\0\0\0\xff\xff" * 200,
)
EMPTY_DEFLATE_BLOCKS = Endless(
    _OK + b"Content-Encoding: deflate\r\n\r\n\x78\x9c", b"\0\0\0\xff\xff" * 200
)
ENDLESS = (
    *(SLOW_STATUS, SLOW_HEADER, ENDLESS_HEADERS, ENDLESS_HINTS, ENDLESS_EXTENSION),
    *(ENDLESS_TRAILERS, ENDLESS_GZIP_NAME, EMPTY_GZIP_BLOCKS, EMPTY_DEFLATE_BLOCKS),
)
"""The ways to keep a client without an answer and without silence."""

EMPTY_PAGE = EditRows(lambda rows: [])
HALF_A_PAGE = EditRows(lambda rows: rows[: len(rows) // 2])
EVERY_OTHER_ROW = EditRows(lambda rows: rows[::2])
