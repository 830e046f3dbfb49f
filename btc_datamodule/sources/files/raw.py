"""``RawTable``: what every reader of files gives back, values as they stand in the file."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import polars as pl


class RawTable(NamedTuple):
    """The columns of one table, before anyone has said what they are.

    Attributes:
        names: the file's own names in its order, "" for a column without one; levels of a name
            that has several, joined by ``LEVELS``; None where the file names nothing.
        frame: columns "0", "1", ... in that order, values as they stand, texts as texts.
        first_row: what to call the first row in errors: its line in a text, 1 in any other file.
        separator: what parts the fields of a text; "" in any other file.
        notes: what was left out of it.
        market: what the file calls the table, where it holds one for each market; else "".
    """

    names: list[str] | None
    frame: "pl.DataFrame"
    first_row: int = 1
    separator: str = ""
    market: str = ""
    notes: tuple[str, ...] = ()


LEVELS = " | "
"""Stands between the levels of a name: "Close | BTC-USD" of a header of two lines."""


def make_frame(columns: "list[pl.Series]") -> "pl.DataFrame":
    """Make the frame of a ``RawTable`` of columns in the file's order.

    Integers of 128 bits, which numpy does not have, become such of 64, or floats if one is too long
    for that.
    """
    import polars as pl

    return pl.DataFrame([_shorten(series).alias(f"{i}") for i, series in enumerate(columns)])


def _shorten(column: "pl.Series") -> "pl.Series":
    """A column of integers of 128 bits as such of 64, or as floats; others as they are."""
    import polars as pl

    if str(column.dtype) not in ("Int128", "UInt128"):
        return column
    short = column.cast(pl.Int64, strict=False)
    return short if short.null_count() == column.null_count() else column.cast(pl.Float64)
