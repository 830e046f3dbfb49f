"""Which column of a file is which: layouts without a header, and the names that files use.

Names are looked up in ``ALIASES`` without regard to case and punctuation.
"""

import re
from collections.abc import Sequence

LEFT_OUT = ""
"""Stands in a column order for a column that is not read."""

LAYOUTS: dict[str, tuple[str, ...]] = {
    "kraken": ("open_time", "open", "high", "low", "close", "volume", "trades"),
    "bitfinex": ("open_time", "open", "close", "high", "low", "volume"),
    "coinbase": ("open_time", "low", "high", "open", "close", "volume"),
    "binance": (
        *("open_time", "open", "high", "low", "close", "volume", LEFT_OUT),  # "": close_time
        *("quote_volume", "trades", "taker_buy_volume", LEFT_OUT, LEFT_OUT),
    ),
}
"""Column orders of files that come without a header."""

OPENING = (
    *("timeperiodstart", "periodstart", "opentime", "timeopen", "klineopentime", "starttime"),
    *(
        "candledatetimeutc",
        "startedat",
        "timestart",
        "starttimestamp",
        "opentimestamp",
        "timestampopen",
        "opendate",
        "dateopen",
    ),
    *("openat", "startat", "startsat", "startingat", "startdate", "start", "begin", "begintime"),
    *("candlebegintime", "bucketstart", "bucket", "windowstart", "intervalstart", "from"),
)
"""Names of times that say themselves that a bar opens then."""

ALIASES: dict[str, tuple[str, ...]] = {
    "open_time": (
        *OPENING,
        *("datetimeutc", "dateutc", "timeutc", "timestamputc", "utctime", "utcdatetime", "utc"),
        *(
            "gmttime",
            "timegmt",
            "unix",
            "unixtimestamp",
            "unixtime",
            "unixtimestampms",
            "epoch",
            "epochtime",
            "epochms",
        ),
        *("timestamp", "timestamps", "timestampms", "timestampunix", "time", "ts"),
        *("mts", "datetime", "dateandtime", "localtime", "candletime", "tradetime"),
        *("ohlcvtimestamp", "t", "date", "day", "dt", "tradedate", "tradingday"),
    ),
    "open": ("open", "openprice", "priceopen", "openingprice", "opening", "o", "first", "pxopen"),
    "high": ("high", "highprice", "pricehigh", "highest", "max", "maxprice", "h", "pxhigh"),
    "low": ("low", "lowprice", "pricelow", "lowest", "min", "minprice", "l", "pxlow"),
    "close": (
        *("close", "closeprice", "priceclose", "closingprice", "closing", "c", "last"),
        *("lastprice", "closelast", "pxlast"),
    ),
    "volume": (
        *("homenotional", "volumebtc", "volumexbt", "volume", "vol", "v", "basevolume"),
        *("volumebase", "baseassetvolume", "volumefrom", "volfrom", "volumecoin", "volumetraded"),
        *("tradedvolume", "totalvolume", "tradingvolume", "volumecrypto", "realvolume"),
        *("tradevolume", "candleacctradevolume", "volumen", "pxvolume", "btcvolume", "volbtc"),
        *("volxbt", "xbtvolume", "volumecoins", "amount", "quantity", "qty", "volccy", "bv"),
    ),
    "quote_volume": (
        *("foreignnotional", "quotevolume", "quoteassetvolume", "volumequote", "quotevol"),
        *("volccyquote", "volquote", "volumeusd", "volumeusdt", "volumeusdc", "volumeeur"),
        *("volumegbp", "volumejpy", "volumekrw", "volumetry", "volumebusd", "volumefdusd"),
        *("volumetusd", "volumeto", "volto", "turnover", "volumecurrency", "dollarvolume"),
        *("usdvolume", "volusd", "volumenotional", "candleacctradeprice", "quoteturnover"),
        *("amountquote", "quoteamount", "notional", "value", "cost", "sum"),
    ),
    "trades": (
        *("trades", "tradecount", "numberoftrades", "numtrades", "tradenum", "tradescount"),
        *("nooftrades", "transactions", "ntrades", "tradesdone", "count", "n"),
    ),
    "taker_buy_volume": (
        *("takerbuyvolume", "takerbuybase", "takerbuybasevolume", "takerbuybaseassetvolume"),
        *("takerbaseassetvolume", "takerbuybasevol", "takerbuyvol"),
    ),
}
"""Names that files use for each column, letters and digits only, the preferred ones first."""


def normalise(name: str) -> str:
    """The letters and digits of a name, small: ``"Volume_(BTC)"`` becomes ``"volumebtc"``."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^\d+\.\s*", "", name.lower()))


def recognise(found: Sequence[str]) -> list[str]:
    """Find the candle column that each name stands for, ``LEFT_OUT`` for a name that is none.

    Each candle column is found once, under the best known of its names.
    """
    plain = [normalise(name) for name in found]
    own = [LEFT_OUT] * len(found)
    for column, aliases in ALIASES.items():
        rivals = [i for i, name in enumerate(plain) if name in aliases]
        if rivals:
            own[min(rivals, key=lambda i: aliases.index(plain[i]))] = column
    return own
