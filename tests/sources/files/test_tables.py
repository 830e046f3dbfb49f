"""Files by their suffix: Arrow and Parquet, damaged and missing ones."""

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files import arrow_tables
from btc_datamodule.sources.files.source import CandleFile
from tests.sources.files.helpers import (
    EVER,
    HEADER,
    HOUR,
    T0,
    TIME,
    VALUES,
    csv_text,
    expect_bars,
    read,
    write,
)


@pytest.mark.each_value
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
        ("a.csv", b"\xffjunk,\xff\n1,2\n", "row 1: this is no CSV text in UTF-8"),
        ("a.csv", b"\xff\xfejunk,\xff\n1,2\n", "this is no CSV text in UTF-16"),
        ("a.csv", b"x" * 200_000, "this is no CSV text"),
        ("a.csv", HEADER.encode() + b"1577836800,1,1,1,1,\xff\xfe\n", "row 2: this is no CSV text"),
        ("a.csv", HEADER.encode(), "there is a header and no row under it"),
        ("a.csv", b"date,open,high\n2020-01-01,1,1\n",
         "no column low, close (the file has: date, open, high)"),
        ("a.csv", b"zeit,hoch,tief\n2020-01-01,1,1\n",
         "no open, high and low (the file has: zeit, hoch, tief): one price a row makes no candle"),
        ("a.csv", b"Zeit;Eroeffnung;Spitze;Boden;Ende\n2020-01-01;7000,1;7001,2;6999,1;7000,5\n",
         "no column open, high, low, close (the file has: Zeit, Eroeffnung, Spitze, Boden, Ende)"),
        ("a.csv", b'Zeit,Preis,Menge,Ort,Markt\n2020-01-01,"7,000.1",2,here,XBTEUR\n',
         "no open, high and low (the file has: Zeit, Preis, Menge, Ort, Markt): one price a row"),
        ("a.csv", b"1577836800,7000,7000,7000,7000,1\n",
         "no header; the first row is '1577836800,7000.0,7000.0,7000.0,7000.0,1.0', and its rows "
         "do not tell which column is which: set `columns` to the names of its 6 columns in order, "
         "or to one of kraken, bitfinex, coinbase, binance"),
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


@pytest.mark.parametrize("ending", [".parquet", ".feather"])
def test_a_file_on_which_polars_crashes_is_one_line_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    frame = pl.DataFrame({"time": TIME, **VALUES})
    for name in ("a", "b"):
        getattr(frame, "write_parquet" if ending == ".parquet" else "write_ipc")(
            tmp_path / f"{name}{ending}"
        )
    whole, crash = arrow_tables.COMMAND, "import os; os.abort()"
    monkeypatch.setattr(arrow_tables, "COMMAND", (sys.executable, "-c", crash))
    with arrow_tables.ArrowReader() as reader:
        with pytest.raises(SourceError) as caught:
            reader.read(tmp_path / f"a{ending}")
        assert str(caught.value) == (
            f"{tmp_path}/a{ending}: damaged Arrow or Parquet data: the library crashed on it "
            "(signal 6)"
        )
        monkeypatch.setattr(arrow_tables, "COMMAND", whole)
        assert reader.read(tmp_path / f"b{ending}").frame.height == 3


def test_feather_of_version_1_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.feather").write_bytes(b"FEA1" + b"x" * 20)
    with pytest.raises(SourceError, match=r"a\.feather: .*Feather of version 1, .* write it anew"):
        read(tmp_path / "a.feather")


def test_a_missing_file_and_an_empty_pattern_are_named_with_their_path(tmp_path: Path) -> None:
    for name, problem in (("a.csv", "no such file"), ("*.csv", "no file matches this pattern")):
        source = CandleFile(str(tmp_path / name))
        with pytest.raises(SourceError, match=problem) as caught:
            list(source.blocks(HOUR, EVER))
        assert str(tmp_path / name) in str(caught.value)
        with pytest.raises(SourceError, match=problem):
            _ = source.revision
    write(tmp_path / "a.doc", "x")
    with pytest.raises(SourceError, match=r"a\.doc: cannot tell its format, rename it to end in"):
        read(tmp_path / "*.doc")
