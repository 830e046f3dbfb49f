"""Building the feature file from the candle file: once, a segment at a time, atomically.

A ``Recipe`` holds what the content depends on beside the candles; its key is in the file's name,
so a file with the right name has the right content. Memory does not depend on the length of
history. Every feature is checked for look-ahead on real rows on the way.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import mark_runs
from btc_datamodule.candles.series import ContentDigest
from btc_datamodule.candles.timeline import Span
from btc_datamodule.disk.atomic import check_room, explain_write_errors
from btc_datamodule.disk.hdf5 import (
    explain_damage,
    open_hdf5,
    read_attribute,
    replace_hdf5,
)
from btc_datamodule.disk.in_use import claim_unused
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.errors import ConfigError, StoreError, UnreadableError
from btc_datamodule.features.causality import check_lookback, choose_rows
from btc_datamodule.features.clocks import StoredBeside
from btc_datamodule.features.feature import Feature, count_warm_up, make_frame
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.layout import (
    BAR_COLUMNS,
    FLAG,
    SCHEMA,
    SEGMENT_DTYPES,
    MaskOf,
    split_segments,
)
from btc_datamodule.features.memory import capture_state, check_memory
from btc_datamodule.features.table import Table, locate_table
from btc_datamodule.features.undefined import (
    JudgedRows,
    find_counting,
    find_known,
    judge_rows,
)
from btc_datamodule.features.writing import TableWriter
from btc_datamodule.progress import show_step
from btc_datamodule.store.candle_file import CandleReader, check_digest
from btc_datamodule.store.parts import list_leftovers
from btc_datamodule.store.series_file import Header

KEPT_SECONDS = 86_400


@dataclass(frozen=True)
class Recipe:
    """Everything that the content of a feature file depends on, beside the candles.

    Attributes:
        features: the columns of ``x``.
        max_fill: bars of each hole, from its first, that are taken as time without trades.
        span: candles outside it (epoch seconds) are left out.
        flag: whether rows in which a feature is undefined are kept, and flagged by a column of
            their own (``undefined``).
        mask: whether bars are observed as a whole, or each feature by itself.
        beside: the series that features name, as they are stored.
    """

    features: tuple[Feature, ...]
    max_fill: int
    span: Span
    flag: bool = False
    mask: MaskOf = "bar"
    beside: tuple[StoredBeside, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of ``x``."""
        return (*(feature.name for feature in self.features), *[FLAG] * self.flag)

    def compute_key(self, header: Header) -> str:
        """Name of the content that this recipe makes of the candle file with ``header``."""
        parts = [
            SCHEMA,
            SEGMENT_DTYPES,
            header.digest,
            header.interval,
            self.max_fill,
            self.flag,
            self.mask,
            max(self.span[0], header.span[0]),
            min(self.span[1], header.span[1]),
            *(feature.definition() for feature in self.features),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def describes(self, table: Table, header: Header) -> bool:
        """Whether a feature file says of itself what this recipe makes of the candles."""
        of_bars = (table.max_fill, table.warm_up, table.interval, table.candles)
        says = (table.features, table.flag, table.mask, *of_bars)
        of_bars = (self.max_fill, count_warm_up(self.features), header.interval, header.digest)
        due = (self.columns, self.flag, self.mask, *of_bars)
        (first, end), (start, stop), (begin, last) = table.span, self.span, header.span
        begins = first == begin if start <= begin else start <= first
        ends = end == last if last <= stop else end < stop + header.interval
        return says == due and begins and ends


def build(candle_path: Path, recipe: Recipe, *, check: bool = True) -> Path:
    """Build the feature file of a recipe unless it is there; give the path of the file.

    Feature files that were made from candles as they no longer are, and that no process of this
    machine uses and nobody has opened for ``KEPT_SECONDS``, are removed: a series that is updated
    for months must not fill the disk.

    Args:
        candle_path: the candle file.
        recipe: what to make of it.
        check: whether to check each feature for look-ahead; False only for features that are
            being checked by other means.

    Raises:
        LookAheadError: if a feature breaks its law on the real rows.
        ConfigError: if a feature needs a column that the candles lack, or no candle is in span.
        StoreError: if the candle file is damaged, or the feature file cannot be written.
    """
    with CandleReader(candle_path) as reader:
        key = recipe.compute_key(reader.header)
        path = locate_table(candle_path, key)
        if _is_whole(path, key):  # which needs no lock, nor permission to write
            return path
        if not os.access(path.parent, os.W_OK):
            raise StoreError(
                f"{path.parent} has no feature file for these features and this span, and cannot "
                "be written: prepare it as a user who may write there, or put the candles into a "
                "`data_dir` that can be written"
            )
        with hold_lock(candle_path.with_name("features.lock")):
            with explain_write_errors(path):
                for leftover in list_leftovers(path.parent, "features-*.h5"):
                    leftover.unlink()  # of a process that was killed: the lock is held
            if not _is_whole(path, key):  # who held the lock may have built it
                _check_columns(recipe.features, reader.header)
                _remove_stale(candle_path, reader.header)
                _write(path, reader, recipe, key, check=check)
    return path


def _is_whole(path: Path, key: str) -> bool:
    """Whether ``path`` is a feature file that can be opened and has the key.

    Raises:
        UnreadableError: if that cannot be told now.
    """
    if not path.exists():
        return False
    try:
        return Table.open(path).key == key
    except UnreadableError:
        raise
    except StoreError:
        return False


def _check_columns(features: Sequence[Feature], header: Header) -> None:
    for feature in features:
        absent = [name for name in feature.needs if name not in header.columns]
        if absent:
            raise ConfigError(
                f"feature {feature.name!r} needs {', '.join(absent)}, which candles from "
                f"{header.source!r} do not have: take it out of `features`"
            )


def _remove_stale(candle_path: Path, header: Header) -> None:
    """Remove feature files of candles as they no longer are, which nobody uses."""
    for path in candle_path.parent.glob("features-*.h5"):
        if not os.path.isfile(path):  # noqa: PTH113 (which is False for any link to nowhere)
            continue
        if time.time() - path.stat().st_atime >= KEPT_SECONDS and _is_stale(path, header):
            with claim_unused(path) as unused:
                if unused:
                    path.unlink()


def _is_stale(path: Path, header: Header) -> bool:
    """Whether a feature file is damaged, or of another schema or other candles."""
    try:
        with open_hdf5(path) as file, explain_damage(path):
            schema = read_attribute(path, file, "schema", int)
            return bool(schema != SCHEMA) or bool(
                read_attribute(path, file, "candles", str) != header.digest
            )
    except UnreadableError:
        return False
    except StoreError:
        return True


def _check_content(reader: CandleReader) -> None:
    """Read a candle file once, a chunk at a time, and compare its content with its digest.

    Raises:
        StoreError: if it does not hold the candles that were written to it, or is damaged.
    """
    digest = ContentDigest(reader.header.interval)
    for chunk in reader.chunks():
        digest.update(chunk)
    check_digest(reader.path, reader.header, digest)


def _write(path: Path, reader: CandleReader, recipe: Recipe, key: str, *, check: bool) -> None:
    _check_content(reader)
    grid = Grid.of(reader, recipe.span, recipe.max_fill)
    warm = count_warm_up(recipe.features)
    if grid.rows <= warm:
        raise ConfigError(
            f"the features need {warm} bars of history and there are {grid.rows} bars: widen "
            "`start` and `end`, or choose features with a shorter lookback"
        )
    observed = len(recipe.columns) if recipe.mask == "feature" else 1
    check_room(path, grid.rows * (4 * len(recipe.columns) + observed + 8 * len(BAR_COLUMNS)))
    with (
        show_step("features", grid.rows, " bars") as step,
        replace_hdf5(path) as (file, check_disk),
    ):
        writer = TableWriter(file, grid.rows)
        for rows in split_segments(grid.first, grid.interval, 0, grid.rows):
            writer.write(rows, *_compute_segment(reader, grid, recipe, rows, check=check))
            check_disk()
            step.advance(rows.stop - rows.start)
        writer.finish(grid.holes, _describe(grid, recipe, key, reader.header))


def _describe(grid: Grid, recipe: Recipe, key: str, header: Header) -> dict[str, str | int]:
    """The attributes of a feature file, without its digest."""
    return {
        "schema": SCHEMA,
        "key": key,
        "candles": header.digest,
        "first": grid.first,
        "interval": int(grid.interval),
        "features": json.dumps(recipe.columns),
        "warm_up": count_warm_up(recipe.features),
        "present": grid.present,
        "max_fill": grid.max_fill,
        "mask": recipe.mask,
        "flag": int(recipe.flag),
        "beside": json.dumps([]),
    }


def _compute_segment(
    reader: CandleReader, grid: Grid, recipe: Recipe, rows: slice, *, check: bool
) -> tuple[JudgedRows, dict[str, NDArray[np.float64]]]:
    """Features and bars of some rows, the features checked for look-ahead."""
    features, low, high = recipe.features, rows.start, rows.stop
    warm_up = count_warm_up(features)
    early = max(0, low - warm_up)
    bars = grid.read_bars(reader, early, high)
    table = make_frame(grid.times(early, high), bars)
    x = np.empty((high - low, len(features)), dtype=np.float32)
    for column, feature in enumerate(features):
        before = capture_state(feature.compute)
        values = feature(table)
        check_memory(feature, before)
        if check:
            chosen = choose_rows(grid, early, low, high, values, bars["close"])
            check_lookback(feature, table, values, chosen)
        with np.errstate(over="ignore"):  # too large for float32 counts as not finite
            x[:, column] = values[low - early :]
    outage = mark_runs(grid.outages, early, high)
    judged = judge_rows(
        x,
        find_known(outage, [feature.lookback for feature in features], high - low),
        find_counting(outage[low - early :], low, warm_up),
        flag=recipe.flag,
        by_feature=recipe.mask == "feature",
    )
    return judged, {name: bars[name][low - early :] for name in BAR_COLUMNS}
