"""Writing a feature file: its arrays a segment at a time, then what it says of itself.

What lies where is told in ``layout``, what the rows are made of in ``build``. Memory grows with the
runs of rows that are noted, not with the rows.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs, find_runs, join_runs
from btc_datamodule.features.cells import Cells, find_cells, join_cells
from btc_datamodule.features.grid import Grid
from btc_datamodule.features.layout import (
    DTYPES,
    SCHEMA,
    SEGMENT_DTYPES,
    combine_digests,
    hash_array,
    stack_digests,
)
from btc_datamodule.features.moments import Moments
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.rows_file import Arrays, write_virtual
from btc_datamodule.features.table import Table
from btc_datamodule.features.undefined import JudgedRows
from btc_datamodule.store.series_file import Header

if TYPE_CHECKING:
    import h5py


class SeenNotes:
    """Notes on what is observed, from consecutive runs of rows of a table."""

    def __init__(self) -> None:
        self._unobserved: list[Runs] = []
        self._cells: list[Cells] = []
        self._undefined: list[Cells] = []
        self._valued: list[NDArray[np.int64]] = []

    @classmethod
    def resume(cls, table: Table) -> "SeenNotes":
        """The notes that were taken of the rows of a feature file."""
        notes = cls()
        notes._unobserved.append(table.unobserved)
        notes._cells.append(table.unobserved_cells)
        notes._undefined.append(table.undefined)
        notes._valued.append(table.valued)
        return notes

    def add(self, judged: JudgedRows, first: int) -> None:
        """Take down some rows.

        Args:
            judged: these rows.
            first: number of the first of them.
        """
        observed = judged.observed
        if observed.ndim == 2:
            self._cells.append(find_cells(~observed, first))
            observed = np.all(observed, axis=1, keepdims=True)[:, 0]
        self._unobserved.append(find_runs(~observed, first))
        self._undefined.append(find_cells(judged.undefined, first))
        self._valued.append(judged.valued.sum(axis=0))

    def collect(self) -> dict[str, NDArray[np.int64]]:
        """The datasets of the feature file that tell of all segments together, by name."""
        return {
            "unobserved": join_runs(self._unobserved),
            "unobserved_cells": join_cells(self._cells),
            "undefined": join_cells(self._undefined),
            "valued": np.sum(self._valued, axis=0),
        }


class Account:
    """What a feature file says of itself beside its attributes, from consecutive segments.

    Args:
        holes: runs of rows for which there is no candle, of all segments together.
        before: what a file says that has the first of the rows already; None if none has. Of its
            segments only those count that are whole here.
        segments: how many of its segments these are.
    """

    def __init__(self, holes: Runs, before: Table | None = None, segments: int = 0) -> None:
        self._holes = holes
        self._notes = SeenNotes() if before is None else SeenNotes.resume(before)
        self._moments = [] if before is None else list(before.moments[:segments])
        self._digests = [] if before is None else _list_digests(before.digests[:segments])

    def note(self, judged: JudgedRows, first: int) -> None:
        """Take down which of the next rows are observed; ``first`` is the number of the first."""
        self._notes.add(judged, first)

    @property
    def digests(self) -> NDArray[np.uint8]:
        """(s, n, 32) uint8, SHA-256 of each segment so far of the first n arrays of ``DTYPES``."""
        return stack_digests(self._digests)

    def add(self, arrays: Iterable[NDArray[Any]], counted: NDArray[np.float32]) -> None:
        """Take down the next segment.

        Args:
            arrays: of its rows, in the order of ``DTYPES``.
            counted: what statistics are of, see ``select_counted``.
        """
        self._digests.append([hash_array(values) for values in arrays])
        self._moments.append(Moments.of(counted))

    def write(
        self, file: "h5py.File", shape: tuple[int, ...], attributes: Mapping[str, str | int]
    ) -> None:
        """Write it into a feature file that is being made.

        Args:
            file: open.
            shape: (T, F), that of ``x``.
            attributes: all but the digest.
        """
        segments = (*zip(*self._moments, strict=True), self.digests)
        small: dict[str, NDArray[Any]] = {
            name: np.array(items, dtype=code)
            for (name, code), items in zip(SEGMENT_DTYPES.items(), segments, strict=True)
        }
        runs = {"holes": self._holes, **self._notes.collect()}
        small |= {name: found.astype("<i8") for name, found in runs.items()}
        for name, values in small.items():
            file[name] = values
        file.attrs.update(attributes)
        file.attrs["digest"] = combine_digests(small["segment_digest"], shape, small, attributes)


class TableWriter:
    """Writes into a new feature file.

    Args:
        file: open, and empty.
        rows: T, of all segments together.
        holes: runs of rows for which there is no candle.
        elsewhere: columns that lie in another file, see ``refer``.
    """

    def __init__(
        self, file: "h5py.File", rows: int, holes: Runs, elsewhere: Collection[str] = ()
    ) -> None:
        self.file = file
        self.rows = rows
        self._elsewhere = elsewhere
        self._data: dict[str, h5py.Dataset] = {}
        self._account = Account(holes)

    def write(
        self, rows: slice, judged: JudgedRows, columns: Mapping[str, NDArray[np.generic]]
    ) -> None:
        """Write the next segment.

        Args:
            rows: which it has.
            judged: ``x`` and ``observed`` of these.
            columns: the other arrays of ``DTYPES``, the same ones for each segment.
        """
        stored = list_arrays(judged, columns)
        if not self._data:
            self._data = {
                name: self.file.create_dataset(name, (self.rows, *values.shape[1:]), values.dtype)
                for name, values in stored.items()
                if name not in self._elsewhere
            }
        for name, data in self._data.items():
            data[rows] = stored[name]
        self._account.add(stored.values(), judged.counted)
        self._account.note(judged, rows.start)

    @property
    def digests(self) -> NDArray[np.uint8]:
        """SHA-256 of what was written so far, and of what lies elsewhere: see ``Account``."""
        return self._account.digests

    def refer(self, arrays: Arrays) -> None:
        """Write where columns lie that are elsewhere."""
        write_virtual(self.file, arrays, dict.fromkeys(arrays.extents, (self.rows,)))

    def finish(self, attributes: Mapping[str, str | int]) -> None:
        """Write what the file says of itself; ``attributes`` are all but the digest."""
        self._account.write(self.file, self._data["x"].shape, attributes)


def list_arrays(
    judged: JudgedRows, columns: Mapping[str, NDArray[np.generic]]
) -> dict[str, NDArray[Any]]:
    """The arrays of ``DTYPES`` of some rows, in the types in which they are stored.

    Args:
        judged: ``x`` and ``observed``.
        columns: the others.
    """
    given = {"x": judged.x, "observed": judged.observed, **columns}
    return {
        name: given[name].astype(code, copy=False) for name, code in DTYPES.items() if name in given
    }


def describe(
    grid: Grid,
    recipe: Recipe,
    key: str,
    header: Header,
    files: Sequence[Sequence[str]],
    checked: Collection[str],
) -> dict[str, str | int]:
    """The attributes of a feature file, without its digest.

    Args:
        grid: of its rows.
        recipe: what they are made by.
        key: of the content.
        header: of the candle file.
        files: path and digest of each file of another series.
        checked: see ``Recipe.list_identities``.
    """
    return {
        "schema": SCHEMA,
        "key": key,
        "candles": header.digest,
        "first": grid.first,
        "interval": int(grid.interval),
        "features": json.dumps(recipe.columns),
        "warm_up": recipe.warm_up,
        "present": grid.present,
        "max_fill": grid.max_fill,
        "mask": recipe.mask,
        "flag": int(recipe.flag),
        "beside": json.dumps(files),
        "checked": json.dumps(list(checked)),
    }


def _list_digests(digests: NDArray[np.uint8]) -> list[list[bytes]]:
    """What ``stack_digests`` has stacked."""
    return [[each.tobytes() for each in segment] for segment in digests]
