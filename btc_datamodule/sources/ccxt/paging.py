"""A way through the answers of an exchange on which no bar is lost and no hole invented.

``ccxt`` speaks with a hundred exchanges through one call, ``fetch_ohlcv(symbol, timeframe, since,
limit)``, and the exchanges do not agree on what it answers: some count ``limit`` from ``since``
and reach over gaps, some answer for a window of time, some give fewer bars than asked, from either
end of the window, some leave out ``since`` itself, some add the bar of the present, and some
ignore ``since`` and give the newest bars there are. The way of paging here assumes none of these:

- **An answer settles what lies between its bars.** Each request starts behind the last bar known,
  and its answer must hold that bar again: everything from there to the answer's last bar inside
  ``limit`` intervals is settled, the next request starts there. An answer without it says nothing;
  it is asked again, with a smaller ``limit`` if the exchange seems to cut at the wrong end.
- **A hole is believed once bars were seen beyond it.** An answer with nothing after the known bar
  leads on by the most bars that one answer has had so far, which is what the exchange surely
  covers, until a bar comes. What lies behind the last bar of all stays unsettled, so that a later
  run asks again: blocks then end before the span does. More than a page of it is an error.
- **An answer to another question is none.** Times in another unit and longer bars in place of
  those asked for are asked for again, and then an error. Where bars look cut or thinned out of an
  answer, it is asked for twice, the bars of either are taken, and what stays absent is told.
- **Nothing before the first bar is believed only of a market that began there.** If no bar was
  seen before it, longer bars (1d, or else 1w) must begin at the same time and price, or else the
  exchange must show bars still earlier. An exchange that keeps only its newest bars, such as
  Kraken, is thus refused, with the time from which it has some.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from btc_datamodule.candles.gaps import Stretch, find_cuts
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.tidying import tidy
from btc_datamodule.candles.timeline import (
    Span,
    floor_to,
    format_instant,
    format_interval,
    get_offset,
)
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.base import Block, read_or_advise
from btc_datamodule.sources.ccxt.client import ROW, Market, Rows
from btc_datamodule.sources.web.doubts import (
    ADVICE,
    CERTAIN,
    DOUBTED,
    describe_longer,
    find_longer,
    find_unit,
)
from btc_datamodule.sources.web.patience import PassingError, retry

LEAST = 4
"""Bars that an exchange must give in one answer: two of them overlap with the answer before."""

_LONGER = (86_400, 604_800)


class Walk:
    """One way through a span, by the rules of the module's docstring.

    Args:
        market: the symbol of the exchange that is asked.
        interval: seconds of a bar.
        span: half-open, epoch seconds.
        drop_invalid: leave out bars that are no candles, with a note, in place of an error.

    Attributes:
        settled: everything of the span before it has been yielded.
        frontier: where to ask on from; from ``settled`` to here may be a hole that no bar has
            closed yet. Before ``settled`` while the walk comes from a bar before the span.
        known: the last bar seen, which the next answer must hold; None where no bar is near.
    """

    def __init__(self, market: Market, interval: int, span: Span, drop_invalid: bool) -> None:
        self.market = market
        self.drop_invalid = drop_invalid
        self.interval = interval
        self.span = span
        self.latest = max(span[1], floor_to(time.time(), interval))
        self.page = self.limit = max(market.choose_page(), LEAST)
        self.most = 0  # bars that one answer has had
        self.settled = self.frontier = span[0]
        self.known: int | None = span[0] - interval
        self.footing = False  # whether a bar has been seen at all
        self.began: int | None = None  # when the market did, if that was established
        self.looked_ahead = False

    def blocks(self) -> Iterator[Block]:
        """Yield what is settled, up to the end of the span or the last bar there is."""
        while self.frontier < self.span[1]:
            block = self._step_from(self.known) if self.known is not None else self._grope()
            if block is not None:
                yield block
        if self.settled < self.span[1] and self._is_closed_later():
            yield self._settle(self.span[1], self._make_no_rows())

    def _ask(self, interval: int, since: int, limit: int) -> Rows:
        """Ask and return the closed bars of the answer from ``since`` on.

        Raises:
            SourceError: if no answer came, or none to the question at each of ``DOUBTED`` attempts,
                or if a bar of the walk's interval opens off its grid.
        """
        manners = self.market.manners
        doubted = replace(manners, attempts=min(manners.attempts, DOUBTED))
        rows = retry(lambda: self._ask_once(interval, since, limit), str(self.market), doubted)
        if interval == self.interval:
            off = rows.time[(rows.time - get_offset(interval)) % interval != 0]
            if len(off):
                raise SourceError(
                    f"{self.market}: a bar opens at {format_instant(off[0])}, off the UTC grid of "
                    f"{format_interval(interval)}: set another `interval`"
                )
            self.most = max(self.most, min(len(np.unique(rows.time)), limit))
        return rows

    def _ask_once(self, interval: int, since: int, limit: int) -> Rows:
        """Ask once; ``PassingError`` if the answer is none to the question."""
        rows = self.market.fetch_rows(interval, max(since, 0), limit)
        fault = find_unit(rows.time) if len(rows.time) else ""
        rows = rows.select(since, self.latest)
        step, odds = find_longer(rows.time, interval, self.market.list_intervals())
        if not fault and odds >= CERTAIN:
            fault = describe_longer(len(rows.time), step, interval)
        if fault:
            raise PassingError(f"no answer to the question: {fault}", ADVICE)
        return rows

    def _step_from(self, known: int) -> Block | None:
        """Ask on from a bar that the exchange has shown, or at the start may have."""
        since = known - self.interval
        if self.footing:
            rows = retry(lambda: self._ask_for(known), str(self.market), self.market.manners)
        else:
            rows = self._ask_around(known)
            if known not in rows.time and self.span[0] not in rows.time:
                self._look_back()
                return None
        self.footing = True
        if rows.time[-1] >= self.frontier:
            return self._settle_to_last(rows)
        self.known = None
        self.frontier = since + (self._count_sure_bars() - 1) * self.interval
        return None

    def _ask_around(self, known: int) -> Rows:
        """Ask once for the bar before ``known`` and on, and return what lies within ``limit``."""
        since = known - self.interval
        end = since + self.limit * self.interval
        return self._ask(self.interval, since, self.limit).select(since, end)

    def _grope(self) -> Block | None:
        """Ask on where no bar is known: in a hole, or before the market began."""
        since, sure = self.frontier - self.interval, self._count_sure_bars()
        end = since + sure * self.interval
        rows = self._ask(self.interval, since, sure).select(self.frontier, self.latest)
        inside = rows.select(self.frontier, end)
        if len(inside.time):
            if not self.footing:
                self._check_beginning(inside)
            return self._settle_to_last(inside)
        if len(rows.time) and not self.footing and not self.looked_ahead:
            self.looked_ahead = True
            ahead = int(rows.time[0])
            if self._find_bar_before(ahead, rows.values[0, 1]) is None:
                self.began = self.frontier = ahead
                return None
        self.frontier = end - self.interval
        return None

    def _settle_to_last(self, rows: Rows) -> Block | None:
        """Settle up to the last of rows that follow each other without an unasked part."""
        self.footing = True
        self.known = int(rows.time[-1])
        self.frontier = self.known + self.interval
        return self._settle(self.frontier, rows) if self.frontier > self.settled else None

    def _settle(self, end: int, rows: Rows) -> Block:
        span = (self.settled, min(end, self.span[1]))
        self.settled = span[1]
        where = f"{self.market}, {format_instant(span[0])} to {format_instant(span[1])}"
        rows = rows.select(*span)
        if span[1] - span[0] <= self.limit * self.interval and self._find_cuts(rows, span):
            since = span[0] - self.interval  # some exchanges leave out the bar that is asked for
            again = self._ask(self.interval, since, self.limit).select(*span)
            rows = rows.join(again)
        candles, notes = self._tidy(rows, where)
        notes += tuple(
            f"{where}: {stretch.describe()}, though the bars around are there: an outage, or an "
            "answer that was cut; `refresh: true` asks again"
            for stretch in self._find_cuts(rows, span)
        )
        if self.began is not None:
            notes = (
                f"{self.market}: taken as not traded before {format_instant(self.began)}, as "
                "neither these bars nor longer ones begin earlier",
                *notes,
            )
            self.began = None
        return Block(span, candles, self.market.origin, notes)

    def _find_cuts(self, rows: Rows, span: Span) -> list[Stretch]:
        """Find where bars of a span look cut or thinned out."""
        return find_cuts(np.unique(rows.time), self.interval, span)

    def _tidy(self, rows: Rows, where: str) -> tuple[Candles, tuple[str, ...]]:
        columns = {**dict(zip(ROW.columns, rows.values.T, strict=True)), "open_time": rows.time}
        return read_or_advise(
            lambda drop: tidy(columns, self.interval, where, drop_invalid=drop),
            self.drop_invalid,
        )

    def _make_no_rows(self) -> Rows:
        return Rows(np.zeros(0, dtype=np.int64), np.zeros((0, len(ROW.columns))))

    def _count_sure_bars(self) -> int:
        """Count the bars that one answer surely covers, if no more are asked for.

        Raises:
            SourceError: if no answer has had enough bars to tell, not even the newest page.
        """
        if self.most < LEAST:
            self._ask(self.interval, self.latest - self.page * self.interval, self.page)
        if self.most < LEAST:
            raise SourceError(
                f"{self.market}: no answer has had more than {self.most} bars, so there is no "
                "telling a hole from an answer cut short: set `start` and `end` to when it traded"
            )
        return min(self.most, self.limit)

    # --- where an answer lacks the bar that it must hold

    def _look_back(self) -> None:
        """Find the last bar before the span, within a page."""
        start = self.span[0]
        since = start - (self.limit - 2) * self.interval
        before = self._ask(self.interval, since, self.limit).select(since, start)
        if len(before.time):
            self.footing = True
            self.known = int(before.time[-1])
            self.frontier = self.known + self.interval
        else:
            self.known = None

    def _ask_for(self, known: int) -> Rows:
        """Ask around a bar that the exchange has shown before, and return rows that hold it.

        Less is asked for where the exchange seems to keep the end of what it cuts.

        Raises:
            PassingError: if the answer lacks the bar all the same.
        """
        rows = self._ask_around(known)
        while known not in rows.time and LEAST <= (given := len(np.unique(rows.time))) < self.limit:
            self.limit = given
            rows = self._ask_around(known)
        if known in rows.time:
            return rows
        has = f": it has bars from {format_instant(rows.time[0])}" if len(rows.time) else ""
        raise PassingError(
            f"the answer lacks the bar of {format_instant(known)}, which one before it had{has}",
            "it repeats itself, or keeps only its newest bars: run it again later, or set another "
            "`start`",
        )

    # --- the two ends

    def _check_beginning(self, rows: Rows) -> None:
        """Accept that there is nothing from the start of the span to the first row, or raise."""
        if self.began is not None:
            return
        first = int(rows.time[0])
        before = self._find_bar_before(first, rows.values[0, 1])
        if before is None:
            self.began = first
        elif before >= self.span[0]:
            raise SourceError(
                f"{self.market}: it had no bar at {format_instant(before)} and then had one: run "
                "it again later"
            )

    def _find_bar_before(self, first: int, opened: float) -> int | None:
        """Find a bar before ``first``, by way of longer bars; None if there is no such bar.

        Args:
            first: open time of the first bar that the exchange shows.
            opened: its first price, which a longer bar around it shares if the market began then.

        Raises:
            SourceError: if the exchange has history that it does not show in bars of the
                interval, or there is no telling.
        """
        show = f"{self.market} shows {format_interval(self.interval)} bars"
        advice = (
            f"set `start` to {format_instant(first)} or later, and take what is before it from "
            "another source"
        )
        longer = next(
            (s for s in _LONGER if s > self.interval and self.market.has_interval(s)), None
        )
        if longer is None:
            raise SourceError(
                f"{show} only from {format_instant(first)} on, and there is no telling whether it "
                f"traded before: {advice}"
            )
        sure = self._count_sure_bars()
        since = floor_to(first, longer) - (sure - 2) * longer
        rows = self._ask(longer, since, sure)
        if not len(rows.time):
            raise SourceError(
                f"{show} only from {format_instant(first)} on, and no bars of "
                f"{format_interval(longer)} that tell whether it traded before: {advice}"
            )
        around = (rows.time < first) & (rows.values[:, 1] != opened)
        earlier = rows.time[(rows.time + longer <= first) | around]
        if not len(earlier):
            return None
        bar = int(earlier[-1])
        for at in range(bar, bar + longer, (sure - 2) * self.interval):
            found = self._ask(self.interval, at - self.interval, sure).select(at, first)
            if len(found.time):
                return int(found.time[-1])
        raise SourceError(
            f"{show} only from {format_instant(first)} on, though its "
            f"{format_interval(longer)} bars say that it traded before: {advice}"
        )

    def _is_closed_later(self) -> bool:
        """Whether a bar beyond the span shows that its end is a hole and not the last of all.

        Raises:
            SourceError: if more than a page is missing, and nothing comes after it.
        """
        start, end = self.settled, self.span[1]
        later = any(
            len(self._ask(self.interval, since, self.limit).select(end, self.latest).time)
            for since in (end, max(end, self.latest - self.limit * self.interval))
            if end < self.latest
        )
        if not self.footing:
            if self.began is not None:
                return True
            if later and self._find_bar_before(end, np.nan) is not None:
                return True
            raise SourceError(
                f"{self.market} has no {format_interval(self.interval)} bars from "
                f"{format_instant(start)} to {format_instant(end)}: set `start` and `end` to when "
                "it traded"
            )
        if not later and end - start > self.page * self.interval:
            raise SourceError(
                f"{self.market} has no {format_interval(self.interval)} bars from "
                f"{format_instant(start)} on, and none at present: if it trades no more, set "
                "`end` to then; if it does, run it again later"
            )
        return later
