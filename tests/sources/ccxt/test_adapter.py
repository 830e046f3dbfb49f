"""How ccxt's requests go out: bounded in time and size, by proxies, with certificates checked."""

import logging
import shutil
import socket
import time
from pathlib import Path

import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.ccxt import adapter
from btc_datamodule.sources.ccxt.source import Ccxt
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import Exchange, Fault
from tests.sources.ccxt.helpers import assert_tiles, fetch, source
from tests.sources.helpers import END, HELD, HOUR, START, use_proxy, vouch_for_oneself

pytest.importorskip("ccxt")

MARKETS = (START, START + HOUR)

ENDLESS = {
    "one header": ex.SLOW_HEADER,
    "early hints": ex.ENDLESS_HINTS,
    "trailers": ex.ENDLESS_TRAILERS,
    "the name in a gzip header": ex.ENDLESS_GZIP_NAME,
    "empty blocks of deflate": ex.EMPTY_DEFLATE_BLOCKS,
    "the body": ex.Trickle(0.02),
}


@pytest.mark.parametrize("fault", ENDLESS.values(), ids=ENDLESS.keys())
def test_an_answer_without_end_is_given_up_at_the_deadline_of_its_request(
    exchange: Exchange, fault: Fault
) -> None:
    exchange.faults.append(fault)
    market = source(exchange, timeout=0.3, attempts=1)
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"its markets: .*a longer `source.timeout`"):
        fetch(market, MARKETS)
    assert 0.25 <= time.monotonic() - began < 3.0  # ccxt itself loads in some of it
    assert len(exchange.requests) == 1


def test_a_handshake_that_is_never_finished_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        ccxt = Ccxt("kraken", base_url=url, timeout=0.3, attempts=1)
        began = time.monotonic()
        with pytest.raises(SourceError, match=r"kraken, its markets: ConnectTimeout: "):
            fetch(ccxt, MARKETS)
        assert time.monotonic() - began < 3.0


def test_a_body_over_the_limit_is_refused_whether_it_announces_its_length_or_not(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "MAX_BODY", 100_000)
    for fault in (ex.oversized(100_000), ex.gzip_bomb(200_000)):
        exchange.requests.clear()
        exchange.faults.append(fault)
        with pytest.raises(SourceError, match=r"larger than 100,000 bytes"):
            fetch(source(exchange))
        assert len(exchange.requests) == 1


def test_a_body_that_is_packed_twice_is_refused_and_not_asked_for_again(
    exchange: Exchange,
) -> None:
    exchange.faults.append(ex.gzip_bomb(2**20, layers=2))
    with pytest.raises(SourceError, match=r"packed as 'gzip, gzip', and only gzip, deflate"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1


def test_packed_answers_are_unpacked(exchange: Exchange) -> None:
    exchange.faults.append(ex.Packed("gzip"))
    assert_tiles(fetch(source(exchange)), (START, END), HELD)


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(tmp_path: Path) -> None:
    with (
        vouch_for_oneself(tmp_path) as (url, met),
        pytest.raises(SourceError, match=r"certificate cannot be trusted \(self.signed"),
    ):
        fetch(Ccxt("kraken", base_url=url), MARKETS)
    assert len(met) == 1


def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        use_proxy(monkeypatch, f"127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(SourceError, match=r"ConnectError: .*Connection refused"):
            fetch(Ccxt("kraken", attempts=1), MARKETS)


@pytest.mark.parametrize("status", [403, 451])
def test_a_lasting_refusal_of_any_exchange_is_not_asked_for_again(status: int) -> None:
    refusal = ex.Reply.json(status, {"msg": "restricted"})
    for name, symbol in (("binance", "BTC/USDT"), ("kraken", "BTC/USD"), ("okx", "BTC/USDT")):
        with (
            Exchange(lambda request: refusal) as exchange,
            pytest.raises(SourceError, match=f"refused with HTTP {status} "),
        ):
            fetch(Ccxt(name, symbol, base_url=exchange.url, requests_per_second=1000.0))
        assert len(exchange.requests) == 1


def test_a_service_that_is_down_is_told_in_one_line_for_all_attempts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    down = ex.Reply(503, b"no")
    with (
        Exchange(lambda request: down) as exchange,
        caplog.at_level(logging.WARNING),
        pytest.raises(SourceError, match="gave up after 5 attempts"),
    ):
        fetch(source(exchange, attempts=5))
    assert len(exchange.requests) == 5
    [line] = [each for each in caplog.messages if "trying again" in each]
    assert line.startswith("coinbaseexchange, its markets: HTTP 503 Service Unavailable; trying ")
