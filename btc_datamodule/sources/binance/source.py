"""Candles of Binance's public archive: years of minutes and seconds in a few large files.

``https://data.binance.vision`` keeps one zip for each month and one for each day, and beside each
a ``.CHECKSUM`` with its SHA-256; needs no key. Months that lie wholly in the asked span come from
the monthly file, the days around them from daily files. So do the days of a month whose file is
not there yet, and the days that a monthly file leaves out, as several of the futures' do
(binance/binance-public-data issues 186, 304, 346), and two days that those of spot are known to
have wrong (issue 475). Several files are on their way at a time; the blocks come in order of time.

What is promised of a file: its checksum was right, it held one plain CSV of a size that the period
allows, and whatever was left out or looks odd is counted in the block's notes. Nothing of a zip is
written to disk. A day without a file is settled as a day without candles, with a note, if another
file shows that the archive works (``answers`` says which), unless it is so recent that its file
may still appear: from there on nothing is answered, so that a later run asks again. A file that
is there in part (a zip without its ``.CHECKSUM``, or the other way round), or that holds no rows,
is set aside: its days are not answered, and those after it are.

Memory: the zip and the candles of each file under way, and what it takes to read one, since one
is read at a time. A month of minutes (6 MB) hardly shows. A month of seconds was measured at
130 MB of zip, 190 MB of candles and 900 MB at the peak of reading: ``downloads=1`` keeps two.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from btc_datamodule.candles.series import Candles, make_empty
from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source, read_or_advise
from btc_datamodule.sources.binance.answers import (
    answer,
    check_arguments,
    check_contract,
    name_series,
)
from btc_datamodule.sources.binance.downloads import Contents
from btc_datamodule.sources.binance.files import FOLDERS, ArchiveFile, ArchiveFiles
from btc_datamodule.sources.binance.klines import INTERVALS, read_klines
from btc_datamodule.sources.web.manners import Manners

_FIRST = {"spot": "2017-08-17", "um": "2019-09-08", "cm": "2020-06-01"}


@public
@dataclass(frozen=True)
class BinanceArchive(Source):
    """Binance's archive of klines, spot or futures.

    Volumes are in the base coin. Of coin-margined futures the archive has no ``quote_volume``.

    Attributes:
        product: the pair as Binance writes it; of coin-margined futures the contract, such as
            BTCUSD_PERP.
        market: "spot", "um" for USD-margined futures, "cm" for coin-margined ones (no 1s bars of
            futures).
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
    market: Literal["spot", "um", "cm"] = "spot"
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
        check_arguments(self.product, self.market, self.downloads, tuple(FOLDERS))
        check_contract(self.product, self.market)
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
        """The product, with "-um" or "-cm" appended for futures."""
        return name_series(self.product, self.market)

    @property
    def first(self) -> int:  # type: ignore[override]  # read only, and for each market its own
        """When BTCUSDT, or the first coin-margined contract, began to trade on the market."""
        return parse_instant(_FIRST[self.market])

    @property
    def intervals(self) -> tuple[int, ...]:  # type: ignore[override]  # read only, and for each market its own
        """Bar lengths in seconds: from 1m to 1d, and 1s of the spot market."""
        return (1, *INTERVALS) if self.market == "spot" else INTERVALS

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

        def read(body: bytes, file: ArchiveFile, url: str) -> tuple[Candles, tuple[str, ...]]:
            about = (file.name, file.period, interval, url)
            in_contracts = self.market == "cm"
            return read_or_advise(
                lambda drop: read_klines(
                    body, *about, in_contracts=in_contracts, drop_invalid=drop
                ),
                self.drop_invalid,
            )

        files = ArchiveFiles(self.product, self.market, self.first, interval)
        contents = Contents(
            make_empty(interval),
            interval,
            read,
            lambda candles: candles.open_time,
            noun="candles",
            sets_aside=False,
        )
        with closing(answer(self, files, contents, span)) as answers:
            for each in answers:
                block = Block(each.span, each.rows, *each.about)
                yield block
