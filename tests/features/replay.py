"""Candles that come in bar by bar, and feature files that grow with them."""

import multiprocessing as mp
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest

from btc_datamodule.candles.series import Candles
from btc_datamodule.disk.atomic import forgo_sync
from btc_datamodule.features import layout, rows_file, stale
from btc_datamodule.features.build import build
from btc_datamodule.features.checking import Extent
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table
from tests.factories import HOUR, T0, candles_of, changed
from tests.features.tables import PATCHY, recipe
from tests.helpers import write

FORKED = mp.get_context("forkserver")
FORKED.set_forkserver_preload(
    ["tests.features.test_rows_file", "tests.features.test_sharing", "polars", "h5py", "tqdm"]
)

SEGMENT, LARGE, ROOM = 48, 30, 32

TEXTS = ("log_return", "near = close / close.rolling_mean(7) - 1", "taker_share")


def slow_mean(bars: pl.DataFrame) -> pl.Series:
    """With a running sum, which carries the rounding of earlier bars along."""
    return bars["close"].rolling_mean(5) / bars["close"]


SLOW = Feature("slow", 5, slow_mean)

RECIPES: dict[str, Recipe] = {
    "texts": recipe(*TEXTS),
    "undefined": recipe(*TEXTS, PATCHY),
    "flag": recipe("log_return", PATCHY, SLOW, flag=True),
    "cells": recipe(*TEXTS, PATCHY, mask="feature"),
    "flagged_cells": recipe("log_return", SLOW, PATCHY, mask="feature", flag=True),
}


def market(rows: int) -> Candles:
    """Bars with holes of all lengths; no taker volume at first."""
    rng = np.random.default_rng(5)
    present = rng.random(rows) > 0.04
    for start in range(40, rows, 97):
        present[start : start + 2 + start % 11] = False
    present[[0, -1]] = True
    bars = candles_of(present, optional=["trades", "taker_buy_volume"])
    taker = bars["taker_buy_volume"].copy()
    taker[:60] = np.nan
    return changed(bars, taker_buy_volume=taker)


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Have small files grow, over several segments and several rows files."""
    patch.setattr(layout, "SEGMENT_ROWS", SEGMENT)
    patch.setattr(layout, "LARGE_ROWS", LARGE)
    patch.setattr(rows_file, "ROOM_ROWS", ROOM)


class Replay:
    """A candle file to which bars come in.

    Args:
        folder: that it lies in.
        candles: all that will come.
        made: of what the feature files are.
        check: whether features are checked for look-ahead, which takes most of the time.
    """

    def __init__(
        self, folder: Path, candles: Candles, made: Recipe, *, check: bool = False
    ) -> None:
        self.path = folder / "candles.h5"
        self.candles = candles
        self.recipe = made
        self.check = check

    def take(self, rows: int) -> Table:
        """The feature file of the first bars."""
        with forgo_sync():
            self.write(rows)
            return Table.open(build(self.path, self.recipe, check=self.check))

    def write(self, rows: int) -> None:
        """Write the candle file of the first bars."""
        bars = self.cut(rows)
        write(self.path, bars, covered=[bars.span], compress=False)

    def cut(self, rows: int) -> Candles:
        return self.candles.slice(T0, int(self.candles.open_time[rows - 1]) + HOUR)

    def rebuild(self, rows: int) -> Table:
        """The feature file of the first bars, built in a folder of its own."""
        alone = Replay(self.path.parent / "alone", self.candles, self.recipe)
        for old in alone.path.parent.glob("features-*"):
            old.unlink()
        return alone.take(rows)

    def list_names(self, pattern: str) -> list[str]:
        return sorted(path.name for path in self.path.parent.glob(pattern))


def find_file(table: Table, name: str = "x") -> Path:
    """The file that an array of a feature file lies in."""
    return table.checks.find_place(name).path


def find_extent(table: Table, name: str) -> Extent:
    """Where in that file it lies."""
    return table.checks.find_place(name).extents[name]


def is_grown(table: Table) -> bool:
    return find_file(table) != table.path


def assert_equal(table: Table, built: Table) -> None:
    """All datasets and all attributes bit for bit, as this package has them and as HDF5 has."""
    assert not is_grown(built)
    assert (table.digest, table.key, table.path.name) == (built.digest, built.key, built.path.name)
    with h5py.File(table.path) as ours, h5py.File(built.path) as theirs:
        assert {*ours} == {*theirs}
        assert dict(ours.attrs) == dict(theirs.attrs)
        for name in theirs:
            assert ours[name].dtype == theirs[name].dtype
            assert ours[name][()].tobytes() == theirs[name][()].tobytes(), name
            if name in layout.DTYPES:
                assert table.array(name).tobytes() == theirs[name][()].tobytes(), name


def remove_at_once(patch: pytest.MonkeyPatch) -> None:
    """Have files that are of no use removed as soon as nobody uses them."""
    patch.setattr(stale, "KEPT_SECONDS", 0)
    patch.setattr(stale, "GROWN_SECONDS", 0)


def lumps(rows: int, seed: int) -> Iterator[int]:
    """Numbers of bars, from ``LARGE`` to ``rows``: one more, or many, up to several segments."""
    rng, at = np.random.default_rng(seed), LARGE + 10
    while at < rows:
        yield at
        at += int(rng.choice([1, 1, 2, 5, 30, 130]))
    yield rows


def list_all(table: Table) -> dict[str, Any]:
    return {name: table.array(name).copy() for name in table.checks.names}


def unused_for(seconds: float, *paths: Path) -> None:
    """Have files look as if nobody had used them for so long."""
    for path in paths:
        found = path.stat()
        os.utime(path, (found.st_atime - seconds, found.st_mtime))


def die_of(step: int) -> None:
    """End the process once so many calls that write to the disk have been made."""
    left = [step]

    def count(real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            return real(*given, **named)

        return counted

    for name in ("pwrite", "fsync", "ftruncate"):
        setattr(os, name, count(getattr(os, name)))
    Path.replace = count(Path.replace)  # type: ignore[method-assign]
