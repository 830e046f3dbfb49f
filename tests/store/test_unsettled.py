"""Candles that are not finished yet, and candles that come back different."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from btc_datamodule.candles.series import OPTIONAL, Candles
from btc_datamodule.candles.timeline import Span, floor_to, format_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, CoinbaseAnswers, Exchange
from tests.factories import HOUR, candles_of, changed
from tests.store.exchanges import (
    COINBASE,
    DAY,
    ZIP,
    Case,
    assert_nothing_half_written,
    assert_whole,
    at_each_exchange,
    publish,
)

# --- the candle that is not finished ------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "series" / "candles.h5"


def minutes_until_now(bars: int, ahead: int) -> Candles:
    """Minutes up to the latest whole one, and ``ahead`` more that are not over."""
    end = floor_to(time.time(), 60)
    return candles_of(np.arange(end - bars * 60, end + ahead * 60, 60), 60)


@pytest.mark.parametrize("ahead", [None, 0, 30, 86_400], ids=lambda value: f"end {value}")
def test_the_unfinished_candle_of_coinbase_is_never_stored(path: Path, ahead: int | None) -> None:
    held = minutes_until_now(320, ahead=5)
    names = ("open_time", "low", "high", "open", "close", "volume")
    newest = np.stack([held[name][-8:] for name in names], axis=1).tolist()
    offered = ex.EditRows(lambda rows: [*newest, *rows])
    with Exchange(CoinbaseAnswers(held)) as exchange:
        exchange.faults.extend([offered] * 10)
        end = None if ahead is None else int(time.time()) + ahead
        began = floor_to(time.time(), 60)
        header = update(path, COINBASE.at(exchange), 60, held.span[0], end).header
        assert header.span[1] == header.covered[-1][1] <= time.time()
        assert header.span[1] >= began
    assert_whole(path, held.slice(*header.span))


def test_a_candle_that_was_unfinished_comes_whole_with_a_later_run(path: Path) -> None:
    """Our clock runs three minutes fast, so that bars are asked for that still change."""
    final = minutes_until_now(320, ahead=0)
    times = final.open_time
    volume = np.where(times >= final.span[1] - 240, 0.001, final["volume"])
    answers = CoinbaseAnswers(changed(final, volume=volume))
    with Exchange(answers) as exchange:
        exchange.faults.extend([ex.Dated(180 + 60)] * 2)
        first = update(path, COINBASE.at(exchange), 60, *final.span).header
        assert first.span[1] <= final.span[1] - 180
        exchange.answer = CoinbaseAnswers(final)
        exchange.requests.clear()
        update(path, COINBASE.at(exchange), 60, *final.span)
        assert COINBASE.asked(exchange) == [first.span[1]]
    assert_whole(path, final)


@pytest.mark.parametrize("ahead", [None, 0, 3600, 86_400], ids=lambda value: f"end {value}")
def test_the_unfinished_candle_of_binance_is_never_stored(path: Path, ahead: int | None) -> None:
    today = floor_to(time.time(), DAY)
    held = candles_of(np.arange(today - 2 * DAY, today + 2 * DAY, HOUR), optional=OPTIONAL)
    answers = BinanceArchiveAnswers(held)
    dates = [format_instant(today + day * DAY)[:10] for day in (-1, 0, 1)]
    rows = [answers.csv(f"BTCUSDT-1h-{date}.zip").splitlines(keepends=True) for date in dates]
    for date in dates:  # every file has the rows of today and tomorrow too
        publish(answers, date, lambda _: rows[0] + rows[1] + rows[2])
    with Exchange(answers) as exchange:
        end = None if ahead is None else int(time.time()) + ahead
        result = update(path, ZIP.at(exchange), HOUR, today - 2 * DAY, end)
        assert ZIP.asked(exchange) == [today - 2 * DAY, today - DAY]
    assert result.header.covered == ((today - 2 * DAY, today),)
    assert_whole(path, held.slice(today - 2 * DAY, today))
    assert len(result.notes) == 1


# --- candles that come back different -----------------------------------------------------------


@dataclass(frozen=True)
class Wide(Source):
    """A source that answers for more than it is asked: for ``span``, whatever is missing."""

    inner: Coinbase | BinanceArchive
    span: Span

    @property
    def name(self) -> str:  # type: ignore[override]  # read only, as the one that is asked
        return self.inner.name

    @property
    def series(self) -> str:
        return self.inner.series

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        return self.inner.blocks(interval, self.span)


@at_each_exchange
def test_candles_that_drift_are_kept_as_stored_and_told_or_taken_with_refresh(
    path: Path, case: Case
) -> None:
    drifted = np.isin(case.held.open_time, [case.span[0] + 5 * HOUR, case.span[0] + 9 * HOUR])
    later = changed(case.held, volume=case.held["volume"] + drifted)
    told = "2 candles came back different from what is stored, the first at "
    told += format_instant(case.span[0] + 5 * HOUR)
    with case.serve() as exchange:
        update(path, case.at(exchange), HOUR, *case.parts(0, 2))
        answers = Case(case.source, later, case.part).serve()
        with answers as drifting:
            wide = Wide(case.at(drifting), case.span)
            # The other one says that these came from another address than those stored.
            [note] = [note for note in update(path, wide, HOUR, *case.span).notes if told in note]
            assert f"{told}: kept as stored; `refresh: true` takes the new values" in note
            assert_whole(path, case.held)
            drifting.requests.clear()
            assert update(path, case.at(drifting), HOUR, *case.span).notes == ()
            assert drifting.requests == []
            [note] = update(path, case.at(drifting), HOUR, *case.span, refresh=True).notes
            assert note.endswith(f"{told}: replaced")
    assert_whole(path, later)


@at_each_exchange
def test_a_refresh_that_fails_halfway_leaves_what_is_stored(path: Path, case: Case) -> None:
    with case.serve() as exchange:
        update(path, case.at(exchange), HOUR, *case.span)
        before = path.read_bytes()
        exchange.faults.extend([*[None] * 3, *[ex.UNAVAILABLE] * 20])
        if case.source is Coinbase:
            exchange.faults.popleft()
        with pytest.raises(SourceError, match="HTTP 503"):
            update(path, case.at(exchange, attempts=1), HOUR, *case.span, refresh=True)
        assert_nothing_half_written(path, before)
        exchange.faults.clear()
        update(path, case.at(exchange), HOUR, *case.span, refresh=True)
    assert_whole(path, case.held)
