"""The exchange of the tests answers as Coinbase does."""

import pytest

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import CoinbaseAnswers
from tests.sources.helpers import END, HELD, HOUR, START

# --- the test server itself ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"granularity": "120"}, 400, "Unsupported granularity"),
        (
            {
                "granularity": "3600",
                "start": format_instant(START),
                "end": format_instant(START + 300 * HOUR),
            },
            400,
            "granularity too small for the requested time range. "
            "Count of aggregations requested exceeds 300",
        ),
    ],
)
def test_the_server_refuses_as_coinbase_does(
    query: dict[str, str], status: int, message: str
) -> None:
    request = ex.Request("/products/BTC-USD/candles", query, {"User-Agent": "me"}, 0.0)
    assert CoinbaseAnswers(HELD)(request) == ex.Reply.json(status, {"message": message})


def test_the_server_ignores_a_start_without_an_end_and_a_client_without_a_name() -> None:
    query = {"granularity": "3600", "start": format_instant(START)}
    answers = CoinbaseAnswers(HELD)
    path = "/products/BTC-USD/candles"
    newest = answers(ex.Request(path, query, {"User-Agent": "me"}, 0.0))
    assert newest.body.startswith(f"[[{END - HOUR}, ".encode())
    assert newest.body.count(b"[") == 301
    nameless = answers(ex.Request(path, query, {}, 0.0))
    assert nameless == ex.Reply.json(400, {"message": "User-Agent header is required."})
