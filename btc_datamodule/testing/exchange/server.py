"""An exchange on this machine: real HTTP over the loopback, and trouble on demand.

Three parts that know nothing of each other:

- an *answer* says what an exchange replies to a request when all is well (``CoinbaseAnswers``,
  ``BinanceArchiveAnswers``); another exchange is another function from ``Request`` to ``Reply``;
- a *fault* spoils one reply on its way out: another status, silence, a cut wire, changed rows;
- ``Exchange`` is the server that joins them. It keeps every request in ``requests``, and spoils
  one reply for each entry of ``faults`` (``None`` lets one pass), in order.

    with Exchange(CoinbaseAnswers(candles)) as exchange:
        exchange.faults += [TOO_MANY_REQUESTS, None, CUT]
        Coinbase(base_url=exchange.url, ...)
"""

import hashlib
import json
import re
import socket
import sys
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, format_interval, parse_instant

Rows = list[list[Any]]


class Request(NamedTuple):
    """A request as it arrived; ``time`` is ``time.monotonic()``."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    time: float


@dataclass(frozen=True)
class Reply:
    """What goes back: an HTTP status, a body, and headers beside those that every reply has."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, content: Any) -> "Reply":
        """A reply whose body is ``content`` as JSON."""
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json"})


Answer = Callable[[Request], Reply]


# --- what an exchange answers -------------------------------------------------------------------


@dataclass(frozen=True)
class CoinbaseAnswers:
    """Coinbase Exchange's candles of one product, and its lists of products and currencies.

    Attributes:
        held: the bars it has; at other granularities it has none.
        product: the only product it knows.
    """

    held: Candles
    product: str = "BTC-USD"

    def __call__(self, request: Request) -> Reply:
        """The reply to a request."""
        if "User-Agent" not in request.headers:
            return self._message(400, "User-Agent header is required.")
        if request.path == "/products":
            return Reply.json(200, [self._listing()])
        if request.path == "/currencies":
            return Reply.json(200, [{"id": part} for part in self.product.split("-")])
        if request.path != f"/products/{self.product}/candles":
            return self._message(404, "NotFound")
        return self._candles(request)

    def _candles(self, request: Request) -> Reply:
        step = int(request.query.get("granularity", "60"))
        if step not in (60, 300, 900, 3600, 21600, 86400):
            return self._message(400, "Unsupported granularity")
        asked = self._asked(request)
        if asked is None:  # both are needed, or else neither counts
            return self._rows(self.held.slice(*self.held.span), step, newest=300)
        first, last = asked
        if (last - first) // step + 1 > 300:
            return self._message(
                400,
                "granularity too small for the requested time range. "
                "Count of aggregations requested exceeds 300",
            )
        return self._rows(self.held.slice(first, last + 1), step, newest=300)

    def _listing(self) -> dict[str, Any]:
        """The part of a product's entry that says what is traded and in which steps."""
        base, quote = self.product.split("-")
        return {
            "id": self.product,
            "base_currency": base,
            "quote_currency": quote,
            "quote_increment": "0.01",
            "base_increment": "0.00000001",
            "min_market_funds": "1",
            "margin_enabled": False,
            "status": "online",
        }

    def _asked(self, request: Request) -> tuple[int, int] | None:
        if not {"start", "end"} <= set(request.query):
            return None
        first, last = (datetime.fromisoformat(request.query[name]) for name in ("start", "end"))
        return int(first.timestamp()), int(last.timestamp())

    def _rows(self, bars: Candles, step: int, newest: int) -> Reply:
        if step != self.held.interval:
            return Reply.json(200, [])
        names = ("open_time", "low", "high", "open", "close", "volume")
        columns = [bars[name][-newest:][::-1].tolist() for name in names]
        return Reply.json(200, [list(row) for row in zip(*columns, strict=True)])

    def _message(self, status: int, text: str) -> Reply:
        return Reply.json(status, {"message": text})


@dataclass
class BinanceArchiveAnswers:
    """Binance's archive of klines of one product and interval: zips made as they are asked for.

    A file is there if its month or day is over and ``held`` has a bar in it. Spot files have no
    header, and microseconds from 2025 on; futures have a header and milliseconds throughout.

    Attributes:
        held: the bars it has.
        market: "spot" or "um".
        header: whether files begin with the names of the columns; None for as the market does.
        product: the only product it knows.
        missing: names of files that are not there, such as BTCUSDT-1h-2020-01.zip.
        files: bytes served under a name in place of what would be made; a ``.CHECKSUM`` that is
            not among them fits the bytes that are.
        delay: seconds that each answer takes.
        peak: the most requests that were being answered at the same time.
    """

    held: Candles
    market: str = "spot"
    header: bool | None = None
    product: str = "BTCUSDT"
    missing: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    delay: float = 0.0
    peak: int = 0
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Reply:
        """The reply to a request."""
        with self._lock:
            self._busy += 1
            self.peak = max(self.peak, self._busy)
        time.sleep(self.delay)
        with self._lock:
            self._busy -= 1
            body = self._body(request.path)
        return NO_SUCH_KEY if body is None else Reply(200, body, {"Content-Type": "binary"})

    def csv(self, name: str) -> bytes:
        """The rows of the zip called ``name``, as the archive writes them."""
        bars = self.held.slice(*_period(name))
        start = bars.open_time
        micro = self.market == "spot" and _period(name)[0] >= parse_instant("2025-01-01")
        unit = 10**6 if micro else 10**3
        columns = [
            (start * unit).tolist(),
            *(bars[column].tolist() for column in ("open", "high", "low", "close", "volume")),
            ((start + bars.interval) * unit - 1).tolist(),
            bars["quote_volume"].tolist(),
            bars["trades"].astype(np.int64).tolist(),
            bars["taker_buy_volume"].tolist(),
            (bars["taker_buy_volume"] * bars["close"]).tolist(),
            [0] * len(bars),
        ]
        lines = [",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True)]
        header = self.market == "um" if self.header is None else self.header
        return "".join([KLINE_HEADER] * header + lines).encode()

    def _body(self, path: str) -> bytes | None:
        market = "spot" if self.market == "spot" else "futures/um"
        bars = format_interval(self.held.interval)
        day, month = r"\d{4}-\d\d-\d\d", r"\d{4}-\d\d"
        name = path.rsplit("/", 1)[-1]
        known = re.fullmatch(
            rf"/data/{market}/(monthly|daily)/klines/{self.product}/{bars}/"
            rf"{self.product}-{bars}-({day}|{month})\.zip(\.CHECKSUM)?",
            path,
        )
        if known is None or (known[1] == "daily") != bool(re.fullmatch(day, known[2])):
            return None
        zip_name = name.removesuffix(".CHECKSUM")
        if zip_name in self.missing or name in self.missing:
            return None
        if zip_name not in self.files:
            period = _period(zip_name)
            if period[1] > time.time() or not len(self.held.slice(*period)):
                return None
            self.files[zip_name] = zipped(zip_name.replace(".zip", ".csv"), self.csv(zip_name))
        if name not in self.files:
            return f"{hashlib.sha256(self.files[zip_name]).hexdigest()}  {zip_name}\n".encode()
        return self.files[name]


KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore\n"
)
NO_SUCH_KEY = Reply(
    404,
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
    b"<Message>The specified key does not exist.</Message></Error>",
    {"Content-Type": "application/xml"},
)


def zipped(name: str, content: bytes, *more: tuple[str, bytes]) -> bytes:
    """A zip of one file, or of several."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in ((name, content), *more):
            archive.writestr(member, data)
    return target.getvalue()


def _period(name: str) -> Span:
    """The month or day that a file's name ends in."""
    date = name.removesuffix(".zip").split("-", 2)[2]
    start = datetime.fromisoformat(date if date.count("-") == 2 else f"{date}-01")
    start = start.replace(tzinfo=UTC)
    if date.count("-") == 2:
        return int(start.timestamp()), int(start.timestamp()) + 86_400
    after = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp()), int(after.timestamp())


# --- how a reply goes wrong ---------------------------------------------------------------------


class Wire(Protocol):
    """What a fault can do with a connection."""

    def send(self, reply: Reply, *, body_bytes: int | None = None, byte_pause: float = 0.0) -> None:
        """Send a reply.

        Of its body only the first ``body_bytes`` and then hang up, if given; and a byte at a
        time, ``byte_pause`` seconds apart, if that is above 0.
        """

    def hang_up(self) -> None:
        """End the connection."""

    def wait(self, seconds: float) -> None:
        """Do nothing for a while, or until the server stops."""


class Fault(Protocol):
    """Something that goes wrong with one reply."""

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """Send over ``wire`` what becomes of ``reply``."""


@dataclass(frozen=True)
class Instead:
    """Another reply."""

    reply: Reply

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.send(self.reply)


@dataclass(frozen=True)
class Silence:
    """Nothing for ``seconds``, then the connection ends."""

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
    """The body a byte at a time, with ``seconds`` before each."""

    seconds: float

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.send(reply, byte_pause=self.seconds)


@dataclass(frozen=True)
class Dated:
    """The same reply, from a server whose clock is ``late`` seconds behind."""

    late: float

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        then = datetime.fromtimestamp(time.time() - self.late, UTC)
        date = {"Date": format_datetime(then, usegmt=True)}
        wire.send(replace(reply, headers={**reply.headers, **date}))


@dataclass(frozen=True)
class EditBody:
    """Well-formed HTTP with another body than the exchange holds."""

    edit: Callable[[bytes], bytes]

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.send(replace(reply, body=self.edit(reply.body)))


@dataclass(frozen=True)
class EditRows:
    """Well-formed HTTP and JSON, with other rows in it than the exchange holds."""

    edit: Callable[[Rows], Rows]

    def spoil(self, reply: Reply, wire: Wire) -> None:
        """See ``Fault``."""
        wire.send(Reply.json(reply.status, self.edit(json.loads(reply.body))))


def too_many_requests(retry_after: str, status: int = 429) -> Fault:
    """429, or a ban with 418, that says when to come back: seconds, or an HTTP date."""
    return Instead(Reply(status, b'{"message":"slow down"}', {"Retry-After": retry_after}))


def redirect(location: str) -> Fault:
    """301: it has moved to another URL."""
    return Instead(Reply(301, b"", {"Location": location}))


def oversized(size: int) -> Fault:
    """A list of rows that never seems to end."""
    return Instead(Reply(200, b"[" + b" " * size + b"]"))


def malformed(row: Any) -> Fault:
    """The third row replaced."""
    return EditRows(lambda rows: [*rows[:2], row, *rows[3:]])


def _shuffled(rows: Rows) -> Rows:
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def _with_neighbours(rows: Rows) -> Rows:
    """Each row again 1000 and 500 rows later and earlier: out of the range of any page."""
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
SHUFFLED_ROWS = EditRows(_shuffled)
ROWS_OUT_OF_RANGE = EditRows(_with_neighbours)
EMPTY_PAGE = EditRows(lambda rows: [])


# --- the server ---------------------------------------------------------------------------------


class Exchange:
    """A server on 127.0.0.1 at a free port while the context is open.

    Attributes:
        url: its base URL, without a slash at the end.
        requests: what was asked so far.
        faults: the faults of the requests to come; ``None`` for a reply that stays well.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.faults: deque[Fault | None] = deque()
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.exchange = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        # The default poll of 0.5 s is how long each test would wait for the server to stop.
        serve = {"poll_interval": 0.01}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def waits(self) -> list[float]:
        """Seconds between each request and the one before."""
        return [b.time - a.time for a, b in pairwise(self.requests)]


class _Server(ThreadingHTTPServer):
    exchange: Exchange
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about a client that has left, which some faults make it do."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection; the ``Wire`` that faults act on."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes: 40 ms a request otherwise

    def do_GET(self) -> None:
        exchange = self.server.exchange
        parts = urlsplit(self.path)
        headers = {name.title(): value for name, value in self.headers.items()}
        request = Request(parts.path, dict(parse_qsl(parts.query)), headers, time.monotonic())
        exchange.requests.append(request)
        fault = None
        with suppress(IndexError):  # not a look before: several connections may ask at once
            fault = exchange.faults.popleft()
        reply = exchange.answer(request)
        if fault is None:
            self.send(reply)
        else:
            fault.spoil(reply, self)

    def send(self, reply: Reply, *, body_bytes: int | None = None, byte_pause: float = 0.0) -> None:
        self.send_response_only(reply.status)
        for name, value in ({"Date": self.date_time_string()} | dict(reply.headers)).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        for byte in reply.body if byte_pause else b"":
            self.wait(byte_pause)
            self.wfile.write(bytes([byte]))
        if not byte_pause:
            self.wfile.write(reply.body[:body_bytes])
        if body_bytes is not None:
            self.hang_up()

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def wait(self, seconds: float) -> None:
        self.server.exchange.stopping.wait(seconds)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output free of a line for each request."""


# --- what it may hold ---------------------------------------------------------------------------


def random_walk(start: str, bars: int, interval: int, seed: int = 0) -> Candles:
    """``bars`` candles in a row from ``start`` (ISO 8601, UTC), the same for the same seed."""
    rng = np.random.default_rng(seed)
    first = int(datetime.fromisoformat(f"{start}+00:00").timestamp())
    close = np.round(8000 * np.exp(np.cumsum(rng.normal(0, 0.002, bars))), 2)
    opened = np.concatenate([[8000.0], close[:-1]])
    wick = np.round(rng.uniform(0, 5, (2, bars)), 2)
    columns = {
        "open_time": first + interval * np.arange(bars),
        "open": opened,
        "high": np.round(np.maximum(opened, close) + wick[0], 2),
        "low": np.round(np.minimum(opened, close) - wick[1], 2),
        "close": close,
        "volume": np.round(rng.exponential(10, bars), 8),
    }
    return Candles(interval, columns)


def without(candles: Candles, *spans: tuple[int, int]) -> Candles:
    """The same candles with the bars that open in one of the half-open spans taken out."""
    kept = np.ones(len(candles), dtype=bool)
    for start, end in spans:
        kept &= (candles.open_time < start) | (candles.open_time >= end)
    return Candles(candles.interval, {name: v[kept] for name, v in candles.columns.items()})
