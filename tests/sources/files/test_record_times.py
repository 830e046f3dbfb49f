"""When records are: zones in names, hours shown twice, days as numbers, months, mixed forms."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from btc_datamodule import RecordError, Records, SourceError
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.sources.records import RecordBlock

EVER = (0, parse_instant("2030-01-01"))
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
DAYS_NOTE = "own.csv: 'time' has days without a time of day, and `delay` counts from where they "


def read(folder: Path, text: str, time: str = "time", **fields: Any) -> RecordBlock:
    path = folder / "own.csv"
    path.write_text(text)
    (block,) = Records(str(path), time, **{"columns": ("value",), **fields}).blocks(EVER)
    return block


def told(block: RecordBlock, name: str = "known_at") -> list[str]:
    return [format_instant(int(each))[:16] for each in block.records[name]]


# --- a zone in the name of a column ---------------------------------------------------------------

ZONES = (
    *("Time (EST)", "Released (ET)", "released_est", "Date PT", "Time (UTC+8)", "GMT-05:00"),
    *("Time (UTC +05:30)", "date_jst", "Time (Cet)"),
)


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("argument", ["time", "known_at"])
def test_a_column_called_by_a_zone_is_an_error_until_the_zone_is_said(
    tmp_path: Path, name: str, argument: str
) -> None:
    other = {"time": "known_at", "known_at": "time"}[argument]
    text = f"{name},{other},value\n2020-01-02 08:30,2020-01-02 08:30,1\n"
    fields = {argument: name, other: other}
    with pytest.raises(SourceError, match=r"own.csv: column .* are not in UTC: set `timezone`"):
        read(tmp_path, text, **fields)
    assert told(read(tmp_path, text, **fields, timezone="UTC")) == ["2020-01-02T08:30"]
    assert told(read(tmp_path, text, **fields, timezone=NEW_YORK)) == ["2020-01-02T13:30"]


@pytest.mark.parametrize(
    "name", ["date_utc", "Time (UTC)", "Gmt time", "Time (UTC+00:00)", "latest", "market", "pt"]
)
def test_a_name_that_says_utc_or_no_zone_is_read(tmp_path: Path, name: str) -> None:
    block = read(tmp_path, f"{name},value\n2020-01-02 08:30,1\n", name, delay="0s")
    assert told(block) == ["2020-01-02T08:30"]


@pytest.mark.parametrize("name", ["Released (UTC)", "released_utc", "GMT time", "UTC+00:00"])
def test_a_column_that_says_utc_stays_so_beside_one_of_another_zone(
    tmp_path: Path, name: str
) -> None:
    text = f"Date (JST),{name},value\n2020-03-01 09:00,2020-03-01 10:00,1\n"
    block = read(tmp_path, text, "Date (JST)", known_at=name, timezone="Asia/Tokyo")
    assert told(block, "time") == ["2020-03-01T00:00"]
    assert told(block) == ["2020-03-01T10:00"]
    text = f"{name},Out (ET),value\n2020-03-01 10:00,2020-03-01 10:00,1\n"
    block = read(tmp_path, text, name, known_at="Out (ET)", timezone=NEW_YORK)
    assert told(block, "time") == ["2020-03-01T10:00"]
    assert told(block) == ["2020-03-01T15:00"]


# --- hours that clocks show twice -----------------------------------------------------------------


def test_a_publication_in_an_hour_shown_twice_was_in_the_second(tmp_path: Path) -> None:
    text = (
        "time,value,out\n2019-10-01 00:30,1,2019-10-27 02:30\n2019-10-01 01:30,2,2019-10-27 02:30\n"
        "2019-10-27 02:30,3,2019-10-28 02:30\n"
    )
    block = read(tmp_path, text, known_at="out", timezone=BERLIN)
    assert told(block) == ["2019-10-27T01:30", "2019-10-27T01:30", "2019-10-28T01:30"]
    assert told(block, "time")[2] == "2019-10-27T00:30"
    assert block.notes == (
        "own.csv: 1 times that the clocks in Europe/Berlin showed twice stand there once, and were "
        "taken for the first",
        "own.csv: 2 times that the clocks in Europe/Berlin showed twice were taken for the second",
    )


def test_timestamps_of_parquet_too(tmp_path: Path) -> None:
    hours = pl.Series(["2019-10-27 02:30", "2019-10-28 02:30"]).str.to_datetime()
    frame = pl.DataFrame({"time": [1_500_000_000, 1_500_000_001], "value": [1, 2], "out": hours})
    frame.write_parquet(tmp_path / "own.parquet")
    source = Records(str(tmp_path / "own.parquet"), "time", known_at="out", timezone=BERLIN)
    (block,) = source.blocks(EVER)
    assert told(block) == ["2019-10-27T01:30", "2019-10-28T01:30"]


def test_a_delay_counts_from_the_second_hour_where_the_order_of_rows_does_not_tell(
    tmp_path: Path,
) -> None:
    hours = [f"2019-10-27 {hour}:30,{i}" for i, hour in enumerate(["01", "02", "02", "03"])]
    both = read(tmp_path, "\n".join(["time,value", *hours]), delay="1h", timezone=BERLIN)
    hourly = ["2019-10-26T23:30", "2019-10-27T00:30", "2019-10-27T01:30", "2019-10-27T02:30"]
    assert told(both, "time") == hourly
    assert told(both) == [*hourly[1:], "2019-10-27T03:30"]
    assert both.notes == ()
    del hours[1]
    one = read(tmp_path, "\n".join(["time,value", *hours]), delay="1h", timezone=BERLIN)
    assert told(one, "time") == [hourly[0], hourly[1], hourly[3]]
    assert told(one) == ["2019-10-27T00:30", "2019-10-27T02:30", "2019-10-27T03:30"]
    assert one.notes[1] == "own.csv: `delay` counts from the second of those that stand there once"


# --- days -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "days",
    [
        ("2020-01-01", "2020-01-02"),
        ("2020-01-01 00:00", "2020-01-02 00:00"),
        ("1577836800", "1577923200"),
        ("1577836800000", "1577923200000"),
        ("20200101", "20200102"),
        ("43831", "43832"),
    ],
)
def test_days_with_a_delay_and_no_period_are_told_however_they_are_written(
    tmp_path: Path, days: tuple[str, str]
) -> None:
    text = f"time,value\n{days[0]},1\n{days[1]},2\n"
    block = read(tmp_path, text, delay="1h")
    assert told(block) == ["2020-01-01T01:00", "2020-01-02T01:00"]
    assert block.notes[-1].startswith(f"{DAYS_NOTE}begin: set `interval: 1d`")
    assert not any(
        DAYS_NOTE in note for note in read(tmp_path, text, delay="1h", interval=86400).notes
    )


def test_numbers_that_are_not_all_midnight_are_no_days(tmp_path: Path) -> None:
    assert read(tmp_path, "time,value\n1577836800,1\n1577923260,2\n", delay="1h").notes == ()


@pytest.mark.parametrize("clock", ["", " 00:00"])
def test_days_of_a_zone_are_told_of_a_delay_that_is_long_enough(tmp_path: Path, clock: str) -> None:
    """No grid has them, and the day on which clocks are put back has 25 hours."""
    text = f"time,value\n2019-10-27{clock},1\n2019-10-28{clock},2\n"
    block = read(tmp_path, text, delay="1h", timezone=BERLIN)
    assert block.notes[-1].startswith(f"{DAYS_NOTE}begin: set `delay: 26h` if")
    with pytest.raises(RecordError, match=r"no period of 1d begins then: .* `delay: 26h` or more"):
        read(tmp_path, text, delay="1h", timezone=BERLIN, interval="1d")
    late = read(tmp_path, text, delay="26h", timezone=BERLIN)
    assert told(late)[0] == "2019-10-28T00:00"  # the day was over at 23:00
    assert not any(DAYS_NOTE in note for note in late.notes)


@pytest.mark.parametrize(
    ("dates", "period", "delay"),
    [
        (["2019-10-01", "2019-11-01", "2019-12-01", "2020-02-01"], "month", "46d"),
        (["2019-04-01", "2019-07-01", "2020-01-01"], "quarter", "107d"),
        (["2017-01-01", "2018-01-01"], "year", "381d"),
        (["2019-10-01", "2019-11-02"], "day", ""),
        (["2019-10-01"], "day", ""),
    ],
)
def test_first_days_of_months_are_told_to_be_months(
    tmp_path: Path, dates: list[str], period: str, delay: str
) -> None:
    """As FRED writes them: known fifteen days later would be known in mid-month."""
    text = "observation_date,value\n" + "".join(f"{date},1\n" for date in dates)
    notes = read(tmp_path, text, "observation_date", delay="15d").notes
    if not delay:
        assert notes == ()
        return
    assert f"set `delay: {delay}` if a record tells of its whole {period}" in notes[-1]
    assert read(tmp_path, text, "observation_date", delay=delay).notes == ()


@pytest.mark.parametrize("form", ["%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%m/%d/%y"])
@pytest.mark.parametrize("argument", ["time", "known_at"])
def test_first_days_of_months_are_no_days_that_follow_each_other(
    tmp_path: Path, form: str, argument: str
) -> None:
    """01/01/2018, 02/01/2018 and so on: the other way round they are twelve days of January."""
    months = [date(2018, month, 1) for month in range(1, 13)]
    lines = [f"{month.strftime(form)},1" for month in months]
    other = {"time": {"delay": "45d"}, "known_at": {"known_at": "out"}}[argument]
    if argument == "known_at":
        lines = [f"2017-01-{day:02d},{line}" for day, line in enumerate(lines, 1)]
    text = "\n".join(["time,out,value" if argument == "known_at" else "time,value", *lines])
    with pytest.raises(RecordError, match=r"cannot be told in which order .*: set `time_format`"):
        read(tmp_path, text, **other)
    block = read(tmp_path, text, **other, time_format=form)
    late = 45 if argument == "time" else 1
    assert told(block) == [f"{month + timedelta(days=late)}T00:00" for month in months]


def test_a_day_past_the_twelfth_tells_the_order(tmp_path: Path) -> None:
    text = "time,value\n01/01/2018,1\n01/15/2018,1\n02/01/2018,1\n"
    assert told(read(tmp_path, text, delay="0s"))[-1] == "2018-02-01T00:00"


def test_weeks_that_begin_off_the_grid_are_told_of_a_delay_that_is_long_enough(
    tmp_path: Path,
) -> None:
    text = "time,value\n2019-10-20,1\n2019-10-27,2\n"
    with pytest.raises(RecordError, match=r"no period of 7d begins then: .* `delay: 169h` or more"):
        read(tmp_path, text, delay="1h", interval="1w")
    assert told(read(tmp_path, text, delay="169h"))[0] == "2019-10-27T01:00"


def test_midnights_as_numbers_may_be_days_on_which_something_was_published(tmp_path: Path) -> None:
    block = read(tmp_path, "time,value,out\n2019-11-01,1,1576108800\n", known_at="out")
    assert told(block) == ["2019-12-12T00:00"]
    assert block.notes == (
        "own.csv: 'out' is midnight, UTC, in every row, and numbers are instants: if they are "
        "days, write them as dates, which count from their end",
    )


def test_digits_of_a_date_are_of_the_zone(tmp_path: Path) -> None:
    text = "time,value,out\n20191101,1,20191212083000\n20191102,2,20191213120000\n"
    block = read(tmp_path, text, known_at="out", timezone=NEW_YORK)
    assert told(block, "time") == ["2019-11-01T04:00", "2019-11-02T04:00"]
    assert told(block) == ["2019-12-12T13:30", "2019-12-13T17:00"]
    text = "time,value,out\n20191101,1,20191212\n"
    assert told(read(tmp_path, text, known_at="out", timezone=NEW_YORK)) == ["2019-12-13T05:00"]


# --- months and quarters --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "begin", "over", "kind"),
    [
        (("2019-11", "2019-12"), "2019-11-01", "2019-12-01", "months"),
        (("Nov 2019", "Dec 2019"), "2019-11-01", "2019-12-01", "months"),
        (("2019Q3", "2019Q4"), "2019-07-01", "2019-10-01", "quarters"),
    ],
)
def test_a_month_begins_for_what_is_told_of_it_and_is_over_when_it_is_known(
    tmp_path: Path, cells: tuple[str, str], begin: str, over: str, kind: str
) -> None:
    text = f"time,value,out\n{cells[0]},1,2020-02-12T13:30Z\n{cells[1]},2,2020-03-14T13:30Z\n"
    block = read(tmp_path, text, known_at="out")
    assert told(block, "time")[0] == f"{begin}T00:00"
    assert (told(block)[0], block.notes) == ("2020-02-12T13:30", ())
    block = read(tmp_path, text, delay="1h")
    assert told(block)[0] == f"{over}T01:00"
    assert block.notes == (f"own.csv: 'time' has {kind}, and `delay` counts from their end",)
    text = f"time,value,out\n2019-01-01,1,{cells[0]}\n2019-02-01,2,{cells[1]}\n"
    block = read(tmp_path, text, known_at="out")
    assert told(block)[0] == f"{over}T00:00"
    assert block.notes == (
        f"own.csv: 'out' has {kind}: what they tell of counts as known from their end on",
    )


def test_a_month_is_one_of_the_zone(tmp_path: Path) -> None:
    block = read(tmp_path, "time,value\n2019-10,1\n", delay="0s", timezone=NEW_YORK)
    assert (told(block, "time"), told(block)) == (["2019-10-01T04:00"], ["2019-11-01T04:00"])


# --- two ways to write times ----------------------------------------------------------------------

TWO_WAYS = {
    "months beside ISO": ("2019-11", "2019-12-12T13:30Z", "%Y-%m"),
    "ISO beside another": ("2019-11-01", "12.12.19 13h30", "%d.%m.%y %Hh%M"),
    "days beside numbers": ("01/11/2019", "1576157400", "%d/%m/%Y"),
    "quarters beside days": ("2019Q4", "12/12/2019 13:30", "%d/%m/%Y %H:%M"),
    "both": ("2019-11-01 00:00", "2019-12-12 13:30", "%Y-%m-%d %H:%M"),
}


@pytest.mark.parametrize("way", TWO_WAYS)
def test_a_column_that_is_not_written_as_the_other_is_read_as_it_stands(
    tmp_path: Path, way: str
) -> None:
    time, out, form = TWO_WAYS[way]
    block = read(tmp_path, f"time,value,out\n{time},1,{out}\n", known_at="out", time_format=form)
    assert told(block, "time") == ["2019-10-01T00:00" if "Q4" in time else "2019-11-01T00:00"]
    assert told(block) == ["2019-12-12T13:30"]


@pytest.mark.parametrize(
    ("rows", "fields", "problem"),
    [
        (["2019-11-01,2019-12-12"], {"known_at": "out"}, "row 2: 'time' is '2019-11-01', which is"),
        (
            ["2019-11-01,05.04.2020", "2019-11-02,2020-05-05"],
            {"known_at": "out"},
            "row 3: 'out' is '2020-05-05', which is",
        ),
        (["2019-11-01,05.04.2020"], {"delay": "1h"}, "row 2: 'time' is '2019-11-01', which is"),
    ],
)
def test_a_column_that_is_written_so_in_part_is_wrong_elsewhere(
    tmp_path: Path, rows: list[str], fields: dict[str, Any], problem: str
) -> None:
    text = "\n".join(["time,out,value", *(f"{row},1" for row in rows)])
    with pytest.raises(RecordError, match=problem + " not written as `time_format` '%d.%m.%Y' say"):
        read(tmp_path, text, time_format="%d.%m.%Y", **fields)
