"""What every reader of files gives back: columns as they stand in the file, not yet understood.

``RawTable`` is all that the readers know; which column is which, and what its values mean, is the
business of those who receive it.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import polars as pl


class RawTable(NamedTuple):
    """The columns of one file with their values as they stand in it.

    Attributes:
        names: the file's own names in its order, "" for a column without one; None if the file
            has no names at all, as a matrix.
        frame: columns named "0", "1" and so on in that order, of any type.
        first_row: what to call the frame's first row in errors: its line in a text file, 1 in
            any other.
    """

    names: list[str] | None
    frame: "pl.DataFrame"
    first_row: int
