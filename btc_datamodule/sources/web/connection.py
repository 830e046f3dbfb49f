"""``Connection``: one request to a service at a time, each with an end.

What it promises of a request: it is over by its deadline (``deadline``), whatever comes; its
answer is read to its end, unpacked, and no larger than was allowed; whatever goes wrong is a
``PassingError`` if another attempt may mend it, or else a ``SourceError``. What an answer means,
and when to ask again, is the business of others.

- Refused: redirects, bodies over the limit, bodies packed in a way that was not asked for, bad
  certificates.
- Several threads may ask through one connection. ``break_off`` ends what all of them wait for.
- Never told: what may hold a password, which is a proxy's URL.

Importing this module is cheap: httpx loads with the first connection.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.escaping import escape_chain, shorten
from btc_datamodule.sources.web.deadline import MIN_RATE, Deadline, Deadlines, LateError
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import (
    REFUSALS,
    PassingError,
    check_status,
    read_date,
)
from btc_datamodule.sources.web.transport import guard
from btc_datamodule.sources.web.unpacking import ACCEPTED, PackingError, unpack

if TYPE_CHECKING:
    import ssl

    import httpx

PAGE_TIMEOUTS = 10
"""How many times ``timeout`` a page may take in all. Of the usual 20 s that is 200 s: a page of
candles is under 100 kB, which come in 100 s at ``MIN_RATE``."""

_PROXIES = "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used"
_CHANGED = "is something between here and the service that changes its answers?"
_SLOW = "check the network, or set a longer `source.timeout`"


class Answer(NamedTuple):
    """An answer of a service, read to its end.

    Attributes:
        status: of HTTP.
        body: the bytes of the whole body, unpacked.
        made: epoch seconds at which the answer was made by the service's clock, whole seconds
            rounded down; by the clock of this machine where the service does not say.
        reason: the words after the status.
        headers: found whatever the case of their letters.
    """

    status: int
    body: bytes
    made: float
    reason: str
    headers: Mapping[str, str]


class Connection:
    """Requests to one service, bounded in time and size.

    Args:
        manners: where the service is, and its time-out.

    Raises:
        ConfigError: if the certificates or the proxy that the environment names cannot be used.
    """

    def __init__(self, manners: Manners) -> None:
        self._timeout = manners.timeout
        self._longest = math.inf if manners.longest_answer is None else manners.longest_answer
        self._deadlines = Deadlines()
        self._client = _open_client(manners)
        guard(self._client, self._deadlines)

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    def break_off(self) -> None:
        """End all connections at once; whoever waits for one gets an error.

        But for a thread that has just begun to connect: it notices after ``timeout`` seconds.
        """
        self._deadlines.break_off()

    def ask(
        self,
        url: str,
        max_body: int,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        page: bool = False,
        check_going: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Make one request, and read the answer to its end.

        Args:
            url: what to ask for.
            max_body: bytes that its body may have, unpacked.
            method: of HTTP.
            headers: beside, or in place of, those that every request has.
            content: the body of the request.
            page: whether it is a page of candles, which may take ``PAGE_TIMEOUTS`` times
                ``timeout`` in all; anything else has what ``max_body`` takes at ``MIN_RATE``.
                Neither takes longer than ``Manners.longest_answer``.
            check_going: called before each piece of the answer; raises to end the request.

        Raises:
            PassingError: if the request failed in a way that may pass.
            SourceError: if another attempt would fail too.
        """
        import httpx

        usual = PAGE_TIMEOUTS * self._timeout if page else self._timeout + max_body / MIN_RATE
        deadline = Deadline(self._timeout, min(usual, self._longest))

        def step() -> None:
            check_going()
            deadline.check()

        packed = {**(headers or {}), "Accept-Encoding": ACCEPTED}
        try:
            with (
                self._deadlines.hold(deadline),
                self._client.stream(method, url, headers=packed, content=content) as response,
            ):
                made = read_date(response.headers).timestamp()
                check_status(response.status_code, response.reason_phrase, response.headers, url)
                body = bytearray()
                encoding = response.headers.get("Content-Encoding", "")
                try:
                    for piece in unpack(response.iter_raw(), encoding, step):
                        body += piece
                        deadline.grant(len(piece))
                        if len(body) > max_body:
                            raise SourceError(
                                f"{url}: the answer is larger than {max_body:,} bytes, which no "
                                "answer of this service should be: check `source.base_url`"
                            )
                except (httpx.RequestError, LateError, PackingError):
                    if response.status_code not in REFUSALS:  # of which the status is enough
                        raise
        except httpx.RequestError as error:
            check_going()
            raise _translate_error(error, url) from error
        except LateError as error:
            raise PassingError(f"the answer trickles: {error}", _SLOW) from None
        except PackingError as error:
            if error.may_pass:
                raise PassingError(f"the answer is {error}", _CHANGED) from None
            raise SourceError(f"{url}: the answer is {error}: {_CHANGED}") from None
        except (httpx.InvalidURL, UnicodeError) as error:  # a host such as "a..b", met on the way
            raise SourceError(
                f"{url}: no such host can be asked ({shorten(str(error))}): check `source.base_url`"
            ) from error
        said = (response.reason_phrase, response.headers)
        return Answer(response.status_code, bytes(body), made, *said)


def _open_client(manners: Manners) -> "httpx.Client":
    from http.cookiejar import CookieJar, DefaultCookiePolicy

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
            # None is kept: whoever answers with ever more of them would make each request larger.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
    except OSError as error:
        raise ConfigError(
            "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: "
            f"{shorten(str(error))}"
        ) from None
    except ImportError as error:
        raise ConfigError(f"{_PROXIES}: {shorten(str(error))}") from None
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
                f"{url}: the certificate cannot be trusted ({shorten(link.verify_message)}): "
                "if a proxy of yours opens TLS, name its certificates in SSL_CERT_FILE"
            )
        link = link.__cause__ or link.__context__
    escape_chain(error)
    problem = f"{type(error).__name__}: {shorten(str(error))}"
    if isinstance(error, httpx.TimeoutException):
        return PassingError(problem, _SLOW)
    return PassingError(problem, "check the network, the proxy settings and `source.base_url`")
