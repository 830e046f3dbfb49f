"""Files that people have, as they came: the bars that each means, and what has to be said of it."""

import bz2
import lzma
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import format_instant, parse_interval
from btc_datamodule.errors import CandleError, SourceError
from tests.sources.files.helpers import HEADER, HOUR, ORDER, TIME, csv_text, expect_bars, read
from tests.sources.files.people import TEXTS

DAY = 86_400
NAMES = (*ORDER, "quote_volume", "trades", "taker_buy_volume")

FIRST = "84349.95 84628.93 83824.78 83857.92 636.60016"
SECOND = "83857.91 84870.68 83845.86 84656.93 1147.78686"
THIRD = "84656.93 85678.11 84358.34 85240.46 2313.11212"
FIRST_PRICES, THIRD_PRICES = (text.rpartition(" ")[0] for text in (FIRST, THIRD))
FIRST_DAY = "2025-03-01", "2025-03-03", FIRST, "94269.99 94416.46 93289.79 93314.89 1894.72864"
HOURS = "2025-03-01 00", "2025-03-01 02", FIRST, THIRD
PAIR = "2025-03-01 00", "2025-03-01 01", FIRST, SECOND
DOLLARS = "is in dollars, not coins (as files with "
NO_HEADER = "has no header; the order of columns that its rows fit is open_time, "
BITMEX_CLOSE = (
    "times are those at which bars close, so each opens 3600 seconds before (`stamp: open`"
)

# The file, the interval, how many bars, the first and the last: when they open; open, high, low,
# close, then volume, quote_volume, trades and taker_buy_volume as far as the file tells them ("-"
# where it does not); what the notes say, one part of each.
CASES: list[tuple[str, int, int, tuple[str, str, str, str], list[str]]] = [
    ("01/daily.csv", DAY, 3, FIRST_DAY, []),
    ("01/hourly.csv", HOUR, 3, (
        "2024-04-03 00", "2024-04-03 02",
        "65465.40625 65612.03125 64583.06640625 65353.3359375 0 0",
        "65822.890625 66004.40625 65720.2109375 65939.40625 0 0"), [f"{DOLLARS}'Ticker' give it"]),
    ("02/bitmex.csv", HOUR, 4, (
        "2025-03-01 00", "2025-03-01 03", f"{FIRST} 53599194 131136",
        "85240.45 85511.91 84961.44 85330.84 1000.29878 85219432 175578"), [BITMEX_CLOSE]),
    ("02/date_time.csv", HOUR, 4, (
        "2020-06-25 12", "2020-06-25 15",
        "9292.2 9305.2 9246.4 9248.5 3539", "9249.3 9254.3 9162.3 9173.4 5259"), []),
    ("02/polo.csv", 2 * HOUR, 6, (
        "2015-02-19 18", "2015-02-20 04",
        "225 225 225 225 0.00444444 0.999999", "244 244 244 244 0 0"),
     ["volume is quoteVolume and quote_volume volume"]),
    ("03/bitstamp_cdd.csv", HOUR, 5, (
        "2018-05-15 06", "2022-08-20 00",
        "8733.86 8796.68 8707.28 8740.99 559.93 4906603.14",
        "20840 20973 20811 20963 244.35412623 5122395.548159489"),
     ["Volume BTC and Volume USD were swapped in 3 of 5 rows"]),
    ("03/okx_swap.csv", HOUR, 3, (
        *HOURS[:2], f"{FIRST} 53599194.4492667", f"{THIRD} 196753110.676496"),
     ["volume is vol_ccy and quote_volume vol_quote"]),
    ("03/poloniex.csv", 2 * HOUR, 3, (
        "2021-08-14 00", "2021-08-14 04",
        "47815 47815.60651 47507.06993 47564.31578 38.12594072 1817424.72",
        "47533.86509 47657.41905 47428.64303 47545.09355 7.62193898 361837.0124"),
     ["volume is quoteVolume and quote_volume volume"]),
    ("04/hourly.csv", HOUR, 1, (
        "2026-05-26 17", "2026-05-26 17",
        "76446.5078125 76538.421875 75750.0390625 75816.7421875 ~ 2612803584",
        "76446.5078125 76538.421875 75750.0390625 75816.7421875 ~ 2612803584"),
     ["volume is in dollars, not coins", "the last row is of 2026-05-26T18:52:32Z, within a bar, "
      "so that one was not finished: 2 rows from 2026-05-26T18:00:00Z on were left out"]),
    ("05/tradingview.csv", HOUR, 3, (
        "2020-01-01 19", "2020-01-01 21",
        "7220 7222.75 7200.55 7212.38", "7219.12 7224.75 7203.67 7212.54"), []),
    ("05/tv_daily.csv", DAY, 3, (
        "2015-08-28", "2015-08-30", "225.09 235.93 220.29 231.65", "230.41 232.75 225.04 229"), []),
    ("06/bybit_mt4.csv", HOUR, 2, (
        *PAIR[:3], "83857.93 84350 83857.92 84290.3 500.1"),
     [f"{NO_HEADER}open, high, low, close, volume"]),
    ("06/cdd_ampm.csv", HOUR, 3, (
        "2019-10-29 20", "2019-10-29 22", "9242.9 9532.2 9230.9 9446.6 826.44 7777529.33",
        "9423.8 9450 9423.8 9445 19.12 180564.91"), []),
    ("06/compact_seconds.csv", HOUR, 3, HOURS, []),
    ("06/dmy.csv", DAY, 3, (
        "2018-01-01", "2018-01-03", "13715.65 13818.55 12750 13380 8609.915844",
        "14690 15307.56 14150 14919.51 15905.66764"), ["01/01/2018 the day comes first, as bars"]),
    ("06/dmy_hm.csv", HOUR, 3, (
        "2017-05-23 00", "2017-05-23 02",
        "2104.6 2154.2 2101.3 2142.1 81", "2152.7 2156.5 2100.4 2156.3 108"), []),
    ("06/dukascopy.csv", HOUR, 3, HOURS, []),
    ("06/gmt.csv", HOUR, 3, HOURS, []),
    ("06/hour_1digit.csv", HOUR, 3, HOURS, []),
    ("06/slash.csv", HOUR, 3, HOURS, []),
    ("06/us_long.csv", DAY, 2, (
        "2018-02-19", "2018-02-20",
        "10552.6 11273.8 10513.2 11225.3 ~ 7652090000",
        "11231.8 11958.5 11231.8 11403.7 ~ 9926540000"),
     [f"{DOLLARS}'Market Cap' give it"]),
    ("06/yyyymmdd.csv", DAY, 3, FIRST_DAY, []),
    ("07/iso.csv", HOUR, 3, HOURS, []),
    ("07/mt4.csv", HOUR, 3, (
        "2020-06-25 12", "2020-06-25 14",
        "9292.2 9305.2 9246.4 9248.5 3539", "9259.9 9277.9 9249.3 9249.3 719"), []),
    ("07/mt5.csv", HOUR, 3, (
        *HOURS[:2], FIRST_PRICES, THIRD_PRICES), ["only ticks were counted: volume is not known"]),
    ("07/stooq_daily.csv", DAY, 3, FIRST_DAY, []),
    ("08/bitfinex_api.json", 60, 47, (
        "2017-01-01 02:08", "2017-01-01 03:54", "965.59 965.59 965.59 965.59 0.04430638",
        "964.49 964.49 964.49 964.49 0.2"), [f"{NO_HEADER}open, close, high, low, volume"]),
    ("08/freqtrade.json", 60, 2, (
        "2025-06-01 17:23", "2025-06-01 17:24",
        "104566 104570.5 104560.1 104570.5 3.25", "104570.5 104580 104570.5 104579.9 2.1"),
     [f"{NO_HEADER}open, high, low, close, volume"]),
    ("09/investing.csv", DAY, 3, (
        "2023-04-26", "2023-04-28", "28298.8 29995.7 27307.8 28424.6 164310",
        "29475.9 29587.2 28927.8 28935.9 95910"), []),
    ("10/cmc.csv", HOUR, 2, (
        *PAIR[:2], f"{FIRST_PRICES} ~ 53599194.4492667",
        "83857.91 84870.68 83845.86 84656.93 ~ 96683386.7871548"),
     [f"{DOLLARS}'marketCap' give it"]),
    ("10/cmc_commas.csv", HOUR, 2, (
        *PAIR[:2], f"{FIRST_PRICES} ~ 53599194.4492667",
        "83857.91 84870.68 83845.86 84656.93 ~ 96683386.7871548"),
     [f"{DOLLARS}'marketCap' give it"]),
    ("10/euro_decimals.csv", 1200, 3, (
        "2015-06-30 21:20", "2015-07-01", "259.9550359 259.9550359 259.9550359 259.9550359 0 0",
        "259 259 259 259 0.00236048 0.61136432"),
     ["volume is quoteVolume and quote_volume volume"]),
    ("10/mt5.csv", DAY, 3, (
        "2024-11-02", "2024-11-04",
        "69418.43 69880.64 68969.28 69376.15", "68655.69 69246.28 66982.04 67789.23"),
     ["only ticks were counted: volume is not known (`columns: {\"<TICKVOL>\": volume}` takes"]),
    ("13/day1.csv", HOUR, 4, (
        "2020-12-29 21", "2020-12-30 00",
        "26990 27200.87 26820.38 26913.12 3772.220307 102063908.60542742 67776",
        "27385 27397.42 27384.46 27392.05 36.524428 1000458.7989827 438"), []),
    ("13/day2.csv", HOUR, 8, (
        "2020-12-29 20", "2020-12-30 03",
        "26931.51 27000 26743.42 26989.63 2729.835307 73447938.71221806 60182",
        "28000 28239 27814.67 28065.54 5193.970035 145474743.92683677 93694"), []),
    ("14/plain.tsv", HOUR, 3, HOURS, []),
    ("14/plain.txt", HOUR, 3, HOURS, []),
    ("15/index.csv", HOUR, 3, HOURS, []),
    ("17/bybit.csv", HOUR, 2, (
        *PAIR[:2], f"{FIRST} 53599194.4492667", f"{SECOND} 96683386.7871548"), []),
    ("17/candle_begin_time.csv", HOUR, 2, (
        *PAIR[:2], f"{FIRST} 53599194.4492667 131136 1", f"{SECOND} 96683386.7871548 187988 1"),
     []),
    ("17/cdd_volto.csv", HOUR, 2, (
        "2020-12-11 22", "2020-12-11 23",
        "18100.14 18181.61 18068.85 18135 569.32947839 10324790.09060265",
        "18135 18150 18025.95 18059.82 474.02403923 8560788.82416674"),
     ["volume is volto and quote_volume volfrom"]),
    ("17/cryptocompare.csv", HOUR, 2, (
        *PAIR[:2], f"{FIRST} 53599194.4492667", f"{SECOND} 96683386.7871548"), []),
    ("17/okx_api.csv", HOUR, 2, (
        *PAIR[:2], f"{FIRST} 53599194.4492667", f"{SECOND} 96683386.7871548"), []),
    ("17/rltrader.csv", HOUR, 2, (
        "2019-07-04 00", "2019-07-04 01",
        "11976.42 12064.26 11812.01 11849.99 1627.53 19416056.06",
        "11849.99 11880 11790.01 11849.69 303.61 3589525.18"), []),
    ("17/short.csv", HOUR, 2, PAIR, []),
    ("19/comments.csv", HOUR, 2, PAIR, []),
    ("20/bitmex.csv", HOUR, 3, (
        *HOURS[:2], f"{FIRST} 53599194 131136", f"{THIRD} 196753110 284913"), [BITMEX_CLOSE]),
    ("21/coin_Bitcoin.csv", DAY, 2, (
        "2021-02-26", "2021-02-27",
        "47180.46405 48370.78526 44454.84211 46339.76008 ~ 351000000000",
        "46344.77224 48253.2701 45269.02577 46188.45128 ~ 45910946382"),
     [f"{DOLLARS}'Marketcap' give it"]),
    ("21/yahoo.csv", DAY, 2, (
        "2014-09-17", "2014-09-18",
        "465.864014 468.174011 452.421997 457.334015 ~ 21056800",
        "456.859985 456.859985 413.104004 424.440002 ~ 34483200"),
     [f"{DOLLARS}'Adj Close' give it"]),
]  # fmt: skip


def write_case(folder: Path, name: str) -> Path:
    """Write one of the texts as the file that it was."""
    path = folder / name.split("/")[1]
    path.write_text(TEXTS[name], newline="")
    return path


def expect_bar(candles: Candles, row: int, opens: str, bar: str) -> None:
    """One bar: when it opens, and its values; "~" for quote_volume / the mean of the prices."""
    whole = opens if ":" in opens or len(opens) == 10 else f"{opens}:00"
    at = f"{whole.replace(' ', 'T') if ' ' in whole else whole + 'T00:00'}:00Z"
    assert format_instant(candles.open_time[row]) == at
    values = dict(zip(NAMES, bar.split(), strict=False))
    assert set(candles.columns) == {"open_time", *(n for n, text in values.items() if text != "-")}
    for name, text in values.items():
        if text == "~":
            mean = np.mean([float(values[price]) for price in ORDER[:4]])
            assert candles[name][row] == pytest.approx(float(values["quote_volume"]) / mean), name
        else:
            assert candles[name][row] == float(text), name


@pytest.mark.parametrize(
    ("name", "interval", "count", "bars", "notes"), CASES, ids=[case[0] for case in CASES]
)
def test_a_file_as_people_have_it_gives_the_bars_that_it_means(
    tmp_path: Path,
    name: str,
    interval: int,
    count: int,
    bars: tuple[str, str, str, str],
    notes: list[str],
) -> None:
    block = read(write_case(tmp_path, name), interval)
    assert len(block.candles) == count
    expect_bar(block.candles, 0, bars[0], bars[2])
    expect_bar(block.candles, -1, bars[1], bars[3])
    assert len(block.notes) == len(notes)
    for note, told in zip(block.notes, notes, strict=True):
        assert told in note


def test_every_text_is_a_case_or_a_refusal() -> None:
    refused = {name for name, *_ in REFUSALS}
    assert {case[0] for case in CASES} | refused == set(TEXTS)


# --------------------------------------------------------- refusals, and advice that mends them

REFUSALS: list[tuple[str, int, str, dict[str, Any] | None]] = [
    ("10/three_columns.csv", 7 * DAY, "no open, high and low (the file has: timestamp, price, vol"
     "ume): one price a row makes no candle", None),
    ("12/bitmex.csv", HOUR, "row 4 (2022-12-27T23:00:00Z): high is below open or close (open "
     "16688.5, high 16688, close 16673.5): set `source.drop_invalid: true`",
     {"drop_invalid": True}),
    ("12/gemini.csv", HOUR, "row 6 (2015-10-08T13:00:00Z): open is not above zero (open 0): set "
     "`source.drop_invalid: true`", {"drop_invalid": True}),
    ("12/volume_empty.csv", HOUR, "row 3 (2025-03-03T01:00:00Z): volume is not a number: set "
     "`source.drop_invalid: true`", {"drop_invalid": True}),
    ("19/lfs_pointer.csv", HOUR, "this is a Git LFS pointer, not the file itself: run `git lfs "
     "pull` where it was cloned", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "interval", "problem", "advice"), REFUSALS, ids=[case[0] for case in REFUSALS]
)
def test_what_is_refused_is_one_line_and_its_advice_works(
    tmp_path: Path, name: str, interval: int, problem: str, advice: dict[str, Any] | None
) -> None:
    path = write_case(tmp_path, name)
    with pytest.raises((SourceError, CandleError)) as caught:
        read(path, interval)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    if advice is not None:
        block = read(path, interval, **advice)
        assert "1 rows that are no candles were left out" in block.notes[-1]
        assert problem.partition(": set")[0] in block.notes[-1]


@pytest.mark.parametrize(
    ("name", "times", "closes"),
    [
        ("12/bitmex.csv", ["2022-12-27T22", "2022-12-28T00", "2022-12-28T01"],
         [16688.5, 16692, 16673]),
        ("12/gemini.csv", ["2015-10-08T14", "2020-12-29T23", "2020-12-30T00"],
         [245, 27368.9, 27524.93]),
        ("12/volume_empty.csv", ["2025-03-03T00", "2025-03-03T02"], [93314.89, 93318.24]),
    ],
)  # fmt: skip
def test_drop_invalid_leaves_out_the_bad_bar_and_nothing_else(
    tmp_path: Path, name: str, times: list[str], closes: list[float]
) -> None:
    candles = read(write_case(tmp_path, name), drop_invalid=True).candles
    assert [format_instant(t)[:13] for t in candles.open_time] == times
    assert candles["close"].tolist() == closes


MARKED = [
    ("02/bitmex.csv", HOUR, {"columns": [
        "open_time", "ignore", "open", "high", "low", "close", "trades", "ignore", "ignore",
        "ignore", "ignore", "volume", "quote_volume"]},
     "2025-03-01 00", f"{FIRST} 53599194 131136"),
    ("02/bitmex.csv", HOUR, {"columns": {"homeNotional": "volume", "foreignNotional":
                                         "quote_volume"}},
     "2025-03-01 00", f"{FIRST} 53599194 131136"),
    ("02/date_time.csv", HOUR, {"columns": ["date", "time", *ORDER]},
     "2020-06-25 12", "9292.2 9305.2 9246.4 9248.5 3539"),
    ("02/date_time.csv", HOUR, {"columns": {"date": "date", "time": "time"}},
     "2020-06-25 12", "9292.2 9305.2 9246.4 9248.5 3539"),
    ("02/polo.csv", 2 * HOUR, {"columns": ["ignore", "close", "open_time", "high", "low", "open",
                                           "volume", "quote_volume", "ignore"]},
     "2015-02-19 18", "225 225 225 225 0.00444444 0.999999"),
    ("02/polo.csv", 2 * HOUR, {"columns": {"quoteVolume": "volume", "volume": "quote_volume"}},
     "2015-02-19 18", "225 225 225 225 0.00444444 0.999999"),
    ("04/hourly.csv", HOUR, {"columns": {"volume": "volume"}}, "2026-05-26 17",
     "76446.5078125 76538.421875 75750.0390625 75816.7421875 2612803584"),
    ("06/dmy.csv", DAY, {"time_format": "%d/%m/%Y"}, "2018-01-01",
     "13715.65 13818.55 12750 13380 8609.915844"),
    ("06/cdd_ampm.csv", HOUR, {"time_format": "%Y-%m-%d %I-%p"}, "2019-10-29 20",
     "9242.9 9532.2 9230.9 9446.6 826.44 7777529.33"),
    ("07/mt5.csv", HOUR, {"columns": {"<TICKVOL>": "volume"}}, "2025-03-01 00",
     f"{FIRST_PRICES} 131136"),
    ("07/stooq_daily.csv", DAY, {"columns": [
        "ignore", "ignore", "date", "time", *ORDER, "ignore"]}, "2025-03-01", FIRST),
    ("20/bitmex.csv", HOUR, {"stamp": "open"}, "2025-03-01 01", f"{FIRST} 53599194 131136"),
    ("20/bitmex.csv", HOUR, {"stamp": "close"}, "2025-03-01 00", f"{FIRST} 53599194 131136"),
    ("21/yahoo.csv", DAY, {"columns": {"Volume": "volume"}}, "2014-09-17",
     "465.864014 468.174011 452.421997 457.334015 21056800"),
    ("01/hourly.csv", HOUR, {"columns": {"Volume | BTC-USD": "volume"}}, "2024-04-03 00",
     "65465.40625 65612.03125 64583.06640625 65353.3359375 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "interval", "fields", "opens", "bar"), MARKED, ids=[case[0] for case in MARKED]
)
def test_what_the_user_says_wins_over_the_file_and_over_what_a_note_guessed(
    tmp_path: Path, name: str, interval: int, fields: dict[str, Any], opens: str, bar: str
) -> None:
    block = read(write_case(tmp_path, name), interval, **fields)
    expect_bar(block.candles, 0, opens, bar)
    assert not any("as bars follow each other" in note for note in block.notes)
    assert not any("in dollars" in note or "not known" in note for note in block.notes)


def test_of_two_downloads_the_finished_bar_wins(tmp_path: Path) -> None:
    block = read([write_case(tmp_path, "13/day1.csv"), write_case(tmp_path, "13/day2.csv")])
    assert len(block.candles) == 8
    midnight = block.candles["close"][format_times(block.candles).index("2020-12-30T00:00:00Z")]
    assert midnight == 27630.74
    assert "1 are of bars not finished yet, which stand there finished too" in block.notes[-1]
    assert "3 differ from it by rounding at most" in block.notes[-1]


def format_times(candles: Candles) -> list[str]:
    return [format_instant(t) for t in candles.open_time]


# ------------------------------------------------------------------------ the ones in binary


def test_packed_files_and_other_encodings_give_the_same_bars(tmp_path: Path) -> None:
    text = HEADER + csv_text()
    contents = {
        "a.csv.bz2": bz2.compress(text.encode()),
        "a.csv.xz": lzma.compress(text.encode()),
        "utf16.csv": text.encode("utf-16"),
        "utf16_be.csv": b"\xfe\xff" + text.encode("utf-16-be"),
        "cr_only.csv": text.replace("\n", "\r").encode(),
    }
    for name, raw in contents.items():
        (tmp_path / name).write_bytes(raw)
        expect_bars(read(tmp_path / name).candles)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", text)
    expect_bars(read(tmp_path / "a.zip").candles)


def test_parquet_with_an_unnamed_index_or_times_as_categories_is_read(tmp_path: Path) -> None:
    texts = [str(np.datetime64(t, "s")) for t in TIME]
    rows = dict(zip(ORDER, np.loadtxt(csv_text().splitlines(), delimiter=",").T[1:], strict=True))
    index = pl.Series(TIME).cast(pl.Int64) * 1_000_000
    stamps = {"__index_level_0__": index.cast(pl.Datetime("us", "UTC"))}
    pl.DataFrame({**rows, **stamps}).write_parquet(tmp_path / "index.parquet")
    pl.DataFrame({**rows, **stamps}).write_ipc(tmp_path / "index.feather")
    labels = pl.Series(texts).cast(pl.Categorical)
    pl.DataFrame({"timestamp": labels, **rows}).write_parquet(tmp_path / "dict.parquet")
    for name in ("index.parquet", "index.feather", "dict.parquet"):
        expect_bars(read(tmp_path / name).candles)


def test_flattened_columns_of_yfinance_in_parquet_are_known(tmp_path: Path) -> None:
    rows = np.loadtxt(csv_text().splitlines(), delimiter=",").T
    names = [f"('{name.title()}', 'BTC-USD')" for name in ORDER]
    frame = pl.DataFrame({"Datetime": TIME, **dict(zip(names, rows[1:], strict=True))})
    frame.write_parquet(tmp_path / "multi.parquet")
    expect_bars(read(tmp_path / "multi.parquet").candles)


def write_workbook(path: Path, rows: list[list[Any]]) -> None:
    """A workbook with one sheet, its texts in the cells."""
    kinds = "http://schemas.openxmlformats.org"
    office, sheets = "/officeDocument/2006/relationships", "/spreadsheetml/2006/main"
    cells = "".join(
        "<row>" + "".join(
            f'<c t="inlineStr"><is><t>{cell}</t></is></c>' if isinstance(cell, str)
            else f"<c><v>{cell}</v></c>" for cell in row
        ) + "</row>" for row in rows
    )  # fmt: skip
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{kinds}/package/2006/content-types"><Default '
        'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{kinds}/package/2006/relationships"><Relationship '
        f'Id="r1" Type="{kinds}{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{kinds}{sheets}" xmlns:r="{kinds}{office}"><sheets>'
        '<sheet name="BTC" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{kinds}/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{kinds}{office}/worksheet" Target="worksheets/sheet1.xml"/>'
        "</Relationships>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{kinds}{sheets}"><sheetData>{cells}'
        "</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)


@pytest.mark.parametrize("days", [False, True])
def test_the_first_sheet_of_a_workbook_is_read(tmp_path: Path, days: bool) -> None:
    pytest.importorskip("fastexcel", reason="workbooks need the extra files")
    times = [25_569 + t / 86_400 if days else str(np.datetime64(t, "s")) for t in TIME]
    bars = [line.split(",")[1:] for line in csv_text().splitlines()]
    rows = [[time, *map(float, bar)] for time, bar in zip(times, bars, strict=True)]
    write_workbook(tmp_path / "a.xlsx", [["Date", *ORDER], *rows])
    expect_bars(read(tmp_path / "a.xlsx").candles)
    (tmp_path / "b.xlsx").write_bytes((tmp_path / "a.xlsx").read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"b\.xlsx: no readable workbook"):
        read(tmp_path / "b.xlsx")


WEEKS = """\
Date,Open,High,Low,Close,Adj Close,Volume
2020-01-06,10000.0,10100.0,9900.0,10050.0,10050.0,1000000000.0
2020-01-13,10050.0,10150.0,9950.0,10100.0,10100.0,1000000000.0
"""
DERIBIT = """\
unix,date,symbol,open,high,low,close,volume,base_volume
1769760000000,2026-01-30 08:00:00,BTC-PERPETUAL,82627.5,84539.5,81774.0,83413.0,8734.59587715,726209650.0
1769673600000,2026-01-29 08:00:00,BTC-PERPETUAL,88244.5,88386.0,80890.5,82627.5,20072.30581627,1685291740.0
"""  # noqa: E501


def test_weeks_begin_on_mondays_and_days_at_their_offset(tmp_path: Path) -> None:
    (tmp_path / "weeks.csv").write_text(WEEKS)
    weeks = read(tmp_path / "weeks.csv", 7 * DAY).candles
    assert [format_instant(t)[:10] for t in weeks.open_time] == ["2020-01-06", "2020-01-13"]
    assert weeks["quote_volume"].tolist() == [1e9, 1e9]
    (tmp_path / "deribit.csv").write_text(DERIBIT)
    with pytest.raises(CandleError, match=r"if that is right, set `offset: 8h`"):
        read(tmp_path / "deribit.csv", DAY)
    days = read(tmp_path / "deribit.csv", parse_interval("1d", "8h")).candles
    assert days["volume"].tolist() == [20072.30581627, 8734.59587715]
    assert days["quote_volume"].tolist() == [1685291740.0, 726209650.0]
    assert format_instant(days.open_time[0]) == "2026-01-29T08:00:00Z"
