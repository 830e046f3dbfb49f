"""Which files of Binance's archive hold a span: months where they fit whole, days around them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from btc_datamodule.candles.timeline import Span, floor_to, format_instant, format_interval

if TYPE_CHECKING:
    from btc_datamodule.sources.binance.source import BinanceArchive

DAY = 86_400


class _File(NamedTuple):
    """A file of the archive: where it is, the time that it is about, and the part wanted of it."""

    path: str
    period: Span
    wanted: Span

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[1]

    @property
    def is_month(self) -> bool:
        return self.period[1] - self.period[0] > DAY


def _files(source: "BinanceArchive", interval: int, span: Span) -> list[_File]:
    """The months wholly inside ``span``, and days around them, in order of time."""
    files: list[_File] = []
    at, end = span
    while at < end:
        month = _month(at)
        if at == max(month[0], source.first) and month[1] <= end:
            files.append(_file(source, interval, "monthly", month, (at, month[1])))
        else:
            files += _days(source, interval, (at, min(month[1], end)))
        at = month[1]
    return files


def _days(source: "BinanceArchive", interval: int, span: Span) -> list[_File]:
    starts = range(floor_to(span[0], DAY), span[1], DAY)
    whole = (_day_file(source, interval, start) for start in starts)
    return [
        day._replace(wanted=(max(day.period[0], span[0]), min(day.period[1], span[1])))
        for day in whole
    ]


def _day_file(source: "BinanceArchive", interval: int, start: int) -> _File:
    day = (start, start + DAY)
    return _file(source, interval, "daily", day, day)


def _file(
    source: "BinanceArchive",
    interval: int,
    kind: Literal["monthly", "daily"],
    period: Span,
    part: Span,
) -> _File:
    market = "spot" if source.market == "spot" else "futures/um"
    bars = format_interval(interval)
    date = format_instant(period[0])[: 7 if kind == "monthly" else 10]
    folder = f"/data/{market}/{kind}/klines/{source.product}/{bars}"
    return _File(f"{folder}/{source.product}-{bars}-{date}.zip", period, part)


def _month(instant: int) -> Span:
    """The calendar month around an instant."""
    start = datetime.fromtimestamp(instant, UTC).replace(day=1, hour=0, minute=0, second=0)
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp()), int(end.timestamp())
