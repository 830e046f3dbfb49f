"""Growing: the feature file of more candles, made of that of the first of them and of new rows.

What it costs is what is new, and the segment that new rows lie in, whose moments and digest are
made of all its rows. The rows that there are stay where they lie: the new ones are written after
them into *rows files* (``rows_file``), one of bars and one of the rest, and a small feature file, a
*head*, says of all of them what one that is built says (``build``): every number of it is the same.
Bars that another feature file has got already are shared with it (``sharing``).

A process that is killed leaves rows that no head has: the next one copies those before them to a
new rows file.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.disk.atomic import check_room
from btc_datamodule.disk.hdf5 import replace_hdf5
from btc_datamodule.errors import BTCDataError, ConfigError
from btc_datamodule.features.checking import AlteredError
from btc_datamodule.features.feature import is_own
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.joined import JoinedSeries, join_series
from btc_datamodule.features.layout import BAR_COLUMNS, find_edges, shape_array, split_segments
from btc_datamodule.features.moments import select_counted
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.rows_file import (
    Arrays,
    Claim,
    add_rows,
    count_room,
    make_rows_file,
    name_rows_file,
    open_rows,
    write_virtual,
)
from btc_datamodule.features.segment import compute_segment
from btc_datamodule.features.sharing import claim_bars, find_bars, has_same_bars
from btc_datamodule.features.table import Table
from btc_datamodule.features.undefined import JudgedRows
from btc_datamodule.features.writing import Account, describe, list_arrays
from btc_datamodule.progress import show_step
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.record_file import RecordReader

OVERLAP_ROWS = 4
"""Rows that are there already and are computed again: they must be the same bits."""


class UnlikeRowsError(BTCDataError):
    """Rows that are there are not what is computed now."""


class Piece(NamedTuple):
    """New rows of a segment.

    Attributes:
        first: number of the first of them.
        judged: their features.
        new: their arrays, by name.
        whole: the arrays of all rows of the segment.
    """

    first: int
    judged: JudgedRows
    new: dict[str, NDArray[Any]]
    whole: dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Growth:
    """Rows that are to follow those of a feature file.

    Attributes:
        table: the feature file.
        grid: of all candles.
        recipe: of the table.
        reader: the candle file.
        joined: the series beside it.
        check: names of the features that are checked for look-ahead on the new rows.
    """

    table: Table
    grid: Grid
    recipe: Recipe
    reader: CandleReader
    joined: JoinedSeries
    check: Collection[str]

    @property
    def segments(self) -> int:
        """How many segments of the table are whole, so that no new row lies in them."""
        edges = find_edges(self.grid.first, self.grid.interval, self.grid.rows)
        return int((edges <= self.table.rows).sum()) - 1

    @property
    def start(self) -> int:
        """The first row of the segment that the first new row lies in, or that it begins."""
        return int(self.table.checks.edges[self.segments])

    def compute(self) -> Iterator[Piece]:
        """The new rows, a segment at a time.

        Raises:
            UnlikeRowsError: if rows that are there are not what is computed now.
            AlteredError: if they are not what was written.
        """
        table, grid, start = self.table, self.grid, self.start
        # A function of the user's own may compute other bits in another frame than its segment's.
        own = any(map(is_own, self.recipe.features))
        if own and start == table.rows:
            self._recompute(slice(int(table.checks.edges[-2]), start))
        for rows in split_segments(grid.first, grid.interval, start, grid.rows):
            known = min(max(table.rows - rows.start, 0), rows.stop - rows.start)
            before = min(OVERLAP_ROWS, table.rows) if rows.start <= table.rows else 0
            again = known if own else before
            yield self._compute(rows, rows.start + known, again)

    def _compute(self, rows: slice, first: int, again: int) -> Piece:
        """The new rows of a segment.

        Args:
            rows: of the segment.
            first: the first new one.
            again: how many rows before that are computed too, and compared.
        """
        judged, columns = compute_segment(
            self.reader,
            self.grid,
            self.recipe,
            self.joined,
            slice(first - again, rows.stop),
            check=self.check,
            since=first,
        )
        found = list_arrays(judged, columns)
        self._compare(found, first - again, first)
        new = {name: values[again:] for name, values in found.items()}
        whole = {
            name: np.concatenate([self._read(name, rows.start, first), values])
            for name, values in new.items()
        }
        return Piece(first, judged.skip(again), new, whole)

    def _recompute(self, rows: slice) -> None:
        """Compute a segment that is there, as a build would, and compare it."""
        judged, columns = compute_segment(self.reader, self.grid, self.recipe, self.joined, rows)
        self._compare(list_arrays(judged, columns), rows.start, rows.stop)

    def _compare(self, found: Mapping[str, NDArray[Any]], low: int, high: int) -> None:
        """Raise ``UnlikeRowsError`` unless arrays begin with rows [low, high) of the table."""
        for name, values in found.items():
            if values[: high - low].tobytes() != self._read(name, low, high).tobytes():
                raise UnlikeRowsError(name)

    def _read(self, name: str, low: int, high: int) -> NDArray[Any]:
        return self.table.read(name, slice(low, high))


def grow(
    path: Path,
    key: str,
    table: Table,
    claims: Sequence[Claim],
    reader: CandleReader,
    beside: Sequence[CandleReader | RecordReader],
    recipe: Recipe,
    *,
    check: bool,
) -> bool:
    """Make a feature file of an earlier one and of the candles since.

    Args:
        path: where it shall be.
        key: of its content.
        table: the earlier one, see ``predecessor``.
        claims: of all feature files beside it.
        reader: the candle file.
        beside: the files of the series beside it.
        recipe: of the table.
        check: whether to check features for look-ahead on the new rows.

    Returns:
        False if it must be built anew: no row is new, the rows that are there are not as they
        were written, or features compute other bits now.

    Raises:
        LookAheadError: if a feature breaks its law on the new rows.
        StoreError: if candles are damaged, or a file cannot be written.
    """
    grid = continue_grid(table, reader, recipe)
    if grid is None:
        return False
    for each in {each.path: each for each in (reader, *beside)}.values():
        if isinstance(each, CandleReader):  # records are those that the table was built of
            each.check_since(table.span[1] - each.header.interval)
    joined = join_series(recipe.beside, beside, grid.first + grid.rows * grid.interval)
    names = [feature.name for feature in recipe.features] if check else []
    growth = Growth(table, grid, recipe, reader, joined, names)
    pieces = growth.compute()
    try:
        first = next(pieces)  # those after it have no rows that are there already
        own = [name for name in table.checks.names if name not in BAR_COLUMNS]
        rooms = [_find_room(table, own, grid.rows) or _make_room(path, table, own, grid.rows)]
        alike = find_bars(claims, reader.header, grid, growth.start)
        if alike is None:
            room = _find_room(table, BAR_COLUMNS, grid.rows)
            rooms.append(room or _make_room(path, table, BAR_COLUMNS, grid.rows))
    except (UnlikeRowsError, AlteredError):
        return False
    account = Account(grid.holes, table, growth.segments)
    with show_step("features", grid.rows - table.rows, " bars") as step, ExitStack() as stack:
        writing = [(arrays, stack.enter_context(add_rows(arrays, grid.rows))) for arrays in rooms]
        for piece in chain([first], pieces):
            for arrays, write in writing:
                for name in arrays.extents:
                    write(name, piece.first, piece.new[name])
            account.note(piece.judged, piece.first)
            seen = piece.whole["observed"].view(np.bool_)
            counted = select_counted(piece.whole["x"], seen, flagged=recipe.flag)
            account.add(piece.whole.values(), counted)
            step.advance(len(piece.new["x"]))
    if alike is not None:
        if not has_same_bars(alike, account.digests):
            return False
        rooms.append(claim_bars(alike))
    files = recipe.list_files(path.parent, [each.header.digest for each in beside])
    checked = [each for each in recipe.list_identities() if check and each in table.checked]
    with replace_hdf5(path) as (file, _):
        for arrays in rooms:
            write_virtual(file, arrays, _list_shapes(table, arrays.extents, grid.rows))
        about = describe(grid, recipe, key, reader.header, files, checked)
        account.write(file, (grid.rows, len(table.features)), about)
    return True


def continue_grid(table: Table, reader: CandleReader, recipe: Recipe) -> Grid | None:
    """The grid of a table and of the candles after it; None if there are none in the span."""
    try:
        later = Grid.of(reader, (table.span[1], recipe.span[1]), recipe.max_fill)
    except ConfigError:
        return None
    begin = table.find_row(later.first)
    between = np.array([[table.rows, begin]][: begin - table.rows], dtype=np.int64).reshape(-1, 2)
    return Grid(
        first=table.first,
        interval=table.interval,
        rows=begin + later.rows,
        present=table.present + later.present,
        holes=np.concatenate([table.holes, between, later.holes + begin]),
        max_fill=recipe.max_fill,
    )


def _find_room(table: Table, names: Sequence[str], rows: int) -> Arrays | None:
    """The rows file with some arrays of a table, if it has room for more.

    Args:
        table: whose rows come first.
        names: of the arrays.
        rows: how many there are to be.

    Returns:
        None if there is no such file, it has not as much room, or somebody has claimed more of it.
    """
    place = table.checks.find_place(names[0])
    if not place.grows or place.extents.keys() != {*names}:
        return None
    due = {name: shape[1:] for name, shape in _list_shapes(table, names, rows).items()}
    arrays = open_rows(Claim(table.path, place.path, table.rows, tuple(names)), due)
    return arrays if arrays.claimed == table.rows and arrays.capacity >= rows else None


def _make_room(path: Path, table: Table, names: Sequence[str], rows: int) -> Arrays:
    """A new rows file with some arrays of a table, and room for more.

    Args:
        path: of the feature file that is to be made.
        table: whose rows come first.
        names: of the arrays.
        rows: how many there are to be.
    """
    width = sum(table.checks.find_place(name).extents[name].width for name in names)
    check_room(path, rows * width)
    file, shapes = name_rows_file(path), _list_shapes(table, names, count_room(rows))
    parts = ((part, partial(table.read, rows=part)) for part in table.segments(0, table.rows))
    make_rows_file(file, shapes, table.rows, parts)
    due = {name: shape[1:] for name, shape in shapes.items()}
    return open_rows(Claim(path, file, table.rows, tuple(names)), due)


def _list_shapes(table: Table, names: Iterable[str], rows: int) -> dict[str, tuple[int, ...]]:
    """The shapes that some arrays of a table have with other rows."""
    shape = rows, len(table.features)
    return {name: shape_array(name, shape, table.mask) for name in names}
