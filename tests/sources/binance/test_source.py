"""Binance's archive on a real HTTP server: which files, what is in them, and how they go wrong."""

import gc
import hashlib
import logging
import re
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.candles.series import OPTIONAL, Candles, concatenate, empty
from btc_datamodule.candles.timeline import Span, floor_to, format_instant, parse_instant
from btc_datamodule.errors import BTCDataError, CandleError, ConfigError, SourceError
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.store.candle_file import read_candles, read_header
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange, Fault
from tests.helpers import HOUR, assert_same, candles_of

DAY = 86_400


def bars(start: str | int, end: str | int, interval: int = HOUR) -> Candles:
    """Candles with every optional column for [start, end)."""
    times = np.arange(parse_instant(start), parse_instant(end), interval)
    return candles_of(times, interval, optional=OPTIONAL)


HELD = bars("2020-01-01", "2020-04-01")
MONTHS = ["2020-01", "2020-02", "2020-03"]
JANUARY_5 = "BTCUSDT-1h-2020-01-05.zip"
DAY_5 = (parse_instant("2020-01-05"), parse_instant("2020-01-06"))


@pytest.fixture
def answers() -> BinanceArchiveAnswers:
    return BinanceArchiveAnswers(HELD)


@pytest.fixture
def exchange(answers: BinanceArchiveAnswers) -> Iterator[Exchange]:
    with Exchange(answers) as server:
        yield server


def source(exchange: Exchange, **changes: Any) -> BinanceArchive:
    """The archive at the test server, with waits that tests can afford."""
    quick: dict[str, Any] = {"requests_per_second": 5000.0, "attempts": 3, "retry_wait": 0.01}
    return BinanceArchive(**{"base_url": exchange.url, **quick, **changes})


def fetch(
    exchange: Exchange, span: Span = HELD.span, interval: int = HOUR, **changes: Any
) -> list[Block]:
    return list(source(exchange, **changes).blocks(interval, span))


def candles_in(blocks: list[Block]) -> Candles:
    return concatenate([block.candles for block in blocks])


def span_of(start: str, end: str) -> Span:
    return parse_instant(start), parse_instant(end)


def asked(exchange: Exchange) -> list[str]:
    """The dates of the zips that were asked for, in order of time; checksums have their own."""
    names = [request.path.rsplit("/", 1)[1] for request in exchange.requests]
    return sorted(re.sub(r"BTCUSDT-\w+?-|\.zip", "", name) for name in names if name.endswith("ip"))


def notes_of(blocks: list[Block]) -> list[str]:
    return [note for block in blocks for note in block.notes]


def serve_lines(
    answers: BinanceArchiveAnswers,
    edit: Callable[[list[bytes]], list[bytes]],
    name: str = JANUARY_5,
) -> None:
    """Serve ``name`` with its rows edited, and a checksum that fits."""
    lines = edit(answers.csv(name).splitlines(keepends=True))
    answers.files[name] = ex.zipped(name.replace(".zip", ".csv"), b"".join(lines))


# --- which files --------------------------------------------------------------------------------


def test_whole_months_come_from_monthly_files_and_equal_what_the_archive_holds(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    blocks = fetch(exchange)
    assert_same(candles_in(blocks), HELD)
    folder = "/data/spot/monthly/klines/BTCUSDT/1h"
    assert sorted(request.path for request in exchange.requests) == [
        f"{folder}/BTCUSDT-1h-{month}.zip{suffix}"
        for month in MONTHS
        for suffix in ("", ".CHECKSUM")
    ]
    edges = [parse_instant(f"2020-0{month}-01") for month in (1, 2, 3, 4)]
    assert [block.span for block in blocks] == list(pairwise(edges))
    assert notes_of(blocks) == []
    for block, month in zip(blocks, MONTHS, strict=True):
        body = answers.files[f"BTCUSDT-1h-{month}.zip"]
        assert block.origin == f"{exchange.url}{folder}/BTCUSDT-1h-{month}.zip"
        assert block.checksum == f"sha256:{hashlib.sha256(body).hexdigest()}"
        assert block.received == len(body)


def test_days_around_whole_months_come_from_daily_files_clipped_to_the_span(
    exchange: Exchange,
) -> None:
    span = span_of("2020-01-30T05:00", "2020-03-02T07:00")
    blocks = fetch(exchange, span, base_url=f"{exchange.url}/")
    assert_same(candles_in(blocks), HELD.slice(*span))
    days = ["2020-01-30", "2020-01-31", "2020-02", "2020-03-01", "2020-03-02"]
    assert asked(exchange) == sorted(days)
    paths = {request.path for request in exchange.requests}  # in any order: several are under way
    assert "/data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2020-01-30.zip.CHECKSUM" in paths
    assert [block.span[0] for block in blocks] == [
        span[0],
        *map(parse_instant, ["2020-01-31"]),
        *(parse_instant(day) for day in ("2020-02-01", "2020-03-01", "2020-03-02")),
    ]
    assert blocks[-1].span[1] == span[1]
    assert all(a.span[1] == b.span[0] for a, b in pairwise(blocks))


def test_the_days_of_a_month_that_is_not_there_come_from_daily_files(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    answers.missing.add("BTCUSDT-1h-2020-02.zip")
    blocks = fetch(exchange)
    assert_same(candles_in(blocks), HELD)
    days = [f"2020-02-{day:02d}" for day in range(1, 30)]
    assert asked(exchange) == ["2020-01", *days, "2020-03"]  # its checksum alone was looked for
    assert [len(block.candles) for block in blocks] == [744, *[24] * 29, 744]
    assert notes_of(blocks) == []


def test_a_month_that_starts_with_the_market_is_taken_as_a_whole() -> None:
    held = bars("2017-08-17T04:00", "2017-10-01")
    with Exchange(BinanceArchiveAnswers(held)) as exchange:
        span = (BinanceArchive().first, held.span[1])
        blocks = fetch(exchange, span)
        assert asked(exchange) == ["2017-08", "2017-09"]
    assert_same(candles_in(blocks), held)
    assert blocks[0].span == span_of("2017-08-17", "2017-09-01")


def test_whole_days_that_a_monthly_file_leaves_out_come_from_daily_files(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    name = "BTCUSDT-1h-2020-02.zip"
    serve_lines(answers, lambda lines: [*lines[:30], *lines[72:90], *lines[91:600]], name)
    blocks = fetch(exchange)
    lost = parse_instant("2020-02-01") + 90 * HOUR  # one bar: nobody looks for it elsewhere
    assert_same(candles_in(blocks), ex.without(HELD, (lost, lost + HOUR)))
    assert asked(exchange) == [
        *("2020-01", "2020-02"),
        *("2020-02-02", "2020-02-03", "2020-02-26", "2020-02-27", "2020-02-28", "2020-02-29"),
        "2020-03",
    ]
    assert notes_of(blocks) == [
        f"binance: {count} bars that {name} leaves out came from BTCUSDT-1h-2020-02-{day}.zip"
        for count, day in [(18, "02"), (24, "03"), (24, "26"), (24, "27"), (24, "28"), (24, "29")]
    ]
    edges = [block.span for block in blocks]
    assert all(a[1] == b[0] for a, b in pairwise(edges))
    assert (edges[0][0], edges[-1][1]) == HELD.span
    monthly = [block for block in blocks if block.origin.endswith(name)]
    assert len(monthly) == 2
    assert {block.checksum for block in monthly} == {
        f"sha256:{hashlib.sha256(answers.files[name]).hexdigest()}"
    }
    assert [block.received for block in monthly] == [len(answers.files[name]), 0]  # counted once


def test_a_monthly_file_without_rows_gives_way_to_daily_files(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    serve_lines(answers, lambda lines: [], "BTCUSDT-1h-2020-02.zip")
    blocks = fetch(exchange)
    assert_same(candles_in(blocks), HELD)
    assert len(blocks) == 1 + 29 + 1
    assert notes_of(blocks)[0] == "binance BTCUSDT-1h-2020-02.zip: holds no rows"


def test_an_empty_span_asks_nothing(exchange: Exchange) -> None:
    assert fetch(exchange, (HELD.span[0], HELD.span[0])) == []
    assert exchange.requests == []


# --- days without a file ------------------------------------------------------------------------

TODAY = floor_to(time.time(), DAY)


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
    assert len(exchange.requests) < 50


# --- what is in a file --------------------------------------------------------------------------


def test_milliseconds_until_2024_and_microseconds_from_2025_are_told_apart() -> None:
    held = bars("2024-12-01", "2025-02-01")
    answers = BinanceArchiveAnswers(held)
    with Exchange(answers) as exchange:
        assert_same(candles_in(fetch(exchange, held.span)), held)
    assert answers.csv("BTCUSDT-1h-2024-12.zip").startswith(b"1733011200000,")
    assert answers.csv("BTCUSDT-1h-2025-01.zip").startswith(b"1735689600000000,")


def test_both_units_may_stand_in_one_file(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def some_in_micros(lines: list[bytes]) -> list[bytes]:
        return [re.sub(rb"(15\d{11})", rb"\g<1>000", line) for line in lines[:9]] + lines[9:]

    serve_lines(answers, some_in_micros)
    blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    assert notes_of(blocks) == []


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("market", ["spot", "um"])
def test_files_come_with_a_header_or_without(market: Literal["spot", "um"], header: bool) -> None:
    answers = BinanceArchiveAnswers(HELD, market=market, header=header)
    with Exchange(answers) as exchange:
        assert_same(candles_in(fetch(exchange, market=market)), HELD)
    assert answers.csv("BTCUSDT-1h-2020-01.zip").startswith(b"open_time" if header else b"157")


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


def test_a_file_of_many_chunks_is_read_as_a_whole() -> None:
    held = bars("2020-01-05", "2020-01-06", 1)  # 86,400 rows of some 150 bytes: two chunks
    answers = BinanceArchiveAnswers(held, header=True)
    name = "BTCUSDT-1s-2020-01-05.zip"
    text = answers.csv(name)
    assert len(text) > 8 * 2**20
    answers.files[name] = ex.zipped("a.csv", text)
    with Exchange(answers) as exchange:
        assert_same(candles_in(fetch(exchange, held.span, 1)), held)
        lines = text.splitlines(keepends=True)[:80_001]
        lines[80_000] = b"x" + lines[80_000]
        answers.files[name] = ex.zipped("a.csv", b"".join(lines))
        with pytest.raises(SourceError, match=r"2020-01-05.zip, row 80001: open_time is 'x157"):
            fetch(exchange, held.span, 1)


# --- known damage -------------------------------------------------------------------------------


def test_rows_off_the_grid_are_left_out_and_counted(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def shifted(lines: list[bytes]) -> list[bytes]:
        return [*lines[:4], *(b"1578197" + line[7:] for line in lines[4:6]), *lines[6:]]

    serve_lines(answers, shifted)
    blocks = fetch(exchange, DAY_5)
    lost = (DAY_5[0] + 4 * HOUR, DAY_5[0] + 6 * HOUR)
    assert_same(candles_in(blocks), ex.without(HELD.slice(*DAY_5), lost))
    assert notes_of(blocks) == [
        f"binance {JANUARY_5}: 2 of 24 rows open off the grid and were left out, the first at "
        "2020-01-05T04:16:40Z"
    ]


def test_rows_outside_the_files_period_are_left_out_and_counted(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    others = answers.csv("BTCUSDT-1h-2020-01-06.zip").splitlines(keepends=True)
    serve_lines(answers, lambda lines: [*others[:3], *lines])
    blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    assert notes_of(blocks) == [
        f"binance {JANUARY_5}: 3 of 27 rows open outside its period and were left out, the first "
        "at 2020-01-06T00:00:00Z"
    ]


@pytest.mark.parametrize("digits", [b"", b"000000"])
def test_a_file_with_no_row_of_its_period_is_an_error(
    exchange: Exchange, answers: BinanceArchiveAnswers, digits: bytes
) -> None:
    def in_another_unit(lines: list[bytes]) -> list[bytes]:
        return [line[:10] + digits + line[13 if not digits else 10 :] for line in lines]

    serve_lines(answers, in_another_unit)
    with pytest.raises(SourceError, match=r"24 of 24 rows open outside its period.*another file"):
        fetch(exchange, DAY_5)


def test_a_bar_that_closes_early_is_kept_and_counted(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def cut(lines: list[bytes]) -> list[bytes]:
        fields = lines[7].split(b",")
        fields[6] = b"1578209581646"
        return [*lines[:7], b",".join(fields), *lines[8:]]

    serve_lines(answers, cut)
    blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    assert notes_of(blocks) == [
        f"binance {JANUARY_5}: 1 of 24 rows close too early and were kept, the first at "
        "2020-01-05T07:00:00Z"
    ]


def test_duplicated_and_shuffled_rows_are_stored_once_in_order(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    serve_lines(answers, lambda lines: [*lines[10:], *lines[:12]])
    blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    [note] = notes_of(blocks)
    assert note.startswith(f"binance {JANUARY_5}: 2 rows repeat an open time")


BROKEN = {
    "a word": (lambda row: row.replace(b",", b",abc", 1), "open is 'abc"),
    "a field too few": (lambda row: row.rsplit(b",", 1)[0] + b"\n", "11 fields instead of 12"),
    "a field too many": (lambda row: b"1," + row, "13 fields instead of 12: '1,15"),
    "cut off": (lambda row: row[:30] + b"\n", "2 fields instead of 12"),
    "an empty field": (lambda row: b",".join([row[:13], b"", row.split(b",", 2)[2]]), "open is ''"),
    "a broken time": (lambda row: b"2020-01-05" + row[13:], "open_time is '2020-01-05'"),
    "a blank line": (lambda row: b"\n", "1 fields instead of 12: ''"),
    "no text": (lambda row: b"\xff\xfe\x00" + row[13:], "open_time is '\ufffd\ufffd"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("header", [False, True])
def test_a_broken_row_is_named_by_file_row_and_what_is_wrong(
    exchange: Exchange,
    answers: BinanceArchiveAnswers,
    header: bool,
    spoil: Callable[[bytes], bytes],
    message: str,
) -> None:
    answers.header = header
    at = 5 + header
    serve_lines(answers, lambda lines: [*lines[:at], spoil(lines[at]), *lines[at + 1 :]])
    with pytest.raises(SourceError) as caught:
        fetch(exchange, DAY_5)
    said = str(caught.value)
    assert f"{JANUARY_5}, row {at + 1}: {message}" in said
    assert said.startswith(f"{exchange.url}/data/spot/daily/")
    assert "set `end` before it or `start` after it" in said
    assert "\n" not in said


def test_a_first_line_that_is_no_header_of_klines_is_quoted(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    serve_lines(answers, lambda lines: [b"time,close,open\n", *lines])
    with pytest.raises(SourceError, match=r"row 1: no row of a candle and no header, but 'time,cl"):
        fetch(exchange, DAY_5)


def test_a_row_that_is_no_candle_is_named_by_file_row_and_time(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def crossed(lines: list[bytes]) -> list[bytes]:
        fields = lines[3].split(b",")
        fields[2], fields[3] = fields[3], fields[2]
        return [*lines[:3], b",".join(fields), *lines[4:]]

    serve_lines(answers, crossed)
    with pytest.raises(
        CandleError,
        match=rf"{JANUARY_5}, row 4 \(2020-01-05T03:00:00Z\): high is below low .*: "
        "set `source.drop_invalid: true` to leave such bars out$",
    ):
        fetch(exchange, DAY_5)
    [block] = fetch(exchange, DAY_5, drop_invalid=True)
    lost = (DAY_5[0] + 3 * HOUR, DAY_5[0] + 4 * HOUR)
    assert_same(block.candles, ex.without(HELD.slice(*DAY_5), lost))
    [note] = block.notes
    assert "1 rows that are no candles were left out, such as" in note
    assert f"{JANUARY_5}, row 4 (2020-01-05T03:00:00Z): high is below low" in note


def test_what_dropping_rows_would_not_mend_is_told_without_that_remedy(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    def contradictory(lines: list[bytes]) -> list[bytes]:
        fields = lines[3].split(b",")
        fields[1:5] = [b"1000"] * 4
        return [*lines, b",".join(fields)]

    serve_lines(answers, contradictory)
    for drop_invalid in (False, True):
        with pytest.raises(CandleError, match=r"two rows for 2020-01-05T03:00:00Z") as caught:
            fetch(exchange, DAY_5, drop_invalid=drop_invalid)
        assert "drop_invalid" not in str(caught.value)


# --- zips ---------------------------------------------------------------------------------------


def flagged(body: bytes, offset: int, kind: str, value: int) -> bytes:
    """A zip with one number of its file's two headers replaced; the second has it 2 bytes later."""
    changed_body = bytearray(body)
    for magic, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        struct.pack_into(kind, changed_body, body.index(magic) + offset + shift, value)
    return bytes(changed_body)


CSV = BinanceArchiveAnswers(HELD).csv(JANUARY_5)
ZIP = ex.zipped("BTCUSDT-1h-2020-01-05.csv", CSV)
BOMB = ex.zipped("BTCUSDT-1h-2020-01-05.csv", bytes(30 * 2**20))
ZIPS = {
    "truncated": (ZIP[: len(ZIP) // 2], r"the zip is damaged or cut short \(File is not a zip"),
    "no zip at all": (b"<html>hello</html>", r"the zip is damaged or cut short \(File is not a"),
    "empty": (b"", r"the zip is damaged or cut short"),
    "a bit flipped": (
        ZIP[:200] + bytes([ZIP[200] ^ 1]) + ZIP[201:],
        r"the zip is damaged or cut short \((Error -3|Bad CRC-32)",
    ),
    "two files": (ex.zipped("a.csv", CSV, ("b.csv", CSV)), r"refused: it holds 2 files instead of"),
    "no file": (b"PK\x05\x06" + bytes(18), r"refused: it holds 0 files instead of one"),
    "a path upwards": (ex.zipped("../evil.csv", CSV), r"refused: .* called '\.\./evil\.csv'"),
    "an absolute path": (ex.zipped("/etc/evil.csv", CSV), r"refused: .* called '/etc/evil\.csv'"),
    "a path of Windows": (ex.zipped("C:\\evil.csv", CSV), r"refused: .* called 'C:\\\\evil\.csv'"),
    "a folder": (ex.zipped("klines.csv/", b""), r"refused: .* called 'klines.csv/'"),
    "encrypted": (flagged(ZIP, 6, "<H", 1), r"refused: it is encrypted"),
    "packed otherwise": (flagged(ZIP, 8, "<H", 14), r"refused: it is packed by method 14"),
    "a bomb": (BOMB, r"refused: it unpacks to 31,457,280 bytes, more than 75,136"),
    "a bomb that denies it": (flagged(BOMB, 22, "<L", 999), r"damaged or cut short \(Bad CRC-32"),
}


@pytest.mark.parametrize(("body", "message"), ZIPS.values(), ids=ZIPS.keys())
def test_a_zip_that_is_damaged_or_not_safe_is_refused_with_the_reason(
    exchange: Exchange, answers: BinanceArchiveAnswers, body: bytes, message: str
) -> None:
    answers.files[JANUARY_5] = body
    with pytest.raises(SourceError, match=message) as caught:
        fetch(exchange, DAY_5)
    url = f"{exchange.url}/data/spot/daily/klines/BTCUSDT/1h/{JANUARY_5}: "
    assert str(caught.value).startswith(url)
    assert "its checksum is right, so Binance published it like this" in str(caught.value)
    assert len(exchange.requests) == 2  # asking again would bring the same


def test_whatever_bytes_a_zip_has_the_answer_is_candles_or_an_error_of_ours() -> None:
    answers = BinanceArchiveAnswers(HELD)
    with Exchange(answers) as exchange:

        @settings(max_examples=60, deadline=None)  # each example is two requests
        @given(st.lists(st.tuples(st.integers(0, len(ZIP) - 1), st.integers(0, 255)), max_size=4))
        def law(edits: list[tuple[int, int]]) -> None:
            body = bytearray(ZIP)
            for at, value in edits:
                body[at] = value
            answers.files[JANUARY_5] = bytes(body)
            with suppress(BTCDataError):
                assert_same(candles_in(fetch(exchange, DAY_5)), HELD.slice(*DAY_5))

        law()


# --- checksums ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    ["{digest}  {name}", "{digest}  {name}\r\n", "{upper}  {name}\n", "{digest} *{name}\n"],
)
def test_checksums_are_read_in_every_spelling_of_sha256sum(
    exchange: Exchange, answers: BinanceArchiveAnswers, spelling: str
) -> None:
    fetch(exchange, DAY_5)
    reply = answers(exchange.requests[0])
    digest, name = reply.body.decode().split()
    text = spelling.format(digest=digest, upper=digest.upper(), name=name)
    answers.files[f"{JANUARY_5}.CHECKSUM"] = text.encode()
    [block] = fetch(exchange, DAY_5)
    assert_same(block.candles, HELD.slice(*DAY_5))
    assert block.checksum == f"sha256:{digest}"


@pytest.mark.parametrize("which", [0, 1])
def test_a_mismatch_that_passes_is_fetched_again_with_its_checksum(
    exchange: Exchange, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.faults.extend([*[None] * which, ex.HTML_PAGE])
    with caplog.at_level(logging.WARNING):
        blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    assert notes_of(blocks) == []
    names = [request.path.rsplit("/", 1)[1] for request in exchange.requests]
    assert names == [f"{JANUARY_5}.CHECKSUM", JANUARY_5] * 2
    [record] = caplog.records
    assert "attempt 1 of 3 failed" in record.getMessage()


def test_a_mismatch_that_stays_names_the_file_both_digests_and_what_to_do(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    answers.files[JANUARY_5] = ZIP
    answers.files[f"{JANUARY_5}.CHECKSUM"] = f"{'0' * 64}  {JANUARY_5}".encode()
    with pytest.raises(SourceError) as caught:
        fetch(exchange, DAY_5)
    assert re.fullmatch(
        rf"{exchange.url}/data/spot/daily/klines/BTCUSDT/1h/{JANUARY_5}: its sha256 is "
        rf"[0-9a-f]{{64}}, but {JANUARY_5}.CHECKSUM says 0{{64}} \(gave up after 3 attempts\): run "
        r"it again later, the archive may be replacing the file; if it stays, something on the way "
        r"changes what is downloaded",
        str(caught.value),
    )
    assert len(exchange.requests) == 6


@pytest.mark.parametrize(
    "text", [b"<html>Please log in</html>", b"", f"{'0' * 64}  BTCUSDT-1h-2020-01-06.zip".encode()]
)
def test_a_checksum_of_something_else_is_no_checksum(
    exchange: Exchange, answers: BinanceArchiveAnswers, text: bytes
) -> None:
    answers.files[f"{JANUARY_5}.CHECKSUM"] = text
    with pytest.raises(
        SourceError, match=r"holds no digest for it, but '.*gave up after 3 attempts"
    ) as caught:
        fetch(exchange, DAY_5)
    assert " ".join(text.decode().split())[:80] in str(caught.value)


# --- trouble on the wire ------------------------------------------------------------------------

PASSING = {
    "429": ex.TOO_MANY_REQUESTS,
    "418": ex.BANNED,
    "500": ex.SERVER_ERROR,
    "503": ex.UNAVAILABLE,
    "time-out": ex.Silence(5.0),
    "cut": ex.CUT,
    "cut short": ex.CUT_SHORT,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_trouble_that_passes_leaves_no_trace_in_the_candles(
    exchange: Exchange, fault: Fault
) -> None:
    exchange.faults.extend([fault, None, fault, fault])
    blocks = fetch(exchange, attempts=5, timeout=1.0 if isinstance(fault, ex.Silence) else 20.0)
    assert_same(candles_in(blocks), HELD)
    assert len(exchange.requests) == 6 + 3
    assert notes_of(blocks) == []


def test_a_wait_that_the_archive_asks_for_is_kept_by_all_downloads(exchange: Exchange) -> None:
    exchange.faults.append(ex.too_many_requests("1"))
    began = time.monotonic()
    assert_same(candles_in(fetch(exchange, downloads=2)), HELD)
    first = exchange.requests[0].time
    early = [r for r in exchange.requests if r.time - first < 0.9]
    assert len(early) <= 3  # what was on its way already
    assert 1.0 <= time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (ex.TOO_MANY_REQUESTS, r"HTTP 429 Too Many Requests \(gave up after 2 attempts\)"),
        (ex.UNAVAILABLE, r"HTTP 503 Service Unavailable \(gave up .*run it again later"),
        (ex.Silence(1.0), r"ReadTimeout: .*a longer `source.timeout`"),
        (ex.CUT_SHORT, r"RemoteProtocolError: .*incomplete|without sending complete"),
    ],
)
def test_trouble_that_stays_ends_in_one_error_after_what_came_before(
    exchange: Exchange, fault: Fault, message: str
) -> None:
    exchange.faults.extend([None, None, *[fault] * 8])
    timeout = 0.3 if isinstance(fault, ex.Silence) else 20.0
    blocks = source(exchange, attempts=2, timeout=timeout, downloads=1).blocks(HOUR, HELD.span)
    assert_same(next(blocks).candles, HELD.slice(*span_of("2020-01-01", "2020-02-01")))
    with pytest.raises(SourceError, match=message) as caught:
        next(blocks)
    assert "BTCUSDT-1h-2020-02.zip.CHECKSUM: " in str(caught.value)
    assert downloading() == []


def test_a_refusal_is_quoted_and_not_repeated(exchange: Exchange) -> None:
    exchange.faults.append(ex.Instead(ex.Reply(403, b"<html>\nForbidden</html>")))
    with pytest.raises(SourceError, match=r"refused with HTTP 403, '<html> Forbidden</html>': che"):
        fetch(exchange, DAY_5)
    assert len(exchange.requests) == 1


# --- several at a time --------------------------------------------------------------------------


def downloading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("binance")]


@pytest.mark.parametrize("downloads", [1, 3])
def test_never_more_than_downloads_are_on_their_way_and_the_order_is_that_of_time(
    exchange: Exchange, answers: BinanceArchiveAnswers, downloads: int
) -> None:
    answers.delay = 0.01
    span = span_of("2020-01-02", "2020-01-18")
    blocks = fetch(exchange, span, downloads=downloads)
    assert answers.peak == downloads
    assert_same(candles_in(blocks), HELD.slice(*span))
    assert [block.span[0] for block in blocks] == list(range(*span, DAY))
    assert downloading() == []


def test_no_more_files_are_fetched_ahead_than_downloads(exchange: Exchange) -> None:
    blocks = source(exchange, downloads=2).blocks(HOUR, span_of("2020-01-02", "2020-01-30"))
    next(blocks)
    time.sleep(0.3)
    assert asked(exchange) == ["2020-01-02", "2020-01-03", "2020-01-04"]
    blocks.close()  # type: ignore[attr-defined]  # every generator has it


def test_closing_early_ends_downloads_and_waits_at_once(exchange: Exchange) -> None:
    exchange.faults.extend([None, None, *[ex.too_many_requests("60")] * 4])
    blocks = source(exchange, downloads=1).blocks(HOUR, HELD.span)
    next(blocks)
    time.sleep(0.1)
    assert len(downloading()) == 1
    began = time.monotonic()
    blocks.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 30  # not a minute
    assert downloading() == []


def test_blocks_that_were_taken_do_not_stay_in_memory(exchange: Exchange) -> None:
    span = span_of("2020-01-02", "2020-01-08")
    taken: list[weakref.ref[Block]] = []
    alive: list[int] = []
    for block in source(exchange, downloads=4).blocks(HOUR, span):
        taken.append(weakref.ref(block))
        del block
        gc.collect()
        alive.append(sum(ref() is not None for ref in taken))
    assert alive == [1] * 6  # the one that is held here; those still on their way were not taken


def test_a_ban_ends_all_downloads_at_once_and_names_the_instant(exchange: Exchange) -> None:
    exchange.faults.extend([None, None, *[ex.too_many_requests("172800", 418)] * 4])
    blocks = source(exchange, downloads=4, requests_per_second=50).blocks(HOUR, HELD.span)
    began = time.monotonic()
    with pytest.raises(
        SourceError, match=r"HTTP 418 .*asked again no earlier than 20\d\d-"
    ) as caught:
        list(blocks)
    assert time.monotonic() - began < 30
    until = parse_instant(re.findall(r"no earlier than (\S+Z)", str(caught.value))[0])
    assert until == pytest.approx(time.time() + 172_800, abs=10)
    assert len(exchange.requests) <= 2 + 4  # who was on the way may be told the same
    assert downloading() == []


def test_requests_of_all_downloads_keep_their_distance_together(exchange: Exchange) -> None:
    fetch(exchange, span_of("2020-01-02", "2020-01-05"), requests_per_second=20.0, downloads=3)
    assert len(exchange.requests) == 6
    assert sum(exchange.waits) >= 0.2  # 0.25 but for the time a request takes to arrive


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
    with Exchange(BinanceArchiveAnswers(empty(HOUR), files=files)) as exchange:
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
    with Exchange(BinanceArchiveAnswers(empty(HOUR), files=files)) as exchange:
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
    with Exchange(BinanceArchiveAnswers(empty(300), market="um", files=files)) as exchange:
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
        ("market", "cm"),
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
