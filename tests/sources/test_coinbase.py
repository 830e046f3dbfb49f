"""Coinbase against a real HTTP server on this machine: what it stores, and how it takes trouble."""

import logging
import re
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import BTCDataError, CandleError, ConfigError, SourceError
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange, Fault
from tests.helpers import assert_same
from tests.sources.helpers import END, HELD, HOUR, ONE_PAGE, PAGE, START, candles_of, fetch, source

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

        @settings(max_examples=40)  # each example is a request
        @given(json_values | st.lists(st.lists(st.floats(0, 1e6), min_size=6, max_size=6)))
        def law(value: Any) -> None:
            content[0] = value
            with suppress(BTCDataError):
                assert [block.span for block in fetch(coinbase, ONE_PAGE)] == [ONE_PAGE]

        law()
