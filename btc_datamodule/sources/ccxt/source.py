"""Candles of any exchange that the ``ccxt`` library knows, without a key; an extra.

``client`` asks an exchange and says what may go wrong; ``paging`` finds a way through
its answers on which no bar is lost and no hole invented. Importing this module is cheap: ``ccxt``
(0.7 s) loads when blocks are asked for.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source, check_path_part
from btc_datamodule.sources.ccxt.client import Market, open_exchange
from btc_datamodule.sources.ccxt.paging import LEAST, Walk
from btc_datamodule.sources.web.manners import Manners


@public
@dataclass(frozen=True)
class Ccxt(Source):
    """An exchange through ``ccxt``: ``pip install ccxt``.

    Takes no key, and nothing else that is secret.

    Attributes:
        exchange: ccxt's id of the exchange, such as "kraken".
        symbol: the market as ccxt writes it: "BTC/USD", or "BTC/USDT:USDT" for a swap.
        page: bars per request; None for as many as ccxt says that the exchange gives.
        base_url: scheme and host in place of those of the exchange's interfaces, whose paths stay:
            a mirror; https, or http to this machine.
        requests_per_second: at most; None for the pace that ccxt keeps for the exchange.
        timeout: seconds until an answer brings content, and that it may stand still after that.
        attempts: requests made for a page before giving up.
        retry_wait: seconds before the first retry; doubles with each. A ``Retry-After`` of the
            service goes before it.
        drop_invalid: leave out bars that are no candles, with a note, in place of an error.
        longest_wait: seconds that the service may ask to wait for (``Retry-After``); asked for
            longer, it is an error at once.
        longest_answer: seconds that one request may take in all, however its answer comes; None
            for ten times ``timeout``.

    Raises:
        ConfigError: naming the argument that cannot be used.
    """

    name: ClassVar[str] = "ccxt"
    first: ClassVar[int] = parse_instant("2010-07-17")  # the first market for Bitcoin opened

    exchange: str
    symbol: str = "BTC/USD"
    page: int | None = None
    base_url: str | None = None
    requests_per_second: float | None = None
    timeout: float = 20.0
    attempts: int = 8
    retry_wait: float = 1.0
    drop_invalid: bool = False
    longest_wait: float = 3600.0
    longest_answer: float | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]{1,40}", self.exchange):
            raise ConfigError(
                f"exchange {self.exchange!r} is no id of ccxt's: write it as ccxt does, such as "
                "kraken"
            )
        if not re.fullmatch(r"[!-~]{1,60}", self.symbol):
            raise ConfigError(
                f"symbol {self.symbol!r} is no market of ccxt's: write it as ccxt does, such as "
                "BTC/USD"
            )
        check_path_part(self.series, "symbol")
        if self.page is not None and self.page < LEAST:
            raise ConfigError(f"page must be at least {LEAST} bars, not {self.page}")
        _ = self.manners  # which refuses what cannot be used

    @property
    def manners(self) -> Manners:
        """How the service is asked, checked."""
        return Manners.of(self)

    def hurry(self) -> Self:
        """This source with little patience; see ``Source.hurry``."""
        return replace(self, **self.manners.hurry())

    @property
    def series(self) -> str:
        """Exchange and symbol: "kraken-BTC-USD"; "BTC/USDT:USDT" becomes "BTC-USDT_USDT".

        Any other sign becomes "." and its two hexadecimal digits: no two symbols share a folder.
        """
        safe = {"/": "-", ":": "_"}
        symbol = re.sub(r"[^A-Za-z0-9]", lambda m: safe.get(m[0], f".{ord(m[0]):02x}"), self.symbol)
        return f"{self.exchange}-{symbol}"

    def list_intervals(self) -> tuple[int, ...]:
        """Bar lengths that the exchange offers, as ccxt knows them: nothing is asked for.

        Raises:
            ConfigError: if ccxt is not installed, or does not know the exchange.
        """
        market = self._open_market()
        try:
            return market.list_intervals()
        finally:
            market.close()

    def _open_market(self) -> Market:
        manners = self.manners
        client = open_exchange(self.exchange, manners)
        return Market(client, self.exchange, self.symbol, self.page, manners)

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield blocks of a page, or of a hole and the page after it, in order of time.

        They end before ``span`` does where the exchange has no bar yet, nor any later one.

        Raises:
            ConfigError: if ccxt is not installed, or does not know the exchange.
            SourceError: if the exchange does not know the symbol or the interval, refuses the
                request, cannot be reached, does not reach back to the start of ``span``, or
                answers in a way that leaves open what there is.
            CandleError: if a row is no candle, such as one with high < low.
        """
        if span[0] >= span[1]:
            return
        market = self._open_market()
        try:
            market.check(interval)
            yield from Walk(market, interval, span, self.drop_invalid).blocks()
        finally:
            market.close()
