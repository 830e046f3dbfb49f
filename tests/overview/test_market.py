"""What is looked at, in words."""

from pathlib import Path
from typing import Any

import pytest

from btc_datamodule import BinanceArchive, BTCDataModule, CandleFile, Ccxt, Coinbase, Simulator
from btc_datamodule.candles.timeline import parse_instant, parse_interval
from btc_datamodule.overview.market import Market, name_market, title_of, write_interval, write_span


@pytest.mark.parametrize(
    ("source", "name", "quote"),
    [
        (Coinbase(), "BTC-USD, 1 h bars of Coinbase", "USD"),
        (BinanceArchive(), "BTCUSDT, 1 h bars of Binance", "USDT"),
        (BinanceArchive(market="um"), "BTCUSDT, 1 h bars of Binance USD-M futures", "USDT"),
        (Ccxt("kraken", "BTC/EUR"), "BTC/EUR, 1 h bars of Kraken", "EUR"),
        (Simulator(seed=7), "BTC simulated (seed 7), 1 h bars", "USD"),
        (CandleFile("some/XBTUSD_60.csv"), "XBTUSD_60.csv, 1 h bars", "USD"),
        (CandleFile(["a/one.csv", "two.csv"]), "one.csv and 1 more, 1 h bars", ""),
        (CandleFile("x.csv", symbol="BTC/USDC"), "BTC/USDC, 1 h bars", "USDC"),
    ],
)
def test_a_market_is_named_as_people_name_it(source: Any, name: str, quote: str) -> None:
    market = name_market(BTCDataModule(source=source).settings)
    assert str(market) == name
    assert market.quote == quote
    assert market.price == f"price ({quote or 'quote currency'})"


def test_names_of_others_are_shown_in_one_short_line(tmp_path: Path) -> None:
    hostile = CandleFile(str(tmp_path / ("a\n\x1b[31m" + "b" * 90 + ".csv")))
    name = name_market(BTCDataModule(source=hostile).settings).name
    assert name.isprintable()
    assert len(name) < 80  # 60 and what is escaped
    assert isinstance(name_market(BTCDataModule().settings), Market)


def test_lengths_of_bars_have_units_that_nobody_takes_for_others() -> None:
    texts = {"1s": "1 s", "5m": "5 min", "1h": "1 h", "1d": "1 d", "1w": "7 d"}
    for given, shown in texts.items():
        assert write_interval(parse_interval(given)) == shown
    assert write_interval(parse_interval("1d", "8h")) == "1 d + 8 h"


def test_a_title_says_what_from_when_to_when() -> None:
    day = parse_instant("2020-01-01")
    years = (day, parse_instant("2024-01-01"))
    assert title_of(BTCDataModule(source=Coinbase()).settings, years) == (
        "BTC-USD, 1 h bars of Coinbase, 2020-01-01 to 2024-01-01"
    )
    assert write_span((day, day + 7200)) == "2020-01-01 00:00 to 2020-01-01 02:00 UTC"
