"""Which column is which: by what the user says, by names with more in them, by content."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files.naming import Roles, find_roles
from btc_datamodule.sources.files.raw import RawTable, make_frame
from tests.sources.files.helpers import HEADER, ORDER, TIME, csv_text, expect_bars, read, write

ROWS = csv_text().splitlines()
PRICES = ORDER[:4]


def put(folder: Path, header: str, *more: list[Any]) -> Path:
    """The three bars under this header, with more columns after them."""
    rows = [",".join([line, *(str(v[i]) for v in more)]) for i, line in enumerate(ROWS)]
    return write(folder / "a.csv", header + "\n" + "\n".join(rows) + "\n")


def roles(columns: dict[str, list[Any]], said: Any = None, **fields: Any) -> Roles:
    table = RawTable(list(columns), make_frame([pl.Series(v) for v in columns.values()]))
    return find_roles(table, said, "a.csv", **fields)


# -------------------------------------------------------------------- names with more in them


@pytest.mark.parametrize(
    "header",
    [
        "time,open_BTCUSDT,high_BTCUSDT,low_BTCUSDT,close_BTCUSDT,volume_BTCUSDT",
        "time,BTC-USD.Open,BTC-USD.High,BTC-USD.Low,BTC-USD.Close,BTC-USD.Volume",
        "Time,Open (USD),High (USD),Low (USD),Close (USD),Volume (BTC)",
        "Date,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME",
        "timestamp,quote.USD.open,quote.USD.high,quote.USD.low,quote.USD.close,quote.USD.volume",
        "candle_begin_time,btc open,btc high,btc low,btc close,btc volume",
        "time_period_start,price_open,price_high,price_low,price_close,volume_traded",
        "Gmt time,Open,High,Low,Close,Volume",
        "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
    ],
)
def test_a_market_or_a_unit_in_the_names_is_read_past(tmp_path: Path, header: str) -> None:
    expect_bars(read(put(tmp_path, header)).candles)


@pytest.mark.parametrize(
    ("top", "below"),
    [("Price,Open,High,Low,Close,Volume", "Ticker" + ",BTC-USD" * 5),
     ("Ticker" + ",BTC-USD" * 5, "Price,Open,High,Low,Close,Volume")],
)  # fmt: skip
@pytest.mark.parametrize("third", ["", "Datetime,,,,,\n"])
def test_header_lines_of_several_levels_are_joined(
    tmp_path: Path, top: str, below: str, third: str
) -> None:
    path = write(tmp_path / "a.csv", f"{top}\n{below}\n{third}{csv_text()}")
    expect_bars(read(path).candles)


def test_a_line_of_units_under_the_header_costs_no_column(tmp_path: Path) -> None:
    header = "time,open,high,low,close,volume\ns,USD,USD,USD,USD,BTC"
    expect_bars(read(put(tmp_path, header)).candles)


def test_plain_names_win_over_names_with_more_in_them() -> None:
    columns: dict[str, list[Any]] = {
        "time": TIME,
        **{name: [1.0] * 3 for name in PRICES},
        "adj_close": [2.0] * 3,
        "prev_close": [3.0] * 3,
        "open_interest": [4] * 3,
        "close_time": TIME,
    }
    assert roles(columns).prices == {name: i + 1 for i, name in enumerate(PRICES)}
    assert roles(columns).time == (0,)


def test_the_close_of_the_day_before_is_never_the_close() -> None:
    columns: dict[str, list[Any]] = {
        "time": TIME,
        "opening_price": [1.0] * 3,
        "high_price": [2.0] * 3,
        "low_price": [0.5] * 3,
        "trade_price": [1.5] * 3,
        "prev_closing_price": [1.0] * 3,
    }
    try:
        found = roles(columns).prices["close"]
    except SourceError:
        return
    assert found == 4


def test_a_close_time_is_no_market_of_its_own() -> None:
    columns: dict[str, list[Any]] = {
        "open_time": TIME,
        **{f"{name}_BTC": [1.0] * 3 for name in ORDER},
        "close_time": [t + 3599 for t in TIME],
    }
    assert roles(columns).prices["close"] == 4


# --------------------------------------------------------------------------- several markets


@pytest.mark.parametrize(
    ("names", "symbol"),
    [("{1}_{0}", "btc"), ("{0}_{1}", "btc"), ("{1}.{0}", "BTC"), ("('{0}', '{1}')", "BTC"),
     ("{0} | {1}", "btc")],
)  # fmt: skip
def test_of_several_markets_one_must_be_chosen(names: str, symbol: str) -> None:
    columns: dict[str, list[Any]] = {"time": TIME}
    for market in ("eth", "btc"):
        columns |= {names.format(name, market): [1.0] * 3 for name in ORDER}
    with pytest.raises(SourceError) as caught:
        roles(columns)
    assert "it holds columns of several markets (eth, btc): choose one, such as `symbol: eth`" in (
        str(caught.value)
    )
    found = roles(columns, symbol=symbol)
    assert (found.prices["open"], found.volumes) == (6, (10,))
    with pytest.raises(SourceError, match="none of its columns is of `symbol` 'doge'"):
        roles(columns, symbol="doge")


def test_rows_of_several_markets_must_be_chosen_and_the_choice_is_read(tmp_path: Path) -> None:
    both = [f"{line},{market}" for line in ROWS for market in ("BTC/USD", "ETH/USD")]
    path = write(tmp_path / "a.csv", HEADER.strip() + ",symbol\n" + "\n".join(both))
    with pytest.raises(SourceError) as caught:
        read(path)
    told = "it holds rows of several series, BTC/USD, ETH/USD in column symbol: choose one, such as"
    assert f"{told} `symbol: BTC/USD`" in str(caught.value)
    for spelled in ("BTC/USD", "btcusd", "BTC-USD"):
        expect_bars(read(path, symbol=spelled).candles)
    with pytest.raises(SourceError, match="no row is of `symbol` 'DOGE': there are"):
        read(path, symbol="DOGE")


def test_one_market_spelled_in_two_ways_is_one(tmp_path: Path) -> None:
    path = put(tmp_path, HEADER.strip() + ",symbol", ["BTC/USD", "BTCUSD", "btc-usd"])
    expect_bars(read(path).candles)


@pytest.mark.parametrize("label", ["exchange", "venue", "interval", "timeframe", "period"])
def test_rows_of_several_exchanges_or_intervals_are_refused(tmp_path: Path, label: str) -> None:
    path = put(tmp_path, f"{HEADER.strip()},{label}", ["x", "y", "x"])
    with pytest.raises(
        SourceError, match=f"several series, x, y in column {label}: make a file of"
    ):
        read(path)
    expect_bars(read(put(tmp_path, f"{HEADER.strip()},{label}", ["x"] * 3)).candles)


def test_symbol_for_a_file_that_has_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="it has no column of symbols: leave `symbol` out"):
        read(put(tmp_path, HEADER.strip()), symbol="BTC")


# --------------------------------------------------------------------------------- two of one


def test_two_columns_of_one_name_are_refused_and_the_advice_works(tmp_path: Path) -> None:
    path = put(tmp_path, HEADER.strip() + ",close", [1, 2, 3])
    with pytest.raises(SourceError) as caught:
        read(path)
    told = "2 columns may be close: say which, in `columns` as a list of the names of all columns"
    assert told in str(caught.value)
    expect_bars(read(path, columns=["open_time", *ORDER, "ignore"]).candles)


@pytest.mark.parametrize(
    ("first", "second"), [("unix", "date"), ("open_time", "close_time"), ("Open Time", "time")]
)
def test_of_two_times_the_one_that_opens_or_counts_is_taken(first: str, second: str) -> None:
    late = [t + 3599 for t in TIME] if second != "date" else ["2020-01-01"] * 3
    prices = {name: [1.0] * 3 for name in PRICES}
    assert roles({first: TIME, second: late, **prices}).time == (0,)
    assert roles({second: late, first: TIME, **prices}).time == (1,)


@pytest.mark.parametrize("names", ["date,date_utc", "datetime,datetime_utc", "Time (local),UTC"])
def test_a_time_that_names_utc_wins_over_one_that_does_not(names: str) -> None:
    local = ["2019-12-31 19:00", "2019-12-31 20:00", "2019-12-31 22:00"]
    utc = ["2020-01-01 00:00", "2020-01-01 01:00", "2020-01-01 03:00"]
    one, two = names.split(",")
    assert roles({one: local, two: utc, **{name: [1.0] * 3 for name in PRICES}}).time == (1,)


def test_a_date_and_a_time_of_day_are_the_time_together() -> None:
    prices = {name: [1.0] * 3 for name in PRICES}
    dates, clocks = ["2020-01-01"] * 3, ["00:00", "01:00", "03:00"]
    assert roles({"Date": dates, "Time": clocks, **prices}).time == (0, 1)
    assert roles({"Time": clocks, "Date": dates, **prices}).time == (1, 0)
    said = {"Time": "time", "Date": "date"}
    assert roles({"Time": clocks, "Date": dates, **prices}, said).time == (1, 0)
    assert roles({"a": dates, "b": clocks, **prices}, {"a": "date", "b": "time"}).time == (0, 1)


# -------------------------------------------------------------------------- times that close


@pytest.mark.parametrize(
    "name", ["close_time", "Close Time", "timeClose", "time_period_end", "end"]
)
def test_a_lone_time_of_closing_says_so(name: str) -> None:
    assert roles({name: TIME, **{n: [1.0] * 3 for n in PRICES}}).stamp == "close"


@pytest.mark.parametrize("name", ["open_time", "timeOpen", "start", "candle_begin_time", "bucket"])
def test_a_time_of_opening_says_so(name: str) -> None:
    assert roles({name: TIME, **{n: [1.0] * 3 for n in PRICES}}).stamp == "open"


def test_the_buckets_of_bitmex_are_known_by_their_names() -> None:
    prices = {name: [1.0] * 3 for name in PRICES}
    notional = {"homeNotional": [1.0] * 3, "foreignNotional": [1.0] * 3}
    assert roles({"timestamp": TIME, **prices, **notional}).stamp == "close"
    assert roles({"timestamp": TIME, **prices}).stamp is None


# ------------------------------------------------------------------------- the unnamed, the rest


def test_an_unnamed_column_is_the_time_or_a_count_of_rows(tmp_path: Path) -> None:
    expect_bars(read(put(tmp_path, ",open,high,low,close,volume")).candles)
    counted = [f"{i},{line}" for i, line in enumerate(ROWS)]
    for name in ("", "Unnamed: 0", "index"):
        text = f"{name},{HEADER}" + "\n".join(counted)
        expect_bars(read(write(tmp_path / "a.csv", text)).candles)


def test_columns_by_name_is_taken_in_both_directions_and_for_some_columns(tmp_path: Path) -> None:
    path = put(tmp_path, "when,open,high,low,settled,traded")
    with pytest.raises(SourceError, match="no column close"):
        read(path)
    said = {"when": "open_time", "settled": "close", "traded": "volume"}
    expect_bars(read(path, columns=said).candles)
    expect_bars(read(path, columns={new: old for old, new in said.items()}).candles)


def test_columns_leaves_out_what_it_ignores(tmp_path: Path) -> None:
    path = put(tmp_path, HEADER.strip() + ",trades", [1, 2, 3])
    assert "trades" in read(path).candles.columns
    expect_bars(read(path, columns={"trades": "ignore"}).candles)


def test_a_row_that_the_file_calls_unfinished_is_left_out(tmp_path: Path) -> None:
    for name, values in (("confirm", [1, 1, 0]), ("is_closed", ["True", "True", "False"])):
        block = read(put(tmp_path, f"{HEADER.strip()},{name}", values))
        assert block.candles.open_time.tolist() == TIME[:2]
        assert block.notes == ("a.csv: 1 bars that the file itself calls unfinished were left out",)


@pytest.mark.parametrize("name", ["Time (EST)", "Time (ET)", "time_et", "Time (UTC+8)", "GMT-05"])
def test_times_that_a_name_says_are_not_in_utc_want_their_zone(name: str) -> None:
    prices: dict[str, list[Any]] = {price: [1.0] for price in PRICES}
    columns = {name: ["2025-03-01 08:00"], **prices}
    said = ["open_time", *PRICES]
    with pytest.raises(SourceError, match="says that its times are not in UTC: set `timezone`"):
        roles(columns, said)
    for zone in ("UTC", "America/New_York"):
        assert roles(columns, said, timezone=zone).time == (0,)


@pytest.mark.parametrize("name", ["Time (UTC)", "gmt_time", "Time (UTC+00:00)", "latest", "et"])
def test_other_names_want_none(name: str) -> None:
    prices: dict[str, list[Any]] = {price: [1.0] for price in PRICES}
    columns = {name: ["2025-03-01 08:00"], **prices}
    assert roles(columns, ["open_time", *PRICES]).time == (0,)
