"""``Manners``: which may be asked how, and what is refused when they are made."""

import pytest

from btc_datamodule.errors import ConfigError
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.sources.web.manners import Manners


@pytest.mark.parametrize(
    "url", ["http://api.exchange.coinbase.com", "http://10.0.0.1", "http://127.0.0.1.example.com"]
)
def test_plain_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="without encryption: write https://"):
        Coinbase(base_url=url)
    with pytest.raises(ConfigError, match="without encryption"):
        Manners(url, requests_per_second=1)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://127.8.0.1", "http://localhost", "http://[::1]:80"]
)
def test_plain_http_to_this_machine_is_allowed(url: str) -> None:
    assert Coinbase(base_url=url).base_url == url
