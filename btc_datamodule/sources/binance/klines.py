"""Which files of Binance's archive hold a span: months where they fit whole, days around them.

Pure: nothing here asks whether a file exists.
"""

from datetime import UTC, datetime
from typing import Literal, NamedTuple

from btc_datamodule.candles.timeline import Span, floor_to, format_instant, format_interval

DAY = 86_400


class KlineFile(NamedTuple):
    """A zip of the archive.

    Attributes:
        path: where the zip is under the archive's URL, with a slash at the beginning.
        period: the month or day that the zip is about, half-open, epoch seconds.
        wanted: the part of ``period`` that is wanted.
    """

    path: str
    period: Span
    wanted: Span

    @property
    def name(self) -> str:
        """The name of the zip, without folders."""
        return self.path.rsplit("/", 1)[1]

    @property
    def is_month(self) -> bool:
        """Whether the zip is about a month, not a day."""
        return self.period[1] - self.period[0] > DAY


class KlineFiles(NamedTuple):
    """The files that the archive may have of one product.

    Attributes:
        product: the pair as Binance writes it.
        market: "spot", or "um" for USD-margined futures.
        interval: seconds of a bar.
        first: epoch seconds at which the market began; its month counts as whole from then on.
    """

    product: str
    market: str
    interval: int
    first: int

    def select(self, span: Span) -> list[KlineFile]:
        """Choose the months wholly inside ``span``, and the days around them, in order of time."""
        files: list[KlineFile] = []
        at, end = span
        while at < end:
            month = _find_month(at)
            if at == max(month[0], self.first) and month[1] <= end:
                files.append(self._name_file("monthly", month, (at, month[1])))
            else:
                files += self.select_days((at, min(month[1], end)))
            at = month[1]
        return files

    def select_days(self, span: Span) -> list[KlineFile]:
        """Choose the days that ``span`` touches; of the first and last the part inside ``span``."""
        starts = range(floor_to(span[0], DAY), span[1], DAY)
        days = map(self.get_day, starts)
        return [
            day._replace(wanted=(max(day.period[0], span[0]), min(day.period[1], span[1])))
            for day in days
        ]

    def get_day(self, start: int) -> KlineFile:
        """Return the file of the day that begins at ``start`` (epoch seconds), wanted whole."""
        day = (start, start + DAY)
        return self._name_file("daily", day, day)

    def _name_file(self, kind: Literal["monthly", "daily"], period: Span, part: Span) -> KlineFile:
        market = "spot" if self.market == "spot" else "futures/um"
        bars = format_interval(self.interval)
        date = format_instant(period[0])[: 7 if kind == "monthly" else 10]
        folder = f"/data/{market}/{kind}/klines/{self.product}/{bars}"
        return KlineFile(f"{folder}/{self.product}-{bars}-{date}.zip", period, part)


def _find_month(instant: int) -> Span:
    """Find the calendar month, UTC, that an instant (epoch seconds) is in."""
    start = datetime.fromtimestamp(instant, UTC).replace(day=1, hour=0, minute=0, second=0)
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp()), int(end.timestamp())
