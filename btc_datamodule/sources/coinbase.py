"""Candles of Coinbase Exchange, from its public REST interface; needs no key.

``GET /products/BTC-USD/candles?start=&end=&granularity=`` answers with at most 300 bars, both
ends included, newest first, as ``[time, low, high, open, close, volume]``. Buckets without a
trade are absent, so an empty page in mid-history is an outage and the next page is asked all the
same. Each page becomes one ``Block``.

A wrong answer is no answer (``web.doubts``): rows of another span or unit are asked for again, and
then an error. So are longer bars in place of those asked for; blocks whose few bars may be such are
held back until there is no doubt. A page that looks cut or thinned out is asked for twice, the bars
of either answer are taken, and what stays absent is told.

Nothing is settled too early. A bar is closed when it was so by Coinbase's clock (the ``Date`` of
the answer): by one of ours that runs fast, a bar would be stored that still changes. And a bar
that closed in the last ``LATE`` seconds and is absent may yet appear: it stays unanswered, so that
a later run asks again.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.gaps import LONG, Stretch, find_cuts
from btc_datamodule.candles.series import Candles, make_empty
from btc_datamodule.candles.tidying import tidy
from btc_datamodule.candles.timeline import Span, floor_to, format_instant, parse_instant
from btc_datamodule.errors import SourceError
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source, check_path_part, read_or_advise
from btc_datamodule.sources.web.client import PoliteClient
from btc_datamodule.sources.web.doubts import (
    ADVICE,
    CERTAIN,
    DOUBTED,
    LIKELY,
    describe_longer,
    find_fault,
    find_longer,
)
from btc_datamodule.sources.web.manners import Manners
from btc_datamodule.sources.web.patience import PassingError, retry
from btc_datamodule.sources.web.rows import RowFormat, read_rows

PAGE = 300
"""Bars that one request may ask for."""

LATE = 300
"""Seconds after its close in which a bar that is absent may still appear."""

CUT = 12
"""Bars in a row, at least, and a quarter of the page, whose absence makes a page look cut."""

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
        timeout: seconds until an answer brings content, and that it may stand still after that.
        attempts: requests made for a page before giving up.
        retry_wait: seconds before the first retry; doubles with each. A ``Retry-After`` of the
            service goes before it.
        drop_invalid: leave out bars that are no candles (high < low, a negative price, off the
            grid), with a note that counts them, in place of an error that ends the download.
        longest_wait: seconds that the service may ask to wait for (``Retry-After``); asked for
            longer, it is an error at once.
        longest_answer: seconds that one request may take in all, however its answer comes; None
            for ten times ``timeout``.

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
    longest_wait: float = 3600.0
    longest_answer: float | None = None

    def __post_init__(self) -> None:
        check_path_part(self.product, "product")
        _ = self.manners  # which refuses what cannot be used

    @property
    def manners(self) -> Manners:
        """How the service is asked, checked."""
        return Manners.of(self)

    def hurry(self) -> Self:
        """This source with little patience; see ``Source.hurry``."""
        return replace(self, **self.manners.hurry())

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
            held: list[Block] = []
            for page_start in range(start, end, PAGE * interval):
                page = (page_start, min(page_start + PAGE * interval, end))
                block = self._fetch_block(client, interval, page)
                if block.span[0] == block.span[1]:
                    break
                held.append(block)
                if not self._may_be_longer(held, interval):
                    yield from held
                    held = []
            if held:
                yield from self._settle_doubt(client, interval, held)

    def _may_be_longer(self, blocks: list[Block], interval: int) -> bool:
        """Whether all bars of blocks in a row may be longer ones than those that were asked for.

        Raises:
            SourceError: if there are enough of them to be certain.
        """
        times = np.concatenate([block.candles.open_time for block in blocks])
        span = (blocks[0].span[0], blocks[-1].span[1])
        if not len(times) or 2 * len(times) > (span[1] - span[0]) // interval:
            return False
        step, odds = find_longer(times, interval, self.intervals or ())
        if odds >= CERTAIN:
            told = describe_longer(len(times), step, interval)
            raise SourceError(f"{self._name_page(span)}: {told}: {ADVICE}")
        return step > 0

    def _settle_doubt(
        self, client: PoliteClient, interval: int, held: list[Block]
    ) -> Iterator[Block]:
        """Yield blocks whose few bars may be longer ones, as not answered where this is likely.

        A whole page up to their end shows what Coinbase answers with.

        Raises:
            SourceError: if it answers with longer bars.
        """
        start, end = held[0].span[0], held[-1].span[1]
        wide = (end - PAGE * interval, end)
        told = held if start <= wide[0] else [self._fetch_block(client, interval, wide)]
        times = np.concatenate([block.candles.open_time for block in told])
        if not self._may_be_longer(told, interval):
            yield from held
            return
        step, odds = find_longer(times, interval, self.intervals or ())
        for block in held:
            if odds < LIKELY:
                yield block
                continue
            note = f"{self._name_page(block.span)}: {describe_longer(len(times), step, interval)}"
            nothing = make_empty(interval)
            yield replace(block, candles=nothing, notes=(*block.notes, note), answered=False)

    def _name_page(self, page: Span) -> str:
        """Name a page, for errors and notes."""
        start, end = map(format_instant, page)
        return f"coinbase {self.product}, page {start} to {end}"

    def _fetch_block(self, client: PoliteClient, interval: int, page: Span) -> Block:
        """Fetch a page as a block, whose span ends where the answer leaves bars open."""
        where = self._name_page(page)
        answer = self._ask_twice(client, interval, page, where)
        rows = answer.rows
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
        notes += tuple(
            f"{where}: {stretch.describe()}, asked twice, though the bars around are there: an "
            "outage, or an answer that was cut; `refresh: true` asks again"
            for stretch in _find_cuts(candles.open_time, interval, (page[0], closed))
        )
        certain = max(candles.span[1], floor_to(answer.made - LATE, interval), page[0])
        return Block(
            (page[0], max(page[0], min(closed, certain))),
            candles,
            f"{self.base_url.rstrip('/')}{self._path}",
            notes,
            received=answer.received,
        )

    @property
    def _path(self) -> str:
        return f"/products/{self.product}/candles"

    def _ask_twice(self, client: PoliteClient, interval: int, page: Span, where: str) -> "_Page":
        """Ask for a page, and again if it looks cut or thinned out; return the rows of both.

        300 bars without a trade are rare: they are believed when they are said twice.

        Raises:
            SourceError: if Coinbase answers another question, ``DOUBTED`` times.
        """
        doubted = replace(self.manners, attempts=min(self.attempts, DOUBTED))

        def ask() -> _Page:
            return self._ask(client, interval, page, where)

        first = retry(ask, where, doubted, client.pause)
        times = first.rows[:, 0]
        closed = min(page[1], floor_to(first.made, interval))
        inside = np.unique(times[(times >= page[0]) & (times < closed)])
        if len(inside) and not _find_cuts(inside.astype(np.int64), interval, (page[0], closed)):
            return first
        again = retry(ask, where, doubted, client.pause)
        new = again.rows[~np.isin(again.rows[:, 0], times)]
        rows = np.concatenate([first.rows, new])
        return _Page(rows, min(first.made, again.made), first.received + again.received)

    def _ask(self, client: PoliteClient, interval: int, page: Span, where: str) -> "_Page":
        """Ask for a page once; return it as it came.

        Raises:
            PassingError: if its rows are no answer to the question.
            SourceError: if Coinbase refuses, or answers with something that is no page.
        """
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
        rows = read_rows(content, ROW, where)
        times = rows[:, 0]
        fault = find_fault(times, interval, page)
        if not fault:
            inside = times[(times >= page[0]) & (times < page[1])]
            step, odds = find_longer(inside, interval, self.intervals or ())
            full = 2 * len(inside) > (page[1] - page[0]) // interval
            if odds >= CERTAIN and not full:
                fault = describe_longer(len(inside), step, interval)
        if fault:
            raise PassingError(f"no answer to the question: {fault}", ADVICE)
        return _Page(rows, answer.made, len(answer.body))

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


class _Page(NamedTuple):
    """An answer: its rows (N, 6) float64 as they came, when it was made, and its bytes."""

    rows: NDArray[np.float64]
    made: float
    received: int


def _find_cuts(times: NDArray[np.int64], interval: int, page: Span) -> list[Stretch]:
    """Find where a page with some bars looks cut or thinned out."""
    if not len(times):
        return []
    bars = (page[1] - page[0]) // interval
    return find_cuts(times, interval, page, max(CUT, min(LONG, bars // 4)))


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
