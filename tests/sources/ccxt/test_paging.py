"""Exchanges of every temper: no bar is lost on the way through their answers, no hole invented."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import btc_datamodule.sources.ccxt.source as under_test
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, format_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.ccxt import paging as ccxt_paging
from btc_datamodule.sources.ccxt.source import Ccxt
from btc_datamodule.sources.web import patience
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import Rows
from tests.factories import candles_of
from tests.sources.ccxt.helpers import assert_tiles, fetch
from tests.sources.helpers import HOUR

pytest.importorskip("ccxt")

DAY = 86_400


@dataclass
class Temper:
    """An exchange in this process, as ccxt would show it, with the manners that it is given.

    Attributes:
        held: its hourly bars.
        now: its present; bars that are not closed by then come along where ``eager``.
        cap: bars that it gives at most.
        windowed: answers for ``limit`` intervals from ``since``; or else with the next bars.
        keeps_newest: what it keeps of an answer that is over the cap: its end, or its beginning.
        exclusive: leaves out the bar at ``since``.
        eager: adds the bar of the present to every answer.
        overlap: bars from before ``since`` that it adds.
        disorder: gives rows in disorder, and some twice.
        retains: newest hourly bars that it shows at all; None for all.
        longer: has daily bars too.
        asked: timeframe, ``since`` in seconds and ``limit`` of each request.
        spoil: what becomes of the rows of the answer with a number, counted from 1.
    """

    held: Candles
    now: int
    cap: int = 50
    windowed: bool = True
    keeps_newest: bool = False
    exclusive: bool = False
    eager: bool = False
    overlap: int = 0
    disorder: bool = False
    retains: int | None = None
    longer: bool = True
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    spoil: Callable[[int, Rows], Rows] = lambda number, rows: rows

    has = {"fetchOHLCV": True}  # noqa: RUF012
    last_http_response = None

    def __post_init__(self) -> None:
        self._steps = {"1h": HOUR, "1d": DAY} if self.longer else {"1h": HOUR}
        self._rows: dict[str, Rows] = {}
        for timeframe, step in self._steps.items():
            bars = self.held.resample(step)[0]
            columns = [bars[name].tolist() for name in ("open", "high", "low", "close", "volume")]
            rows = zip((bars.open_time * 1000).tolist(), *columns, strict=True)
            self._rows[timeframe] = [list(row) for row in rows]

    @property
    def timeframes(self) -> dict[str, str]:
        return {name: name for name in self._steps}

    def load_markets(self, reload: bool) -> dict[str, Any]:
        return {"BTC/USD": {}}

    def feature_value(self, symbol: str, method: str, name: str) -> int | None:
        return None

    def close(self) -> None:
        pass

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int, limit: int) -> Rows:
        self.asked.append((timeframe, since // 1000, limit))
        assert len(self.asked) < 3000, "it would ask for ever"
        step = self._steps[timeframe] * 1000
        shown = self._rows[timeframe]
        if self.retains is not None:
            shown = [row for row in shown if row[0] >= self.now * 1000 - self.retains * step]
        end = since + limit * step if self.windowed else self.now * 1000
        first = bisect_left(shown, [since + self.exclusive])
        fitting = shown[first : bisect_left(shown, [min(end, self.now * 1000)])]
        kept = min(limit, self.cap)
        fitting = fitting[-kept:] if self.keeps_newest and self.windowed else fitting[:kept]
        rows = shown[max(first - self.overlap, 0) : first] + fitting
        if self.eager:
            rows.append([self.now * 1000 // step * step, 1.0, 1.0, 1.0, 1.0, 0.1])
        if self.disorder:
            rows = rows[::-2] + rows[::3] + rows[-2::-2]
        return self.spoil(len(self.asked), rows)


@contextmanager
def instead_of_ccxt(exchange: Temper) -> Iterator[list[float]]:
    """The exchange in place of ccxt's client, its time as the present; the waits in seconds."""
    waits: list[float] = []
    clock = SimpleNamespace(time=lambda: exchange.now, sleep=waits.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(under_test, "open_exchange", lambda name, manners: exchange)
        patch.setattr(patience, "time", clock)
        patch.setattr(ccxt_paging, "time", clock)
        yield waits


def walk(exchange: Temper, span: Span, page: int | None = 20, **changes: Any) -> list[Block]:
    with instead_of_ccxt(exchange):
        return fetch(Ccxt("kraken", page=page, attempts=3, **changes), span)


@st.composite
def histories(draw: st.DrawFn) -> Candles:
    """Up to 200 hours with holes, a few of them longer than a page."""
    runs = draw(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 45)), min_size=1, max_size=5))
    mask = np.concatenate([[True] * there + [False] * absent for there, absent in runs])
    mask = np.concatenate([mask, [True] * draw(st.integers(8, 60))])
    return candles_of(mask)


tempers = st.fixed_dictionaries(
    {
        "cap": st.integers(5, 30),
        "windowed": st.booleans(),
        "keeps_newest": st.booleans(),
        "exclusive": st.booleans(),
        "eager": st.booleans(),
        "overlap": st.integers(0, 3),
        "disorder": st.booleans(),
    }
)


@settings(max_examples=120)
@given(histories(), tempers, st.integers(8, 30), st.data())
def test_whatever_the_temper_no_bar_is_lost_and_no_hole_is_invented(
    held: Candles, temper: dict[str, Any], page: int, data: st.DataObject
) -> None:
    first, last = held.span
    now = last + data.draw(st.integers(0, 3)) * HOUR
    bars = (now - first) // HOUR
    begin = data.draw(st.integers(-60, bars - 1))
    end = data.draw(st.integers(begin + 1, bars))
    span = (first + begin * HOUR, first + end * HOUR)
    exchange = Temper(held, now, **temper)
    blocks: list[Block] = []
    failure = None
    with instead_of_ccxt(exchange):
        try:
            blocks.extend(Ccxt("kraken", page=page, attempts=3).blocks(HOUR, span))
        except SourceError as error:
            failure = str(error)
    settled = blocks[-1].span[1] if blocks else span[0]
    if blocks:
        assert_tiles(blocks, (span[0], settled), held)
    if failure is None:
        # What is left open has no bar, nor is there any after it.
        assert settled == span[1] or not len(held.slice(settled, now))
    else:  # only where nothing near shows that the exchange has been asked as it wants
        assert not len(held.slice(span[0] - HOUR, span[0] + HOUR)), failure
        assert not blocks or "lacks the bar" not in failure


@settings(max_examples=60)
@given(histories(), tempers, st.integers(8, 30), st.integers(10, 150), st.data())
def test_an_exchange_that_keeps_only_its_newest_bars_never_makes_a_hole(
    held: Candles, temper: dict[str, Any], page: int, retains: int, data: st.DataObject
) -> None:
    first, last = held.span
    begin = data.draw(st.integers(-30, (last - first) // HOUR - 1))
    span = (first + begin * HOUR, last)
    exchange = Temper(held, last, retains=retains, **temper)
    blocks: list[Block] = []
    with instead_of_ccxt(exchange), suppress(SourceError):
        blocks.extend(Ccxt("kraken", page=page, attempts=3).blocks(HOUR, span))
    if blocks:
        assert_tiles(blocks, (span[0], blocks[-1].span[1]), held)


DENSE = candles_of([True] * 2400)  # a hundred days
FIRST, LAST = DENSE.span


@pytest.mark.parametrize("windowed", [False, True])
def test_an_exchange_with_only_its_newest_bars_is_refused_with_the_time_from_which_it_has_some(
    windowed: bool,
) -> None:
    exchange = Temper(DENSE, LAST, cap=720, windowed=windowed, retains=720)
    since = format_instant(LAST - 720 * HOUR)
    with pytest.raises(SourceError) as caught:
        walk(exchange, (FIRST, LAST), page=720)
    assert str(caught.value) == (
        f"kraken BTC/USD shows 1h bars only from {since} on, though its 1d bars say that it traded "
        f"before: set `start` to {since} or later, and take what is before it from another source"
    )
    assert len(exchange.asked) < 15
    inside = (LAST - 720 * HOUR, LAST)
    assert_tiles(walk(exchange, inside, page=720), inside, DENSE)


def test_without_longer_bars_nothing_is_believed_about_the_time_before_the_first_bar() -> None:
    exchange = Temper(DENSE, LAST, windowed=False, longer=False)
    with pytest.raises(SourceError, match=r"no telling whether it traded before: set `start` to"):
        walk(exchange, (FIRST - HOUR, LAST))
    assert_tiles(walk(exchange, (FIRST, LAST)), (FIRST, LAST), DENSE)


@pytest.mark.parametrize("windowed", [False, True])
def test_the_time_before_a_market_began_is_passed_over_with_a_note(windowed: bool) -> None:
    exchange = Temper(DENSE, LAST, windowed=windowed)
    span = (FIRST - 500 * HOUR, FIRST + 100 * HOUR)
    blocks = walk(exchange, span)
    assert_tiles(blocks, span, DENSE)
    assert blocks[0].notes == (
        f"kraken BTC/USD: taken as not traded before {format_instant(FIRST)}, as neither these "
        "bars nor longer ones begin earlier",
    )
    assert not any(block.notes for block in blocks[1:])


@pytest.mark.parametrize("windowed", [False, True])
def test_a_span_that_begins_in_a_long_outage_is_no_beginning(windowed: bool) -> None:
    outage = (FIRST + 1000 * HOUR, FIRST + 1200 * HOUR)
    held = ex.without(DENSE, outage)
    span = (outage[0] + 100 * HOUR, outage[1] + 50 * HOUR)
    blocks = walk(Temper(held, LAST, windowed=windowed), span)
    assert_tiles(blocks, span, held)
    assert not any(block.notes for block in blocks)


def test_the_same_page_again_and_again_is_neither_the_end_nor_asked_for_ever() -> None:
    def stuck(number: int, rows: Rows) -> Rows:
        return rows if number == 1 else pages[0]

    exchange = Temper(DENSE, LAST)
    pages = [exchange.fetch_ohlcv("BTC/USD", "1h", (FIRST - 2 * HOUR) * 1000, 20)]
    exchange.asked.clear()
    exchange.spoil = stuck
    with instead_of_ccxt(exchange):
        blocks = Ccxt("kraken", page=20, attempts=3).blocks(HOUR, (FIRST, LAST))
        assert_tiles([next(blocks)], (FIRST, FIRST + 18 * HOUR), DENSE)
        with pytest.raises(SourceError, match=r"has no 1h bars from .* on, and none at present"):
            next(blocks)
    assert len(exchange.asked) < 200


def test_an_earlier_page_again_and_again_is_given_up_after_the_attempts() -> None:
    exchange = Temper(DENSE, LAST)
    early = exchange.fetch_ohlcv("BTC/USD", "1h", FIRST * 1000, 20)
    exchange.asked.clear()
    exchange.spoil = lambda number, rows: rows if number < 4 else early
    with instead_of_ccxt(exchange) as waits:
        blocks = Ccxt("kraken", page=20, attempts=3).blocks(HOUR, (FIRST, LAST))
        assert [len(next(blocks).candles) for _ in range(3)] == [18, 18, 18]
        with pytest.raises(SourceError, match=r"it repeats itself.*`start`"):
            next(blocks)
    assert len(exchange.asked) == 3 + 3
    assert len(waits) == 2


def test_bars_after_the_last_one_of_all_are_left_open_for_a_later_run() -> None:
    blocks = walk(Temper(DENSE, LAST + 3 * HOUR), (FIRST, LAST + 3 * HOUR))
    assert_tiles(blocks, (FIRST, LAST), DENSE)


def test_a_market_that_has_ended_is_an_error_after_all_it_had() -> None:
    exchange = Temper(DENSE, LAST + 500 * HOUR)
    with instead_of_ccxt(exchange):
        blocks = Ccxt("kraken", page=20).blocks(HOUR, (LAST - 10 * HOUR, LAST + 500 * HOUR))
        assert_tiles([next(blocks)], (LAST - 10 * HOUR, LAST), DENSE)
        with pytest.raises(SourceError, match=rf"from {format_instant(LAST)} on.*set `end`"):
            next(blocks)


def test_a_hole_at_the_end_of_a_span_is_closed_by_bars_after_it() -> None:
    held = ex.without(DENSE, (FIRST + 100 * HOUR, FIRST + 400 * HOUR))
    span = (FIRST + 90 * HOUR, FIRST + 200 * HOUR)
    assert_tiles(walk(Temper(held, LAST), span), span, held)


def test_a_page_larger_than_what_the_exchange_gives_shrinks_to_it() -> None:
    exchange = Temper(DENSE, LAST, cap=15, keeps_newest=True)
    span = (FIRST, FIRST + 200 * HOUR)
    assert_tiles(walk(exchange, span, page=100), span, DENSE)
    assert {limit for _, _, limit in exchange.asked} == {100, 15}


def test_a_bar_off_the_grid_is_an_error_that_names_its_time() -> None:
    def late(number: int, rows: Rows) -> Rows:
        return [[row[0] + 60_000, *row[1:]] for row in rows]

    with pytest.raises(SourceError, match=r"opens at 2020-01-.*:01:00Z, off the UTC grid of 1h"):
        walk(Temper(DENSE, LAST, spoil=late), (FIRST, LAST))


def test_times_in_another_unit_are_asked_for_again_and_then_an_error() -> None:
    exchange = Temper(DENSE, LAST)
    exchange.spoil = lambda number, rows: [[row[0] * 1000, *row[1:]] for row in rows]
    with pytest.raises(SourceError, match=r"its times look like milliseconds.*run it again: what"):
        walk(exchange, (FIRST, LAST))
    assert len(exchange.asked) == 3


def test_longer_bars_in_place_of_those_asked_for_are_an_error() -> None:
    exchange = Temper(DENSE, LAST, cap=300)
    exchange._rows["1h"] = exchange._rows["1d"]
    with pytest.raises(SourceError, match=r"its bars are 1d apart, not 1h: all of 13 rows open"):
        walk(exchange, (FIRST, LAST), page=300)


def cut_between(first: int, after: int, answers: set[int]) -> Callable[[int, Rows], Rows]:
    """Answers of these numbers lack the bars from ``first`` to ``after``, epoch seconds."""

    def cut(number: int, rows: Rows) -> Rows:
        return [row for row in rows if number not in answers or not first <= row[0] // 1000 < after]

    return cut


GAP = (FIRST + 320 * HOUR, FIRST + 380 * HOUR)


def test_an_answer_that_was_cut_once_in_its_middle_is_asked_for_again_and_is_whole() -> None:
    exchange = Temper(DENSE, LAST, cap=200, spoil=cut_between(*GAP, {2}))
    blocks = walk(exchange, (FIRST, FIRST + 600 * HOUR), page=200)
    assert_tiles(blocks, (FIRST, FIRST + 600 * HOUR), DENSE)
    assert not any(block.notes for block in blocks)


def test_what_stays_cut_out_of_an_answer_is_told() -> None:
    exchange = Temper(DENSE, LAST, cap=200, spoil=cut_between(*GAP, set(range(99))))
    blocks = walk(exchange, (FIRST, FIRST + 600 * HOUR), page=200)
    assert_tiles(blocks, (FIRST, FIRST + 600 * HOUR), ex.without(DENSE, GAP))
    [note] = [note for block in blocks for note in block.notes]
    where = " to ".join(map(format_instant, GAP))
    assert f"from {where} no bar of 60, though the bars around are there" in note
    assert note.endswith("`refresh: true` asks again")


@pytest.mark.parametrize(
    "row", [[1.5], None, "row", [None, 1, 1, 1, 1, 1], [0.5, 1, 1, 1, 1, 1], [0, "1", 1, 1, 1, 1]]
)
def test_a_malformed_row_is_named(row: Any) -> None:
    with pytest.raises(SourceError, match=r"row 0: expected a time and five numbers"):
        walk(Temper(DENSE, LAST, spoil=lambda number, rows: [row, *rows]), (FIRST, LAST))


Kind = Literal["BadSymbol", "AuthenticationError", "NotSupported"]


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("BadSymbol", "check `source.symbol`"),
        ("NotSupported", "check `source.symbol`"),
        ("AuthenticationError", "wants a key .*set `source.exchange` to another"),
    ],
)
def test_what_ccxt_refuses_is_one_error_that_says_what_to_change(kind: Kind, advice: str) -> None:
    import ccxt

    def refuse(number: int, rows: Rows) -> Rows:
        raise getattr(ccxt, kind)("kraken says no")

    exchange = Temper(DENSE, LAST, spoil=refuse)
    with pytest.raises(SourceError, match=f"{kind}: kraken says no: .*{advice}"):
        walk(exchange, (FIRST, LAST))
    assert len(exchange.asked) == 1


def test_waits_between_attempts_grow() -> None:
    import ccxt

    def refuse(number: int, rows: Rows) -> Rows:
        raise ccxt.DDoSProtection("kraken GET https://api.kraken.com")

    with (
        instead_of_ccxt(Temper(DENSE, LAST, spoil=refuse)) as waits,
        pytest.raises(SourceError, match=r"DDoSProtection: .*gave up after 4 attempts"),
    ):
        fetch(Ccxt("kraken", attempts=4, retry_wait=0.5), (FIRST, LAST))
    assert all(low <= wait <= low + 0.5 for wait, low in zip(waits, [0.5, 1.0, 2.0], strict=True))
