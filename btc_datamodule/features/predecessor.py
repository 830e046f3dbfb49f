"""The predecessor of a feature file: the one of the candles as they were before the newest came.

No row depends on a candle after it, so the feature file of the first candles is the beginning of
the one of all. Which file that is follows from names alone: from the digest that the candles had
before an instant follows the key that a file of them has.
"""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from btc_datamodule.disk.hdf5 import check_schema, explain_damage, open_hdf5, read_attribute
from btc_datamodule.disk.in_use import leave_unused
from btc_datamodule.errors import StoreError
from btc_datamodule.features.layout import SCHEMA
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table, list_tables, locate_table
from btc_datamodule.store.candle_file import CandleReader

LARGE_ROWS = 1 << 16
"""Rows from which on a feature file grows; a smaller one is built anew as fast."""

TRIED = 3
"""Ends of candles that are tried: for each, candles are read."""


def find_predecessor(candle_path: Path, reader: CandleReader, recipe: Recipe) -> Table | None:
    """The feature file of a recipe and of candles that are the first ones of these.

    Args:
        candle_path: the candle file.
        reader: that file, open.
        recipe: of features of the candles alone.

    Returns:
        None if there is none of ``LARGE_ROWS`` rows, among the newest few.
    """
    header, tried = reader.header, set[int]()
    for path in sorted(list_tables(candle_path), key=_find_written, reverse=True):
        end = _read_end(path, recipe)
        if end is None or end in tried or not header.span[0] < end < header.span[1]:
            continue
        if len(tried) == TRIED:
            break
        tried.add(end)
        span = header.span[0], end
        then = replace(header, digest=reader.digest_before(end), span=span)
        table = _open(candle_path, recipe.compute_key(then))
        if table is not None and table.span[1] == end and recipe.says(table):
            return table if table.rows >= LARGE_ROWS else None
    return None


def _find_written(path: Path) -> int:
    """When a file was written; it may be gone by now."""
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def _read_end(path: Path, recipe: Recipe) -> int | None:
    """The close of the last row of a feature file; None if it is not of the recipe's columns."""
    try:
        with leave_unused(path), open_hdf5(path) as file, explain_damage(path):
            check_schema(path, file, SCHEMA, "feature file")
            if read_attribute(path, file, "features", str) != json.dumps(recipe.columns):
                return None
            first, interval = (
                read_attribute(path, file, name, int) for name in ("first", "interval")
            )
            return int(first + interval * len(file["open"]))
    except StoreError:
        return None


def _open(candle_path: Path, key: str) -> Table | None:
    """The feature file with a key; None if there is none that can be opened."""
    path = locate_table(candle_path, key)
    with suppress(StoreError):
        table = Table.open(path) if path.exists() else None
        return table if table is not None and table.key == key else None
    return None
