"""What feature files of the same bars share: the bars, and that their features keep the law.

Feature files of one candle file, over the same rows and filled alike, have the same bars, whatever
their features are: 40 bytes of a row, where a feature has 4. So the bars of a large feature file
lie in a rows file of their own (``rows_file``), which the next one claims, too: it adds its own
``x`` and what is observed of it. Bars that it would write must have the digests of those that are
there, which are read and compared first.

To check a feature for look-ahead takes several times as long as to compute it, and says the same
each time: a feature file tells which of its features were checked on its rows, and the next one of
the same bars checks only others. Functions of the user's own are always checked: what they read
while they compute is in no code (``reuse``).
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.disk.hdf5 import explain_damage, open_hdf5, read_attribute
from btc_datamodule.disk.in_use import leave_unused
from btc_datamodule.errors import StoreError
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.layout import BAR_COLUMNS, DTYPES
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.rows_file import (
    Arrays,
    Claim,
    count_room,
    make_rows_file,
    name_rows_file,
    open_rows,
)
from btc_datamodule.features.table import Table, list_newest_tables
from btc_datamodule.store.series_file import Header

_OF_BAR: dict[str, tuple[int, ...]] = dict.fromkeys(BAR_COLUMNS, ())
"""The shape of a row of each column of bars."""


class Shared(NamedTuple):
    """What there is already of a feature file that is to be made.

    Attributes:
        bars: a feature file whose bars lie in a rows file, to be claimed; None if there is none.
        checked: names of the features that need not be checked for look-ahead.
    """

    bars: Table | None
    checked: frozenset[str]


def find_shared(
    path: Path,
    header: Header,
    grid: Grid,
    recipe: Recipe,
    files: Sequence[Sequence[str]],
) -> Shared:
    """What feature files of the same bars have that one of a recipe can use.

    Args:
        path: of the feature file that is to be made.
        header: of the candle file.
        grid: of the rows.
        recipe: what it is to be made by.
        files: path and digest of each file of another series, of this recipe.
    """
    bars, checked = None, set[str]()
    alone, joined = recipe.list_identities(beside=False), recipe.list_identities(beside=True)
    wanted = alone | joined
    for each in list_newest_tables(path):
        if bars is not None and checked >= wanted.keys():
            break
        table = _open_alike(each, header, grid)
        if table is None:
            continue
        if bars is None and _has_bars(table, 0):
            bars = table
        checked |= {*table.checked} & alone.keys()
        if [*map(list, table.beside)] == [*map(list, files)]:
            checked |= {*table.checked} & joined.keys()
    return Shared(bars, frozenset(wanted[each] for each in checked))


def find_bars(path: Path, header: Header, grid: Grid, since: int) -> Table | None:
    """A feature file with the bars of a grid in a rows file.

    Args:
        path: of the feature file that is to be made.
        header: of the candle file.
        grid: of the rows.
        since: the row from which on its bars are read and compared with what was written.
    """
    for each in list_newest_tables(path):
        table = _open_alike(each, header, grid)
        if table is not None and _has_bars(table, since):
            return table
    return None


def _open_alike(path: Path, header: Header, grid: Grid) -> Table | None:
    """A feature file of the bars of a grid; None if it is of others, or cannot be opened."""
    with suppress(StoreError):
        with leave_unused(path):
            with open_hdf5(path) as file, explain_damage(path):
                candles = read_attribute(path, file, "candles", str)
            if candles != header.digest:
                return None
            table = Table.open(path)
        of_these = (grid.first, grid.interval, grid.rows, grid.max_fill)
        if (table.first, table.interval, table.rows, table.max_fill) == of_these:
            return table
    return None


def _has_bars(table: Table, since: int) -> bool:
    """Whether the bars of a feature file lie in a rows file, and from a row on as written."""
    place = table.checks.find_place("close")
    if not place.grows or not _OF_BAR.keys() <= place.extents.keys():
        return False
    with suppress(StoreError):
        table.checks.require(BAR_COLUMNS, since, table.rows)
        return True
    return False


def has_same_bars(table: Table, digests: NDArray[np.uint8]) -> bool:
    """Whether bars with some digests are those of a feature file.

    Args:
        table: the feature file.
        digests: (s, n, 32) SHA-256 of each segment of the first n arrays of ``DTYPES``.
    """
    columns = [list(DTYPES).index(name) for name in BAR_COLUMNS]
    return np.array_equal(table.digests[:, columns], digests[:, columns])


def claim_bars(table: Table) -> Arrays:
    """The rows file that has the bars of a feature file, see ``find_shared``."""
    file = table.checks.find_place("close").path
    return open_rows(Claim(table.path, file, table.rows, BAR_COLUMNS), _OF_BAR)


def write_bars(
    path: Path, rows: int, parts: Iterable[tuple[slice, Callable[[str], NDArray[Any]]]]
) -> Arrays:
    """Write the bars of a feature file into a new rows file.

    Args:
        path: where the feature file shall be.
        rows: how many there are.
        parts: runs of rows that follow each other, each with what gives a column by its name.
    """
    file, room = name_rows_file(path), count_room(rows)
    make_rows_file(file, dict.fromkeys(BAR_COLUMNS, (room,)), rows, parts)
    return open_rows(Claim(path, file, rows, BAR_COLUMNS), _OF_BAR)
