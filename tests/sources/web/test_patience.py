"""``retry``: what is asked again and when, what is said about it, and what it leaves alone."""

import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import (
    Notices,
    PassingError,
    check_refusal,
    check_status,
    read_retry_after,
    retry,
)

BUSY = PassingError("it is busy", "run it again later")


def failing(times: int, failure: BaseException = BUSY) -> Callable[[], str]:
    """Something that fails so many times, and then answers."""
    left = iter(range(times))

    def ask() -> str:
        if next(left, None) is not None:
            raise failure
        return "answer"

    return ask


def refuse_to_wait(seconds: float) -> None:
    pytest.fail(f"waited for {seconds} s")


def manners(attempts: int = 4, retry_wait: float = 1.0) -> Manners:
    return Manners(None, None, attempts=attempts, retry_wait=retry_wait)


# --- how often, and how long in between ---------------------------------------------------------


def test_waits_double_and_have_jitter_of_one_more_first_wait_at_most() -> None:
    waits: list[float] = []
    assert retry(failing(9), "it", manners(10, 4.0), waits.append) == "answer"
    for wait, least in zip(waits, [4, 8, 16, 32, 60, 60, 60, 60, 60], strict=True):
        assert least <= wait <= least + 4
    assert len(set(waits)) > 5


def test_waits_stay_bounded_over_thousands_of_attempts() -> None:
    waits: list[float] = []
    retry(failing(3000), "it", manners(3001, 0.5), waits.append)
    assert max(waits) <= 60.5
    assert len(waits) == 3000


@pytest.mark.parametrize("named", [0.5, 3600.0])
def test_a_wait_that_the_service_names_goes_before_the_usual_one(named: float) -> None:
    waits: list[float] = []
    retry(failing(2, PassingError("busy", "", named)), "it", manners(), waits.append)
    assert waits == [named, named]


def test_without_a_way_to_sleep_of_its_own_it_sleeps() -> None:
    began = time.monotonic()
    retry(failing(1, PassingError("busy", "", 0.2)), "it", manners())
    assert 0.2 <= time.monotonic() - began < 10


@pytest.mark.parametrize(("attempts", "text"), [(1, "1 attempt"), (3, "3 attempts")])
def test_after_the_last_attempt_comes_one_error_with_the_problem_and_the_remedy(
    attempts: int, text: str
) -> None:
    waits: list[float] = []
    with pytest.raises(SourceError) as caught:
        retry(failing(99), "the page", manners(attempts), waits.append)
    assert str(caught.value) == f"the page: it is busy (gave up after {text}): run it again later"
    assert caught.value.__cause__ is BUSY
    assert len(waits) == attempts - 1


def test_whatever_else_goes_wrong_is_not_asked_again() -> None:
    for failure in (SourceError("no such product"), KeyError("x"), KeyboardInterrupt()):
        with pytest.raises(type(failure)):
            retry(failing(1, failure), "it", manners(), refuse_to_wait)


def test_a_wait_of_more_than_an_hour_is_not_waited_for_whoever_asks() -> None:
    ban = PassingError("HTTP 418", "", 3601.0)
    began = time.time()
    with pytest.raises(SourceError) as caught:
        retry(failing(1, ban), "kraken BTC/USD", manners(), refuse_to_wait)
    start, until, end = str(caught.value).partition(ban.until)
    assert start == (
        "kraken BTC/USD: HTTP 418: the service wants to be asked again no earlier than "
    )
    assert end == ": run it again then, with a lower `source.requests_per_second`"
    assert began + 3590 <= parse_instant(until) <= began + 3700


# --- what is said -------------------------------------------------------------------------------


def test_each_wait_is_one_line_that_names_attempt_cause_and_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        retry(failing(2, PassingError("busy", "", 0.25)), "it", manners(), lambda _: None)
    assert [record.name for record in caplog.records] == ["btc_datamodule.sources.web.patience"] * 2
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("it: busy; trying again in 0.2 s, at 20")
    end = "Z, as the service asks (attempt 1 of 4 failed; more of the same is not told)"
    assert first.endswith(end)
    assert "(attempt 2 of 4 failed; " in second


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage().split('; ')[0]}" for record in caplog.records]


def test_trouble_is_told_once_until_it_is_another_or_has_passed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notices = Notices()
    for name, problem in (("a", "lost: 1"), ("b", "lost: 2"), ("c", "torn"), ("d", "lost: 3")):
        with caplog.at_level(logging.DEBUG), suppress(SourceError):
            times = 99 if name != "c" else 1
            trouble = failing(times, PassingError(problem, ""))
            retry(trouble, name, manners(3), lambda _: None, notices)
    assert levels(caplog) == [
        *("WARNING a: lost: 1", "DEBUG a: lost: 1", "DEBUG b: lost: 2", "DEBUG b: lost: 2"),
        "WARNING c: torn",  # and then an answer
        *("WARNING d: lost: 3", "DEBUG d: lost: 3"),
    ]


def test_a_wait_until_another_instant_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    waits = iter([PassingError("busy", "", wait) for wait in (60.0, 600.0)])

    def ask() -> str:
        for failure in waits:
            raise failure
        return "answer"

    with caplog.at_level(logging.WARNING):
        retry(ask, "it", manners(), lambda _: None)
    assert levels(caplog) == ["WARNING it: busy"] * 2


def test_what_others_wrote_is_escaped_and_cut_in_the_line_and_in_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hostile = PassingError(f"HTTP 500 \x1b]0;x\x07\r\u202e{'long' * 99}", "wait\x9b")
    with caplog.at_level(logging.WARNING), pytest.raises(SourceError) as caught:
        retry(failing(9, hostile), "it\x1b[2J", manners(2), lambda _: None)
    [line] = caplog.messages
    assert line.startswith(r"it\x1b[2J: HTTP 500 \x1b]0;x\x07\r\u202elonglong")
    assert len(line) < 330
    assert line.isprintable()
    assert str(caught.value).isprintable()


def test_using_it_changes_no_logger_of_anyone() -> None:
    """No filter, handler or level on any logger, by import or by use."""
    code = (
        "import logging\n"
        "import btc_datamodule.sources.web.client, btc_datamodule.sources.ccxt.client\n"
        "from btc_datamodule.sources.web import patience\n"
        "from btc_datamodule.sources.web.manners import Manners\n"
        "trouble = iter([patience.PassingError('busy', '')])\n"
        "def ask():\n"
        "    for error in trouble: raise error\n"
        "patience.retry(ask, 'it', Manners(None, None, retry_wait=0.0))\n"
        "known = logging.root.manager.loggerDict.values()\n"
        "logs = [log for log in known if isinstance(log, logging.Logger)]\n"
        "assert any(log.name.endswith('patience') for log in logs)\n"
        "print([log.name for log in logs if log.filters or log.handlers or log.level])\n"
        "print(logging.root.filters, logging.root.handlers)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n[] []\n"


# --- what a status says -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 304, 400, 403, 404, 417])
def test_other_statuses_are_answers(status: int) -> None:
    check_status(status, "", {"Retry-After": "7"}, "url")


@pytest.mark.parametrize("status", [200, 304, 400, 404, 429, 500])
def test_only_a_service_that_does_not_serve_us_is_a_refusal(status: int) -> None:
    check_refusal(status, "Oh", b"words", "url")


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(403, "a firewall .* does not serve this address"), (451, "does not serve this location")],
)
def test_a_refusal_quotes_the_service_and_says_what_can_be_set(status: int, meaning: str) -> None:
    with pytest.raises(SourceError) as caught:
        check_refusal(status, "Oh", b"not\nhere" * 90, "url", "this one")
    said = str(caught.value)
    assert re.match(rf"url: refused with HTTP {status} Oh, 'not here", said)
    assert re.search(rf"{meaning}.*: set another `source`, or set `source.base_url` to this", said)
    assert len(said) < 400


@pytest.mark.parametrize(
    ("status", "advice"),
    [(418, "fewer requests"), (429, "fewer requests"), (500, "in trouble"), (503, "in trouble")],
)
def test_a_status_that_may_pass_brings_the_wait_that_is_asked_for(status: int, advice: str) -> None:
    with pytest.raises(PassingError) as caught:
        check_status(status, "Oh", {"Retry-After": "7"}, "url")
    assert caught.value.problem == f"HTTP {status} Oh"
    assert advice in caught.value.advice
    assert caught.value.wait == 7.0


def test_a_date_to_come_back_at_is_counted_from_the_date_of_the_answer() -> None:
    then = datetime(2020, 1, 1, tzinfo=UTC)
    dates = [format_datetime(t, usegmt=True) for t in (then, then + timedelta(seconds=90))]
    with pytest.raises(PassingError) as caught:
        check_status(429, "", {"Date": dates[0], "Retry-After": dates[1]}, "url")
    assert caught.value.wait == 90.0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_with_where_it_leads(status: int) -> None:
    with pytest.raises(SourceError, match=rf"^url: HTTP {status} sends us on to 'elsewhere', "):
        check_status(status, "", {"Location": "elsewhere"}, "url")
    check_status(status, "", {}, "url")  # leads nowhere: the caller's business


NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("3600", 3600.0),
        ("604800", 604_800.0),
        ("inf", None),
        ("Wed, 01 May 2024 12:00:30 GMT", 30.0),
        ("Wed, 01 May 2024 12:00:30 -0000", 30.0),
        ("Thu, 02 May 2024 12:00:30 GMT", 86_430.0),
        ("Wed, 01 May 2024 11:00:00 GMT", None),
        ("0", None),
        ("-5", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_reads_seconds_and_dates_to_come(
    text: str | None, seconds: float | None
) -> None:
    assert read_retry_after(text, now=NOW) == seconds


@given(st.text())
def test_retry_after_reads_any_text_as_a_finite_wait_or_none(text: str) -> None:
    seconds = read_retry_after(text)
    assert seconds is None or 0 < seconds < float("inf")
