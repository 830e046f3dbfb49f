"""Exchanges whose answers come in parts, and what a candle file must hold after their trouble."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule.audit.verify import verify_candles
from btc_datamodule.candles.series import OPTIONAL, Candles
from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.store.candle_file import read_header
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, CoinbaseAnswers, Exchange
from tests.factories import HOUR, candles_of
from tests.helpers import digest_of

DAY = 86_400


@dataclass(frozen=True)
class Case:
    """An exchange whose answers come in parts of equal length, asked one after the other.

    Attributes:
        source: the class of the source.
        held: what the exchange has: three parts.
        part: seconds in an answer.
        lead: requests before the one that a fault hits, counted from the start of a part.
        again: requests of a part that are made anew where its content is wrong.
    """

    source: type[Coinbase] | type[BinanceArchive]
    held: Candles
    part: int
    lead: int = 0
    again: int = 1

    @property
    def span(self) -> Span:
        return self.held.span

    def parts(self, first: int, count: int) -> Span:
        start = self.span[0] + first * self.part
        return start, min(start + count * self.part, self.span[1])

    def serve(self) -> Exchange:
        if self.source is Coinbase:
            return Exchange(CoinbaseAnswers(self.held))
        return Exchange(BinanceArchiveAnswers(self.held))

    def at(self, exchange: Exchange, **changes: Any) -> Coinbase | BinanceArchive:
        quick: dict[str, Any] = {
            "base_url": exchange.url,
            "requests_per_second": 5000.0,
            "retry_wait": 0.001,
            "attempts": 4,
        }
        if self.source is BinanceArchive:
            quick["downloads"] = 1
        return self.source(**{**quick, **changes})

    def asked(self, exchange: Exchange) -> list[int]:
        """The starts of the parts that were asked for."""
        if self.source is Coinbase:
            starts = [request.query["start"] for request in exchange.requests]
        else:
            names = [request.path.removesuffix(".CHECKSUM") for request in exchange.requests]
            starts = [name.removesuffix(".zip")[-10:] for name in names]
        return sorted({parse_instant(start) for start in starts})


COINBASE = Case(Coinbase, ex.random_walk("2020-01-01", bars=750, interval=HOUR), part=300 * HOUR)
FIRST = parse_instant("2020-01-05")
DAYS = candles_of(np.arange(FIRST, FIRST + 3 * DAY, HOUR), optional=OPTIONAL)
ZIP = Case(BinanceArchive, DAYS, part=DAY, lead=1, again=2)
CHECKSUM = Case(BinanceArchive, DAYS, part=DAY, lead=0, again=2)
CASES = {"coinbase page": COINBASE, "binance zip": ZIP, "binance checksum": CHECKSUM}
EXCHANGES = {"coinbase": COINBASE, "binance": ZIP}

in_each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
at_each_exchange = pytest.mark.parametrize("case", EXCHANGES.values(), ids=EXCHANGES.keys())


def assert_whole(path: Path, wanted: Candles) -> None:
    """The file holds what is wanted, agrees with itself, and nothing else lies about."""
    assert read_header(path).digest == digest_of(wanted)
    assert verify_candles(path) == []  # the candles are those of the digest, among others
    assert {file.name for file in path.parent.iterdir()} <= {"candles.h5", "candles.lock"}


def assert_nothing_half_written(path: Path, before: bytes) -> list[Path]:
    """The file is as it was; what was answered since lies beside it, whole."""
    assert path.read_bytes() == before
    assert verify_candles(path) == []
    assert list(path.parent.rglob("*.tmp")) == []
    kept = sorted(path.with_suffix(".parts").glob("*"))
    assert [verify_candles(part) for part in kept] == [[] for _ in kept]
    return kept


Lines = list[bytes]


def publish(answers: BinanceArchiveAnswers, day: str, edit: Callable[[Lines], Lines]) -> None:
    """Put a file in the archive whose rows are edited, with a checksum that fits."""
    name = f"BTCUSDT-1h-{day}.zip"
    lines = edit(answers.csv(name).splitlines(keepends=True))
    answers.files[name] = ex.zipped(name.replace(".zip", ".csv"), b"".join(lines))
