"""An exchange on this machine for the tests of sources."""

from collections.abc import Iterator

import pytest

from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange
from tests.sources.helpers import HELD


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with Exchange(CoinbaseAnswers(HELD)) as server:
        yield server
