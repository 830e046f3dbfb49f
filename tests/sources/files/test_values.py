"""What stands in a file: spellings and units of time, rows that are no bars."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule.errors import CandleError, SourceError
from tests.sources.files.helpers import (
    HEADER,
    HOUR,
    ORDER,
    T0,
    TIME,
    VALUES,
    csv_text,
    expect_bars,
    read,
    write,
)

# ------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize(
    "time",
    [
        TIME,
        [f"{t}.0" for t in TIME],
        [f"{t}000" for t in TIME],
        [f"{t}000000" for t in TIME],
        [f"{t}000000000" for t in TIME],
        [f"{t}000.0" for t in TIME],
        [TIME[0], f"{TIME[1]}000", f"{TIME[2]}000000"],
        [f"{TIME[0]}000000000", f"{TIME[1]}.0", TIME[2]],
        ["2020-01-01", f"{TIME[1]}.0", TIME[2]],
        ["2020-01-01", "2020-01-01 01:00", "2020-01-01 03:00:00"],
        ["2020-01-01T00:00:00Z", "2020-01-01 01:00:00 UTC", "2020-01-01T03:00:00.000"],
        ["2020-01-01T02:00:00+02:00", "2019-12-31T17:30:00-0730", "2020-01-01 03:00:00+00:00"],
        [f" {TIME[0]} ", f'"{TIME[1]}"', f"{TIME[2]} "],
    ],
)
def test_every_spelling_and_unit_of_time_is_the_same_instant(
    tmp_path: Path, time: list[Any]
) -> None:
    expect_bars(read(write(tmp_path / "a.csv", HEADER + csv_text(time))).candles)


@given(
    st.lists(
        st.tuples(st.integers(1_230_768_000, 4_102_444_800), st.sampled_from([0, 3, 6, 9])),
        min_size=1,
        unique_by=lambda pair: pair[0],
    )
)
def test_units_mixed_in_any_way_give_the_same_seconds(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("units") / "a.csv"
    write(path, HEADER + "".join(f"{t * 10**power},1,1,1,1,1\n" for t, power in pairs))
    assert read(path, 1, 2**40).candles.open_time.tolist() == sorted(t for t, _ in pairs)


@pytest.mark.parametrize(
    ("time", "problem"),
    [
        (f"{TIME[1]}.5", f"open_time {TIME[1]}.5 is not on a whole second"),
        (f"{TIME[1]}001", f"open_time {TIME[1]}001 is not on a whole second"),
        (f"{TIME[1]}000001", f"open_time {TIME[1]}000001 is not on a whole second"),
        ("2020-01-01 01:00:00.25", "open_time 2020-01-01 01:00:00.25 is not on a whole second"),
        ("inf", "open_time inf is not on a whole second"),
        ("9" * 25, "is not on a whole second"),
        ("2020-01-01 25:00:00", "open_time is '2020-01-01 25:00:00', which is not a time"),
        ("2020-01-01 13-PM", "open_time is '2020-01-01 13-PM', which is not a time"),
        ("86400", "open_time 86400 is no time of a bar in seconds, milliseconds or finer"),
        ("NaN", "there are prices and no time"),
        ("", "there are prices and no time"),
        (TIME[1] + 60, "the bar does not open on the 1h grid"),
    ],
)
def test_a_time_that_is_none_is_an_error_with_file_and_line(
    tmp_path: Path, time: Any, problem: str
) -> None:
    path = write(tmp_path / "odd.csv", "banner\n" + HEADER + csv_text([TIME[0], time, TIME[2]]))
    with pytest.raises(CandleError) as caught:
        read(path)
    assert str(caught.value).startswith("odd.csv, row 4")
    assert problem in str(caught.value)


def test_an_arrow_instant_between_two_seconds_is_an_error_with_its_row(tmp_path: Path) -> None:
    time = pl.Series("date", [TIME[0] * 1000, TIME[1] * 1000 + 1]).cast(pl.Datetime("ms"))
    ones = [pl.Series(name, [1.0, 1.0]) for name in ORDER]
    pl.DataFrame([time, *ones]).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(CandleError, match=r"a\.parquet, row 2: .* is not on a whole second"):
        read(tmp_path / "a.parquet")


# ------------------------------------------------------------------------- rows that are not bars


@pytest.mark.parametrize("nothing", ["", "NaN", "nan", "NULL"])
def test_rows_without_any_price_are_bars_without_trades_and_are_counted(
    tmp_path: Path, nothing: str
) -> None:
    hole = ",".join([f"{T0 + 2 * HOUR}", *[nothing] * 5])
    blank = ",".join([nothing] * 6)
    lines = csv_text().splitlines()
    text = "\n".join([lines[0], hole, blank, lines[1], blank, hole, "", lines[2]])
    block = read(write(tmp_path / "a.csv", HEADER + text))
    expect_bars(block.candles)
    assert block.notes == (
        "a.csv: 2 rows without any price were read as bars without trades",
        "a.csv: 3 rows with neither time nor prices were left out",
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"{TIME[1]},7000,,6990,7000,1", "some of open, high, low and close are not known"),
        (f"{TIME[1]},NaN,7001,6990,7000,1", "some of open, high, low and close are not known"),
        (f"{TIME[1]},,,,,1", "there is a volume and no price"),
        (",7000,7000,7000,7000,1", "there are prices and no time"),
        (f"{TIME[1]},7000,7000,7000,7000,NaN", "volume is not a number"),
        (f"{TIME[1]},7000,7000,7000,7000,", "volume is not a number"),
        (f"{TIME[1]},7000,6000,7000,7000,1", "high is below low"),
        (f"{TIME[1]},7000,7000,7000,7000,-1", "volume is negative"),
        (f"{TIME[1]},7000,7000,abc,7000,1", "low is 'abc', which is not a number"),
        (f"{TIME[1]},7000,7000,7000", "4 fields instead of 6"),
        (f"{TIME[1]}", "1 fields instead of 6"),
        (f"{TIME[1]},7000,7000,7000,7000,1,8", "7 fields instead of 6"),
        ("open_time,open,high,low,close,volume", "open_time is 'open_time', which is not a time"),
    ],
)
def test_a_row_that_makes_no_sense_is_an_error_with_file_and_line(
    tmp_path: Path, row: str, problem: str
) -> None:
    lines = csv_text().splitlines()
    text = HEADER + "\n".join([lines[0], "", row, lines[2]])
    with pytest.raises(CandleError) as caught:
        read(write(tmp_path / "odd.csv", text))
    assert str(caught.value).startswith("odd.csv, row 4")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_several_broken_rows_the_first_is_named(tmp_path: Path) -> None:
    text = f"{T0},1,1,1,1,1\n{T0},1,1,1,x,1\n{T0},1,y,1,1,1\nz,1,1,1,1,1\n"
    with pytest.raises(CandleError, match=r"a\.csv, row 3: close is 'x', which is not a number"):
        read(write(tmp_path / "a.csv", HEADER + text))


def test_repeated_and_unordered_rows_are_put_right_with_a_note(tmp_path: Path) -> None:
    lines = csv_text().splitlines()
    path = write(tmp_path / "a.csv", HEADER + "\n".join([lines[2], lines[0], lines[1], lines[0]]))
    block = read(path)
    expect_bars(block.candles)
    assert len(block.notes) == 1
    assert block.notes[0].startswith("a.csv: 1 rows repeat an open time")


def test_a_column_of_another_kind_is_an_error_that_says_which(tmp_path: Path) -> None:
    frame = pl.DataFrame({"time": TIME, **VALUES, "close": [[1.0]] * 3})
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(CandleError, match=r"a\.parquet: column close holds List\(Float64\)"):
        read(tmp_path / "a.parquet")
    pl.DataFrame({"time": [True] * 3, **VALUES}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet: column time holds Boolean and no times"):
        read(tmp_path / "b.parquet")
