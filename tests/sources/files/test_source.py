"""Candle files of every shape: exact values out of each, and an error that finds each fault."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import CandleError, ConfigError, SourceError
from btc_datamodule.sources.files.source import CandleFile
from tests.sources.files.helpers import (
    EVER,
    HEADER,
    HOUR,
    ORDER,
    T0,
    TIME,
    csv_text,
    expect_bars,
    read,
    write,
)

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
    with pytest.raises(SourceError, match="are 1h apart, of which none of 90m can be joined: set"):
        read(path, 90 * 60)


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


def test_paths_are_taken_as_paths_and_kept_as_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + csv_text())
    for given in (path, [path], (path, str(path))):
        source = CandleFile(given)
        (block,) = source.blocks(HOUR, EVER)
        expect_bars(block.candles)
        assert source.path == (str(path) if given is path else [str(path)] * len(given))  # type: ignore[arg-type]
    assert CandleFile(path).series == CandleFile(str(path)).series
    (block,) = CandleFile(tmp_path).blocks(HOUR, EVER)
    expect_bars(block.candles)


# ----------------------------------------------------------------------------------- wrong settings


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"path": ""}, "`path` is empty"),
        ({"path": []}, "`path` is empty"),
        ({"path": "a.xls"}, "path 'a.xls' is no file that can be read: it must end in .csv"),
        ({"path": "a.csv", "stamp": "end"}, "stamp is 'end': choose open or close"),
        ({"path": "a.csv", "time_format": "d/m/Y"}, "time_format 'd/m/Y' must be written as of"),
        ({"path": "a.csv", "timezone": "Berlin"}, "timezone 'Berlin' is not known: write one such"),
        ({"path": "a.csv", "columns": {"Vol": "vol"}}, "'vol' is no column of a candle"),
        ({"path": "a.csv", "columns": {"a": "low", "b": "low"}}, "'low' stands there more than"),
        ({"path": "folder.of"}, "it must end in .csv"),
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
