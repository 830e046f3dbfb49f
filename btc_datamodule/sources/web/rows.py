"""Rows of a JSON answer, checked before anything is made of them.

Exchanges answer with a list of rows, each a time and some numbers. What comes is anything at all
until it has been looked at: ``read_rows`` lets finite numbers through, and times that are whole
seconds, and names the first row that is something else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.errors import SourceError


@dataclass(frozen=True)
class RowFormat:
    """The format of a row of an answer.

    Attributes:
        columns: a name for each of its values, the time's the first.
        expected: what a row should be, in words, for errors.
        blame: the likely cause, or the cure, if answers stay otherwise; the end of errors.
        ticks: units of the time in a second: 1000 where it is given in milliseconds.
        has_gaps: whether a value other than the time may be None, which becomes NaN.
        has_more: whether a row may be longer than ``columns``; what comes after is not read.
    """

    columns: tuple[str, ...]
    expected: str
    blame: str
    ticks: int = 1
    has_gaps: bool = False
    has_more: bool = False

    def is_row(self, row: Any) -> bool:
        """Whether a value parsed from JSON is a row of this format."""
        width = len(self.columns)
        return (
            isinstance(row, list | tuple)
            and (len(row) >= width if self.has_more else len(row) == width)
            and _is_number(row[0])
            and 0 <= row[0] < 9e15  # which int64 and float64 hold exactly
            and row[0] % self.ticks == 0
            and all(map(self._is_value, row[1:width]))
        )

    def _is_value(self, value: Any) -> bool:
        return (value is None and self.has_gaps) or (_is_number(value) and abs(value) < 1e300)


def _is_number(value: Any) -> bool:
    # `type`, because a JSON true is an int to isinstance. The comparisons after it turn away NaN,
    # infinities and integers that no float can hold, all of which Python's JSON reads.
    return type(value) in (int, float)


def read_rows(answer: Any, form: RowFormat, where: str) -> NDArray[np.float64]:
    """Check the rows of an answer and return them in its order.

    Args:
        answer: the JSON, parsed.
        form: what a row of it should be.
        where: what was asked for, for errors.

    Returns:
        (N, len(form.columns)) float64; the times in epoch seconds, exact.

    Raises:
        SourceError: if the answer is no list, or naming the first row that is not of the format.
    """
    if not isinstance(answer, list):
        raise SourceError(
            f"{where}: not a list of rows but {str(answer)[:80]!r}: run it again later; if it "
            f"stays, {form.blame}"
        )
    for i, row in enumerate(answer):
        if not form.is_row(row):
            raise SourceError(
                f"{where}, row {i}: expected {form.expected}, got {repr(row)[:80]}: run it again "
                f"later; if it stays, {form.blame}"
            )
    return _stack(answer, form)


def _stack(rows: Sequence[Sequence[float | None]], form: RowFormat) -> NDArray[np.float64]:
    """Make an array of checked rows, NaN for None and times in seconds."""
    width = len(form.columns)
    given = [[np.nan if value is None else value for value in row[:width]] for row in rows]
    values = np.array(given, dtype=np.float64).reshape(-1, width)
    values[:, 0] /= form.ticks
    return values
