"""Building the feature file from the candle file: once, a segment at a time, atomically.

A ``Recipe`` holds what the content depends on beside the candles; its key is in the file's name,
so a file with the right name has the right content. Memory does not depend on the length of
history. Every feature is checked for look-ahead on real rows on the way, unless it was on the very
same ones (``sharing``).
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from btc_datamodule.candles.series import OPTIONAL
from btc_datamodule.disk.atomic import check_room, explain_write_errors
from btc_datamodule.disk.hdf5 import replace_hdf5
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.errors import ConfigError, StoreError
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.growing import UnlikeRowsError, grow
from btc_datamodule.features.joined import JoinedSeries, join_series
from btc_datamodule.features.layout import BAR_COLUMNS, is_large, split_segments
from btc_datamodule.features.predecessor import find_predecessor
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.reuse import check_reuse
from btc_datamodule.features.rows_file import Claim, list_claims, name_rows_file, remove_if_vain
from btc_datamodule.features.segment import compute_segment
from btc_datamodule.features.sharing import claim_bars, find_shared, has_same_bars, write_bars
from btc_datamodule.features.stale import remove_leftovers, remove_stale
from btc_datamodule.features.table import Table, list_tables, locate_table, open_whole
from btc_datamodule.features.writing import TableWriter, describe
from btc_datamodule.progress import show_step
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.record_file import RecordReader


def build(candle_path: Path, recipe: Recipe, *, check: bool = True, recheck: bool = True) -> Path:
    """Build the feature file of a recipe unless it is there; give the path of the file.

    Where there is one of the candles as they were before the newest came, it is grown (``growing``)
    instead. Files that are of no use any more are removed (``stale``): a series that is updated for
    months must not fill the disk.

    Args:
        candle_path: the candle file.
        recipe: what to make of it.
        check: whether to check each feature for look-ahead; False only for features that are
            being checked by other means.
        recheck: whether to look, if there is a file, that features still compute what is stored;
            False only for who does so by other means.

    Raises:
        LookAheadError: if a feature breaks its law on the real rows.
        ConfigError: if a feature needs a column that the candles lack, or no candle is in span;
            if a feature computes other values than a file that is there has.
        StoreError: if the candle file is damaged, or the feature file cannot be written.
    """
    with CandleReader(candle_path) as reader, ExitStack() as stack:
        # Of these very files, whatever takes their names meanwhile.
        beside: list[CandleReader | RecordReader] = [
            stack.enter_context(each.open_reader()) for each in recipe.beside
        ]
        digests = [each.header.digest for each in beside]
        key = recipe.compute_key(reader.header, digests)
        path = locate_table(candle_path, key)
        table = open_whole(path, key)
        if table is not None:  # which needs no lock, nor permission to write
            if recheck:
                check_reuse(table, reader, beside, recipe)
            return path
        if not os.access(path.parent, os.W_OK):
            raise StoreError(
                f"{path.parent} has no feature file for these features and this span, and cannot "
                "be written: prepare it as a user who may write there, or put the candles into a "
                "`data_dir` that can be written"
            )
        with hold_lock(candle_path.with_name("features.lock")):
            with explain_write_errors(path):
                remove_leftovers(path.parent)
            if open_whole(path, key) is None:  # who held the lock may have built it
                _check_columns(recipe, reader, beside)
                # Found, and so in use, before anything is removed.
                before = find_predecessor(candle_path, reader, beside, recipe)
                claims = list_claims(list_tables(candle_path))
                remove_stale(candle_path, reader.header, claims)
                if before is None or not grow(
                    path, key, before, claims or [], reader, beside, recipe, check=check
                ):
                    _build(path, key, claims or [], reader, beside, recipe, check=check)
    return path


def _check_columns(
    recipe: Recipe, reader: CandleReader, beside: Sequence[CandleReader | RecordReader]
) -> None:
    """Raise ``ConfigError`` if a feature needs a column that its candles do not have."""
    names = ["", *(each.beside.name for each in recipe.beside)]
    headers = dict(zip(names, [reader.header, *(each.header for each in beside)], strict=True))
    for feature in recipe.features:
        for series in (feature.series, *feature.beside):
            header = headers[series]
            named = feature.list_columns(series) or ()
            needs = {*named, *(feature.needs if series == feature.series else ())} & {*OPTIONAL}
            absent = [name for name in OPTIONAL if name in needs - {*header.columns}]
            if absent:
                whose = f"covariate {series!r}, " if series else ""
                raise ConfigError(
                    f"feature {feature.name!r} needs {', '.join(absent)}, which {whose}candles "
                    f"from {header.source!r} do not have: take it out of `features`"
                )


def _check_content(reader: CandleReader | RecordReader) -> None:
    """Read a file once, a chunk at a time, and compare its content with its digest.

    Raises:
        StoreError: if it does not hold what was written to it, or is damaged.
    """
    check = reader.make_check()
    for chunk in reader.chunks():
        check.update(chunk)
    check.require()


def _build(
    path: Path,
    key: str,
    claims: Sequence[Claim],
    reader: CandleReader,
    beside: Sequence[CandleReader | RecordReader],
    recipe: Recipe,
    *,
    check: bool,
) -> None:
    """Make a feature file of all candles, and of what others of the same bars have."""
    for each in {each.path: each for each in (reader, *beside)}.values():
        _check_content(each)
    grid = Grid.of(reader, recipe.span, recipe.max_fill)
    warm = recipe.warm_up
    if grid.rows <= warm:
        raise ConfigError(
            f"the features need {warm} bars of history and there are {grid.rows} bars: widen "
            "`start` and `end`, or choose features with a shorter lookback"
        )
    files = recipe.list_files(path.parent, [each.header.digest for each in beside])
    shared = find_shared(claims, reader.header, grid, recipe, files)
    names = {feature.name for feature in recipe.features}
    checked = recipe.list_identities() if check else []
    whole = _Whole(
        path,
        reader,
        grid,
        recipe,
        join_series(recipe.beside, beside, grid.first + grid.rows * grid.interval),
        names - shared.checked if check else (),
        describe(grid, recipe, key, reader.header, files, checked),
    )
    try:
        whole.write(shared.bars)
    except UnlikeRowsError:
        whole.write(None)


@dataclass(frozen=True, eq=False)
class _Whole:
    """A feature file that is made of all candles.

    Attributes:
        path: where it shall be.
        reader: the candle file.
        grid: of its candles.
        recipe: what to make of them.
        joined: the series beside it.
        check: names of the features that are checked for look-ahead.
        about: the attributes of the feature file.
    """

    path: Path
    reader: CandleReader
    grid: Grid
    recipe: Recipe
    joined: JoinedSeries
    check: Collection[str]
    about: Mapping[str, str | int]

    def write(self, alike: Table | None) -> None:
        """Compute its rows, and write them.

        Args:
            alike: a feature file whose bars it shares; None if there is none.

        Raises:
            UnlikeRowsError: if its bars are others.
        """
        grid = self.grid
        elsewhere = BAR_COLUMNS if is_large(grid.rows) else ()
        rows_file = name_rows_file(self.path)
        columns, floats = len(self.recipe.columns), len(BAR_COLUMNS) * (alike is None)
        observed = columns if self.recipe.mask == "feature" else 1
        width = 4 * columns + observed + 8 * (floats + bool(self.recipe.beside))
        check_room(self.path, grid.rows * width)
        with (
            remove_if_vain(rows_file),
            show_step("features", grid.rows, " bars") as step,
            replace_hdf5(self.path) as (file, check_disk),
        ):
            writer = TableWriter(file, grid.rows, grid.holes, elsewhere)

            def write_segments() -> Iterator[tuple[slice, Callable[[str], NDArray[Any]]]]:
                for rows in split_segments(grid.first, grid.interval, 0, grid.rows):
                    found = compute_segment(
                        self.reader, grid, self.recipe, self.joined, rows, check=self.check
                    )
                    writer.write(rows, found.judged, found.columns)
                    check_disk()
                    step.advance(rows.stop - rows.start)
                    yield rows, found.columns.__getitem__

            if elsewhere and alike is None:
                writer.refer(write_bars(rows_file, grid.rows, write_segments()))
            else:
                for _ in write_segments():
                    pass
            if alike is not None:
                if not has_same_bars(alike, writer.digests):
                    raise UnlikeRowsError("bars")
                writer.refer(claim_bars(alike))
            writer.finish(self.about)
