"""An exchange through ``ccxt``: every request, and what may go wrong with it.

Owns manners, as ``http`` does for the other sources: it says who asks, keeps the pace, tries again
what may pass, turns away redirects, and names every failure in one line with what mends it. What
the rows mean is told in ``ccxt_paging``.

``ccxt`` reads whole bodies into memory; ``MAX_BODY`` stops only those that announce their length.
Its User-Agent, which poses as a browser, is replaced by one that says who asks.
"""

import difflib
import json
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_instant, format_interval
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.sources.web.patience import MAX_BACKOFF, retry_after

if TYPE_CHECKING:
    from btc_datamodule.sources.ccxt.source import Ccxt

PAGE = 300
"""Bars asked for at a time where ccxt does not know what the exchange gives at most."""

MAX_BODY = 256 * 2**20
"""Bytes that an answer may announce; the markets of a large exchange are some 20 MB."""

ROW = ("open_time", "open", "high", "low", "close", "volume")
"""The columns of a row, in ccxt's order."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def open_exchange(source: "Ccxt") -> Any:
    """The exchange's client of ccxt, set up and not yet asked anything.

    Raises:
        ConfigError: if ccxt is not installed, or does not know the exchange.
    """
    try:
        import ccxt
    except ImportError:
        raise ConfigError('this source needs ccxt: pip install "btc-datamodule[ccxt]"') from None
    if source.exchange not in ccxt.exchanges:
        raise ConfigError(
            f"ccxt {ccxt.__version__} knows no exchange {source.exchange!r}: set `source.exchange`"
            f"{_alternatives(source.exchange, ccxt.exchanges)}"
        )
    pace = source.requests_per_second
    exchange = getattr(ccxt, source.exchange)(
        {
            "enableRateLimit": True,
            "timeout": round(source.timeout * 1000),
            "userAgent": f"btc-datamodule (ccxt {ccxt.__version__})",
            **({} if pace is None else {"rateLimit": 1000 / pace}),
        }
    )
    if source.base_url is not None:
        exchange.urls["api"] = _moved(exchange.urls["api"], source.base_url.rstrip("/"))
    session = exchange.session
    # Plain HTTP is for this machine alone, where the proxies of the environment do not lead.
    session.trust_env = not (source.base_url or "").startswith("http://")
    session.auth = _no_password  # requests would look for one in ~/.netrc
    session.hooks["response"].append(_inspect)
    return exchange


def _moved(urls: Any, base_url: str) -> Any:
    """The same URLs, in whatever nesting, with another scheme and host."""
    if isinstance(urls, dict):
        return {name: _moved(url, base_url) for name, url in urls.items()}
    return base_url + urlsplit(urls).path if isinstance(urls, str) else urls


def _no_password(request: Any) -> Any:
    return request


def _inspect(response: Any, **_: Any) -> None:
    """Take an answer as ``PoliteClient`` does, before ccxt, whose exchanges each differ, sees it.

    Raises:
        _Trouble: if the service asks for patience.
        SourceError: for a redirect, or a body that announces more than ``MAX_BODY``.
    """
    status, headers = response.status_code, response.headers
    where = response.url.split("?")[0]
    if status in (418, 429) or status >= 500:
        response.close()
        raise _Trouble(
            f"HTTP {status} {response.reason}",
            "the service is in trouble: run it again later"
            if status >= 500
            else "the service asks for fewer requests: run it again later, with a lower "
            "`source.requests_per_second`",
            retry_after(headers.get("Retry-After")),
        )
    if response.is_redirect:
        response.close()
        raise SourceError(
            f"{where}: HTTP {status} sends us on to {headers['Location'][:200]!r}, which is not "
            "followed: set `source.base_url` if the service has moved"
        )
    if int(headers.get("Content-Length") or 0) > MAX_BODY:
        response.close()
        raise SourceError(
            f"{where}: the answer is larger than {MAX_BODY:,} bytes, which no answer of an "
            "exchange should be: check `source.base_url`"
        )


class _Trouble(Exception):  # noqa: N818
    """A request that failed in a way that may pass.

    Attributes:
        problem: what happened.
        advice: what to do if it does not pass.
        wait: seconds that the service asked for; None for the usual backoff.
    """

    def __init__(self, problem: str, advice: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice
        self.wait = wait


class Rows(NamedTuple):
    """Rows of an answer in order of time: (N,) int64 epoch seconds, and (N, 6) as ``ROW``."""

    time: NDArray[np.int64]
    values: NDArray[np.float64]

    def within(self, start: int, end: int) -> "Rows":
        """Those that open in [start, end)."""
        inside = (self.time >= start) & (self.time < end)
        return Rows(self.time[inside], self.values[inside])


class Market:
    """One symbol of one exchange: every request, and what may go wrong with it."""

    def __init__(self, source: "Ccxt", exchange: Any) -> None:
        self.source = source
        self._exchange = exchange

    def __str__(self) -> str:
        return f"{self.source.exchange} {self.source.symbol}"

    def close(self) -> None:
        """Let the connections go."""
        self._exchange.close()

    def check(self, interval: int) -> None:
        """Raise ``SourceError`` unless the exchange has bars of this length of this symbol."""
        source = self.source
        if self._exchange.has.get("fetchOHLCV") is not True or not self._timeframes():
            raise SourceError(
                f"{source.exchange} offers no candles through ccxt: set `source.exchange` to "
                "another"
            )
        if not self.has(interval):
            offered = ", ".join(map(format_interval, sorted(self._timeframes())))
            raise SourceError(
                f"{source.exchange} has no bars of {format_interval(interval)}: set `interval` to "
                f"one of {offered}"
            )
        markets = self._patiently(f"{source.exchange}, its markets", self._markets)
        if source.symbol not in markets:
            raise SourceError(
                f"{source.exchange} knows no symbol {source.symbol!r}: set `source.symbol`"
                f"{_alternatives(source.symbol, markets)}"
            )

    def _markets(self) -> list[str]:
        markets = [*self._call(self._exchange.load_markets, True)]
        if self.source.symbol not in markets:
            self._check_json()
        return markets

    def has(self, interval: int) -> bool:
        """Whether the exchange has bars of this length."""
        return interval in self._timeframes()

    def page(self) -> int:
        """Bars to ask for at a time."""
        known = self._exchange.feature_value(self.source.symbol, "fetchOHLCV", "limit")
        return int(self.source.page or known or PAGE)

    def rows(self, interval: int, since: int, limit: int) -> Rows:
        """The answer to a request for ``limit`` bars from ``since`` on, as it came, sorted."""
        what = f"{self}, {format_interval(interval)} bars from {format_instant(since)}"

        def ask() -> Rows:
            answer = self._call(
                self._exchange.fetch_ohlcv,
                *(self.source.symbol, self._timeframes()[interval], since * 1000, limit),
            )
            # ccxt reads a page of HTML, letter by letter, as rows without a time: no bars.
            self._check_json()
            return _rows(answer, what)

        return self._patiently(what, ask)

    def wait(self, failures: int, what: str, problem: str, named: float | None = None) -> None:
        """Say what went wrong and wait before the next attempt."""
        source = self.source
        grown = min(source.retry_wait * 2.0 ** min(failures - 1, 30), MAX_BACKOFF)
        wait = named or grown + random.uniform(0, source.retry_wait)
        _log.warning(
            "%s: %s; trying again in %.1f s (attempt %d of %d failed)",
            *(what, problem, wait, failures, source.attempts),
        )
        time.sleep(wait)

    def _timeframes(self) -> dict[int, str]:
        """The names that ccxt has of the bar lengths, by seconds."""
        names = [name for name in self._exchange.timeframes or () if name[-1] in _UNITS]
        return {int(name[:-1]) * _UNITS[name[-1]]: name for name in names if name[:-1].isdecimal()}

    def _patiently(self, what: str, ask: Callable[[], _T]) -> _T:
        for failures in range(1, self.source.attempts + 1):
            try:
                return ask()
            except _Trouble as trouble:
                if failures == self.source.attempts:
                    raise SourceError(
                        f"{what}: {trouble.problem} (gave up after {failures} "
                        f"attempt{'s' if failures > 1 else ''}): {trouble.advice}"
                    ) from trouble
                self.wait(failures, what, trouble.problem, trouble.wait)
        raise AssertionError("retrying ends with an answer or an error")

    def _call(self, method: Callable[..., _T], *arguments: Any) -> _T:
        """Call ccxt, and give each of its errors a name here."""
        import ccxt

        self._exchange.last_http_response = None
        try:
            return method(*arguments)
        except (_Trouble, SourceError):
            raise
        except ccxt.OperationFailed as error:  # the network's, and answers that were none
            raise _Trouble(
                _quoted(error),
                "check the network, the proxy settings and `source.base_url`, or "
                "set a longer `source.timeout`",
            ) from error
        except (ccxt.AuthenticationError, ccxt.ArgumentsRequired) as error:
            raise SourceError(
                f"{self}: {_quoted(error)}: the exchange wants a key or more for its candles, and "
                "this source has none: set `source.exchange` to another"
            ) from error
        except Exception as error:  # ccxt's parsers let any kind escape from an odd answer
            self._check_json()
            if "SSLError" in type(error.__cause__).__name__:
                raise SourceError(
                    f"{self}: the certificate cannot be trusted: if a proxy of yours opens TLS, "
                    "name its certificates in REQUESTS_CA_BUNDLE"
                ) from error
            raise SourceError(
                f"{self}: {_quoted(error)}: check `source.symbol`, `interval` and "
                "`source.base_url`; if it stays, try another version of ccxt"
            ) from error

    def _check_json(self) -> None:
        """Raise ``_Trouble`` if the last body was no JSON, which ccxt passes over in silence."""
        body = self._exchange.last_http_response
        if body is None:
            return
        try:
            json.loads(body)
        except (ValueError, RecursionError):
            raise _Trouble(
                f"the answer is not JSON; it begins {_one_line(body[:300])[:80]!r}",
                "is something between here and the service (a login page, a firewall)?",
            ) from None


def _rows(answer: Any, what: str) -> Rows:
    """The rows of an answer of ``fetch_ohlcv``; a price that is None becomes NaN.

    Raises:
        SourceError: naming the first row that is not a time in ms and five numbers.
    """
    if not isinstance(answer, list):
        raise SourceError(f"{what}: not a list of rows but {str(answer)[:80]!r}")
    for i, row in enumerate(answer):
        if not _is_row(row):
            raise SourceError(
                f"{what}, row {i}: expected a time and five numbers, got {repr(row)[:80]}: run it "
                "again later; if it stays, try another version of ccxt"
            )
    given = [[np.nan if value is None else value for value in row[:6]] for row in answer]
    values = np.array(given, dtype=np.float64).reshape(-1, len(ROW))
    values = values[np.argsort(values[:, 0], kind="stable")]
    odd = np.flatnonzero(values[:, 0] % 1000)
    if len(odd):
        raise SourceError(f"{what}: a bar opens at {values[odd[0], 0]:.0f} ms: no whole second")
    values[:, 0] /= 1000
    return Rows(values[:, 0].astype(np.int64), values)


def _is_row(row: Any) -> bool:
    # `type`, because a JSON true is an int to isinstance; the bounds turn away NaN, infinities
    # and integers that no float can hold.
    return (
        isinstance(row, list | tuple)
        and len(row) >= len(ROW)
        and type(row[0]) in (int, float)
        and 0 <= row[0] < 1e15
        and row[0] % 1 == 0
        and all(
            value is None or (type(value) in (int, float) and abs(value) < 1e300)
            for value in row[1:6]
        )
    )


def _alternatives(text: str, known: list[str]) -> str:
    """The end of a sentence that says what to set: names like ``text``, if there are any."""
    near = difflib.get_close_matches(text, known, 3, 0.5)
    return f" (close to it: {', '.join(near)})" if near else ""


def _quoted(error: Exception) -> str:
    """An error of ccxt's in one short line; it may hold the whole body of an answer."""
    text = f"{type(error).__name__}: {_one_line(str(error))}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _one_line(text: str) -> str:
    return " ".join(text.split())
