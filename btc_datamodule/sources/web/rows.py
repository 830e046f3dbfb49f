"""Rows of a JSON answer, checked before anything is made of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import SourceError

ROW = ("open_time", "low", "high", "open", "close", "volume")
"""The columns of a row, in Coinbase's order."""


def _rows(answer: Any, where: str) -> NDArray[np.float64]:
    """(N, 6) float64 of the rows of an answer, in its order; a time is exact in float64.

    Raises:
        SourceError: naming the first row that is not six numbers, the first a whole one.
    """
    if not isinstance(answer, list):
        raise SourceError(
            f"{where}: not a list of rows but {str(answer)[:80]!r}: run it again later; if it "
            "stays, Coinbase has changed"
        )
    for i, row in enumerate(answer):
        if not _is_row(row):
            raise SourceError(
                f"{where}, row {i}: expected six numbers [time, low, high, open, close, volume], "
                f"got {repr(row)[:80]}: run it again later; if it stays, Coinbase has changed"
            )
    return np.array(answer, dtype=np.float64).reshape(-1, len(ROW))


def _is_row(row: Any) -> bool:
    # The comparison also turns away NaN, infinities and integers that no float can hold, all of
    # which Python's JSON reads; `type`, because a JSON true is an int to isinstance.
    return (
        isinstance(row, list)
        and len(row) == len(ROW)
        and all(type(value) in (int, float) and abs(value) < 1e300 for value in row)
        and row[0] % 1 == 0
    )
