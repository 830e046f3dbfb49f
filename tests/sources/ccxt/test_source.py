"""Any exchange through ccxt: its real client over the loopback, and exchanges of every temper."""

import logging
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import btc_datamodule.sources.ccxt.source as under_test
from btc_datamodule.candles.series import Candles, concatenate
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.errors import CandleError, ConfigError, SourceError
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.ccxt import client as ccxt_client
from btc_datamodule.sources.ccxt import paging as ccxt_paging
from btc_datamodule.sources.ccxt.source import Ccxt
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.sources.web import patience
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange, Fault, Rows
from tests.helpers import assert_same, candles_of

pytest.importorskip("ccxt")

HOUR, DAY = 3600, 86_400
HELD = ex.random_walk("2020-01-01", bars=700, interval=HOUR)
START, END = HELD.span


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with Exchange(CoinbaseAnswers(HELD)) as server:
        yield server


def source(exchange: Exchange, **changes: Any) -> Ccxt:
    """ccxt's client of Coinbase at the test server, with waits that tests can afford."""
    quick: dict[str, Any] = {"requests_per_second": 1000.0, "attempts": 4, "retry_wait": 0.01}
    return Ccxt(**{"exchange": "coinbaseexchange", "base_url": exchange.url, **quick, **changes})


def open_client(ccxt: Ccxt) -> Any:
    return ccxt_client.open_exchange(ccxt.exchange, ccxt.manners)


def fetch(ccxt: Ccxt, span: Span = (START, END), interval: int = HOUR) -> list[Block]:
    return list(ccxt.blocks(interval, span))


def assert_tiles(blocks: Sequence[Block], span: Span, held: Candles) -> None:
    """The blocks' spans follow each other through ``span``, and hold what ``held`` has in them."""
    assert [block.span[0] for block in blocks] == [span[0], *(b.span[1] for b in blocks[:-1])]
    assert blocks[-1].span[1] == span[1]
    assert all(block.span[0] < block.span[1] for block in blocks)
    for block in blocks:
        assert block.candles.slice(*block.span).span == block.candles.span
    assert_same(concatenate([block.candles for block in blocks]), held.slice(*span))


# --- the real client of ccxt --------------------------------------------------------------------


def test_the_client_of_coinbase_brings_exactly_what_the_exchange_holds(exchange: Exchange) -> None:
    blocks = fetch(source(exchange))
    assert_tiles(blocks, (START, END), HELD)
    assert [len(block.candles) for block in blocks] == [298, 298, 104]
    assert {block.notes for block in blocks} == {()}
    assert {block.origin for block in blocks} == {
        f"ccxt coinbaseexchange BTC/USD at {exchange.url}"
    }
    paths = [request.path for request in exchange.requests]
    assert paths == ["/currencies", "/products", *["/products/BTC-USD/candles"] * 3]


@pytest.mark.parametrize("bars", [1, 2, 297, 298, 299])
def test_a_span_in_mid_history_is_tiled_exactly(exchange: Exchange, bars: int) -> None:
    span = (START + 17 * HOUR, START + (17 + bars) * HOUR)
    assert_tiles(fetch(source(exchange), span), span, HELD)


def test_an_empty_span_asks_nothing(exchange: Exchange) -> None:
    assert fetch(source(exchange), (START, START)) == []
    assert exchange.requests == []


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


def test_certificates_are_checked_and_proxies_heeded_where_the_network_is_asked() -> None:
    client = open_client(Ccxt("kraken", timeout=7.5))
    assert client.verify is True
    assert client.validateServerSsl is True
    assert client.session.trust_env is True
    assert client.enableRateLimit is True
    assert (client.rateLimit, client.timeout) == (1000, 7500)
    assert not client.apiKey
    assert not client.secret


def test_a_base_url_takes_the_place_of_every_host_and_leaves_the_paths() -> None:
    client = open_client(Ccxt("binance", base_url="https://mirror.example/b/"))
    assert client.urls["api"]["public"] == "https://mirror.example/b/api/v3"
    assert all(url.startswith("https://mirror.example/b/") for url in client.urls["api"].values())


@pytest.mark.parametrize(
    "hole",
    [
        (START + 290 * HOUR, START + 310 * HOUR),
        (START + 298 * HOUR, START + 299 * HOUR),
        (START + 100 * HOUR, START + 500 * HOUR),  # holds an empty page
        (START + 5 * HOUR, START + 690 * HOUR),
    ],
)
def test_a_hole_stays_a_hole_however_long(hole: Span) -> None:
    held = ex.without(HELD, hole)
    with Exchange(CoinbaseAnswers(held)) as exchange:
        blocks = fetch(source(exchange))
    assert_tiles(blocks, (START, END), held)
    assert concatenate([b.candles for b in blocks]).holes().tolist() == [list(hole)]


def test_an_empty_answer_where_there_was_a_bar_is_asked_again_and_makes_no_hole(
    exchange: Exchange,
) -> None:
    exchange.faults.extend([None, None, None, ex.EMPTY_PAGE])
    assert_tiles(fetch(source(exchange)), (START, END), HELD)
    assert len(exchange.requests) == 6


def test_an_exchange_that_stays_empty_where_it_had_a_bar_ends_in_an_error(
    exchange: Exchange,
) -> None:
    exchange.faults.extend([None, None, None, *[ex.EMPTY_PAGE] * 9])
    blocks = source(exchange).blocks(HOUR, (START, END))
    first = next(blocks)
    assert_same(first.candles, HELD.slice(START, START + 298 * HOUR))
    known = format_instant(START + 297 * HOUR)
    with pytest.raises(SourceError, match=rf"lacks the bar of {known}, .*gave up after 4 attempts"):
        next(blocks)
    assert len(exchange.requests) == 7


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
    assert len(said) == 4
    assert all("; trying again in 0.0 s (attempt " in line and "\n" not in line for line in said)


STAYING = {
    "429": (ex.TOO_MANY_REQUESTS, r"HTTP 429 Too Many Requests .*`source.requests_per_second`"),
    "500": (ex.SERVER_ERROR, r"HTTP 500 Internal Server Error .*run it again later"),
    "503": (ex.UNAVAILABLE, r"HTTP 503 Service Unavailable .*run it again later"),
    "time-out": (ex.Silence(1.0), r"RequestTimeout: .*a longer `source.timeout`"),
    "cut": (ex.CUT, r"NetworkError: .*check the network"),
    "cut short": (ex.CUT_SHORT, r"NetworkError: .*check the network"),
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


def test_a_redirect_is_not_followed(exchange: Exchange) -> None:
    exchange.faults.append(ex.redirect("https://elsewhere.example/products"))
    with pytest.raises(SourceError, match=r"HTTP 301 sends us on to 'https://elsewhere.example"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1


def test_a_body_that_announces_more_than_the_limit_is_not_read(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ccxt_client, "MAX_BODY", 1000)
    with pytest.raises(SourceError, match=r"larger than 1,000 bytes"):
        fetch(source(exchange))


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
        "coinbaseexchange has no bars of 2m: set `interval` to one of 1m, 5m, 15m, 1h, 6h, 1d"
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
    with pytest.raises(ConfigError, match=r'pip install "btc-datamodule\[ccxt\]"'):
        fetch(Ccxt("kraken"))


def test_a_row_that_is_no_candle_is_named_and_can_be_left_out(exchange: Exchange) -> None:
    bad = ex.malformed([START + 5 * HOUR, None, 2.0, 1.5, 1.5, 3.0])
    exchange.faults.extend([None, None, bad])
    with pytest.raises(CandleError, match=r"T05:00:00Z.*low is not.*`source.drop_invalid: true`"):
        fetch(source(exchange, page=10), (START, START + 8 * HOUR))
    exchange.faults.extend([None, None, bad])
    blocks = fetch(source(exchange, page=10, drop_invalid=True), (START, START + 8 * HOUR))
    assert START + 5 * HOUR not in blocks[0].candles.open_time
    assert "1 rows that are no candles were left out" in blocks[0].notes[0]


def test_the_candle_file_equals_that_of_the_source_made_for_coinbase(tmp_path: Path) -> None:
    held = ex.without(
        HELD, (START + 40 * HOUR, START + 45 * HOUR), (START + 290 * HOUR, START + 600 * HOUR)
    )
    with Exchange(CoinbaseAnswers(held)) as exchange:
        ours = update(tmp_path / "a" / "candles.h5", source(exchange), HOUR, START, END)
        coinbase = Coinbase(base_url=exchange.url, requests_per_second=1000.0)
        theirs = update(tmp_path / "b" / "candles.h5", coinbase, HOUR, START, END)
        asked = len(exchange.requests)
        again = update(tmp_path / "a" / "candles.h5", source(exchange), HOUR, START, END)
        assert len(exchange.requests) == asked
    assert ours.header.digest == theirs.header.digest == again.header.digest
    assert ours.header.covered == theirs.header.covered == ((START, END),)
    assert (ours.added, again.added) == (len(held), 0)
    assert (ours.header.source, ours.header.series) == ("ccxt", "coinbaseexchange-BTC-USD")


# --- its arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("exchange", ""),
        ("exchange", "../etc"),
        ("exchange", "Kraken"),
        ("symbol", ""),
        ("symbol", "BTC USD"),
        ("symbol", "BTC/ÜSD"),
        ("symbol", "-" * 60),
        ("page", 3),
        ("base_url", "http://api.kraken.com"),
        ("base_url", "https://me:secret@host"),
        ("base_url", "https://host/?key=secret"),
        ("requests_per_second", 0.0),
        ("timeout", -1.0),
        ("attempts", 0),
        ("retry_wait", float("inf")),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(argument: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=argument) as caught:
        Ccxt(**{"exchange": "kraken", argument: value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("symbol", "series"),
    [
        ("BTC/USD", "kraken-BTC-USD"),
        ("BTC/USDT:USDT", "kraken-BTC-USDT_USDT"),
        ("BTC/USD:BTC-260327", "kraken-BTC-USD_BTC.2d260327"),
        ("../..", "kraken-.2e.2e-.2e.2e"),
    ],
)
def test_a_series_is_a_folder_that_names_exchange_and_symbol(symbol: str, series: str) -> None:
    assert Ccxt("kraken", symbol).series == series


signs = st.text("AB/:-_.~2d", min_size=1, max_size=8)


@given(signs, signs)
def test_two_symbols_never_share_a_folder(one: str, other: str) -> None:
    assert (Ccxt("kraken", one).series == Ccxt("kraken", other).series) == (one == other)


def test_making_the_source_loads_neither_ccxt_nor_an_http_library() -> None:
    code = (
        "import sys, btc_datamodule.sources.ccxt.source as c; c.Ccxt('kraken').series; "
        "print(sorted({'ccxt', 'requests', 'httpx', 'ssl'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# --- exchanges of every temper ------------------------------------------------------------------


@dataclass
class Temper:
    """An exchange in this process, as ccxt would show it, with the manners that it is given.

    Attributes:
        held: its hourly bars.
        now: its present; bars that are not closed by then come along where ``eager``.
        cap: bars that it gives at most.
        windowed: answers for ``limit`` intervals from ``since``; or else with the next bars.
        keeps_newest: what it keeps of an answer that is over the cap: its end, or its beginning.
        exclusive: leaves out the bar at ``since``.
        eager: adds the bar of the present to every answer.
        overlap: bars from before ``since`` that it adds.
        disorder: gives rows in disorder, and some twice.
        retains: newest hourly bars that it shows at all; None for all.
        longer: has daily bars too.
        asked: timeframe, ``since`` in seconds and ``limit`` of each request.
        spoil: what becomes of the rows of the answer with a number, counted from 1.
    """

    held: Candles
    now: int
    cap: int = 50
    windowed: bool = True
    keeps_newest: bool = False
    exclusive: bool = False
    eager: bool = False
    overlap: int = 0
    disorder: bool = False
    retains: int | None = None
    longer: bool = True
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    spoil: Callable[[int, Rows], Rows] = lambda number, rows: rows

    has = {"fetchOHLCV": True}  # noqa: RUF012
    last_http_response = None

    def __post_init__(self) -> None:
        self._steps = {"1h": HOUR, "1d": DAY} if self.longer else {"1h": HOUR}
        self._rows: dict[str, Rows] = {}
        for timeframe, step in self._steps.items():
            bars = self.held.resample(step)[0]
            columns = [bars[name].tolist() for name in ("open", "high", "low", "close", "volume")]
            rows = zip((bars.open_time * 1000).tolist(), *columns, strict=True)
            self._rows[timeframe] = [list(row) for row in rows]

    @property
    def timeframes(self) -> dict[str, str]:
        return {name: name for name in self._steps}

    def load_markets(self, reload: bool) -> dict[str, Any]:
        return {"BTC/USD": {}}

    def feature_value(self, symbol: str, method: str, name: str) -> int | None:
        return None

    def close(self) -> None:
        pass

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int, limit: int) -> Rows:
        self.asked.append((timeframe, since // 1000, limit))
        assert len(self.asked) < 3000, "it would ask for ever"
        step = self._steps[timeframe] * 1000
        shown = self._rows[timeframe]
        if self.retains is not None:
            shown = [row for row in shown if row[0] >= self.now * 1000 - self.retains * step]
        end = since + limit * step if self.windowed else self.now * 1000
        first = bisect_left(shown, [since + self.exclusive])
        fitting = shown[first : bisect_left(shown, [min(end, self.now * 1000)])]
        kept = min(limit, self.cap)
        fitting = fitting[-kept:] if self.keeps_newest and self.windowed else fitting[:kept]
        rows = shown[max(first - self.overlap, 0) : first] + fitting
        if self.eager:
            rows.append([self.now * 1000 // step * step, 1.0, 1.0, 1.0, 1.0, 0.1])
        if self.disorder:
            rows = rows[::-2] + rows[::3] + rows[-2::-2]
        return self.spoil(len(self.asked), rows)


@contextmanager
def instead_of_ccxt(exchange: Temper) -> Iterator[list[float]]:
    """The exchange in place of ccxt's client, its time as the present; the waits in seconds."""
    waits: list[float] = []
    clock = SimpleNamespace(time=lambda: exchange.now, sleep=waits.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(under_test, "open_exchange", lambda name, manners: exchange)
        patch.setattr(patience, "time", clock)
        patch.setattr(ccxt_paging, "time", clock)
        yield waits


def walk(exchange: Temper, span: Span, page: int | None = 20, **changes: Any) -> list[Block]:
    with instead_of_ccxt(exchange):
        return fetch(Ccxt("kraken", page=page, attempts=3, **changes), span)


@st.composite
def histories(draw: st.DrawFn) -> Candles:
    """Up to 200 hours with holes, a few of them longer than a page."""
    runs = draw(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 45)), min_size=1, max_size=5))
    mask = np.concatenate([[True] * there + [False] * absent for there, absent in runs])
    mask = np.concatenate([mask, [True] * draw(st.integers(8, 60))])
    return candles_of(mask)


tempers = st.fixed_dictionaries(
    {
        "cap": st.integers(5, 30),
        "windowed": st.booleans(),
        "keeps_newest": st.booleans(),
        "exclusive": st.booleans(),
        "eager": st.booleans(),
        "overlap": st.integers(0, 3),
        "disorder": st.booleans(),
    }
)


@settings(max_examples=120, deadline=None)
@given(histories(), tempers, st.integers(8, 30), st.data())
def test_whatever_the_temper_no_bar_is_lost_and_no_hole_is_invented(
    held: Candles, temper: dict[str, Any], page: int, data: st.DataObject
) -> None:
    first, last = held.span
    now = last + data.draw(st.integers(0, 3)) * HOUR
    bars = (now - first) // HOUR
    begin = data.draw(st.integers(-60, bars - 1))
    end = data.draw(st.integers(begin + 1, bars))
    span = (first + begin * HOUR, first + end * HOUR)
    exchange = Temper(held, now, **temper)
    blocks: list[Block] = []
    failure = None
    with instead_of_ccxt(exchange):
        try:
            blocks.extend(Ccxt("kraken", page=page, attempts=3).blocks(HOUR, span))
        except SourceError as error:
            failure = str(error)
    settled = blocks[-1].span[1] if blocks else span[0]
    if blocks:
        assert_tiles(blocks, (span[0], settled), held)
    if failure is None:
        # What is left open has no bar, nor is there any after it.
        assert settled == span[1] or not len(held.slice(settled, now))
    else:  # only where nothing near shows that the exchange has been asked as it wants
        assert not len(held.slice(span[0] - HOUR, span[0] + HOUR)), failure
        assert not blocks or "lacks the bar" not in failure


@settings(max_examples=60, deadline=None)
@given(histories(), tempers, st.integers(8, 30), st.integers(10, 150), st.data())
def test_an_exchange_that_keeps_only_its_newest_bars_never_makes_a_hole(
    held: Candles, temper: dict[str, Any], page: int, retains: int, data: st.DataObject
) -> None:
    first, last = held.span
    begin = data.draw(st.integers(-30, (last - first) // HOUR - 1))
    span = (first + begin * HOUR, last)
    exchange = Temper(held, last, retains=retains, **temper)
    blocks: list[Block] = []
    with instead_of_ccxt(exchange), suppress(SourceError):
        blocks.extend(Ccxt("kraken", page=page, attempts=3).blocks(HOUR, span))
    if blocks:
        assert_tiles(blocks, (span[0], blocks[-1].span[1]), held)


DENSE = candles_of([True] * 2400)  # a hundred days
FIRST, LAST = DENSE.span


@pytest.mark.parametrize("windowed", [False, True])
def test_an_exchange_with_only_its_newest_bars_is_refused_with_the_time_from_which_it_has_some(
    windowed: bool,
) -> None:
    exchange = Temper(DENSE, LAST, cap=720, windowed=windowed, retains=720)
    since = format_instant(LAST - 720 * HOUR)
    with pytest.raises(SourceError) as caught:
        walk(exchange, (FIRST, LAST), page=720)
    assert str(caught.value) == (
        f"kraken BTC/USD shows 1h bars only from {since} on, though its 1d bars say that it traded "
        f"before: set `start` to {since} or later, and take what is before it from another source"
    )
    assert len(exchange.asked) < 15
    inside = (LAST - 720 * HOUR, LAST)
    assert_tiles(walk(exchange, inside, page=720), inside, DENSE)


def test_without_longer_bars_nothing_is_believed_about_the_time_before_the_first_bar() -> None:
    exchange = Temper(DENSE, LAST, windowed=False, longer=False)
    with pytest.raises(SourceError, match=r"no telling whether it traded before: set `start` to"):
        walk(exchange, (FIRST - HOUR, LAST))
    assert_tiles(walk(exchange, (FIRST, LAST)), (FIRST, LAST), DENSE)


@pytest.mark.parametrize("windowed", [False, True])
def test_the_time_before_a_market_began_is_passed_over_with_a_note(windowed: bool) -> None:
    exchange = Temper(DENSE, LAST, windowed=windowed)
    span = (FIRST - 500 * HOUR, FIRST + 100 * HOUR)
    blocks = walk(exchange, span)
    assert_tiles(blocks, span, DENSE)
    assert blocks[0].notes == (
        f"kraken BTC/USD: taken as not traded before {format_instant(FIRST)}, as neither these "
        "bars nor longer ones begin earlier",
    )
    assert not any(block.notes for block in blocks[1:])


@pytest.mark.parametrize("windowed", [False, True])
def test_a_span_that_begins_in_a_long_outage_is_no_beginning(windowed: bool) -> None:
    outage = (FIRST + 1000 * HOUR, FIRST + 1200 * HOUR)
    held = ex.without(DENSE, outage)
    span = (outage[0] + 100 * HOUR, outage[1] + 50 * HOUR)
    blocks = walk(Temper(held, LAST, windowed=windowed), span)
    assert_tiles(blocks, span, held)
    assert not any(block.notes for block in blocks)


def test_the_same_page_again_and_again_is_neither_the_end_nor_asked_for_ever() -> None:
    def stuck(number: int, rows: Rows) -> Rows:
        return rows if number == 1 else pages[0]

    exchange = Temper(DENSE, LAST)
    pages = [exchange.fetch_ohlcv("BTC/USD", "1h", (FIRST - 2 * HOUR) * 1000, 20)]
    exchange.asked.clear()
    exchange.spoil = stuck
    with instead_of_ccxt(exchange):
        blocks = Ccxt("kraken", page=20, attempts=3).blocks(HOUR, (FIRST, LAST))
        assert_tiles([next(blocks)], (FIRST, FIRST + 18 * HOUR), DENSE)
        with pytest.raises(SourceError, match=r"has no 1h bars from .* on, and none at present"):
            next(blocks)
    assert len(exchange.asked) < 200


def test_an_earlier_page_again_and_again_is_given_up_after_the_attempts() -> None:
    exchange = Temper(DENSE, LAST)
    early = exchange.fetch_ohlcv("BTC/USD", "1h", FIRST * 1000, 20)
    exchange.asked.clear()
    exchange.spoil = lambda number, rows: rows if number < 4 else early
    with instead_of_ccxt(exchange) as waits:
        blocks = Ccxt("kraken", page=20, attempts=3).blocks(HOUR, (FIRST, LAST))
        assert [len(next(blocks).candles) for _ in range(3)] == [18, 18, 18]
        with pytest.raises(SourceError, match=r"it repeats itself.*`start`"):
            next(blocks)
    assert len(exchange.asked) == 3 + 3
    assert len(waits) == 2


def test_bars_after_the_last_one_of_all_are_left_open_for_a_later_run() -> None:
    blocks = walk(Temper(DENSE, LAST + 3 * HOUR), (FIRST, LAST + 3 * HOUR))
    assert_tiles(blocks, (FIRST, LAST), DENSE)


def test_a_market_that_has_ended_is_an_error_after_all_it_had() -> None:
    exchange = Temper(DENSE, LAST + 500 * HOUR)
    with instead_of_ccxt(exchange):
        blocks = Ccxt("kraken", page=20).blocks(HOUR, (LAST - 10 * HOUR, LAST + 500 * HOUR))
        assert_tiles([next(blocks)], (LAST - 10 * HOUR, LAST), DENSE)
        with pytest.raises(SourceError, match=rf"from {format_instant(LAST)} on.*set `end`"):
            next(blocks)


def test_a_hole_at_the_end_of_a_span_is_closed_by_bars_after_it() -> None:
    held = ex.without(DENSE, (FIRST + 100 * HOUR, FIRST + 400 * HOUR))
    span = (FIRST + 90 * HOUR, FIRST + 200 * HOUR)
    assert_tiles(walk(Temper(held, LAST), span), span, held)


def test_a_page_larger_than_what_the_exchange_gives_shrinks_to_it() -> None:
    exchange = Temper(DENSE, LAST, cap=15, keeps_newest=True)
    span = (FIRST, FIRST + 200 * HOUR)
    assert_tiles(walk(exchange, span, page=100), span, DENSE)
    assert {limit for _, _, limit in exchange.asked} == {100, 15}


def test_a_bar_off_the_grid_is_an_error_that_names_its_time() -> None:
    def late(number: int, rows: Rows) -> Rows:
        return [[row[0] + 60_000, *row[1:]] for row in rows]

    with pytest.raises(SourceError, match=r"opens at 2020-01-.*:01:00Z, off the UTC grid of 1h"):
        walk(Temper(DENSE, LAST, spoil=late), (FIRST, LAST))


@pytest.mark.parametrize(
    "row", [[1.5], None, "row", [None, 1, 1, 1, 1, 1], [0.5, 1, 1, 1, 1, 1], [0, "1", 1, 1, 1, 1]]
)
def test_a_malformed_row_is_named(row: Any) -> None:
    with pytest.raises(SourceError, match=r"row 0: expected a time and five numbers"):
        walk(Temper(DENSE, LAST, spoil=lambda number, rows: [row, *rows]), (FIRST, LAST))


Kind = Literal["BadSymbol", "AuthenticationError", "NotSupported"]


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("BadSymbol", "check `source.symbol`"),
        ("NotSupported", "check `source.symbol`"),
        ("AuthenticationError", "wants a key .*set `source.exchange` to another"),
    ],
)
def test_what_ccxt_refuses_is_one_error_that_says_what_to_change(kind: Kind, advice: str) -> None:
    import ccxt

    def refuse(number: int, rows: Rows) -> Rows:
        raise getattr(ccxt, kind)("kraken says no")

    exchange = Temper(DENSE, LAST, spoil=refuse)
    with pytest.raises(SourceError, match=f"{kind}: kraken says no: .*{advice}"):
        walk(exchange, (FIRST, LAST))
    assert len(exchange.asked) == 1


def test_waits_between_attempts_grow() -> None:
    import ccxt

    def refuse(number: int, rows: Rows) -> Rows:
        raise ccxt.DDoSProtection("kraken GET https://api.kraken.com")

    with (
        instead_of_ccxt(Temper(DENSE, LAST, spoil=refuse)) as waits,
        pytest.raises(SourceError, match=r"DDoSProtection: .*gave up after 4 attempts"),
    ):
        fetch(Ccxt("kraken", attempts=4, retry_wait=0.5), (FIRST, LAST))
    assert all(low <= wait <= low + 0.5 for wait, low in zip(waits, [0.5, 1.0, 2.0], strict=True))
