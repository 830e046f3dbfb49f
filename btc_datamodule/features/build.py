"""Building the feature file from the candle file: once, a segment at a time, atomically.

A ``Recipe`` holds what the content depends on beside the candles; its key is in the file's name,
so a file with the right name has the right content. Memory does not depend on the length of
history. Every feature is checked for look-ahead on real rows on the way.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from btc_datamodule.candles.series import OPTIONAL
from btc_datamodule.disk.atomic import check_room, explain_write_errors
from btc_datamodule.disk.hdf5 import replace_hdf5
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.errors import ConfigError, StoreError
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.growing import grow
from btc_datamodule.features.joined import join_series
from btc_datamodule.features.layout import BAR_COLUMNS, split_segments
from btc_datamodule.features.predecessor import find_predecessor
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.reuse import check_reuse
from btc_datamodule.features.rows_file import list_claims
from btc_datamodule.features.segment import compute_segment
from btc_datamodule.features.stale import remove_leftovers, remove_stale
from btc_datamodule.features.table import list_tables, locate_table, open_whole
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
                    path, key, before, reader, beside, recipe, check=check
                ):
                    _write(path, reader, beside, recipe, key, check=check)
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


def _write(
    path: Path,
    reader: CandleReader,
    beside: Sequence[CandleReader | RecordReader],
    recipe: Recipe,
    key: str,
    *,
    check: bool,
) -> None:
    for each in {each.path: each for each in (reader, *beside)}.values():
        _check_content(each)
    grid = Grid.of(reader, recipe.span, recipe.max_fill)
    warm = recipe.warm_up
    if grid.rows <= warm:
        raise ConfigError(
            f"the features need {warm} bars of history and there are {grid.rows} bars: widen "
            "`start` and `end`, or choose features with a shorter lookback"
        )
    joined = join_series(recipe.beside, beside, grid.first + grid.rows * grid.interval)
    observed = len(recipe.columns) if recipe.mask == "feature" else 1
    floats = len(BAR_COLUMNS) + bool(beside)
    check_room(path, grid.rows * (4 * len(recipe.columns) + observed + 8 * floats))
    with (
        show_step("features", grid.rows, " bars") as step,
        replace_hdf5(path) as (file, check_disk),
    ):
        writer = TableWriter(file, grid.rows, grid.holes)
        for rows in split_segments(grid.first, grid.interval, 0, grid.rows):
            found = compute_segment(reader, grid, recipe, joined, rows, check=check)
            writer.write(rows, found.judged, found.columns)
            check_disk()
            step.advance(rows.stop - rows.start)
        files = recipe.list_files(path.parent, [each.header.digest for each in beside])
        writer.finish(describe(grid, recipe, key, reader.header, files))
