"""Grids with an offset: weeks from Monday, days that open elsewhere than at midnight UTC."""

import copy
import pickle
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule.candles.joining import can_join
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import (
    Interval,
    ceil_to,
    floor_to,
    format_interval,
    get_offset,
    parse_instant,
    parse_interval,
)
from btc_datamodule.errors import CandleError, ConfigError, StoreError
from btc_datamodule.store.candle_file import check_series, read_candles, read_header, write_series
from tests.factories import HOUR, candles_of

DAY, WEEK = 24 * HOUR, 168 * HOUR
MONDAY = parse_instant("2019-12-30")
EIGHT = parse_interval("1d", "8h")
INTERVALS = st.builds(
    lambda seconds, offset: Interval(seconds, None if offset is None else offset % seconds),
    st.integers(1, 999_999) | st.sampled_from([HOUR, DAY, WEEK, 2 * WEEK]),
    st.none() | st.integers(0, 10**7),
)


# --- intervals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "offset", "seconds", "past", "written"),
    [
        ("1d", None, DAY, 0, "1d"),
        ("1D", "8h", DAY, 8 * HOUR, "1d+8h"),
        ("1d+8h", None, DAY, 8 * HOUR, "1d+8h"),
        ("1d", "0h", DAY, 0, "1d"),
        ("24H", "16h", DAY, 16 * HOUR, "1d+16h"),
        ("1w", None, WEEK, 4 * DAY, "7d"),
        ("1W", "6d", WEEK, 3 * DAY, "7d+6d"),
        ("7d", "3d", WEEK, 0, "7d+3d"),
        ("2w", None, 2 * WEEK, 4 * DAY, "14d"),
        ("2w", "7d", 2 * WEEK, 11 * DAY, "14d+7d"),
        ("1h", "1800s", HOUR, 1800, "1h+30m"),
    ],
)
def test_an_interval_knows_its_length_and_its_grid(
    text: str, offset: str | None, seconds: int, past: int, written: str
) -> None:
    interval = parse_interval(text, offset)
    assert (int(interval), interval.offset, get_offset(interval)) == (seconds, past, past)
    assert format_interval(interval) == written
    assert parse_interval(written) == interval


@pytest.mark.parametrize("offset", ["1d", "24h", "25h", "-8h", "8", "08:00", "", 8])
def test_an_offset_that_is_none_names_itself(offset: str) -> None:
    with pytest.raises(ConfigError, match=r"^offset .* such as 8h, shorter than the interval, 1d"):
        parse_interval("1d", offset)


@pytest.mark.parametrize(("interval", "fits"), [("1h", "15m"), ("8h", "1h"), ("5m", "1m")])
def test_the_offset_that_is_advised_fits_the_interval(interval: str, fits: str) -> None:
    with pytest.raises(ConfigError, match=f"such as {fits}, shorter than the interval, {interval}"):
        parse_interval(interval, "8h")
    assert parse_interval(interval, fits).offset == parse_interval(fits)


def test_two_offsets_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="offset '8h' and interval '1d\\+8h' name one each"):
        parse_interval("1d+8h", "8h")


def test_a_month_is_told_to_be_none() -> None:
    with pytest.raises(ConfigError, match="1M is a month elsewhere"):
        parse_interval("1M")


@given(INTERVALS)
def test_intervals_read_back_what_was_formatted_with_their_grid(interval: Interval) -> None:
    assert parse_interval(format_interval(interval)) == interval


@given(INTERVALS)
def test_copies_of_an_interval_keep_its_grid(interval: Interval) -> None:
    for made in (
        pickle.loads(pickle.dumps(interval)),
        copy.copy(interval),
        copy.deepcopy(interval),
        Interval(interval, interval.offset),
    ):
        assert (made, made.offset, hash(made)) == (interval, interval.offset, hash(interval))


def test_intervals_are_equal_if_length_and_grid_are() -> None:
    assert parse_interval("1d") == DAY
    assert parse_interval("1w") == WEEK
    assert Interval(DAY, 8 * HOUR) == EIGHT
    assert EIGHT != DAY
    assert DAY != EIGHT
    assert EIGHT not in (HOUR, DAY)
    assert {DAY: "utc", EIGHT: "hong kong"}[EIGHT] == "hong kong"
    assert EIGHT > HOUR
    assert type(2 * EIGHT) is int
    assert f"{EIGHT}" == "86400"


@given(st.integers(0, 2**32), INTERVALS)
def test_rounding_reaches_the_nearest_openings(instant: int, interval: Interval) -> None:
    low, high = floor_to(instant, interval), ceil_to(instant, interval)
    assert low <= instant <= high
    assert low % interval == high % interval == interval.offset
    assert high - low == (0 if instant % interval == interval.offset else int(interval))


@given(st.integers(0, 2**32))
def test_weeks_begin_on_mondays(instant: int) -> None:
    assert datetime.fromtimestamp(floor_to(instant, WEEK), UTC).strftime("%A %H:%M:%S") == (
        "Monday 00:00:00"
    )


# --- candles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "asked", "advice"),
    [
        ("2020-01-01T08:00", "1d", "set `offset: 8h`"),
        ("2020-01-01T16:00", "1d", "set `offset: 16h`"),
        ("2020-01-01T18:30", "1d", "set `offset: 1110m`"),
        ("2020-01-01T16:00", "1d+8h", "set `offset: 16h`"),
        ("2020-01-01", "1d+8h", "leave `offset` out"),
        ("2020-01-05", "1w", "set `offset: 6d`"),
        ("2020-01-02", "7d", "set `offset: 3d`"),
    ],
)
def test_bars_of_another_grid_say_which_and_the_advice_works(
    first: str, asked: str, advice: str
) -> None:
    interval = parse_interval(asked)
    times = parse_instant(first) + interval * np.arange(5)
    columns = candles_of(times.tolist(), interval=1).columns
    with pytest.raises(CandleError, match=r"row 0 .* is right, " + advice):
        Candles(interval, columns)
    length = asked.partition("+")[0]
    advised = advice.partition(": ")[2].strip("`") or None
    assert len(Candles(parse_interval(length, advised), columns)) == 5


def test_bars_off_any_grid_are_asked_about_their_interval() -> None:
    columns = candles_of([MONDAY, MONDAY + HOUR, MONDAY + 5 * HOUR], interval=1).columns
    with pytest.raises(CandleError, match=r"row 1 .* 1d grid: is `interval` right\?"):
        Candles(DAY, columns)


# --- resampling -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "offset", "first"),
    [
        ("7d", None, "2019-12-30"),
        ("1w", "6d", "2020-01-05"),
        ("1d", "8h", "2019-12-30T08:00"),
        ("4h", "1h", "2019-12-30T01:00"),
    ],
)
def test_long_bars_open_where_they_are_asked_to(
    length: str, offset: str | None, first: str
) -> None:
    short = candles_of((MONDAY + HOUR * np.arange(24 * 30)).tolist())
    long, count = short.resample(length, offset)
    assert long.open_time[0] == parse_instant(first)
    assert (count == long.interval // HOUR).all()
    assert long.interval == parse_interval(length, offset)
    if not isinstance(offset, str):
        assert short.resample(WEEK)[0].open_time.tolist() == long.open_time.tolist()


def test_a_first_bar_that_is_not_whole_is_left_out_as_the_last_is() -> None:
    short = candles_of((MONDAY + HOUR * np.arange(2, 11)).tolist())
    long, count = short.resample("4h")
    assert long.open_time.tolist() == [MONDAY + 4 * HOUR]
    assert count.tolist() == [4]


def test_bars_that_share_no_edge_say_which_offset_does() -> None:
    days = candles_of((MONDAY + 8 * HOUR + DAY * np.arange(30)).tolist(), interval=EIGHT)
    with pytest.raises(ConfigError, match=r"bars of 1d\+8h cannot .* 7d: set `offset` to 8h"):
        days.resample("1w")
    weeks, count = days.resample("1w", "8h")
    assert weeks.open_time[0] == MONDAY + 8 * HOUR
    assert (count == 7).all()
    assert days.resample("1w", "32h")[0].open_time[0] == MONDAY + 32 * HOUR
    with pytest.raises(ConfigError, match="leave `offset` out"):
        candles_of([MONDAY]).resample("4h", "30m")


@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.integers(0, 40),
    st.sampled_from([2, 3, 4, 24]),
    st.integers(0, 23),
)
@settings(max_examples=60)
def test_joined_twice_or_at_once_bars_are_the_same(
    present: list[bool], start: int, factor: int, shift: int
) -> None:
    times = MONDAY + HOUR * (start + np.flatnonzero(present))
    short = candles_of(times.tolist())
    middle = Interval(factor * HOUR, shift % factor * HOUR)
    long = Interval(2 * factor * HOUR, shift % factor * HOUR)
    assert can_join(middle, long)
    at_once, first = short.resample(long)
    twice, _ = short.resample(middle)[0].resample(long)
    inside = at_once.slice(*twice.span) if len(twice) else at_once.slice(0, 0)
    np.testing.assert_array_equal(inside.open_time, twice.open_time)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(inside[name], twice[name])
    np.testing.assert_allclose(inside["volume"], twice["volume"])
    assert first.sum() <= len(short)


# --- the candle file ------------------------------------------------------------------------------


def test_the_candle_file_keeps_the_grid(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    days = candles_of((MONDAY + 8 * HOUR + DAY * np.arange(9)).tolist(), interval=EIGHT)
    write_series(path, days, source="file", series="BTC")
    header = read_header(path)
    assert (header.interval, header.interval.offset) == (EIGHT, 8 * HOUR)
    assert read_candles(path).interval == EIGHT
    check_series(path, header, "file", "BTC", EIGHT)
    with pytest.raises(StoreError, match=r"holds file BTC 1d\+8h bars, not file BTC 1d:"):
        check_series(path, header, "file", "BTC", DAY)


def test_a_file_of_the_usual_grid_is_as_it_was_before_grids(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    for interval in (HOUR, parse_interval("1h"), parse_interval("1w")):
        bars = candles_of((MONDAY + interval * np.arange(9)).tolist(), interval=interval)
        write_series(path, bars, source="file", series="BTC")
        with h5py.File(path) as file:
            assert "offset" not in file.attrs
        assert read_header(path).interval == interval


def test_weeks_from_thursday_of_version_0_1_are_read_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    weeks = candles_of((WEEK * np.arange(2600, 2609)).tolist(), interval=Interval(WEEK, 0))
    write_series(path, weeks, source="file", series="BTC")
    with h5py.File(path, "r+") as file:
        del file.attrs["offset"]
    assert len(read_candles(path)) == 9
    assert format_interval(read_header(path).interval) == "7d+3d"
