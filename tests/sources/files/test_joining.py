"""Longer bars of shorter ones, files of one series, and rows that must not be joined."""

from pathlib import Path

import pytest

from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import CandleError, SourceError
from tests.sources.files.helpers import HEADER, HOUR, T0, read, write

DAY = 86_400


def row(time: object, opened: float, close: float | None = None, volume: float = 1.0) -> str:
    """A bar whose high and low are one away from open and close."""
    close = opened + 1 if close is None else close
    return f"{time},{opened},{max(opened, close) + 1},{min(opened, close) - 1},{close},{volume}\n"


def hours(count: int, *but: int, start: int = T0, step: int = HOUR, base: float = 7000) -> str:
    """Rows of bars that open at base, base + 1 and so on; not those numbered."""
    rows = [row(start + i * step, base + i, volume=i + 1) for i in range(count) if i not in but]
    return "".join(rows)


# ----------------------------------------------------------------------------- longer intervals


def test_hours_are_joined_to_four_hours_with_their_values_by_hand(tmp_path: Path) -> None:
    block = read(write(tmp_path / "a.csv", HEADER + hours(8)), 4 * HOUR)
    candles = block.candles
    assert candles.interval == 4 * HOUR
    assert candles.open_time.tolist() == [T0, T0 + 4 * HOUR]
    assert candles["open"].tolist() == [7000, 7004]
    assert candles["high"].tolist() == [7005, 7009]
    assert candles["low"].tolist() == [6999, 7003]
    assert candles["close"].tolist() == [7004, 7008]
    assert candles["volume"].tolist() == [1 + 2 + 3 + 4, 5 + 6 + 7 + 8]
    assert "bars of 1h were joined to 2 of 4h, 0 of them from fewer than 4" in block.notes[-1]


def test_holes_stay_holes_and_bars_of_fewer_are_counted(tmp_path: Path) -> None:
    text = HEADER + hours(20, 1, 8, 9, 10, 11)
    block = read(write(tmp_path / "a.csv", text), 4 * HOUR)
    assert [(t - T0) // HOUR for t in block.candles.open_time] == [0, 4, 12, 16]
    assert block.candles["volume"].tolist() == [1 + 3 + 4, 26, 13 + 14 + 15 + 16, 74]
    assert block.candles["open"].tolist() == [7000, 7004, 7012, 7016]
    assert "joined to 4 of 4h, 1 of them from fewer than 4" in block.notes[-1]


def test_minutes_are_joined_to_hours(tmp_path: Path) -> None:
    text = HEADER + hours(180, 5, 6, step=60)
    candles = read(write(tmp_path / "a.csv", text)).candles
    assert candles["open"].tolist() == [7000, 7060, 7120]
    assert candles["close"].tolist() == [7060, 7120, 7180]
    assert candles["volume"].tolist() == [60 * 61 / 2 - 6 - 7, 5430, 9030]


def test_a_bar_that_is_going_on_at_the_end_is_not_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + hours(8))
    block = read(path, 4 * HOUR, end=T0 + 4 * HOUR)
    assert block.candles.open_time.tolist() == [T0]
    assert block.candles["close"].tolist() == [7004]


def test_bars_of_which_none_can_be_joined_name_the_interval(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + hours(12))
    with pytest.raises(SourceError) as caught:
        read(path, 90 * 60)
    told = "its bars are 1h apart, of which none of 90m can be joined: set `interval` to 1h"
    assert told in str(caught.value)


@pytest.mark.parametrize("count", [9, 12])
def test_days_are_not_taken_for_hours_with_holes(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "a.csv", HEADER + hours(count, step=DAY))
    with pytest.raises(SourceError, match="its bars are 1d apart, not 1h: set `interval` to 1d"):
        read(path)


# -------------------------------------------------------------------------------- several files


def test_files_of_two_intervals_are_an_error_that_names_both(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", HEADER + hours(30))
    two = write(tmp_path / "b.csv", HEADER + hours(30, start=T0 + 30 * HOUR, step=60))
    with pytest.raises(SourceError) as caught:
        read([one, two])
    assert "a.csv: its bars are 1h apart, those of b.csv 1m: name files of one interval" in (
        str(caught.value)
    )


def test_where_files_overlap_the_finished_bar_stays_in_either_order(tmp_path: Path) -> None:
    live = row(T0 + 2 * HOUR, 7002, 7002.5, 0.25)
    early = write(tmp_path / "a.csv", HEADER + hours(2) + live)
    later = write(tmp_path / "b.csv", HEADER + hours(6, 0, 1))
    for paths in ([early, later], [later, early]):
        block = read(paths)
        assert block.candles["close"].tolist() == [7001, 7002, 7003, 7004, 7005, 7006]
        assert block.candles["volume"].tolist() == [1, 2, 3, 4, 5, 6]
        assert "1 are of bars not finished yet, which stand there finished too" in block.notes[-1]


def test_files_of_two_markets_are_not_joined_though_they_do_not_overlap(tmp_path: Path) -> None:
    names = HEADER.strip() + ",symbol\n"
    one = write(tmp_path / "a.csv", names + hours(5).replace("\n", ",BTCUSDT\n"))
    two = hours(5, start=T0 + 5 * HOUR, base=200).replace("\n", ",ETHUSDT\n")
    with pytest.raises(SourceError, match="BTCUSDT"):
        read([one, write(tmp_path / "b.csv", names + two)])


def test_files_of_two_markets_that_overlap_are_an_error(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", HEADER + hours(30))
    two = write(tmp_path / "b.csv", HEADER + hours(30, base=200))
    with pytest.raises(CandleError, match="30 stand there more than once with different values"):
        read([one, two])


# --------------------------------------------------------------------------------- the live row


def test_a_last_row_of_this_very_moment_is_left_out_with_the_bar_it_falls_into(
    tmp_path: Path,
) -> None:
    text = HEADER + hours(4) + row(T0 + 3 * HOUR + 1234, 7003.5)
    for lines in (text, HEADER + "".join(text.splitlines(keepends=True)[:0:-1])):
        block = read(write(tmp_path / "a.csv", lines))
        assert block.candles["open"].tolist() == [7000, 7001, 7002]
        assert block.notes == (
            "a.csv: the last row is of 2020-01-01T03:20:34Z, within a bar, so that one was not "
            "finished: 2 rows from 2020-01-01T03:00:00Z on were left out",
        )


def test_a_row_off_the_grid_that_is_not_the_last_is_an_error(tmp_path: Path) -> None:
    text = HEADER + hours(2) + row(T0 + HOUR + 1234, 7001.5) + hours(4, 0, 1)
    with pytest.raises(CandleError, match="does not open on the 1h grid"):
        read(write(tmp_path / "a.csv", text))


# ---------------------------------------------------------------------------------- local times


def berlin(first: str, count: int, zone: str = "") -> str:
    """Hours as clocks in Berlin show them in the night of 25 October 2020."""
    start = parse_instant(first)
    change = parse_instant("2020-10-25T01:00:00")
    rows = []
    for i in range(count):
        time = start + i * HOUR
        shown = time + (2 if time < change else 1) * HOUR
        rows.append(row(format_instant(shown)[:19].replace("T", " ") + zone, 7000 + 10 * i))
    return "".join(rows)


def test_local_times_that_repeat_are_an_error_whose_advice_works(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + berlin("2020-10-24T20:00", 12))
    with pytest.raises(CandleError) as caught:
        read(path)
    told = str(caught.value)
    assert "2020-10-25T02:00:00Z stands there twice with different values (row" in told
    assert "set `timezone`, such as Europe/Berlin; if not, `timezone: UTC`" in told
    candles = read(path, timezone="Europe/Berlin").candles
    start = parse_instant("2020-10-24T20:00")
    assert candles.open_time.tolist() == [start + i * HOUR for i in range(12)]
    assert candles["open"].tolist() == [7000 + 10 * i for i in range(12)]


def test_local_times_newest_first_are_put_right_too(tmp_path: Path) -> None:
    rows = berlin("2020-10-24T20:00", 12).splitlines(keepends=True)
    path = write(tmp_path / "a.csv", HEADER + "".join(rows[::-1]))
    candles = read(path, timezone="Europe/Berlin").candles
    assert len(candles.holes()) == 0
    assert candles["open"].tolist() == [7000 + 10 * i for i in range(12)]


def test_a_date_whose_hour_stands_beside_it_loses_no_bar_in_silence(tmp_path: Path) -> None:
    lines = [
        f"2020-01-{1 + i // 24:02d},{i % 24},7000,7001,6999,7000,1\n" for i in range(60)
    ]  # fmt: skip
    path = write(tmp_path / "a.csv", "date,time,open,high,low,close,volume\n" + "".join(lines))
    try:
        candles = read(path).candles
    except (CandleError, SourceError):
        return
    assert candles.open_time.tolist() == [T0 + i * HOUR for i in range(60)]
