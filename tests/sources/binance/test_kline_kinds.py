"""Mark prices, index prices and premiums of Binance's archive, in bars."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BinanceKlines
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import parse_instant, unite
from btc_datamodule.errors import ConfigError, RecordError, SourceError
from btc_datamodule.plain import to_plain
from btc_datamodule.sources.records import RecordBlock
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import KLINE_HEADER, BinanceArchiveAnswers, Exchange
from tests.factories import HOUR
from tests.sources.binance.helpers import (
    BROKEN_FILES,
    DAY,
    QUICK,
    answers_of,
    archive_with,
    asked,
    records_in,
    rows_of,
    span_of,
    told_by,
)

OHLC = ("open", "high", "low", "close")
FIFTH = "BTCUSDT-1h-2024-01-05.zip"


def bar(start: str, *prices: float, interval: int = HOUR) -> str:
    """A bar in the archive's 12 columns: volumes are 0, the count is a filler."""
    at = parse_instant(start)
    values = ",".join(map(str, prices))
    return f"{at}000,{values},0,{at + interval - 1}999,0,{interval},0,0,0\n"


def ask(exchange: Exchange, *span: str, **changes: Any) -> list[RecordBlock]:
    return list(BinanceKlines(base_url=exchange.url, **QUICK | changes).blocks(span_of(*span)))


def read(*rows: str, type: str = "markPriceKlines", **changes: Any) -> RecordBlock:
    """The block of a day of hours with these rows."""
    with archive_with({FIFTH: "".join(rows)}, f"1h {type}") as exchange:
        [block] = ask(exchange, "2024-01-05", "2024-01-06", **changes)
    return block


def hold(start: str, end: str, interval: int = HOUR) -> RecordSet:
    """Bars of a premium, above and below zero."""
    time = np.arange(parse_instant(start), parse_instant(end), interval)
    middle = 0.001 * np.sin(time / 7e4)
    prices = {"open": middle, "high": middle + 1e-4, "low": middle - 1e-4, "close": middle + 5e-5}
    return RecordSet({"time": time, "known_at": time + interval, **prices})


def premiums(held: RecordSet, interval: int = HOUR) -> BinanceArchiveAnswers:
    return BinanceArchiveAnswers(held, market="um", type="premiumIndexKlines", interval=interval)


def without(held: RecordSet, start: str, end: str) -> RecordSet:
    low, high = span_of(start, end)
    return held.take((held.time < low) | (held.time >= high))


def assert_same(got: RecordSet, expected: RecordSet) -> None:
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(got[name], column)


# --- records ------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", KLINE_HEADER])
def test_a_bar_is_known_at_its_close_and_has_prices_alone(header: str) -> None:
    block = read(
        header,
        bar("2024-01-05T00:00", 44150.5, 44200.25, 44100, 44180),
        bar("2024-01-05T01:00", 44180, 44300, 44170, 44290),
    )
    assert rows_of(block.records, *OHLC) == [
        ("2024-01-05T00:00:00", "2024-01-05T01:00:00", 44150.5, 44200.25, 44100.0, 44180.0),
        ("2024-01-05T01:00:00", "2024-01-05T02:00:00", 44180.0, 44300.0, 44170.0, 44290.0),
    ]
    assert block.records.values == OHLC
    assert block.notes == ()


def test_a_premium_may_be_negative_or_zero() -> None:
    rows = [
        bar("2024-01-05T00:00", -0.0002, 0, -0.0005, -0.0001),
        bar("2024-01-05T01:00", 0, 0, 0, 0),
    ]
    block = read(*rows, type="premiumIndexKlines", kind="premium")
    assert rows_of(block.records, *OHLC) == [
        ("2024-01-05T00:00:00", "2024-01-05T01:00:00", -0.0002, 0.0, -0.0005, -0.0001),
        ("2024-01-05T01:00:00", "2024-01-05T02:00:00", 0.0, 0.0, 0.0, 0.0),
    ]


@pytest.mark.parametrize(("kind", "type"), [("mark", "markPriceK"), ("index", "indexPriceK")])
@pytest.mark.parametrize(
    ("prices", "problem"),
    [
        ((0, 2, 0, 1), "open is not above zero"),
        ((1, 2, -1, 1), "low is not above zero"),
        ((1, "NaN", 1, 1), "high is not a number"),
        ((2, 1.5, 1, 1), "high is below open, low or close"),
        ((2, 3, 2, 1), "low is above open or close"),
    ],
)
def test_a_price_that_cannot_be_is_an_error_or_left_out(
    kind: str, type: str, prices: Sequence[Any], problem: str
) -> None:
    rows = [bar("2024-01-05T00:00", 1, 2, 1, 2), bar("2024-01-05T01:00", *prices)]
    with pytest.raises(
        RecordError,
        match=rf"^binance {FIFTH}, row 2 \(2024-01-05T01:00:00Z\): {problem}: set `source.drop_i",
    ):
        read(*rows, type=f"{type}lines", kind=kind)
    block = read(*rows, type=f"{type}lines", kind=kind, drop_invalid=True)
    assert [row[0] for row in rows_of(block.records)] == ["2024-01-05T00:00:00"]


def test_a_premium_of_which_high_is_below_low_is_an_error_too() -> None:
    with pytest.raises(RecordError, match="high is below open, low or close"):
        read(
            bar("2024-01-05T00:00", 1, 1, 1, 1),
            bar("2024-01-05T01:00", -0.1, -0.2, -0.1, -0.1),
            type="premiumIndexKlines",
            kind="premium",
        )


def test_repeated_bars_are_read_once_and_contradictory_ones_are_an_error() -> None:
    first, second = bar("2024-01-05T00:00", 1, 2, 1, 2), bar("2024-01-05T01:00", 2, 3, 2, 3)
    block = read(second, first, first)
    assert block.records["close"].tolist() == [2.0, 3.0]
    assert block.notes == (f"binance {FIFTH}: 1 rows repeat another one and were left out",)
    other = bar("2024-01-05T00:00", 1, 2, 1, 1.5)
    with pytest.raises(RecordError, match=r"row 1 \(2024-01-05T00:00:00Z\): another row says"):
        read(first, second, other)
    assert read(first, second, other, drop_invalid=True).records["close"].tolist() == [3.0]


def test_bars_that_are_not_there_stay_away() -> None:
    held = without(hold("2023-11-10", "2023-11-11", 300), "2023-11-10T03:40", "2023-11-10T04:05")
    with Exchange(premiums(held, 300)) as exchange:
        [block] = ask(exchange, "2023-11-10", "2023-11-11", kind="premium", interval="5m")
    assert_same(block.records, held)
    assert len(block.records) == 288 - 5


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ({}, "futures/um/daily/markPriceKlines/BTCUSDT/1h/BTCUSDT-1h"),
        ({"kind": "index"}, "futures/um/daily/indexPriceKlines/BTCUSDT/1h/BTCUSDT-1h"),
        ({"kind": "premium"}, "futures/um/daily/premiumIndexKlines/BTCUSDT/1h/BTCUSDT-1h"),
        (
            {"market": "cm", "product": "BTCUSD_PERP"},
            "futures/cm/daily/markPriceKlines/BTCUSD_PERP/1h/BTCUSD_PERP-1h",
        ),
        (
            {"market": "cm", "product": "BTCUSD", "kind": "index"},
            "futures/cm/daily/indexPriceKlines/BTCUSD/1h/BTCUSD-1h",
        ),
        (
            {"market": "cm", "product": "BTCUSD_PERP", "kind": "premium", "interval": "5m"},
            "futures/cm/daily/premiumIndexKlines/BTCUSD_PERP/5m/BTCUSD_PERP-5m",
        ),
    ],
)
def test_each_kind_and_market_has_its_folder(source: dict[str, str], folder: str) -> None:
    with archive_with({}, "1h markPriceKlines") as exchange:
        ask(exchange, "2024-01-05", "2024-01-06", **source)
        assert f"/data/{folder}-2024-01-05.zip" in [request.path for request in exchange.requests]


def test_months_and_the_days_around_them_join_to_what_the_archive_holds() -> None:
    held = hold("2020-01-30", "2020-04-03")
    with Exchange(premiums(held)) as exchange:
        blocks = ask(exchange, "2020-01-30T05:00", "2020-04-02T07:00", kind="premium")
        files = asked(exchange)
    assert files == [
        *("2020-01-30", "2020-01-31", "2020-02", "2020-03", "2020-04-01", "2020-04-02")
    ]
    assert_same(records_in(blocks), held.slice(*span_of("2020-01-30T05:00", "2020-04-02T07:00")))
    assert told_by(blocks) == []


def test_a_day_that_the_monthly_file_leaves_out_comes_from_the_daily_one() -> None:
    held = hold("2023-04-01", "2023-05-01")
    answers, name = premiums(held), "BTCUSDT-1h-2023-04.zip"
    lines = answers.csv(name).splitlines(keepends=True)
    short = b"".join([*lines[:145], *lines[169:]])  # without 2023-04-07
    answers.files[name] = ex.zipped("a.csv", short)
    with Exchange(answers) as exchange:
        blocks = ask(exchange, "2023-04-01", "2023-05-01", kind="premium")
        assert asked(exchange) == ["2023-04", "2023-04-07"]
    assert_same(records_in(blocks), held)
    assert told_by(blocks) == [
        f"binance: 24 bars that {name} leaves out came from BTCUSDT-1h-2023-04-07.zip"
    ]


def test_premiums_of_four_weeks_that_nobody_has_are_settled_and_doubt_nothing() -> None:
    held = without(hold("2021-01-01", "2021-03-01"), "2021-01-24", "2021-02-22")
    with Exchange(premiums(held)) as exchange:
        blocks = ask(exchange, "2021-01-01", "2021-03-01", kind="premium")
    assert_same(records_in(blocks), held)
    assert unite(block.span for block in blocks if block.answered) == [
        span_of("2021-01-01", "2021-03-01")
    ]
    [note] = told_by(blocks)
    assert note == (
        "binance BTCUSDT-um-premium-1h: the archive has no 1h premiumIndexKlines file from "
        "2021-01-24 to 2021-02-21: taken as without records (`refresh: true` asks again)"
    )


@pytest.mark.parametrize(("said", "spoil"), BROKEN_FILES.items(), ids=BROKEN_FILES)
def test_a_day_that_cannot_be_used_is_set_aside_and_the_rest_goes_on(
    said: str, spoil: Callable[[str, bytes], dict[str, bytes]]
) -> None:
    answers = premiums(hold("2024-01-04", "2024-01-07"))
    answers.files |= spoil(FIFTH, ex.zipped("a.csv", answers.csv(FIFTH)))
    with Exchange(answers) as exchange:
        blocks = ask(exchange, "2024-01-04", "2024-01-07", kind="premium")
    assert [block.answered for block in blocks] == [True, False, True]
    assert [len(block.records) for block in blocks] == [24, 0, 24]
    said = said.replace("2 fields instead of", "2 fields instead of 12")
    assert blocks[1].notes[0].startswith(f"binance {FIFTH}: {said}")


@pytest.mark.parametrize(("said", "spoil"), BROKEN_FILES.items(), ids=BROKEN_FILES)
def test_days_stand_in_for_a_month_that_cannot_be_used(
    said: str, spoil: Callable[[str, bytes], dict[str, bytes]]
) -> None:
    held, name = hold("2024-01-01", "2024-02-01"), "BTCUSDT-1h-2024-01.zip"
    answers = premiums(held)
    answers.files |= spoil(name, ex.zipped("a.csv", answers.csv(name)))
    answers.missing.add(FIFTH)
    with Exchange(answers) as exchange:
        blocks = ask(exchange, "2024-01-01", "2024-02-01", kind="premium")
    assert_same(records_in(blocks), without(held, "2024-01-05", "2024-01-06"))
    assert [block.span for block in blocks if not block.answered] == [
        span_of("2024-01-05", "2024-01-06")
    ]
    [note] = told_by(blocks)
    assert note.startswith(f"binance {name}: {said}")
    assert "daily files stand in for it, what they lack is asked for again" in note


def test_a_file_issued_again_has_another_checksum_and_its_new_values() -> None:
    with archive_with({FIFTH: bar("2024-01-05", 1, 2, 1, 2)}, "1h markPriceKlines") as exchange:
        [before] = ask(exchange, "2024-01-05", "2024-01-06")
        again = bar("2024-01-05", 1, 3, 1, 3).encode()
        answers_of(exchange).files[FIFTH] = ex.zipped("a.csv", again)
        [after] = ask(exchange, "2024-01-05", "2024-01-06")
    assert before.checksum != after.checksum
    assert (before.records["close"].tolist(), after.records["close"].tolist()) == ([2.0], [3.0])


def test_an_archive_without_any_file_of_the_product_is_an_error_soon() -> None:
    with (
        archive_with({}, "1h markPriceKlines") as exchange,
        pytest.raises(SourceError, match=r"has no 1h markPriceKlines files of BTCUSDT \(um\)"),
    ):
        ask(exchange, "2024-01-01", "2024-03-01")


# --- arguments ----------------------------------------------------------------------------------


def test_the_defaults_are_hours_of_the_mark_price_of_bitcoin() -> None:
    source = BinanceKlines()
    assert (source.name, source.series) == ("binance", "BTCUSDT-um-mark-1h")
    assert (source.interval, source.covers, source.columns) == (HOUR, 0, OHLC)
    assert source.first == parse_instant("2019-12-23")
    assert BinanceKlines("BTCUSD", "index", market="cm").series == "BTCUSD-cm-index-1h"


def test_an_interval_is_a_text_or_seconds_and_held_as_seconds() -> None:
    source = BinanceKlines(kind="premium", interval="5m")
    assert source.interval == 300
    assert source == BinanceKlines(kind="premium", interval=300)
    assert BinanceKlines(interval="1d").interval == DAY
    held = to_plain(source)
    assert held["class_path"] == "btc_datamodule.BinanceKlines"
    assert type(held["init_args"]["interval"]) is int
    assert BinanceKlines(**held["init_args"]) == source


def test_in_a_hurry_it_has_little_patience() -> None:
    hurried = BinanceKlines("ETHUSDT", "index", "5m", timeout=60, attempts=6).hurry()
    assert (hurried.series, hurried.interval) == ("ETHUSDT-um-index-5m", 300)
    assert (hurried.timeout, hurried.attempts) == (5.0, 2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "last"}, "kind must be mark or index or premium, not 'last'"),
        ({"market": "spot"}, "market must be um or cm, not 'spot'"),
        ({"market": "cm"}, "product 'BTCUSDT' is no contract of market cm: write one such as BTC"),
        (
            {"market": "cm", "kind": "index", "product": "BTCUSD_PERP"},
            "index prices of market cm are those of a pair: write BTCUSD",
        ),
        ({"interval": "7m"}, "interval 7m: binance has bars of 1m, 3m, 5m, 15m, 30m, 1h, 2h"),
        ({"interval": "1s"}, "interval 1s: binance has bars of 1m"),
        ({"interval": "1d+8h"}, r"interval 1d\+8h: binance has bars of"),
        ({"interval": "often"}, "interval 'often' is not understood"),
        ({"interval": 7}, "interval 7 s: binance has bars of"),
        ({"downloads": 0}, "downloads"),
        ({"attempts": 0}, "attempts"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(arguments: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        BinanceKlines(**arguments)
