"""Which column of a file is which: layouts without a header, and the names that files use.

Owns the column orders and aliases, and the ``FileTable`` that every reader of files gives back.
What the user set in ``columns`` wins; else the file's own names are looked up in ``ALIASES``
without regard to case and punctuation.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from btc_datamodule.candles.series import COLUMNS, REQUIRED
from btc_datamodule.errors import SourceError

if TYPE_CHECKING:
    import polars as pl

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

ALIASES: dict[str, tuple[str, ...]] = {
    "open_time": (
        *("unix", "unixtimestamp", "unixtime", "opentime", "timestamp", "time"),
        *("datetime", "date", "day"),
    ),
    "open": ("open", "openprice"),
    "high": ("high", "highprice"),
    "low": ("low", "lowprice"),
    "close": ("close", "closeprice"),
    "volume": ("volume", "volumebtc", "volumexbt", "vol", "basevolume", "volumebase"),
    "quote_volume": (
        *("quotevolume", "quoteassetvolume", "volumequote", "volumeusd", "volumeusdt"),
        *("volumeusdc", "volumeeur", "volumecurrency"),
    ),
    "trades": ("trades", "tradecount", "numberoftrades", "numtrades", "count"),
    "taker_buy_volume": (
        *("takerbuyvolume", "takerbuybase", "takerbuybasevolume", "takerbuybaseassetvolume"),
        *("takerbaseassetvolume", "takerbuybasevol"),
    ),
}
"""Names that files use for each column, letters and digits only, the preferred ones first."""


class FileTable(NamedTuple):
    """The columns of one file under the package's names, values as they stand in it.

    Attributes:
        frame: some of ``candles.series.COLUMNS``, with all of ``REQUIRED``, of any type.
        first_row: what to call the frame's first row in errors: its line in a text file, 1 in
            any other.
    """

    frame: "pl.DataFrame"
    first_row: int


def name_columns(
    found: Sequence[str],
    columns: tuple[str, ...] | None,
    where: str,
    is_text: Sequence[bool],
) -> list[str]:
    """Find a candle column, or ``LEFT_OUT``, for each column of a file.

    Args:
        found: the file's own names in its order.
        columns: as the user set them, or None.
        where: the file, for errors.
        is_text: for each column, whether it holds words rather than numbers or instants.

    Raises:
        SourceError: if a required column is missing, or ``columns`` contradicts the file.
    """
    own = recognise(found, is_text)
    missing = [name for name in REQUIRED if name not in own]
    if columns is None:
        if missing:
            raise SourceError(
                f"{where}: no column {', '.join(missing)} (the file has: {', '.join(found)}); "
                "rename its columns, or set `columns` to their order"
            )
        return own
    check_width(len(found), columns, where)
    if not missing and any(own.index(name) != columns.index(name) for name in REQUIRED):
        raise SourceError(
            f"{where}: `columns` contradicts the file's own names ({', '.join(found)}): "
            "leave `columns` out"
        )
    return list(columns)


def recognise(found: Sequence[str], is_text: Sequence[bool]) -> list[str]:
    """Find the candle column that each name stands for, ``LEFT_OUT`` for a name that is none.

    Each candle column is found once, under the best known of its names. A numeric time beats one
    in words: files with both often round, or misspell, the words.
    """
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in found]
    own = [LEFT_OUT] * len(found)
    for column, aliases in ALIASES.items():
        rivals = [i for i, name in enumerate(plain) if name in aliases]
        if rivals:
            own[min(rivals, key=lambda i: (is_text[i], aliases.index(plain[i])))] = column
    return own


def check_width(width: int, columns: tuple[str, ...], where: str) -> None:
    """Raise ``SourceError`` unless ``columns`` names as many columns as there are."""
    if width != len(columns):
        raise SourceError(
            f"{where}: the file has {width} columns and `columns` names {len(columns)}: "
            "name each column in order, 'ignore' for those to leave out"
        )


def apply_names(frame: "pl.DataFrame", names: Sequence[str]) -> "pl.DataFrame":
    """Take the columns of ``frame`` that have a name, under that name, in the package's order."""
    import polars as pl

    series = frame.get_columns()
    return pl.DataFrame([series[names.index(c)].alias(c) for c in COLUMNS if c in names])
