"""Candle files of every shape: exact values out of each, and an error that finds each fault."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, format_instant, parse_instant
from btc_datamodule.errors import CandleError, ConfigError, SourceError
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.files.source import CandleFile

HOUR = 3600
T0 = parse_instant("2020-01-01")
EVER: Span = (0, parse_instant("2030-01-01"))

TIME = [T0, T0 + HOUR, T0 + 3 * HOUR]
VALUES: dict[str, list[float]] = {
    "open": [7000.1, 7001.0, 7003.123456789],
    "high": [7010.25, 7001.5, 7100.0],
    "low": [6990.0, 6999.9, 7000.0],
    "close": [7001.0, 7000.3, 7099.99],
    "volume": [12.5, 0.0, 1e-8],
}
TRADES = [3.0, 0.0, 1.0]
ORDER = ("open", "high", "low", "close", "volume")


def read(path: Path | list[Path], interval: int = HOUR, end: int = EVER[1], **fields: Any) -> Block:
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    (block,) = CandleFile(paths, **fields).blocks(interval, (0, end))
    return block


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def csv_text(time: list[Any] = TIME, names: tuple[str, ...] = ORDER, end: str = "\n") -> str:
    rows = zip(time, *(VALUES[name] for name in names), strict=True)
    return "".join(",".join(str(value) for value in row) + end for row in rows)


def expect_bars(candles: Candles, **more: list[float]) -> None:
    """Exactly the three bars of this module, bit by bit, and no column more."""
    wanted = {**VALUES, **more}
    assert candles.open_time.dtype == np.int64
    assert candles.open_time.tolist() == TIME
    assert set(candles.columns) == {"open_time", *wanted}
    for name, values in wanted.items():
        assert candles[name].dtype == np.float64
        np.testing.assert_array_equal(candles[name], values, err_msg=name)


HEADER = "open_time,open,high,low,close,volume\n"


# ------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    ("path", "columns", "interval", "rows", "first", "last", "runs", "missing", "repeats"),
    [
        ("kraken/XBTUSD_60.csv", "kraken", HOUR, 70_253, "2013-10-06T21:00:00Z",
         "2023-01-07T09:00:00Z", 3_254, 10_856, 0),
        ("bitfinex_1m/BTCUSD_1m_2018.csv.gz", "bitfinex", 60, 520_499, "2018-01-01T00:00:00Z",
         "2018-12-31T23:59:00Z", 3_992, 5_101, 0),
        ("bitfinex_1m/BTCUSD_1m_*.csv.gz", "bitfinex", 60, 1_033_226, "2018-01-01T00:00:00Z",
         "2019-12-31T23:59:00Z", 3_992 + 9_955, 5_101 + 12_873, 0),
        ("binance_spot_1h/BTCUSDT-1h-2023-03.csv", None, HOUR, 743, "2023-03-01T00:00:00Z",
         "2023-03-31T23:00:00Z", 1, 1, 0),
        ("binance_spot_1h/BTCUSDT-1h-2024-12.csv", None, HOUR, 744, "2024-12-01T00:00:00Z",
         "2024-12-31T23:00:00Z", 0, 0, 0),
        ("binance_spot_1h/BTCUSDT-1h-2025-01.csv", None, HOUR, 744, "2025-01-01T00:00:00Z",
         "2025-01-31T23:00:00Z", 0, 0, 0),
        ("binance_um_5m/BTCUSDT-5m-2025-01.csv", None, 300, 8_928, "2025-01-01T00:00:00Z",
         "2025-01-31T23:55:00Z", 0, 0, 0),
        ("freqtrade/BTC_USDT-30m_2020-2025.feather", None, 1800, 87_602, "2020-09-20T00:00:00Z",
         "2025-09-19T23:00:00Z", 10, 45, 0),
        ("cryptodatadownload/Coinbase_BTCUSD_1h_2020-10.csv", None, HOUR, 29_061 - 5,
         "2017-07-01T11:00:00Z", "2020-10-24T07:00:00Z", 2, 5, 5),
        ("cryptodatadownload/Binance_BTCUSDT_1h_2020-12.csv", None, HOUR, 32_181 - 2_649,
         "2017-08-17T04:00:00Z", "2020-12-30T00:00:00Z", 4, 9, 2_649),
        ("coinbase/coinbase_api_daily_paged_2016-2024.csv", None, 86_400, 2_984 - 1,
         "2016-01-01T00:00:00Z", "2024-03-01T00:00:00Z", 0, 0, 1),
        ("kaggle/btcusd_1-min_data_first9999.csv", None, 60, 9_999, "2012-01-01T10:01:00Z",
         "2012-01-08T08:39:00Z", 0, 0, 0),
        ("dirty/coinbase_order_5m_page_dups.csv", "coinbase", 300, 24_216 - 83,
         "2019-01-04T16:00:00Z", "2019-03-29T17:00:00Z", 1, 72, 83),
    ],
)  # fmt: skip
def test_a_real_file_has_the_bars_and_the_holes_that_were_counted_in_it(
    real_data: Path,
    path: str,
    columns: str | None,
    interval: int,
    rows: int,
    first: str,
    last: str,
    runs: int,
    missing: int,
    repeats: int,
) -> None:
    block = read(real_data / path, interval, columns=columns)
    holes = block.candles.holes()
    assert len(block.candles) == rows
    assert format_instant(block.candles.open_time[0]) == first
    assert format_instant(block.candles.open_time[-1]) == last
    assert block.span == (parse_instant(first), parse_instant(last) + interval)
    assert len(holes) == runs
    assert (holes[:, 1] - holes[:, 0]).sum() == missing * interval
    assert len(block.notes) == (repeats > 0)
    assert all(f"{repeats} rows repeat an open time" in note for note in block.notes)


def test_real_prices_come_out_of_the_columns_they_stand_in(real_data: Path) -> None:
    bitfinex = read(real_data / "bitfinex_1m/BTCUSD_1m_2018.csv.gz", 60, columns="bitfinex")
    assert [bitfinex.candles[name][0] for name in ORDER] == [
        13763, 13788, 13752.18233851, 13753, 5.13326771,
    ]  # fmt: skip
    kline = read(real_data / "binance_spot_1h/BTCUSDT-1h-2025-01.csv").candles
    assert [kline[name][0] for name in ("quote_volume", "trades", "taker_buy_volume")] == [
        71068810.5594638, 93525, 421.08319,
    ]  # fmt: skip


# ---------------------------------------------------------------------------- one file, any shape


@pytest.mark.parametrize("name", ["bars.csv", "bars.csv.gz", "BARS.CSV", "a [1] b.csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_gives_the_exact_values_of_its_text(tmp_path: Path, name: str, end: str) -> None:
    text = HEADER.replace("\n", end) + csv_text(end=end)
    expect_bars(read(write(tmp_path / name, text)).candles)
    expect_bars(read(write(tmp_path / name, text.rstrip())).candles)
    expect_bars(read(write(tmp_path / name, "\ufeff" + text + end)).candles)


@pytest.mark.parametrize("suffix", [".feather", ".arrow", ".parquet"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_an_arrow_file_gives_its_instants_and_values(
    tmp_path: Path, suffix: str, unit: Any, zone: str | None
) -> None:
    time = (
        pl.Series("date", [t * 1000 for t in TIME]).cast(pl.Datetime("ms")).dt.cast_time_unit(unit)
    )
    if zone is not None:
        time = time.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    frame = pl.DataFrame([time, *(pl.Series(k.title(), v) for k, v in VALUES.items())])
    path = tmp_path / f"bars{suffix}"
    if suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_ipc(path)
    expect_bars(read(path).candles)


def test_arrow_streams_dates_and_texts_of_numbers_are_read(tmp_path: Path) -> None:
    days = pl.Series("day", [18262, 18263, 18265], dtype=pl.Int32).cast(pl.Date)
    frame = pl.DataFrame([days, *(pl.Series(k, map(str, v)) for k, v in VALUES.items())])
    frame.write_ipc_stream(tmp_path / "days.arrow")
    candles = read(tmp_path / "days.arrow", 86_400).candles
    assert candles.open_time.tolist() == [T0, T0 + 86_400, T0 + 3 * 86_400]
    np.testing.assert_array_equal(candles["open"], VALUES["open"])


def matrix() -> np.ndarray[Any, Any]:
    """The bars as one matrix in Coinbase's column order."""
    return np.array([TIME, *(VALUES[n] for n in ("low", "high", "open", "close", "volume"))]).T


def records() -> np.ndarray[Any, Any]:
    """The bars as records, big-endian and with texts for times, to be awkward."""
    made = np.zeros(3, [("Date", "S25"), *((k.title(), ">f8") for k in ORDER), ("Count", "<u2")])
    made["Date"] = [format_instant(t).encode() for t in TIME]
    for name in ORDER:
        made[name.title()] = VALUES[name]
    made["Count"] = TRADES
    return made


def test_an_hdf5_matrix_is_read_in_the_order_that_columns_says(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("BTC-USD/1h", data=matrix(), chunks=True, compression="gzip")
        file["BTC-USD/1d"] = np.zeros((4, 6))
    expect_bars(read(tmp_path / "a.h5", dataset="BTC-USD/1h", columns="coinbase").candles)
    expect_bars(read(tmp_path / "a.h5", dataset="/BTC-USD/1h/", columns="coinbase").candles)


def test_an_hdf5_compound_dataset_brings_its_own_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["bars"] = records()
    expect_bars(read(tmp_path / "a.hdf5").candles, trades=TRADES)
    expect_bars(read(tmp_path / "a.hdf5", dataset="bars").candles, trades=TRADES)


@pytest.mark.parametrize("group", ["/", "spot/BTC"])
def test_an_hdf5_group_of_columns_brings_its_own_names(tmp_path: Path, group: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        node = file.require_group(group)
        node["unix"] = np.array(TIME) * 1000
        for name in ORDER:
            node[name] = np.array(VALUES[name])
        node["comment"] = np.array(["a", "b", "c"], dtype=h5py.string_dtype())
    expect_bars(read(tmp_path / "a.h5").candles)
    expect_bars(read(tmp_path / "a.h5", dataset=group).candles)


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
    text = "".join(
        f"{t}000,{bars[i]},{t + 3599}999,{i}.5,{i + 7},0.25,8,0\n" for i, t in enumerate(TIME)
    )
    expect_bars(
        read(write(tmp_path / "a.csv", text), columns=columns).candles,
        quote_volume=[0.5, 1.5, 2.5],
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
    extra = ["5.5", "NULL", ""]
    text = "".join(f"{line},BTC/USD,{x}\n" for line, x in zip(lines, extra, strict=True))
    path = write(tmp_path / "a.csv", f"{HEADER.strip()},symbol,{alias}\n{text}")
    expect_bars(read(path).candles, **{column: [5.5, np.nan, np.nan]})


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


# ------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize(
    "time",
    [
        TIME,
        [f"{t}.0" for t in TIME],
        [f"{t}000" for t in TIME],
        [f"{t}000000" for t in TIME],
        [f"{t}000000000" for t in TIME],
        [f"{t}000.0" for t in TIME],
        [TIME[0], f"{TIME[1]}000", f"{TIME[2]}000000"],
        [f"{TIME[0]}000000000", f"{TIME[1]}.0", TIME[2]],
        ["2020-01-01", f"{TIME[1]}.0", TIME[2]],
        ["2020-01-01", "2020-01-01 01:00", "2020-01-01 03:00:00"],
        ["2020-01-01T00:00:00Z", "2020-01-01 01:00:00 UTC", "2020-01-01T03:00:00.000"],
        ["2020-01-01T02:00:00+02:00", "2019-12-31T17:30:00-0730", "2020-01-01 03:00:00+00:00"],
        [f" {TIME[0]} ", f'"{TIME[1]}"', f"{TIME[2]} "],
    ],
)
def test_every_spelling_and_unit_of_time_is_the_same_instant(
    tmp_path: Path, time: list[Any]
) -> None:
    expect_bars(read(write(tmp_path / "a.csv", HEADER + csv_text(time))).candles)


@given(
    st.lists(
        st.tuples(st.integers(1_230_768_000, 4_102_444_800), st.sampled_from([0, 3, 6, 9])),
        min_size=1,
        unique_by=lambda pair: pair[0],
    )
)
def test_units_mixed_in_any_way_give_the_same_seconds(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("units") / "a.csv"
    write(path, HEADER + "".join(f"{t * 10**power},1,1,1,1,1\n" for t, power in pairs))
    assert read(path, 1, 2**40).candles.open_time.tolist() == sorted(t for t, _ in pairs)


@pytest.mark.parametrize(
    ("time", "problem"),
    [
        (f"{TIME[1]}.5", f"open_time {TIME[1]}.5 is not on a whole second"),
        (f"{TIME[1]}001", f"open_time {TIME[1]}001 is not on a whole second"),
        (f"{TIME[1]}000001", f"open_time {TIME[1]}000001 is not on a whole second"),
        ("2020-01-01 01:00:00.25", "open_time 2020-01-01 01:00:00.25 is not on a whole second"),
        ("inf", "open_time inf is not on a whole second"),
        ("9" * 25, "is not on a whole second"),
        ("2020-01-01 25:00:00", "open_time is '2020-01-01 25:00:00', which is not a time"),
        ("2020-01-01 01-AM", "open_time is '2020-01-01 01-AM', which is not a time"),
        ("NaN", "there are prices and no time"),
        ("", "there are prices and no time"),
        (TIME[1] + 60, "the bar does not open on the 1h grid"),
    ],
)
def test_a_time_that_is_none_is_an_error_with_file_and_line(
    tmp_path: Path, time: Any, problem: str
) -> None:
    path = write(tmp_path / "odd.csv", "banner\n" + HEADER + csv_text([TIME[0], time, TIME[2]]))
    with pytest.raises(CandleError) as caught:
        read(path)
    assert str(caught.value).startswith("odd.csv, row 4")
    assert problem in str(caught.value)


def test_an_arrow_instant_between_two_seconds_is_an_error_with_its_row(tmp_path: Path) -> None:
    time = pl.Series("date", [TIME[0] * 1000, TIME[1] * 1000 + 1]).cast(pl.Datetime("ms"))
    ones = [pl.Series(name, [1.0, 1.0]) for name in ORDER]
    pl.DataFrame([time, *ones]).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(CandleError, match=r"a\.parquet, row 2: .* is not on a whole second"):
        read(tmp_path / "a.parquet")


# ------------------------------------------------------------------------- rows that are not bars


@pytest.mark.parametrize("nothing", ["", "NaN", "nan", "NULL"])
def test_rows_without_any_price_are_bars_without_trades_and_are_counted(
    tmp_path: Path, nothing: str
) -> None:
    hole = ",".join([f"{T0 + 2 * HOUR}", *[nothing] * 5])
    blank = ",".join([nothing] * 6)
    lines = csv_text().splitlines()
    text = "\n".join([lines[0], hole, blank, lines[1], blank, hole, "", lines[2]])
    block = read(write(tmp_path / "a.csv", HEADER + text))
    expect_bars(block.candles)
    assert block.notes == (
        "a.csv: 2 rows without any price were read as bars without trades",
        "a.csv: 3 rows with neither time nor prices were left out",
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"{TIME[1]},7000,,6990,7000,1", "some of open, high, low and close are not known"),
        (f"{TIME[1]},NaN,7001,6990,7000,1", "some of open, high, low and close are not known"),
        (f"{TIME[1]},,,,,1", "there is a volume and no price"),
        (",7000,7000,7000,7000,1", "there are prices and no time"),
        (f"{TIME[1]},7000,7000,7000,7000,NaN", "volume is not a number"),
        (f"{TIME[1]},7000,7000,7000,7000,", "volume is not a number"),
        (f"{TIME[1]},7000,6000,7000,7000,1", "high is below low"),
        (f"{TIME[1]},7000,7000,7000,7000,-1", "volume is negative"),
        (f"{TIME[1]},7000,7000,abc,7000,1", "low is 'abc', which is not a number"),
        (f'{TIME[1]},"7,000",7000,7000,7000,1', "open is '7,000', which is not a number"),
        (f"{TIME[1]},7000,7000,7000", "4 fields instead of 6"),
        (f"{TIME[1]}", "1 fields instead of 6"),
        (f"{TIME[1]},7000,7000,7000,7000,1,8", "7 fields instead of 6"),
        ("open_time,open,high,low,close,volume", "open_time is 'open_time', which is not a time"),
    ],
)
def test_a_row_that_makes_no_sense_is_an_error_with_file_and_line(
    tmp_path: Path, row: str, problem: str
) -> None:
    lines = csv_text().splitlines()
    text = HEADER + "\n".join([lines[0], "", row, lines[2]])
    with pytest.raises(CandleError) as caught:
        read(write(tmp_path / "odd.csv", text))
    assert str(caught.value).startswith("odd.csv, row 4")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_several_broken_rows_the_first_is_named(tmp_path: Path) -> None:
    text = f"{T0},1,1,1,1,1\n{T0},1,1,1,x,1\n{T0},1,y,1,1,1\nz,1,1,1,1,1\n"
    with pytest.raises(CandleError, match=r"a\.csv, row 3: close is 'x', which is not a number"):
        read(write(tmp_path / "a.csv", HEADER + text))


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


def test_repeated_and_unordered_rows_are_put_right_with_a_note(tmp_path: Path) -> None:
    lines = csv_text().splitlines()
    path = write(tmp_path / "a.csv", HEADER + "\n".join([lines[2], lines[0], lines[1], lines[0]]))
    block = read(path)
    expect_bars(block.candles)
    assert len(block.notes) == 1
    assert block.notes[0].startswith("a.csv: 1 rows repeat an open time")


# ------------------------------------------------------------------------------- span, files, name


def test_the_span_is_from_the_first_bar_to_the_close_of_the_last(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + csv_text())
    block = read(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert block.span == (T0, T0 + 4 * HOUR)
    assert (block.origin, block.checksum) == ("file a.csv", f"sha256:{digest}")
    assert block.notes == ()


def test_a_bar_that_is_not_closed_yet_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + csv_text() + f"{T0 + 4 * HOUR + 17},1,1,1,1,1\n")
    block = read(path, end=TIME[2])
    assert block.candles.open_time.tolist() == TIME[:2]
    assert block.span == (T0, T0 + 2 * HOUR)
    assert block.notes == ("a.csv: 2 bars that are not closed yet were left out",)
    assert len(read(path, end=TIME[2] + HOUR).candles) == 3
    with pytest.raises(SourceError, match=r"a\.csv: holds no closed bar: a\.csv: 4 bars"):
        read(path, end=T0)


def test_several_files_are_one_series_in_order_of_time(tmp_path: Path) -> None:
    lines = csv_text().splitlines()
    later = write(tmp_path / "b.csv", HEADER + lines[2])
    early = write(tmp_path / "c.csv.gz", HEADER + "\n".join(lines[:2]))
    write(tmp_path / "d.csv", "not read")
    block = read([later, early, later])
    expect_bars(block.candles)
    assert block.span == (T0, T0 + 4 * HOUR)
    assert [text.split(" sha")[0] for text in block.origin.split(", ")] == [
        "file b.csv",
        "file c.csv.gz",
    ]
    expect_bars(read(tmp_path / "[bc].csv*").candles)
    expect_bars(read(tmp_path.parent / f"{tmp_path.name}*" / "[bc].csv*").candles)


def test_where_files_overlap_the_note_says_how_much(tmp_path: Path) -> None:
    lines = csv_text().splitlines()
    one = write(tmp_path / "a.csv", HEADER + "\n".join(lines[:2]))
    header = HEADER.strip() + ",trades\n"
    two = write(tmp_path / "b.csv", header + f"{lines[1]},5\n{lines[2]},6\n")
    block = read([one, two])
    expect_bars(block.candles, trades=[np.nan, 5, 6])
    assert len(block.notes) == 1
    assert block.notes[0].startswith("2 files together: 1 rows repeat an open time")


def test_the_error_names_the_one_of_several_files_that_is_wrong(tmp_path: Path) -> None:
    good = write(tmp_path / "a.csv", HEADER + csv_text())
    bad = write(tmp_path / "b.csv", HEADER + f"{T0},1,1,1,1,x\n")
    with pytest.raises(CandleError, match=r"^b\.csv, row 2: volume is 'x'"):
        read([good, bad])


def test_bars_longer_than_asked_for_are_not_taken_for_holes(tmp_path: Path) -> None:
    rows = "".join(f"{T0 + i * HOUR},1,1,1,1,1\n" for i in range(100))
    path = write(tmp_path / "a.csv", HEADER + rows)
    assert len(read(path).candles) == 100
    with pytest.raises(SourceError, match=r"bars are 1h apart, not 1m: set `interval` to 1h"):
        read(path, 60)
    with pytest.raises(CandleError, match=r"a\.csv, row 3 .* does not open on the 1d grid"):
        read(path, 86_400)


def test_the_revision_changes_with_content_columns_and_dataset_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", csv_text())
    revision = CandleFile(str(path), columns=["open_time", *ORDER]).revision
    assert len(revision) == 64
    assert CandleFile(str(path), columns=["open_time", *ORDER]).revision == revision
    assert CandleFile(str(path), columns="bitfinex").revision != revision
    write(tmp_path / "a.csv", csv_text() + "\n")
    assert CandleFile(str(path), columns=["open_time", *ORDER]).revision != revision
    h5 = write(tmp_path / "a.h5", "anything")
    one, two = (CandleFile(str(h5), dataset=name).revision for name in ("x", "y"))
    assert one != two


def test_the_series_is_named_after_the_file_and_its_settings(tmp_path: Path) -> None:
    def series(path: str | list[str], **fields: Any) -> str:
        return CandleFile(path, **fields).series

    plain = series("data/XBTUSD_60.csv.gz")
    assert plain.startswith("XBTUSD_60-")
    assert len(plain) == len("XBTUSD_60-") + 8
    assert plain == series("data/../data/XBTUSD_60.csv.gz")
    others = {
        series("other/XBTUSD_60.csv.gz"),
        series("data/XBTUSD_60.csv.gz", columns="kraken"),
        series("data/XBTUSD_60.csv.gz", columns="binance"),
        series(["data/XBTUSD_60.csv.gz", "more.csv"]),
    }
    assert len({plain, *others}) == 5
    assert series("data/[x]*.csv").startswith("x-")
    assert series("data/*.csv").startswith("file-")
    assert series("data/*.csv", product="BTC-USD") == "BTC-USD"


# ----------------------------------------------------------------------------------- wrong settings


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"path": ""}, "`path` is empty"),
        ({"path": []}, "`path` is empty"),
        ({"path": "a.xlsx"}, "path 'a.xlsx' is no file that can be read: it must end in .csv"),
        ({"path": "folder"}, "it must end in .csv"),
        ({"path": "a.csv", "columns": "krakken"}, "one of kraken, bitfinex, coinbase, binance"),
        ({"path": "a.csv", "columns": ["open_time", "price"]}, "'price' is no column of a candle"),
        ({"path": "a.csv", "columns": ["open_time", *ORDER, "open"]}, "'open' stands there more"),
        ({"path": "a.csv", "columns": ["open_time", *ORDER[1:]]}, "open is missing from the list"),
        ({"path": "a.csv", "dataset": "x"}, "`dataset` 'x' is for HDF5 files"),
        ({"path": "a.csv", "product": "../up"}, "product '../up' cannot name a folder"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_file_is_touched(
    fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        CandleFile(**fields)
    assert problem in str(caught.value)


# ---------------------------------------------------------------------------------- damaged files


def bars_gz() -> bytes:
    return gzip.compress((HEADER + csv_text()).encode(), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"\n \n", "the file is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("a.csv.gz", bars_gz()[:-12], "the gzip data is damaged or cut short"),
        ("a.csv.gz", bars_gz()[:20] + b"junk" + bars_gz()[24:], "the gzip data is damaged"),
        ("a.csv", b"PK\x03\x04\x00\x00junk", "this is no CSV text"),
        ("a.csv", b"\xff\xfejunk,\xff\n1,2\n", "row 1: this is no CSV text in UTF-8"),
        ("a.csv", b"x" * 200_000, "this is no CSV text"),
        ("a.csv", HEADER.encode() + b"1577836800,1,1,1,1,\xff\xfe\n", "row 2: this is no CSV text"),
        ("a.csv", HEADER.encode(), "there is a header and no row under it"),
        ("a.csv", b"date,open,high\n2020-01-01,1,1\n",
         "no column low, close, volume (the file has: date, open, high)"),
        ("a.csv", b"zeit,hoch,tief\n2020-01-01,1,1\n",
         "no column open_time, open, high, low, close, volume (the file has: zeit, hoch, tief)"),
        ("a.csv", b"1577836800,7000,7001,6999,7000,1\n",
         "no header; the first row is '1577836800,7000,7001,6999,7000,1': set `columns` to the "
         "names of its 6 columns in order, or to one of kraken, bitfinex, coinbase, binance"),
        ("a.parquet", b"junk", "damaged, or not what its name says"),
        ("a.feather", b"ARROW1junkjunkjunk", "damaged, or not what its name says"),
        ("a.arrow", b"junkjunk", "damaged, or not what its name says"),
        ("a.h5", b"junkjunk", "not a readable HDF5 file"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line_that_says_so(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        read(tmp_path / name)
    assert problem in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_on_which_polars_panics_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(_: object) -> pl.DataFrame:
        raise pl.exceptions.PanicException("assertion failed\n  left: 6")

    monkeypatch.setattr(pl, "read_parquet", panic)
    path = write(tmp_path / "a.parquet", "PAR1")
    with pytest.raises(SourceError, match=r"a\.parquet: damaged, .* \(assertion failed\)$"):
        read(path)


def test_a_missing_file_and_an_empty_pattern_are_named_with_their_path(tmp_path: Path) -> None:
    for name, problem in (("a.csv", "no such file"), ("*.csv", "no file matches this pattern")):
        source = CandleFile(str(tmp_path / name))
        with pytest.raises(SourceError, match=problem) as caught:
            list(source.blocks(HOUR, EVER))
        assert str(tmp_path / name) in str(caught.value)
        with pytest.raises(SourceError, match=problem):
            _ = source.revision
    write(tmp_path / "a.txt", "x")
    with pytest.raises(SourceError, match=r"a\.txt: cannot tell its format"):
        read(tmp_path / "*.txt")


def test_columns_must_fit_the_file_and_not_contradict_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", csv_text())
    with pytest.raises(SourceError, match="the file has 6 columns and `columns` names 7"):
        read(path, columns="kraken")
    write(path, HEADER + csv_text())
    with pytest.raises(SourceError, match="`columns` contradicts the file's own names"):
        read(path, columns="coinbase")
    expect_bars(read(path, columns=["open_time", *ORDER]).candles)


def test_a_column_of_another_kind_is_an_error_that_says_which(tmp_path: Path) -> None:
    frame = pl.DataFrame({"time": TIME, **VALUES, "close": [[1.0]] * 3})
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(CandleError, match=r"a\.parquet: column close holds List\(Float64\)"):
        read(tmp_path / "a.parquet")
    pl.DataFrame({"time": [True] * 3, **VALUES}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(CandleError, match=r"b\.parquet: column open_time holds Boolean"):
        read(tmp_path / "b.parquet")


# ------------------------------------------------------------------------------------ HDF5 errors


@pytest.fixture
def odd_hdf5(tmp_path: Path) -> Path:
    """A file with good bars and one of each thing that is not read."""
    with h5py.File(tmp_path / "outside.h5", "w") as other:
        other["bars"] = matrix()
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["spot/1h"] = matrix()
        file["soft"] = h5py.SoftLink("/spot/1h")
        file["softgroup"] = h5py.SoftLink("/spot")
        file["external"] = h5py.ExternalLink("outside.h5", "/bars")
        layout = h5py.VirtualLayout((3, 6), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "outside.h5", "bars", (3, 6))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (3, 6), "f8", external=[(tmp_path / "raw.bin", 0, 144)])
        file.create_dataset("pickled", (3, 6), dtype=h5py.vlen_dtype(np.uint8))
        file.create_dataset("opaque", data=np.zeros((3, 6), "V8"))
        file.create_dataset("flags", data=np.zeros((3, 6), bool))
        file["nested"] = np.zeros(3, [("time", "i8"), ("open", "f8", (2,))])
        file["column/alone"] = np.zeros(3)
        file["cube"] = np.zeros((2, 2, 2))
        file.create_dataset("nothing", data=h5py.Empty("f8"))
        file.create_group("linked")["open"] = h5py.SoftLink("/column/alone")
        ragged = file.create_group("ragged")
        for i, name in enumerate(("time", *ORDER)):
            ragged[name] = np.ones(2 + i)
    return path


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        ("soft", "'soft' leads through a soft or external link"),
        ("softgroup/1h", "'softgroup/1h' leads through a soft or external link"),
        ("external", "'external' leads through a soft or external link"),
        ("linked", "odd.h5:linked/open: a soft or external link"),
        ("virtual", "odd.h5:virtual: its data lie in other files"),
        ("raw", "odd.h5:raw: its data lie in other files"),
        ("pickled", "odd.h5:pickled: holds object, not plain numbers (nothing is unpickled)"),
        ("opaque", "odd.h5:opaque: holds |V8, not plain numbers"),
        ("flags", "odd.h5:flags: holds bool, not plain numbers"),
        ("nested", "odd.h5:nested: holds ('<f8', (2,)), not plain numbers"),
        ("cube", "odd.h5:cube: has the shape (2, 2, 2), which is no table"),
        ("nothing", "odd.h5:nothing: has the shape None, which is no table"),
        ("column/alone", "odd.h5:column/alone: has the shape (3,), which is no table"),
        ("column", "odd.h5:column: no column open_time"),
        ("ragged", "odd.h5:ragged: its columns differ in length (close 6, high 4"),
        ("spot/1d", "no dataset 'spot/1d', set `dataset`: the file has column, cube,"),
        ("spot/1h/x", "no dataset 'spot/1h/x'"),
        (None, "set `dataset`: the file has column, cube, flags, nested, nothing, opaque, "
         "pickled, ragged, raw, spot/1h, virtual"),
    ],
)  # fmt: skip
def test_an_hdf5_node_that_is_no_table_of_this_file_is_refused(
    odd_hdf5: Path, dataset: str | None, problem: str
) -> None:
    with pytest.raises(SourceError) as caught:
        read(odd_hdf5, dataset=dataset, columns="coinbase" if dataset != "column" else None)
    assert problem in str(caught.value)
    assert "odd.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_hdf5_matrix_needs_columns_that_fit(odd_hdf5: Path) -> None:
    expect_bars(read(odd_hdf5, dataset="spot/1h", columns="coinbase").candles)
    with pytest.raises(SourceError, match="a matrix has no names: set `columns` to the names of"):
        read(odd_hdf5, dataset="spot/1h")
    with pytest.raises(SourceError, match="the file has 6 columns and `columns` names 7"):
        read(odd_hdf5, dataset="spot/1h", columns="kraken")


def test_an_hdf5_chunk_that_fails_its_checksum_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("bars", data=matrix(), chunks=True, fletcher32=True)
        offset = data.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[offset + 9] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(SourceError, match=r"a\.h5: damaged HDF5 data"):
        read(path, columns="coinbase")


def test_a_damaged_hdf5_structure_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["spot/bars"] = matrix()
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"SNOD", b"SNAP").replace(b"TREE", b"TRAP"))
    for dataset in (None, "spot/bars"):
        with pytest.raises(SourceError, match=r"a\.h5: damaged HDF5 data"):
            read(path, columns="coinbase", dataset=dataset)


def test_a_group_without_anything_has_no_dataset_to_offer(tmp_path: Path) -> None:
    h5py.File(tmp_path / "a.h5", "w").close()
    with pytest.raises(SourceError, match="set `dataset`: the file has none"):
        read(tmp_path / "a.h5")
