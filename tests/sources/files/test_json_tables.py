"""JSON as exchanges, programs and pandas write it: each gives the same three bars."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import CandleError, SourceError
from btc_datamodule.sources.files.json_tables import looks_like_json, read_json
from tests.sources.files.helpers import HOUR, ORDER, TIME, VALUES, expect_bars, read, write

MS = [t * 1000 for t in TIME]
ISO = [format_instant(t) for t in TIME]
PAID = [87506.25, 0.0, 7e-5]
QUOTED = {"quote_volume": PAID}


def rows(time: list[Any], *names: str, more: tuple[list[Any], ...] = (), text: bool = False) -> Any:
    """Rows as lists: the time, these columns, more columns."""
    columns = [VALUES[name] for name in names]
    told = [[str(v) for v in values] for values in columns] if text else columns
    return [list(row) for row in zip(time, *told, *more, strict=True)]


def objects(time: list[Any], names: str, *more: list[Any], text: bool = False) -> Any:
    """Rows as objects: names of the time, of the columns of ``ORDER``, and of more columns."""
    keys = names.split(",")
    lists = rows(time, *ORDER, more=more, text=text)
    return [dict(zip(keys, row, strict=True)) for row in lists]


def columns(time: list[Any], names: str) -> dict[str, list[Any]]:
    keys = names.split(",")
    return dict(zip(keys, [time, *(VALUES[name] for name in ORDER)], strict=True))


def load(folder: Path, content: Any, **fields: Any) -> Any:
    text = content if isinstance(content, str) else json.dumps(content)
    return read(write(folder / "a.json", text), **fields)


KRAKEN = [[t, *map(str, (o, h, low, c, 7000, v)), n] for t, o, h, low, c, v, n in zip(
    TIME, *(VALUES[name] for name in ORDER), [3, 0, 1], strict=True)]  # fmt: skip
KLINES = [[*row, t + HOUR * 1000 - 1, str(q), 7, "0.25", "1", "0"] for row, t, q in zip(
    rows(MS, *ORDER, text=True), MS, PAID, strict=True)]  # fmt: skip
LONG = "id,time,open,high,low,close,volume"

ANSWERS: dict[str, tuple[Any, dict[str, Any], dict[str, list[float]]]] = {
    "freqtrade": (rows(MS, *ORDER), {}, {}),
    "ccxt": (rows(MS, *ORDER), {"columns": ["open_time", *ORDER]}, {}),
    "Bitfinex": (rows(MS, "open", "close", "high", "low", "volume")[::-1], {"columns":
                 "bitfinex"}, {}),
    "Coinbase": (rows(TIME, "low", "high", "open", "close", "volume"), {}, {}),
    "Coinbase Advanced": ({"candles": objects(
        [str(t) for t in TIME], "start,open,high,low,close,volume", text=True)}, {}, {}),
    "Bittrex 2": ({"success": True, "message": "", "result": objects(
        [t[:-1] for t in ISO], "T,O,H,L,C,V,BV", PAID)}, {}, QUOTED),
    "Bittrex 3": (objects(ISO, "startsAt,open,high,low,close,volume,quoteVolume", PAID, text=True),
                  {}, QUOTED),
    "CryptoCompare": ({"Response": "Success", "HasWarning": False, "Data": {
        "Aggregated": False, "TimeFrom": TIME[0], "Data": objects(
            TIME, "time,open,high,low,close,volumefrom,volumeto", PAID)}}, {}, QUOTED),
    "Binance": (KLINES, {}, {**QUOTED, "trades": [7] * 3, "taker_buy_volume": [0.25] * 3}),
    "Kraken": ({"error": [], "result": {"XXBTZUSD": KRAKEN, "last": TIME[-1]}}, {"columns": [
        "open_time", *ORDER[:4], "ignore", "volume", "trades"]}, {"trades": [3, 0, 1]}),
    "Bybit": ({"retCode": 0, "result": {"symbol": "BTCUSD", "list": rows(
        [str(t) for t in MS], *ORDER, more=([str(p) for p in PAID],), text=True)[::-1]}}, {},
        QUOTED),
    "OKX": ({"code": "0", "msg": "", "data": rows(
        [str(t) for t in MS], *ORDER, more=(PAID, PAID, ["1"] * 3), text=True)[::-1]}, {}, QUOTED),
    "Bitstamp": ({"data": {"pair": "BTC/USD", "ohlc": objects(
        [str(t) for t in TIME], "timestamp,open,high,low,close,volume", text=True)}}, {}, {}),
    "UDF": ({"s": "ok", **columns(TIME, "t,o,h,l,c,v")}, {}, {}),
    "columns by names": (columns(ISO, "date,open,high,low,close,volume"), {}, {}),
    "a header in the first list": ([["time", *ORDER], *rows(TIME, *ORDER)], {}, {}),
    "objects that lack a column": (
        [dict(row, trades=n) if n else row for row, n in zip(
            objects(TIME, "time,open,high,low,close,volume"), [0, 8, 9], strict=True)],
        {}, {"trades": [float("nan"), 8, 9]}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ANSWERS))
def test_the_answer_of_each_service_gives_its_bars(tmp_path: Path, name: str) -> None:
    content, fields, more = ANSWERS[name]
    expect_bars(load(tmp_path, content, **fields).candles, **more)


def test_the_answer_of_kraken_is_never_read_with_its_mean_price_as_volume(tmp_path: Path) -> None:
    content, _, more = ANSWERS["Kraken"]
    try:
        block = load(tmp_path, content)
    except SourceError:
        return
    expect_bars(block.candles, **more)


# ----------------------------------------------------------------------------------- pandas


def frame(*, named: bool) -> pd.DataFrame:
    table = pd.DataFrame({name: VALUES[name] for name in ORDER})
    table.index = pd.to_datetime(pd.Series(TIME), unit="s").rename("date" if named else None)
    return table


@pytest.mark.parametrize("orient", ["columns", "index", "split", "records", "table", "values"])
@pytest.mark.parametrize("named", [True, False])
def test_every_way_in_which_pandas_writes_a_frame_is_read(
    tmp_path: Path, orient: str, named: bool
) -> None:
    table = frame(named=named)
    if orient in ("records", "values"):
        table = table.reset_index(names="date")
    text = table.to_json(orient=orient, date_format="iso", double_precision=15)
    expect_bars(load(tmp_path, text).candles if orient != "values" else load(
        tmp_path, text, columns=["open_time", *ORDER]).candles)  # fmt: skip


def test_one_object_a_line_is_read_and_so_is_a_counted_index(tmp_path: Path) -> None:
    table = frame(named=True).reset_index()
    options: dict[str, Any] = {"date_format": "iso", "double_precision": 15}
    expect_bars(load(tmp_path, table.to_json(orient="records", lines=True, **options)).candles)
    lines = write(tmp_path / "a.jsonl", table.to_json(orient="records", lines=True, **options))
    expect_bars(read(lines).candles)
    for orient in ("columns", "index", "split"):
        expect_bars(load(tmp_path, table.to_json(orient=orient, **options)).candles)


def test_of_several_markets_in_columns_of_pandas_the_chosen_one_is_read(tmp_path: Path) -> None:
    table = pd.concat({"BTC-USD": frame(named=True), "ETH-USD": frame(named=True) * 0.05}, axis=1)
    text = table.to_json(orient="split", date_format="iso", double_precision=15)
    with pytest.raises(SourceError, match="several markets"):
        load(tmp_path, text)
    expect_bars(load(tmp_path, text, symbol="BTC-USD").candles)


# ------------------------------------------------------------------- nothing lost in silence


def test_two_markets_in_one_answer_are_an_error_or_the_chosen_one(tmp_path: Path) -> None:
    names = "t,o,h,l,c,v"
    ether = [dict(row, o=1, h=1, l=1, c=1) for row in objects(ISO, names)]
    content = {"bars": {"ETH/USD": ether, "BTC/USD": objects(ISO, names)}}
    with pytest.raises(SourceError, match="BTC/USD"):
        load(tmp_path, content)
    expect_bars(load(tmp_path, content, symbol="BTC/USD").candles)


def test_pages_of_one_series_are_never_cut_to_the_longest(tmp_path: Path) -> None:
    told = rows(TIME, *ORDER)
    for content in ({"2020-01": told[:1], "2020-02": told[1:]}, [{"data": told[:1]}, {
            "data": told[1:]}]):  # fmt: skip
        try:
            block = load(tmp_path, content, columns=["open_time", *ORDER])
        except SourceError:
            continue
        expect_bars(block.candles)


def test_a_column_shorter_than_the_others_is_not_left_out_in_silence(tmp_path: Path) -> None:
    content = columns(TIME, "t,o,h,l,c,v")
    content["v"] = content["v"][:2]
    with pytest.raises((SourceError, CandleError)):
        load(tmp_path, content)


def test_answers_one_a_line_are_joined_or_an_error_of_ours(tmp_path: Path) -> None:
    told = rows(TIME, *ORDER)
    text = json.dumps(told[:1]) + "\n" + json.dumps(told[1:])
    try:
        block = load(tmp_path, text, columns=["open_time", *ORDER])
    except (SourceError, CandleError):
        pass
    else:
        expect_bars(block.candles)
    with pytest.raises((SourceError, CandleError)):
        load(tmp_path, json.dumps([[[1, 2]] * 6, [[1, 2]] * 6]))


def test_one_time_spelled_small_and_large_opens_when_the_small_one_says(tmp_path: Path) -> None:
    """In streams of Binance and others t is when a bar opens and T when it closes."""
    shut = [t + HOUR for t in TIME]
    content = [{"T": end, **row} for end, row in zip(
        shut, objects(TIME, "t,o,h,l,c,v"), strict=True)]  # fmt: skip
    expect_bars(load(tmp_path, content).candles)


# ------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "there is no table of candles in this JSON"),
        ("{}", "there is no table of candles in this JSON"),
        ('{"error":["EGeneral:Too many requests"],"result":{}}', "there is no table of candles"),
        ("[1, 2, 3]", "there is no table of candles in this JSON"),
        ('[[1577836800,1,1,1,1,1],[157', "damaged, or not JSON"),
        ('{"t":[1', "damaged, or not JSON"),
        ("[" * 100_000, "damaged, or not JSON"),
        ("[[1577836800,1,1,1,1,1],[1]]", "row 2: 1 values instead of 6: [1]"),
        ('[{"time":1577836800,"open":1,"high":1,"low":1}]', "no column close"),
        ('{"s":"no_data","t":[],"o":[],"h":[],"l":[],"c":[],"v":[]}', "a.json"),
    ],
)  # fmt: skip
def test_what_holds_no_bars_is_one_line_that_says_so(
    tmp_path: Path, content: str, problem: str
) -> None:
    with pytest.raises((SourceError, CandleError)) as caught:
        load(tmp_path, content)
    assert problem in str(caught.value)
    assert "a.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_that_no_type_holds_is_an_error_of_its_row(tmp_path: Path) -> None:
    content = rows(TIME, *ORDER)
    content[1][0] = 10**30
    with pytest.raises(CandleError, match=r"a\.json, row 2: open_time 1"):
        load(tmp_path, content, columns=["open_time", *ORDER])


def test_json_is_known_by_its_first_sign() -> None:
    assert looks_like_json(b"\xef\xbb\xbf\r\n [1]")
    assert looks_like_json(b'{"a": 1}')
    assert not looks_like_json(b"time,open\n")


def test_names_and_values_stay_as_they_stand() -> None:
    table = read_json(
        b'{"b": 1, "data": [{"open": 1, "high": "2", "low": null, "close": 3.5}]}', "a"
    )
    assert table.names == ["open", "high", "low", "close"]
    assert [table.frame[f"{i}"].to_list() for i in range(4)] == [[1], ["2"], [None], [3.5]]
