"""``PoliteClient``: how the package asks a web service, and how it takes no for an answer.

Owns manners and patience: it says who it is (User-Agent), asks no faster than it was told to,
gives up on a silent connection, reads no more than a bounded body, and tries again, later and
later, where trying again can help. What an answer means is the caller's business.

- Tried again: time-outs, refused and cut connections, bodies cut short or trickling, HTTP 418, 429
  and 5xx, and a page that is not JSON where JSON is due. The wait is the ``Retry-After`` of the
  answer, or else grows exponentially with jitter. After the last attempt comes one
  ``SourceError``.
- Not asked again: a service that wants to be left alone for more than ``MAX_RETRY_AFTER``. The
  error names the instant from which it may be asked, and the client asks nothing more.
- Given to the caller: every other status, 2xx or 4xx.
- Refused: plain HTTP to another machine, redirects, bodies over the limit, bad certificates.
- Several threads may ask through one client: they share its pace, and when the service names a
  wait all of them keep it. ``stop`` ends their waits at once.
- Never told: what may hold a password, which is a proxy's URL and a base URL with an "@" in it.

Importing this module is cheap: httpx and stamina load with the first client.
"""

import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import urlencode

from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.sources.web.manners import _host, _is_loopback, check_manners
from btc_datamodule.sources.web.patience import (
    MAX_BACKOFF,
    MAX_RETRY_AFTER,
    _http_date,
    _instant_in,
    _patience,
    _UnansweredError,
    retry_after,
)

if TYPE_CHECKING:
    import ssl

    import httpx

MAX_BODY = 16 * 2**20
"""Bytes of an answer, unless the caller expects more: a page of candles is under 100 kB."""


MIN_RATE = 1000
"""Bytes a second under which an answer trickles; ``timeout`` seconds more are granted."""

_PROXIES = "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used"
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status: of HTTP.
        body: the whole of it, unpacked.
        made: epoch seconds at which it was made by the service's clock, whole seconds rounded
            down; by ours where the service does not say.
    """

    status: int
    body: bytes
    made: float


class PoliteClient:
    """GET requests to one service, spaced and retried. A context manager.

    Args:
        base_url: scheme, host and perhaps port and path; https, or http to this machine.
        requests_per_second: requests start at least ``1 / requests_per_second`` s apart.
        timeout: seconds to connect, and seconds of silence while reading.
        attempts: requests made before giving up on one answer, the first included.
        retry_wait: seconds before the first retry; doubles with each, up to ``MAX_BACKOFF``,
            plus a random part of at most ``retry_wait``.

    Raises:
        ConfigError: naming the argument that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        requests_per_second: float,
        timeout: float = 20.0,
        attempts: int = 8,
        retry_wait: float = 1.0,
    ) -> None:
        check_manners(base_url, requests_per_second, timeout, attempts, retry_wait)
        self._base_url = base_url.rstrip("/")
        self._spacing = 1 / requests_per_second
        self._timeout = timeout
        self._attempts = attempts
        self._retry_wait = retry_wait
        self._free_at = -math.inf
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._ending = "not read to its end, the client was stopped"
        self._client = _open_client(base_url, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    def stop(self) -> None:
        """Make every thread that waits or reads here give up; ask nothing from now on.

        A thread that the service keeps without a byte notices after ``timeout`` seconds.
        """
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond ``stop``."""
        self._stopped.wait(seconds)

    def get(
        self, path: str, params: Mapping[str, str | int] | None = None, max_body: int = MAX_BODY
    ) -> Answer:
        """The answer to ``GET base_url/path?params``.

        Raises:
            SourceError: if no answer came, or it is a redirect or larger than ``max_body`` bytes.
        """
        return self._persist(self._url(path, params), max_body, lambda answer: answer)

    def get_json(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> tuple[Answer, Any]:
        """The answer to ``GET base_url/path?params``, and its JSON parsed.

        Raises:
            SourceError: as ``get``, and if the answer is still not JSON at the last attempt.
        """
        url = self._url(path, params)
        return self._persist(url, MAX_BODY, lambda answer: _parse(answer, url))

    def _url(self, path: str, params: Mapping[str, str | int] | None) -> str:
        query = f"?{urlencode(params, safe=':')}" if params else ""
        return f"{self._base_url}/{path.lstrip('/')}{query}"

    def _persist(self, url: str, max_body: int, read: Callable[[Answer], _T]) -> _T:
        import stamina

        tries = stamina.retry_context(
            on=_patience,
            attempts=self._attempts,
            timeout=None,
            wait_initial=self._retry_wait,
            wait_max=MAX_BACKOFF,
        )
        try:
            for attempt in tries:
                with attempt:
                    try:
                        return read(self._once(url, max_body))
                    except _UnansweredError as failure:
                        self._respect(failure, url)
                        if attempt.num < self._attempts:
                            backoff = attempt.next_wait + random.uniform(0, self._retry_wait)
                            wait = backoff if failure.wait is None else failure.wait
                            _log.warning(
                                "%s: %s; trying again in %.1f s%s (attempt %d of %d failed)",
                                *(url, failure.problem, wait, failure.until),
                                *(attempt.num, self._attempts),
                            )
                            self.pause(wait)  # not stamina's sleep, which `stop` cannot end
                        raise
        except _UnansweredError as failure:
            raise SourceError(
                f"{url}: {failure.problem} (gave up after {self._attempts} "
                f"attempt{'s' if self._attempts > 1 else ''}): {failure.advice}"
            ) from failure
        raise AssertionError("retrying ends with an answer or an error")

    def _respect(self, failure: "_UnansweredError", url: str) -> None:
        """Make a wait that the service names hold for all threads; give up if it is too long."""
        if failure.wait is None:
            return
        if failure.wait > MAX_RETRY_AFTER:
            self._ending = (
                f"{failure.problem}: the service wants to be asked again no earlier than "
                f"{_instant_in(failure.wait)}: run it again then, with a lower "
                "`source.requests_per_second`"
            )
            self.stop()
            self._check_going(url)
        with self._turn:
            self._free_at = max(self._free_at, time.monotonic() + failure.wait)

    def _once(self, url: str, max_body: int) -> Answer:
        import httpx

        self._pace()
        self._check_going(url)
        try:
            with self._client.stream("GET", url) as response:
                made = _made(response)
                _check_status(response, url, made)
                body, began = bytearray(), time.monotonic()
                for chunk in response.iter_bytes():
                    body += chunk
                    self._check_going(url)
                    if time.monotonic() - began > self._timeout + len(body) / MIN_RATE:
                        raise _UnansweredError(
                            f"the answer trickles: {len(body):,} bytes in "
                            f"{time.monotonic() - began:.1f} s",
                            "check the network, or set a longer `source.timeout`",
                        )
                    if len(body) > max_body:
                        raise SourceError(
                            f"{url}: the answer is larger than {max_body:,} bytes, which no "
                            "answer of this service should be: check `source.base_url`"
                        )
        except httpx.RequestError as error:
            raise _network_failure(error, url) from error
        except (httpx.InvalidURL, UnicodeError) as error:  # a host such as "a..b", met on the way
            raise SourceError(
                f"{url}: no such host can be asked ({_one_line(str(error))}): check "
                "`source.base_url`"
            ) from error
        return Answer(response.status_code, bytes(body), made.timestamp())

    def _pace(self) -> None:
        while not self._stopped.is_set():
            with self._turn:
                wait = self._free_at - time.monotonic()
                if wait <= 0:
                    self._free_at = time.monotonic() + self._spacing
                    return
            self.pause(wait)  # without the lock: another thread may be told a longer wait

    def _check_going(self, url: str) -> None:
        if self._stopped.is_set():
            raise SourceError(f"{url}: {self._ending}")


def _made(response: "httpx.Response") -> datetime:
    """When an answer was made: what its ``Date`` says, or else now."""
    try:
        return _http_date(response.headers.get("Date"))
    except (ValueError, OverflowError):
        return datetime.now(UTC)


def _open_client(base_url: str, timeout: float) -> "httpx.Client":
    import httpx

    # Proxies of the environment lead outwards; none of them reaches this machine's own loopback,
    # and NO_PROXY often forgets to say so.
    outwards = not _is_loopback(_host(base_url))
    try:
        return httpx.Client(
            headers={"User-Agent": f"btc-datamodule/{_version()}"},
            timeout=timeout,
            follow_redirects=False,
            verify=_trusted_certificates(outwards),
            trust_env=outwards,
        )
    except OSError as error:
        raise ConfigError(
            "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: "
            f"{_one_line(str(error))}"
        ) from None
    except ImportError as error:
        raise ConfigError(f"{_PROXIES}: {_one_line(str(error))}") from None
    except (ValueError, httpx.InvalidURL):  # neither shown nor linked: they may hold a password
        raise ConfigError(
            f"{_PROXIES}: each must be a URL such as http://host:port (special letters of a "
            "password written as %40 and the like)"
        ) from None


@cache  # reading the certificate store takes 40 ms, and there is a client for each missing span
def _trusted_certificates(from_environment: bool) -> "ssl.SSLContext":
    import httpx

    return httpx.create_ssl_context(trust_env=from_environment)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("btc-datamodule")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"


def _check_status(response: "httpx.Response", url: str, now: datetime) -> None:
    """Raise for the statuses that are no answer: come back later, server errors, redirects."""
    status = response.status_code
    if status in (418, 429) or status >= 500:
        raise _UnansweredError(
            f"HTTP {status} {response.reason_phrase}".rstrip(),
            "the service is in trouble: run it again later"
            if status >= 500
            else "the service asks for fewer requests: run it again later, with a lower "
            "`source.requests_per_second`",
            wait=retry_after(response.headers.get("Retry-After"), now),
        )
    if response.has_redirect_location:
        elsewhere = response.headers["Location"][:200]
        raise SourceError(
            f"{url}: HTTP {status} sends us on to {elsewhere!r}, which is not followed: set "
            "`source.base_url` if the service has moved"
        )


def _network_failure(error: "httpx.RequestError", url: str) -> Exception:
    """What to raise for a request that ended without a whole answer."""
    import ssl

    import httpx

    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):  # the next attempt will see the same
            return SourceError(
                f"{url}: the certificate cannot be trusted ({_one_line(link.verify_message)}): "
                "if a proxy of yours opens TLS, name its certificates in SSL_CERT_FILE"
            )
        link = link.__cause__ or link.__context__
    problem = f"{type(error).__name__}: {_one_line(str(error))}"
    if isinstance(error, httpx.TimeoutException):
        return _UnansweredError(problem, "check the network, or set a longer `source.timeout`")
    return _UnansweredError(problem, "check the network, the proxy settings and `source.base_url`")


def _parse(answer: Answer, url: str) -> tuple[Answer, Any]:
    try:
        return answer, json.loads(answer.body)
    except (ValueError, RecursionError):  # RecursionError: brackets nested without end
        begins = _one_line(answer.body[:300].decode("utf-8", "replace"))[:80]
        problem = f"HTTP {answer.status}, but not JSON; it begins {begins!r}"
        advice = "is something between here and the service (a login page, a firewall)?"
        if answer.status >= 400:
            raise SourceError(f"{url}: {problem}: {advice}") from None
        raise _UnansweredError(problem, advice) from None


def _one_line(text: str) -> str:
    return " ".join(text.split())
