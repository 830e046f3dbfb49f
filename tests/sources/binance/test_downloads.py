"""Files of Binance's archive on their way: checksums, trouble on the wire, several at a time."""

import gc
import logging
import re
import signal
import socket
import time
import weakref
from typing import NoReturn

import pytest

from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.testing import exchange as ex
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange, Fault
from tests.factories import HOUR
from tests.helpers import assert_same
from tests.sources.binance.helpers import (
    DAY,
    DAY_5,
    HELD,
    JANUARY_5,
    ZIP,
    asked,
    candles_in,
    downloading,
    fetch,
    notes_of,
    source,
    span_of,
)

# --- checksums ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    ["{digest}  {name}", "{digest}  {name}\r\n", "{upper}  {name}\n", "{digest} *{name}\n"],
)
def test_checksums_are_read_in_every_spelling_of_sha256sum(
    exchange: Exchange, answers: BinanceArchiveAnswers, spelling: str
) -> None:
    fetch(exchange, DAY_5)
    reply = answers(exchange.requests[0])
    digest, name = reply.body.decode().split()
    text = spelling.format(digest=digest, upper=digest.upper(), name=name)
    answers.files[f"{JANUARY_5}.CHECKSUM"] = text.encode()
    [block] = fetch(exchange, DAY_5)
    assert_same(block.candles, HELD.slice(*DAY_5))
    assert block.checksum == f"sha256:{digest}"


@pytest.mark.parametrize("which", [0, 1])
def test_a_mismatch_that_passes_is_fetched_again_with_its_checksum(
    exchange: Exchange, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.faults.extend([*[None] * which, ex.HTML_PAGE])
    with caplog.at_level(logging.WARNING):
        blocks = fetch(exchange, DAY_5)
    assert_same(candles_in(blocks), HELD.slice(*DAY_5))
    assert notes_of(blocks) == []
    names = [request.path.rsplit("/", 1)[1] for request in exchange.requests]
    assert names == [f"{JANUARY_5}.CHECKSUM", JANUARY_5] * 2
    [record] = caplog.records
    assert "attempt 1 of 3 failed" in record.getMessage()


def test_a_mismatch_that_stays_names_the_file_both_digests_and_what_to_do(
    exchange: Exchange, answers: BinanceArchiveAnswers
) -> None:
    answers.files[JANUARY_5] = ZIP
    answers.files[f"{JANUARY_5}.CHECKSUM"] = f"{'0' * 64}  {JANUARY_5}".encode()
    with pytest.raises(SourceError) as caught:
        fetch(exchange, DAY_5)
    assert re.fullmatch(
        rf"{exchange.url}/data/spot/daily/klines/BTCUSDT/1h/{JANUARY_5}: its sha256 is "
        rf"[0-9a-f]{{64}}, but {JANUARY_5}.CHECKSUM says 0{{64}} \(gave up after 3 attempts\): run "
        r"it again later, the archive may be replacing the file; if it stays, something on the way "
        r"changes what is downloaded",
        str(caught.value),
    )
    assert len(exchange.requests) == 6


@pytest.mark.parametrize(
    "text", [b"<html>Please log in</html>", b"", f"{'0' * 64}  BTCUSDT-1h-2020-01-06.zip".encode()]
)
def test_a_checksum_of_something_else_is_no_checksum(
    exchange: Exchange, answers: BinanceArchiveAnswers, text: bytes
) -> None:
    answers.files[f"{JANUARY_5}.CHECKSUM"] = text
    with pytest.raises(
        SourceError, match=r"holds no digest for it, but '.*gave up after 3 attempts"
    ) as caught:
        fetch(exchange, DAY_5)
    assert " ".join(text.decode().split())[:80] in str(caught.value)


# --- trouble on the wire ------------------------------------------------------------------------

PASSING = {
    "429": ex.TOO_MANY_REQUESTS,
    "418": ex.BANNED,
    "500": ex.SERVER_ERROR,
    "503": ex.UNAVAILABLE,
    "time-out": ex.Silence(5.0),
    "cut": ex.CUT,
    "cut short": ex.CUT_SHORT,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_trouble_that_passes_leaves_no_trace_in_the_candles(
    exchange: Exchange, fault: Fault
) -> None:
    exchange.faults.extend([fault, None, fault, fault])
    blocks = fetch(exchange, attempts=5, timeout=1.0 if isinstance(fault, ex.Silence) else 20.0)
    assert_same(candles_in(blocks), HELD)
    assert len(exchange.requests) == 6 + 3
    assert notes_of(blocks) == []


def test_a_wait_that_the_archive_asks_for_is_kept_by_all_downloads(exchange: Exchange) -> None:
    exchange.faults.append(ex.too_many_requests("1"))
    began = time.monotonic()
    assert_same(candles_in(fetch(exchange, downloads=2)), HELD)
    first = exchange.requests[0].time
    early = [r for r in exchange.requests if r.time - first < 0.9]
    assert len(early) <= 3  # what was on its way already
    assert 1.0 <= time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (ex.TOO_MANY_REQUESTS, r"HTTP 429 Too Many Requests \(gave up after 2 attempts\)"),
        (ex.UNAVAILABLE, r"HTTP 503 Service Unavailable \(gave up .*run it again later"),
        (ex.Silence(1.0), r"ReadTimeout: .*a longer `source.timeout`"),
        (ex.CUT_SHORT, r"RemoteProtocolError: .*incomplete|without sending complete"),
    ],
)
def test_trouble_that_stays_ends_in_one_error_after_what_came_before(
    exchange: Exchange, fault: Fault, message: str
) -> None:
    exchange.faults.extend([None, None, *[fault] * 8])
    timeout = 0.3 if isinstance(fault, ex.Silence) else 20.0
    blocks = source(exchange, attempts=2, timeout=timeout, downloads=1).blocks(HOUR, HELD.span)
    assert_same(next(blocks).candles, HELD.slice(*span_of("2020-01-01", "2020-02-01")))
    with pytest.raises(SourceError, match=message) as caught:
        next(blocks)
    assert "BTCUSDT-1h-2020-02.zip.CHECKSUM: " in str(caught.value)
    assert downloading() == []


def test_a_refusal_is_quoted_and_not_repeated(exchange: Exchange) -> None:
    exchange.faults.append(ex.Instead(ex.Reply(403, b"<html>\nForbidden</html>")))
    with pytest.raises(SourceError, match=r"refused with HTTP 403 Forbidden, '<html> Forbidden"):
        fetch(exchange, DAY_5)
    assert len(exchange.requests) == 1


@pytest.mark.parametrize("downloads", [1, 3])
def test_never_more_than_downloads_are_on_their_way_and_the_order_is_that_of_time(
    exchange: Exchange, answers: BinanceArchiveAnswers, downloads: int
) -> None:
    answers.delay = 0.01
    span = span_of("2020-01-02", "2020-01-18")
    blocks = fetch(exchange, span, downloads=downloads)
    assert answers.peak == downloads
    assert_same(candles_in(blocks), HELD.slice(*span))
    assert [block.span[0] for block in blocks] == list(range(*span, DAY))
    assert downloading() == []


def test_no_more_files_are_fetched_ahead_than_downloads(exchange: Exchange) -> None:
    blocks = source(exchange, downloads=2).blocks(HOUR, span_of("2020-01-02", "2020-01-30"))
    next(blocks)
    time.sleep(0.3)
    assert asked(exchange) == ["2020-01-02", "2020-01-03", "2020-01-04"]
    blocks.close()  # type: ignore[attr-defined]  # every generator has it


def test_closing_early_ends_downloads_and_waits_at_once(exchange: Exchange) -> None:
    exchange.faults.extend([None, None, *[ex.too_many_requests("60")] * 4])
    blocks = source(exchange, downloads=1).blocks(HOUR, HELD.span)
    next(blocks)
    time.sleep(0.1)
    assert len(downloading()) == 1
    began = time.monotonic()
    blocks.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 30  # not a minute
    assert downloading() == []


def test_blocks_that_were_taken_do_not_stay_in_memory(exchange: Exchange) -> None:
    span = span_of("2020-01-02", "2020-01-08")
    taken: list[weakref.ref[Block]] = []
    alive: list[int] = []
    for block in source(exchange, downloads=4).blocks(HOUR, span):
        taken.append(weakref.ref(block))
        del block
        gc.collect()
        alive.append(sum(ref() is not None for ref in taken))
    assert alive == [1] * 6  # the one that is held here; those still on their way were not taken


def test_a_ban_ends_all_downloads_at_once_and_names_the_instant(exchange: Exchange) -> None:
    exchange.faults.extend([None, None, *[ex.too_many_requests("172800", 418)] * 4])
    blocks = source(exchange, downloads=4, requests_per_second=50).blocks(HOUR, HELD.span)
    began = time.monotonic()
    with pytest.raises(
        SourceError, match=r"HTTP 418 .*asked again no earlier than 20\d\d-"
    ) as caught:
        list(blocks)
    assert time.monotonic() - began < 30
    until = parse_instant(re.findall(r"no earlier than (\S+Z)", str(caught.value))[0])
    assert until == pytest.approx(time.time() + 172_800, abs=10)
    assert len(exchange.requests) <= 2 + 4  # who was on the way may be told the same
    assert downloading() == []


def test_requests_of_all_downloads_keep_their_distance_together(exchange: Exchange) -> None:
    fetch(exchange, span_of("2020-01-02", "2020-01-05"), requests_per_second=20.0, downloads=3)
    assert len(exchange.requests) == 6
    assert sum(exchange.waits) >= 0.2  # 0.25 but for the time a request takes to arrive


def test_a_service_that_is_down_is_told_in_one_line_for_all_downloads_and_attempts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as nobody:  # bound, but not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        archive = BinanceArchive(base_url=url, attempts=3, retry_wait=0.05)
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(SourceError, match="gave up after 3 attempts"),
        ):
            list(archive.blocks(HOUR, span_of("2020-01-01", "2020-01-11")))
    [line] = caplog.messages
    assert "Connection refused; trying again in " in line


@pytest.mark.parametrize("status", [403, 451])
def test_a_lasting_refusal_is_asked_for_no_more_than_once_a_download(status: int) -> None:
    refusal = ex.Reply.json(status, {"msg": "restricted"})
    with (
        Exchange(lambda request: refusal) as server,
        pytest.raises(SourceError, match=f"refused with HTTP {status} "),
    ):
        fetch(server, span_of("2020-01-01", "2020-01-31"), downloads=2)
    paths = [request.path for request in server.requests]
    assert 1 <= len(paths) == len(set(paths)) <= 3


@pytest.mark.parametrize("fault", [ex.Silence(60.0), ex.SLOW_HEADER], ids=["silent", "trickling"])
def test_a_ctrl_c_ends_a_download_that_stalls_at_once_whoever_handles_the_signal(
    exchange: Exchange, fault: Fault
) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    exchange.faults.extend([fault] * 9)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.siginterrupt(signal.SIGALRM, False)  # as polars does: waits for locks go on after it
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            fetch(exchange, span_of("2020-01-01", "2020-01-11"), timeout=30.0)
        assert time.monotonic() - began < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert downloading() == []
