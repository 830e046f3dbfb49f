"""``Exchange``: an HTTP server on this machine that answers as it is told, and fails as it is told.

It joins an *answer* and its *faults*, and keeps every request that came.
"""

import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from btc_datamodule.testing.exchange.faults import Fault
from btc_datamodule.testing.exchange.messages import Answer, Reply, Request


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

    def write(self, data: bytes) -> None:
        self.wfile.write(data)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def wait(self, seconds: float) -> bool:
        return self.server.exchange.stopping.wait(seconds)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output free of a line for each request."""
