"""Any exchange through ccxt: what the real client of Coinbase brings, and the arguments."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule.candles.series import concatenate
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.errors import CandleError, ConfigError, SourceError
from btc_datamodule.sources.ccxt.source import Ccxt
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange, Reply, Request
from tests.helpers import assert_same
from tests.sources.ccxt.helpers import assert_tiles, fetch, source
from tests.sources.helpers import END, HELD, HOUR, START

pytest.importorskip("ccxt")

# --- what it brings -----------------------------------------------------------------------------


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


def test_a_row_that_is_no_candle_is_named_and_can_be_left_out(exchange: Exchange) -> None:
    bad = ex.malformed([START + 5 * HOUR, None, 2.0, 1.5, 1.5, 3.0])
    exchange.faults.extend([None, None, bad])
    with pytest.raises(CandleError, match=r"T05:00:00Z.*low is not.*`source.drop_invalid: true`"):
        fetch(source(exchange, page=10), (START, START + 8 * HOUR))
    exchange.faults.extend([None, None, bad])
    blocks = fetch(source(exchange, page=10, drop_invalid=True), (START, START + 8 * HOUR))
    assert START + 5 * HOUR not in blocks[0].candles.open_time
    assert "1 rows that are no candles were left out" in blocks[0].notes[0]


def test_bars_of_an_exchange_that_tells_no_volume_have_none() -> None:
    answers = CoinbaseAnswers(HELD)

    def without_volume(request: Request) -> Reply:
        reply = answers(request)
        if not request.path.endswith("/candles"):
            return reply
        return Reply.json(200, [[*row[:5], None] for row in json.loads(reply.body)])

    with Exchange(without_volume) as exchange:
        blocks = fetch(source(exchange), (START, START + 200 * HOUR))
    candles = concatenate([block.candles for block in blocks])
    assert "volume" not in candles.columns
    assert candles["close"].tolist() == HELD["close"][:200].tolist()


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
