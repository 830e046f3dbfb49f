"""Funding rates of Binance's archive: settlements, intervals that change, months not there yet."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BinanceFunding
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.errors import ConfigError, RecordError, SourceError
from btc_datamodule.sources.records import RecordBlock
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import FUNDING_HEADER, BinanceArchiveAnswers, Exchange
from tests.factories import HOUR
from tests.sources.binance.helpers import (
    BROKEN_FILES,
    DAY,
    QUICK,
    answers_of,
    archive_with,
    records_in,
    rows_of,
    span_of,
    told_by,
)

JANUARY = "BTCUSDT-fundingRate-2020-01.zip"
VALUES = ("rate", "interval_hours", "calc_time")


def ask(exchange: Exchange, *span: str, **changes: Any) -> list[RecordBlock]:
    return list(BinanceFunding(base_url=exchange.url, **QUICK | changes).blocks(span_of(*span)))


def read(csv: str, **changes: Any) -> RecordBlock:
    """The block of January 2020 with these lines."""
    with archive_with({JANUARY: csv}, "fundingRate") as exchange:
        [block] = ask(exchange, "2020-01-01", "2020-02-01", **changes)
    return block


def month(name: str, hours: int = 8, rate: float = 0.0001) -> str:
    """The lines of a whole month, such as 2020-01, in the archive's shape."""
    start = datetime.fromisoformat(f"{name}-01").replace(tzinfo=UTC)
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    times = range(int(start.timestamp()), int(end.timestamp()), hours * HOUR)
    return FUNDING_HEADER + "".join(f"{at}000,{hours},{rate:.8f}\n" for at in times)


# --- records ------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", FUNDING_HEADER])
def test_a_record_is_about_its_settlement_and_keeps_the_instant_as_it_came(header: str) -> None:
    block = read(
        f"{header}1577836800000,8,-0.00012359\n"
        "1577865600009,8,0.00010000\n"  # 9 ms late
        "1577894399997,8,0.00000000\n"  # 3 ms early
    )
    assert rows_of(block.records, *VALUES) == [
        ("2020-01-01T00:00:00", "2020-01-01T00:00:00", -0.00012359, 8.0, 1577836800000.0),
        ("2020-01-01T08:00:00", "2020-01-01T08:00:00", 0.0001, 8.0, 1577865600009.0),
        ("2020-01-01T16:00:00", "2020-01-01T16:00:00", 0.0, 8.0, 1577894399997.0),
    ]
    assert block.records.values == VALUES
    assert block.answered
    assert block.span == span_of("2020-01-01", "2020-02-01")


def test_the_interval_may_change_to_four_hours_and_to_one() -> None:
    block = read(
        "1577836800000,8,0.0001\n1577865600000,4,0.0002\n1577880000000,1,0.0003\n"
        "1577883600000,1,0.0004\n"
    )
    assert rows_of(block.records, "rate", "interval_hours") == [
        ("2020-01-01T00:00:00", "2020-01-01T00:00:00", 0.0001, 8.0),
        ("2020-01-01T08:00:00", "2020-01-01T08:00:00", 0.0002, 4.0),
        ("2020-01-01T12:00:00", "2020-01-01T12:00:00", 0.0003, 1.0),
        ("2020-01-01T13:00:00", "2020-01-01T13:00:00", 0.0004, 1.0),
    ]


@pytest.mark.parametrize("hours", [8, 4, 1])
def test_a_whole_month_has_nothing_to_note(hours: int) -> None:
    block = read(month("2020-01", hours))
    assert len(block.records) == 31 * 24 // hours
    assert np.diff(block.records.time).tolist() == [hours * HOUR] * (31 * 24 // hours - 1)
    assert block.notes == ()


def test_settlements_that_are_not_there_though_due_are_noted() -> None:
    lines = month("2020-01").splitlines(keepends=True)
    block = read("".join([*lines[:10], *lines[11:90]]))  # one in the middle, and four at the end
    assert len(block.records) == 88
    assert block.notes == (
        f"binance {JANUARY}: 2 settlements did not follow when due, the first after "
        "2020-01-03T16:00:00Z",
    )


def test_a_settlement_further_off_than_half_a_second_is_known_in_the_next_one() -> None:
    block = read("1577836800499,8,0.0001\n1577865600500,8,0.0002\n")
    assert [row[:2] for row in rows_of(block.records)] == [
        ("2020-01-01T00:00:00", "2020-01-01T00:00:00"),
        ("2020-01-01T08:00:01", "2020-01-01T08:00:01"),
    ]
    raw = block.records["calc_time"]
    assert (1000 * block.records.known_at - raw).tolist() == [-499, 500]


def test_times_may_be_in_microseconds() -> None:
    block = read("1577836800000123,8,0.0001\n")
    assert rows_of(block.records, "calc_time") == [
        ("2020-01-01T00:00:00", "2020-01-01T00:00:00", 1577836800000.123)
    ]


def test_rows_out_of_order_and_repeated_ones_are_put_right() -> None:
    block = read("1577865600000,8,0.0002\n1577836800000,8,0.0001\n1577865600004,8,0.0002\n")
    assert rows_of(block.records, *VALUES) == [
        ("2020-01-01T00:00:00", "2020-01-01T00:00:00", 0.0001, 8.0, 1577836800000.0),
        ("2020-01-01T08:00:00", "2020-01-01T08:00:00", 0.0002, 8.0, 1577865600000.0),
    ]
    assert block.notes[0] == f"binance {JANUARY}: 1 rows repeat another one and were left out"


def test_two_rates_of_one_settlement_are_an_error_or_both_left_out() -> None:
    csv = "1577836800000,8,0.0001\n1577865600000,8,0.0002\n1577865600004,8,0.0003\n"
    with pytest.raises(RecordError, match=r"row 2 \(2020-01-01T08:00:00Z\): another row says some"):
        read(csv)
    block = read(csv, drop_invalid=True)
    assert block.records["rate"].tolist() == [0.0001]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1577865600000,8,NaN\n", "last_funding_rate is not a number"),
        ("1577865600000,0,0.1\n", "funding_interval_hours is no whole number of hours from 1 to"),
        ("1577865600000,7.5,0.1\n", "funding_interval_hours is no whole number of hours from 1"),
    ],
)
def test_a_row_that_is_no_rate_is_an_error_or_left_out(line: str, problem: str) -> None:
    csv = f"1577836800000,8,0.0001\n{line}"
    with pytest.raises(
        RecordError,
        match=rf"^binance {JANUARY}, row 2 \(2020-01-01T08:00:00Z\): {problem}.*: "
        r"set `source.drop_invalid: true` to leave such rows out$",
    ):
        read(csv)
    block = read(csv, drop_invalid=True)
    assert block.records["rate"].tolist() == [0.0001]
    assert "1 rows that are no records were left out, such as" in block.notes[0]


def test_an_interval_may_be_blank_and_is_then_not_known() -> None:
    block = read("1577836800000,,0.0001\n")
    assert np.isnan(block.records["interval_hours"]).tolist() == [True]


def test_a_row_of_another_month_is_left_out_and_a_jitter_over_its_edge_is_not() -> None:
    block = read("1577836799998,8,0.0001\n1577808000000,8,0.0002\n1580515199998,8,0.0003\n")
    assert block.records["rate"].tolist() == [0.0001]
    assert block.records.time.tolist() == [parse_instant("2020-01-01")]
    assert block.notes[0] == (
        f"binance {JANUARY}: 2 of 3 rows are outside its month, the first at "
        "2019-12-31T16:00:00Z: left out"
    )


# --- files --------------------------------------------------------------------------------------

MONTHS = ["2020-01", "2020-02", "2020-03"]


def name_of(month: str) -> str:
    return f"BTCUSDT-fundingRate-{month}.zip"


def quarter(**files: bytes) -> dict[str, str | bytes]:
    return {name_of(each): month(each, rate=0.001 * i) for i, each in enumerate(MONTHS)} | files


def test_only_monthly_files_are_asked_for_and_a_span_takes_its_part_of_them() -> None:
    with archive_with(quarter(), "fundingRate") as exchange:
        blocks = ask(exchange, "2020-01-31T08:00", "2020-03-01T08:00:01")
        paths = sorted(request.path for request in exchange.requests)
    folder = "/data/futures/um/monthly/fundingRate/BTCUSDT"
    assert paths[0::2] == [f"{folder}/{name_of(each)}" for each in MONTHS]
    assert paths[1::2] == [f"{path}.CHECKSUM" for path in paths[0::2]]
    assert [len(block.records) for block in blocks] == [2, 87, 2]
    assert records_in(blocks).span == span_of("2020-01-31T08:00", "2020-03-01T08:00:01")


def test_coin_margined_rates_have_their_own_folder_and_series() -> None:
    held = {"BTCUSD_PERP-fundingRate-2022-07.zip": "1656633600002,8,0.0001\n"}
    with archive_with(held, "fundingRate", "cm", "BTCUSD_PERP") as exchange:
        source = {"product": "BTCUSD_PERP", "market": "cm"}
        [block] = ask(exchange, "2022-07-01", "2022-08-01", **source)
    assert "/data/futures/cm/monthly/fundingRate/BTCUSD_PERP/BTCUSD_PERP-fund" in block.origin
    assert rows_of(block.records, "rate") == [("2022-07-01T00:00:00", "2022-07-01T00:00:00", 1e-4)]


@pytest.mark.parametrize(("said", "spoil"), BROKEN_FILES.items(), ids=BROKEN_FILES)
def test_a_file_that_cannot_be_used_is_set_aside_and_named_and_the_rest_goes_on(
    said: str, spoil: Callable[[str, bytes], dict[str, bytes]]
) -> None:
    name = name_of("2020-02")
    body = ex.zipped("a.csv", month("2020-02").encode())
    with archive_with(quarter(**spoil(name, body)), "fundingRate") as exchange:
        blocks = ask(exchange, "2020-01-01", "2020-04-01")
    assert [block.answered for block in blocks] == [True, False, True]
    assert [len(block.records) for block in blocks] == [93, 0, 93]
    [note] = blocks[1].notes
    assert note.startswith(f"binance {name}: {said}")
    assert note.endswith(": no answer yet, set aside and asked for again by the next run")


def test_a_month_issued_again_has_another_checksum_and_its_new_values() -> None:
    with archive_with({JANUARY: month("2020-01")}, "fundingRate") as exchange:
        [before] = ask(exchange, "2020-01-01", "2020-02-01")
        body = ex.zipped("a.csv", month("2020-01", rate=0.0002).encode())
        answers_of(exchange).files[JANUARY] = body
        [after] = ask(exchange, "2020-01-01", "2020-02-01")
    assert before.checksum != after.checksum
    assert (before.records["rate"] == 0.0001).all()
    assert (after.records["rate"] == 0.0002).all()


def test_an_old_month_without_a_file_is_settled_as_without_records() -> None:
    files = quarter()
    del files[name_of("2020-02")]
    with archive_with(files, "fundingRate") as exchange:
        blocks = ask(exchange, "2020-01-01", "2020-04-01")
    assert [len(block.records) for block in blocks] == [93, 0, 93]
    assert all(block.answered for block in blocks)
    assert told_by(blocks) == [
        "binance BTCUSDT-um-funding: the archive has no fundingRate file for 2020-02: taken as "
        "without records (`refresh: true` asks again)"
    ]


def recent_months() -> list[int]:
    """Where the month that is not over begins, and the three before it, the earliest first."""
    at = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    starts = [at]
    for _ in range(3):
        at = at.replace(year=at.year - (at.month == 1), month=(at.month - 2) % 12 + 1)
        starts.insert(0, at)
    return [int(start.timestamp()) for start in starts]


def hold(start: int, end: int) -> BinanceArchiveAnswers:
    times = np.arange(start, end, 8 * HOUR)
    columns = {
        "time": times,
        "known_at": times,
        "rate": np.sin(times),
        "interval_hours": 0 * times + 8,
    }
    held = RecordSet(columns | {"calc_time": 1000 * times + 3})
    return BinanceArchiveAnswers(held, market="um", type="fundingRate")


def test_the_month_that_is_not_over_is_not_answered_and_not_asked_for() -> None:
    first, *_, current = recent_months()
    answers = hold(first, current + DAY)
    end = int(time.time())
    with Exchange(answers) as exchange:
        blocks = list(BinanceFunding(base_url=exchange.url, **QUICK).blocks((first, end)))
        assert len(exchange.requests) == 6
    np.testing.assert_array_equal(
        records_in(blocks)["rate"], answers.held.slice(first, current)["rate"]
    )
    assert [block.answered for block in blocks] == [True, True, True, False]
    assert blocks[-1].span == (current, end)
    now = datetime.now(UTC).strftime("%Y-%m")
    assert told_by(blocks) == [
        f"binance BTCUSDT-um-funding: the archive has no fundingRate file for {now} yet: no answer "
        "for it, nor for what comes after it, which is asked for again by the next run"
    ]


def test_a_span_in_the_month_that_is_not_over_is_not_answered_as_a_whole() -> None:
    current = recent_months()[-1]
    with archive_with({}, "fundingRate") as exchange:
        source = BinanceFunding(base_url=exchange.url, **QUICK)
        [block] = source.blocks((current + 5, current + 10))
        assert exchange.requests == []
    assert (block.span, block.answered, len(block.records)) == (
        (current + 5, current + 10),
        False,
        0,
    )
    assert block.records.values == VALUES


def test_a_recent_month_without_a_file_ends_what_is_answered(monkeypatch: Any) -> None:
    first, _, last, current = recent_months()
    answers = hold(first, current)
    date = datetime.fromtimestamp(last, UTC).strftime("%Y-%m")
    answers.missing.add(name_of(date))
    monkeypatch.setattr("btc_datamodule.sources.binance.answers.RECENT_MONTH", 40 * DAY)
    with Exchange(answers) as exchange:
        source = BinanceFunding(base_url=exchange.url, **QUICK)
        blocks = list(source.blocks((first, current)))
    assert [block.answered for block in blocks] == [True, True, False]
    assert blocks[-1].span == (last, current)
    assert f"no fundingRate file for {date} yet: no answer" in blocks[-1].notes[0]


def test_an_archive_without_any_file_of_the_product_is_an_error_soon() -> None:
    taken: list[RecordBlock] = []
    with archive_with({}, "fundingRate") as exchange:
        source = BinanceFunding(base_url=exchange.url, **QUICK)
        with pytest.raises(SourceError, match=r"has no fundingRate files of BTCUSDT \(um\)"):
            taken.extend(source.blocks(span_of("2020-01-01", "2025-01-01")))
        assert len(exchange.requests) < 30
    assert taken == []


def test_an_empty_span_asks_nothing() -> None:
    with archive_with({}, "fundingRate") as exchange:
        assert ask(exchange, "2020-01-01", "2020-01-01") == []
        assert exchange.requests == []


# --- arguments ----------------------------------------------------------------------------------


def test_the_defaults_are_the_funding_of_bitcoin() -> None:
    source = BinanceFunding()
    assert (source.name, source.series) == ("binance", "BTCUSDT-um-funding")
    assert (source.interval, source.covers, source.columns) == (None, 8 * HOUR, VALUES)
    assert source.first == parse_instant("2020-01-01")
    assert BinanceFunding("BTCUSD_PERP", "cm").first == parse_instant("2020-06-01")


def test_in_a_hurry_it_has_little_patience() -> None:
    hurried = BinanceFunding("ETHUSDT", timeout=60, attempts=6).hurry()
    assert (hurried.product, hurried.timeout, hurried.attempts) == ("ETHUSDT", 5.0, 2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"market": "spot"}, "market must be um or cm, not 'spot'"),
        ({"market": "cm"}, "product 'BTCUSDT' is no contract of market cm"),
        ({"downloads": 17}, "downloads"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(arguments: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        BinanceFunding(**arguments)
