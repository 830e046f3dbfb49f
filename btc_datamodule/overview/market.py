"""What is looked at, in words for a title: which market, bars of which length, since when."""

import re
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from btc_datamodule.candles.timeline import Span, format_interval
from btc_datamodule.escaping import shorten
from btc_datamodule.settings import Settings
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.sources.ccxt.source import Ccxt
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.sources.files.source import CandleFile
from btc_datamodule.sources.simulator import Simulator

DAY = 86_400
SHORT = 3 * DAY
"""A span up to it is told with its hours."""

LONGEST = 60
"""Letters of what others have named."""

_UNITS = {"s": "s", "m": "min", "h": "h", "d": "d", "w": "w"}
_BINANCE = {"spot": "Binance", "um": "Binance USD-M futures", "cm": "Binance COIN-M futures"}
_QUOTE = re.compile(
    r"(?:BTC|XBT|ETH)[-_/:. ]?(FDUSD|BUSD|TUSD|USDT|USDC|USD|EUR|GBP|JPY|KRW|AUD|CAD|CHF|BRL|TRY)",
    re.IGNORECASE,
)


class Market(NamedTuple):
    """Whose candles these are, for people.

    Attributes:
        name: of the market, such as ``BTC-USD``, or of the file.
        place: where it trades, such as ``Coinbase``; "" where nobody says.
        bars: ``1 h bars``.
        quote: the currency of prices, such as ``USD``; "" where nobody says.
    """

    name: str
    place: str
    bars: str
    quote: str

    def __str__(self) -> str:
        return f"{self.name}, {self.bars}" + (f" of {self.place}" if self.place else "")

    @property
    def price(self) -> str:
        """A label for prices, with their unit."""
        return f"price ({self.quote or 'quote currency'})"


def name_market(settings: Settings) -> Market:
    """The market of some settings, without asking anybody."""
    name, place = _name_source(settings.source)
    name = shorten(name, LONGEST)
    simulated = isinstance(settings.source, Simulator)
    quote = _QUOTE.search(name)
    currency = "USD" if simulated else quote[1].upper() if quote else ""
    return Market(
        name, shorten(place, LONGEST), f"{write_interval(settings.interval)} bars", currency
    )


def title_of(settings: Settings, span: Span) -> str:
    """``BTC-USD, 1 h bars of Coinbase, 2017-01-01 to 2025-01-01``."""
    return f"{name_market(settings)}, {write_span(span)}"


def write_interval(interval: int) -> str:
    """``1 h``, ``5 min``, ``1 d + 8 h``: with a unit that nobody takes for another."""
    parts = (re.fullmatch(r"(\d+)(\w)", each) for each in format_interval(interval).split("+"))
    return " + ".join(f"{part[1]} {_UNITS[part[2]]}" for part in parts if part)


def write_span(span: Span) -> str:
    """``2017-01-01 to 2025-01-01``; of a few days with hours, UTC."""
    start, end = (datetime.fromtimestamp(each, UTC) for each in span)
    if span[1] - span[0] > SHORT:
        return f"{start:%Y-%m-%d} to {end:%Y-%m-%d}"
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


def _name_source(source: Source) -> tuple[str, str]:
    """Name and place of the market of a source."""
    match source:
        case Simulator():
            return f"{source.coin} simulated (seed {source.seed})", ""
        case Coinbase():
            return source.product, "Coinbase"
        case BinanceArchive():
            return source.product, _BINANCE[source.market]
        case Ccxt():
            return source.symbol, source.exchange.capitalize()
        case CandleFile():
            return source.product or source.symbol or _name_files(source), ""
        case _:
            return source.series, source.name


def _name_files(source: CandleFile) -> str:
    """The name of a file, of the first of several, or of a folder."""
    given = source.path
    paths = [str(given)] if isinstance(given, str | PathLike) else [*map(str, given)]
    name = Path(paths[0]).name or str(paths[0])
    return name if len(paths) == 1 else f"{name} and {len(paths) - 1} more"
