"""The fault matrix: what goes wrong at an exchange, and what the candle file then holds.

Each fault goes the whole way, over HTTP, the source and ``store.update`` into ``candles.h5``,
for Coinbase's pages and for Binance's files and their checksums. It comes in two versions:

- it *passes*: the file's digest is the one of an undisturbed run;
- it *stays*: one error in one line. What was stored is there to the byte, what had been answered
  since is kept beside it, and nothing is half written. The next run without the fault asks for
  what is missing and for no more, and ends with the digest of an undisturbed run.
"""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.errors import CandleError, ConfigError, SourceError
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.store.candle_file import read_candles
from btc_datamodule.store.update import update
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange, Fault
from tests.factories import HOUR
from tests.helpers import assert_same
from tests.store.exchanges import (
    CASES,
    COINBASE,
    DAY,
    DAYS,
    ZIP,
    Case,
    Lines,
    assert_nothing_half_written,
    assert_whole,
    at_each_exchange,
    in_each_case,
    publish,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "series" / "candles.h5"


# --- trouble on the wire ------------------------------------------------------------------------


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


WIRE: dict[str, tuple[Fault, str]] = {
    "429 with Retry-After": (ex.too_many_requests("0.02"), r"HTTP 429 Too Many Requests \(gave up"),
    "429 without Retry-After": (ex.TOO_MANY_REQUESTS, r"HTTP 429 Too Many Requests \(gave up"),
    "418 with Retry-After": (ex.too_many_requests("0.02", 418), r"HTTP 418 .*\(gave up"),
    "500": (ex.SERVER_ERROR, r"HTTP 500 Internal Server Error \(gave up"),
    "503": (ex.UNAVAILABLE, r"HTTP 503 Service Unavailable \(gave up"),
    "timeout": (ex.Silence(10.0), r"ReadTimeout: .*a longer `source.timeout`"),
    "cut before a byte": (ex.CUT, r"(RemoteProtocol|Read)Error: .*check the network"),
    "body cut short": (ex.CUT_SHORT, r"RemoteProtocolError: .*incomplete|without sending complete"),
}
CONTENT: dict[str, tuple[str, Fault, str]] = {
    "HTML instead of JSON": (
        "coinbase page",
        ex.HTML_PAGE,
        r"not JSON; it begins '<!DOCTYPE html>",
    ),
    "truncated JSON": (
        "coinbase page",
        ex.EditBody(lambda b: b[: len(b) // 2]),
        r"not JSON; it begi",
    ),
    "HTML instead of zip": (
        "binance zip",
        ex.HTML_PAGE,
        r"sha256 is .*CHECKSUM says .*gave up after 2 attempts",
    ),
    "truncated zip": (
        "binance zip",
        ex.EditBody(lambda body: body[: len(body) // 2]),
        r"sha256 is .*CHECKSUM says .*gave up after 2 attempts",
    ),
    "a bit flipped in the zip": (
        "binance zip",
        ex.EditBody(flipped),
        r"sha256 is .*gave up after 2 attempts",
    ),
    "an empty zip": (
        "binance zip",
        ex.EditBody(lambda _: b""),
        r"sha256 is .*gave up after 2 attempts",
    ),
    "wrong checksum": (
        "binance checksum",
        ex.EditBody(lambda body: b"0" * 64 + body[64:]),
        r"sha256 is .*CHECKSUM says 0{64} \(gave up after 2 attempts",
    ),
    "HTML instead of checksum": (
        "binance checksum",
        ex.HTML_PAGE,
        r"holds no digest for it, but '<!D",
    ),
}
MATRIX = [
    pytest.param(case, fault, 1, message, id=f"{name} at {where}")
    for name, (fault, message) in WIRE.items()
    for where, case in CASES.items()
] + [
    pytest.param(CASES[where], fault, CASES[where].again, message, id=f"{name} at {where}")
    for name, (where, fault, message) in CONTENT.items()
]


def patience(fault: Fault) -> dict[str, Any]:
    """How to ask where a fault is silence, so that a test does not wait for long."""
    return {"timeout": 1.0} if isinstance(fault, ex.Silence) else {}


@pytest.mark.each_value
@pytest.mark.parametrize(("case", "fault", "every", "message"), MATRIX)
def test_a_fault_that_passes_leaves_the_digest_of_an_undisturbed_run(
    path: Path, case: Case, fault: Fault, every: int, message: str
) -> None:
    with case.serve() as exchange:
        requests = 1 if case.source is Coinbase else 2
        lead = [None] * (requests + case.lead)
        twice = 1 if isinstance(fault, ex.Silence) else 2
        exchange.faults.extend([*lead, *[fault, *[None] * (every - 1)] * twice])
        result = update(path, case.at(exchange, **patience(fault)), HOUR, *case.span)
    assert_whole(path, case.held)
    assert (result.added, result.notes) == (len(case.held), ())
    assert not exchange.faults


@pytest.mark.each_value
@pytest.mark.parametrize(("case", "fault", "every", "message"), MATRIX)
def test_a_fault_that_stays_is_one_line_and_costs_nothing_that_was_stored_or_answered(
    path: Path, case: Case, fault: Fault, every: int, message: str
) -> None:
    fails_at_the_third_part(path, case, fault, every, message, SourceError)


def fails_at_the_third_part(
    path: Path,
    case: Case,
    fault: Fault,
    every: int,
    message: str,
    kind: type[Exception],
) -> None:
    """One part is stored, the second answered; the third fails, and comes with the next run."""
    requests = 1 if case.source is Coinbase else 2
    with case.serve() as exchange:
        update(path, case.at(exchange), HOUR, *case.parts(0, 1))
        before = path.read_bytes()
        lead = [None] * (requests + case.lead)
        exchange.faults.extend([*lead, *[fault, *[None] * (every - 1)] * 20])
        attempts = 1 if isinstance(fault, ex.Silence) else 2
        weary = case.at(exchange, attempts=attempts, **patience(fault))
        with pytest.raises(kind, match=message) as caught:
            update(path, weary, HOUR, *case.span)
        assert "\n" not in str(caught.value)
        [kept] = assert_nothing_half_written(path, before)
        assert_same(read_candles(kept), case.held.slice(*case.parts(1, 1)))
        assert [t.name for t in threading.enumerate() if t.name.startswith("binance")] == []

        exchange.faults.clear()
        exchange.requests.clear()
        result = update(path, case.at(exchange), HOUR, *case.span)
        assert case.asked(exchange) == [case.parts(2, 1)[0]]
        assert len(exchange.requests) == requests
        assert_whole(path, case.held)
    assert result.header.covered == (case.span,)


@in_each_case
def test_a_ban_for_a_day_is_told_at_once_with_its_end(path: Path, case: Case) -> None:
    fault = ex.too_many_requests("86400", 418)
    tomorrow = format_instant(int(time.time()) + DAY)[:10]
    message = rf"HTTP 418 .* no earlier than ({tomorrow}|20\d\d-\d\d-\d\dT00:0)"
    fails_at_the_third_part(path, case, fault, 1, message, SourceError)


# --- content that fits its checksum and is wrong ------------------------------------------------


def bad_row(edit: Callable[[list[Any]], list[Any]]) -> Fault:
    """The third row of a page of Coinbase edited."""
    return ex.EditRows(lambda rows: [*rows[:2], edit(rows[2]), *rows[3:]])


IMPOSSIBLE = {
    "high below low": lambda row: [row[0], row[2] + 1, row[1], *row[3:]],
    "a negative price": lambda row: [row[0], -row[1], *row[2:]],
}


@pytest.mark.parametrize("edit", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_bar_at_coinbase_costs_nothing_that_was_stored_or_answered(
    path: Path, edit: Callable[[list[Any]], list[Any]]
) -> None:
    fails_at_the_third_part(
        path, COINBASE, bad_row(edit), 1, r"set `source.drop_invalid: true`", CandleError
    )


@pytest.mark.parametrize("edit", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_bar_at_coinbase_can_be_left_out(
    path: Path, edit: Callable[[list[Any]], list[Any]]
) -> None:
    with COINBASE.serve() as exchange:
        exchange.faults.append(bad_row(edit))
        result = update(path, COINBASE.at(exchange, drop_invalid=True), HOUR, *COINBASE.span)
    bad = COINBASE.span[0] + 297 * HOUR
    assert_whole(path, ex.without(COINBASE.held, (bad, bad + HOUR)))
    [note] = result.notes
    assert "1 rows that are no candles were left out" in note
    assert format_instant(bad) in note
    assert result.header.covered == (COINBASE.span,)


def crossed(lines: Lines) -> Lines:
    """High and low of the third row exchanged."""
    fields = lines[2].split(b",")
    fields[2], fields[3] = fields[3], fields[2]
    return [*lines[:2], b",".join(fields), *lines[3:]]


def negative(lines: Lines) -> Lines:
    fields = lines[2].split(b",")
    fields[3] = b"-" + fields[3]
    return [*lines[:2], b",".join(fields), *lines[3:]]


PUBLISHED = {
    "high below low": (crossed, CandleError, r"high is below low.* `source.drop_invalid: true`"),
    "a negative price": (negative, CandleError, r"not above zero.* `source.drop_invalid: true`"),
    "a field too few": (
        lambda lines: [*lines[:2], lines[2][:60] + b"\n", *lines[3:]],
        SourceError,
        r"row 3: .* fields instead of 12",
    ),
    "rows of another day": (
        lambda lines: [b"1609459200000" + line[13:] for line in lines],
        SourceError,
        r"24 of 24 rows open outside its period",
    ),
}


@pytest.mark.parametrize(("edit", "kind", "message"), PUBLISHED.values(), ids=PUBLISHED.keys())
def test_a_file_that_binance_published_wrong_costs_nothing_that_was_stored_or_answered(
    path: Path, edit: Callable[[Lines], Lines], kind: type[Exception], message: str
) -> None:
    answers = BinanceArchiveAnswers(DAYS)
    with Exchange(answers) as exchange:
        update(path, ZIP.at(exchange), HOUR, *ZIP.parts(0, 1))
        before = path.read_bytes()
        publish(answers, "2020-01-07", edit)
        with pytest.raises(kind, match=message) as caught:
            update(path, ZIP.at(exchange), HOUR, *ZIP.span)
        assert "\n" not in str(caught.value)
        [kept] = assert_nothing_half_written(path, before)
        assert_same(read_candles(kept), DAYS.slice(*ZIP.parts(1, 1)))
        answers.files.clear()  # Binance has mended it
        exchange.requests.clear()
        update(path, ZIP.at(exchange), HOUR, *ZIP.span)
        assert ZIP.asked(exchange) == [ZIP.parts(2, 1)[0]]
    assert_whole(path, DAYS)


@pytest.mark.parametrize("edit", [crossed, negative])
def test_an_impossible_bar_at_binance_can_be_left_out(
    path: Path, edit: Callable[[Lines], Lines]
) -> None:
    answers = BinanceArchiveAnswers(DAYS)
    publish(answers, "2020-01-06", edit)
    with Exchange(answers) as exchange:
        result = update(path, ZIP.at(exchange, drop_invalid=True), HOUR, *ZIP.span)
    bad = parse_instant("2020-01-06T02:00")
    assert_whole(path, ex.without(DAYS, (bad, bad + HOUR)))
    [note] = result.notes
    assert "1 rows that are no candles were left out" in note
    assert format_instant(bad) in note


# --- rows that need order -----------------------------------------------------------------------


@pytest.mark.parametrize("answers_hit", [1, 3])
@pytest.mark.parametrize(
    ("fault", "notes"),
    [
        pytest.param(ex.DUPLICATED_ROWS, 1, id="duplicate rows"),
        pytest.param(ex.SHUFFLED_ROWS, 0, id="shuffled rows"),
        pytest.param(ex.ROWS_OUT_OF_RANGE, 0, id="rows out of range"),
    ],
)
def test_rows_of_coinbase_in_disorder_leave_the_digest_of_an_undisturbed_run(
    path: Path, fault: Fault, notes: int, answers_hit: int
) -> None:
    with COINBASE.serve() as exchange:
        exchange.faults.extend([fault] * answers_hit)
        result = update(path, COINBASE.at(exchange), HOUR, *COINBASE.span)
    assert_whole(path, COINBASE.held)
    assert len(result.notes) == notes * answers_hit


def with_rows_of_yesterday(lines: Lines) -> Lines:
    def shifted(line: bytes) -> bytes:
        opened, rest = line.split(b",", 1)
        return str(int(opened) - DAY * 1000).encode() + b"," + rest

    return [*map(shifted, lines), *lines]


@pytest.mark.parametrize("days", [["2020-01-06"], ["2020-01-05", "2020-01-06", "2020-01-07"]])
@pytest.mark.parametrize(
    ("edit", "notes"),
    [
        pytest.param(lambda lines: [line for line in lines for _ in "ab"], 1, id="duplicate rows"),
        pytest.param(lambda lines: lines[::-1], 0, id="shuffled rows"),
        pytest.param(with_rows_of_yesterday, 1, id="rows out of range"),
    ],
)
def test_rows_of_binance_in_disorder_leave_the_digest_of_an_undisturbed_run(
    path: Path, edit: Callable[[Lines], Lines], notes: int, days: list[str]
) -> None:
    answers = BinanceArchiveAnswers(DAYS)
    for day in days:
        publish(answers, day, edit)
    with Exchange(answers) as exchange:
        result = update(path, ZIP.at(exchange), HOUR, *ZIP.span)
    assert_whole(path, DAYS)
    assert len(result.notes) == notes * len(days)


# --- answers without rows -----------------------------------------------------------------------


@at_each_exchange
def test_an_empty_part_in_mid_history_is_a_hole_and_not_the_end(path: Path, case: Case) -> None:
    outage = case.parts(1, 1)
    held = ex.without(case.held, outage)
    whole = Case(case.source, held, case.part)
    with whole.serve() as exchange:
        result = update(path, case.at(exchange), HOUR, *case.span)
        assert_whole(path, held)
        assert result.header.covered == (case.span,)
        exchange.requests.clear()
        update(path, case.at(exchange), HOUR, *case.span)
        assert exchange.requests == []  # a hole that is known is not asked for again


def test_a_page_that_came_empty_by_mistake_is_mended_by_a_refresh(path: Path) -> None:
    case = COINBASE
    with case.serve() as exchange:
        exchange.faults.extend([None, ex.EMPTY_PAGE, ex.EMPTY_PAGE])
        update(path, case.at(exchange), HOUR, *case.span)
        assert_whole(path, ex.without(case.held, case.parts(1, 1)))
        result = update(path, case.at(exchange), HOUR, *case.span, refresh=True)
    assert_whole(path, case.held)
    assert (result.added, result.notes) == (case.part // HOUR, ())


# --- the person at the keyboard -----------------------------------------------------------------


@contextmanager
def interrupted_in(seconds: float) -> Iterator[None]:
    """``KeyboardInterrupt`` in the main thread after a while, as from Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@in_each_case
def test_a_run_that_is_interrupted_while_it_waits_ends_soon_and_keeps_what_was_answered(
    path: Path, case: Case
) -> None:
    requests = 1 if case.source is Coinbase else 2
    with case.serve() as exchange:
        update(path, case.at(exchange), HOUR, *case.parts(0, 1))
        before = path.read_bytes()
        exchange.faults.extend(
            [*[None] * (requests + case.lead), *[ex.too_many_requests("60")] * 9]
        )
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), interrupted_in(1.0):
            update(path, case.at(exchange), HOUR, *case.span)
        assert time.monotonic() - began < 30
        [kept] = assert_nothing_half_written(path, before)
        assert_same(read_candles(kept), case.held.slice(*case.parts(1, 1)))
        assert [t.name for t in threading.enumerate() if t.name.startswith("binance")] == []
        exchange.faults.clear()
        exchange.requests.clear()
        update(path, case.at(exchange), HOUR, *case.span)
        assert case.asked(exchange) == [case.parts(2, 1)[0]]
    assert_whole(path, case.held)


# --- where things lie ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "product",
    [
        "..",
        ".",
        "",
        "../x",
        "a/b",
        "a\\b",
        "/etc",
        "C:x",
        "a\0b",
        "a\n",
        ".hidden",
        "%2e%2e",
        "é",
        "a" * 101,
    ],
)
@pytest.mark.parametrize("source", [Coinbase, BinanceArchive])
def test_no_product_can_lead_out_of_the_data_folder(
    source: type[Coinbase] | type[BinanceArchive], product: str
) -> None:
    with pytest.raises(ConfigError, match=r"^product .* cannot name a folder") as caught:
        source(product=product)
    assert "\n" not in str(caught.value)
    assert re.fullmatch(r"[\w-]+", source().series)
