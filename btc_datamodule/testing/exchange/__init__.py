"""An exchange on this machine: real HTTP over the loopback, and trouble on demand.

Three parts that know nothing of each other:

- an *answer* says what an exchange replies to a request when all is well (``CoinbaseAnswers``,
  ``BinanceArchiveAnswers``); another exchange is another function from ``Request`` to ``Reply``;
  ``first_found`` joins several, such as those of candles and of funding rates;
- a *fault* spoils one reply on its way out: another status, silence, a cut wire, changed rows;
- ``Exchange`` is the server that joins them. It keeps every request in ``requests``, and spoils
  one reply for each entry of ``faults`` (``None`` lets one pass), in order.

    with Exchange(CoinbaseAnswers(candles)) as exchange:
        exchange.faults += [TOO_MANY_REQUESTS, None, CUT]
        Coinbase(base_url=exchange.url, ...)
"""

from btc_datamodule.testing.exchange.binance import (
    FUNDING_HEADER,
    KLINE_HEADER,
    METRICS_HEADER,
    NO_SUCH_KEY,
    BinanceArchiveAnswers,
    first_found,
    zipped,
)
from btc_datamodule.testing.exchange.coinbase import CoinbaseAnswers
from btc_datamodule.testing.exchange.faults import (
    BANNED,
    CUT,
    CUT_SHORT,
    DUPLICATED_ROWS,
    EMPTY_DEFLATE_BLOCKS,
    EMPTY_GZIP_BLOCKS,
    EMPTY_PAGE,
    ENDLESS,
    ENDLESS_EXTENSION,
    ENDLESS_GZIP_NAME,
    ENDLESS_HEADERS,
    ENDLESS_HINTS,
    ENDLESS_TRAILERS,
    EVERY_OTHER_ROW,
    HALF_A_PAGE,
    HTML_PAGE,
    ROWS_OUT_OF_RANGE,
    SERVER_ERROR,
    SHUFFLED_ROWS,
    SLOW_HEADER,
    SLOW_STATUS,
    TOO_MANY_REQUESTS,
    UNAVAILABLE,
    Cut,
    CutShort,
    Dated,
    EditBody,
    EditRows,
    Endless,
    Fault,
    Instead,
    Packed,
    Rows,
    Silence,
    Stale,
    Trickle,
    Wire,
    gzip_bomb,
    in_unit,
    malformed,
    oversized,
    redirect,
    too_many_requests,
)
from btc_datamodule.testing.exchange.messages import Answer, Reply, Request
from btc_datamodule.testing.exchange.server import Exchange
from btc_datamodule.testing.series import random_walk, without

__all__ = [
    "BANNED",
    "CUT",
    "CUT_SHORT",
    "DUPLICATED_ROWS",
    "EMPTY_DEFLATE_BLOCKS",
    "EMPTY_GZIP_BLOCKS",
    "EMPTY_PAGE",
    "ENDLESS",
    "ENDLESS_EXTENSION",
    "ENDLESS_GZIP_NAME",
    "ENDLESS_HEADERS",
    "ENDLESS_HINTS",
    "ENDLESS_TRAILERS",
    "EVERY_OTHER_ROW",
    "FUNDING_HEADER",
    "HALF_A_PAGE",
    "HTML_PAGE",
    "KLINE_HEADER",
    "METRICS_HEADER",
    "NO_SUCH_KEY",
    "ROWS_OUT_OF_RANGE",
    "SERVER_ERROR",
    "SHUFFLED_ROWS",
    "SLOW_HEADER",
    "SLOW_STATUS",
    "TOO_MANY_REQUESTS",
    "UNAVAILABLE",
    "Answer",
    "BinanceArchiveAnswers",
    "CoinbaseAnswers",
    "Cut",
    "CutShort",
    "Dated",
    "EditBody",
    "EditRows",
    "Endless",
    "Exchange",
    "Fault",
    "Instead",
    "Packed",
    "Reply",
    "Request",
    "Rows",
    "Silence",
    "Stale",
    "Trickle",
    "Wire",
    "first_found",
    "gzip_bomb",
    "in_unit",
    "malformed",
    "oversized",
    "random_walk",
    "redirect",
    "too_many_requests",
    "without",
    "zipped",
]
