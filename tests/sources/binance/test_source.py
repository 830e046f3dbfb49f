"""Binance's archive on a real HTTP server: which files, what is in them, and how they go wrong."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from btc_datamodule.candles.series import make_empty
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.store.candle_file import read_candles, read_header
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange
from tests.factories import HOUR, changed
from tests.helpers import assert_same
from tests.sources.binance.helpers import (
    DAY,
    HELD,
    TODAY,
    archive_with,
    asked,
    bars,
    candles_in,
    fetch,
    notes_of,
    source,
    span_of,
)


def test_a_recent_day_that_is_not_there_yet_is_left_unanswered_with_all_that_follows() -> None:
    held = bars(TODAY - 6 * DAY, TODAY)
    answers = BinanceArchiveAnswers(held)
    answers.missing.add(f"BTCUSDT-1h-{format_instant(TODAY - 2 * DAY)[:10]}.zip")
    with Exchange(answers) as exchange:
        blocks = fetch(exchange, (TODAY - 6 * DAY, TODAY + HOUR))
    assert_same(candles_in(blocks), held.slice(0, TODAY - 2 * DAY))
    assert blocks[-1].span == (TODAY - 3 * DAY, TODAY - 2 * DAY)
    assert notes_of(blocks) == []


def test_the_day_that_is_not_over_is_not_asked_for() -> None:
    with Exchange(BinanceArchiveAnswers(bars(TODAY - DAY, TODAY + DAY))) as exchange:
        blocks = fetch(exchange, (TODAY - DAY, TODAY + HOUR))
        assert asked(exchange) == [format_instant(TODAY - DAY)[:10]]
        assert fetch(exchange, (TODAY, TODAY + HOUR)) == []
        assert len(exchange.requests) == 2
    assert [block.span for block in blocks] == [(TODAY - DAY, TODAY)]


def test_an_older_day_that_is_not_there_is_answered_as_without_candles_and_named() -> None:
    missing = TODAY - 5 * DAY
    date = format_instant(missing)[:10]
    held = bars(TODAY - 8 * DAY, TODAY)
    answers = BinanceArchiveAnswers(held, missing={f"BTCUSDT-1h-{date}.zip"})
    with Exchange(answers) as exchange:
        blocks = fetch(exchange, held.span)
        path = f"/data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-{date}.zip"
        origins = [block.origin for block in blocks]
        assert origins[3] == f"{exchange.url}{path} absent"
    assert_same(candles_in(blocks), ex.without(held, (missing, missing + DAY)))
    assert [block.span[0] for block in blocks] == [TODAY - back * DAY for back in range(8, 0, -1)]
    assert notes_of(blocks) == [
        f"binance BTCUSDT: the archive has no 1h file for {date}: taken as without candles "
        "(`refresh: true` asks again)"
    ]


@pytest.mark.parametrize("days_fast", [5, 400])
def test_days_are_absent_by_the_clock_of_the_archive(days_fast: int) -> None:
    """A fast clock here does not settle what is not published there yet."""
    published = TODAY - days_fast * DAY
    held = bars(published - 4 * DAY, published - DAY)
    with Exchange(BinanceArchiveAnswers(held)) as exchange:
        exchange.faults.extend([ex.Dated(days_fast * DAY)] * 3000)
        blocks = fetch(exchange, (published - 4 * DAY, TODAY))
    assert_same(candles_in(blocks), held)
    assert blocks[-1].span[1] == published - DAY
    assert notes_of(blocks) == []


def test_a_run_of_days_without_files_is_one_block_and_one_note(exchange: Exchange) -> None:
    blocks = fetch(exchange, span_of("2019-12-03", "2020-01-02"))  # 29 days before there is one
    assert [block.span for block in blocks] == [
        span_of("2019-12-03", "2020-01-01"),
        span_of("2020-01-01", "2020-01-02"),
    ]
    assert [len(block.candles) for block in blocks] == [0, 24]
    [note] = notes_of(blocks)
    assert "no 1h file from 2019-12-03 to 2019-12-31: taken as without candles" in note


def test_an_archive_without_any_file_of_the_product_is_an_error_soon(exchange: Exchange) -> None:
    taken: list[Block] = []
    with pytest.raises(SourceError) as caught:
        taken.extend(source(exchange, product="BTCUSB").blocks(HOUR, HELD.span))
    assert taken == []  # no day was settled as empty
    assert str(caught.value) == (
        f"{exchange.url} has no 1h files of BTCUSB (spot), not even "
        "/data/spot/monthly/klines/BTCUSB/1h/BTCUSB-1h-2020-01.zip: check `source.product`, "
        "`source.market` and `source.base_url`, or set `start` and `end` to when it traded"
    )
    assert len(exchange.requests) < 90  # two for each file


def test_futures_have_their_own_folder_series_and_beginning() -> None:
    held = bars("2025-01-01", "2025-02-03")
    with Exchange(BinanceArchiveAnswers(held, market="um")) as exchange:
        archive = source(exchange, market="um")
        assert_same(candles_in(list(archive.blocks(HOUR, held.span))), held)
        folders = {request.path.rsplit("/", 1)[0] for request in exchange.requests}
    assert folders == {
        f"/data/futures/um/{kind}/klines/BTCUSDT/1h" for kind in ("monthly", "daily")
    }
    assert (archive.name, archive.series) == ("binance", "BTCUSDT-um")
    assert archive.first == parse_instant("2019-09-08")
    with pytest.raises(SourceError, match=r"binance has no bars of 1s: .* one of 1m, 3m, 5m"):
        next(archive.blocks(1, held.span))


PERPETUAL = "BTCUSD_PERP-1h-2024-01-05.zip"


@pytest.mark.parametrize(
    "header",
    [
        "",
        ex.KLINE_HEADER,
        "open_time,open,high,low,close,volume,close_time,base_volume,count,taker_buy_volume,"
        "taker_buy_base_volume,ignore\n",
    ],
)
def test_coin_margined_volumes_are_stored_in_the_base_coin_and_not_in_contracts(
    header: str,
) -> None:
    row = "1704412800000,44150.5,44200,44100,44180,1060,1704416399999,2.4005,48,530,1.2002,0\n"
    with archive_with({PERPETUAL: header + row}, "1h klines", "cm", "BTCUSD_PERP") as exchange:
        archive = source(exchange, market="cm", product="BTCUSD_PERP")
        [block] = archive.blocks(HOUR, span_of("2024-01-05", "2024-01-06"))
    assert block.origin.endswith(f"/data/futures/cm/daily/klines/BTCUSD_PERP/1h/{PERPETUAL}")
    assert {name: values.tolist() for name, values in block.candles.columns.items()} == {
        "open_time": [1704412800],
        **{"open": [44150.5], "high": [44200.0], "low": [44100.0], "close": [44180.0]},
        **{"volume": [2.4005], "trades": [48.0], "taker_buy_volume": [1.2002]},
    }


def test_coin_margined_futures_have_their_own_series_and_beginning() -> None:
    archive = BinanceArchive("BTCUSD_PERP", "cm")
    assert archive.series == "BTCUSD_PERP-cm"
    assert archive.first == parse_instant("2020-06-01")
    assert archive.intervals[0] == 60
    with pytest.raises(ConfigError, match="product 'BTCUSDT' is no contract of market cm"):
        BinanceArchive(market="cm")


def test_months_of_coin_margined_futures_come_back_as_they_are_held() -> None:
    held = bars("2024-01-01", "2024-02-02")
    answers = BinanceArchiveAnswers(held, market="cm", product="BTCUSD_PERP")
    with Exchange(answers) as exchange:
        archive = source(exchange, market="cm", product="BTCUSD_PERP")
        got = candles_in(list(archive.blocks(HOUR, held.span)))
    assert_same(got, changed(held, quote_volume=None))


def test_the_defaults_are_the_public_spot_archive_of_bitcoin() -> None:
    archive = BinanceArchive()
    assert archive.base_url == "https://data.binance.vision"
    assert (archive.name, archive.series) == ("binance", "BTCUSDT")
    assert archive.first == parse_instant("2017-08-17")
    assert archive.intervals == (
        *(1, 60, 180, 300, 900, 1800),
        *(hours * HOUR for hours in (1, 2, 4, 6, 8, 12, 24)),
    )


@pytest.mark.parametrize(("interval", "text"), [(60, "1m"), (12 * HOUR, "12h"), (DAY, "1d")])
def test_intervals_are_named_as_binance_does(interval: int, text: str) -> None:
    held = bars("2020-01-05", "2020-01-07", interval)
    with Exchange(BinanceArchiveAnswers(held)) as exchange:
        assert_same(candles_in(fetch(exchange, held.span, interval)), held)
        assert f"/klines/BTCUSDT/{text}/BTCUSDT-{text}-2020-01-0" in exchange.requests[0].path


# --- into the candle file -----------------------------------------------------------------------


def test_an_interrupted_update_goes_on_where_it_was_and_gives_the_same_file(
    exchange: Exchange, tmp_path: Path
) -> None:
    span = span_of("2020-01-20", "2020-03-04")
    archive = source(exchange, downloads=2, attempts=1)
    whole = update(tmp_path / "whole.h5", archive, HOUR, *span).header
    once = [request.path for request in exchange.requests]
    assert len(once) == len(set(once))

    exchange.requests.clear()
    exchange.faults.extend([*[None] * 14, *[ex.SERVER_ERROR] * 10])
    path = tmp_path / "resumed" / "candles.h5"
    with pytest.raises(SourceError, match="HTTP 500"):
        update(path, archive, HOUR, *span)
    assert not path.exists()
    exchange.faults.clear()
    before = asked(exchange)
    exchange.requests.clear()
    resumed = update(path, archive, HOUR, *span)
    assert resumed.header.digest == whole.digest
    assert resumed.header.covered == whole.covered == (span,)
    assert_same(read_candles(path), HELD.slice(*span))
    again = asked(exchange)
    stored = before[: before.index(again[0])] if again[0] in before else before
    assert len(stored) >= 5
    assert not set(stored) & set(again)

    exchange.requests.clear()
    assert update(path, archive, HOUR, *span).added == 0
    assert exchange.requests == []


def test_what_was_left_unanswered_is_asked_for_by_the_next_update(tmp_path: Path) -> None:
    held = bars(TODAY - 5 * DAY, TODAY)
    late = f"BTCUSDT-1h-{format_instant(TODAY - DAY)[:10]}.zip"
    answers = BinanceArchiveAnswers(held, missing={late})
    path = tmp_path / "candles.h5"
    with Exchange(answers) as exchange:
        first = update(path, source(exchange), HOUR, TODAY - 5 * DAY, None)
        assert first.header.covered == ((TODAY - 5 * DAY, TODAY - DAY),)
        exchange.requests.clear()
        answers.missing.clear()
        second = update(path, source(exchange), HOUR, TODAY - 5 * DAY, None)
        assert asked(exchange) == [late[11:21]]
    assert second.header.covered == (held.span,)
    assert_same(read_candles(path), held)
    stored = read_header(path).provenance
    names = [
        f"BTCUSDT-1h-{format_instant(TODAY - back * DAY)[:10]}.zip" for back in (5, 4, 3, 2, 1)
    ]
    assert [record.origin.rsplit("/", 1)[1] for record in stored] == names
    assert [record.checksum for record in stored] == [
        f"sha256:{hashlib.sha256(answers.files[name]).hexdigest()}" for name in names
    ]


# --- real files ---------------------------------------------------------------------------------


def real(folder: Path, *names: str) -> dict[str, bytes]:
    return {
        f"{name}.zip": ex.zipped(f"{name}.csv", (folder / f"{name}.csv").read_bytes())
        for name in names
    }


def test_real_files_around_the_change_of_units_join_without_a_seam(real_data: Path) -> None:
    files = real(real_data / "binance_spot_1h", "BTCUSDT-1h-2024-12", "BTCUSDT-1h-2025-01")
    with Exchange(BinanceArchiveAnswers(make_empty(HOUR), files=files)) as exchange:
        blocks = fetch(exchange, span_of("2024-12-01", "2025-02-01"))
    assert [len(block.candles) for block in blocks] == [744, 744]
    assert notes_of(blocks) == []
    got = candles_in(blocks)
    assert got.holes().tolist() == []
    assert (got["low"].min(), got["high"].max()) == (89256.69, 109588.0)
    last = {name: float(got[name][744]) for name in ("open", "close", "trades")}
    assert last == {"open": 93576.0, "close": 94401.14, "trades": 93525.0}
    assert float(got["quote_volume"][744]) == 71068810.5594638
    assert float(got["taker_buy_volume"][744]) == 421.08319


def test_a_real_month_with_an_outage_has_its_hole_and_a_note_on_the_short_bar(
    real_data: Path,
) -> None:
    files = real(real_data / "binance_spot_1h", "BTCUSDT-1h-2023-03")
    with Exchange(BinanceArchiveAnswers(make_empty(HOUR), files=files)) as exchange:
        [block] = fetch(exchange, span_of("2023-03-01", "2023-04-01"))
    assert len(block.candles) == 743
    hole = span_of("2023-03-24T13:00", "2023-03-24T14:00")
    assert block.candles.holes().tolist() == [list(hole)]
    assert block.notes == (
        "binance BTCUSDT-1h-2023-03.zip: 1 of 743 rows close too early and were kept, the first "
        "at 2023-03-24T12:00:00Z",
    )


def test_a_real_month_of_futures_is_complete(real_data: Path) -> None:
    files = real(real_data / "binance_um_5m", "BTCUSDT-5m-2025-01")
    with Exchange(BinanceArchiveAnswers(make_empty(300), market="um", files=files)) as exchange:
        [block] = fetch(exchange, span_of("2025-01-01", "2025-02-01"), 300, market="um")
    assert len(block.candles) == 8928
    assert block.notes == ()
    assert (block.candles["low"].min(), block.candles["high"].max()) == (88909.0, 110000.0)


# --- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("product", "../etc"),
        ("product", "BTC/USDT"),
        ("market", "option"),
        ("product", ""),
        ("base_url", "data.binance.vision"),
        ("base_url", "http://data.binance.vision"),
        ("downloads", 0),
        ("downloads", 17),
        ("requests_per_second", 0.0),
        ("timeout", float("inf")),
        ("attempts", 0),
        ("retry_wait", -0.1),
        ("base_url", "https://me:secret@data.binance.vision"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(argument: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=argument) as caught:
        BinanceArchive(**{argument: value})
    assert "secret" not in str(caught.value)


def test_an_interval_that_the_archive_has_not_is_refused_before_anything_is_asked(
    exchange: Exchange,
) -> None:
    with pytest.raises(SourceError, match=r"binance has no bars of 7m: .* one of 1s, 1m, 3m, 5m"):
        fetch(exchange, interval=420)
    assert exchange.requests == []


def test_importing_the_source_loads_neither_http_nor_polars() -> None:
    code = (
        "import sys, btc_datamodule.sources.binance.source as b; b.BinanceArchive(); "
        "print(sorted({'httpx', 'tenacity', 'polars'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
