"""Bars that a source does not offer are joined from shorter ones, and hold what they must."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btc_datamodule import (
    BinanceArchive,
    Block,
    BTCDataModule,
    Candles,
    Ccxt,
    Coinbase,
    Simulator,
    Source,
    SourceError,
)
from btc_datamodule.candles.series import concatenate, make_empty
from btc_datamodule.candles.timeline import Interval, Span, ceil_to, floor_to, parse_interval
from btc_datamodule.sources.resampling import ask, choose_base
from btc_datamodule.store.candle_file import read_candles, read_header
from btc_datamodule.store.update import update
from btc_datamodule.testing.exchange import CoinbaseAnswers, Exchange
from tests.factories import HOUR, T0, candles_of, make_datamodule
from tests.helpers import assert_same

DAY, WEEK = 24 * HOUR, 168 * HOUR
OPTIONAL = ("quote_volume", "trades", "taker_buy_volume")


@dataclass(frozen=True)
class Hours(Source):
    """Has bars of some lengths, answers in blocks of ``block_bars``, and up to ``until``."""

    candles: Candles = field(default_factory=lambda: candles_of(np.ones(400, bool)))
    block_bars: int = 10
    until: int | None = None
    token: str | None = None
    asked: list[tuple[int, Span]] = field(default_factory=list)

    name: ClassVar[str] = "hours"
    intervals: ClassVar[tuple[int, ...] | None] = (900, HOUR)

    @property
    def series(self) -> str:
        return "BTC"

    @property
    def revision(self) -> str | None:
        return self.token

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        self.asked.append((interval, span))
        start, end = self.candles.span if self.token else span
        end = min(end, end if self.until is None else self.until)
        for number, at in enumerate(range(start, end, self.block_bars * interval)):
            to = min(end, at + self.block_bars * interval)
            bars = self.candles.slice(at, to)
            yield Block((at, to), bars, f"page {number}", (f"note {number}",), f"sum {number}", 7)


def joined(blocks: list[Block], interval: int) -> Candles:
    return concatenate([make_empty(interval), *(block.candles for block in blocks)])


# --- which bars are asked for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "interval", "offset", "base"),
    [
        (Coinbase(), "1h", None, HOUR),
        (Coinbase(), "4h", None, HOUR),
        (Coinbase(), "12h", None, 6 * HOUR),
        (Coinbase(), "90m", None, 900),
        (Coinbase(), "7m", None, 60),
        (Coinbase(), "1w", None, DAY),
        (Coinbase(), "1w", "6d", DAY),
        (Coinbase(), "1d", "8h", HOUR),
        (Coinbase(), "1d", "18h", 6 * HOUR),
        (Coinbase(), "1w", "90m", 900),
        (BinanceArchive(), "2d", None, DAY),
        (BinanceArchive(), "7s", None, 1),
        (Simulator(), "1w", None, DAY),
        (Simulator(), "1d", "8h", 8 * HOUR),
        (Simulator(), "7m", None, 60),
        (Simulator(), "4h", None, 4 * HOUR),
    ],
)
def test_the_longest_bars_that_fill_those_that_are_wanted_are_asked_for(
    source: Source, interval: str, offset: str | None, base: int
) -> None:
    assert choose_base(source, parse_interval(interval, offset), source.list_intervals()) == base


@pytest.mark.parametrize(("interval", "offset"), [("30s", None), ("90s", None), ("1d", "30s")])
def test_what_cannot_be_joined_is_refused_when_the_datamodule_is_made(
    interval: str, offset: str | None
) -> None:
    with pytest.raises(SourceError, match=r"coinbase has no bars of \S+: set `interval` to one of"):
        BTCDataModule(Coinbase(), interval, offset=offset)


def test_an_exchange_of_ccxt_is_known_by_its_timeframes() -> None:
    pytest.importorskip("ccxt")
    kraken = Ccxt("kraken")
    offered = kraken.list_intervals()
    assert {60, HOUR, 4 * HOUR, DAY} <= set(offered)
    assert choose_base(kraken, 4 * HOUR, offered) == 4 * HOUR
    assert choose_base(kraken, 2 * HOUR, offered) == HOUR
    assert choose_base(kraken, parse_interval("1w", "6d"), offered) == DAY
    assert choose_base(kraken, 7, offered) == 7  # and the exchange says what it has
    assert choose_base(kraken, 2 * HOUR, kraken.intervals) == 2 * HOUR  # not known yet


# --- what comes of them ---------------------------------------------------------------------------


def test_long_bars_are_those_of_resample_with_what_was_said_of_them() -> None:
    source = Hours()
    blocks = list(ask(source, 4 * HOUR, (T0, T0 + 40 * HOUR)))
    assert source.asked == [(HOUR, (T0, T0 + 40 * HOUR))]
    assert [((a - T0) // HOUR, (b - T0) // HOUR) for a, b in (block.span for block in blocks)] == [
        (0, 8),
        (8, 20),
        (20, 28),
        (28, 40),
    ]
    assert_same(
        joined(blocks, 4 * HOUR), source.candles.slice(T0, T0 + 40 * HOUR).resample("4h")[0]
    )
    assert [block.origin for block in blocks] == [
        "page 0",
        "page 0, page 1",
        "page 2",
        "page 2, page 3",
    ]
    assert blocks[1].checksum == "sum 0, sum 1"
    assert [block.notes for block in blocks] == [
        ("hours BTC: bars of 4h are joined from its bars of 1h", "note 0"),
        ("note 1",),
        ("note 2",),
        ("note 3",),
    ]
    assert [block.received for block in blocks] == [7, 7, 7, 7]


def test_what_is_offered_is_asked_for_as_it_is() -> None:
    source = Hours()
    blocks = list(ask(source, HOUR, (T0, T0 + 5 * HOUR)))
    assert (source.asked[0][0], blocks[0].notes) == (HOUR, ("note 0",))


def test_a_long_bar_with_bars_absent_is_made_of_the_others_or_absent_too() -> None:
    mask = np.ones(24, dtype=bool)
    mask[[1, 4, 5, 6, 7]] = False
    source = Hours(candles_of(mask))
    bars = joined(list(ask(source, 4 * HOUR, (T0, T0 + DAY))), 4 * HOUR)
    assert ((bars.open_time - T0) // HOUR).tolist() == [0, 8, 12, 16, 20]
    assert bars["volume"][0] == pytest.approx(source.candles["volume"][:3].sum())


@pytest.mark.parametrize("until", [0, 1, 3, 4, 5, 39])
def test_a_long_bar_that_is_not_wholly_answered_for_is_not_answered(until: int) -> None:
    source = Hours(until=T0 + until * HOUR, block_bars=3)
    blocks = list(ask(source, 4 * HOUR, (T0, T0 + 40 * HOUR)))
    settled = blocks[-1].span[1] if blocks else T0
    assert settled == T0 + until // 4 * 4 * HOUR
    assert len(joined(blocks, 4 * HOUR)) == until // 4


@pytest.mark.parametrize("token", [None, "digest"])
def test_a_source_that_begins_in_the_middle_of_a_long_bar(token: str | None) -> None:
    held = candles_of((T0 + HOUR * np.arange(2, 31)).tolist())
    source = Hours(held, token=token)
    span = (T0, T0 + 48 * HOUR) if token else (T0 + 4 * HOUR, T0 + 48 * HOUR)
    blocks = list(ask(source, 4 * HOUR, span))
    bars = joined(blocks, 4 * HOUR)
    assert blocks[0].span[0] == T0 + 4 * HOUR
    due = held.resample("4h")[0]
    assert_same(bars.slice(*due.span), due)
    # Hour 31 is not in the file, which ends there; asked for, it is known to be absent.
    assert len(bars) == (6 if token else 7)


@given(
    st.lists(st.booleans(), min_size=1, max_size=120),
    st.integers(1, 50),
    st.sampled_from([2, 3, 4, 24]),
    st.integers(0, 23),
    st.integers(0, 130),
)
@settings(max_examples=80)
def test_however_the_answer_is_cut_the_bars_are_the_same(
    present: list[bool], block_bars: int, factor: int, shift: int, until: int
) -> None:
    interval = Interval(factor * HOUR, shift * HOUR)
    held = candles_of(T0 + HOUR * np.flatnonzero(present), optional=OPTIONAL)
    span = (floor_to(T0, interval), ceil_to(T0 + 120 * HOUR, interval))
    last = T0 + until * HOUR
    blocks = list(ask(Hours(held, block_bars, until=last), interval, span))
    at = span[0]
    for block in blocks:
        assert block.span[0] == at
        assert block.span[1] > at
        at = block.span[1]
        assert len(block.candles.slice(*block.span)) == len(block.candles)
    assert at == max(span[0], floor_to(min(last, span[1]), interval))
    bars = joined(blocks, interval)
    for open_time, volume, opened in zip(bars.open_time, bars["volume"], bars["open"], strict=True):
        short = held.slice(int(open_time), int(open_time) + interval)
        assert volume == pytest.approx(short["volume"].sum())
        assert opened == short["open"][0]
    starts = {floor_to(int(time), interval) for time in held.slice(span[0], at).open_time}
    assert sorted(starts) == bars.open_time.tolist()


def test_an_error_ends_the_answer_and_the_source_is_closed() -> None:
    closed = []

    class Watched(Hours):
        def blocks(self, interval: int, span: Span) -> Iterator[Block]:
            try:
                yield from super().blocks(interval, span)
            finally:
                closed.append(interval)

    blocks = ask(Watched(), 4 * HOUR, (T0, T0 + 40 * HOUR))
    next(blocks)
    blocks.close()
    assert closed == [HOUR]


def test_bars_of_another_interval_break_the_contract() -> None:
    source = Hours(candles_of(T0 + 900 * np.arange(100), 900))
    with pytest.raises(SourceError, match="hours broke its contract: asked for bars of 1h it gave"):
        list(ask(source, 4 * HOUR, (T0, T0 + 8 * HOUR)))


# --- the whole way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "offset"), [("4h", None), ("1d", "8h"), ("2d", None), ("90m", None)]
)
def test_a_candle_file_of_coinbase_holds_joined_bars(
    tmp_path: Path, interval: str, offset: str | None
) -> None:
    wanted = parse_interval(interval, offset)
    base = choose_base(Coinbase(), wanted, Coinbase.intervals)
    held = candles_of(T0 + base * np.arange(900), base)
    with Exchange(CoinbaseAnswers(held)) as exchange:
        source = Coinbase(base_url=exchange.url, requests_per_second=5000.0)
        start, end = held.span
        middle = start + (end - start) // 3
        once, twice = tmp_path / "once.h5", tmp_path / "twice.h5"
        found = update(once, source, wanted, start, end)
        for until in (middle, end):
            update(twice, source, wanted, start, until)
    due = held.resample(wanted)[0].slice(ceil_to(start, wanted), floor_to(end, wanted))
    stored = read_candles(once).slice(*due.span)
    assert_same(stored, due)
    assert "are joined from its bars of" in found.notes[0]
    assert read_header(once).interval == wanted
    assert read_header(twice).digest == read_header(once).digest


def test_a_file_that_ends_early_goes_on_with_whole_bars(tmp_path: Path) -> None:
    path, source = tmp_path / "candles.h5", Hours(until=T0 + 10 * HOUR)
    update(path, source, 4 * HOUR, T0, T0 + 40 * HOUR)
    assert read_header(path).covered == ((T0, T0 + 8 * HOUR),)
    update(path, replace(source, until=None), 4 * HOUR, T0, T0 + 40 * HOUR)
    assert source.asked[-1] == (HOUR, (T0 + 8 * HOUR, T0 + 40 * HOUR))
    assert_same(read_candles(path), source.candles.slice(T0, T0 + 40 * HOUR).resample("4h")[0])


def test_the_audit_asks_for_joined_bars_again(tmp_path: Path) -> None:
    dm = make_datamodule(
        tmp_path,
        source=Simulator(no_trade=0.01),
        interval="1w",
        start="2012-01-01",
        end="2021-01-01",
        lookback=4,
        horizon=1,
        batch_size=8,
    )
    assert dm.table.interval == WEEK
    found = dm.audit()
    assert found.passed, str(found)


@dataclass(frozen=True)
class Holding(Hours):
    """Has no answer yet for some blocks."""

    aside: tuple[int, ...] = ()

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for number, block in enumerate(super().blocks(interval, span)):
            if number in self.aside:
                yield replace(block, candles=make_empty(interval), answered=False)
            else:
                yield block


@settings(max_examples=60)
@given(st.sets(st.integers(0, 12)), st.integers(1, 30))
def test_a_long_bar_that_touches_what_is_not_answered_is_not_answered_either(
    aside: set[int], block_bars: int
) -> None:
    source = Holding(block_bars=block_bars, aside=tuple(aside))
    start, end = source.candles.span
    span = (ceil_to(start, 4 * HOUR), floor_to(end, 4 * HOUR))
    blocks = list(ask(source, 4 * HOUR, span))
    answered = [block for block in blocks if block.answered]
    short = list(source.blocks(HOUR, span))
    missing = [block.span for block in short if not block.answered]
    whole, _ = source.candles.slice(*span).resample(4 * HOUR)
    touched = np.zeros(len(whole), dtype=bool)
    for low, high in missing:
        touched |= (whole.open_time < high) & (whole.open_time + 4 * HOUR > low)
    got = concatenate([make_empty(4 * HOUR), *(block.candles for block in answered)])
    assert got.open_time.tolist() == whole.open_time[~touched].tolist()
    assert got["volume"].tolist() == whole["volume"][~touched].tolist()
    edges = [edge for block in blocks for edge in block.span]
    assert edges == sorted(edges)
    settled = sum(high - low for low, high in (block.span for block in answered))
    assert settled == int((~touched).sum()) * 4 * HOUR
