"""One deadline for a whole request: a service that never ends its answer, and is never silent."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.sources.web import transport
from btc_datamodule.sources.web.client import PoliteClient
from btc_datamodule.sources.web.deadline import Deadline, LateError
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import Exchange, Fault
from tests.helpers import assert_same
from tests.sources.helpers import HELD, ONE_PAGE, candles_of, fetch, source, use_proxy

TIMEOUT = 0.3
SOON = 2.0
"""Seconds in which a request with ``TIMEOUT`` is over on a busy machine; without end otherwise."""

TRICKLES = {
    "the status line": ex.SLOW_STATUS,
    "one header": ex.SLOW_HEADER,
    "more and more headers": ex.ENDLESS_HEADERS,
    "early hints": ex.ENDLESS_HINTS,
    "the extension of a chunk": ex.ENDLESS_EXTENSION,
    "trailers": ex.ENDLESS_TRAILERS,
    "the name in a gzip header": ex.ENDLESS_GZIP_NAME,
    "empty blocks of gzip": ex.EMPTY_GZIP_BLOCKS,
    "empty blocks of deflate": ex.EMPTY_DEFLATE_BLOCKS,
    "the body": ex.Trickle(0.02),
}


def assert_given_up(coinbase: Coinbase) -> str:
    """The one request ends in an error of ours soon after its time-out; what the error says."""
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"a longer `source.timeout`") as caught:
        fetch(coinbase, ONE_PAGE)
    assert 0.9 * TIMEOUT <= time.monotonic() - began < SOON
    return str(caught.value)


def test_every_endless_answer_of_the_fake_exchange_is_tried_here() -> None:
    assert set(ex.ENDLESS) == {each for each in TRICKLES.values() if isinstance(each, ex.Endless)}


@pytest.mark.parametrize("fault", TRICKLES.values(), ids=TRICKLES.keys())
def test_an_answer_without_end_is_given_up_at_the_deadline_of_its_request(
    exchange: Exchange, fault: Fault
) -> None:
    exchange.faults.append(fault)
    said = assert_given_up(source(exchange, timeout=TIMEOUT, attempts=1))
    assert re.search(r" bytes of content in \d\.\d s \(gave up after 1 attempt\)", said)


def test_after_an_answer_without_end_the_next_attempt_has_a_deadline_of_its_own(
    exchange: Exchange,
) -> None:
    exchange.faults.extend([ex.ENDLESS_TRAILERS, ex.SLOW_HEADER])
    assert_same(candles_of(fetch(source(exchange, timeout=TIMEOUT))), HELD)
    assert len(exchange.requests) == 5


@dataclass(frozen=True)
class Steady:
    """A body that comes ``size`` bytes at a time, every ``seconds``; and then a byte at a time."""

    size: int
    seconds: float
    total: int

    def spoil(self, reply: ex.Reply, wire: ex.Wire) -> None:
        length = self.total if self.size else 10**9
        wire.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode())
        if not self.size:
            wire.write(bytes(self.total))
        for _ in range(self.total // self.size if self.size else 0):
            wire.write(bytes(self.size))
            wire.wait(self.seconds)
        while not self.size and not wire.wait(self.seconds):
            wire.write(b"\0")


def test_a_long_download_goes_on_while_it_comes_at_a_decent_pace(exchange: Exchange) -> None:
    exchange.faults.append(Steady(size=2000, seconds=0.05, total=50_000))
    began = time.monotonic()
    with PoliteClient(Manners(exchange.url, 1000, timeout=TIMEOUT, attempts=1)) as client:
        assert client.get("/month.zip", max_body=10**6).body == bytes(50_000)
    assert time.monotonic() - began > 3 * TIMEOUT


def test_what_came_fast_is_no_credit_for_standing_still(exchange: Exchange) -> None:
    exchange.faults.append(Steady(size=0, seconds=0.02, total=2_000_000))
    began = time.monotonic()
    with (
        PoliteClient(Manners(exchange.url, 1000, timeout=TIMEOUT, attempts=1)) as client,
        pytest.raises(SourceError, match=r"2,000,\d\d\d bytes of content in"),
    ):
        client.get("/month.zip", max_body=10**9)
    assert time.monotonic() - began < SOON


def test_content_that_trickles_earns_a_source_in_a_hurry_no_time(exchange: Exchange) -> None:
    exchange.faults.append(Steady(size=200, seconds=0.02, total=10**6))  # 10 kB/s
    began = time.monotonic()
    with pytest.raises(SourceError, match=r": [\d,]+ bytes of content in 0\.[34] s"):
        fetch(source(exchange, timeout=TIMEOUT, attempts=1).hurry(), ONE_PAGE)
    assert time.monotonic() - began < SOON


def test_a_page_that_trickles_is_given_up_after_ten_times_the_time_out(exchange: Exchange) -> None:
    exchange.faults.append(Steady(size=400, seconds=0.02, total=10**6))
    began = time.monotonic()
    with pytest.raises(SourceError, match=r": [\d,]+ bytes of content in 1\.\d s"):
        fetch(source(exchange, timeout=0.1, attempts=1), ONE_PAGE)
    assert 0.9 <= time.monotonic() - began < SOON


def test_time_is_earned_by_content_and_never_more_than_the_time_out_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    left = Deadline(timeout=20.0, longest=60.0)
    assert left.check() == 20.0
    now = 110.0
    left.grant(5000)
    assert left.check() == 15.0  # 10 left, and 5 earned
    left.grant(10**6)
    assert left.check() == 20.0
    now = 129.0
    left.grant(10**6)
    assert left.check() == 20.0
    now = 148.0
    left.grant(10**6)
    assert left.check() == 12.0  # 60 in all
    now = 160.0
    left.grant(10**6)
    with pytest.raises(LateError, match=r"^4,005,000 bytes of content in 60.0 s$"):
        left.check()


def test_one_thread_that_is_kept_waiting_takes_no_time_from_another(exchange: Exchange) -> None:
    exchange.faults.append(ex.SLOW_HEADER)
    errors: list[str] = []

    def ask_and_wait() -> None:
        try:
            client.get("/slow")
        except SourceError as error:
            errors.append(str(error))

    with PoliteClient(Manners(exchange.url, 1000, timeout=1.0, attempts=1)) as client:
        slow = threading.Thread(target=ask_and_wait)
        slow.start()
        while not exchange.requests:
            time.sleep(0.01)
        for _ in range(5):
            assert client.get("/products").status == 200
        assert slow.is_alive()
        slow.join()
    assert len(errors) == 1


def test_a_client_that_is_stopped_ends_what_another_thread_waits_for_at_once(
    exchange: Exchange,
) -> None:
    exchange.faults.append(ex.Silence(30.0))
    ended: list[float] = []

    def ask_and_wait() -> None:
        with suppress(SourceError):
            client.get("/slow")
        ended.append(time.monotonic())

    with PoliteClient(Manners(exchange.url, 1000, timeout=30.0)) as client:
        waiting = threading.Thread(target=ask_and_wait)
        waiting.start()
        while not exchange.requests:
            time.sleep(0.01)
        began = time.monotonic()
        client.stop()
        waiting.join()
    assert ended[0] - began < SOON


# --- before there is a connection ---------------------------------------------------------------


@contextmanager
def serve(act: Callable[[socket.socket], None]) -> Iterator[str]:
    """Do something with each connection to a port of this machine; its ``host:port``."""

    def run() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    act(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def trickle(begin: bytes, again: bytes) -> Callable[[socket.socket], None]:
    """Send the bytes that begin, and then the others until the client leaves."""

    def act(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(begin)
        while True:
            time.sleep(0.02)
            connection.sendall(again)

    return act


HANDSHAKES = {
    "silent": lambda connection: connection.recv(65536) and connection.recv(65536),
    "a byte of a record at a time": trickle(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03", b"a"),
}


@pytest.mark.parametrize("act", HANDSHAKES.values(), ids=HANDSHAKES.keys())
def test_a_handshake_that_is_never_finished_is_given_up(
    act: Callable[[socket.socket], None],
) -> None:
    with serve(act) as address:
        assert_given_up(Coinbase(base_url=f"https://{address}", timeout=TIMEOUT, attempts=1))


def test_a_proxy_that_never_ends_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(trickle(b"HTTP/1.1 200 OK\r\nX-Padding: ", b"a")) as address:
        use_proxy(monkeypatch, address)
        assert_given_up(Coinbase(timeout=TIMEOUT, attempts=1))


def test_behind_a_proxy_a_handshake_that_is_never_finished_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def act(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        HANDSHAKES["a byte of a record at a time"](connection)

    with serve(act) as address:
        use_proxy(monkeypatch, address)
        assert_given_up(Coinbase(timeout=TIMEOUT, attempts=1))


def test_a_look_up_of_the_host_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(30) and [])
    try:
        said = assert_given_up(
            Coinbase(base_url="https://slow.example", timeout=TIMEOUT, attempts=1)
        )
    finally:
        ended.set()
    assert "looking up slow.example: timed out" in said


def test_each_address_of_a_host_is_tried_and_none_takes_all_of_the_time(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(exchange.url.rpartition(":")[2])
    addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]  # the first refuses, the second is silent
    monkeypatch.setattr(transport, "resolve", lambda *_: addresses)
    with socket.socket() as full:
        full.bind(("127.0.0.3", port))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:  # until there is no room for another
            each.setblocking(False)
            each.connect_ex(("127.0.0.3", port))
        began = time.monotonic()
        coinbase = source(exchange, base_url=f"http://localhost:{port}", timeout=1.0, attempts=1)
        assert_same(candles_of(fetch(coinbase, ONE_PAGE)), HELD.slice(*ONE_PAGE))
        assert 0.4 <= time.monotonic() - began < SOON
        for each in waiting:
            each.close()


def test_a_host_that_nobody_knows_is_told_as_such() -> None:
    with pytest.raises(SourceError, match=r"ConnectError: .*check the network"):
        fetch(Coinbase(base_url="https://nobody.invalid", timeout=5.0, attempts=1))
