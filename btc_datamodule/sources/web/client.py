"""``PoliteClient``: how the package asks a web service, and how it takes no for an answer.

Says who it is (User-Agent), asks no faster than its ``Manners`` allow, ends each request by its
deadline and each body at its limit (``connection``), and tries again by the rules of ``patience``
where trying again can help. What an answer means is the caller's business.

- Tried again: time-outs, refused and cut connections, bodies cut short or trickling, HTTP 418, 429
  and 5xx, and a page that is not JSON where JSON is due.
- Not asked again: a service that wants to be left alone for longer than ``patience`` waits. The
  client then asks nothing more.
- An error at once: HTTP 403 and 451, of a service that does not serve this address or location.
- Given to the caller: every other status, 2xx or 4xx.
- Refused: plain HTTP to another machine, redirects, bodies over the limit or packed in a way that
  was not asked for, bad certificates.
- Several threads may ask through one client: they share its pace, and when the service names a
  wait all of them keep it. ``stop`` ends their waits at once.
- Never told: what may hold a password, which is a proxy's URL and a base URL with an "@" in it.

Importing this module is cheap: httpx loads with the first client.
"""

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from btc_datamodule.errors import SourceError
from btc_datamodule.escaping import shorten
from btc_datamodule.sources.web.connection import Answer, Connection
from btc_datamodule.sources.web.deadline import wait_for
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import Notices, PassingError, check_refusal, retry

MAX_BODY = 16 * 2**20
"""Bytes of an answer, unless the caller expects more: a page of candles is under 100 kB."""

_T = TypeVar("_T")


class PoliteClient:
    """GET requests to one service, spaced and retried. A context manager.

    Args:
        manners: where the service is, and how it is asked.

    Raises:
        ConfigError: if the certificates or the proxy that the environment names cannot be used.
    """

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._free_at = -math.inf
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._ending = "not read to its end, the client was stopped"
        self._notices = Notices()
        self._connection = Connection(manners)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and let the connections go."""
        self.stop()
        self._connection.close()

    def stop(self) -> None:
        """Make every thread that waits or reads in this client give up; ask nothing any more.

        A thread that has just begun to connect notices after ``timeout`` seconds.
        """
        self._stopped.set()
        self._connection.break_off()

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond ``stop``."""
        wait_for(self._stopped, seconds)

    def get(
        self, path: str, params: Mapping[str, str | int] | None = None, max_body: int = MAX_BODY
    ) -> Answer:
        """Ask ``GET base_url/path?params``, as often as it takes, and return the answer.

        Raises:
            SourceError: if no answer came, it is a redirect, larger than ``max_body`` bytes, or of
                a service that does not serve us.
        """
        return self._persist(self._make_url(path, params), lambda answer: answer, max_body)

    def get_json(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> tuple[Answer, Any]:
        """Ask ``GET base_url/path?params``; return the answer, and its JSON parsed.

        Raises:
            SourceError: if no answer came, it is a redirect or larger than ``MAX_BODY`` bytes, or
                it is still not JSON at the last attempt.
        """
        url = self._make_url(path, params)
        return self._persist(url, lambda answer: _parse_json(answer, url), MAX_BODY, page=True)

    def _make_url(self, path: str, params: Mapping[str, str | int] | None) -> str:
        query = f"?{urlencode(params, safe=':')}" if params else ""
        return f"{self._manners.join(path)}{query}"

    def _persist(
        self, url: str, read: Callable[[Answer], _T], max_body: int, page: bool = False
    ) -> _T:
        def ask() -> _T:
            try:
                return read(self._ask_once(url, max_body, page))
            except PassingError as failure:
                self._respect(failure)
                raise

        return retry(ask, url, self._manners, self.pause, self._notices)

    def _respect(self, failure: PassingError) -> None:
        """Make a wait that the service names hold for all threads; end them all if it is a ban."""
        if failure.is_ban(self._manners):
            self._ending = failure.ban
            self.stop()
        elif failure.wait is not None:
            with self._turn:
                self._free_at = max(self._free_at, time.monotonic() + failure.wait)

    def _ask_once(self, url: str, max_body: int, page: bool) -> Answer:
        """Make one request, when its turn has come, and read the answer to its end.

        Raises:
            PassingError: if the attempt failed in a way that may pass.
            SourceError: if another attempt would fail too, or the client was stopped.
        """

        def check_going() -> None:
            if self._stopped.is_set():
                raise SourceError(f"{url}: {self._ending}")

        self._wait_for_turn()
        check_going()
        answer = self._connection.ask(url, max_body, page=page, check_going=check_going)
        check_refusal(answer.status, answer.reason, answer.body, url)
        return answer

    def _wait_for_turn(self) -> None:
        """Wait until a request may start; return at once if the client was stopped."""
        while not self._stopped.is_set():
            with self._turn:
                wait = self._free_at - time.monotonic()
                if wait <= 0:
                    self._free_at = time.monotonic() + self._manners.spacing
                    return
            self.pause(wait)  # without the lock: another thread may be told a longer wait


def _parse_json(answer: Answer, url: str) -> tuple[Answer, Any]:
    try:
        return answer, json.loads(answer.body)
    except (ValueError, RecursionError):  # RecursionError: brackets nested without end
        begins = shorten(answer.body[:300].decode("utf-8", "replace"), 80)
        problem = f"HTTP {answer.status}, but not JSON; it begins {begins!r}"
        advice = "is something between here and the service (a login page, a firewall)?"
        if answer.status >= 400:
            raise SourceError(f"{url}: {problem}: {advice}") from None
        raise PassingError(problem, advice) from None
