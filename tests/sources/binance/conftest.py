"""The archive for the tests of Binance, in place of the Coinbase of the other sources."""

from collections.abc import Iterator

import pytest

from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange
from tests.sources.binance.helpers import HELD


@pytest.fixture
def answers() -> BinanceArchiveAnswers:
    return BinanceArchiveAnswers(HELD)


@pytest.fixture
def exchange(answers: BinanceArchiveAnswers) -> Iterator[Exchange]:
    with Exchange(answers) as server:
        yield server
