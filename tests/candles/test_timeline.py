"""Instants, intervals and spans: texts that read back, and sets of instants that add up."""

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule.candles.timeline import (
    Span,
    ceil_to,
    floor_to,
    format_instant,
    format_interval,
    get_offset,
    parse_instant,
    parse_interval,
    subtract,
    unite,
)
from btc_datamodule.errors import ConfigError

LAST_SECOND = parse_instant("9999-12-31T23:59:59Z")
INSTANTS = st.integers(0, LAST_SECOND)
SPANS = st.tuples(st.integers(-6, 24), st.integers(-6, 24))


def instants_of(spans: list[Span]) -> set[int]:
    return {instant for start, end in spans for instant in range(start, end)}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("90s", 90), ("1m", 60), ("5m", 300), ("1h", 3600), ("4h", 14400), ("1d", 86400)],
)
def test_an_interval_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_interval(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "1", "0m", "-1m", "1.5h", "1 h", "1S", "1M", "1mo", "m5", "+8h", "w"]
)
def test_an_interval_that_is_not_understood_is_shown_with_what_to_write(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^interval .* such as 1s, 1m, 5m, 1h, 1d or 1w"
    ) as caught:
        parse_interval(text)
    assert repr(text) in str(caught.value)


@given(st.integers(1, 999_999))
def test_intervals_read_back_what_was_formatted(seconds: int) -> None:
    assert parse_interval(format_interval(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1s"), (60, "1m"), (90, "90s"), (3600, "1h"), (86400, "1d")]
)
def test_the_largest_unit_that_fits_is_written(seconds: int, text: str) -> None:
    assert format_interval(seconds) == text


@given(INSTANTS)
def test_instants_read_back_what_was_formatted(instant: int) -> None:
    assert parse_instant(format_instant(instant)) == instant


@given(INSTANTS, st.integers(-14 * 60, 14 * 60))
def test_an_offset_does_not_change_the_instant(instant: int, minutes: int) -> None:
    instant = min(max(instant, 86400), LAST_SECOND - 86400)
    moment = datetime.fromtimestamp(instant, timezone(timedelta(minutes=minutes)))
    assert parse_instant(moment.isoformat()) == instant
    assert parse_instant(moment) == instant


@pytest.mark.parametrize(
    "when",
    [
        "2020-01-01",
        "2020-01-01T00:00:00",
        "2020-01-01 00:00:00",
        "2020-01-01T00:00:00Z",
        "2020-01-01T01:00:00+01:00",
        1577836800,
        date(2020, 1, 1),
        datetime(2020, 1, 1),
        datetime(2020, 1, 1, tzinfo=UTC),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(when: str | int | date) -> None:
    assert parse_instant(when) == 1577836800
    assert format_instant(1577836800) == "2020-01-01T00:00:00Z"


@pytest.mark.parametrize("when", ["", "yesterday", "2020-13-01", "2020-02-30", "01/02/2020"])
def test_a_time_that_is_not_understood_names_the_argument(when: str) -> None:
    with pytest.raises(ConfigError, match=r"^start .* is not an ISO 8601 time: write 2020-01-01"):
        parse_instant(when, "start")


def test_a_fraction_of_a_second_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^end '2020-01-01T00:00:00.5Z' .* whole second"):
        parse_instant("2020-01-01T00:00:00.5Z", "end")


def test_an_instant_beyond_the_calendar_still_has_a_text() -> None:
    assert format_instant(10**15) == "epoch second 1000000000000000"


@given(st.integers(-(10**10), 10**10), st.integers(1, 10**6))
def test_rounding_reaches_the_nearest_multiples(instant: int, interval: int) -> None:
    low, high = floor_to(instant, interval), ceil_to(instant, interval)
    past = get_offset(interval)
    assert (low - past) % interval == (high - past) % interval == 0
    assert low <= instant <= high
    assert high - low == (0 if (instant - past) % interval == 0 else interval)


@given(st.lists(SPANS, max_size=8))
def test_a_union_holds_the_same_instants_in_few_sorted_spans(spans: list[Span]) -> None:
    joined = unite(spans)
    assert instants_of(joined) == instants_of(spans)
    assert all(start < end for start, end in joined)
    assert all(before[1] < after[0] for before, after in pairwise(joined))
    assert unite(joined) == joined


@given(SPANS, st.lists(SPANS, max_size=8))
def test_subtracting_leaves_the_instants_that_nothing_covers(span: Span, taken: list[Span]) -> None:
    left = subtract(span, taken)
    assert instants_of(left) == instants_of([span]) - instants_of(taken)
    assert all(start < end for start, end in left)
    assert all(before[1] < after[0] for before, after in pairwise(left))


def test_spans_that_touch_become_one() -> None:
    assert unite([(5, 9), (0, 3), (3, 5), (12, 12)]) == [(0, 9)]
    assert subtract((0, 10), [(2, 4), (3, 6)]) == [(0, 2), (6, 10)]
