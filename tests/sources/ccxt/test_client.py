"""ccxt's own client of Coinbase over the loopback: manners, trouble, refusals."""

import logging
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.sources.ccxt.source import Ccxt
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import Exchange, Fault
from tests.sources.ccxt.helpers import assert_tiles, fetch, open_client, source
from tests.sources.helpers import END, HELD, HOUR, START

pytest.importorskip("ccxt")


def test_every_request_says_who_asks(exchange: Exchange) -> None:
    fetch(source(exchange), (START, START + HOUR))
    for request in exchange.requests:
        assert request.headers["User-Agent"].startswith("btc-datamodule (ccxt ")


def test_a_password_that_this_machine_has_for_the_exchange_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.kraken.com login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    request = requests.Request("GET", "https://api.kraken.com/0/public/OHLC")
    assert "Authorization" in requests.Session().prepare_request(request).headers
    session = open_client(Ccxt("kraken")).session
    assert "Authorization" not in session.prepare_request(request).headers


def test_proxies_of_the_environment_do_not_stand_before_this_machine(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert_tiles(fetch(source(exchange)), (START, END), HELD)


def test_the_pace_and_the_time_out_are_those_of_ccxt_and_there_is_no_key() -> None:
    client = open_client(Ccxt("kraken", timeout=7.5))
    assert client.enableRateLimit is True
    assert (client.rateLimit, client.timeout) == (1000, 7500)
    assert not client.apiKey
    assert not client.secret


def test_a_base_url_takes_the_place_of_every_host_and_leaves_the_paths() -> None:
    client = open_client(Ccxt("binance", base_url="https://mirror.example/b/"))
    assert client.urls["api"]["public"] == "https://mirror.example/b/api/v3"
    assert all(url.startswith("https://mirror.example/b/") for url in client.urls["api"].values())


PASSING = {
    "429": ex.TOO_MANY_REQUESTS,
    "500": ex.SERVER_ERROR,
    "503": ex.UNAVAILABLE,
    "connection cut before the answer": ex.CUT,
    "body cut short": ex.CUT_SHORT,
    "HTML page": ex.HTML_PAGE,
    "empty body": ex.Instead(ex.Reply(200, b"")),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_trouble_that_passes_leaves_no_trace_in_the_candles(
    exchange: Exchange, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.faults.extend([None, fault, None, None, fault, None, fault, fault])
    with caplog.at_level(logging.WARNING):
        assert_tiles(fetch(source(exchange)), (START, END), HELD)
    assert len(exchange.requests) == 5 + 4 + 1  # the currencies are asked with the products
    said = [
        r.getMessage() for r in caplog.records if r.name == "btc_datamodule.sources.web.patience"
    ]
    assert len(said) == 3  # the last two are of one page, and the same
    assert all("; trying again in 0.0 s (attempt " in line and "\n" not in line for line in said)


STAYING = {
    "429": (ex.TOO_MANY_REQUESTS, r"HTTP 429 Too Many Requests .*`source.requests_per_second`"),
    "500": (ex.SERVER_ERROR, r"HTTP 500 Internal Server Error .*run it again later"),
    "503": (ex.UNAVAILABLE, r"HTTP 503 Service Unavailable .*run it again later"),
    "time-out": (ex.Silence(1.0), r"ReadTimeout: .*a longer `source.timeout`"),
    "cut": (ex.CUT, r"(RemoteProtocol|Read)Error: .*check the network"),
    "cut short": (ex.CUT_SHORT, r"RemoteProtocolError: .*check the network"),
    "HTML page": (ex.HTML_PAGE, r"not JSON; it begins '<!DOCTYPE html> <html>"),
}


@pytest.mark.parametrize(("fault", "message"), STAYING.values(), ids=STAYING.keys())
def test_trouble_that_stays_ends_in_one_line_with_the_page_the_cause_and_the_remedy(
    exchange: Exchange, fault: Fault, message: str
) -> None:
    exchange.faults.extend([None, None, None, fault, fault])
    timeout = 0.3 if isinstance(fault, ex.Silence) else 20.0
    blocks = source(exchange, attempts=2, timeout=timeout).blocks(HOUR, (START, END))
    assert len(next(blocks).candles) == 298  # what came before stays valid
    with pytest.raises(SourceError, match=message) as caught:
        next(blocks)
    since = format_instant(START + 296 * HOUR)
    assert str(caught.value).startswith(f"coinbaseexchange BTC/USD, 1h bars from {since}: ")
    assert "gave up after 2 attempts" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(exchange.requests) == 5


def test_a_wait_that_the_service_names_is_kept(exchange: Exchange) -> None:
    exchange.faults.extend([None, None, ex.too_many_requests("0.3")])
    fetch(source(exchange), (START, START + HOUR))
    assert exchange.waits[2] >= 0.3


def test_a_wait_of_more_than_an_hour_is_not_waited_for_but_told_with_the_instant_in_utc(
    exchange: Exchange,
) -> None:
    exchange.faults.extend([None, None, ex.too_many_requests("3601", 418)])
    began = time.time()
    with pytest.raises(SourceError) as caught:
        fetch(source(exchange), (START, START + HOUR))
    found = re.search(r"HTTP 418 .*asked again no earlier than (\S+Z): run it", str(caught.value))
    assert found is not None
    assert began + 3601 <= parse_instant(found[1]) <= time.time() + 3602
    assert len(exchange.requests) == 3


def test_a_date_to_come_back_at_is_counted_from_the_clock_of_the_service(
    exchange: Exchange,
) -> None:
    then = datetime.now(UTC) - timedelta(days=1)  # its clock is a day late
    dates = {
        "Date": format_datetime(then, usegmt=True),
        "Retry-After": format_datetime(then + timedelta(seconds=1), usegmt=True),
    }
    exchange.faults.extend([None, None, ex.Instead(ex.Reply(429, b"{}", dates))])
    fetch(source(exchange), (START, START + HOUR))
    assert exchange.waits[2] >= 1.0


def test_a_redirect_is_not_followed(exchange: Exchange) -> None:
    exchange.faults.append(ex.redirect("https://elsewhere.example/products"))
    with pytest.raises(SourceError, match=r"HTTP 301 sends us on to 'https://elsewhere.example"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1


def test_a_refusal_is_quoted_in_one_short_line(exchange: Exchange) -> None:
    refusal = ex.Instead(ex.Reply.json(400, {"message": "no\nway " * 200}))
    exchange.faults.extend([None, None, refusal])
    with pytest.raises(
        SourceError, match="ExchangeError: coinbaseexchange no way no way"
    ) as caught:
        fetch(source(exchange))
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
    assert len(exchange.requests) == 3


def at_binance(exchange: Exchange) -> Ccxt:
    return Ccxt("binance", "BTC/USDT", base_url=exchange.url, requests_per_second=1000.0)


GEO = ex.Reply.json(451, {"code": 0, "msg": "Service unavailable from a restricted location"})


def test_a_location_that_is_not_served_is_told_at_once_with_a_mirror_that_is_known() -> None:
    with Exchange(lambda request: GEO) as exchange, pytest.raises(SourceError) as caught:
        fetch(at_binance(exchange))
    assert len(exchange.requests) == 1
    assert str(caught.value) == (
        f"{exchange.url}/api/v3/exchangeInfo: refused with HTTP 451 Unavailable For Legal Reasons, "
        '\'{"code": 0, "msg": "Service unavailable from a restricted location"}\': the service '
        "does not serve this location: set another `source`, or set `source.base_url` to "
        "https://data-api.binance.vision, a mirror of its spot markets"
    )


def test_a_mirror_of_binance_with_spot_markets_alone_is_enough_for_a_spot_market() -> None:
    symbol = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}
    more = {"orderTypes": [], "filters": [], "permissions": [], "permissionSets": [["SPOT"]]}
    digits = dict.fromkeys(("baseAssetPrecision", "quotePrecision", "quoteAssetPrecision"), 8)

    def answer(request: ex.Request) -> ex.Reply:
        if request.path == "/api/v3/exchangeInfo":
            return ex.Reply.json(200, {"symbols": [{**symbol, **more, **digits}]})
        if request.path != "/api/v3/klines":
            return ex.Reply.json(404, {})
        since = int(request.query["startTime"]) // 1000
        bars = HELD.slice(since, since + int(request.query["limit"]) * HOUR)
        columns = [bars[name].tolist() for name in ("open", "high", "low", "close", "volume")]
        times = (bars.open_time * 1000).tolist()
        return ex.Reply.json(200, [list(row) for row in zip(times, *columns, strict=True)])

    with Exchange(answer) as exchange:
        blocks = fetch(at_binance(exchange))
    assert_tiles(blocks, (START, END), HELD)


def test_an_unknown_symbol_is_named_with_those_close_to_it(exchange: Exchange) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(source(exchange, symbol="BTC/USB"))
    assert str(caught.value) == (
        "coinbaseexchange knows no symbol 'BTC/USB': set `source.symbol` (close to it: BTC/USD)"
    )


def test_an_interval_that_the_exchange_lacks_is_refused_before_anything_is_asked(
    exchange: Exchange,
) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(source(exchange), interval=120)
    assert str(caught.value) == (
        "coinbaseexchange has no bars of 2m: set `interval` to one of 1m, 5m, 15m, 1h, 6h, 1d, or "
        "to a multiple of one"
    )
    assert exchange.requests == []


def test_an_unknown_exchange_is_named_with_those_close_to_it() -> None:
    with pytest.raises(ConfigError, match=r"knows no exchange 'krakn'.*`source.exchange`.*kraken"):
        fetch(Ccxt("krakn"))


def test_an_exchange_without_candles_is_refused() -> None:
    with pytest.raises(SourceError, match=r"bit2c offers no candles .*`source.exchange`"):
        fetch(Ccxt("bit2c"))


def test_a_missing_ccxt_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(ConfigError, match="this source needs ccxt: pip install ccxt"):
        fetch(Ccxt("kraken"))
