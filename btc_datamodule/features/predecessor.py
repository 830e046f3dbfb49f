"""The predecessor of a feature file: the one of the candles as they were before the newest came.

No row depends on a candle after it, so the feature file of the first candles is the beginning of
the one of all. Which file that is follows from names alone: from the digest that the candles had
before an instant follows the key that a file of them has. Of the series beside them nothing may
have changed that was known at the end of its last row.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from btc_datamodule.disk.hdf5 import read_attribute
from btc_datamodule.errors import StoreError, UnreadableError
from btc_datamodule.features.contents import look_into
from btc_datamodule.features.layout import is_large
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table, list_tables, locate_table, open_whole
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.record_file import RecordReader

TRIED = 3
"""Ends of candles that are tried: for each, candles are read."""


class _Made(NamedTuple):
    """What a feature file says that it was made of.

    Attributes:
        end: the close of its last row.
        digests: of the files of the series beside the candles.
    """

    end: int
    digests: tuple[str, ...]


def find_predecessor(
    candle_path: Path,
    reader: CandleReader,
    beside: Sequence[CandleReader | RecordReader],
    recipe: Recipe,
) -> Table | None:
    """The feature file of a recipe and of candles that are the first ones of these.

    Args:
        candle_path: the candle file.
        reader: that file, open.
        beside: the files of the series beside it, open.
        recipe: what feature files are made by.

    Returns:
        None if there is no large one, among the newest few.
    """
    header, tried = reader.header, set[_Made]()
    for path in sorted(list_tables(candle_path), key=_find_written, reverse=True):
        made = _read_made(path, recipe)
        if made is None or made in tried or not header.span[0] < made.end < header.span[1]:
            continue
        if len(tried) == TRIED:
            break
        tried.add(made)
        then = replace(
            header, digest=reader.digest_before(made.end), span=(header.span[0], made.end)
        )
        table = None
        with suppress(UnreadableError):
            key = recipe.compute_key(then, made.digests)
            table = open_whole(locate_table(candle_path, key), key)
        if table is not None and table.span[1] == made.end and recipe.says(table):
            pairs = zip(beside, made.digests, strict=True)
            goes_on = all(_goes_on(each, digest, made.end) for each, digest in pairs)
            return table if goes_on and is_large(table.rows) else None
    return None


def _goes_on(reader: CandleReader | RecordReader, digest: str, end: int) -> bool:
    """Whether a file that had a digest has only got what became known after an instant."""
    if reader.header.digest == digest:
        return True
    if isinstance(reader, RecordReader):
        return False
    return reader.digest_before(end - reader.header.interval + 1) == digest


def _find_written(path: Path) -> int:
    """When a file was written; it may be gone by now."""
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def _read_made(path: Path, recipe: Recipe) -> _Made | None:
    """What a feature file was made of; None if it is not of the recipe's columns and series."""
    try:
        with look_into(path) as file:
            if read_attribute(path, file, "features", str) != json.dumps(recipe.columns):
                return None
            first, interval = (
                read_attribute(path, file, name, int) for name in ("first", "interval")
            )
            digests = [
                digest for _, digest in json.loads(read_attribute(path, file, "beside", str))
            ]
            end = int(first + interval * len(file["open"]))
    except StoreError:
        return None
    return _Made(end, tuple(digests)) if len(digests) == len(recipe.beside) else None
