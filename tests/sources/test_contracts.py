"""Our sources keep the contract that anyone's must keep."""

import gzip
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import (
    BinanceArchive,
    CandleFile,
    CandleFrame,
    Ccxt,
    Coinbase,
    Simulator,
    Source,
)
from btc_datamodule.candles.series import Candles
from btc_datamodule.testing import SourceContract
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, CoinbaseAnswers, Exchange
from btc_datamodule.testing.series import without
from tests.factories import HOUR, candles_of

START = 1_577_836_800  # 2020-01-01T00:00:00Z
MONTHS: tuple[str | int, str | int] = ("2020-01-01", "2020-02-18T05:00")
OPTIONAL = ("quote_volume", "trades", "taker_buy_volume")
QUICK: dict[str, Any] = {"requests_per_second": 1000.0, "attempts": 3, "retry_wait": 0.01}


def hold(optional: tuple[str, ...] = ()) -> Candles:
    """Hours of ``MONTHS`` with holes: a bar, some bars, a whole day, more than a page."""
    whole = candles_of(START + HOUR * np.arange(48 * 24 + 5), optional=optional)
    holes = [(20, 21), (50, 55), (96, 120), (400, 720)]
    return without(whole, *((START + a * HOUR, START + b * HOUR) for a, b in holes))


class TestSimulator(SourceContract):
    interval = "1h"
    span = ("2009-12-20", "2010-02-03T07:00")  # from before its first bar
    refused = "7h"

    def make(self) -> Source:
        return Simulator(seed=3, no_trade=0.1, outages_per_year=100)


class TestSimulatorOfEther(SourceContract):
    interval = "5m"
    span = ("2009-12-31T20:00", "2010-01-08T01:00")

    def make(self) -> Source:
        return Simulator(seed=3, no_trade=0.1, outages_per_year=100, coin="ETH")


class TestSimulatorOfMinutes(SourceContract):
    interval = "1m"
    span = ("2021-03-01T22:00", "2021-03-03T01:00")

    def make(self) -> Source:
        return Simulator()


class TestCoinbase(SourceContract):
    span = MONTHS
    bars = hold()

    @pytest.fixture(autouse=True)
    def _exchange(self) -> Iterator[None]:
        with Exchange(CoinbaseAnswers(self.bars)) as self.exchange:
            yield

    def make(self) -> Source:
        return Coinbase(base_url=self.exchange.url, **QUICK)


class TestBinanceArchive(SourceContract):
    span = MONTHS
    bars = hold(OPTIONAL)

    @pytest.fixture(autouse=True)
    def _exchange(self) -> Iterator[None]:
        with Exchange(BinanceArchiveAnswers(self.bars)) as self.exchange:
            yield

    def make(self) -> Source:
        return BinanceArchive(base_url=self.exchange.url, **QUICK)


@pytest.mark.skipif(find_spec("ccxt") is None, reason="ccxt is not installed")
class TestCcxt(SourceContract):
    span = MONTHS
    bars = hold()

    @pytest.fixture(autouse=True)
    def _exchange(self) -> Iterator[None]:
        with Exchange(CoinbaseAnswers(self.bars)) as self.exchange:
            yield

    def make(self) -> Source:
        return Ccxt("coinbaseexchange", base_url=self.exchange.url, **QUICK)


class TestCandleFile(SourceContract):
    span = MONTHS
    bars = hold(OPTIONAL)

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "candles.csv"
        self.bars.to_polars().write_csv(self.path)

    def make(self) -> Source:
        return CandleFile(str(self.path))


class TestCandleFrame(SourceContract):
    span = MONTHS
    bars = hold(OPTIONAL)

    def make(self) -> Source:
        return CandleFrame(self.bars.to_polars())


class TestCandleFilesTogether(TestCandleFile):
    """Two files in one, by a list of their names."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.paths = [str(tmp_path / name) for name in ("a.parquet", "b.csv.gz")]
        frame = self.bars.to_polars()
        frame[:500].write_parquet(self.paths[0])
        Path(self.paths[1]).write_bytes(gzip.compress(frame[490:].write_csv().encode()))

    def make(self) -> Source:
        return CandleFile(self.paths)
