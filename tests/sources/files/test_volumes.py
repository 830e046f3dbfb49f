"""Which volume is which: what the prices and the header tell, and what neither does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Block
from tests.sources.files.helpers import HOUR, T0, read, write

DAY = 86_400
PRICE = 8000.0
COINS = [12.5, 3.25, 100.0, 0.5, 7.75, 42.0]


def load(folder: Path, header: str, *columns: list[float], interval: int = HOUR,
         price: float = PRICE, **fields: Any) -> Block:  # fmt: skip
    """Bars that open and close at one price, with these columns of volumes."""
    rows = [
        f"{T0 + i * interval},{price},{price * 1.01},{price * 0.99},{price},"
        + ",".join(map(str, values))
        for i, values in enumerate(zip(*columns, strict=True))
    ]
    text = f"time,open,high,low,close,{header}\n" + "\n".join(rows) + "\n"
    return read(write(folder / "a.csv", text), interval, **fields)


def paid(coins: list[float], price: float = PRICE) -> list[float]:
    return [n * price for n in coins]


def volumes(block: Block) -> tuple[list[float], list[float]]:
    return block.candles["volume"].tolist(), block.candles["quote_volume"].tolist()


# --------------------------------------------------------------------------------- two volumes


@pytest.mark.parametrize("names", ["volume,quote_volume", "Volume BTC,Volume USD", "v,turnover",
                                   "volumefrom,volumeto", "amount,value"])  # fmt: skip
def test_two_volumes_whose_ratio_is_the_price_are_taken_without_a_note(
    tmp_path: Path, names: str
) -> None:
    block = load(tmp_path, names, COINS, paid(COINS))
    assert volumes(block) == (COINS, paid(COINS))
    assert block.notes == ()


@pytest.mark.parametrize("names", ["volume,quote_volume", "Volume BTC,Volume USD", "volume,volto"])
def test_swapped_columns_are_put_right_with_a_note(tmp_path: Path, names: str) -> None:
    block = load(tmp_path, names, paid(COINS), COINS)
    assert volumes(block) == (COINS, paid(COINS))
    one, two = names.split(",")
    assert block.notes == (
        f"a.csv: volume is {two} and quote_volume {one}, as their ratio is the price of each bar",
    )


def test_swapped_rows_are_put_right_and_counted(tmp_path: Path) -> None:
    both = [COINS[:2] + paid(COINS[2:]), paid(COINS[:2]) + COINS[2:]]
    block = load(tmp_path, "Volume BTC,Volume USD", *both)
    assert volumes(block) == (COINS, paid(COINS))
    assert block.notes == (
        "a.csv: Volume BTC and Volume USD were swapped in 4 of 6 rows, the first bar 3: their "
        "ratio is the price only the other way round",
    )


def test_a_row_in_which_nothing_was_traded_tells_nothing(tmp_path: Path) -> None:
    coins = [0.0, *COINS[1:]]
    assert volumes(load(tmp_path, "volume,quote_volume", paid(coins), coins)) == (
        coins, paid(coins),
    )  # fmt: skip
    nothing = [0.0] * 6
    block = load(tmp_path, "volume,quote_volume", nothing, nothing)
    assert volumes(block) == (nothing, nothing)
    assert block.notes == ()


def test_rounded_volumes_fit_as_far_as_their_last_decimal_allows(tmp_path: Path) -> None:
    coins = [0.01, 0.02, 0.01, 0.03, 0.02, 0.01]
    dollars = [64.0, 192.0, 112.0, 200.0, 176.0, 119.0]  # 0.005 coins too few or too many
    block = load(tmp_path, "volume,quote_volume", coins, dollars)
    assert volumes(block) == (coins, dollars)
    assert block.notes == ()


def test_a_few_odd_rows_are_kept_with_a_note(tmp_path: Path) -> None:
    coins = COINS * 4
    dollars = [1.0, *paid(coins)[1:]]
    block = load(tmp_path, "volume,quote_volume", coins, dollars)
    assert volumes(block) == (coins, dollars)
    assert (
        "in 1 of 24 rows quote_volume / volume is not the price, the first bar 1"
        in (block.notes[0])
    )


def test_an_unknown_volume_beside_a_known_one_stays_unknown(tmp_path: Path) -> None:
    dollars = [float("nan"), *paid(COINS)[1:]]
    block = load(tmp_path, "volume,quote_volume", COINS, dollars)
    assert block.candles["volume"].tolist() == COINS
    np.testing.assert_array_equal(block.candles["quote_volume"], dollars)
    block = load(tmp_path, "volume,quote_volume", COINS, [float("nan")] * 6)
    assert block.candles["volume"].tolist() == COINS


# ---------------------------------------------------------------------------------- contracts


def test_contracts_are_an_error_whose_two_pieces_of_advice_work(tmp_path: Path) -> None:
    contracts = [n * 100 for n in COINS]
    with pytest.raises(SourceError) as caught:
        load(tmp_path, "volume,turnover", contracts, paid(COINS))
    told = str(caught.value)
    assert "turnover / volume is not the price in 6 of 6 rows (of bar 1 it is 80, the bar's" in told
    assert '`columns: {"volume": volume, "turnover": ignore}` in coins' in told
    assert '`columns: {"turnover": quote_volume, "volume": ignore}` in the quote currency' in told
    coins = {"volume": "volume", "turnover": "ignore"}
    block = load(tmp_path, "volume,turnover", contracts, paid(COINS), columns=coins)
    assert block.candles["volume"].tolist() == contracts
    assert "quote_volume" not in block.candles.columns
    quote = {"turnover": "quote_volume", "volume": "ignore"}
    block = load(tmp_path, "volume,turnover", contracts, paid(COINS), columns=quote)
    assert block.candles["volume"] == pytest.approx(COINS)
    assert block.candles["quote_volume"].tolist() == paid(COINS)


def test_of_three_volumes_the_two_that_fit_the_price_are_taken(tmp_path: Path) -> None:
    contracts = [n * 100 for n in COINS]
    block = load(tmp_path, "vol,vol_ccy,vol_quote", contracts, COINS, paid(COINS))
    assert volumes(block) == (COINS, paid(COINS))
    assert "volume is vol_ccy and quote_volume vol_quote" in block.notes[0]


def test_contracts_beside_an_amount_of_money_are_not_taken_for_coins(tmp_path: Path) -> None:
    """OKX and others call the money amount; the ratio, 80, is the price of no bar."""
    contracts = [n * 100 for n in COINS]
    try:
        block = load(tmp_path, "volume,amount", contracts, paid(COINS))
    except SourceError:
        return
    assert block.candles["volume"] == pytest.approx(COINS)


# ---------------------------------------------------------------------------- only one volume


def test_a_lone_quote_volume_is_divided_by_the_price_with_a_note(tmp_path: Path) -> None:
    block = load(tmp_path, "Volume USD", paid(COINS))
    assert block.candles["quote_volume"].tolist() == paid(COINS)
    assert block.candles["volume"] == pytest.approx(COINS)
    assert block.notes == ("a.csv: volume is Volume USD / the mean of open, high, low and close",)


@pytest.mark.parametrize("hint", ["Adj Close", "Market Cap", "marketCap", "Marketcap"])
def test_a_header_that_tells_of_dollars_converts_a_lone_volume(tmp_path: Path, hint: str) -> None:
    dollars = [2e7] * 6
    block = load(tmp_path, f"Volume,{hint}", dollars, [8000.0] * 6, interval=DAY)
    assert block.candles["quote_volume"].tolist() == dollars
    assert block.candles["volume"] == pytest.approx([2500] * 6)
    assert f"in dollars, not coins (as files with '{hint}' give it)" in block.notes[0]
    advice = {"Volume": "volume"}
    block = load(tmp_path, f"Volume,{hint}", dollars, [8000.0] * 6, interval=DAY, columns=advice)
    assert block.candles["volume"].tolist() == dollars
    assert block.notes == ()


def test_no_market_trades_a_tenth_of_all_bitcoins_a_day(tmp_path: Path) -> None:
    dollars = [2.4e9, 0.0, 4.8e9, 2.4e9, 2.4e9, 2.4e9]
    block = load(tmp_path, "volume", dollars, interval=DAY)
    assert block.candles["quote_volume"].tolist() == dollars
    assert block.candles["volume"] == pytest.approx([3e5, 0, 6e5, 3e5, 3e5, 3e5])
    assert (
        "volume is in dollars, not coins (as coins they were 2,400,000,000 a day"
        in (block.notes[0])
    )


@pytest.mark.parametrize("a_day", [10.0, 3e5, 7.6e5, 1.9e6])
def test_volumes_that_may_be_coins_stay_coins(tmp_path: Path, a_day: float) -> None:
    block = load(tmp_path, "volume", [a_day / 24] * 6)
    assert block.candles["volume"].tolist() == [a_day / 24] * 6
    assert block.notes == ()


@pytest.mark.parametrize(
    ("price", "a_day"),
    [(0.15, 8e8), (1e-5, 1e13), (0.5, 5e8), (2.0, 5e8), (200.0, 3e6), (150.0, 8e6), (60.0, 4e6)],
    ids=["DOGE", "SHIB", "XRP", "XRP 2025", "ETH 2020", "SOL", "LTC"],
)
def test_volumes_of_cheaper_coins_stay_coins(tmp_path: Path, price: float, a_day: float) -> None:
    block = load(tmp_path, "volume", [a_day] * 6, interval=DAY, price=price)
    assert block.candles["volume"].tolist() == [a_day] * 6


def test_volumes_of_noughts_and_unknown_ones_are_left_as_they_are(tmp_path: Path) -> None:
    block = load(tmp_path, "volume,Adj Close", [0.0] * 6, [8000.0] * 6, interval=DAY)
    assert block.candles["volume"].tolist() == [0.0] * 6
    block = load(tmp_path, "volume", [float("nan")] * 6)
    assert "volume" not in block.candles.columns


@pytest.mark.parametrize(
    "name", ["vol_btc", "btc_volume", "Vol. BTC", "volume_24h", "Volumen", "tradeVolume"]
)
def test_a_volume_by_another_name_is_not_lost_in_silence(tmp_path: Path, name: str) -> None:
    told: list[str] = []
    try:
        block = load(tmp_path, name, COINS)
        told += block.notes
        if "volume" in block.candles.columns:
            assert block.candles["volume"].tolist() == COINS
            return
    except SourceError as error:
        told.append(str(error))
    assert any(name in text for text in told)


@pytest.mark.parametrize("names", ["Volume ETH,Volume BTC", "Volume ETH,Volume USD"])
def test_the_volume_of_another_coin_is_read_as_coins(tmp_path: Path, names: str) -> None:
    block = load(tmp_path, names, COINS, paid(COINS, 0.05), price=0.05)
    assert block.candles["volume"].tolist() == COINS
    assert block.candles["quote_volume"] == pytest.approx(paid(COINS, 0.05))
