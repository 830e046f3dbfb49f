"""Candles of Coinbase Exchange, from its public REST interface; needs no key.

``GET /products/BTC-USD/candles?start=&end=&granularity=`` answers with at most 300 bars, both
ends included, newest first, as ``[time, low, high, open, close, volume]``. Buckets without a
trade are absent, so an empty page in mid-history is an outage and the next page is asked all the
same. Each page becomes one ``Block``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles import tidy
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Block, Source, check_path_part
from btc_datamodule.sources.http import PoliteClient, check_manners
from btc_datamodule.timeline import Span, format_instant, parse_instant

PAGE = 300
"""Bars that one request may ask for."""

ROW = ("open_time", "low", "high", "open", "close", "volume")
"""The columns of a row, in Coinbase's order."""


@dataclass(frozen=True)
class Coinbase(Source):
    """Coinbase Exchange.

    Attributes:
        product: the pair as Coinbase writes it.
        base_url: where the interface is; https, or http to this machine.
        requests_per_second: at most; Coinbase allows an address 10.
        timeout: seconds to connect, and seconds of silence while reading.
        attempts: requests made for a page before giving up.
        retry_wait: seconds before the first retry; doubles with each. A ``Retry-After`` of the
            service goes before it.

    Raises:
        ConfigError: naming the argument that cannot be used.
    """

    name: ClassVar[str] = "coinbase"
    intervals: ClassVar[tuple[int, ...] | None] = (60, 300, 900, 3600, 21600, 86400)
    first: ClassVar[int] = parse_instant("2015-07-20")  # of BTC-USD, complete from here on

    product: str = "BTC-USD"
    base_url: str = "https://api.exchange.coinbase.com"
    requests_per_second: float = 8.0
    timeout: float = 20.0
    attempts: int = 8
    retry_wait: float = 1.0

    def __post_init__(self) -> None:
        check_path_part(self.product, "product")
        check_manners(
            *(self.base_url, self.requests_per_second, self.timeout),
            *(self.attempts, self.retry_wait),
        )

    @property
    def series(self) -> str:
        """The product."""
        return self.product

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield one block for each page of 300 bars of ``span``, in order of time.

        Raises:
            SourceError: if Coinbase does not know the product, refuses the request, cannot be
                reached, or answers with something that is no page of candles.
            CandleError: if a row is no candle, such as one with high < low.
        """
        self.check_interval(interval)
        start, end = span
        with PoliteClient(
            self.base_url,
            requests_per_second=self.requests_per_second,
            timeout=self.timeout,
            attempts=self.attempts,
            retry_wait=self.retry_wait,
        ) as client:
            for page_start in range(start, end, PAGE * interval):
                page = (page_start, min(page_start + PAGE * interval, end))
                yield self._block(client, interval, page)

    def _block(self, client: PoliteClient, interval: int, page: Span) -> Block:
        where = (
            f"coinbase {self.product}, page {format_instant(page[0])} to {format_instant(page[1])}"
        )
        path = f"/products/{self.product}/candles"
        status, answer = client.get_json(
            path,
            {
                "start": format_instant(page[0]),
                "end": format_instant(page[1] - interval),  # the last bar: `end` is inclusive
                "granularity": interval,
            },
        )
        if status != 200:
            raise self._refusal(status, answer, where)
        rows = _rows(answer, where)
        # Coinbase may add bars from outside the range that was asked for.
        inside = rows[(rows[:, 0] >= page[0]) & (rows[:, 0] < page[1])]
        candles, notes = tidy(dict(zip(ROW, inside.T, strict=True)), interval, where)
        return Block(page, candles, f"{self.base_url.rstrip('/')}{path}", notes)

    def _refusal(self, status: int, answer: Any, where: str) -> SourceError:
        message = answer.get("message") if isinstance(answer, dict) else None
        if status == 404 and message == "NotFound":
            return SourceError(
                f"Coinbase knows no product {self.product!r}: set `source.product` (e.g. BTC-USD)"
            )
        said = repr(str(message if message is not None else answer)[:200])
        return SourceError(
            f"{where}: Coinbase refused with HTTP {status}, {said}: check `source.product`, "
            "`interval` and `source.base_url`"
        )


def _rows(answer: Any, where: str) -> NDArray[np.float64]:
    """(N, 6) float64 of the rows of an answer, in its order; a time is exact in float64.

    Raises:
        SourceError: naming the first row that is not six numbers, the first a whole one.
    """
    if not isinstance(answer, list):
        raise SourceError(f"{where}: not a list of rows but {str(answer)[:80]!r}")
    for i, row in enumerate(answer):
        if not _is_row(row):
            raise SourceError(
                f"{where}, row {i}: expected six numbers [time, low, high, open, close, volume], "
                f"got {repr(row)[:80]}: run it again later; if it stays, Coinbase has changed"
            )
    return np.array(answer, dtype=np.float64).reshape(-1, len(ROW))


def _is_row(row: Any) -> bool:
    # The comparison also turns away NaN, infinities and integers that no float can hold, all of
    # which Python's JSON reads; `type`, because a JSON true is an int to isinstance.
    return (
        isinstance(row, list)
        and len(row) == len(ROW)
        and all(type(value) in (int, float) and abs(value) < 1e300 for value in row)
        and row[0] % 1 == 0
    )
