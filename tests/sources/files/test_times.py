"""Times as people write them: what a column is, and which instant each value means."""

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import CandleError
from btc_datamodule.sources.files.clocks import localise, parse_clock_texts
from btc_datamodule.sources.files.times import TimeReading, Times, classify, read_times

HOUR, DAY = 3600, 86_400
MARCH = parse_instant("2025-03-01")


def read(*columns: Any, form: str | None = None, zone: str | None = None, step: int = DAY) -> Times:
    series = [c if isinstance(c, pl.Series) else pl.Series(c) for c in columns]
    return read_times(series, TimeReading(form, zone, step), "a.csv", 2)


def instants(*columns: Any, **said: Any) -> list[str]:
    times = read(*columns, **said)
    assert times.known.all()
    assert (times.micros % 10**6 == 0).all()
    return [format_instant(int(t) // 10**6) for t in times.micros]


# --------------------------------------------------------------------------- what a column is


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([MARCH, MARCH + HOUR], "instant"),
        ([MARCH * 1000], "instant"),
        ([float(MARCH)], "instant"),
        ([20250301, 20250302], "date"),
        ([20250301000000, 20250301010000], "instant"),
        ([2025030100, 2025030123], "instant"),
        ([202503010000], "instant"),
        ([45717.0, 45717.5], "instant"),
        ([0, 0, 0], "clock"),
        ([0, 100, 2300], "clock"),
        ([0, 1, 2, 3], "none"),
        ([84349.95, 84350.0], "none"),
        ([1.5, 2.5], "none"),
        ([True, False], "none"),
        ([None, None], "none"),
        (["2025-03-01", "2025-03-02"], "date"),
        (["2025-03-01 00:00"], "instant"),
        (["2025-03-01T00"], "instant"),
        (["20250301"], "date"),
        (["20250301 000000"], "instant"),
        (["2019-10-29 10-PM"], "instant"),
        (["Feb 20, 2018"], "date"),
        (["01/13/2018"], "date"),
        (["12:00", "13:00"], "clock"),
        (["12:00:00.5 AM"], "clock"),
        (["000000", "010000"], "clock"),
        (["0000", "0100"], "clock"),
        (["BTC", "ETH"], "none"),
        (["", "nan"], "none"),
        ([dt.date(2025, 3, 1)], "date"),
        ([dt.datetime(2025, 3, 1)], "instant"),
        ([dt.time(1)], "clock"),
        ([dt.timedelta(1)], "none"),
    ],
)  # fmt: skip
def test_a_column_is_told_by_its_values(values: list[Any], kind: str) -> None:
    assert classify(pl.Series(values)) == kind


# ------------------------------------------------------------------------------ times in words


@pytest.mark.parametrize(
    "text",
    [
        "2025-03-01 05:00", "2025-03-01T05", "2025/03/01 5:00:00", "2025.03.01 05:00:00.000",
        "2025-3-1 5:00", "2025-03-01T05:00:00Z", "2025-03-01 05:00:00 UTC", "2025-03-01_05:00",
        "2025-03-01 05:00:00 GMT", "2025-03-01 06:00+01", "2025-03-01 06:00 +0100",
        "2025-03-01T00:30:00-04:30", "2025-03-01 13:00 UTC+8", "01.03.2025 05:00:00.000",
        "01.03.2025 06:00:00.000 GMT+0100", "1.3.25 05:00", "2025-03-01 05-AM",
        "2025-03-01 5 AM", "2025-03-01 05:00:00 a.m.", "Mar 1, 2025 05:00", "March 1st, 2025 05:00",
        "Sat, 01 Mar 2025 05:00:00 GMT", "Saturday, March 1, 2025 05:00", "1 Mar 2025 05:00",
        "01-Mar-2025 05:00", "01-Mar-25 05:00", "20250301 05:00", "20250301T050000Z",
        "20250301 050000", "  2025-03-01 05:00  ",
    ],
)  # fmt: skip
def test_every_spelling_of_an_instant_is_that_instant(text: str) -> None:
    assert instants([text, text]) == ["2025-03-01T05:00:00Z"] * 2


@pytest.mark.parametrize(
    ("text", "hour"),
    [("12:00 AM", 0), ("12:30 AM", 0), ("1:00 AM", 1), ("12:00 PM", 12), ("11:00 pm", 23),
     ("12-AM", 0), ("12-PM", 12), ("11-PM", 23)],
)  # fmt: skip
def test_twelve_on_the_dial_is_midnight_or_noon(text: str, hour: int) -> None:
    seconds = int(read([f"2025-03-01 {text}"]).micros[0]) // 10**6
    assert (seconds - MARCH) // HOUR == hour


@pytest.mark.parametrize(
    "text",
    ["2025-02-29", "2025-13-01", "2025-03-01 24:00", "2025-03-01 13 PM", "2025-03-01 05:00 XYZ",
     "Mrz 1, 2025", "soon"],
)  # fmt: skip
def test_a_text_that_is_no_time_names_its_row_and_what_mends_it(text: str) -> None:
    with pytest.raises(CandleError) as caught:
        read(["2025-03-01", text])
    assert str(caught.value) == (
        f"a.csv, row 3: open_time is {text!r}, which is not a time: say how it is written, such as "
        '`time_format: "%d/%m/%Y %H:%M"`'
    )


def test_a_part_of_a_second_is_kept_and_never_looks_like_a_whole_one() -> None:
    texts = ["2025-03-01 00:00:00.5", "2025-03-01 00:00:00.999999999", "2025-03-01 00:00:00.000"]
    assert (read(texts).micros - MARCH * 10**6).tolist() == [500_000, 1_000_000, 0]


def test_words_and_numbers_may_stand_in_one_column() -> None:
    assert instants(["2025-03-01", f"{MARCH + DAY}", f"{MARCH + 2 * DAY}000", "Mar 4, 2025"]) == [
        f"2025-03-0{day}T00:00:00Z" for day in (1, 2, 3, 4)
    ]


def test_rows_without_a_time_are_not_known() -> None:
    times = read(["2025-03-01", "", "nan", "NaT", None])
    assert times.known.tolist() == [True, False, False, False, False]
    assert times.micros.tolist() == [MARCH * 10**6, 0, 0, 0, 0]


# -------------------------------------------------------------------------------- day and month


def test_a_number_over_twelve_tells_the_day_without_a_note() -> None:
    for texts, day in ((["13/02/2018", "01/03/2018"], "02-13"), (["02/13/2018"], "02-13")):
        times = read(texts)
        assert format_instant(int(times.micros[0]) // 10**6) == f"2018-{day}T00:00:00Z"
        assert times.notes == ()


def test_with_points_the_day_comes_first() -> None:
    assert instants(["01.02.2018", "02.02.2018"])[0] == "2018-02-01T00:00:00Z"


@pytest.mark.parametrize(
    ("texts", "first", "last", "word"),
    [
        (["01/02/2018", "02/02/2018", "03/02/2018"], "2018-02-01", "2018-02-03", "day"),
        (["02/01/2018", "02/02/2018", "02/03/2018"], "2018-02-01", "2018-02-03", "month"),
        (["03/02/2018", "02/02/2018", "01/02/2018"], "2018-02-03", "2018-02-01", "day"),
    ],
)
def test_where_no_number_tells_the_order_of_bars_does_with_a_note(
    texts: list[str], first: str, last: str, word: str
) -> None:
    times = read(texts)
    told = [format_instant(int(t) // 10**6)[:10] for t in times.micros]
    assert (told[0], told[-1]) == (first, last)
    assert f"in dates such as {texts[0]} the {word} comes first" in times.notes[0]
    form = {"day": "%d/%m/%Y", "month": "%m/%d/%Y"}[word]
    assert f'(`time_format: "{form}"`' in times.notes[0]
    assert instants(texts, form=form)[0][:10] == first


@pytest.mark.parametrize("texts", [["03/01/2025 00:00", "03/01/2025 01:00"], ["01/02/2018"]])
def test_where_nothing_tells_day_from_month_the_advice_decides(texts: list[str]) -> None:
    with pytest.raises(CandleError) as caught:
        read(texts, step=HOUR)
    assert "cannot be told in which order day, month and year stand" in str(caught.value)
    form = "%m/%d/%Y %H:%M" if ":" in texts[0] else "%m/%d/%Y"
    month, day = texts[0].split("/")[:2]
    assert instants(texts, form=form)[0].startswith(f"{texts[0][6:10]}-{month}-{day}")


def test_dates_that_contradict_each_other_are_quoted() -> None:
    with pytest.raises(CandleError, match="day comes first in '13/02/2018' and last in '02/14/20"):
        read(["13/02/2018", "02/14/2018"])


# ------------------------------------------------------------------------------ digits and days


@pytest.mark.parametrize(
    ("values", "second"),
    [
        ([20250301, 20250302], "2025-03-02T00:00:00Z"),
        ([2025030100, 2025030101], "2025-03-01T01:00:00Z"),
        ([202503010000, 202503010130], "2025-03-01T01:30:00Z"),
        ([20250301000000, 20250301013000], "2025-03-01T01:30:00Z"),
    ],
)
def test_the_digits_of_a_date_are_that_date_as_numbers_and_as_texts(
    values: list[int], second: str
) -> None:
    for column in (values, [str(v) for v in values], [float(v) for v in values]):
        assert instants(column) == ["2025-03-01T00:00:00Z", second]


def test_one_that_is_no_date_among_digits_of_dates_is_an_instant_or_an_error() -> None:
    assert instants([1_600_000_000, 1_600_003_600])[0] == "2020-09-13T12:26:40Z"
    with pytest.raises(CandleError, match="row 3: open_time 20251301 is the digits of no date"):
        read([20250301, 20251301])


def test_days_of_spreadsheets_are_rounded_to_the_second_with_a_note() -> None:
    times = read([45717.0, 45717.041666667, 45717.0833333])
    assert [format_instant(int(t) // 10**6) for t in times.micros] == [
        "2025-03-01T00:00:00Z", "2025-03-01T01:00:00Z", "2025-03-01T02:00:00Z",
    ]  # fmt: skip
    assert times.notes == (
        "a.csv: times are days as spreadsheets count them, rounded to the second",
    )


@given(st.integers(parse_instant("1990-01-02"), parse_instant("2026-01-01")))
def test_every_second_survives_each_unit_and_its_spelling(second: int) -> None:
    moment = dt.datetime.fromtimestamp(second, dt.UTC)
    spelled = [f"{moment:%Y-%m-%d %H:%M:%S}", f"{moment:%d.%m.%Y %H:%M:%S}", moment.isoformat()]
    for column in ([second], [second * 1000], [second * 10**9], spelled):
        assert set(read(column).micros.tolist()) == {second * 10**6}


# ---------------------------------------------------------------------------------- two columns


@pytest.mark.parametrize(
    ("dates", "clocks"),
    [
        (["2025-03-01"], ["05:00:00"]),
        (["2025.03.01"], ["05:00"]),
        ([20250301], ["050000"]),
        ([20250301], [50000]),
        (["20250301"], ["0500"]),
        (["03/01/2025", "03/13/2025"], ["5:00 AM", "5:00 AM"]),
        ([dt.date(2025, 3, 1)], [dt.time(5)]),
        ([dt.datetime(2025, 3, 1)], ["05:00"]),
    ],
)
def test_a_date_and_a_time_of_day_are_one_instant(dates: list[Any], clocks: list[Any]) -> None:
    assert instants(dates, clocks)[0] == "2025-03-01T05:00:00Z"


def test_a_time_of_noughts_is_midnight() -> None:
    for clocks in (["000000", "000000"], [0, 0], ["0", "0"]):
        assert instants([20250301, 20250302], clocks)[1] == "2025-03-02T00:00:00Z"


def test_digits_of_a_clock_are_read_by_the_longest_of_them() -> None:
    assert parse_clock_texts(pl.Series(["0", "130", "2300"])).to_list() == [
        "00:00:00", "01:30:00", "23:00:00",
    ]  # fmt: skip
    assert parse_clock_texts(pl.Series(["0", "13000"])).to_list() == ["00:00:00", "01:30:00"]


# ---------------------------------------------------------------------------------- time_format


@pytest.mark.parametrize(
    ("form", "text", "opens"),
    [
        ("%d/%m/%Y", "02/03/2025", "2025-03-02T00:00:00Z"),
        ("%m/%d/%Y %H:%M", "02/03/2025 05:00", "2025-02-03T05:00:00Z"),
        ("%m/%d/%Y %I:%M %p", "02/03/2025 11:30 PM", "2025-02-03T23:30:00Z"),
        ("%Y-%m-%d %I-%p", "2025-03-01 05-PM", "2025-03-01T17:00:00Z"),
        ("%Y-%m-%d %H", "2025-03-01 05", "2025-03-01T05:00:00Z"),
        ("%Y-%m-%dT%H:%M:%S%z", "2025-03-01T05:00:00+0200", "2025-03-01T03:00:00Z"),
        ("%y%m%d", "250301", "2025-03-01T00:00:00Z"),
        ("%s", f"{MARCH}", "2025-03-01T00:00:00Z"),
        ("%Y%m%d", "20250301", "2025-03-01T00:00:00Z"),
    ],
)
def test_time_format_reads_what_it_says(form: str, text: str, opens: str) -> None:
    assert instants([text], form=form) == [opens]


def test_time_format_reads_numbers_by_their_digits() -> None:
    assert instants([250301, 250302], form="%y%m%d")[1] == "2025-03-02T00:00:00Z"


def test_a_text_that_is_written_otherwise_than_time_format_says_is_an_error_with_its_row() -> None:
    with pytest.raises(CandleError, match=r"row 3: open_time is '2025-03-01', which is not writt"):
        read(["01/03/2025", "2025-03-01"], form="%d/%m/%Y")


# ------------------------------------------------------------------------------------- timezone


def local(hours: int, start: str, zone: str) -> list[str]:
    """Hours as the clocks of a zone show them, from an instant of UTC on."""
    first = parse_instant(start)
    shown = pl.Series([(first + i * HOUR) * 1000 for i in range(hours)])
    moments = shown.cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(zone)
    return moments.dt.strftime("%Y-%m-%d %H:%M:%S").to_list()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("start", ["2020-10-24", "2020-10-31", "2021-03-27", "2021-03-13"])
@pytest.mark.parametrize("newest_first", [False, True])
def test_local_times_are_put_right_through_both_changes_of_the_clocks(
    zone: str, start: str, newest_first: bool
) -> None:
    texts = local(72, start, zone)
    wanted = [(parse_instant(start) + i * HOUR) * 10**6 for i in range(72)]
    if newest_first:
        texts, wanted = texts[::-1], wanted[::-1]
    times = read(texts, zone=zone, step=HOUR)
    assert times.micros.tolist() == wanted
    assert not times.naive
    assert times.notes == ()


def test_local_instants_of_arrow_files_are_put_right_too() -> None:
    shown = pl.Series(local(72, "2020-10-24", "Europe/Berlin")).str.to_datetime()
    times = read(shown, zone="Europe/Berlin", step=HOUR)
    assert (np.diff(times.micros) == HOUR * 10**6).all()


def test_a_time_that_no_clock_has_shown_is_named() -> None:
    with pytest.raises(CandleError) as caught:
        read(["2021-03-28 01:00", "2021-03-28 02:00"], zone="Europe/Berlin")
    assert "row 3: open_time is '2021-03-28 02:00', which no clock in Europe/Berlin has shown" in (
        str(caught.value)
    )
    moments = pl.Series([dt.datetime(2021, 3, 28, 1), dt.datetime(2021, 3, 28, 2)])
    with pytest.raises(
        CandleError, match="row 3: no clock in Europe/Berlin has shown 2021-03-28T0"
    ):
        read(moments, zone="Europe/Berlin")


def test_an_hour_shown_twice_that_stands_there_once_is_the_first_with_a_note() -> None:
    shown = pl.Series(["2020-10-25 01:00", "2020-10-25 02:00", "2020-10-25 03:00"])
    micros, notes = localise(shown.str.to_datetime().dt.epoch("us"), "Europe/Berlin")
    assert [format_instant(t // 10**6)[11:16] for t in micros] == ["23:00", "00:00", "02:00"]
    assert notes[0].startswith("1 times that the clocks in Europe/Berlin showed twice stand there")


def test_an_hour_shown_twice_is_always_the_second_if_the_latest_is_wanted() -> None:
    shown = pl.Series(["2020-10-25 02:00", "2020-10-25 02:00", "2020-10-25 03:00"])
    micros, notes = localise(shown.str.to_datetime().dt.epoch("us"), "Europe/Berlin", latest=True)
    assert [format_instant(t // 10**6)[11:16] for t in micros] == ["01:00", "01:00", "02:00"]
    assert notes == (
        "2 times that the clocks in Europe/Berlin showed twice were taken for the second",
    )


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ([20250301000000, 20250701013000], "2025-06-30T23:30:00Z"),
        ([20250301, 20250701], "2025-06-30T22:00:00Z"),
        ([45717.0, 45839.5], "2025-07-01T10:00:00Z"),
        ([MARCH, 1_751_328_000], "2025-07-01T00:00:00Z"),  # is an instant
    ],
)
def test_digits_of_a_date_are_of_the_zone(numbers: list[float], shown: str) -> None:
    assert shown in instants(numbers, zone="Europe/Berlin")


def test_digits_of_a_time_that_no_clock_has_shown_are_an_error() -> None:
    with pytest.raises(CandleError, match=r"row 2: .* is what no clock in Europe/Berlin has shown"):
        read([20250330023000, 20250330040000], zone="Europe/Berlin")


def test_a_zone_in_the_text_wins_over_timezone() -> None:
    texts = ["2025-03-01 00:00Z", "2025-03-01 01:00+01:00"]
    assert set(instants(texts, zone="Asia/Tokyo")) == {"2025-03-01T00:00:00Z"}


def test_only_words_without_a_zone_are_naive() -> None:
    assert read(["2025-03-01 00:00"]).naive
    assert not read(["2025-03-01 00:00Z"]).naive
    assert not read([MARCH]).naive
    assert read(pl.Series([dt.datetime(2025, 3, 1)])).naive
    assert not read(pl.Series([dt.datetime(2025, 3, 1)]).dt.replace_time_zone("UTC")).naive


# -------------------------------------------------------------------------------- Arrow, damage


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_instants_of_arrow_are_rounded_up_to_the_microsecond(unit: Any) -> None:
    moment = pl.Series([dt.datetime(2025, 3, 1)]).cast(pl.Datetime(unit))
    assert read(moment).micros.tolist() == [MARCH * 10**6]
    odd = pl.Series([MARCH * 10**9 + 1]).cast(pl.Datetime("ns"))
    assert read(odd).micros.tolist() == [MARCH * 10**6 + 1]


def test_dates_of_arrow_are_midnights_and_nulls_are_not_known() -> None:
    times = read(pl.Series([dt.date(2025, 3, 1), None]))
    assert times.micros.tolist() == [MARCH * 10**6, 0]
    assert times.known.tolist() == [True, False]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([0, 2**62]).cast(pl.Datetime("ms")),
        pl.Series([0, -(2**63)]).cast(pl.Datetime("ms")),  # which has no absolute value
        pl.Series([0, -(2**62)]).cast(pl.Datetime("us")),
        pl.Series([0, 2**31 - 1], dtype=pl.Int32).cast(pl.Date),
    ],
)
def test_a_wild_year_is_one_line_with_its_row(column: pl.Series) -> None:
    with pytest.raises(CandleError) as caught:
        read(column)
    assert str(caught.value) == (
        "a.csv, row 3: open_time is thousands of years from now: is it damaged?"
    )
