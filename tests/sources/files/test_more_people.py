"""Ten more exports of exchanges and programs, each with the bars that it means."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule.errors import SourceError
from tests.sources.files.helpers import HOUR, read

DAY = 86_400
NAMES = ("open", "high", "low", "close", "volume", "quote_volume", "trades")
START = 1740787200

# Hours from 2025-03-01 on, of Binance's BTCUSDT, and days that follow each other as these do.
BARS = [
    (84349.95, 84628.93, 83824.78, 83857.92, 636.60016, 53599194.4492667, 131136),
    (83857.91, 84870.68, 83845.86, 84656.93, 1147.78686, 96683386.7871548, 187988),
    (84656.93, 85678.11, 84358.34, 85240.46, 2313.11212, 196753110.676496, 284913),
]


def lines(form: str, header: str = "", step: int = HOUR, order: int = 1) -> str:
    """A text of the three bars: fields by name in ``form``, the time as t, d or e (its end)."""
    rows = []
    for i, bar in enumerate(BARS):
        time, names = START + i * step, ("o", "h", "l", "c", "v", "q", "n")
        days = [np.datetime64(t, "s").item() for t in (time, time + step)]
        rows.append(form.format(t=time, d=days[0], e=days[1], **dict(zip(names, bar, strict=True))))
    return "\n".join([header] * bool(header) + rows[::order]) + "\n"


HISTDATA = lines("{d:%Y%m%d %H%M%S};{o};{h};{l};{c};{v}")
KUCOIN = lines("{t},{o},{c},{h},{l},{v},{q}", "time,open,close,high,low,volume,turnover")
KAGGLE = lines(
    "{d:%Y-%m-%d %H:%M:%S.%f},{o},{h},{l},{c},{v},{e:%Y-%m-%d %H:%M:%S.%f},{q},{n},1,1,0",
    "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,"
    "Taker buy quote asset volume,Note,Ignore",
)
BCHARTS = lines(
    "{d:%Y-%m-%d},{o},{h},{l},{c},{v},{q},84000",
    "Date,Open,High,Low,Close,Volume (BTC),Volume (Currency),Weighted Price", DAY, -1,
)  # fmt: skip
ALPACA = lines(
    "BTC/USD,{d:%Y-%m-%d %H:%M:%S+00:00},{o},{h},{l},{c},{v},{n}.0,84000",
    "symbol,timestamp,open,high,low,close,volume,trade_count,vwap",
)
HITBTC = "[" + ",".join(
    lines(
        '{{"timestamp":"{d:%Y-%m-%dT%H:%M:%S}.000Z","open":"{o}","close":"{c}","min":"{l}",'
        '"max":"{h}","volume":"{v}","volumeQuote":"{q}"}}', order=-1,
    ).splitlines()
) + "]"  # fmt: skip
GERMAN = """sep=;
Date;Open;High;Low;Close;Vol
01.03.2025 00:00;84.349,95;84.628,93;83.824,78;83.857,92;636,60016
01.03.2025 01:00;83.857,91;84.870,68;83.845,86;84.656,93;1.147,78686
01.03.2025 02:00;84.656,93;85.678,11;84.358,34;85.240,46;2.313,11212
"""
ZOO = lines(
    '"{d:%Y-%m-%d}",{o},{h},{l},{c},{q:.0f},{c}',
    '"Index","BTC-USD.Open","BTC-USD.High","BTC-USD.Low","BTC-USD.Close","BTC-USD.Volume",'
    '"BTC-USD.Adjusted"', DAY,
)  # fmt: skip
MARKDOWN = lines(
    "|{d:%Y-%m-%d %H:%M}|{o}|{h}|{l}|{c}|{v}|",
    "| |Open|High|Low|Close|Volume|\n|:--|--:|--:|--:|--:|--:|",
)
SAVETXT = lines("{t:.18e},{o:.18e},{h:.18e},{l:.18e},{c:.18e},{v:.18e}",
                "# time,open,high,low,close,volume")  # fmt: skip

Q, N = {"quote_volume"}, {"quote_volume", "trades"}


@pytest.mark.parametrize(
    ("name", "text", "step", "more", "notes"),
    [
        ("HistData.txt", HISTDATA, HOUR, set(), ["has no header; the order of columns that its"]),
        ("KuCoin.csv", KUCOIN, HOUR, Q, []),
        ("Kaggle.csv", KAGGLE, HOUR, N, []),
        ("BCHARTS.csv", BCHARTS, DAY, Q, []),
        ("Alpaca.csv", ALPACA, HOUR, {"trades"}, []),
        ("HitBTC.json", HITBTC, HOUR, Q, []),
        ("German.csv", GERMAN, HOUR, set(), []),
        ("Markdown.txt", MARKDOWN, HOUR, set(), []),
        ("savetxt.csv", SAVETXT, HOUR, set(), []),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_an_export_gives_its_bars(
    tmp_path: Path, name: str, text: str, step: int, more: set[str], notes: list[str]
) -> None:
    (tmp_path / name).write_text(text)
    block = read(tmp_path / name, step)
    expect(block.candles, step, more)
    assert len(block.notes) == len(notes)
    assert all(told in note for told, note in zip(notes, block.notes, strict=True))


def expect(candles: Any, step: int, more: set[str]) -> None:
    assert candles.open_time.tolist() == [START + i * step for i in range(3)]
    assert set(candles.columns) == {"open_time", *NAMES[:5], *more}
    for name, values in zip(NAMES, zip(*BARS, strict=True), strict=True):
        if name in candles.columns:
            assert candles[name].tolist() == list(values), name


def test_quantmods_volume_of_yahoo_is_told_as_dollars(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ZOO)
    block = read(tmp_path / "a.csv", DAY)
    coins = [round(bar[5]) / np.mean(bar[:4]) for bar in BARS]
    assert block.candles["volume"] == pytest.approx(coins)
    assert block.candles["quote_volume"].tolist() == [round(bar[5]) for bar in BARS]
    assert "BTC-USD.Volume is in dollars, not coins" in block.notes[0]


def test_columns_of_alpha_vantage_in_two_currencies_are_chosen_by_symbol(tmp_path: Path) -> None:
    header = "timestamp," + ",".join(
        f"{name} ({unit})" for unit in ("EUR", "USD") for name in NAMES[:4]
    )
    header += ",volume,market cap (USD)"
    text = lines("{d:%Y-%m-%d},9,9,9,9,{o},{h},{l},{c},{v},{v}", header, DAY, -1)
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(
        SourceError, match=r"several markets \(\(EUR\), \(USD\)\): choose one, such"
    ):
        read(tmp_path / "a.csv", DAY)
    expect(read(tmp_path / "a.csv", DAY, symbol="USD").candles, DAY, set())


def test_bars_of_coinapi_open_at_the_start_of_their_period(tmp_path: Path) -> None:
    """Its time_open and time_close are those of the first trade and the last."""
    text = lines(
        "{d:%Y-%m-%dT%H:%M:%S}.0000000Z;{e:%Y-%m-%dT%H:%M:%S}.0000000Z;"
        "{d:%Y-%m-%dT%H:%M}:01.1230000Z;{d:%Y-%m-%dT%H}:59:58.9000000Z;{o};{h};{l};{c};{v};{n}",
        "time_period_start;time_period_end;time_open;time_close;price_open;price_high;price_low;"
        "price_close;volume_traded;trades_count",
    )
    (tmp_path / "a.csv").write_text(text)
    expect(read(tmp_path / "a.csv").candles, HOUR, {"trades"})


def test_bars_of_upbit_close_at_the_price_of_the_last_trade(tmp_path: Path) -> None:
    """Its prev_closing_price is that of the day before."""
    text = lines(
        "KRW-BTC,{d:%Y-%m-%dT%H:%M:%S},{o},{h},{l},{c},{q},{v},{o}",
        "market,candle_date_time_utc,opening_price,high_price,low_price,trade_price,"
        "candle_acc_trade_price,candle_acc_trade_volume,prev_closing_price", DAY,
    )  # fmt: skip
    (tmp_path / "a.csv").write_text(text)
    block = read(tmp_path / "a.csv", DAY)
    assert block.candles["close"].tolist() == [bar[3] for bar in BARS]


def test_volumes_in_contracts_of_a_future_never_become_dollars_for_certain(tmp_path: Path) -> None:
    """Gate.io: v counts contracts of 0.0001 BTC, sum is the money; the ratio is not the price."""
    rows = [
        {"t": START + i * HOUR, "v": int(v * 10_000), "c": f"{c}", "h": f"{h}", "l": f"{low}",
         "o": f"{o}", "sum": f"{q}"}
        for i, (o, h, low, c, v, q, _) in enumerate(BARS)
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows))
    try:
        block = read(tmp_path / "a.json")
    except SourceError:
        return
    if "quote_volume" in block.candles.columns:
        assert block.candles["quote_volume"].tolist() == [bar[5] for bar in BARS]
