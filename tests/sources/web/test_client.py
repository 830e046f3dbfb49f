"""The polite client, asked by way of Coinbase: how it takes trouble, and its manners."""

import base64
import gzip
import logging
import re
import shutil
import socket
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.plain import to_plain
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.sources.web.client import PoliteClient
from btc_datamodule.sources.web.connection import _load_certificates
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import Exchange, Fault
from tests.helpers import assert_same
from tests.sources.helpers import (
    END,
    HELD,
    HOUR,
    ONE_PAGE,
    PAGE,
    START,
    candles_of,
    fetch,
    source,
    vouch_for_oneself,
)

# --- trouble that passes ------------------------------------------------------------------------

PASSING = {
    "429 without Retry-After": ex.TOO_MANY_REQUESTS,
    "418": ex.BANNED,
    "500": ex.SERVER_ERROR,
    "503": ex.UNAVAILABLE,
    "connection cut before the answer": ex.CUT,
    "body cut short": ex.CUT_SHORT,
    "HTML page": ex.HTML_PAGE,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_trouble_that_passes_leaves_no_trace_in_the_candles(
    exchange: Exchange, fault: Fault
) -> None:
    exchange.faults.extend([fault, None, fault, fault])
    blocks = fetch(source(exchange))
    assert_same(candles_of(blocks), HELD)
    asked = [request.query["start"] for request in exchange.requests]
    pages = [format_instant(START + page * PAGE) for page in range(3)]
    assert asked == [pages[0]] * 2 + [pages[1]] * 3 + [pages[2]]


def test_a_silent_connection_is_given_up_and_asked_again(exchange: Exchange) -> None:
    exchange.faults.append(ex.Silence(5.0))
    began = time.monotonic()
    blocks = fetch(source(exchange, timeout=0.4))
    assert 0.4 <= time.monotonic() - began < 30
    assert_same(candles_of(blocks), HELD)
    assert len(exchange.requests) == 4


def test_a_body_that_trickles_is_given_up_and_asked_again(exchange: Exchange) -> None:
    exchange.faults.append(ex.Trickle(0.05))  # a byte each time: never silent for long
    began = time.monotonic()
    blocks = fetch(source(exchange, timeout=0.4))
    assert 0.4 <= time.monotonic() - began < 30
    assert_same(candles_of(blocks), HELD)


def test_a_retry_is_logged_with_its_cause_and_in_one_line(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.faults.append(ex.UNAVAILABLE)
    with caplog.at_level(logging.WARNING):
        fetch(source(exchange), ONE_PAGE)
    [record] = caplog.records
    assert record.name == "btc_datamodule.sources.web.patience"
    assert "HTTP 503 Service Unavailable; trying again in 0.0 s" in record.getMessage()
    assert "attempt 1 of 4 failed" in record.getMessage()


# --- trouble that stays -------------------------------------------------------------------------

STAYING = {
    "429": (
        ex.TOO_MANY_REQUESTS,
        r"HTTP 429 Too Many Requests \(gave up .*lower `source.requests_per_second`",
    ),
    "418": (ex.BANNED, r"HTTP 418 .*run it again later"),
    "500": (ex.SERVER_ERROR, r"HTTP 500 Internal Server Error \(gave up .*run it again later"),
    "503": (ex.UNAVAILABLE, r"HTTP 503 Service Unavailable \(gave up .*run it again later"),
    "time-out": (ex.Silence(1.0), r"ReadTimeout: .*a longer `source.timeout`"),
    "cut": (ex.CUT, r"(RemoteProtocol|Read)Error: .*check the network"),
    "cut short": (ex.CUT_SHORT, r"RemoteProtocolError: .*incomplete|without sending complete"),
    "HTML page": (ex.HTML_PAGE, r"HTTP 200, but not JSON; it begins '<!DOCTYPE html> <html>"),
}


@pytest.mark.parametrize(("fault", "message"), STAYING.values(), ids=STAYING.keys())
def test_trouble_that_stays_ends_in_one_line_with_the_page_the_cause_and_the_remedy(
    exchange: Exchange, fault: Fault, message: str
) -> None:
    exchange.faults.extend([None, fault, fault])
    timeout = 0.3 if isinstance(fault, ex.Silence) else 20.0
    blocks = source(exchange, attempts=2, timeout=timeout).blocks(HOUR, (START, END))
    assert_same(next(blocks).candles, HELD.slice(*ONE_PAGE))  # what came before stays valid
    with pytest.raises(SourceError, match=message) as caught:
        next(blocks)
    said = str(caught.value)
    page = f"start={format_instant(START + PAGE)}&end={format_instant(START + 2 * PAGE - HOUR)}"
    assert said.startswith(f"{exchange.url}/products/BTC-USD/candles?{page}&granularity=3600: ")
    assert "gave up after 2 attempts" in said
    assert "\n" not in said
    assert len(exchange.requests) == 3


def test_a_refused_connection_is_tried_again_and_then_named() -> None:
    with socket.socket() as nobody:  # bound, but not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        coinbase = Coinbase(base_url=url, attempts=3, retry_wait=0.01)
        with pytest.raises(SourceError, match=r"ConnectError: .*gave up after 3 attempts"):
            fetch(coinbase)


def test_an_oversized_body_is_not_read_to_its_end_nor_asked_for_again(exchange: Exchange) -> None:
    exchange.faults.append(ex.oversized(17 * 2**20))
    with pytest.raises(SourceError, match=r"larger than 16,777,216 bytes.*check `source.base_url`"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1


def test_a_body_that_unpacks_to_too_much_is_refused(exchange: Exchange) -> None:
    body = gzip.compress(b"[" + b" " * (17 * 2**20))
    packed = ex.Reply(200, body, {"Content-Encoding": "gzip"})
    assert len(body) < 20_000
    exchange.faults.append(ex.Instead(packed))
    with pytest.raises(SourceError, match="larger than 16,777,216 bytes"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1


def test_a_redirect_is_not_followed(exchange: Exchange) -> None:
    exchange.faults.append(ex.redirect("https://elsewhere.example/candles"))
    with pytest.raises(SourceError, match=r"HTTP 301 sends us on to 'https://elsewhere.example"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1


def test_a_firewall_page_with_status_403_is_quoted_and_not_asked_for_again(
    exchange: Exchange,
) -> None:
    exchange.faults.append(ex.Instead(ex.Reply(403, b"<html>Forbidden</html>")))
    with pytest.raises(SourceError, match=r"refused with HTTP 403 Forbidden, '<html>Forbidden"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1


@pytest.mark.parametrize("status", [403, 451])
@pytest.mark.parametrize(
    "fault",
    [ex.Trickle(0.05), ex.CUT_SHORT, ex.EditBody(lambda body: b"no gzip at all")],
    ids=["trickles", "is cut short", "is damaged"],
)
def test_a_refusal_whose_page_does_not_arrive_is_not_asked_for_again_either(
    status: int, fault: Fault
) -> None:
    packed = {"Content-Encoding": "gzip"} if isinstance(fault, ex.EditBody) else {}
    page = ex.Reply(status, b"<html>Forbidden</html>" * 9, packed)
    with Exchange(lambda request: page) as refusing:
        refusing.faults.append(fault)
        with pytest.raises(SourceError, match=f"refused with HTTP {status} "):
            fetch(source(refusing, timeout=0.3))
        assert len(refusing.requests) == 1


# --- manners ------------------------------------------------------------------------------------


def test_retry_after_in_seconds_is_waited_for(exchange: Exchange) -> None:
    exchange.faults.append(ex.too_many_requests("1"))
    assert_same(candles_of(fetch(source(exchange), ONE_PAGE)), HELD.slice(*ONE_PAGE))
    [wait] = exchange.waits
    assert 1.0 <= wait < 3.0


def test_retry_after_as_a_date_is_waited_for(exchange: Exchange) -> None:
    then = datetime.now(UTC) + timedelta(seconds=2)  # whole seconds in the header: 1 to 2 s away
    exchange.faults.append(ex.too_many_requests(format_datetime(then, usegmt=True)))
    fetch(source(exchange), ONE_PAGE)
    [wait] = exchange.waits
    assert 0.9 <= wait < 4.0


def test_a_date_to_come_back_at_is_counted_from_the_clock_of_the_service(
    exchange: Exchange,
) -> None:
    then = datetime.now(UTC) - timedelta(days=1)  # its clock is a day late
    dates = {
        "Date": format_datetime(then, usegmt=True),
        "Retry-After": format_datetime(then + timedelta(seconds=1), usegmt=True),
    }
    exchange.faults.append(ex.Instead(ex.Reply(429, b"{}", dates)))
    fetch(source(exchange), ONE_PAGE)
    [wait] = exchange.waits
    assert 1.0 <= wait < 3.0


def test_a_wait_that_the_service_names_is_logged_with_the_instant_that_it_ends(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.faults.append(ex.too_many_requests("1"))
    began = int(time.time())
    with caplog.at_level(logging.WARNING):
        fetch(source(exchange), ONE_PAGE)
    [record] = caplog.records
    found = re.search(r"trying again in 1.0 s, at (\S+), as the service asks", record.getMessage())
    assert found is not None
    assert began + 1 <= parse_instant(found[1]) <= began + 4


@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.parametrize("status", [418, 429, 503])
def test_a_wait_of_more_than_an_hour_is_not_waited_for_but_told_with_the_instant_in_utc(
    exchange: Exchange, status: int, attempts: int
) -> None:
    exchange.faults.append(ex.too_many_requests("3601", status))
    began = time.time()
    with pytest.raises(SourceError) as caught:
        fetch(source(exchange, attempts=attempts))
    assert time.time() - began < 30
    said = str(caught.value)
    found = re.search(
        rf"&granularity=3600: HTTP {status} .*: the service wants to be asked again no earlier "
        r"than (\S+Z): run it again then, with a lower `source.requests_per_second`$",
        said,
    )
    assert found is not None
    assert began + 3601 <= parse_instant(found[1]) <= began + 3601 + 5
    assert len(exchange.requests) == 1


def test_a_client_that_was_told_of_a_ban_asks_nothing_more(exchange: Exchange) -> None:
    exchange.faults.append(ex.too_many_requests("99999999999999", 418))
    with PoliteClient(Manners(exchange.url, 1000)) as client:
        for _ in range(3):
            with pytest.raises(SourceError, match=r"asked again no earlier than epoch second \d+"):
                client.get("/")
    assert len(exchange.requests) == 1


def test_a_thread_that_waits_for_its_turn_keeps_a_wait_that_another_was_told_meanwhile(
    exchange: Exchange,
) -> None:
    exchange.faults.append(ex.too_many_requests("1"))
    with PoliteClient(Manners(exchange.url, 4)) as client:
        threads = [threading.Thread(target=client.get, args=["/"]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(exchange.requests) == 4
    assert exchange.waits[0] >= 0.9
    assert min(exchange.waits[1:]) >= 0.15  # 0.25 but for the time a request takes to arrive


def test_waits_grow_when_the_server_names_none(exchange: Exchange) -> None:
    exchange.faults.extend([ex.UNAVAILABLE] * 3)
    fetch(source(exchange, retry_wait=0.1), ONE_PAGE)
    assert all(wait >= least for wait, least in zip(exchange.waits, [0.1, 0.2, 0.4], strict=True))


def test_requests_keep_their_distance(exchange: Exchange) -> None:
    exchange.faults.extend([None, ex.SERVER_ERROR, None])  # retries keep it too
    fetch(source(exchange, requests_per_second=5.0))
    assert len(exchange.waits) == 3
    assert min(exchange.waits) >= 0.1  # 0.2 but for the time a request takes to arrive
    assert sum(exchange.waits) >= 0.5


def test_proxies_of_the_environment_do_not_stand_before_this_machine(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert_same(candles_of(fetch(source(exchange))), HELD)


@pytest.mark.parametrize(
    "proxy",
    [
        "carrier-pigeon://me:secret@127.0.0.1:9",
        "http://me:secret@127.0.0.1:port",
        "http://me:sec/secret@127.0.0.1:9",
        "socks5://me:secret@127.0.0.1:9",
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variables_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigError, match="HTTPS_PROXY, HTTP_PROXY or ALL_PROXY") as caught:
        fetch(Coinbase())
    shown = "".join(traceback.format_exception(caught.value))
    assert "secret" not in shown
    assert "'sec'" not in shown


def test_a_password_of_a_proxy_shows_up_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    met: list[bytes] = []

    def refuse() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                met.append(connection.recv(65536))
                connection.sendall(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
                )

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:geheim@{address}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        thread = threading.Thread(target=refuse)
        thread.start()
        coinbase = Coinbase(attempts=2, retry_wait=0.01)
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(SourceError, match=r"ProxyError: 407 Proxy Auth") as caught,
        ):
            update(tmp_path / "candles.h5", coinbase, HOUR, *ONE_PAGE)
        thread.join()
    encoded = base64.b64encode(b"somebody:geheim")
    assert len(met) == 2
    assert all(encoded in request for request in met)  # the proxy itself was told
    stored = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    texts = [
        "".join(traceback.format_exception(caught.value)),
        caplog.text,
        repr(coinbase),
        str(to_plain(coinbase)),
        *(content.decode("latin-1") for content in stored),
    ]
    assert len(caplog.records) > 5
    for secret in ("geheim", encoded.decode()):
        assert not any(secret in text for text in texts)


def test_certificates_that_cannot_be_read_are_named_by_their_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    _load_certificates.cache_clear()
    try:
        with pytest.raises(ConfigError, match="SSL_CERT_FILE or SSL_CERT_DIR"):
            fetch(Coinbase())
    finally:
        _load_certificates.cache_clear()


def test_a_host_that_cannot_exist_is_an_error_of_ours() -> None:
    with pytest.raises(SourceError, match=r"no such host can be asked .* `source.base_url`"):
        fetch(Coinbase(base_url="https://a..b", attempts=1))


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with vouch_for_oneself(tmp_path) as (url, met):
        with pytest.raises(SourceError, match=r"certificate cannot be trusted \(self.signed"):
            fetch(Coinbase(base_url=url))
        assert time.monotonic() - began < 30
    assert len(met) == 1


def test_bytes_come_as_they_are_with_any_status_that_is_an_answer(exchange: Exchange) -> None:
    replies = [ex.Reply(200, bytes(1000)), ex.Reply(404, b"<html>gone</html>")]
    exchange.faults.extend([ex.CUT_SHORT, *map(ex.Instead, replies), ex.oversized(999)])
    with PoliteClient(Manners(exchange.url, 1000, retry_wait=0.01)) as client:
        assert client.get("/a.zip")[:2] == (200, bytes(1000))
        assert client.get("b.zip", max_body=17)[:2] == (404, b"<html>gone</html>")
        with pytest.raises(SourceError, match="larger than 1,000 bytes"):
            client.get("c.zip", max_body=1000)
    paths = [request.path for request in exchange.requests]
    assert paths == ["/a.zip", "/a.zip", "/b.zip", "/c.zip"]


def test_cookies_of_a_server_are_not_sent_back(exchange: Exchange) -> None:
    reply = ex.Reply(200, b"[]", {"Set-Cookie": "id=" + "x" * 4000})
    exchange.faults.extend([ex.Instead(reply)] * 2)
    with PoliteClient(Manners(exchange.url, 1000)) as client:
        client.get("/a.zip")
        client.get("/b.zip")
    assert [request.headers.get("Cookie") for request in exchange.requests] == [None, None]
