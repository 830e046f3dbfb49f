"""Fixtures for pytest: import them in your ``conftest.py``."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from btc_datamodule.candles.series import Candles
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange


@pytest.fixture
def fake_exchange() -> Iterator[Callable[[Candles], Exchange]]:
    """Start an exchange on 127.0.0.1 that answers as Coinbase does, from given candles.

    The fixture is a function from candles to an ``Exchange``. That has its address in ``url``, all
    that was asked in ``requests``, and in ``faults`` what shall go wrong, one entry a request:

        def test_my_client_tries_again(fake_exchange, tmp_path):
            exchange = fake_exchange(my_candles)
            exchange.faults += [TOO_MANY_REQUESTS, None, CUT]
            dm = BTCDataModule(source=Coinbase(base_url=exchange.url), data_dir=str(tmp_path))

    The faults, and how to answer as another exchange does, are in ``testing.exchange``. The
    exchange stops with the test.
    """
    with ExitStack() as stack:
        yield lambda candles: stack.enter_context(Exchange(CoinbaseAnswers(candles)))
