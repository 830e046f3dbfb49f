"""Coinbase's answers on a server of this machine, for tests of what asks there."""

from typing import Any

from btc_datamodule.candles.series import Candles, concatenate
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import Exchange

HOUR = 3600
HELD = ex.random_walk("2020-01-01", bars=700, interval=HOUR)
START, END = HELD.span
PAGE = 300 * HOUR
ONE_PAGE = (START, START + PAGE)


def source(exchange: Exchange, **changes: Any) -> Coinbase:
    """Coinbase at the test server, with waits that tests can afford."""
    quick: dict[str, Any] = {"requests_per_second": 1000.0, "attempts": 4, "retry_wait": 0.01}
    return Coinbase(**{"base_url": exchange.url, **quick, **changes})


def fetch(coinbase: Coinbase, span: tuple[int, int] = (START, END)) -> list[Block]:
    return list(coinbase.blocks(HOUR, span))


def candles_of(blocks: list[Block]) -> Candles:
    return concatenate([block.candles for block in blocks])
