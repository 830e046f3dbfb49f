"""What may pass is tried again: what counts as that, and how long is waited before."""

import logging
import math
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from btc_datamodule.candles.timeline import format_instant

MAX_BACKOFF = 60.0
"""Seconds to which the wait between attempts grows when the server names none."""

MAX_RETRY_AFTER = 3600.0
"""Seconds waited at most when the server names the wait; asked for longer, the client gives up."""


def retry_after(text: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, above 0.

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
            seconds = (_http_date(text) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, OverflowError):
            return None
    return seconds if 0 < seconds < math.inf else None


def _http_date(text: str | None) -> datetime:
    """An HTTP date, which is in GMT whether it says so or not; ``ValueError`` if it is none."""
    then = parsedate_to_datetime(text or "")
    return then if then.tzinfo else then.replace(tzinfo=UTC)


def _instant_in(seconds: float) -> str:
    return format_instant(math.ceil(time.time() + seconds))


class _UnansweredError(Exception):
    """An attempt that failed in a way that may pass.

    Attributes:
        problem: what happened.
        advice: what to do if it does not pass.
        wait: seconds that the server asked for; None for the usual backoff.
    """

    def __init__(self, problem: str, advice: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice
        self.wait = wait
        self.until = "" if wait is None else f", at {_instant_in(wait)}, as the service asks"


def _patience(error: Exception) -> bool | float:
    """Tell stamina whether to try again, and that the wait is already over."""
    return 0.0 if isinstance(error, _UnansweredError) else False


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Whether a record of stamina's is about someone else's retries.

    Its own line reads "stamina.retry_scheduled" and nothing more; ours says what happened.
    """
    return _UnansweredError.__name__ not in str(getattr(record, "stamina.caused_by", ""))


logging.getLogger("stamina").addFilter(_is_not_ours)
