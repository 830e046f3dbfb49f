"""``PoliteClient``: how the package asks a web service, and how it takes no for an answer.

Says who it is (User-Agent), asks no faster than its ``Manners`` allow, gives up on a silent
connection, reads no more than a bounded body, and tries again by the rules of ``patience`` where
trying again can help. What an answer means is the caller's business.

- Tried again: time-outs, refused and cut connections, bodies cut short or trickling, HTTP 418, 429
  and 5xx, and a page that is not JSON where JSON is due.
- Not asked again: a service that wants to be left alone for longer than ``patience`` waits. The
  client then asks nothing more.
- An error at once: HTTP 403 and 451, of a service that does not serve this address or location.
- Given to the caller: every other status, 2xx or 4xx.
- Refused: plain HTTP to another machine, redirects, bodies over the limit, bad certificates.
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
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import urlencode

from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import (
    PassingError,
    check_refusal,
    check_status,
    read_date,
    retry,
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


class Answer(NamedTuple):
    """An answer of a service, read to its end.

    Attributes:
        status: of HTTP.
        body: the bytes of the whole body, unpacked.
        made: epoch seconds at which the answer was made by the service's clock, whole seconds
            rounded down; by the clock of this machine where the service does not say.
    """

    status: int
    body: bytes
    made: float


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
        self._client = _open_client(manners)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and let the connections go."""
        self.stop()
        self._client.close()

    def stop(self) -> None:
        """Make every thread that waits or reads in this client give up; ask nothing any more.

        A thread that the service keeps without a byte notices after ``timeout`` seconds.
        """
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond ``stop``."""
        self._stopped.wait(seconds)

    def get(
        self, path: str, params: Mapping[str, str | int] | None = None, max_body: int = MAX_BODY
    ) -> Answer:
        """Ask ``GET base_url/path?params``, as often as it takes, and return the answer.

        Raises:
            SourceError: if no answer came, it is a redirect, larger than ``max_body`` bytes, or of
                a service that does not serve us.
        """
        return self._persist(self._make_url(path, params), max_body, lambda answer: answer)

    def get_json(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> tuple[Answer, Any]:
        """Ask ``GET base_url/path?params``; return the answer, and its JSON parsed.

        Raises:
            SourceError: if no answer came, it is a redirect or larger than ``MAX_BODY`` bytes, or
                it is still not JSON at the last attempt.
        """
        url = self._make_url(path, params)
        return self._persist(url, MAX_BODY, lambda answer: _parse_json(answer, url))

    def _make_url(self, path: str, params: Mapping[str, str | int] | None) -> str:
        query = f"?{urlencode(params, safe=':')}" if params else ""
        return f"{self._manners.join(path)}{query}"

    def _persist(self, url: str, max_body: int, read: Callable[[Answer], _T]) -> _T:
        def ask() -> _T:
            try:
                return read(self._ask_once(url, max_body))
            except PassingError as failure:
                self._respect(failure)
                raise

        return retry(ask, url, self._manners, self.pause)

    def _respect(self, failure: PassingError) -> None:
        """Make a wait that the service names hold for all threads; end them all if it is a ban."""
        if failure.is_ban(self._manners):
            self._ending = failure.ban
            self.stop()
        elif failure.wait is not None:
            with self._turn:
                self._free_at = max(self._free_at, time.monotonic() + failure.wait)

    def _ask_once(self, url: str, max_body: int) -> Answer:
        """Make one request, when its turn has come, and read the answer to its end.

        Raises:
            PassingError: if the attempt failed in a way that may pass.
            SourceError: if another attempt would fail too, or the client was stopped.
        """
        import httpx

        self._wait_for_turn()
        self._check_going(url)
        try:
            with self._client.stream("GET", url) as response:
                made = read_date(response.headers).timestamp()
                check_status(response.status_code, response.reason_phrase, response.headers, url)
                body, began = bytearray(), time.monotonic()
                for chunk in response.iter_bytes():
                    body += chunk
                    self._check_going(url)
                    if time.monotonic() - began > self._manners.timeout + len(body) / MIN_RATE:
                        raise PassingError(
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
            raise _translate_error(error, url) from error
        except (httpx.InvalidURL, UnicodeError) as error:  # a host such as "a..b", met on the way
            raise SourceError(
                f"{url}: no such host can be asked ({_join_lines(str(error))}): check "
                "`source.base_url`"
            ) from error
        check_refusal(response.status_code, response.reason_phrase, bytes(body), url)
        return Answer(response.status_code, bytes(body), made)

    def _wait_for_turn(self) -> None:
        """Wait until a request may start; return at once if the client was stopped."""
        while not self._stopped.is_set():
            with self._turn:
                wait = self._free_at - time.monotonic()
                if wait <= 0:
                    self._free_at = time.monotonic() + self._manners.spacing
                    return
            self.pause(wait)  # without the lock: another thread may be told a longer wait

    def _check_going(self, url: str) -> None:
        """Raise ``SourceError`` if the client was stopped."""
        if self._stopped.is_set():
            raise SourceError(f"{url}: {self._ending}")


def _open_client(manners: Manners) -> "httpx.Client":
    import httpx

    # Proxies of the environment lead outwards; none of them reaches this machine's own loopback,
    # and NO_PROXY often forgets to say so.
    outwards = not manners.is_local
    try:
        return httpx.Client(
            headers={"User-Agent": f"btc-datamodule/{_find_version()}"},
            timeout=manners.timeout,
            follow_redirects=False,
            verify=_load_certificates(outwards),
            trust_env=outwards,
        )
    except OSError as error:
        raise ConfigError(
            "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: "
            f"{_join_lines(str(error))}"
        ) from None
    except ImportError as error:
        raise ConfigError(f"{_PROXIES}: {_join_lines(str(error))}") from None
    except (ValueError, httpx.InvalidURL):  # neither shown nor linked: they may hold a password
        raise ConfigError(
            f"{_PROXIES}: each must be a URL such as http://host:port (special letters of a "
            "password written as %40 and the like)"
        ) from None


@cache  # reading the certificate store takes 40 ms, and there is a client for each missing span
def _load_certificates(from_environment: bool) -> "ssl.SSLContext":
    import httpx

    return httpx.create_ssl_context(trust_env=from_environment)


def _find_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("btc-datamodule")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"


def _translate_error(error: "httpx.RequestError", url: str) -> Exception:
    """Return the error of ours for a request that ended without a whole answer."""
    import ssl

    import httpx

    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):  # the next attempt will see the same
            return SourceError(
                f"{url}: the certificate cannot be trusted ({_join_lines(link.verify_message)}): "
                "if a proxy of yours opens TLS, name its certificates in SSL_CERT_FILE"
            )
        link = link.__cause__ or link.__context__
    problem = f"{type(error).__name__}: {_join_lines(str(error))}"
    if isinstance(error, httpx.TimeoutException):
        return PassingError(problem, "check the network, or set a longer `source.timeout`")
    return PassingError(problem, "check the network, the proxy settings and `source.base_url`")


def _parse_json(answer: Answer, url: str) -> tuple[Answer, Any]:
    try:
        return answer, json.loads(answer.body)
    except (ValueError, RecursionError):  # RecursionError: brackets nested without end
        begins = _join_lines(answer.body[:300].decode("utf-8", "replace"))[:80]
        problem = f"HTTP {answer.status}, but not JSON; it begins {begins!r}"
        advice = "is something between here and the service (a login page, a firewall)?"
        if answer.status >= 400:
            raise SourceError(f"{url}: {problem}: {advice}") from None
        raise PassingError(problem, advice) from None


def _join_lines(text: str) -> str:
    return " ".join(text.split())
