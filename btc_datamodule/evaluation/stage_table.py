"""``StageTable``: what ``describe`` gives, a polars frame that a person can read whole.

polars itself leaves out the columns in the middle, the windows among them. Here a frame that has a
row for each span of a stage is printed with a column for each, and its columns below one another:
it fits 80 characters however many columns there are. Apart from its text it is a polars frame like
any other, and what is made of it by selecting or filtering is one in its text too.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import polars as pl

WIDTH = 100
"""Characters of a line, at most, unless one column takes more."""


class StageTable(pl.DataFrame):
    """The stages span by span; see ``BTCDataModule.describe``."""

    def __str__(self) -> str:
        if "stage" not in self.columns or self.is_empty():
            with pl.Config(tbl_cols=-1, tbl_rows=-1):
                return super().__str__()
        names = self.columns
        labels = max(map(len, names))
        spans = [[_format(value) for value in row] for row in self.rows()]
        width = 2 + max(len(cell) for span in spans for cell in span)
        count = max(1, (WIDTH - labels) // width)
        return "\n\n".join(
            "\n".join(_list_lines(names, labels, spans[first : first + count], width))
            for first in range(0, len(spans), count)
        )

    __repr__ = __str__

    def _repr_html_(self, *, _from_series: bool = False) -> str:
        """All columns, for a notebook."""
        with pl.Config(tbl_cols=-1, tbl_rows=-1):
            return super()._repr_html_(_from_series=_from_series)


def _list_lines(names: list[str], labels: int, spans: list[list[str]], width: int) -> Iterator[str]:
    """A line for each column of the frame, with a cell for each of some spans."""
    for place, name in enumerate(names):
        yield name.ljust(labels) + "".join(span[place].rjust(width) for span in spans)


def _format(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}" if value.second == 0 else f"{value:%Y-%m-%d %H:%M:%S}"
    return f"{value:,}" if isinstance(value, int) else str(value)
