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

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.disk.hdf5 import read_attribute
from btc_datamodule.disk.in_use import leave_unused
from btc_datamodule.errors import StoreError
from btc_datamodule.features.contents import look_into
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.layout import ATTRIBUTES, BAR_COLUMNS, DTYPES
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.rows_file import (
    Arrays,
    Claim,
    count_room,
    make_rows_file,
    open_rows,
)
from btc_datamodule.features.table import Table
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


class _Alike(NamedTuple):
    """What a feature file of the same bars says of itself.

    Attributes:
        path: the file.
        beside: path and digest of each file of another series.
        checked: see ``Recipe.list_identities``.
    """

    path: Path
    beside: list[list[str]]
    checked: frozenset[str]


def find_shared(
    claims: Sequence[Claim],
    header: Header,
    grid: Grid,
    recipe: Recipe,
    files: Sequence[Sequence[str]],
) -> Shared:
    """What large feature files of the same bars have that one of a recipe can use.

    Args:
        claims: of all feature files beside the candle file.
        header: of the candle file.
        grid: of the rows.
        recipe: what the feature file is to be made by.
        files: path and digest of each file of another series, of this recipe.
    """
    bars, checked = None, set[str]()
    alone, joined = recipe.list_identities(beside=False), recipe.list_identities(beside=True)
    for alike in _list_alike(claims, header, grid):
        if bars is None:
            bars = _open_bars(alike.path, 0)
        checked |= alone.keys() & alike.checked
        if alike.beside == [*map(list, files)]:
            checked |= joined.keys() & alike.checked
    return Shared(bars, frozenset((alone | joined)[each] for each in checked))


def find_bars(claims: Sequence[Claim], header: Header, grid: Grid, since: int) -> Table | None:
    """A feature file with the bars of a grid in a rows file.

    Args:
        claims: of all feature files beside the candle file.
        header: of the candle file.
        grid: of the rows.
        since: the row from which on its bars are read and compared with what was written.
    """
    found = (_open_bars(alike.path, since) for alike in _list_alike(claims, header, grid))
    return next((table for table in found if table is not None), None)


def _list_alike(claims: Sequence[Claim], header: Header, grid: Grid) -> Iterator[_Alike]:
    """The feature files that have the bars of a grid in a rows file."""
    of_these = [header.digest, grid.first, grid.interval, grid.max_fill]
    names = ("candles", "first", "interval", "max_fill")
    for claim in claims:
        if "close" not in claim.names or claim.rows != grid.rows:
            continue
        each = claim.head
        with suppress(StoreError):
            with look_into(each) as file:
                said = (read_attribute(each, file, name, ATTRIBUTES[name]) for name in names)
                if any(one != other for one, other in zip(said, of_these, strict=True)):
                    continue
                beside = json.loads(read_attribute(each, file, "beside", str))
                checked = frozenset(json.loads(read_attribute(each, file, "checked", str)))
            yield _Alike(each, beside, checked)


def _open_bars(path: Path, since: int) -> Table | None:
    """A feature file whose bars lie in a rows file, from a row on as written; None if not so."""
    with suppress(StoreError), leave_unused(path):
        table = Table.open(path)
        place = table.checks.find_place("close")
        if place.grows and _OF_BAR.keys() <= place.extents.keys():
            table.checks.require(BAR_COLUMNS, since, table.rows)
            return table
    return None


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
    file: Path, rows: int, parts: Iterable[tuple[slice, Callable[[str], NDArray[Any]]]]
) -> Arrays:
    """Write the bars of a feature file into a new rows file.

    Args:
        file: the rows file.
        rows: how many there are.
        parts: runs of rows that follow each other, each with what gives a column by its name.
    """
    make_rows_file(file, dict.fromkeys(BAR_COLUMNS, (count_room(rows),)), rows, parts)
    return open_rows(Claim(file, file, rows, BAR_COLUMNS), _OF_BAR)
