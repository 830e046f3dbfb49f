"""Wrong answers of an exchange make no hole: what was no answer is asked for again.

Each goes the whole way into ``candles.h5``. Once the server is well again, the next run ends with
the digest of an undisturbed one.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from btc_datamodule.candles.series import Candles, make_empty
from btc_datamodule.candles.timeline import Span
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.store.candle_file import read_candles
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import (
    BinanceArchiveAnswers,
    CoinbaseAnswers,
    Exchange,
    Fault,
)
from tests.factories import HOUR, T0, candles_of
from tests.helpers import assert_same
from tests.store.exchanges import (
    COINBASE,
    DAY,
    DAYS,
    ZIP,
    assert_nothing_half_written,
    assert_whole,
    publish,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "series" / "candles.h5"


# --- what an update makes of a block that is not answered ---------------------------------------

HELD = candles_of([True] * 30)
END = HELD.span[1]
NONE = make_empty(HOUR)


@dataclass(frozen=True)
class Parted(Source):
    """Ten bars a block; the second is not answered, and holds ``bars`` all the same."""

    well: bool = False
    bars: Candles = NONE

    name: ClassVar[str] = "parted"
    series: ClassVar[str] = "BTC"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for start in range(*span, 10 * HOUR):
            page = (start, min(start + 10 * HOUR, span[1]))
            if self.well or start != T0 + 10 * HOUR:
                yield Block(page, HELD.slice(*page), "memory")
            else:
                yield Block(page, self.bars, "memory", ("half of it is there",), answered=False)


def test_a_block_that_is_not_answered_settles_nothing_and_those_after_it_are_stored(
    path: Path,
) -> None:
    unknown = (T0 + 10 * HOUR, T0 + 20 * HOUR)
    result = update(path, Parted(), HOUR, T0, END)
    assert_same(read_candles(path), ex.without(HELD, unknown))
    assert result.header.covered == ((T0, unknown[0]), (unknown[1], END))
    assert result.notes == (
        "half of it is there",
        "parted BTC: not answered yet: 10 bars between 2020-01-01T10:00:00Z and "
        "2020-01-01T20:00:00Z: neither candles nor holes, and asked for again by the next run",
    )
    assert update(path, Parted(), HOUR, T0, END).notes == result.notes
    mended = update(path, Parted(well=True), HOUR, T0, END)
    assert (mended.added, mended.notes) == (10, ())
    assert_whole(path, HELD)
    assert mended.header.covered == ((T0, END),)


def test_what_is_stored_stays_where_a_refresh_is_not_answered(path: Path) -> None:
    update(path, Parted(well=True), HOUR, T0, END)
    header = update(path, Parted(), HOUR, T0, END, refresh=True).header
    assert_whole(path, HELD)
    assert header.covered == ((T0, END),)


def test_a_block_with_bars_that_is_not_answered_breaks_the_contract(path: Path) -> None:
    bars = HELD.slice(T0 + 10 * HOUR, T0 + 12 * HOUR)
    with pytest.raises(SourceError, match=r"broke its contract: .* not answered, and holds"):
        update(path, Parted(bars=bars), HOUR, T0, END)


# --- pages of Coinbase that answer another question ---------------------------------------------

Spoil = Callable[[Exchange], None]


def spoil_each(fault: Fault) -> Spoil:
    """All replies from now on go out as the fault makes them."""
    return lambda exchange: exchange.faults.extend([fault] * 50)


def forget_range(exchange: Exchange) -> None:
    """The newest page, of a year later, whatever is asked."""
    newest = ex.random_walk("2021-01-01", bars=300, interval=HOUR)
    exchange.answer = CoinbaseAnswers(newest, forgets_range=True)


def answer_days(exchange: Exchange) -> None:
    exchange.answer = CoinbaseAnswers(COINBASE.held, granularity=DAY)


def answer_six_hours(exchange: Exchange) -> None:
    exchange.answer = CoinbaseAnswers(COINBASE.held, granularity=6 * HOUR)


def repeat_the_first_page(exchange: Exchange) -> None:
    stale = ex.Stale()
    exchange.faults.extend([stale] * 50)
    fetch_first = COINBASE.at(exchange).blocks(HOUR, COINBASE.parts(0, 1))
    assert len(list(fetch_first)) == 1


WRONG = {
    "times in milliseconds": (spoil_each(ex.in_unit(1000)), "times look like milliseconds, such"),
    "times in microseconds": (spoil_each(ex.in_unit(10**6)), "times look like microseconds, such"),
    "the newest page whatever is asked": (
        forget_range,
        r"300 rows of 2021-01-01T00:00:00Z to 2021-.*, none of the span that was asked for",
    ),
    "a cache that ignores the query": (
        repeat_the_first_page,
        r"300 rows of 2020-01-01T00:00:00Z to 2020-.*, none of the span that was asked for",
    ),
    "days in place of hours": (answer_days, r"its bars are 1d apart, not 1h: all of 1\d rows open"),
    "six hours in place of one": (answer_six_hours, r"its bars are 6h apart, not 1h: all of 50 "),
    "minutes in place of hours": (
        spoil_each(
            ex.EditRows(lambda rows: [[rows[-1][0] + 60 * i, *r[1:]] for i, r in enumerate(rows)])
        ),
        r"295 of 300 rows open off the grid of 1h, its bars are 1m apart",
    ),
}


@pytest.mark.each_value
@pytest.mark.parametrize(("spoil", "said"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("drop_invalid", [False, True])
def test_a_page_that_answers_another_question_is_an_error_and_makes_no_hole(
    path: Path, spoil: Spoil, said: str, drop_invalid: bool
) -> None:
    with COINBASE.serve() as exchange:
        well = exchange.answer
        update(path, COINBASE.at(exchange), HOUR, *COINBASE.parts(0, 1))
        before = path.read_bytes()
        spoil(exchange)
        exchange.requests.clear()
        with pytest.raises(SourceError, match=said) as caught:
            update(path, COINBASE.at(exchange, drop_invalid=drop_invalid), HOUR, *COINBASE.span)
        assert "run it again: what was answered before is kept" in str(caught.value)
        assert "coinbase BTC-USD, page 2020-01-13T12:00:00Z to 2020-01-26" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(exchange.requests) == 3  # it might have passed
        assert assert_nothing_half_written(path, before) == []
        exchange.faults.clear()
        exchange.answer = well
        result = update(path, COINBASE.at(exchange), HOUR, *COINBASE.span)
    assert_whole(path, COINBASE.held)
    assert result.header.covered == (COINBASE.span,)


@pytest.mark.parametrize("fault", [ex.in_unit(1000), ex.in_unit(10**6)])
def test_a_page_that_answers_another_question_once_leaves_no_trace(
    path: Path, fault: Fault
) -> None:
    with COINBASE.serve() as exchange:
        exchange.faults.extend([None, fault, fault])
        assert update(path, COINBASE.at(exchange), HOUR, *COINBASE.span).notes == ()
    assert_whole(path, COINBASE.held)


MINUTES = ex.random_walk("2020-01-01", bars=3 * 1440, interval=60)


def test_days_in_place_of_minutes_are_found_out_over_several_pages(path: Path) -> None:
    with Exchange(CoinbaseAnswers(MINUTES, granularity=DAY)) as exchange:
        with pytest.raises(SourceError, match=r"1d apart, not 1m: all of 2 rows open"):
            update(path, COINBASE.at(exchange), 60, *MINUTES.span)
        exchange.answer = CoinbaseAnswers(MINUTES)
        update(path, COINBASE.at(exchange), 60, *MINUTES.span)
    assert_whole(path, MINUTES)


def test_one_day_in_place_of_minutes_is_set_aside_and_asked_for_again(path: Path) -> None:
    hours = (MINUTES.span[0], MINUTES.span[0] + 4 * HOUR)
    with Exchange(CoinbaseAnswers(MINUTES, granularity=DAY)) as exchange:
        with pytest.raises(SourceError, match=r"none came: .* its bars are 1d apart, not 1m: "):
            update(path, COINBASE.at(exchange), 60, *hours)
        assert not path.exists()
        exchange.answer = CoinbaseAnswers(MINUTES)
        update(path, COINBASE.at(exchange), 60, *hours)
    assert_whole(path, MINUTES.slice(*hours))


@pytest.mark.parametrize("granularity", [DAY, 6 * HOUR])
def test_a_short_answer_of_longer_bars_is_held_against_a_whole_page(
    path: Path, granularity: int
) -> None:
    start, _ = COINBASE.span
    with COINBASE.serve() as exchange:
        well = exchange.answer
        update(path, COINBASE.at(exchange), HOUR, start, start + 13 * DAY)
        exchange.answer = CoinbaseAnswers(COINBASE.held, granularity=granularity)
        with pytest.raises(SourceError, match=r"apart, not 1h"):
            update(path, COINBASE.at(exchange), HOUR, start, start + 14 * DAY)
        exchange.answer = well
        update(path, COINBASE.at(exchange), HOUR, start, start + 14 * DAY)
    assert_whole(path, COINBASE.held.slice(start, start + 14 * DAY))


def test_a_market_that_traded_once_a_day_by_chance_is_believed(path: Path) -> None:
    start, end = COINBASE.span
    quiet = ex.without(COINBASE.held, (start + 9 * DAY + HOUR, start + 10 * DAY))
    with Exchange(CoinbaseAnswers(quiet)) as exchange:
        update(path, COINBASE.at(exchange), HOUR, start, start + 9 * DAY)
        update(path, COINBASE.at(exchange), HOUR, start, start + 10 * DAY)
        update(path, COINBASE.at(exchange), HOUR, start, end)
    assert_whole(path, quiet)


def test_bars_next_to_a_page_without_any_are_no_fault(path: Path) -> None:
    outage = COINBASE.parts(1, 1)
    held = ex.without(COINBASE.held, outage)
    beside = ex.EditRows(
        lambda _: [[when, 1.0, 2.0, 1.5, 1.5, 3.0] for when in (outage[1], outage[0] - HOUR)]
    )
    with Exchange(CoinbaseAnswers(held)) as exchange:
        exchange.faults.extend([None, beside, beside])
        update(path, COINBASE.at(exchange), HOUR, *COINBASE.span)
    assert_whole(path, held)


# --- pages that are cut or thinned out ----------------------------------------------------------

CUTS = {
    "half a page": (ex.HALF_A_PAGE, r"from 2020-01-13T12:00:00Z to .* no bar of 150, asked twice"),
    "every other bar": (
        ex.EVERY_OTHER_ROW,
        r"from .* one bar every 2h \(150 absent\), asked twice",
    ),
}


@pytest.mark.parametrize(("fault", "said"), CUTS.values(), ids=CUTS.keys())
def test_a_page_that_was_cut_once_is_asked_for_again_and_is_whole(
    path: Path, fault: Fault, said: str
) -> None:
    with COINBASE.serve() as exchange:
        exchange.faults.extend([None, fault])
        result = update(path, COINBASE.at(exchange), HOUR, *COINBASE.span)
        assert len(exchange.requests) == 4
    assert_whole(path, COINBASE.held)
    assert result.notes == ()


def test_two_answers_that_were_cut_at_either_end_make_one_page(path: Path) -> None:
    other_half = ex.EditRows(lambda rows: rows[len(rows) // 2 :])
    with COINBASE.serve() as exchange:
        exchange.faults.extend([None, ex.HALF_A_PAGE, other_half])
        assert update(path, COINBASE.at(exchange), HOUR, *COINBASE.span).notes == ()
    assert_whole(path, COINBASE.held)


@pytest.mark.parametrize(("fault", "said"), CUTS.values(), ids=CUTS.keys())
def test_what_stays_cut_is_told_and_a_refresh_mends_it(path: Path, fault: Fault, said: str) -> None:
    with COINBASE.serve() as exchange:
        exchange.faults.extend([None, fault, fault])
        result = update(path, COINBASE.at(exchange), HOUR, *COINBASE.span)
        assert re.search(said, result.notes[0])
        assert "`refresh: true` asks again" in result.notes[0]
        update(path, COINBASE.at(exchange), HOUR, *COINBASE.span, refresh=True)
    assert_whole(path, COINBASE.held)


# --- files of Binance that are there in part ----------------------------------------------------

NAME = "BTCUSDT-1h-2020-01-06.zip"


def hide_zip(answers: BinanceArchiveAnswers) -> None:
    answers.halved.add(NAME)


def hide_checksum(answers: BinanceArchiveAnswers) -> None:
    answers.halved.add(f"{NAME}.CHECKSUM")


def empty_csv(answers: BinanceArchiveAnswers) -> None:
    publish(answers, "2020-01-06", lambda lines: [])


def header_alone(answers: BinanceArchiveAnswers) -> None:
    publish(answers, "2020-01-06", lambda lines: [ex.KLINE_HEADER.encode()])


PARTS = {
    "a checksum without its zip": (hide_zip, "has its .CHECKSUM, and not the file"),
    "a zip without its checksum": (hide_checksum, "has the file, and not its .CHECKSUM"),
    "an empty CSV": (empty_csv, "holds no rows"),
    "a CSV with a header and no rows": (header_alone, "holds no rows"),
}


@pytest.mark.parametrize(("spoil", "said"), PARTS.values(), ids=PARTS.keys())
def test_a_file_that_is_there_in_part_is_set_aside_and_asked_for_again_by_the_next_run(
    path: Path, spoil: Callable[[BinanceArchiveAnswers], None], said: str
) -> None:
    answers = BinanceArchiveAnswers(DAYS)
    spoil(answers)
    with Exchange(answers) as exchange:
        for _ in range(2):
            result = update(path, ZIP.at(exchange), HOUR, *ZIP.span)
            assert_whole(path, ex.without(DAYS, ZIP.parts(1, 1)))  # what follows is not held up
            assert result.header.covered == (ZIP.parts(0, 1), ZIP.parts(2, 1))
            [note, summary] = result.notes
            assert note.startswith(f"binance {NAME}: ")
            assert said in note
            assert note.endswith("no answer yet, set aside and asked for again by the next run")
            assert "not answered yet: 24 bars" in summary
        exchange.requests.clear()
        answers.halved.clear()
        answers.files.clear()
        mended = update(path, ZIP.at(exchange), HOUR, *ZIP.span)
        assert ZIP.asked(exchange) == [ZIP.parts(1, 1)[0]]
    assert_whole(path, DAYS)
    assert mended.notes == ()
    assert mended.header.covered == (ZIP.span,)
