"""Open interest and ratios of Binance's archive: what labels mean, and every known oddity."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule import BinanceMetrics
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import ConfigError, RecordError, SourceError
from btc_datamodule.sources.binance.files import ArchiveFiles
from btc_datamodule.sources.binance.metrics import COLUMNS, read_metrics
from btc_datamodule.sources.records import RecordBlock
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import METRICS_HEADER, BinanceArchiveAnswers, Exchange
from tests.sources.binance.helpers import (
    BROKEN_FILES,
    DAY,
    QUICK,
    TODAY,
    answers_of,
    archive_with,
    records_in,
    rows_of,
    span_of,
    told_by,
)

CHANGE = parse_instant("2026-06-25")


def name_of(day: str, product: str = "BTCUSDT") -> str:
    return f"{product}-metrics-{day}.zip"


def row(label: str, held: float | str = 100.0, product: str = "BTCUSDT", ratios: str = "") -> str:
    """A row of the archive; its value is 20,000 times its open interest."""
    value = 20_000 * float(held)
    return f"{label},{product},{held},{value},{ratios or '1.5,1.25,0.75,1.125'}\n"


def whole_day(day: str, *, at_end: bool, first: float = 1.0) -> list[str]:
    """The 288 rows of a day, with the labels as they were before the change, or as since."""
    start = parse_instant(day) + 300 * at_end
    labels = [format_instant(start + 300 * i)[:-1].replace("T", " ") for i in range(288)]
    return [row(label, first + i) for i, label in enumerate(labels)]


def ask(exchange: Exchange, *span: str, **changes: Any) -> list[RecordBlock]:
    return list(BinanceMetrics(base_url=exchange.url, **QUICK | changes).blocks(span_of(*span)))


def read(day: str, *rows: str, **changes: Any) -> tuple[RecordBlock, list[tuple[Any, ...]]]:
    """The block of a day's file with these rows, and its records with their open interest."""
    product, market = changes.get("product", "BTCUSDT"), changes.get("market", "um")
    files = {name_of(day, product): METRICS_HEADER + "".join(rows)}
    after = format_instant(parse_instant(day) + DAY)
    with archive_with(files, "metrics", market, product) as exchange:
        [block] = ask(exchange, day, after, **changes)
    return block, rows_of(block.records, "sum_open_interest")


# --- what a label means -------------------------------------------------------------------------


def test_before_the_change_a_label_is_the_end_of_its_five_minutes() -> None:
    _, rows = read("2026-06-24", row("2026-06-24 00:05:00", 7), row("2026-06-25 00:00:00", 8))
    assert rows == [
        ("2026-06-24T00:00:00", "2026-06-24T00:05:00", 7.0),
        ("2026-06-24T23:55:00", "2026-06-25T00:00:00", 8.0),
    ]


def test_since_the_change_a_label_is_the_beginning_and_known_five_minutes_later() -> None:
    _, rows = read("2026-06-25", row("2026-06-25 00:00:00", 7), row("2026-06-25 23:55:00", 8))
    assert rows == [
        ("2026-06-25T00:00:00", "2026-06-25T00:05:00", 7.0),
        ("2026-06-25T23:55:00", "2026-06-26T00:00:00", 8.0),
    ]


def test_midnight_stands_in_two_files_at_the_change_and_is_two_instants() -> None:
    files = {
        name_of("2026-06-24"): row("2026-06-24 23:55:00", 7) + row("2026-06-25 00:00:00", 8),
        name_of("2026-06-25"): row("2026-06-25 00:00:00", 9) + row("2026-06-25 00:05:00", 10),
    }
    with archive_with(files, "metrics") as exchange:
        blocks = ask(exchange, "2026-06-24", "2026-06-26")
    assert rows_of(records_in(blocks), "sum_open_interest") == [
        ("2026-06-24T23:50:00", "2026-06-24T23:55:00", 7.0),
        ("2026-06-24T23:55:00", "2026-06-25T00:00:00", 8.0),
        ("2026-06-25T00:00:00", "2026-06-25T00:05:00", 9.0),
        ("2026-06-25T00:05:00", "2026-06-25T00:10:00", 10.0),
    ]


@pytest.mark.parametrize("day", ["2023-07-01", "2026-06-24", "2026-06-25"])
def test_coin_margined_labels_always_were_the_beginning(day: str) -> None:
    product = "BTCUSD_PERP"
    lines = [row(f"{day} 00:00:00", 7, product), row(f"{day} 23:55:00", 8, product)]
    block, rows = read(day, *lines, market="cm", product=product)
    after = format_instant(parse_instant(day) + DAY)[:-1]
    assert rows == [
        (f"{day}T00:00:00", f"{day}T00:05:00", 7.0),
        (f"{day}T23:55:00", after, 8.0),
    ]
    assert "/data/futures/cm/daily/metrics/BTCUSD_PERP/BTCUSD_PERP-metrics-" in block.origin


def test_whole_days_of_both_kinds_join_without_a_seam() -> None:
    files = {
        name_of("2026-06-24"): "".join(whole_day("2026-06-24", at_end=True)),
        name_of("2026-06-25"): "".join(whole_day("2026-06-25", at_end=False, first=289.0)),
    }
    with archive_with(files, "metrics") as exchange:
        blocks = ask(exchange, "2026-06-24", "2026-06-26")
    records = records_in(blocks)
    start = parse_instant("2026-06-24")
    assert records.time.tolist() == list(range(start, start + 2 * DAY, 300))
    assert (records.known_at == records.time + 300).all()
    assert records["sum_open_interest"].tolist() == list(range(1, 577))
    assert told_by(blocks) == []


def test_an_old_file_whose_labels_run_from_midnight_counts_as_known_later() -> None:
    lines = whole_day("2025-03-01", at_end=False)
    block, rows = read("2025-03-01", *lines)
    assert rows[0] == ("2025-03-01T00:00:00", "2025-03-01T00:05:00", 1.0)
    assert rows[-1] == ("2025-03-01T23:55:00", "2025-03-02T00:00:00", 288.0)
    assert block.notes == (
        "binance BTCUSDT-metrics-2025-03-01.zip: its labels run from 00:00, as those from "
        "2026-06-25 on do: read like these, as known five minutes after them",
    )


# --- known oddities -----------------------------------------------------------------------------


def test_a_day_with_every_row_twice_is_read_once() -> None:
    once = whole_day("2020-09-01", at_end=True)
    block, rows = read("2020-09-01", *once, *once)
    assert len(rows) == 288
    assert rows[0] == ("2020-09-01T00:00:00", "2020-09-01T00:05:00", 1.0)
    assert rows[-1] == ("2020-09-01T23:55:00", "2020-09-02T00:00:00", 288.0)
    assert block.notes == (
        "binance BTCUSDT-metrics-2020-09-01.zip: 288 rows repeat another one and were left out",
    )


def test_rows_that_contradict_each_other_are_an_error_or_are_both_left_out() -> None:
    lines = [
        row(f"2024-01-05 00:{minute}:00", held)
        for minute, held in [("05", 1), ("10", 2), ("10", 3), ("15", 4)]
    ]
    with pytest.raises(
        RecordError,
        match=r"^binance BTCUSDT-metrics-2024-01-05.zip, row 3 \(2024-01-05T00:05:00Z\): another "
        r"row says something else of this time: set `source.drop_invalid: true` to leave such "
        "rows out$",
    ):
        read("2024-01-05", *lines)
    block, rows = read("2024-01-05", *lines, drop_invalid=True)
    assert [each[2] for each in rows] == [1.0, 4.0]
    assert "2 rows that are no records were left out, such as binance BTC" in block.notes[0]


@pytest.mark.parametrize("day", ["2024-08-08", "2026-09-20"])
def test_rows_out_of_order_are_sorted(day: str) -> None:
    lines = whole_day(day, at_end=parse_instant(day) < CHANGE)
    block, rows = read(day, *lines[100:], *reversed(lines[:100]))
    assert [each[2] for each in rows] == list(range(1, 289))
    assert rows[0][0] == f"{day}T00:00:00"
    assert block.notes == ()


def test_a_label_off_by_seconds_is_put_on_the_grid_and_known_as_much_later() -> None:
    lines = [
        row("2024-01-05 00:05:01", 1),
        row("2024-01-05 00:11:00", 2),
        row("2024-01-06 00:00:37", 3),
    ]
    block, rows = read("2024-01-05", *lines)
    assert rows == [
        ("2024-01-05T00:00:00", "2024-01-05T00:05:01", 1.0),
        ("2024-01-05T00:05:00", "2024-01-05T00:11:00", 2.0),
        ("2024-01-05T23:55:00", "2024-01-06T00:00:37", 3.0),
    ]
    assert block.notes[0] == (
        "binance BTCUSDT-metrics-2024-01-05.zip: 3 labels lie up to 60 s past the five minutes: "
        "put on them, and known as much later"
    )
    _, rows = read("2026-07-05", row("2026-07-05 00:05:59", 1))
    assert rows == [("2026-07-05T00:05:00", "2026-07-05T00:10:59", 1.0)]


def test_a_label_further_off_than_a_minute_is_left_out() -> None:
    block, rows = read("2024-01-05", row("2024-01-05 00:06:01", 1), row("2024-01-05 00:10:00", 2))
    assert rows == [("2024-01-05T00:05:00", "2024-01-05T00:10:00", 2.0)]
    assert block.notes[0] == (
        "binance BTCUSDT-metrics-2024-01-05.zip: 1 of 2 rows have labels more than 60 s past the "
        "five minutes, the first at 2024-01-05T00:00:00Z: left out"
    )


def test_of_one_instant_a_later_label_with_another_value_is_a_revision() -> None:
    lines = [
        row("2024-01-05 00:05:30", 2),
        row("2024-01-05 00:05:00", 1),
        row("2024-01-05 00:10:00", 3),
        row("2024-01-05 00:10:30", 3),
    ]
    _, rows = read("2024-01-05", *lines)
    assert rows == [
        ("2024-01-05T00:00:00", "2024-01-05T00:05:00", 1.0),
        ("2024-01-05T00:00:00", "2024-01-05T00:05:30", 2.0),
        ("2024-01-05T00:05:00", "2024-01-05T00:10:00", 3.0),
    ]


def test_blank_cells_are_not_known() -> None:
    lines = [row("2024-01-05 00:05:00", 5, ratios=",,,"), row("2024-01-05 00:10:00", 6)]
    block, _ = read("2024-01-05", *lines)
    records = block.records
    assert records["sum_open_interest"].tolist() == [5.0, 6.0]
    assert records["sum_open_interest_value"].tolist() == [100_000.0, 120_000.0]
    for name, second in zip(COLUMNS[2:], [1.5, 1.25, 0.75, 1.125], strict=True):
        assert math.isnan(records[name][0])
        assert records[name][1] == second


def test_an_open_interest_of_zero_is_none_in_both_columns() -> None:
    lines = [
        row("2024-01-05 00:05:00", 0),
        "2024-01-05 00:10:00,BTCUSDT,5,0.0,1.5,1.25,0.75,1.125\n",
        row("2024-01-05 00:15:00", 7),
    ]
    block, _ = read("2024-01-05", *lines)
    for name, last in (("sum_open_interest", 7.0), ("sum_open_interest_value", 140_000.0)):
        assert np.isnan(block.records[name]).tolist() == [True, True, False]
        assert block.records[name][2] == last
    assert block.records["count_long_short_ratio"].tolist() == [0.75, 0.75, 0.75]
    assert block.notes[0] == (
        "binance BTCUSDT-metrics-2024-01-05.zip: an open interest of 0 is none, in 2 rows, the "
        "first at 2024-01-05T00:00:00Z"
    )


def test_a_day_that_ends_early_settles_what_it_has_and_says_so() -> None:
    block, rows = read("2024-02-16", *whole_day("2024-02-16", at_end=True)[:162])
    assert rows[-1] == ("2024-02-16T13:25:00", "2024-02-16T13:30:00", 162.0)
    assert block.span == span_of("2024-02-16", "2024-02-17")
    assert block.answered
    assert block.notes == (
        "binance BTCUSDT-metrics-2024-02-16.zip: holds 162 of 288 five minutes, the last that from "
        "2024-02-16T13:25:00Z on",
    )


@pytest.mark.parametrize("header", ["", METRICS_HEADER])
def test_files_come_with_a_header_or_without(header: str) -> None:
    files = {name_of("2024-01-05"): header + row("2024-01-05 00:05:00", 5)}
    with archive_with(files, "metrics") as exchange:
        [block] = ask(exchange, "2024-01-05", "2024-01-06")
    assert {name: block.records[name].tolist() for name in COLUMNS} == {
        "sum_open_interest": [5.0],
        "sum_open_interest_value": [100_000.0],
        "count_toptrader_long_short_ratio": [1.5],
        "sum_toptrader_long_short_ratio": [1.25],
        "count_long_short_ratio": [0.75],
        "sum_taker_long_short_vol_ratio": [1.125],
    }
    assert block.records.values == COLUMNS


def test_rows_of_another_day_are_left_out() -> None:
    lines = [row("2024-01-05 00:00:00", 1), row("2024-01-06 00:00:00", 2)]
    block, rows = read("2024-01-05", *lines)
    assert rows == [("2024-01-05T23:55:00", "2024-01-06T00:00:00", 2.0)]
    assert "1 of 2 rows are outside its day, the first at 2024-01-04T23:55:00Z" in block.notes[0]


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ("-1,5,1,1,1,1", "sum_open_interest is negative"),
        ("1,5,1,1,-2,1", "count_long_short_ratio is negative"),
        ("1,5,1,1,1,inf", "sum_taker_long_short_vol_ratio is infinite"),
    ],
)
def test_a_value_that_cannot_be_is_an_error_or_left_out(cells: str, problem: str) -> None:
    lines = [row("2024-01-05 00:05:00"), f"2024-01-05 00:10:00,BTCUSDT,{cells}\n"]
    with pytest.raises(RecordError, match=rf"row 3 \(2024-01-05T00:05:00Z\): {problem}: set"):
        read("2024-01-05", *lines)
    _, rows = read("2024-01-05", *lines, drop_invalid=True)
    assert [each[0] for each in rows] == ["2024-01-05T00:00:00"]


# --- files --------------------------------------------------------------------------------------

DAYS = ["2024-01-05", "2024-01-06", "2024-01-07"]


def three_days(**files: bytes) -> dict[str, str | bytes]:
    return {name_of(day): row(f"{day} 00:05:00", 5 + i) for i, day in enumerate(DAYS)} | files


@pytest.mark.parametrize(("said", "spoil"), BROKEN_FILES.items(), ids=BROKEN_FILES)
def test_a_file_that_cannot_be_used_is_set_aside_and_named_and_the_rest_goes_on(
    said: str, spoil: Callable[[str, bytes], dict[str, bytes]]
) -> None:
    name = name_of(DAYS[1])
    body = ex.zipped("a.csv", row("2024-01-06 00:05:00").encode())
    with archive_with(three_days(**spoil(name, body)), "metrics") as exchange:
        blocks = ask(exchange, "2024-01-05", "2024-01-08")
    assert [block.answered for block in blocks] == [True, False, True]
    assert [len(block.records) for block in blocks] == [1, 0, 1]
    assert blocks[1].span == span_of("2024-01-06", "2024-01-07")
    [note] = blocks[1].notes
    assert note.startswith(f"binance {name}: {said}")
    assert note.endswith(": no answer yet, set aside and asked for again by the next run")


@pytest.mark.parametrize("half", ["", ".CHECKSUM"])
def test_a_file_that_is_there_in_part_is_set_aside(half: str) -> None:
    with archive_with(three_days(), "metrics") as exchange:
        answers_of(exchange).halved.add(name_of(DAYS[1]) + half)
        blocks = ask(exchange, "2024-01-05", "2024-01-08")
    assert [block.answered for block in blocks] == [True, False, True]
    assert "no answer yet, set aside" in blocks[1].notes[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (row("2024-01-06 00:05:00", product="ETHUSDT"), "row 1: it is about 'ETHUSDT', not about"),
        (row("2024-02-06 00:05:00"), "1 of 1 rows are outside its day, the first at 2024-02-06T00"),
        (row("2024-01-06 00:03:00"), "1 of 1 rows have labels more than 60 s past the five minut"),
        (row("2024-01-06"), "row 1: create_time is '2024-01-06', which is no time"),
    ],
)
def test_a_file_of_another_product_day_or_grid_is_set_aside(line: str, said: str) -> None:
    files = three_days(**{name_of(DAYS[1]): ex.zipped("a.csv", line.encode())})
    with archive_with(files, "metrics") as exchange:
        blocks = ask(exchange, "2024-01-05", "2024-01-08")
    assert [block.answered for block in blocks] == [True, False, True]
    assert said in blocks[1].notes[0]


def test_a_checksum_that_is_wrong_for_a_moment_is_asked_for_again() -> None:
    with archive_with(three_days(), "metrics") as exchange:
        exchange.faults.append(ex.HTML_PAGE)
        [block] = ask(exchange, "2024-01-05", "2024-01-06")
        assert len(exchange.requests) == 4
    assert block.answered
    assert block.notes[0].startswith("binance BTCUSDT-metrics-2024-01-05.zip: holds 1 of 288")


def test_a_file_issued_again_has_another_checksum_and_its_new_values() -> None:
    name = name_of("2024-01-05")
    with archive_with({name: row("2024-01-05 00:05:00", 5)}, "metrics") as exchange:
        [before] = ask(exchange, "2024-01-05", "2024-01-06")
        again = row("2024-01-05 00:05:00", 6).encode()
        answers_of(exchange).files[name] = ex.zipped("a.csv", again)
        [after] = ask(exchange, "2024-01-05", "2024-01-06")
    assert before.checksum.startswith("sha256:")
    assert before.checksum != after.checksum
    assert before.records["sum_open_interest"].tolist() == [5.0]
    assert after.records["sum_open_interest"].tolist() == [6.0]


def test_only_daily_files_are_asked_for_and_a_span_takes_its_part_of_them() -> None:
    files = {name_of(day): "".join(whole_day(day, at_end=True)) for day in DAYS}
    with archive_with(files, "metrics") as exchange:
        blocks = ask(exchange, "2024-01-05T12:00", "2024-01-07T00:10")
        folders = {request.path.rsplit("/", 1)[0] for request in exchange.requests}
    assert folders == {"/data/futures/um/daily/metrics/BTCUSDT"}
    assert [len(block.records) for block in blocks] == [144, 288, 2]
    records = records_in(blocks)
    assert records.span == (parse_instant("2024-01-05T12:00"), parse_instant("2024-01-07T00:05:01"))


def test_an_old_day_without_a_file_is_settled_and_a_recent_one_left_for_later() -> None:
    times = np.arange(TODAY - 8 * DAY, TODAY, 300)
    held = RecordSet(
        {"time": times, "known_at": times + 300}
        | {name: np.arange(1.0, len(times) + 1) for name in COLUMNS}
    )
    days = [format_instant(TODAY - back * DAY)[:10] for back in (6, 2)]
    answers = BinanceArchiveAnswers(
        held, market="um", type="metrics", missing=set(map(name_of, days))
    )
    with Exchange(answers) as exchange:
        source = BinanceMetrics(base_url=exchange.url, **QUICK)
        blocks = list(source.blocks((TODAY - 8 * DAY, TODAY + 300)))
    assert [len(block.records) for block in blocks] == [288, 288, 0, 288, 288, 288]
    assert blocks[-1].span[1] == TODAY - 2 * DAY
    assert told_by(blocks) == [
        f"binance BTCUSDT-um-metrics: the archive has no metrics file for {days[0]}: taken as "
        "without records (`refresh: true` asks again)"
    ]


def test_an_archive_without_any_file_of_the_product_is_an_error_soon() -> None:
    with (
        archive_with({}, "metrics") as exchange,
        pytest.raises(SourceError, match=r"has no metrics files of BTCUSDT \(um\), not even /"),
    ):
        ask(exchange, "2024-01-05", "2024-03-01")


# --- laws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("market", "product"), [("um", "BTCUSDT"), ("cm", "BTCUSD_PERP")])
def test_what_the_archive_holds_comes_back_around_the_change(market: Any, product: str) -> None:
    times = np.arange(CHANGE - 2 * DAY, CHANGE + 2 * DAY, 300)
    values = np.random.default_rng(0).uniform(0.5, 2, (len(COLUMNS), len(times)))
    values[3, ::7] = np.nan
    held = RecordSet(
        {"time": times, "known_at": times + 300, **dict(zip(COLUMNS, values, strict=True))}
    )
    answers = BinanceArchiveAnswers(held, market=market, product=product, type="metrics")
    with Exchange(answers) as exchange:
        source = BinanceMetrics(product, market, base_url=exchange.url, **QUICK)
        blocks = list(source.blocks((int(times[0]), int(times[-1]) + 300)))
    records = records_in(blocks)
    for name, column in held.columns.items():
        np.testing.assert_array_equal(records[name], column)


@settings(max_examples=200)
@given(
    st.sampled_from(["um", "cm"]),
    st.integers(-3, 3),
    st.lists(st.tuples(st.integers(-1, 289), st.integers(0, 70)), min_size=1, max_size=20),
)
def test_no_record_is_known_before_its_value_was(
    market: str, day: int, labels: list[tuple[int, int]]
) -> None:
    start = CHANGE + day * DAY
    files = ArchiveFiles("BTCUSDT", market, 0, type="metrics", periods="daily")
    [file] = files.select_days((start, start + DAY))
    written = [start + 300 * step + late for step, late in labels]
    texts = [datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%d %H:%M:%S") for each in written]
    csv = "".join(row(text, number) for number, text in enumerate(texts, 1))
    try:
        records, _ = read_metrics(
            ex.zipped("a.csv", csv.encode()), file, "", "BTCUSDT", market, drop_invalid=True
        )
    except (RecordError, SourceError):
        return
    was_end = market == "um" and start < CHANGE
    for known_at, number in zip(records.known_at, records["sum_open_interest"], strict=True):
        assert known_at >= written[int(number) - 1] + (0 if was_end else 300)
    assert (records.known_at >= records.time + 300).all()
    assert ((records.time >= start) & (records.time < start + DAY)).all()


# --- arguments ----------------------------------------------------------------------------------


def test_the_defaults_are_the_open_interest_of_bitcoin() -> None:
    source = BinanceMetrics()
    assert (source.name, source.series) == ("binance", "BTCUSDT-um-metrics")
    assert BinanceMetrics("BTCUSD_PERP", "cm").series == "BTCUSD_PERP-cm-metrics"
    assert (source.interval, source.covers) == (300, 0)
    assert source.columns == COLUMNS
    assert source.first == parse_instant("2020-09-01")
    assert source.revision is None


def test_in_a_hurry_it_has_little_patience() -> None:
    hurried = BinanceMetrics("ETHUSDT", timeout=60, attempts=6).hurry()
    assert (hurried.product, hurried.timeout, hurried.attempts) == ("ETHUSDT", 5.0, 2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"market": "spot"}, "market must be um or cm, not 'spot'"),
        ({"market": "cm"}, "product 'BTCUSDT' is no contract of market cm"),
        ({"product": "../x"}, "product"),
        ({"downloads": 0}, "downloads"),
        ({"attempts": 0}, "attempts"),
        ({"base_url": "http://data.binance.vision"}, "base_url"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(arguments: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        BinanceMetrics(**arguments)
