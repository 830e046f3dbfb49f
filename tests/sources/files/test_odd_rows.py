"""Rows that are no bars, volumes of no known unit, and arguments of no known kind."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BTCDataModule, Feature
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import CandleError, ConfigError, SourceError
from btc_datamodule.sources.files.source import CandleFile
from tests.factories import candles_of
from tests.sources.files.helpers import HEADER, HOUR, T0, csv_text, expect_bars, read, write
from tests.sources.files.test_people import write_workbook

DAY = 86_400


def table(
    rows: int, step: int, form: Callable[[datetime], str], volume: Any = 12.5, start: int = T0
) -> str:
    """Bars of a price of some ten thousand, times as ``form`` writes them."""
    bars = candles_of(np.ones(rows, dtype=bool))
    lines = []
    for i in range(rows):
        values = [10 * bars[name][i] for name in ("open", "high", "low", "close")]
        amount = volume[i] if isinstance(volume, list) else volume
        when = form(datetime.fromtimestamp(start + i * step, UTC))
        lines.append(",".join([when, *map(str, values), str(amount)]) + "\n")
    return "".join(lines)


@pytest.mark.parametrize("form", ["%y-%m-%d", "%y/%m/%d", "%y.%m.%d", "%y-%m-%d 00:00"])
def test_two_digits_of_the_year_may_stand_first(tmp_path: Path, form: str) -> None:
    text = table(60, DAY, lambda t: t.strftime(form))
    candles = read(write(tmp_path / "a.csv", HEADER + text), DAY).candles
    assert candles.open_time.tolist() == [T0 + i * DAY for i in range(60)]


@pytest.mark.parametrize("before", [60, 120])
def test_a_moment_before_the_next_bar_is_its_close(tmp_path: Path, before: int) -> None:
    text = table(40, DAY, lambda t: t.strftime("%d/%m/%Y %H:%M:%S"), start=T0 + DAY - before)
    header = HEADER.replace("open_time", "date")
    block = read(write(tmp_path / "a.csv", header + text), DAY)
    assert block.candles.open_time.tolist() == [T0 + i * DAY for i in range(40)]
    assert "times are those at which bars close" in " ".join(block.notes)


def test_a_date_and_an_hour_are_a_time(tmp_path: Path) -> None:
    text = table(60, HOUR, lambda t: f"{t:%Y-%m-%d},{t.hour}")
    header = HEADER.replace("open_time", "date,hour")
    candles = read(write(tmp_path / "a.csv", header + text)).candles
    assert candles.open_time.tolist() == [T0 + i * HOUR for i in range(60)]


@pytest.mark.parametrize("noise", [1e-4, 3e-4, 1e-3])
def test_two_markets_that_are_nearly_alike_are_an_error(tmp_path: Path, noise: float) -> None:
    random = np.random.default_rng(0)
    one = table(96, HOUR, lambda t: str(int(t.timestamp())))
    other = []
    for line in one.splitlines():
        when, *prices, volume = line.split(",")
        opened, _, _, close = (float(p) * (1 + random.normal(0, noise)) for p in prices)
        high, low = max(opened, close) * 1.0005, min(opened, close) * 0.9995
        amount = float(volume) * random.uniform(0.3, 3)
        other.append(f"{when},{opened},{high},{low},{close},{amount}\n")
    with pytest.raises(CandleError, match="is it more than one market or interval"):
        read(write(tmp_path / "a.csv", HEADER + one + "".join(other)))


# ---------------------------------------------------------------------------- units of volume


def epoch(moment: datetime) -> str:
    return str(int(moment.timestamp()))


@pytest.mark.parametrize(
    ("volume", "problem"),
    [
        (5.2e10, "volume: 5.2e+10 a bar is too much for coins and for dollars. Say what it is"),
        ([500.0] * 24 + [5e7] * 24, "24 of 48 rows cannot be coins, such as 50000000 of bar 25"),
    ],
)
def test_a_volume_of_no_unit_or_of_two_is_an_error_whose_advice_works(
    tmp_path: Path, volume: Any, problem: str
) -> None:
    path = write(tmp_path / "a.csv", HEADER + table(48, HOUR, epoch, volume))
    with pytest.raises(SourceError) as caught:
        read(path)
    assert problem in str(caught.value)
    assert "volume" not in read(path, columns={"volume": "ignore"}).candles.columns


@pytest.mark.parametrize("unit", ["(mBTC)", "(lots)", "sats", "(contracts)", "MA"])
def test_a_unit_that_is_no_coin_is_not_taken_for_coins(tmp_path: Path, unit: str) -> None:
    header = HEADER.replace("volume", f"Volume {unit}")
    block = read(write(tmp_path / "a.csv", header + table(48, HOUR, epoch)))
    assert "volume" not in block.candles.columns
    assert f"volume is not known: none of Volume {unit} was taken for it" in " ".join(block.notes)


# ------------------------------------------------------------------------- rows that are no bars

ODD = {
    "a footer": '"Downloaded from a shop, as of today"',
    "a sum": "Total,,,,,38000",
    "the header again": HEADER.strip(),
    "a price that is missing": f"{T0 + 9 * HOUR},7000,7001,6990,,1",
    "a price in words": f"{T0 + 9 * HOUR},7000,abc,6990,7000,1",
    "half a line": f"{T0 + 9 * HOUR},7000",
    "a price of nought": f"{T0 + 9 * HOUR},0,7001,0,7000,1",
    "no volume": f"{T0 + 9 * HOUR},7000,7001,6990,7000,",
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("amid", [False, True])
def test_rows_that_are_no_bars_can_be_left_out_as_the_error_says(
    tmp_path: Path, odd: str, amid: bool
) -> None:
    lines = csv_text().splitlines()
    lines.insert(2 if amid else 3, ODD[odd])
    path = write(tmp_path / "a.csv", HEADER + "\n".join(lines) + "\n")
    with pytest.raises((CandleError, SourceError), match=r"set `source\.drop_invalid: true`"):
        read(path)
    block = read(path, drop_invalid=True)
    expect_bars(block.candles)
    assert "left out" in " ".join(block.notes)


def test_a_sheet_may_have_a_title_and_a_sum(tmp_path: Path) -> None:
    rows = [line.split(",") for line in csv_text().splitlines()]
    header = HEADER.strip().split(",")
    write_workbook(tmp_path / "a.xlsx", [["Prices of Bitcoin"], header, *rows])
    pytest.importorskip("fastexcel", reason="workbooks need the extra files")
    expect_bars(read(tmp_path / "a.xlsx").candles)


# ------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "fields",
    [
        *({name: 5} for name in ("path", "columns", "product", "symbol", "time_format")),
        *({name: ""} for name in ("symbol", "timezone", "time_format", "dataset")),
        {"timezone": 1}, {"drop_invalid": "no"}, {"decimal": ";"}, {"path": [5]},
    ],
)  # fmt: skip
def test_an_argument_of_another_kind_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        CandleFile(**{"path": "a.csv", **fields})
    assert str(caught.value).startswith(f"{next(iter(fields))} is ")


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "broken.csv").symlink_to(tmp_path / "gone")
    for name in ("fifo.csv", "loop.csv", "broken.csv"):
        source = CandleFile(tmp_path / name)
        with pytest.raises(SourceError, match="no file that can be read, check `path`"):
            _ = source.revision
        assert source.series.startswith(name.split(".")[0])
    path = write(tmp_path / "good.csv", HEADER + csv_text())
    assert format_instant(read(path).candles.open_time[0]) == "2020-01-01T00:00:00Z"
    expect_bars(read(tmp_path / "g*.csv").candles)


def test_a_function_that_reads_a_volume_which_is_not_there_is_told_so(tmp_path: Path) -> None:
    lines = [line.rpartition(",")[0] for line in table(300, HOUR, epoch).splitlines()]
    path = write(tmp_path / "a.csv", HEADER.replace(",volume", "") + "\n".join(lines))
    doubled = Feature("doubled", lookback=1, compute=lambda bars: bars["volume"] * 2)
    for feature, problem in (
        (doubled, "doubled has no value in any bar (the candles have no volume)"),
        ("log_volume", "feature 'log_volume' needs volume, which candles from 'file' do not have"),
        ("log_return", None),
    ):
        dm = BTCDataModule(
            CandleFile(path), features=[feature], lookback=8, batch_size=8, data_dir=str(tmp_path)
        )
        if problem is None:
            dm.prepare_data()
            dm.setup()
            assert len(dm.dataset("train")) > 100
            continue
        with pytest.raises(ConfigError) as caught:  # noqa: PT012 (in one or the other)
            dm.prepare_data()
            dm.setup()
        assert problem in str(caught.value)
