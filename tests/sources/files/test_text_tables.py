"""CSV files of every shape: headers, banners, names of columns, broken lines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule.errors import CandleError, SourceError
from tests.sources.files.helpers import (
    HEADER,
    HOUR,
    ORDER,
    T0,
    TIME,
    TRADES,
    VALUES,
    csv_text,
    expect_bars,
    read,
    write,
)

# ---------------------------------------------------------------------------- one file, any shape


@pytest.mark.parametrize("name", ["bars.csv", "bars.csv.gz", "BARS.CSV", "a [1] b.csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_gives_the_exact_values_of_its_text(tmp_path: Path, name: str, end: str) -> None:
    text = HEADER.replace("\n", end) + csv_text(end=end)
    expect_bars(read(write(tmp_path / name, text)).candles)
    expect_bars(read(write(tmp_path / name, text.rstrip())).candles)
    expect_bars(read(write(tmp_path / name, "\ufeff" + text + end)).candles)


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ("kraken", ("open", "high", "low", "close", "volume", "trades")),
        ("bitfinex", ("open", "close", "high", "low", "volume")),
        ("coinbase", ("low", "high", "open", "close", "volume")),
        (["open_time", "volume", "ignore", *ORDER[:4]], ("volume", "other", *ORDER[:4])),
        (["open_time", "volume", "", *ORDER[:4]], ("volume", "other", *ORDER[:4])),
    ],
)
def test_columns_names_what_a_file_without_header_does_not(
    tmp_path: Path, columns: Any, names: tuple[str, ...]
) -> None:
    values = {**VALUES, "trades": TRADES, "other": [9, 9, 9]}
    rows = zip(TIME, *(values[name] for name in names), strict=True)
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    candles = read(write(tmp_path / "a.csv", text), columns=columns).candles
    expect_bars(candles, **({"trades": TRADES} if "trades" in names else {}))
    banner = read(write(tmp_path / "b.csv", "https://example.com\n" + text), columns=columns)
    expect_bars(banner.candles, **({"trades": TRADES} if "trades" in names else {}))


@pytest.mark.parametrize("columns", [None, "binance"])
def test_klines_without_header_are_known_by_their_close_time(
    tmp_path: Path, columns: str | None
) -> None:
    bars = [line.partition(",")[2] for line in csv_text().splitlines()]
    paid = [87500.0, 0.0, 7e-5]
    text = "".join(
        f"{t}000,{bars[i]},{t + 3599}999,{paid[i]},{i + 7},0.25,8,0\n" for i, t in enumerate(TIME)
    )
    expect_bars(
        read(write(tmp_path / "a.csv", text), columns=columns).candles,
        quote_volume=paid,
        trades=[7, 8, 9],
        taker_buy_volume=[0.25] * 3,
    )


# --------------------------------------------------------------------------------- header, banner


@pytest.mark.parametrize("banner", ["", "https://www.x.com\n", "Times are UTC,https://x.com\n"])
@pytest.mark.parametrize(
    "names",
    [
        "unix,open,high,low,close,volume btc",
        "Unix Timestamp,Open,High,Low,Close,Volume_(BTC)",
        "Timestamp,OPEN,HIGH,LOW,CLOSE,Vol",
        '"time","open","high","low","close","Volume"',
        " Date , Open , High , Low , Close , Volume ",
        "day,open_price,high price,lowPrice,close,VOLUME",
        "datetime,open,high,low,close,volume",
        "openTime,open,high,low,close,volume",
    ],
)
def test_header_names_are_known_by_their_aliases(tmp_path: Path, banner: str, names: str) -> None:
    expect_bars(read(write(tmp_path / "a.csv", f"{banner}{names}\n{csv_text()}")).candles)


@pytest.mark.parametrize(
    ("column", "alias"),
    [
        *(("quote_volume", a) for a in ("Volume USD", "volume usdt", "Volume_(Currency)")),
        *(("quote_volume", a) for a in ("quote_volume", "quote asset volume")),
        *(("trades", a) for a in ("tradecount", "count", "Trades", "number_of_trades")),
        *(("taker_buy_volume", a) for a in ("taker_buy_volume", "taker_buy_base")),
        ("taker_buy_volume", "taker buy base asset volume"),
    ],
)
def test_an_optional_column_is_known_by_its_aliases_and_may_be_empty(
    tmp_path: Path, column: str, alias: str
) -> None:
    lines = csv_text().splitlines()
    extra = ["87500.5", "NULL", ""]
    text = "".join(f"{line},BTC/USD,{x}\n" for line, x in zip(lines, extra, strict=True))
    path = write(tmp_path / "a.csv", f"{HEADER.strip()},symbol,{alias}\n{text}")
    expect_bars(read(path).candles, **{column: [87500.5, np.nan, np.nan]})


def test_btc_and_usd_volumes_are_told_apart_in_either_order(tmp_path: Path) -> None:
    rows = [f"{t},7000,7000,7000,7000,14000,2\n" for t in TIME]
    path = write(
        tmp_path / "a.csv", "unix,open,high,low,close,Volume USD,Volume BTC\n" + "".join(rows)
    )
    candles = read(path).candles
    assert candles["volume"].tolist() == [2] * 3
    assert candles["quote_volume"].tolist() == [14000] * 3


def test_a_numeric_time_wins_over_a_date_in_words(tmp_path: Path) -> None:
    lines = [f"2020-01-01 0{i}-AM,{line}" for i, line in enumerate(csv_text().splitlines())]
    for names in ("time,unix", "timestamp,date"):
        header = f"{names},open,high,low,close,volume\n"
        expect_bars(read(write(tmp_path / "a.csv", header + "\n".join(lines))).candles)


def test_a_last_line_cut_in_half_is_an_error_and_not_a_hole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + csv_text() + f"{T0 + 4 * HOUR}")
    with pytest.raises(CandleError, match=r"a\.csv, row 5: 1 fields instead of 6: '1577851200'"):
        read(path)


def test_a_short_and_a_long_row_do_not_make_up_for_each_other(tmp_path: Path) -> None:
    lines = csv_text().splitlines()
    text = "\n".join([lines[0] + ",1", lines[1].rpartition(",")[0], lines[2]])
    with pytest.raises(CandleError, match=r"row 2: 7 fields instead of 6"):
        read(write(tmp_path / "a.csv", HEADER + text))


def test_a_comma_in_quotes_in_a_column_left_out_is_no_new_field(tmp_path: Path) -> None:
    lines = [f'{line},"BTC,USD"\n' for line in csv_text().splitlines()]
    path = write(tmp_path / "a.csv", HEADER.strip() + ",symbol\n" + "".join(lines))
    expect_bars(read(path).candles)


def test_columns_must_fit_the_file_and_overrule_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", csv_text())
    with pytest.raises(SourceError, match="the file has 6 columns and `columns` names 7"):
        read(path, columns="kraken")
    write(path, "a,open,close,high,low,b\n" + csv_text())
    order = ["open_time", *ORDER]
    expect_bars(read(path, columns=order).candles)
    names = {"a": "open_time", "close": "high", "high": "low", "low": "close", "b": "volume"}
    expect_bars(read(path, columns=names).candles)
    expect_bars(read(path, columns={new: old for old, new in names.items()}).candles)
    with pytest.raises(
        SourceError, match="`columns` names 'c', which the file does not have: it has a,"
    ):
        read(path, columns={"c": "volume"})
