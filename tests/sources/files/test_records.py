"""Records in files of one's own: what each is about, since when it was known, what is refused."""

import gzip
import json
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule import ConfigError, RecordError, Records, SourceError
from btc_datamodule.audit.verify import verify_records
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.sources.base import StoredSeries
from btc_datamodule.sources.records import RecordBlock
from btc_datamodule.store.locating import find_record_source, locate_records
from btc_datamodule.store.record_file import read_records
from btc_datamodule.store.update import update_records
from btc_datamodule.testing import RecordSourceContract
from tests.factories import HOUR, T0
from tests.store.records import HELD, assert_same, records_of

EVER = (0, parse_instant("2030-01-01"))
DAY = 86_400
CPI = """month,value,released
2020-01-01,100.5,2020-02-13T13:30:00Z
2020-02-01,101.0,2020-03-12T12:30:00Z
2020-01-01,100.6,2020-03-12T12:30:00Z
2020-03-01,,2020-04-10T12:30:00Z
"""


def write(folder: Path, text: str, name: str = "own.csv") -> str:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def read(path: str, time: str = "time", **fields: Any) -> RecordBlock:
    (block,) = Records(path, time, **fields).blocks(EVER)
    return block


def told(records: RecordSet, name: str = "value") -> list[tuple[str, str, float]]:
    """Time, since when it was known, and value of each record, in words."""
    instants = ([format_instant(int(each)) for each in records[n]] for n in ("time", "known_at"))
    return list(zip(*instants, records[name].tolist(), strict=True))


# --- since when they were known -------------------------------------------------------------------


def test_revisions_are_later_rows_of_the_same_time(tmp_path: Path) -> None:
    block = read(write(tmp_path, CPI), "month", known_at="released")
    np.testing.assert_equal(
        told(block.records),
        [
            ("2020-01-01T00:00:00Z", "2020-02-13T13:30:00Z", 100.5),
            ("2020-01-01T00:00:00Z", "2020-03-12T12:30:00Z", 100.6),
            ("2020-02-01T00:00:00Z", "2020-03-12T12:30:00Z", 101.0),
            ("2020-03-01T00:00:00Z", "2020-04-10T12:30:00Z", np.nan),
        ],
    )
    assert block.span == (parse_instant("2020-01-01"), parse_instant("2020-03-01") + 1)
    assert (block.origin, block.notes) == ("file own.csv", ())
    assert block.checksum.startswith("sha256:")


@pytest.mark.parametrize(
    ("fields", "known_at"),
    [
        ({"delay": "0s"}, "2020-01-02T00:00:00Z"),
        ({"delay": "15m"}, "2020-01-02T00:15:00Z"),
        ({"delay": "1h", "interval": "1d"}, "2020-01-03T01:00:00Z"),
        ({"delay": "0s", "interval": 86_400}, "2020-01-03T00:00:00Z"),
    ],
)
def test_a_delay_counts_from_the_time_or_from_the_end_of_the_period(
    tmp_path: Path, fields: dict[str, Any], known_at: str
) -> None:
    path = write(tmp_path, "time,value\n2020-01-01T00:00Z,1\n2020-01-02T00:00Z,2\n")
    block = read(path, **fields)
    assert told(block.records)[1] == ("2020-01-02T00:00:00Z", known_at, 2.0)
    assert (block.span[1] - T0, block.notes) == (DAY * 2 if "interval" in fields else DAY + 1, ())


def test_days_with_a_delay_and_no_period_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "date,value\n2020-01-01,1\n2020-01-02,2\n")
    block = read(path, "date", delay="1h")
    assert told(block.records)[0] == ("2020-01-01T00:00:00Z", "2020-01-01T01:00:00Z", 1.0)
    assert block.notes == (
        "own.csv: 'date' has days without a time of day, and `delay` counts from where they begin: "
        "set `interval: 1d` if a record tells of its whole day",
    )
    assert read(path, "date", delay="1h", interval="1d").notes == ()


DAYS = {
    "dates": ("2020-02-13", "2020-02-14T00:00:00Z"),
    "a date in words": ("Feb 13, 2020", "2020-02-14T00:00:00Z"),
    "digits of a date": ("20200213", "2020-02-14T00:00:00Z"),
    "days of a spreadsheet": ("43874", "2020-02-14T00:00:00Z"),
    "midnight without a zone": ("2020-02-13 00:00:00", "2020-02-14T00:00:00Z"),
    "a date with an offset": ("2020-02-13+02:00", "2020-02-13T22:00:00Z"),
    "midnight in a zone": ("2020-02-13T00:00:00Z", "2020-02-13T00:00:00Z"),
    "midnight in epoch seconds": ("1581552000", "2020-02-13T00:00:00Z"),
    "a time of day without a zone": ("2020-02-13 08:30", "2020-02-13T08:30:00Z"),
    "half of a spreadsheet's day": ("43874.5", "2020-02-13T12:00:00Z"),
}


@pytest.mark.parametrize("kind", DAYS)
def test_a_day_without_a_time_of_day_is_over_before_anything_of_it_is_known(
    tmp_path: Path, kind: str
) -> None:
    written, known_at = DAYS[kind]
    path = write(tmp_path, f"time;value;out\n2020-01-01;1;{written}\n2020-01-02;2;{written}\n")
    block = read(path, known_at="out", columns=["value"])
    assert {each[1] for each in told(block.records)} == {known_at}
    is_day = known_at == "2020-02-14T00:00:00Z" or "offset" in kind
    told_so = [note for note in block.notes if "from the end of the day on" in note]
    assert len(told_so) == is_day
    assert all(note.startswith("own.csv: 2 of 'out' are days") for note in told_so)


def test_each_row_is_a_day_or_an_instant_by_itself(tmp_path: Path) -> None:
    path = write(
        tmp_path, "time,value,out\n2020-01-01,1,2020-02-13\n2020-01-02,2,2020-02-13 08:30\n"
    )
    known = [each[1] for each in told(read(path, known_at="out").records)]
    assert known == ["2020-02-14T00:00:00Z", "2020-02-13T08:30:00Z"]


@pytest.mark.parametrize(
    ("zone", "fields"),
    [(None, {}), ("UTC", {}), (None, {"timezone": "America/New_York"})],
)
def test_timestamps_of_parquet_are_days_if_they_are_midnight_and_name_no_zone(
    tmp_path: Path, zone: str | None, fields: dict[str, Any]
) -> None:
    days = pl.Series(["2020-03-07", "2020-03-08"]).str.to_datetime("%Y-%m-%d")
    frame = pl.DataFrame({"time": [T0, T0 + 1], "value": [1.0, 2.0]})
    frame.with_columns(out=days.dt.replace_time_zone(zone)).write_parquet(tmp_path / "own.parquet")
    block = read(str(tmp_path / "own.parquet"), known_at="out", **fields)
    known = [each[1] for each in told(block.records)]
    if zone == "UTC":
        assert known == ["2020-03-07T00:00:00Z", "2020-03-08T00:00:00Z"]
    elif fields:  # the second day, in which clocks are put forward, has 23 hours
        assert known == ["2020-03-08T05:00:00Z", "2020-03-09T04:00:00Z"]
    else:
        assert known == ["2020-03-08T00:00:00Z", "2020-03-09T00:00:00Z"]
    date = frame.with_columns(out=days.dt.date())
    date.write_parquet(tmp_path / "date.parquet")
    same = read(str(tmp_path / "date.parquet"), known_at="out", **fields)
    assert [each[1] for each in told(same.records)] == (
        ["2020-03-08T00:00:00Z", "2020-03-09T00:00:00Z"] if zone == "UTC" else known
    )


def test_local_times_are_told_by_their_zone(tmp_path: Path) -> None:
    path = write(tmp_path, "time,value,out\n2020-07-01 10:00,1,2020-07-02 08:30\n")
    block = read(path, known_at="out", timezone="America/New_York")
    assert told(block.records) == [("2020-07-01T14:00:00Z", "2020-07-02T12:30:00Z", 1.0)]


def test_fractions_are_rounded_down_in_time_and_up_in_known_at(tmp_path: Path) -> None:
    path = write(tmp_path, "time,value,out\n1577836800.25,1,2020-01-01T00:00:07.000001Z\n")
    assert told(read(path, known_at="out").records) == [
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:08Z", 1.0)
    ]
    assert told(read(path, delay="0s").records)[0][:2] == (
        "2020-01-01T00:00:00Z",
        "2020-01-01T00:00:01Z",
    )


def test_a_way_to_write_times_may_be_said(tmp_path: Path) -> None:
    path = write(tmp_path, "time,value,out\n03/04/2020,1,05/04/2020\n")
    for form, known in (("%d/%m/%Y", "2020-04-06"), ("%m/%d/%Y", "2020-05-05")):
        block = read(path, known_at="out", time_format=form)
        assert told(block.records)[0][1] == f"{known}T00:00:00Z"
    with pytest.raises(RecordError, match=r"cannot be told in which order .*: set `time_format`"):
        read(path, known_at="out")


@settings(max_examples=60)
@given(st.integers(T0, T0 + 10**8), st.integers(0, 999_999), st.integers(0, 10**6))
def test_nothing_is_known_before_it_was(seconds: int, micros: int, wait: int) -> None:
    """In the finest unit that a file can say it in."""
    late = (seconds + wait) * 10**6 + micros
    text = f"time,value,out\n{seconds},1,{late}\n"
    with TemporaryDirectory() as folder:
        records = read(write(Path(folder), text), known_at="out", columns=["value"]).records
    assert records.known_at[0] * 10**6 >= late > (records.known_at[0] - 1) * 10**6
    assert records.time[0] == seconds


# --- values ---------------------------------------------------------------------------------------


def test_all_columns_of_numbers_are_taken_unless_some_are_named(tmp_path: Path) -> None:
    text = (
        'id,Time,fear,label,Active Users,empty\nx1,1577836800,10,a,"1,200",\ny2,1577840400,,b,7,\n'
    )
    path = write(tmp_path, text)
    source = Records(path, "time", delay="0s")
    assert source.columns == ("fear", "Active_Users")
    (block,) = source.blocks(EVER)
    np.testing.assert_array_equal(block.records["fear"], [10.0, np.nan])
    np.testing.assert_array_equal(block.records["Active_Users"], [1200.0, 7.0])
    one = Records(path, "time", delay="0s", columns=["active_users"])  # type: ignore[arg-type]  # as YAML gives it
    assert one.columns == ("active_users",)
    (block,) = one.blocks(EVER)
    assert block.records["active_users"].tolist() == [1200.0, 7.0]


def test_rows_that_repeat_another_are_one(tmp_path: Path) -> None:
    path = write(tmp_path, "time,a,b\n1577836800,1,\n1577840400,2,3\n1577836800,1,\n")
    block = read(path, delay="0s")
    assert block.records["a"].tolist() == [1.0, 2.0]
    assert block.notes == (f"{path}: 1 rows that repeat another were left out",)


def test_two_values_of_one_record_are_an_error_that_names_both(tmp_path: Path) -> None:
    path = write(tmp_path, "time,a\n1577836800,1\n1577840400,2\n1577836800,1.5\n")
    with pytest.raises(
        RecordError,
        match=r"own.csv, row 2 and own.csv, row 4: both are about 2020-01-01T00:00:00Z and known "
        r"at 2020-01-01T01:00:00Z, and a is 1 and 1.5: remove the wrong one",
    ):
        read(path, delay="1h")
    other = write(tmp_path, "time,a\n1577840400,2.5\n", "zwei.csv")
    one = write(tmp_path, "time,a\n1577836800,1\n1577840400,2\n")
    with pytest.raises(RecordError, match=r"own.csv, row 3 and zwei.csv, row 2: .*a is 2 and 2.5"):
        read([one, other], delay="1h")  # type: ignore[arg-type]


def test_files_together_are_one_series(tmp_path: Path) -> None:
    for part in range(3):
        write(tmp_path, f"time,a\n{T0 + part},{part}\n{T0 + part + 1},{part + 1}\n", f"{part}.csv")
    block = read(str(tmp_path / "*.csv"), delay="0s")
    assert block.records["a"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert block.origin == "file 0.csv, file 1.csv, file 2.csv"
    assert block.checksum.count("sha256:") == 3


ROWS = [{"time": T0 + HOUR, "value": 2.0}, {"time": T0, "value": 1.0}]
KINDS: dict[str, str] = {
    "rows.csv.gz": f"time,value\n{T0},1\n{T0 + HOUR},2\n",
    "rows.tsv": f"# made by hand\ntime\tvalue\n{T0}\t1\n{T0 + HOUR}\t2\n",
    "german.csv": f"time;value\n{T0};1,0\n{T0 + HOUR};2,0\n",
    "objects.json": json.dumps(ROWS),
    "lines.jsonl": "\n".join(map(json.dumps, ROWS)),
    "wrapped.json": json.dumps({"name": "index", "data": ROWS, "metadata": {"error": None}}),
    "lists.json": json.dumps({"time": [T0, T0 + HOUR], "value": [1, 2], "unit": ["x"]}),
    "pandas.json": json.dumps({"time": {"0": T0, "1": T0 + HOUR}, "value": {"0": 1, "1": 2}}),
}


@pytest.mark.parametrize("name", [*KINDS, "a.parquet", "a.feather", "a.h5"])
def test_every_kind_of_file_that_candles_come_in_is_read(tmp_path: Path, name: str) -> None:
    if name in KINDS:
        path = write(tmp_path, KINDS[name], name)
    else:
        path = str(tmp_path / name)
        frame = pl.DataFrame(ROWS)
        if name.endswith("h5"):
            import h5py

            with h5py.File(path, "w") as file:
                for column in frame.columns:
                    file[f"table/{column}"] = frame[column].to_numpy()
        elif name.endswith("parquet"):
            frame.write_parquet(path)
        else:
            frame.write_ipc(path)
    dataset = "table" if name.endswith("h5") else None
    block = read(path, delay="1m", dataset=dataset, columns=("value",))
    assert told(block.records) == [
        ("2020-01-01T00:00:00Z", "2020-01-01T00:01:00Z", 1.0),
        ("2020-01-01T01:00:00Z", "2020-01-01T01:01:00Z", 2.0),
    ]


def test_what_is_yet_to_come_or_not_published_is_left_out_and_counted(tmp_path: Path) -> None:
    text = (
        f"time,value,out\n{T0},1,{T0 + 9}\n{T0 + HOUR},,\n,,\n{EVER[1]},5,{EVER[1] + 9}\n"
        f"{T0 + 2 * HOUR},,{T0 + 3 * HOUR}\n"
    )
    block = read(write(tmp_path, text), known_at="out")
    np.testing.assert_array_equal(block.records["value"], [1.0, np.nan])
    assert block.notes == (
        "own.csv: 1 rows with neither time nor values were left out",
        "own.csv: 1 rows that have no values yet and were not published were left out",
        "own.csv: 1 records of times that are yet to come were left out",
    )


# --- what makes no sense --------------------------------------------------------------------------

BAD = {
    "a time that is none": ("soon,1,9", {}, "row 2: 'time' is 'soon', which is not a time"),
    "a time far away": ("1800-01-01,1,2020-01-01", {}, "row 2: 1800-.*centuries away"),
    "no time": (f",1,{T0}", {}, "row 2: it has values and no time"),
    "no known_at": (f"{T0},1,", {}, "row 2: it has values, and 'out' does not say since when"),
    "known before": (f"{T0 + 9},1,{T0}", {}, "row 2: .*known before the time that it is about"),
    "no number": (f"{T0},one,{T0}", {}, "row 2: value is 'one', which is not a number"),
    "infinite": (f"{T0},inf,{T0}", {}, "row 2: .*a value is infinite"),
    "off the grid": (
        f"{T0 + 60},1,{T0 + 9999}",
        {"interval": "1h"},
        "row 2: .* no period of 1h begins then: leave `interval` out$",
    ),
    "known amid its period": (
        f"{T0},1,{T0 + 1800}",
        {"interval": "1h"},
        "row 2: .* known before its 1h are over: leave `interval` out if `time`",
    ),
    "a field too many": (f"{T0},1,{T0},7", {}, "row 2: 4 fields instead of 3: .*: mend that row"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_row_that_makes_no_sense_is_named(tmp_path: Path, what: str) -> None:
    row, fields, problem = BAD[what]
    path = write(tmp_path, f"time,value,out\n{row}\n{T0 + 7200},5,{T0 + 99999}\n")
    with pytest.raises(RecordError, match=rf"own.csv, {problem}") as caught:
        read(path, known_at="out", columns=("value",), **fields)
    assert "\n" not in str(caught.value)
    assert "drop_invalid" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fields", "problem"),
    [
        ("time,value\n1,x\n2,y\n", {"delay": "1h"}, "no column beside its times holds numbers"),
        ("time,価格\n1577836800,1\n", {"delay": "1h"}, "cannot be called '価格', .*: rename"),
        ("time,age\n1577836800,1\n", {"delay": "1h"}, "values cannot be called 'age'"),
        ("date,value\n1577836800,1\n", {"delay": "1h"}, "no column 'time', which `time` names"),
        (CPI, {"time": "month", "known_at": "out"}, "no column 'out', which `known_at` names"),
        (
            CPI,
            {"time": "month", "delay": "1h", "columns": ("cpi",)},
            "no column 'cpi', which `columns` names: it has month, value, released",
        ),
        ("1577836800,1\n1577836801,2\n", {"delay": "1h"}, "its columns have no names"),
        ("time,value\n", {"delay": "1h"}, "no row"),
        ("time,a,a\n1577836800,1,2\n", {"delay": "1h", "columns": ("a",)}, "has 2 columns 'a'"),
    ],
)
def test_a_file_that_is_not_as_it_is_said_is_told(
    tmp_path: Path, text: str, fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SourceError, match=problem) as caught:
        read(write(tmp_path, text), **fields)
    assert "own.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "neither is given, and one is needed: a value enters once it was known, and nobody"),
        ({"known_at": "out", "delay": "1h"}, "both are given, and one is needed"),
        ({"delay": "soon"}, "delay 'soon' is no length of time such as 15m"),
        ({"delay": "1h", "covers": "-8h"}, "covers '-8h' is no length of time"),
        ({"delay": "1h", "interval": "1x"}, "interval '1x' is not understood"),
        ({"delay": "1h", "interval": "1d+8h"}, "on a grid of their own follow none here"),
        ({"delay": "1h", "columns": "rate"}, "columns is 'rate': it must be a list of names"),
        ({"delay": "1h", "columns": ["a", "a"]}, "columns: a, a: one stands there more than once"),
        ({"delay": "1h", "columns": ["known_at"]}, "values cannot be called 'known_at'"),
        ({"delay": "1h", "timezone": "Mars"}, "timezone 'Mars' is not known"),
        ({"delay": "1h", "time_format": "d/m"}, "must be written as of strptime"),
        ({"delay": "1h", "decimal": ";"}, "choose a point or a comma"),
        ({"delay": "1h", "product": "../x"}, "cannot name a folder"),
        ({"delay": "1h", "time": ""}, "name the column of times"),
        ({"known_at": 5}, "known_at is 5: it must be a text"),
        ({"delay": "1h", "path": "own.exe"}, "must end in"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Records(**{"path": "own.csv", "time": "time", "columns": ["a"], **fields})


# --- stored ---------------------------------------------------------------------------------------


def test_what_a_source_says_of_itself(tmp_path: Path) -> None:
    path = write(tmp_path, CPI, "US CPI.csv")
    source = Records(path, "month", delay="1d", interval="1d", covers="30d")
    assert (source.name, source.columns, source.interval) == ("records", ("value",), DAY)
    assert (source.covers, source.first) == (30 * DAY, 0)
    assert source.series.startswith("US_CPI-")
    assert Records(path, "month", delay="1d", interval="1d").series == source.series
    assert Records(path, "month", delay="2d", interval="1d").series != source.series
    assert Records(path, "month", known_at="released").series != source.series
    assert Records(path, "month", delay="1d", product="cpi").series == "cpi"
    assert pickle.loads(pickle.dumps(source)) == source
    assert pickle.loads(pickle.dumps(source)).series == source.series


def test_a_file_is_stored_and_read_again_when_it_changes(tmp_path: Path) -> None:
    source = Records(write(tmp_path, CPI), "month", known_at="released")
    path = locate_records(tmp_path / "data", source)
    assert update_records(path, source, None, None).added == 4
    assert update_records(path, source, None, None).added == 0
    assert verify_records(path) == []
    write(tmp_path, CPI + "2020-02-01,101.3,2020-04-10T12:30:00Z\n")
    result = update_records(path, source, None, None)
    assert result.added == 1
    assert "1 records are new before the end of what was stored" in result.notes[0]
    (block,) = source.blocks(EVER)
    assert_same(read_records(path), block.records)
    (tmp_path / "own.csv").unlink()
    (note,) = update_records(path, source, None, None).notes
    assert "no such file, check `path`: what is stored is used" in note


def test_files_of_a_pattern_that_are_gone_are_told_and_kept(tmp_path: Path) -> None:
    for part in range(3):
        write(tmp_path, f"time,a\n{T0 + part},{part}\n", f"{part}.csv")
    source = Records(str(tmp_path / "*.csv"), "time", delay="0s")
    path = locate_records(tmp_path / "data", source)
    update_records(path, source, None, None)
    (tmp_path / "1.csv").unlink()
    result = update_records(path, source, None, None)
    assert "1.csv is not there any more, and the other files are as they were" in result.notes[0]
    assert (result.added, result.header.rows) == (0, 3)
    assert update_records(path, source, None, None, refresh=True).header.rows == 2


def test_a_file_that_was_moved_is_known_by_its_content(tmp_path: Path) -> None:
    source = Records(write(tmp_path, CPI), "month", known_at="released")
    update_records(locate_records(tmp_path / "data", source), source, None, None)
    moved = Records(write(tmp_path, CPI, "moved.csv"), "month", known_at="released")
    known = find_record_source(tmp_path / "data", moved)
    assert known.series == source.series != moved.series
    assert update_records(locate_records(tmp_path / "data", known), known, None, None).added == 0
    other = Records(str(tmp_path / "moved.csv"), "month", delay="1h", columns=("value",))
    assert find_record_source(tmp_path / "data", other) is other
    gone = Records(
        str(tmp_path / "else" / "own.csv"), "month", known_at="released", columns=("value",)
    )
    assert find_record_source(tmp_path / "data", gone).series == source.series


def test_of_several_that_a_file_that_is_gone_may_be_none_is_guessed(tmp_path: Path) -> None:
    gone = Records(str(tmp_path / "own.csv"), "month", delay="1h", columns=("value",))
    stored = []
    for number in range(2):
        digest = f"{number}" * 64
        revision = gone._compute_revision([digest])
        stored.append(StoredSeries(f"own-{number:08d}", revision, (f"sha256:{digest}",), "there"))
    assert gone.recognise(stored[:1]).series == "own-00000000"
    with pytest.raises(ConfigError, match="set `product` to the one that is meant"):
        gone.recognise(stored)
    assert gone.recognise([]) is gone


def test_a_file_that_is_gone_needs_its_columns_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such file, check `path`; or name its `columns`"):
        Records(str(tmp_path / "own.csv"), "month", delay="1h")


# --- the contract ---------------------------------------------------------------------------------


class TestRecords(RecordSourceContract):
    span = (T0, T0 + 60 * HOUR)
    records = HELD

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "own.csv"
        pl.DataFrame(dict(HELD.columns)).write_csv(self.path)

    def make(self) -> Records:
        return Records(str(self.path), "time", known_at="known_at")


class TestRecordsOfHours(TestRecords):
    """With a period, and a delay after it."""

    records = records_of(np.delete(np.arange(60), [7, 8, 30]), delay=HOUR + 600)

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "own.csv"
        frame = pl.DataFrame(dict(self.records.columns))
        frame.with_columns(pl.from_epoch("time").dt.replace_time_zone("UTC")).write_csv(self.path)

    def make(self) -> Records:
        return Records(str(self.path), "time", delay="10m", interval="1h")
