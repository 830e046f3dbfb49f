"""What a column's name says: the name of a column of candles, and what stands beside it.

A name may have several levels ("Close | BTC-USD"), or a market before or after it
("close_BTCUSDT"), or say of what it is the volume ("Volume ETH").
"""

import ast
import re
from typing import NamedTuple

from btc_datamodule.candles.series import PRICES
from btc_datamodule.errors import SourceError
from btc_datamodule.sources.columns import ALIASES, normalise
from btc_datamodule.sources.files.raw import LEVELS

_OTHER_THINGS = re.compile(
    r"prev|adj|sma|ema|wma|vwap|avg|mean|time|date|chang|interest|pct|percent|ret|vol|diff|24h"
)
"""In what stands beside a name of a price: it is another thing, such as ``prev_close``."""

_MONEY = ("usd", "usdt", "usdc", "busd", "fdusd", "tusd", "dai", "eur", "gbp", "jpy", "krw", "try")


_NO_COINS = (
    *("ume", "total", "quote", "taker", "base", "delta", "tick", "ticks", "buy", "sell", "lots"),
    *("mbtc", "ubtc", "sats", "conts", "cont", "units", "shares", "sma", "ema", "avg", "mean"),
)
"""What may stand beside "volume" and is no coin."""


class Name(NamedTuple):
    """A reading of a column's name: the name of a column of candles, and what else it says."""

    plain: str
    group: str


def read_levels(name: str) -> list[Name]:
    """The readings of a name: each of its levels, with the others as what else it says."""
    levels = name.split(LEVELS)
    if name.startswith("(") and name.endswith(")"):  # as pandas writes names of several levels
        try:
            levels = [str(level) for level in ast.literal_eval(name)]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            levels = [name]
    return [
        Name(normalise(level), " ".join(levels[:i] + levels[i + 1 :]).strip())
        for i, level in enumerate(levels)
    ]


def read_affixes(name: str) -> list[Name]:
    """The readings of a name with something before or after it, such as "close_BTCUSDT"."""
    parts = re.split(r"([_ .:/-])", name)
    readings = []
    for i in range(1, len(parts), 2):
        before, after = "".join(parts[:i]), "".join(parts[i + 1 :])
        readings += [Name(normalise(before), after), Name(normalise(after), before)]
    return [each for each in readings if not _OTHER_THINGS.search(normalise(each.group))]


def read_volume(name: str) -> list[Name]:
    """The reading of a name that says of what it is the volume, such as "Volume ETH"."""
    match = re.fullmatch(
        r"(?:volume|vol(?!ume))([a-z]{3,5})|([a-z]{3,5})(?:volume|vol)", normalise(name)
    )
    if match is None or normalise(name) in {*ALIASES["volume"], *ALIASES["quote_volume"]}:
        return []
    of = match[1] or match[2]
    if of in _NO_COINS:
        return []
    return [Name("quotevolume" if of in _MONEY else "volume", of)]


def choose_market(readings: list[list[Name]], symbol: str | None, where: str) -> list[list[Name]]:
    """Keep the columns of one market, where names tell of several."""
    groups = list(
        dict.fromkeys(
            name.group
            for each in readings
            for name in each
            if name.plain in ALIASES["close"] and name.group
        )
    )
    if symbol is not None and len(groups) > 1:
        groups = [group for group in groups if normalise(group) == normalise(symbol)]
        if not groups:
            raise SourceError(f"{where}: none of its columns is of `symbol` {symbol!r}")
    elif len(groups) > 1:
        raise SourceError(
            f"{where}: it holds columns of several markets ({', '.join(groups[:5])}): choose one, "
            f"such as `symbol: {groups[0]}`"
        )
    if symbol is None or not groups:
        return readings  # one market, whatever else stands beside its names
    known = {alias for name in PRICES for alias in ALIASES[name]}
    known |= {*ALIASES["volume"], *ALIASES["quote_volume"]}
    return [
        [name for name in each if not name.group or name.plain not in known or name.group in groups]
        for each in readings
    ]


def keep_group(readings: list[list[Name]]) -> list[list[Name]]:
    """Keep of each name the reading with what stands beside the names of prices, if it has one.

    "BTC-USD.Volume" beside "BTC-USD.Close" is the volume of BTC-USD, no volume in dollars.
    """
    prices = {alias for name in PRICES for alias in ALIASES[name]}
    known = {alias for aliases in ALIASES.values() for alias in aliases}
    groups = {name.group for each in readings for name in each if name.plain in prices} - {""}
    kept = [[n for n in each if n.group in groups and n.plain in known] for each in readings]
    return [same or each for same, each in zip(kept, readings, strict=True)]
