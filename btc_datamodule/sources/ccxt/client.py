"""An exchange through ``ccxt``: every request, and what may go wrong with it.

Says who asks, keeps the pace, tries again by the rules of ``web.patience``, and names every failure
in one line with what mends it. Its requests go out by ``adapter``, which bounds them. What the rows
mean is told in ``paging``.

ccxt's User-Agent, which poses as a browser, is replaced by one that says who asks.
"""

import difflib
import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_instant, format_interval
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.escaping import escape_chain, shorten
from btc_datamodule.sources.ccxt.adapter import make_adapter
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import Notices, PassingError, retry
from btc_datamodule.sources.web.rows import RowFormat, read_rows

PAGE = 300
"""Bars asked for at a time where ccxt does not know what the exchange gives at most."""

ROW = RowFormat(
    columns=("open_time", "open", "high", "low", "close", "volume"),
    expected="a time and five numbers, the time a whole second in ms",
    blame="try another version of ccxt",
    ticks=1000,
    has_gaps=True,
    has_more=True,
)
"""A row of an answer, in ccxt's order of columns."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_T = TypeVar("_T")


def open_exchange(name: str, manners: Manners) -> Any:
    """An exchange's client of ccxt, set up and not yet asked anything.

    Args:
        name: ccxt's id of the exchange.
        manners: how it is asked; None in it for the hosts and the pace that ccxt knows.

    Raises:
        ConfigError: if ccxt is not installed, or does not know the exchange.
    """
    try:
        import ccxt
    except ImportError:
        raise ConfigError("this source needs ccxt: pip install ccxt") from None
    if name not in ccxt.exchanges:
        raise ConfigError(
            f"ccxt {ccxt.__version__} knows no exchange {name!r}: set `source.exchange`"
            f"{_suggest(name, ccxt.exchanges)}"
        )
    pace = manners.requests_per_second
    exchange = getattr(ccxt, name)(
        {
            "enableRateLimit": True,
            "timeout": round(manners.timeout * 1000),
            "userAgent": f"btc-datamodule (ccxt {ccxt.__version__})",
            **({} if pace is None else {"rateLimit": 1000 / pace}),
        }
    )
    if manners.base_url is not None:
        exchange.urls["api"] = _move_urls(exchange.urls["api"], manners.base_url.rstrip("/"))
    session = exchange.session
    # What the environment says of proxies and certificates is the connection's business; requests
    # would look for a password in ~/.netrc too.
    session.trust_env = False
    adapter = make_adapter(name, manners)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return exchange


def _move_urls(urls: Any, base_url: str) -> Any:
    """Put ``base_url`` in place of scheme and host of every URL, in whatever nesting they come."""
    if isinstance(urls, dict):
        return {name: _move_urls(url, base_url) for name, url in urls.items()}
    return base_url + urlsplit(urls).path if isinstance(urls, str) else urls


class Rows(NamedTuple):
    """Rows in order of time: (N,) int64 epoch seconds, and all values (N, 6) as ``ROW.columns``."""

    time: NDArray[np.int64]
    values: NDArray[np.float64]

    def select(self, start: int, end: int) -> "Rows":
        """Choose the rows that open in [start, end), epoch seconds."""
        inside = (self.time >= start) & (self.time < end)
        return Rows(self.time[inside], self.values[inside])

    def join(self, other: "Rows") -> "Rows":
        """These rows, and those of another answer that open when none of these does."""
        new = ~np.isin(other.time, self.time)
        return _sort_rows(np.concatenate([self.values, other.values[new]]))


class Market:
    """One symbol of one exchange: its requests, with patience and with errors that say what mends.

    Args:
        client: ccxt's, as ``open_exchange`` gives it.
        exchange: ccxt's id of the exchange.
        symbol: the market as ccxt writes it.
        page: bars to ask for at a time; None for as many as ccxt says that the exchange gives.
        manners: how the exchange is asked.
    """

    def __init__(
        self, client: Any, exchange: str, symbol: str, page: int | None, manners: Manners
    ) -> None:
        self._client = client
        self._exchange = exchange
        self._symbol = symbol
        self._page = page
        self.manners = manners
        self._notices = Notices()

    def __str__(self) -> str:
        return f"{self._exchange} {self._symbol}"

    @property
    def origin(self) -> str:
        """Where the market's candles come from, for their provenance."""
        url = self.manners.base_url
        return f"ccxt {self}" if url is None else f"ccxt {self} at {url.rstrip('/')}"

    def close(self) -> None:
        """Let the connections to the exchange go."""
        self._client.close()

    def check(self, interval: int) -> None:
        """Raise ``SourceError`` unless the exchange has bars of ``interval`` s of the symbol."""
        if self._client.has.get("fetchOHLCV") is not True or not self.list_intervals():
            raise SourceError(
                f"{self._exchange} offers no candles through ccxt: set `source.exchange` to another"
            )
        if not self.has_interval(interval):
            offered = ", ".join(map(format_interval, self.list_intervals()))
            raise SourceError(
                f"{self._exchange} has no bars of {format_interval(interval)}: set `interval` to "
                f"one of {offered}, or to a multiple of one"
            )
        what = f"{self._exchange}, its markets"
        markets = self._retry(self._fetch_markets, what)
        if self._symbol not in markets:
            raise SourceError(
                f"{self._exchange} knows no symbol {self._symbol!r}: set `source.symbol`"
                f"{_suggest(self._symbol, markets)}"
            )

    def _fetch_markets(self) -> list[str]:
        self._leave_out_derivatives()
        markets = [*self._call(self._client.load_markets, True)]
        if self._symbol not in markets:
            self._check_json()
        return markets

    def _leave_out_derivatives(self) -> None:
        """Ask an exchange of several interfaces for its spot markets alone, if that is enough.

        Mirrors, such as Binance's, have no others.
        """
        choice: Any = getattr(self._client, "options", {}).get("fetchMarkets")
        several = isinstance(choice, dict) and "spot" in choice.get("types", ())
        if several and ":" not in self._symbol:
            choice["types"] = ["spot"]

    def has_interval(self, interval: int) -> bool:
        """Whether the exchange has bars of ``interval`` seconds."""
        return interval in self._read_timeframes()

    def list_intervals(self) -> tuple[int, ...]:
        """The lengths, in seconds, of the bars that the exchange has."""
        return tuple(sorted(self._read_timeframes()))

    def choose_page(self) -> int:
        """Choose how many bars to ask for at a time: the user's, ccxt's, or ``PAGE``."""
        known = self._client.feature_value(self._symbol, "fetchOHLCV", "limit")
        return int(self._page or known or PAGE)

    def fetch_rows(self, interval: int, since: int, limit: int) -> Rows:
        """Ask for ``limit`` bars of ``interval`` s from ``since`` (epoch seconds) on.

        Returns:
            The rows of the answer as they came, sorted by time.

        Raises:
            SourceError: if no answer came at the last attempt, or one that is no list of rows.
        """
        what = f"{self}, {format_interval(interval)} bars from {format_instant(since)}"

        def ask() -> Rows:
            answer = self._call(
                self._client.fetch_ohlcv,
                *(self._symbol, self._read_timeframes()[interval], since * 1000, limit),
            )
            # ccxt reads a page of HTML, letter by letter, as rows without a time: no bars.
            self._check_json()
            return _sort_rows(read_rows(answer, ROW, what))

        return self._retry(ask, what)

    def _retry(self, ask: Callable[[], _T], what: str) -> _T:
        return retry(ask, what, self.manners, notices=self._notices)

    def _read_timeframes(self) -> dict[int, str]:
        """Read which bar lengths the exchange offers: ccxt's name for each, by its seconds."""
        names = [name for name in self._client.timeframes or () if name[-1] in _UNITS]
        return {int(name[:-1]) * _UNITS[name[-1]]: name for name in names if name[:-1].isdecimal()}

    def _call(self, method: Callable[..., _T], *arguments: Any) -> _T:
        """Call a method of ccxt, and turn each of its errors into one of ours.

        Raises:
            PassingError: if the request failed in a way that may pass.
            SourceError: if the exchange refused it, or ccxt could not read the answer.
        """
        import ccxt

        self._client.last_http_response = None
        try:
            return method(*arguments)
        except (PassingError, SourceError):
            raise
        except ccxt.OperationFailed as error:  # the network's, and answers that were none
            raise PassingError(
                _quote_error(error),
                "check the network, the proxy settings and `source.base_url`, or "
                "set a longer `source.timeout`",
            ) from error
        except (ccxt.AuthenticationError, ccxt.ArgumentsRequired) as error:
            raise SourceError(
                f"{self}: {_quote_error(error)}: the exchange wants a key or more for its candles, "
                "and this source has none: set `source.exchange` to another"
            ) from error
        except Exception as error:  # ccxt's parsers let any kind escape from an odd answer
            self._check_json()
            raise SourceError(
                f"{self}: {_quote_error(error)}: check `source.symbol`, `interval` and "
                "`source.base_url`; if it stays, try another version of ccxt"
            ) from error

    def _check_json(self) -> None:
        """Raise ``PassingError`` if the last body was no JSON, which ccxt passes over."""
        body = self._client.last_http_response
        if body is None:
            return
        try:
            json.loads(body)
        except (ValueError, RecursionError):
            raise PassingError(
                f"the answer is not JSON; it begins {shorten(body[:300], 80)!r}",
                "is something between here and the service (a login page, a firewall)?",
            ) from None


def _sort_rows(values: NDArray[np.float64]) -> Rows:
    values = values[np.argsort(values[:, 0], kind="stable")]
    return Rows(values[:, 0].astype(np.int64), values)


def _suggest(text: str, known: list[str]) -> str:
    """Suggest names like ``text``, as the end of a sentence that says what to set; "" if none."""
    near = difflib.get_close_matches(text, known, 3, 0.5)
    return f" (close to it: {', '.join(near)})" if near else ""


def _quote_error(error: Exception) -> str:
    """Quote an error of ccxt's, which may hold the whole body of an answer, in one short line."""
    escape_chain(error)
    return shorten(f"{type(error).__name__}: {error}")
