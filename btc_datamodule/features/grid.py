"""The regular grid: every bar from a series' first to its last, holes filled or left.

Owns what becomes of absent bars. A bar that is absent while at most ``max_fill`` bars have been so
in a row is taken for time without trades: it is filled flat at the last close, with volume 0. The
bars of a hole after those are an *outage*: they stay NaN, nobody knows what the price was.

So what stands in a row depends on that row and the ones before it, never on how long the hole
turns out to be. That a hole will end soon is news from the future: were its first bars filled only
then, a window with the third of them in it would tell that the next bar trades.

Memory does not depend on the length of the series, only on its number of holes and the rows
asked for at a time.
"""

import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs, mark_runs
from btc_datamodule.candles.series import OPTIONAL, PRICES, find_holes
from btc_datamodule.candles.timeline import Span, ceil_to, format_instant
from btc_datamodule.errors import ConfigError
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.series_file import CHUNK_ROWS


@dataclass(frozen=True, eq=False)
class Grid:
    """The rows of a series between two instants, with its holes.

    Row r is the bar that opens at ``first + r * interval``.

    Attributes:
        first: open time of row 0.
        interval: seconds.
        rows: T.
        present: bars that the candle file has among them.
        holes: runs of rows whose bars it does not have.
        max_fill: rows of each hole that are filled, from its first.
    """

    first: int
    interval: int
    rows: int
    present: int
    holes: Runs
    max_fill: int

    @classmethod
    def of(cls, reader: CandleReader, span: Span, max_fill: int) -> "Grid":
        """The grid of a candle file's bars inside ``span``.

        Raises:
            ConfigError: if there is no bar in ``span``.
        """
        interval = reader.header.interval
        found: list[Runs] = []
        present, first, last = 0, 0, 0
        for start, end in _split_span(reader, span):
            times = reader.slice(start, end).open_time
            if len(times):
                known = np.concatenate([[last] if present else [], times]).astype(np.int64)
                found.append(find_holes(known, interval))
                first = first if present else int(times[0])
                last = int(times[-1])
                present += len(times)
        if not present:
            has = " to ".join(format_instant(when) for when in reader.header.span)
            until = "the latest bar" if span[1] > time.time() else format_instant(span[1])
            raise ConfigError(
                f"no candles between {format_instant(span[0])} and {until}: "
                f"{reader.path} has {has if reader.header.rows else 'none'}; "
                "change `start` or `end`"
            )
        return cls(
            first=first,
            interval=interval,
            rows=(last - first) // interval + 1,
            present=present,
            holes=(np.concatenate(found) - first) // interval,
            max_fill=max_fill,
        )

    def extend(self, end: int) -> "Grid":
        """The grid with rows for all bars that are over at ``end``.

        Those after the last candle are absent so far, as in a hole.
        """
        rows = (end - self.first) // self.interval
        if rows <= self.rows:
            return self
        absent = np.array([[self.rows, rows]], dtype=np.int64)
        return replace(self, rows=rows, holes=np.concatenate([self.holes, absent]))

    @cached_property
    def outages(self) -> Runs:
        """Runs of rows that stay NaN."""
        return find_outages(self.holes, self.max_fill)

    def find_oldest(self, low: int, newest: NDArray[np.int64]) -> NDArray[np.int64]:
        """The oldest rows that it hangs on what some consecutive rows are.

        A row itself; of a filled one that which it repeats; of an outage the first that it would
        repeat had there been a bar.

        Args:
            low: the first of them.
            newest: what ``find_newest`` gives for them.
        """
        rows = np.arange(low, low + len(newest), dtype=np.int64)
        return np.where(newest < rows, np.maximum(newest, rows - self.max_fill), rows)

    def find_newest(self, low: int, high: int) -> NDArray[np.int64]:
        """The newest rows up to each of [low, high) of which the candle file has the bar."""
        rows = np.arange(low, high, dtype=np.int64)
        if not len(self.holes):
            return rows
        at = np.searchsorted(self.holes[:, 0], rows, side="right") - 1
        start, stop = self.holes[at, 0], self.holes[at, 1]
        return np.where((at >= 0) & (rows < stop), start - 1, rows)

    def times(self, low: int, high: int) -> NDArray[np.int64]:
        """Open times of rows [low, high)."""
        return self.first + self.interval * np.arange(low, high, dtype=np.int64)

    def read_bars(
        self, reader: CandleReader, low: int, high: int
    ) -> dict[str, NDArray[np.float64]]:
        """Float64 columns of rows [low, high): filled where nobody traded, NaN in outages."""
        # The bar that a filled one repeats lies at most max_fill rows back.
        early = max(0, low - self.max_fill)
        candles = reader.slice(
            self.first + early * self.interval, self.first + high * self.interval
        )
        rows = (candles.open_time - self.first) // self.interval - early
        count = high - early
        source = np.full(count, -1, dtype=np.int64)
        source[rows] = np.arange(len(candles))
        fill = (source < 0) & ~mark_runs(self.outages, early, high)
        # Rows before the first bar read are none of [low, high), or of an outage.
        before = np.maximum.accumulate(source)
        columns: dict[str, NDArray[np.float64]] = {}
        for name in candles.columns:
            if name == "open_time":
                continue
            column = np.full(count, np.nan)
            column[rows] = candles[name]
            if name in PRICES:
                column[fill & (before >= 0)] = candles["close"][before[fill & (before >= 0)]]
            else:
                column[fill] = 0.0
            columns[name] = column[low - early :]
        for name in OPTIONAL:
            columns.setdefault(name, np.full(high - low, np.nan))
        return columns


def find_outages(holes: Runs, max_fill: int) -> Runs:
    """Runs of rows of ``holes`` that are not filled: those after each one's first ``max_fill``."""
    longer: Runs = holes[holes[:, 1] - holes[:, 0] > max_fill]
    longer[:, 0] += max_fill
    return longer


def _split_span(reader: CandleReader, span: Span) -> list[Span]:
    """The part of ``span`` that the file has bars in, cut into windows of ``CHUNK_ROWS`` bars."""
    interval = reader.header.interval
    start = ceil_to(max(span[0], reader.header.span[0]), interval)
    end = min(span[1], reader.header.span[1])
    step = CHUNK_ROWS * interval
    return [(low, min(low + step, end)) for low in range(start, end, step)]
