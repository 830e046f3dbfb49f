"""Binance's archive on a server of this machine, for tests of what asks there."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from btc_datamodule.candles.series import OPTIONAL, Candles, concatenate
from btc_datamodule.candles.timeline import Span, floor_to, parse_instant
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange
from tests.factories import HOUR, candles_of

DAY = 86_400


def bars(start: str | int, end: str | int, interval: int = HOUR) -> Candles:
    """Candles with every optional column for [start, end)."""
    times = np.arange(parse_instant(start), parse_instant(end), interval)
    return candles_of(times, interval, optional=OPTIONAL)


HELD = bars("2020-01-01", "2020-04-01")
MONTHS = ["2020-01", "2020-02", "2020-03"]
JANUARY_5 = "BTCUSDT-1h-2020-01-05.zip"
DAY_5 = (parse_instant("2020-01-05"), parse_instant("2020-01-06"))
CSV = BinanceArchiveAnswers(HELD).csv(JANUARY_5)
ZIP = ex.zipped("BTCUSDT-1h-2020-01-05.csv", CSV)


def source(exchange: Exchange, **changes: Any) -> BinanceArchive:
    """The archive at the test server, with waits that tests can afford."""
    quick: dict[str, Any] = {"requests_per_second": 5000.0, "attempts": 3, "retry_wait": 0.01}
    return BinanceArchive(**{"base_url": exchange.url, **quick, **changes})


def fetch(
    exchange: Exchange, span: Span = HELD.span, interval: int = HOUR, **changes: Any
) -> list[Block]:
    return list(source(exchange, **changes).blocks(interval, span))


def candles_in(blocks: list[Block]) -> Candles:
    return concatenate([block.candles for block in blocks])


def span_of(start: str, end: str) -> Span:
    return parse_instant(start), parse_instant(end)


def asked(exchange: Exchange) -> list[str]:
    """The dates of the zips that were asked for, in order of time; checksums have their own."""
    names = [request.path.rsplit("/", 1)[1] for request in exchange.requests]
    return sorted(re.sub(r"BTCUSDT-\w+?-|\.zip", "", name) for name in names if name.endswith("ip"))


def notes_of(blocks: list[Block]) -> list[str]:
    return [note for block in blocks for note in block.notes]


def serve_lines(
    answers: BinanceArchiveAnswers,
    edit: Callable[[list[bytes]], list[bytes]],
    name: str = JANUARY_5,
) -> None:
    """Serve ``name`` with its rows edited, and a checksum that fits."""
    lines = edit(answers.csv(name).splitlines(keepends=True))
    answers.files[name] = ex.zipped(name.replace(".zip", ".csv"), b"".join(lines))


# --- days without a file ------------------------------------------------------------------------

TODAY = floor_to(time.time(), DAY)


# --- several at a time --------------------------------------------------------------------------


def downloading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("binance")]
