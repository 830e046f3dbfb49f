"""Marks of axes, and how numbers are written."""

from itertools import product

import pytest

from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.report.ticks import (
    DAY,
    list_numbers,
    list_prices,
    list_times,
    write_length,
    write_number,
    write_share,
    write_time,
)


def span(start: str, end: str) -> tuple[int, int]:
    return parse_instant(start), parse_instant(end)


@pytest.mark.parametrize(
    ("start", "end", "texts"),
    [
        ("2017-06-01", "2025-01-01", "2018 2020 2022 2024"),
        ("2020-01-01", "2020-12-31", "2020-01 2020-04 2020-07 2020-10"),
        ("2020-03-01", "2020-03-08", "2020-03-01 2020-03-03 2020-03-05 2020-03-07"),
        ("2020-03-01", "2020-03-02", "00:00 06:00 12:00 18:00 00:00"),
        ("2020-03-01T10:00", "2020-03-03", "03-01_12:00 03-02_00:00 03-02_12:00 03-03_00:00"),
    ],
)
def test_marks_of_time_are_round(start: str, end: str, texts: str) -> None:
    found = [tick.text.replace(" ", "_") for tick in list_times(span(start, end), 5)]
    assert " ".join(found) == texts


def test_marks_lie_inside_and_are_not_too_many() -> None:
    start = parse_instant("2011-02-03T04:05")
    for length in (60, 3600, DAY, 5 * DAY, 40 * DAY, 400 * DAY, 4000 * DAY):
        ticks = list_times((start, start + length))
        assert len(ticks) <= 8
        assert all(start <= tick.at <= start + length for tick in ticks)


def test_marks_of_numbers_are_ones_twos_and_fives() -> None:
    assert [tick.text for tick in list_numbers(0, 1)] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.text for tick in list_numbers(-3000, 6500)] == [
        *("-2,000", "0", "2,000", "4,000", "6,000")
    ]
    assert [tick.text for tick in list_numbers(-0.011, 0.012, 4)] == ["-0.01", "0.00", "0.01"]
    assert [tick.at for tick in list_numbers(5, 5)] == [5]


@pytest.mark.parametrize("most", [3, 4, 5, 6])
def test_a_scale_has_three_marks_or_more(most: int) -> None:
    lows, highs, sizes = (0, -0.3, -1, -8, 0.9), (1.01, 1.5, 1.99, 2.4, 4.9, 9.99), (1e-9, 1, 1000)
    for low, high, size in product(lows, highs, sizes):
        ticks = list_numbers(low * size, high * size, most)
        assert 3 <= len(ticks) <= 2 * most + 1
        assert len({tick.text for tick in ticks}) == len(ticks)


def test_marks_of_small_numbers_have_the_digits_that_tell_them_apart() -> None:
    small = [tick.text for tick in list_numbers(6.9e-9, 7.12e-9)]
    assert small == ["6.9e-9", "6.95e-9", "7e-9", "7.05e-9", "7.1e-9"]
    assert [t.text for t in list_numbers(-2e-6, 4e-6, 3)] == ["-2e-6", "0", "2e-6", "4e-6"]
    assert [t.text for t in list_prices(1e-9, 1e-6)] == ["1e-9", "1e-8", "1e-7", "1e-6"]


def test_marks_of_prices_are_powers_of_ten_where_these_are_enough() -> None:
    wide, narrow = list_prices(150, 70_000), list_prices(10_100, 10_900)
    assert [tick.text for tick in wide] == ["300", "1,000", "3,000", "10,000", "30,000"]
    assert [tick.text for tick in narrow] == ["10,200", "10,400", "10,600", "10,800"]
    assert len(list_prices(1e-3, 1e9)) <= 6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.000123456, "0.0001235"),
        (0.00001234, "1.234e-5"),
        (7e-9, "7e-9"),
        (1e20, "1e20"),
        (12.3456, "12.35"),
        (1234.5, "1,234"),
        (-65432.1, "-65,432"),
        (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)
def test_numbers_have_few_digits(value: float, text: str) -> None:
    assert write_number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.5, "50.0 %"),
        (0.0012, "0.12 %"),
        (0.000001, "< 0.01 %"),
        (0.9999999, "> 99.99 %"),
        (0.996, "99.60 %"),
        (float("nan"), "-"),
    ],
)
def test_a_share_is_none_or_all_only_where_it_is(share: float, text: str) -> None:
    assert write_share(share) == text


def test_times_and_lengths() -> None:
    assert write_time(parse_instant("2020-01-01T13:00")) == "2020-01-01 13:00"
    assert write_time(parse_instant("2020-01-01T13:00:05")) == "2020-01-01 13:00:05"
    lengths = (5, 60, 90, 600, 3600, 5400, 36 * 3600, DAY, 48 * 3600, 2000 * DAY)
    told = " / ".join(map(write_length, lengths))
    assert told == "5 s / 1 min / 90 s / 10 min / 1 h / 90 min / 36 h / 1 d / 2 d / 2,000 d"
