"""The regular grid: every bar from a series' first to its last, holes judged.

Owns what becomes of absent bars. A hole of at most ``max_fill`` bars means that nobody traded:
its bars are filled flat at the previous close with volume 0, which is a true observation. A
longer hole is an *outage*: its bars stay NaN, nobody knows what the price was. Whether a hole is
the one or the other is known only when it ends; as no sample has its origin or a target in an
outage, this decides which samples exist and never a value inside one.

Memory does not depend on the length of the series, only on its number of holes and the rows
asked for at a time.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs, mark_runs
from btc_datamodule.candles.series import OPTIONAL, PRICES, find_holes
from btc_datamodule.candles.timeline import Span, ceil_to, format_instant
from btc_datamodule.errors import ConfigError
from btc_datamodule.store.candle_file import CHUNK_ROWS, CandleReader


@dataclass(frozen=True, eq=False)
class Grid:
    """The rows of a series between two instants, with its holes.

    Row r is the bar that opens at ``first + r * interval``.

    Attributes:
        first: open time of row 0.
        interval: seconds.
        rows: T.
        present: bars that the candle file has among them.
        outages: runs of rows that were not observed.
        no_trade: number of rows filled as bars without trades.
        holes: number of holes, of either kind.
    """

    first: int
    interval: int
    rows: int
    present: int
    outages: Runs
    no_trade: int
    holes: int
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
        gaps = (np.concatenate(found) - first) // interval
        length = gaps[:, 1] - gaps[:, 0]
        return cls(
            first=first,
            interval=interval,
            rows=(last - first) // interval + 1,
            present=present,
            outages=gaps[length > max_fill],
            no_trade=int(length[length <= max_fill].sum()),
            holes=len(gaps),
            max_fill=max_fill,
        )

    def times(self, low: int, high: int) -> NDArray[np.int64]:
        """Open times of rows [low, high)."""
        return self.first + self.interval * np.arange(low, high, dtype=np.int64)

    def read_bars(
        self, reader: CandleReader, low: int, high: int
    ) -> dict[str, NDArray[np.float64]]:
        """Float64 columns of rows [low, high): filled where nobody traded, NaN in outages."""
        # The bar before a filled hole lies at most max_fill + 1 rows back.
        early = max(0, low - self.max_fill - 1)
        candles = reader.slice(
            self.first + early * self.interval, self.first + high * self.interval
        )
        rows = (candles.open_time - self.first) // self.interval - early
        count = high - early
        source = np.full(count, -1, dtype=np.int64)
        source[rows] = np.arange(len(candles))
        fill = (source < 0) & ~mark_runs(self.outages, early, high)
        # The rows before the first bar read are never asked for: `early` reaches back to a bar.
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


def _split_span(reader: CandleReader, span: Span) -> list[Span]:
    """The part of ``span`` that the file has bars in, cut into windows of ``CHUNK_ROWS`` bars."""
    interval = reader.header.interval
    start = ceil_to(max(span[0], reader.header.span[0]), interval)
    end = min(span[1], reader.header.span[1])
    step = CHUNK_ROWS * interval
    return [(low, min(low + step, end)) for low in range(start, end, step)]
