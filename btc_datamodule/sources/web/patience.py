"""``retry``: the one place where something that failed is asked for again.

Owns what counts as a failure that may pass (``PassingError``), what an HTTP status says about it
(``check_status``), and how long is waited: as long as the service asks in ``Retry-After``, or else
exponentially longer each time, up to ``MAX_BACKOFF``, with jitter. Trouble is logged in one line
when it begins, however many requests meet it (``Notices``). After the last attempt comes one
``SourceError``; it comes at once where the service wants to be left alone for more than
``Manners.longest_wait``, and names the instant from which it may be asked.

Importing this module is cheap: tenacity, which turns the loop, loads with the first ``retry``.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.escaping import escape, shorten
from btc_datamodule.sources.web.manners import Manners

if TYPE_CHECKING:
    from tenacity import RetryCallState

MAX_BACKOFF = 60.0
"""Seconds to which the wait between attempts grows when the service names none."""

REFUSALS = {
    403: "a firewall of the service, or one on the way, does not serve this address, perhaps for "
    "its location",
    451: "the service does not serve this location",
}
"""HTTP statuses that refuse whoever asks from here, and what they mean."""

REDIRECTS = (301, 302, 303, 307, 308)
"""HTTP statuses that send the client to the URL in ``Location``."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class PassingError(Exception):
    """An attempt that failed in a way that may pass.

    Attributes:
        problem: what happened, for the log and the error after the last attempt; escaped.
        advice: what to do if it does not pass.
        wait: seconds that the service asked for; None for the usual backoff.
    """

    def __init__(self, problem: str, advice: str, wait: float | None = None) -> None:
        super().__init__(escape(problem))
        self.problem = escape(problem)
        self.advice = advice
        self.wait = wait
        self.until = "" if wait is None else format_instant(math.ceil(time.time() + wait))

    def is_ban(self, manners: Manners) -> bool:
        """Whether the service wants to be left alone for longer than anyone waits."""
        return self.wait is not None and self.wait > manners.longest_wait

    @property
    def ban(self) -> str:
        """The words for an error about a ban: who wants what, and from when it may be asked."""
        return (
            f"{self.problem}: the service wants to be asked again no earlier than {self.until}: "
            "run it again then, with a lower `source.requests_per_second`"
        )


class Notices:
    """What a person has been told of a service's trouble, since it last answered.

    Several requests that meet the same trouble, at once or one after the other, tell it once.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._turn = threading.Lock()

    def is_news(self, failure: PassingError) -> bool:
        """Whether to tell of a failure: it is of another kind, or a wait until another instant."""
        kind = f"{failure.problem.partition(':')[0]} {failure.until}"
        with self._turn:
            known = kind in self._told
            self._told.add(kind)
        return not known

    def forget(self) -> None:
        """Take note that the service has answered."""
        with self._turn:
            self._told.clear()


def retry(
    ask: Callable[[], _T],
    what: str,
    manners: Manners,
    sleep: Callable[[float], None] | None = None,
    notices: Notices | None = None,
) -> _T:
    """Call ``ask`` until it succeeds, ``manners.attempts`` times at most, and return its answer.

    Args:
        ask: makes one attempt; raises ``PassingError`` where another may succeed. Any other
            exception goes to the caller at once.
        what: what is asked for: the log lines and the error begin with it.
        manners: ``attempts``, ``retry_wait`` and ``longest_wait`` of the service.
        sleep: waits for a number of seconds, or less if the caller has been stopped; by default
            ``time.sleep``.
        notices: those of all requests to the service; by default of this one alone.

    Raises:
        SourceError: after the last attempt, or at once if the service asks for a longer wait than
            ``manners.longest_wait``.
    """
    import tenacity

    grown = tenacity.wait_exponential(manners.retry_wait, max=MAX_BACKOFF)
    backoff = grown + tenacity.wait_random(0, manners.retry_wait)

    def choose_wait(state: "RetryCallState") -> float:
        named = _get_failure(state).wait
        return backoff(state) if named is None else named

    def is_last(state: "RetryCallState") -> bool:
        return state.attempt_number >= manners.attempts or _get_failure(state).is_ban(manners)

    told = notices or Notices()

    def log_wait(state: "RetryCallState") -> None:
        failure = _get_failure(state)
        until = f", at {failure.until}, as the service asks" if failure.until else ""
        _log.log(
            logging.WARNING if told.is_news(failure) else logging.DEBUG,
            "%s: %s; trying again in %.1f s%s (attempt %d of %d failed; more of the same is not "
            "told)",
            *(escape(what), shorten(failure.problem), state.upcoming_sleep, until),
            *(state.attempt_number, manners.attempts),
        )

    def give_up(state: "RetryCallState") -> _T:
        failure, tried = _get_failure(state), state.attempt_number
        if failure.is_ban(manners):
            raise SourceError(f"{what}: {failure.ban}") from failure
        raise SourceError(
            f"{what}: {failure.problem} (gave up after {tried} "
            f"attempt{'s' if tried > 1 else ''}): {failure.advice}"
        ) from failure

    answer = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(PassingError),
        wait=choose_wait,
        stop=is_last,
        sleep=sleep or time.sleep,
        before_sleep=log_wait,
        retry_error_callback=give_up,
    )(ask)
    told.forget()
    return answer


def _get_failure(state: "RetryCallState") -> PassingError:
    """Return the failure of the attempt that has just ended, which is one that may pass."""
    failure = None if state.outcome is None else state.outcome.exception()
    assert isinstance(failure, PassingError)
    return failure


def check_status(status: int, reason: str, headers: Mapping[str, str], where: str) -> None:
    """Raise for the HTTP statuses that are no answer; every other one is the caller's business.

    Args:
        status: of HTTP.
        reason: the words after it.
        headers: of the answer, found whatever the case of their letters.
        where: the URL, for errors.

    Raises:
        PassingError: for 418, 429 and 5xx, with the wait that ``Retry-After`` asks for.
        SourceError: for a redirect, which is not followed.
    """
    if status in (418, 429) or status >= 500:
        raise PassingError(
            f"HTTP {status} {shorten(reason, 80)}".rstrip(),
            "the service is in trouble: run it again later"
            if status >= 500
            else "the service asks for fewer requests: run it again later, with a lower "
            "`source.requests_per_second`",
            wait=read_retry_after(headers.get("Retry-After"), read_date(headers)),
        )
    if status in REDIRECTS and "Location" in headers:
        raise SourceError(
            f"{where}: HTTP {status} sends us on to {headers['Location'][:200]!r}, which is not "
            "followed: set `source.base_url` if the service has moved"
        )


def check_refusal(
    status: int, reason: str, body: bytes, where: str, mirror: str = "a mirror that does"
) -> None:
    """Raise ``SourceError`` for the HTTP statuses of a service that does not serve us at all.

    They do not pass, and nothing that is asked in another way changes them.

    Args:
        status: of HTTP.
        reason: the words after it.
        body: what the service says about it.
        where: the URL, for the error.
        mirror: what else ``source.base_url`` may be set to.
    """
    if status not in REFUSALS:
        return
    told = f"{status} {shorten(reason, 80)}".rstrip()
    said = shorten(body[:600].decode("utf-8", "replace"), 160)
    raise SourceError(
        f"{where}: refused with HTTP {told}, {said!r}: "
        f"{REFUSALS[status]}: set another `source`, or set `source.base_url` to {mirror}"
    )


def read_retry_after(text: str | None, now: datetime | None = None) -> float | None:
    """Read the seconds, above 0, that a ``Retry-After`` header asks for.

    Args:
        text: a number of seconds, an HTTP date, anything else, or None where there is no header.
        now: the time to count from if it is a date; by default the current one.

    Returns:
        None if it names no time to come: the usual backoff then applies. A server that says 0
        while it refuses would otherwise be asked again without any pause.
    """
    try:
        seconds = float(text or "")
    except ValueError:
        try:
            seconds = (_parse_http_date(text) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, OverflowError):
            return None
    return seconds if 0 < seconds < math.inf else None


def read_date(headers: Mapping[str, str]) -> datetime:
    """Read from the ``Date`` header when an answer was made; now, where there is no such date."""
    try:
        return _parse_http_date(headers.get("Date"))
    except (ValueError, OverflowError):
        return datetime.now(UTC)


def _parse_http_date(text: str | None) -> datetime:
    """Parse an HTTP date, in GMT whether it says so or not; ``ValueError`` if it is no date."""
    then = parsedate_to_datetime(text or "")
    return then if then.tzinfo else then.replace(tzinfo=UTC)
