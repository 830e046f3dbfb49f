"""A source out of reach, a folder that is not writable: what is stored is used where it does.

Sixty hours are the past; the clock of these tests stands still just after them.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from btc_datamodule.candles.timeline import Span
from btc_datamodule.errors import BrokenError, ConfigError, SourceError, StoreError
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.sources.ccxt.source import Ccxt
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.store.candle_file import read_candles, read_header
from btc_datamodule.store.update import Update, update
from btc_datamodule.testing import exchange as ex
from tests.factories import HOUR, T0, candles_of
from tests.helpers import assert_same
from tests.store.exchanges import COINBASE
from tests.store.test_update import BARS, HOLED, Scripted, rows

NOW = T0 + BARS * HOUR
ALL = candles_of(HOLED, optional=["trades"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scripted" / "BTC" / "1h" / "candles.h5"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + 10.0)


def run(path: Path, source: Source, start: int | None, end: int | None) -> Update:
    return update(path, source, HOUR, start, end)


@dataclass(frozen=True)
class Refusing(Scripted):
    """Raises ``error`` when it is asked."""

    error: Callable[[], Exception] = lambda: SourceError("scripted: the wire was cut")

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        self.asked.append(span)
        raise self.error()


# --- what is needed, and what is welcome ----------------------------------------------------------


@pytest.mark.parametrize("end", [None, NOW + 1, NOW + 1000 * HOUR])
def test_the_latest_bars_of_an_open_end_are_welcome(path: Path, end: int | None) -> None:
    run(path, Scripted(ALL), T0, T0 + 40 * HOUR)
    before = path.read_bytes()
    source = Refusing(ALL)
    found = run(path, source, T0, end)
    assert source.asked == [rows(40, 60)]
    assert found.notes == (
        "scripted BTC: scripted: the wire was cut: what is stored is used, up to "
        "2020-01-02T16:00:00Z; `offline: true` asks nothing",
    )
    assert (found.added, path.read_bytes()) == (0, before)


def fill(path: Path, *spans: tuple[int, int]) -> None:
    for span in spans:
        run(path, Scripted(ALL), *rows(*span))


@pytest.mark.parametrize(
    ("stored", "start", "end"),
    [
        pytest.param([(0, 40)], T0, NOW, id="an end that has passed"),
        pytest.param([(20, 60)], T0, None, id="earlier bars"),
        pytest.param([(0, 20), (40, 60)], T0, None, id="bars in between"),
        pytest.param([(0, 20)], T0 + 30 * HOUR, None, id="none of those wanted is stored"),
        pytest.param([], T0, None, id="nothing is stored"),
    ],
)
def test_all_other_bars_are_needed(
    path: Path, stored: list[tuple[int, int]], start: int, end: int | None
) -> None:
    fill(path, *stored)
    with pytest.raises(SourceError, match=r"^scripted: the wire was cut$"):
        run(path, Refusing(ALL), start, end)
    assert path.exists() == bool(stored)


def test_refresh_needs_what_it_asks_for(path: Path) -> None:
    fill(path, (0, 60))
    with pytest.raises(SourceError, match="the wire was cut"):
        update(path, Refusing(ALL), HOUR, T0, None, refresh=True)


def test_what_was_answered_before_the_failure_is_kept_and_used(path: Path) -> None:
    fill(path, (0, 10))
    found = run(path, replace(Scripted(ALL), fail_after=2), T0, None)
    assert_same(read_candles(path), ALL.slice(*rows(0, 30)))
    assert found.added == len(ALL.slice(*rows(10, 30)))
    assert "what is stored is used, up to 2020-01-02T06:00:00Z" in found.notes[0]
    source = Scripted(ALL)
    assert run(path, source, T0, None).notes == ()
    assert source.asked == [rows(30, 60)]
    assert_same(read_candles(path), ALL)


@pytest.mark.parametrize(
    "error",
    [
        lambda: ConfigError("this source needs ccxt"),
        lambda: ConnectionError("a library of its own"),
        lambda: SourceError("knows no product"),
    ],
)
def test_whatever_keeps_a_source_from_answering_is_told(
    path: Path, error: Callable[[], Exception]
) -> None:
    fill(path, (0, 40))
    (note,) = run(path, Refusing(ALL, error=error), T0, None).notes
    told = str(error())
    if isinstance(error(), OSError):
        told = rf"scripted: its `blocks` failed: ConnectionError: {told} \(line \d+ of \S+\)"
    assert re.match(f"scripted BTC: {told}: what is stored is used", note)


def test_a_mistake_in_a_source_is_no_silence(path: Path) -> None:
    fill(path, (0, 40))
    with pytest.raises(BrokenError, match="scripted: its `blocks` failed: ZeroDivisionError"):
        run(path, Refusing(ALL, error=ZeroDivisionError), T0, None)
    outside = Scripted(candles_of(np.ones(60, dtype=bool), 1800), block_bars=10)
    with pytest.raises(SourceError, match="broke its contract"):
        run(path, outside, T0, None)


# --- patience -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patient(Scripted):
    """Keeps whether it was in a hurry when it was asked."""

    is_hurried: bool = False
    told: list[bool] = field(default_factory=list)

    def hurry(self) -> Self:
        return replace(self, is_hurried=True)

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        self.told.append(self.is_hurried)
        return super().blocks(interval, span)


def test_a_source_is_in_a_hurry_where_bars_are_welcome_alone(path: Path) -> None:
    source = Patient(ALL)
    run(path, source, *rows(20, 40))
    run(path, source, T0, None)
    assert source.asked == [rows(20, 40), rows(0, 20), rows(40, 60)]
    assert source.told == [False, False, True]


@dataclass(frozen=True)
class Wrapped(Source):
    """Another source under another name."""

    inner: Source

    name: ClassVar[str] = "wrapped"
    series: ClassVar[str] = "BTC"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        yield from self.inner.blocks(interval, span)


@pytest.mark.parametrize("source", [Coinbase(), BinanceArchive(), Ccxt("kraken")])
def test_a_source_in_a_hurry_is_the_same_source_with_less_patience(source: Any) -> None:
    hurried = source.hurry()
    less = {"attempts": 2, "timeout": 5.0, "longest_wait": 5.0, "longest_answer": 5.0}
    assert hurried == replace(source, **less)
    quick: Any = {"attempts": 1, "timeout": 0.5, "longest_answer": 0.4}
    impatient = replace(source, **quick, retry_wait=0.1, longest_wait=0.0)
    assert impatient.hurry() == impatient
    assert Wrapped(source).hurry() == Wrapped(hurried)


def test_a_source_without_patience_hurries_as_it_is() -> None:
    source = Scripted(ALL)
    assert source.hurry() is source
    wrapped = Wrapped(source)
    assert wrapped.hurry() is wrapped


def test_a_service_that_wants_two_minutes_is_not_waited_for(path: Path) -> None:
    """What it had answered before is kept; where the bars are needed it is waited for."""
    start, end = COINBASE.span
    with COINBASE.serve() as exchange, pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: float(end + 10 * HOUR))
        source = COINBASE.at(exchange)
        update(path, source, HOUR, start, start + 300 * HOUR)
        reply = replace(ex.TOO_MANY_REQUESTS.reply, headers={"Retry-After": "120"})
        exchange.faults.append(ex.Instead(reply))
        began = time.monotonic()
        (note,) = update(path, source, HOUR, start, None).notes
        assert time.monotonic() - began < 5
    assert "HTTP 429" in note
    assert "what is stored is used, up to 2020-01-13T12:00:00Z" in note
    assert read_header(path).rows == 300


# --- nothing to do --------------------------------------------------------------------------------


def test_where_nothing_is_missing_no_lock_is_taken_and_nobody_asked(path: Path) -> None:
    fill(path, (0, 60))
    path.with_suffix(".lock").unlink(missing_ok=True)
    source = Refusing(ALL)
    for end in (None, NOW, NOW - 7 * HOUR):
        assert run(path, source, T0, end).notes == ()
    assert (source.asked, [*path.parent.iterdir()]) == ([], [path])


needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


def forbid_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a disk that is mounted read-only is, for root too."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and real(path, mode))


def test_the_latest_bars_are_not_asked_for_where_they_could_not_be_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path, (0, 40))
    forbid_writing(monkeypatch)
    source = Refusing(ALL)
    (note,) = run(path, source, T0, None).notes
    assert note == (
        f"scripted BTC: {path.parent} cannot be written, so that nothing is added: what is stored "
        "is used, up to 2020-01-02T16:00:00Z; `offline: true` asks nothing"
    )
    path.with_name("candles.h5.77.tmp").write_text("of a process that was killed")
    assert run(path, source, *rows(0, 40)).notes == ()
    assert source.asked == []


@needs_permissions
def test_bars_that_are_needed_must_be_kept(path: Path) -> None:
    fill(path, (0, 40))
    path.parent.chmod(0o555)
    with pytest.raises(StoreError, match="cannot be written"):
        run(path, Scripted(ALL), *rows(0, 60))


# --- what a failure leaves ------------------------------------------------------------------------


def test_a_source_that_fails_at_once_leaves_no_folder(path: Path, tmp_path: Path) -> None:
    for error in (SourceError("knows no product"), ConfigError("no ccxt"), KeyboardInterrupt()):
        source = Refusing(ALL, error=lambda error=error: error)  # type: ignore[misc]
        with pytest.raises(type(error)):
            run(path, source, T0, None)
        assert list(tmp_path.iterdir()) == []


def test_what_a_source_said_before_it_failed_stays(path: Path) -> None:
    with pytest.raises(SourceError, match="the wire was cut"):
        run(path, replace(Scripted(ALL), fail_after=2), T0, None)
    assert [each.name for each in path.with_suffix(".parts").iterdir()] == ["000000.h5"]
    source = Scripted(ALL)
    run(path, source, T0, None)
    assert source.asked == [rows(20, 60)]


# --- before the first bar -------------------------------------------------------------------------


def test_before_the_first_bar_of_a_source_nothing_is_absent(path: Path) -> None:
    """Its history is asked for from 1970 on."""
    late = candles_of(np.arange(NOW - 500 * HOUR, NOW, HOUR))
    source = Scripted(late, block_bars=5000)
    assert run(path, source, None, None).notes == ()
    assert source.asked == [(0, NOW)]
    header = read_header(path)
    assert (header.rows, header.covered) == (500, ((0, NOW),))


@dataclass(frozen=True)
class Declared(Scripted):
    """Says from when on it has bars."""

    first: ClassVar[int] = NOW - 2000 * HOUR


def test_a_source_that_begins_later_than_it_says_is_told(path: Path) -> None:
    source = Declared(candles_of(np.arange(NOW - 500 * HOUR, NOW, HOUR)), block_bars=300)
    assert run(path, source, None, None).notes == (
        "scripted BTC: its first bar is at 2019-12-13T16:00:00Z; it was asked for all from "
        "2019-10-12T04:00:00Z on",
    )
    assert read_header(path).rows == 500
    assert run(path, source, None, None).notes == ()


def test_an_absence_after_the_first_bar_or_after_a_start_that_was_given_is_told(
    path: Path, tmp_path: Path
) -> None:
    times = np.arange(NOW - 900 * HOUR, NOW, HOUR)
    source = Scripted(candles_of(np.delete(times, slice(200, 350))), block_bars=5000)
    (note,) = run(path, source, None, None).notes
    assert "(100 bars or more): 1, the longest 2019-12-05T08:00:00Z to" in note
    assert "(150 bars)" in note
    (note,) = run(tmp_path / "candles.h5", source, NOW - 2000 * HOUR, None).notes
    assert "(100 bars or more): 2, the longest 2019-10-12T04:00:00Z to" in note
    assert "(1,100 bars)" in note
