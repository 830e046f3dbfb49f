"""Mark prices, index prices and premiums of Binance's archive, in bars.

They come in files like those of klines: monthly ones, and daily ones around and in place of them.
Volumes and counts in them say nothing and are left out. A bar is known at its close. Bars that are
not there stay away: nothing is filled.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from btc_datamodule.candles.records import RecordSet, make_empty
from btc_datamodule.candles.series import PRICES
from btc_datamodule.candles.timeline import Span, format_interval, parse_instant, parse_interval
from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public
from btc_datamodule.sources.base import read_or_advise
from btc_datamodule.sources.binance.answers import (
    answer_records,
    check_arguments,
    check_contract,
    name_series,
)
from btc_datamodule.sources.binance.downloads import Contents
from btc_datamodule.sources.binance.files import ArchiveFile, ArchiveFiles
from btc_datamodule.sources.binance.klines import INTERVALS, read_kline_records
from btc_datamodule.sources.records import RecordBlock, RecordSource
from btc_datamodule.sources.web.manners import Manners

_TYPES = {"mark": "markPriceKlines", "index": "indexPriceKlines", "premium": "premiumIndexKlines"}
_FIRST = {"um": "2019-12-23", "cm": "2020-06-01"}


@public
@dataclass(frozen=True)
class BinanceKlines(RecordSource):
    """Mark price, index price or premium of futures, in bars, of Binance's archive.

    Records have the columns open, high, low and close. A premium is a fraction of the index price,
    and may be negative.

    Attributes:
        product: the pair as Binance writes it; of coin-margined futures the contract, such as
            BTCUSD_PERP, and for their index price the pair, such as BTCUSD.
        kind: what the bars are of: "mark", "index" or "premium".
        interval: length of a bar, such as 5m: 1m to 1d. Held as seconds.
        market: "um" for USD-margined futures, or "cm" for coin-margined ones.
        base_url: where the archive is; https, or http to this machine.
        downloads: files fetched at a time, 1 to 16.
        requests_per_second: at most, of all downloads together; a file takes two.
        timeout: seconds until an answer brings content, and that it may stand still after that.
        attempts: requests made for a file before giving up, and downloads of one whose checksum
            does not match before it is set aside.
        retry_wait: seconds before the first retry; doubles with each.
        drop_invalid: leave out bars that cannot be (high < low, a mark price that is not above
            zero) or that contradict each other, with a note that counts them, in place of an error
            that ends the download.
        longest_wait: seconds that the service may ask to wait for (``Retry-After``); asked for
            longer, it is an error at once.
        longest_answer: seconds that one request may take in all; None for what the largest file
            takes at 1,000 bytes a second.

    Raises:
        ConfigError: naming the argument that cannot be used.
    """

    name: ClassVar[str] = "binance"

    product: str = "BTCUSDT"
    kind: Literal["mark", "index", "premium"] = "mark"
    interval: int | str = "1h"  # type: ignore[assignment]  # of an object always seconds
    market: Literal["um", "cm"] = "um"
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
        object.__setattr__(self, "interval", _read_interval(self.interval))
        check_arguments(self.product, self.market, self.downloads)
        if self.kind not in _TYPES:
            raise ConfigError(f"kind must be {' or '.join(_TYPES)}, not {self.kind!r}")
        if self.kind != "index":
            check_contract(self.product, self.market)
        elif self.market == "cm" and "_" in self.product:
            pair = self.product.partition("_")[0]
            raise ConfigError(
                f"product {self.product!r} is a contract, and index prices of market cm are those "
                f"of a pair: write {pair}"
            )
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
        """Product, market, kind and interval: "BTCUSDT-um-mark-1h"."""
        interval = format_interval(int(self.interval))
        return name_series(self.product, self.market, self.kind, interval)

    @property
    def columns(self) -> tuple[str, ...]:
        """Open, high, low and close."""
        return PRICES

    @property
    def first(self) -> int:  # type: ignore[override]  # read only, and for each market its own
        """When the first bars of the market began."""
        return parse_instant(_FIRST[self.market])

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        """Yield one block for each file, and one for each run of days without files.

        The answer ends before ``span`` does where days are so recent that their files are not
        there yet. A file that stays different from its checksum or cannot be read is set aside: its
        block is not answered.

        Raises:
            SourceError: if the archive cannot be reached, or has no files of the product.
            RecordError: if a row is no bar, unless ``drop_invalid``.
        """
        interval = int(self.interval)

        def read(body: bytes, file: ArchiveFile, url: str) -> tuple[RecordSet, tuple[str, ...]]:
            about = (file.name, file.period, interval, url)
            is_signed = self.kind == "premium"
            return read_or_advise(
                lambda drop: read_kline_records(
                    body, *about, is_signed=is_signed, drop_invalid=drop
                ),
                self.drop_invalid,
            )

        files = ArchiveFiles(
            self.product, self.market, self.first, interval, type=_TYPES[self.kind]
        )
        contents = Contents(make_empty(PRICES), interval, read, lambda records: records.time)
        yield from answer_records(self, files, contents, span)


def _read_interval(given: int | str) -> int:
    """Seconds of a length of bars that there is."""
    seconds = parse_interval(given) if isinstance(given, str) else given
    if seconds not in INTERVALS:
        text = given if isinstance(given, str) else f"{given} s"
        offered = ", ".join(map(format_interval, INTERVALS))
        raise ConfigError(f"interval {text}: binance has bars of {offered}")
    return int(seconds)
