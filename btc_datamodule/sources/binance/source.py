"""Candles of Binance's public archive: years of minutes and seconds in a few large files.

``https://data.binance.vision`` keeps one zip for each month and one for each day, and beside each
a ``.CHECKSUM`` with its SHA-256; needs no key. Months that lie wholly in the asked span come from
the monthly file, the days around them from daily files. So do the days of a month whose file is
not there yet, and the days that a monthly file leaves out, as several of the futures' do
(binance/binance-public-data issues 186, 304, 346). Several files are on their way at a time; the
blocks come in order of time.

What is promised of a file: its checksum was right, it held one plain CSV of a size that the period
allows, and whatever was left out or looks odd is counted in the block's notes. Nothing of a zip is
written to disk. A day without a file is settled as a day without candles, with a note, unless it
is so recent that its file may still appear: from there on nothing is answered, so that a later run
asks again. A file that is there in part (a zip without its ``.CHECKSUM``, or the other way round),
or that holds no rows, is set aside: its days are not answered, and those after it are.

Memory: the zip and the candles of each file under way, and what it takes to read one, since one
is read at a time. A month of minutes (6 MB) hardly shows. A month of seconds was measured at
130 MB of zip, 190 MB of candles and 900 MB at the peak of reading: ``downloads=1`` keeps two.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from btc_datamodule.candles.series import make_empty
from btc_datamodule.candles.timeline import (
    Span,
    floor_to,
    format_instant,
    format_interval,
    parse_instant,
)
from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source, check_path_part
from btc_datamodule.sources.binance.downloads import Downloads
from btc_datamodule.sources.binance.klines import DAY, KlineFile, KlineFiles
from btc_datamodule.sources.web.manners import Manners

RECENT = 3 * DAY
"""Seconds after its end in which a day's file may still appear; usual are one or two days."""

DOUBTFUL = 28
"""Days without a file, and none before them, after which it is doubted that there are any."""

_INTERVALS = (1, 60, 180, 300, 900, 1800, *(hours * 3600 for hours in (1, 2, 4, 6, 8, 12, 24)))


@public
@dataclass(frozen=True)
class BinanceArchive(Source):
    """Binance's archive of klines, spot or USD-M futures.

    Attributes:
        product: the pair as Binance writes it.
        market: "spot", or "um" for USD-margined futures (no 1s bars there).
        base_url: where the archive is; https, or http to this machine.
        downloads: files fetched at a time, 1 to 16.
        requests_per_second: at most, of all downloads together; a file takes two.
        timeout: seconds until an answer brings content, and that it may stand still after that.
        attempts: requests made for a file before giving up, and downloads of one whose checksum
            does not match.
        retry_wait: seconds before the first retry; doubles with each. A ``Retry-After`` of the
            service goes before it.
        drop_invalid: leave out bars that are no candles (high < low, a negative price), with a
            note that counts them, in place of an error that ends the download.
        longest_wait: seconds that the service may ask to wait for (``Retry-After``); asked for
            longer, it is an error at once.
        longest_answer: seconds that one request may take in all, however its answer comes; None
            for what the largest file takes at 1,000 bytes a second.

    Raises:
        ConfigError: naming the argument that cannot be used.
    """

    name: ClassVar[str] = "binance"

    product: str = "BTCUSDT"
    market: Literal["spot", "um"] = "spot"
    base_url: str = "https://data.binance.vision"
    downloads: int = 4
    requests_per_second: float = 20.0
    timeout: float = 60.0
    attempts: int = 6
    retry_wait: float = 1.0
    drop_invalid: bool = False
    longest_wait: float = 3600.0
    longest_answer: float | None = None

    def __post_init__(self) -> None:
        check_path_part(self.product, "product")
        if self.market not in ("spot", "um"):
            raise ConfigError(f"market must be spot or um, not {self.market!r}")
        if not 1 <= self.downloads <= 16:
            raise ConfigError(f"downloads must be 1 to 16 at a time, not {self.downloads}")
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
        """The product, with "-um" appended for futures."""
        return self.product if self.market == "spot" else f"{self.product}-um"

    @property
    def first(self) -> int:  # type: ignore[override]  # read only, and for each market its own
        """When BTCUSDT began to trade on the market."""
        return parse_instant("2017-08-17" if self.market == "spot" else "2019-09-08")

    @property
    def intervals(self) -> tuple[int, ...]:  # type: ignore[override]  # read only, and for each market its own
        """Bar lengths in seconds: from 1m to 1d, and 1s of the spot market."""
        return _INTERVALS if self.market == "spot" else _INTERVALS[1:]

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield one block for each file, and one for each run of days without files.

        The answer ends before ``span`` does where days are so recent that their files are not
        there yet.

        Raises:
            SourceError: if the archive cannot be reached, a file stays different from its
                checksum or is damaged, or it has no files of the product.
            CandleError: if a row is no candle, such as one with high < low, unless
                ``drop_invalid``.
        """
        self.check_interval(interval)
        now = time.time()
        archive = KlineFiles(self.product, self.market, interval, self.first)
        files = archive.select((span[0], min(span[1], floor_to(now, DAY))))
        if not files:
            return
        with Downloads(archive, self.manners, self.downloads, self.drop_invalid) as downloads:
            absent: list[KlineFile] = []
            doubtful = True
            for file, block in downloads.fetch_in_order(files):
                if block is None and now - file.period[1] < RECENT:
                    break
                doubtful = doubtful and block is None
                if block is None:
                    absent.append(file)
                    if doubtful and len(absent) == DOUBTFUL:
                        days = [floor_to(now, DAY) - back * DAY for back in (4, 5, 6)]
                        recent = [archive.get_day(day) for day in days]
                        downloads.check_any_exists(files[-3:] + recent)
                    continue
                if absent:
                    yield self._settle_without_candles(interval, absent)
                    absent = []
                yield block
            if absent:
                yield self._settle_without_candles(interval, absent)

    def _settle_without_candles(self, interval: int, days: list[KlineFile]) -> Block:
        """Make the block, without a candle, of days in a row that have no file."""
        first, last = (format_instant(day.period[0])[:10] for day in (days[0], days[-1]))
        text = f"for {first}" if first == last else f"from {first} to {last}"
        note = (
            f"{self.name} {self.series}: the archive has no {format_interval(interval)} file {text}"
            ": taken as without candles (`refresh: true` asks again)"
        )
        span = (days[0].wanted[0], days[-1].wanted[1])
        return Block(
            span, make_empty(interval), f"{self.manners.join(days[0].path)} absent", (note,)
        )
