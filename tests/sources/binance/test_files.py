"""Which files of Binance's archive are asked for, and which stand in for those that are absent."""

import hashlib
import re
from itertools import pairwise

import numpy as np
import pytest

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import parse_instant, unite
from btc_datamodule.sources.binance.files import ArchiveFiles
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange
from tests.factories import HOUR, changed
from tests.helpers import assert_same
from tests.sources.binance.helpers import (
    DAY,
    HELD,
    MONTHS,
    asked,
    bars,
    candles_in,
    fetch,
    notes_of,
    serve_lines,
    span_of,
)

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
    assert asked(exchange) == ["2020-01", "2020-02", *days, "2020-03"]
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
    assert notes_of(blocks) == [
        "binance BTCUSDT-1h-2020-02.zip: holds no rows: no answer yet, set aside, daily files "
        "stand in for it, what they lack is asked for again by the next run"
    ]


@pytest.mark.parametrize("part", ["BTCUSDT-1h-2020-02.zip", "BTCUSDT-1h-2020-02.zip.CHECKSUM"])
def test_daily_files_stand_in_for_a_month_that_is_there_in_part(
    exchange: Exchange, answers: BinanceArchiveAnswers, part: str
) -> None:
    answers.halved.add(part)
    answers.missing |= {f"BTCUSDT-1h-2020-02-{day}.zip" for day in ("10", "11", "29")}
    blocks = fetch(exchange)
    unknown = [span_of("2020-02-10", "2020-02-12"), span_of("2020-02-29", "2020-03-01")]
    assert_same(candles_in(blocks), ex.without(HELD, *unknown))
    assert unite(block.span for block in blocks if not block.answered) == unknown
    [note] = notes_of(blocks)
    assert re.search(r"2020-02.zip: the archive has .* and not .*: no answer yet, set aside", note)


# --- days that monthly files have wrong ---------------------------------------------------------


def wrong_month(start: str, end: str, day: str) -> tuple[BinanceArchiveAnswers, Candles]:
    """The archive of a month whose monthly file has other closes on one day, and the truth."""
    truth = bars(start, end)
    is_wrong = truth.open_time // DAY == parse_instant(day) // DAY
    closes = np.where(is_wrong, truth["low"], truth["close"])
    answers, name = BinanceArchiveAnswers(truth), f"BTCUSDT-1h-{start[:7]}.zip"
    csv = BinanceArchiveAnswers(changed(truth, close=closes)).csv(name)
    answers.files[name] = ex.zipped("a.csv", csv)
    return answers, truth


@pytest.mark.parametrize(
    ("start", "end", "day"),
    [("2020-12-01", "2021-01-01", "2020-12-21"), ("2021-09-01", "2021-10-01", "2021-09-29")],
)
def test_days_that_monthly_files_of_spot_have_wrong_come_from_daily_files(
    start: str, end: str, day: str
) -> None:
    answers, truth = wrong_month(start, end, day)
    with Exchange(answers) as exchange:
        blocks = fetch(exchange, truth.span)
        assert asked(exchange) == [start[:7], day]
    assert_same(candles_in(blocks), truth)
    assert [block.span for block in blocks] == [
        (truth.span[0], parse_instant(day)),
        (parse_instant(day), parse_instant(day) + DAY),
        (parse_instant(day) + DAY, truth.span[1]),
    ]
    assert notes_of(blocks) == [
        f"binance: 24 bars that BTCUSDT-1h-{start[:7]}.zip has wrong came from BTCUSDT-1h-{day}.zip"
    ]


def test_a_wrong_day_without_a_daily_file_is_kept_with_a_note() -> None:
    answers, truth = wrong_month("2021-09-01", "2021-10-01", "2021-09-29")
    answers.missing.add("BTCUSDT-1h-2021-09-29.zip")
    with Exchange(answers) as exchange:
        [block] = fetch(exchange, truth.span)
    assert len(block.candles) == len(truth)
    assert (block.candles["close"] != truth["close"]).sum() == 24
    assert block.notes == (
        "binance: BTCUSDT-1h-2021-09.zip is known to have 2021-09-29 wrong, and there is no "
        "BTCUSDT-1h-2021-09-29.zip to take it from",
    )


def test_only_monthly_klines_of_spot_are_known_to_have_days_wrong() -> None:
    span = span_of("2020-12-01", "2021-10-01")
    days = [span_of("2020-12-21", "2020-12-22"), span_of("2021-09-29", "2021-09-30")]
    files = ArchiveFiles("BTCUSDT", "spot", 0, HOUR)
    assert files.list_mistaken(span) == days
    assert files.list_mistaken((days[0][0] + HOUR, span[1])) == days[1:]
    for other in (files._replace(market="um"), files._replace(type="markPriceKlines")):
        assert other.list_mistaken(span) == []


# --- types --------------------------------------------------------------------------------------


def test_a_type_without_days_is_asked_for_by_months_and_one_without_months_by_days() -> None:
    span = span_of("2020-01-30T08:00", "2020-03-01T08:00")
    funding = ArchiveFiles("BTCUSDT", "um", 0, type="fundingRate", periods="monthly")
    assert [(file.name, file.wanted) for file in funding.select(span)] == [
        ("BTCUSDT-fundingRate-2020-01.zip", span_of("2020-01-30T08:00", "2020-02-01")),
        ("BTCUSDT-fundingRate-2020-02.zip", span_of("2020-02-01", "2020-03-01")),
        ("BTCUSDT-fundingRate-2020-03.zip", span_of("2020-03-01", "2020-03-01T08:00")),
    ]
    metrics = ArchiveFiles("BTCUSDT", "um", 0, type="metrics", periods="daily")
    files = metrics.select(span)
    assert len(files) == 32
    assert files[0].path == (
        "/data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2020-01-30.zip"
    )
    assert (files[0].wanted[0], files[-1].wanted[1]) == span
    assert [file.date for file in (files[-1], funding.select(span)[0])] == ["2020-03-01", "2020-01"]


def test_the_files_that_are_surely_there_are_some_days_old_or_some_months() -> None:
    now = parse_instant("2024-03-02T05:00")
    klines = ArchiveFiles("BTCUSDT", "spot", 0, HOUR)
    funding = ArchiveFiles("BTCUSDT", "um", 0, type="fundingRate", periods="monthly")
    assert [file.date for file in klines.select_recent(now)] == [
        *("2024-02-25", "2024-02-26", "2024-02-27")
    ]
    assert [file.date for file in funding.select_recent(now)] == ["2023-11", "2023-12", "2024-01"]
    assert klines.find_end(now) == parse_instant("2024-03-02")
    assert funding.find_end(now) == parse_instant("2024-03-01")


def test_an_empty_span_asks_nothing(exchange: Exchange) -> None:
    assert fetch(exchange, (HELD.span[0], HELD.span[0])) == []
    assert exchange.requests == []
