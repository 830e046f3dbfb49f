"""ccxt's client of Coinbase at the exchange of the tests, for tests of what asks by way of it."""

from collections.abc import Sequence
from typing import Any

from btc_datamodule.candles.series import Candles, concatenate
from btc_datamodule.candles.timeline import Span
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.ccxt import client as ccxt_client
from btc_datamodule.sources.ccxt.source import Ccxt
from btc_datamodule.testing.exchange import Exchange
from tests.helpers import assert_same
from tests.sources.helpers import END, HOUR, START


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
