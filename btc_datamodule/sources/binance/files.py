"""Which files of Binance's archive hold a span: months where they fit whole, days around them.

Klines of every kind have both; of other types there are only months, or only days. Pure: nothing
here asks whether a file exists.
"""

from datetime import UTC, datetime
from typing import Literal, NamedTuple

from btc_datamodule.candles.timeline import (
    Span,
    floor_to,
    format_instant,
    format_interval,
    parse_instant,
)

DAY = 86_400

FOLDERS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
"""Where the files of each market are."""

_WITNESSES = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}
"""Of each market the product that has traded since the first files, and every day."""

_MISTAKEN = {"spot": ("2020-12-21", "2021-09-29")}
"""Days of which the monthly klines of a market are known to be wrong, and the daily ones right:
binance/binance-public-data issue 475."""


class ArchiveFile(NamedTuple):
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

    @property
    def date(self) -> str:
        """The month or day, as the zip's name has it: "2020-01" or "2020-01-05"."""
        return self.name[-len("2020-01.zip") if self.is_month else -len("2020-01-05.zip") : -4]


class ArchiveFiles(NamedTuple):
    """The files that the archive may have of one product and one type.

    Attributes:
        product: the pair or contract as Binance writes it.
        market: "spot", "um" for USD-margined futures, "cm" for coin-margined ones.
        first: epoch seconds at which the type began; its month counts as whole from then on.
        interval: seconds of a bar, of a type that has bars; 0 of another.
        type: its folder, such as "klines" or "metrics".
        periods: whether there are monthly files, daily ones, or both.
    """

    product: str
    market: str
    first: int
    interval: int = 0
    type: str = "klines"
    periods: Literal["both", "monthly", "daily"] = "both"

    @property
    def kind(self) -> str:
        """What the files are, for messages: "1h", "1h markPriceKlines" or "metrics"."""
        words = [format_interval(self.interval)] if self.interval else []
        return " ".join(words if self.type == "klines" else [*words, self.type])

    @property
    def has_days(self) -> bool:
        """Whether there are daily files."""
        return self.periods != "monthly"

    def select(self, span: Span) -> list[ArchiveFile]:
        """Choose the files of ``span``, in order of time.

        Of a type that has both, the months wholly inside it and the days around them.
        """
        if self.periods == "daily":
            return self.select_days(span)
        files: list[ArchiveFile] = []
        at, end = span
        while at < end:
            month = _find_month(at)
            part = (at, min(month[1], end))
            is_whole = at == max(month[0], self.first) and month[1] <= end
            if is_whole or not self.has_days:
                files.append(self._name_file(month, part))
            else:
                files += self.select_days(part)
            at = month[1]
        return files

    def select_days(self, span: Span) -> list[ArchiveFile]:
        """Choose the days that ``span`` touches; of the first and last the part inside ``span``."""
        starts = range(floor_to(span[0], DAY), span[1], DAY)
        days = [self._name_file((day, day + DAY), (day, day + DAY)) for day in starts]
        return [
            day._replace(wanted=(max(day.period[0], span[0]), min(day.period[1], span[1])))
            for day in days
        ]

    def select_recent(self, now: float) -> list[ArchiveFile]:
        """Choose three files that are over for so long that they are there, if any is."""
        if self.has_days:
            today = floor_to(now, DAY)
            return self.select_days((today - 6 * DAY, today - 3 * DAY))
        end = _find_month(self.find_end(now) - 1)[0]
        return self.select((end - 65 * DAY, end))

    def find_witness(self, file: ArchiveFile) -> ArchiveFile | None:
        """The file of the product that always trades, of the same period and type as a file.

        None if that is the product itself, whose files cannot tell anything of one another.
        """
        product = _WITNESSES[self.market]
        if self.type == "indexPriceKlines":
            product = product.partition("_")[0]
        if product == self.product:
            return None
        return self._replace(product=product)._name_file(file.period, file.wanted)

    def find_end(self, now: float) -> int:
        """Return the end of the last day, or month where there are no days, that is over."""
        return floor_to(now, DAY) if self.has_days else _find_month(int(now))[0]

    def list_mistaken(self, span: Span) -> list[Span]:
        """The days in ``span`` whose rows in monthly files are known to be wrong."""
        known = _MISTAKEN.get(self.market, ()) if self.type == "klines" else ()
        days = [(start, start + DAY) for start in map(parse_instant, known)]
        return [day for day in days if span[0] <= day[0] and day[1] <= span[1]]

    def _name_file(self, period: Span, part: Span) -> ArchiveFile:
        often, length = ("monthly", 7) if period[1] - period[0] > DAY else ("daily", 10)
        folder = f"/data/{FOLDERS[self.market]}/{often}/{self.type}/{self.product}"
        what = self.type
        if self.interval:
            what = format_interval(self.interval)
            folder = f"{folder}/{what}"
        date = format_instant(period[0])[:length]
        return ArchiveFile(f"{folder}/{self.product}-{what}-{date}.zip", period, part)


def _find_month(instant: int) -> Span:
    """Find the calendar month, UTC, that an instant (epoch seconds) is in."""
    start = datetime.fromtimestamp(instant, UTC).replace(day=1, hour=0, minute=0, second=0)
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp()), int(end.timestamp())
