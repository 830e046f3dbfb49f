"""Coinbase against a real HTTP server on this machine: what it stores, and how it takes trouble."""

import base64
import gzip
import logging
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.candles.series import Candles, concatenate
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import BTCDataError, CandleError, ConfigError, SourceError
from btc_datamodule.settings import to_plain
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.sources.web.client import PoliteClient, _trusted_certificates
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import retry_after
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange, Fault

HOUR = 3600
HELD = ex.random_walk("2020-01-01", bars=700, interval=HOUR)
START, END = HELD.span
PAGE = 300 * HOUR
ONE_PAGE = (START, START + PAGE)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with Exchange(CoinbaseAnswers(HELD)) as server:
        yield server


def source(exchange: Exchange, **changes: Any) -> Coinbase:
    """Coinbase at the test server, with waits that tests can afford."""
    quick: dict[str, Any] = {"requests_per_second": 1000.0, "attempts": 4, "retry_wait": 0.01}
    return Coinbase(**{"base_url": exchange.url, **quick, **changes})


def fetch(coinbase: Coinbase, span: tuple[int, int] = (START, END)) -> list[Block]:
    return list(coinbase.blocks(HOUR, span))


def candles_of(blocks: list[Block]) -> Candles:
    return concatenate([block.candles for block in blocks])


def assert_same(got: Candles, held: Candles) -> None:
    assert got.interval == held.interval
    assert set(got.columns) == set(held.columns)
    for name, values in held.columns.items():
        np.testing.assert_array_equal(got.columns[name], values, err_msg=name)


# --- paging -------------------------------------------------------------------------------------


def test_pages_of_300_bars_bring_exactly_what_the_exchange_holds(exchange: Exchange) -> None:
    blocks = fetch(source(exchange))
    assert_same(candles_of(blocks), HELD)
    assert [len(block.candles) for block in blocks] == [300, 300, 100]
    assert [dict(request.query) for request in exchange.requests] == [
        {"start": format_instant(first), "end": format_instant(last), "granularity": "3600"}
        for first, last in [
            (START, START + 299 * HOUR),
            (START + 300 * HOUR, START + 599 * HOUR),
            (START + 600 * HOUR, START + 699 * HOUR),
        ]
    ]
    assert {request.path for request in exchange.requests} == {"/products/BTC-USD/candles"}


@pytest.mark.parametrize("bars", [1, 2, 299, 300, 301, 600, 601])
def test_block_spans_tile_the_asked_span_exactly(exchange: Exchange, bars: int) -> None:
    start = START + 17 * HOUR
    blocks = fetch(source(exchange), (start, start + bars * HOUR))
    edges = [start, *(block.span[1] for block in blocks)]
    assert [block.span for block in blocks] == list(pairwise(edges))
    assert edges[-1] == start + bars * HOUR
    assert len(exchange.requests) == len(blocks) == -(-bars // 300)
    for block in blocks:
        assert_same(block.candles, HELD.slice(*block.span))


def test_an_empty_span_asks_nothing(exchange: Exchange) -> None:
    assert fetch(source(exchange), (START, START)) == []
    assert exchange.requests == []


def test_the_origin_is_the_url_without_its_query_and_nothing_needed_repair(
    exchange: Exchange,
) -> None:
    blocks = fetch(source(exchange, base_url=f"{exchange.url}/"))
    assert {block.origin for block in blocks} == {f"{exchange.url}/products/BTC-USD/candles"}
    assert {block.notes for block in blocks} == {()}
    bodies = [exchange.answer(request).body for request in exchange.requests]
    assert [block.received for block in blocks] == [len(body) for body in bodies]


def test_pages_are_fetched_only_as_blocks_are_taken(exchange: Exchange) -> None:
    blocks = source(exchange).blocks(HOUR, (START, END))
    next(blocks)
    assert len(exchange.requests) == 1


def test_every_request_says_who_asks(exchange: Exchange) -> None:
    fetch(source(exchange), ONE_PAGE)
    assert exchange.requests[0].headers["User-Agent"].startswith("btc-datamodule/")


def test_a_hole_stays_a_hole() -> None:
    hole = (START + 290 * HOUR, START + 310 * HOUR)  # across a page's edge
    held = ex.without(HELD, hole)
    with Exchange(CoinbaseAnswers(held)) as exchange:
        got = candles_of(fetch(source(exchange)))
    assert_same(got, held)
    assert got.holes().tolist() == [list(hole)]


def test_an_empty_page_in_mid_history_is_an_outage_and_not_the_end() -> None:
    outage = (START + 300 * HOUR, START + 600 * HOUR)
    held = ex.without(HELD, outage)
    with Exchange(CoinbaseAnswers(held)) as exchange:
        blocks = fetch(source(exchange))
        assert len(exchange.requests) == 4  # an empty page is asked for once more
    assert blocks[1].span == outage
    assert len(blocks[1].candles) == 0
    assert_same(candles_of(blocks), held)


# --- what may still change ----------------------------------------------------------------------


def recent(bars: int) -> Candles:
    """Minutes up to the latest whole one, and two more that are not over yet."""
    now = int(time.time()) // 60 * 60
    first = format_instant(now - bars * 60).removesuffix("Z")
    return ex.random_walk(first, bars=bars + 2, interval=60)


def test_a_bar_that_is_not_closed_by_coinbases_clock_is_neither_stored_nor_settled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = recent(400)
    start, end = held.span
    with Exchange(CoinbaseAnswers(held)) as exchange:
        blocks = list(source(exchange).blocks(60, (start, end)))
        assert blocks[-1].span[1] == blocks[-1].candles.span[1] <= time.time()
        assert blocks[-1].span[1] > time.time() - 70
        exchange.faults.extend([ex.Dated(0), ex.Dated(1800)])  # ours is half an hour fast
        with caplog.at_level(logging.WARNING):
            blocks = list(source(exchange).blocks(60, (start, end)))
        [record] = caplog.records
        assert "is the clock of this machine fast?" in record.getMessage()
        exchange.faults.append(ex.Dated(86_400))
        assert list(source(exchange).blocks(60, (start, end))) == []
    assert blocks[-1].span[1] == blocks[-1].candles.span[1]
    assert time.time() - 1870 < blocks[-1].span[1] <= time.time() - 1800


def test_absent_bars_of_the_last_minutes_are_left_for_a_later_run_and_older_ones_are_not() -> None:
    held = recent(400)
    end = held.span[1] - 120
    tail = [(end - 120, end), (end - 900, end - 780)]  # two bars that are late, two in a hole
    with Exchange(CoinbaseAnswers(ex.without(held, *tail))) as exchange:
        blocks = list(source(exchange).blocks(60, (held.span[0], end)))
    assert blocks[-1].span[1] == end - 120
    assert len(candles_of(blocks)) == 400 - 4
    quiet = ex.without(held, (end - 1800, end))
    with Exchange(CoinbaseAnswers(quiet)) as exchange:
        blocks = list(source(exchange).blocks(60, (held.span[0], end)))
    assert end - 360 <= blocks[-1].span[1] <= end - 240  # older silence is known to be silence


# --- what it refuses at once --------------------------------------------------------------------


def test_an_unknown_product_is_named_with_the_argument_that_mends_it(exchange: Exchange) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(source(exchange, product="BTC-USB"))
    assert str(caught.value) == (
        "Coinbase knows no product 'BTC-USB': set `source.product` (e.g. BTC-USD)"
    )
    assert len(exchange.requests) == 1


def test_an_unsupported_interval_is_refused_before_anything_is_asked(exchange: Exchange) -> None:
    with pytest.raises(SourceError, match=r"coinbase has no bars of 2m: .*1m, 5m, 15m, 1h, 6h, 1d"):
        next(source(exchange).blocks(120, (START, END)))
    assert exchange.requests == []


def test_a_refusal_quotes_what_coinbase_says(exchange: Exchange) -> None:
    refusal = ex.Instead(ex.Reply.json(400, {"message": "start must be before end"}))
    exchange.faults.append(refusal)
    with pytest.raises(SourceError, match=r"HTTP 400, 'start must be before end'"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1


def test_a_page_that_is_no_list_is_refused(exchange: Exchange) -> None:
    exchange.faults.append(ex.Instead(ex.Reply.json(200, {"message": "Internal error"})))
    with pytest.raises(
        SourceError,
        match=r"page 2020-01-01T00:00:00Z to .*not a list of rows but .*Internal error.* run it "
        "again later",
    ):
        fetch(source(exchange))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("product", "../etc"),
        ("product", "BTC/USD"),
        ("base_url", "api.exchange.coinbase.com"),
        ("base_url", "ftp://127.0.0.1"),
        ("base_url", "https://"),
        ("base_url", "https://host:port"),
        ("base_url", "http://[::1"),
        ("base_url", "https://host/?key=1"),
        ("base_url", "https://me:secret@host"),
        ("base_url", "https://me:secret@host:port"),
        ("base_url", "ftp://me:secret@host"),
        ("base_url", "me:secret@host"),
        ("base_url", "host?key=secret"),
        ("base_url", "http://host.example#secret"),
        ("requests_per_second", 0.0),
        ("requests_per_second", float("nan")),
        ("timeout", -1.0),
        ("timeout", float("inf")),
        ("attempts", 0),
        ("retry_wait", -0.1),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(argument: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=argument) as caught:
        Coinbase(**{argument: value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://api.exchange.coinbase.com", "http://10.0.0.1", "http://127.0.0.1.example.com"]
)
def test_plain_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="without encryption: write https://"):
        Coinbase(base_url=url)
    with pytest.raises(ConfigError, match="without encryption"):
        Manners(url, requests_per_second=1)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://127.8.0.1", "http://localhost", "http://[::1]:80"]
)
def test_plain_http_to_this_machine_is_allowed(url: str) -> None:
    assert Coinbase(base_url=url).base_url == url


def test_the_defaults_are_the_public_exchange() -> None:
    coinbase = Coinbase()
    assert coinbase.base_url == "https://api.exchange.coinbase.com"
    assert (coinbase.name, coinbase.series) == ("coinbase", "BTC-USD")
    assert coinbase.first == parse_instant("2015-07-20T00:00:00Z")
    assert coinbase.requests_per_second < 10


def test_importing_the_source_loads_no_http_library() -> None:
    code = (
        "import sys, btc_datamodule.sources.coinbase as c; c.Coinbase(); "
        "print(sorted({'httpx', 'tenacity', 'ssl'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


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
    with pytest.raises(SourceError, match=r"HTTP 403, but not JSON; it begins '<html>Forbidden"):
        fetch(source(exchange))
    assert len(exchange.requests) == 1


# --- odd rows -----------------------------------------------------------------------------------


def test_duplicated_rows_are_stored_once_and_reported(exchange: Exchange) -> None:
    exchange.faults.extend([None, ex.DUPLICATED_ROWS])
    blocks = fetch(source(exchange))
    assert_same(candles_of(blocks), HELD)
    assert [len(block.notes) for block in blocks] == [0, 1, 0]
    assert (
        blocks[1]
        .notes[0]
        .startswith(
            f"coinbase BTC-USD, page {format_instant(START + PAGE)} to "
            f"{format_instant(START + 2 * PAGE)}: 300 rows repeat an open time"
        )
    )


@pytest.mark.parametrize("fault", [ex.SHUFFLED_ROWS, ex.ROWS_OUT_OF_RANGE])
def test_rows_in_disorder_or_from_other_pages_change_nothing(
    exchange: Exchange, fault: Fault
) -> None:
    exchange.faults.extend([fault] * 3)
    blocks = fetch(source(exchange))
    assert_same(candles_of(blocks), HELD)
    assert {block.notes for block in blocks} == {()}


def test_a_page_that_comes_empty_once_is_believed_only_when_it_does_again(
    exchange: Exchange,
) -> None:
    exchange.faults.extend([None, ex.EMPTY_PAGE])
    assert_same(candles_of(fetch(source(exchange))), HELD)


def test_an_empty_answer_settles_its_page_and_no_more(exchange: Exchange) -> None:
    exchange.faults.extend([None, ex.EMPTY_PAGE, ex.EMPTY_PAGE])
    blocks = fetch(source(exchange))
    outage = (START + PAGE, START + 2 * PAGE)
    assert blocks[1].span == outage
    assert_same(candles_of(blocks), ex.without(HELD, outage))


@pytest.mark.parametrize(
    "row",
    [
        [START, 1.0, 2.0, 1.5, 1.5],
        [START, 1.0, 2.0, 1.5, 1.5, 3.0, 4.0],
        [START, 1.0, 2.0, None, 1.5, 3.0],
        [START, 1.0, 2.0, "1.5", 1.5, 3.0],
        [START, 1.0, 2.0, True, 1.5, 3.0],
        [START, 1.0, float("nan"), 1.5, 1.5, 3.0],
        [START, 1.0, float("inf"), 1.5, 1.5, 3.0],
        [START, 1.0, 10**400, 1.5, 1.5, 3.0],
        [START + 0.5, 1.0, 2.0, 1.5, 1.5, 3.0],
        [[START], 1.0, 2.0, 1.5, 1.5, 3.0],
        {"time": START},
        "two\nlines",
        None,
        7,
    ],
)
def test_a_malformed_row_is_named_by_product_page_and_row(exchange: Exchange, row: Any) -> None:
    exchange.faults.append(ex.malformed(row))
    with pytest.raises(
        SourceError,
        match=r"coinbase BTC-USD, page 2020-01-01T00:00:00Z to 2020-01-13T12:00:00Z, row 2: "
        r"expected six numbers \[time, low, high, open, close, volume\], got ",
    ) as caught:
        fetch(source(exchange))
    assert "\n" not in str(caught.value)
    assert len(exchange.requests) == 1


NO_CANDLES = {
    "high below low": ([2.0, 1.0, 1.5, 1.5, 3.0], 0, r"high is below low \(high 1, low 2\)"),
    "a negative price": ([-2.0, 1.0, 1.5, 1.5, 3.0], 0, r"low is not above zero \(low -2\)"),
    "a negative volume": ([1.0, 2.0, 1.5, 1.5, -3.0], 0, r"volume is negative"),
    "off the grid": ([1.0, 2.0, 1.5, 1.5, 3.0], 7, r"not open on the 1h grid: is `interval` right"),
}


@pytest.mark.parametrize(("values", "late", "problem"), NO_CANDLES.values(), ids=NO_CANDLES.keys())
def test_a_row_that_is_no_candle_is_named_by_page_and_time_and_can_be_left_out(
    exchange: Exchange, values: list[float], late: int, problem: str
) -> None:
    bad = START + 297 * HOUR  # the third row, as the newest comes first
    fault = ex.malformed([bad + late, *values])
    exchange.faults.append(fault)
    with pytest.raises(
        CandleError,
        match=rf"coinbase BTC-USD, page 2020-01-01.*{format_instant(bad + late)}\): .*{problem}.*: "
        "set `source.drop_invalid: true` to leave such bars out$",
    ):
        fetch(source(exchange))
    exchange.faults.append(fault)
    blocks = fetch(source(exchange, drop_invalid=True))
    assert_same(candles_of(blocks), ex.without(HELD, (bad, bad + HOUR)))
    assert [len(block.notes) for block in blocks] == [1, 0, 0]
    assert re.search(
        rf"1 rows .* left out, such as .*{format_instant(bad + late)}", blocks[0].notes[0]
    )


def test_what_dropping_bars_would_not_mend_is_told_without_that_remedy(exchange: Exchange) -> None:
    twice = ex.malformed([START + 299 * HOUR, 1.0, 1.0, 1.0, 1.0, 3.0])
    for drop_invalid in (False, True):
        exchange.faults.append(twice)
        with pytest.raises(CandleError, match=r"two rows for .* remove the wrong one$"):
            fetch(source(exchange, drop_invalid=drop_invalid))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=20,
)


def test_whatever_json_comes_the_answer_is_candles_or_an_error_of_ours() -> None:
    content: list[Any] = [None]
    with Exchange(lambda request: ex.Reply.json(200, content[0])) as exchange:
        coinbase = source(exchange)

        @settings(max_examples=40, deadline=None)  # each example is a request
        @given(json_values | st.lists(st.lists(st.floats(0, 1e6), min_size=6, max_size=6)))
        def law(value: Any) -> None:
            content[0] = value
            with suppress(BTCDataError):
                assert [block.span for block in fetch(coinbase, ONE_PAGE)] == [ONE_PAGE]

        law()


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


NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("3600", 3600.0),
        ("604800", 604_800.0),
        ("inf", None),
        ("Wed, 01 May 2024 12:00:30 GMT", 30.0),
        ("Wed, 01 May 2024 12:00:30 -0000", 30.0),
        ("Thu, 02 May 2024 12:00:30 GMT", 86_430.0),
        ("Wed, 01 May 2024 11:00:00 GMT", None),
        ("0", None),
        ("-5", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_reads_seconds_and_dates_to_come(
    text: str | None, seconds: float | None
) -> None:
    assert retry_after(text, now=NOW) == seconds


@given(st.text())
def test_retry_after_reads_any_text_as_a_finite_wait_or_none(text: str) -> None:
    seconds = retry_after(text)
    assert seconds is None or 0 < seconds < float("inf")


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
    _trusted_certificates.cache_clear()
    try:
        with pytest.raises(ConfigError, match="SSL_CERT_FILE or SSL_CERT_DIR"):
            fetch(Coinbase())
    finally:
        _trusted_certificates.cache_clear()


def test_a_host_that_cannot_exist_is_an_error_of_ours() -> None:
    with pytest.raises(SourceError, match=r"no such host can be asked .* `source.base_url`"):
        fetch(Coinbase(base_url="https://a..b", attempts=1))


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(tmp_path: Path) -> None:
    made = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1"
    command = [*made.split(), "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    met: list[Exception] = []

    def greet() -> None:
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True)
        except OSError as error:
            met.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        coinbase = Coinbase(base_url=f"https://127.0.0.1:{listener.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(SourceError, match=r"certificate cannot be trusted \(self.signed"):
            fetch(coinbase)
        assert time.monotonic() - began < 30
        thread.join()
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


# --- the test server itself ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"granularity": "120"}, 400, "Unsupported granularity"),
        (
            {
                "granularity": "3600",
                "start": format_instant(START),
                "end": format_instant(START + 300 * HOUR),
            },
            400,
            "granularity too small for the requested time range. "
            "Count of aggregations requested exceeds 300",
        ),
    ],
)
def test_the_server_refuses_as_coinbase_does(
    query: dict[str, str], status: int, message: str
) -> None:
    request = ex.Request("/products/BTC-USD/candles", query, {"User-Agent": "me"}, 0.0)
    assert CoinbaseAnswers(HELD)(request) == ex.Reply.json(status, {"message": message})


def test_the_server_ignores_a_start_without_an_end_and_a_client_without_a_name() -> None:
    query = {"granularity": "3600", "start": format_instant(START)}
    answers = CoinbaseAnswers(HELD)
    path = "/products/BTC-USD/candles"
    newest = answers(ex.Request(path, query, {"User-Agent": "me"}, 0.0))
    assert newest.body.startswith(f"[[{END - HOUR}, ".encode())
    assert newest.body.count(b"[") == 301
    nameless = answers(ex.Request(path, query, {}, 0.0))
    assert nameless == ex.Reply.json(400, {"message": "User-Agent header is required."})
