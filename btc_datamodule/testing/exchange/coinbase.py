"""Coinbase's part: what its public REST interface replies when all is well."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from btc_datamodule.candles.series import Candles
from btc_datamodule.testing.exchange.messages import Reply, Request


@dataclass(frozen=True)
class CoinbaseAnswers:
    """Coinbase Exchange's candles of one product, and its lists of products and currencies.

    Attributes:
        held: the bars it has; at other granularities it has none.
        product: the only product it knows.
        forgets_range: answers with the newest page, whatever ``start`` and ``end`` are.
        granularity: seconds of the bars that it answers with, whatever is asked; None for those of
            ``held``.
    """

    held: Candles
    product: str = "BTC-USD"
    forgets_range: bool = False
    granularity: int | None = None

    def __call__(self, request: Request) -> Reply:
        """The reply to a request."""
        if "User-Agent" not in request.headers:
            return self._make_message(400, "User-Agent header is required.")
        if request.path == "/products":
            return Reply.json(200, [self._make_listing()])
        if request.path == "/currencies":
            return Reply.json(200, [{"id": part} for part in self.product.split("-")])
        if request.path != f"/products/{self.product}/candles":
            return self._make_message(404, "NotFound")
        return self._answer_candles(request)

    def _answer_candles(self, request: Request) -> Reply:
        step = int(request.query.get("granularity", "60"))
        if step not in (60, 300, 900, 3600, 21600, 86400):
            return self._make_message(400, "Unsupported granularity")
        asked = self._read_span(request)
        if asked is None or self.forgets_range:  # both are needed, or else neither counts
            return self._make_rows(self.held.slice(*self.held.span), step, newest=300)
        first, last = asked
        if (last - first) // step + 1 > 300:
            return self._make_message(
                400,
                "granularity too small for the requested time range. "
                "Count of aggregations requested exceeds 300",
            )
        return self._make_rows(self.held.slice(first, last + 1), step, newest=300)

    def _make_listing(self) -> dict[str, Any]:
        """Make the part of a product's entry that says what is traded and in which steps."""
        base, quote = self.product.split("-")
        return {
            "id": self.product,
            "base_currency": base,
            "quote_currency": quote,
            "quote_increment": "0.01",
            "base_increment": "0.00000001",
            "min_market_funds": "1",
            "margin_enabled": False,
            "status": "online",
        }

    def _read_span(self, request: Request) -> tuple[int, int] | None:
        if not {"start", "end"} <= set(request.query):
            return None
        first, last = (datetime.fromisoformat(request.query[name]) for name in ("start", "end"))
        return int(first.timestamp()), int(last.timestamp())

    def _make_rows(self, bars: Candles, step: int, newest: int) -> Reply:
        if step != self.held.interval:
            return Reply.json(200, [])
        if self.granularity is not None:
            longer, _ = self.held.resample(self.granularity)
            bars = longer.slice(*bars.span)
        names = ("open_time", "low", "high", "open", "close", "volume")
        columns = [bars[name][-newest:][::-1].tolist() for name in names]
        return Reply.json(200, [list(row) for row in zip(*columns, strict=True)])

    def _make_message(self, status: int, text: str) -> Reply:
        return Reply.json(status, {"message": text})
