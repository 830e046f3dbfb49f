"""Candles of Coinbase Exchange, from its public REST interface; needs no key.

``GET /products/BTC-USD/candles?start=&end=&granularity=`` answers with at most 300 bars, both
ends included, newest first, as ``[time, low, high, open, close, volume]``. Buckets without a
trade are absent, so an empty page in mid-history is an outage and the next page is asked all the
same. Each page becomes one ``Block``.

Nothing is settled too early. A bar is closed when it was so by Coinbase's clock (the ``Date`` of
the answer): by one of ours that runs fast, a bar would be stored that still changes. And a bar
that closed in the last ``LATE`` seconds and is absent may yet appear: it stays unanswered, so that
a later run asks again.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.tidying import tidy
from btc_datamodule.candles.timeline import Span, floor_to, format_instant, parse_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source, check_path_part, read_or_advise
from btc_datamodule.sources.web.client import Answer, PoliteClient
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.rows import RowFormat, read_rows

PAGE = 300
"""Bars that one request may ask for."""

LATE = 300
"""Seconds after its close in which a bar that is absent may still appear."""

ROW = RowFormat(
    columns=("open_time", "low", "high", "open", "close", "volume"),
    expected="six numbers [time, low, high, open, close, volume]",
    blame="Coinbase has changed",
)
"""A row of an answer, in Coinbase's order of columns."""

_log = logging.getLogger(__name__)


@public
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
        drop_invalid: leave out bars that are no candles (high < low, a negative price, off the
            grid), with a note that counts them, in place of an error that ends the download.

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
    drop_invalid: bool = False

    def __post_init__(self) -> None:
        check_path_part(self.product, "product")
        _ = self.manners  # which refuses what cannot be used

    @property
    def manners(self) -> Manners:
        """How the service is asked, checked."""
        return Manners(
            self.base_url, self.requests_per_second, self.timeout, self.attempts, self.retry_wait
        )

    @property
    def series(self) -> str:
        """Folder of the candles: the product."""
        return self.product

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield one block for each page of 300 bars of ``span``, in order of time.

        The answer ends before ``span`` does where bars are not closed yet, or so recent that they
        may still appear.

        Raises:
            SourceError: if Coinbase does not know the product, refuses the request, cannot be
                reached, or answers with something that is no page of candles.
            CandleError: if a row is no candle, such as one with high < low, unless
                ``drop_invalid``.
        """
        self.check_interval(interval)
        start, end = span
        with PoliteClient(self.manners) as client:
            for page_start in range(start, end, PAGE * interval):
                page = (page_start, min(page_start + PAGE * interval, end))
                block = self._fetch_block(client, interval, page)
                if block.span[0] == block.span[1]:
                    return
                yield block

    def _fetch_block(self, client: PoliteClient, interval: int, page: Span) -> Block:
        """Fetch a page as a block, whose span ends where the answer leaves bars open."""
        where = (
            f"coinbase {self.product}, page {format_instant(page[0])} to {format_instant(page[1])}"
        )
        answer, rows = self._ask(client, interval, page, where)
        if not len(rows):  # 300 bars without a trade are rare: believed when they are said twice
            answer, rows = self._ask(client, interval, page, where)
        # Coinbase may add bars from outside the range that was asked for.
        closed = min(page[1], floor_to(answer.made, interval))
        if page[1] > answer.made + LATE:
            _log.warning(
                "%s: bars that were not closed at %s, when it was answered, are left for a later "
                "run: is the clock of this machine fast?",
                *(where, format_instant(int(answer.made))),
            )
        inside = rows[(rows[:, 0] >= page[0]) & (rows[:, 0] < closed)]
        candles, notes = self._read_candles(inside, interval, where)
        certain = max(candles.span[1], floor_to(answer.made - LATE, interval), page[0])
        return Block(
            (page[0], max(page[0], min(closed, certain))),
            candles,
            f"{self.base_url.rstrip('/')}{self._path}",
            notes,
            received=len(answer.body),
        )

    @property
    def _path(self) -> str:
        return f"/products/{self.product}/candles"

    def _ask(
        self, client: PoliteClient, interval: int, page: Span, where: str
    ) -> tuple[Answer, NDArray[np.float64]]:
        """Ask for a page; return the answer, and its rows (N, 6) float64 as they came."""
        answer, content = client.get_json(
            self._path,
            {
                "start": format_instant(page[0]),
                "end": format_instant(page[1] - interval),  # the last bar: `end` is inclusive
                "granularity": interval,
            },
        )
        if answer.status != 200:
            raise self._make_refusal(answer.status, content, where)
        return answer, read_rows(content, ROW, where)

    def _read_candles(
        self, rows: NDArray[np.float64], interval: int, where: str
    ) -> tuple[Candles, tuple[str, ...]]:
        """Read rows as candles, and notes on what was left out or repaired."""
        return read_or_advise(
            lambda drop: _tidy_rows(rows, interval, where, drop), self.drop_invalid
        )

    def _make_refusal(self, status: int, answer: Any, where: str) -> SourceError:
        """Make the error that tells what Coinbase refused, and which argument mends it."""
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


def _tidy_rows(
    rows: NDArray[np.float64], interval: int, where: str, drop_invalid: bool
) -> tuple[Candles, tuple[str, ...]]:
    """Make candles of rows as ``ROW``, and notes on what was left out or repaired."""
    off_grid = rows[:, 0] % interval != 0
    notes: tuple[str, ...] = ()
    if drop_invalid and off_grid.any():
        first = format_instant(int(rows[off_grid][0, 0]))
        notes = (
            f"{where}: {int(off_grid.sum())} rows open off the grid and were left out, such as "
            f"one at {first}",
        )
        rows = rows[~off_grid]
    columns = dict(zip(ROW.columns, rows.T, strict=True))
    candles, repaired = tidy(columns, interval, where, drop_invalid=drop_invalid)
    return candles, notes + repaired
