"""Writing a feature file: its arrays a segment at a time, then what it says of itself.

What lies where is told in ``layout``, what the rows are made of in ``build``. Memory grows with the
runs of rows that are noted, not with the rows.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs, find_runs, join_runs
from btc_datamodule.features.cells import Cells, find_cells, join_cells
from btc_datamodule.features.layout import (
    DTYPES,
    SEGMENT_DTYPES,
    combine_digests,
    hash_array,
    stack_digests,
)
from btc_datamodule.features.moments import Moments
from btc_datamodule.features.undefined import JudgedRows

if TYPE_CHECKING:
    import h5py


class SeenNotes:
    """Notes on what is observed, from consecutive segments of a table."""

    def __init__(self) -> None:
        self._unobserved: list[Runs] = []
        self._cells: list[Cells] = []
        self._undefined: list[Cells] = []
        self._valued: list[NDArray[np.int64]] = []

    def add(self, judged: JudgedRows, first: int) -> None:
        """Take down a segment.

        Args:
            judged: its rows.
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


class TableWriter:
    """Writes into a new feature file.

    Args:
        file: open, and empty.
        rows: T, of all segments together.
    """

    def __init__(self, file: "h5py.File", rows: int) -> None:
        self.file = file
        self.rows = rows
        self._data: dict[str, h5py.Dataset] = {}
        self._notes = SeenNotes()
        self._moments: list[Moments] = []
        self._digests: list[list[bytes]] = []

    def write(
        self, rows: slice, judged: JudgedRows, columns: Mapping[str, NDArray[np.generic]]
    ) -> None:
        """Write the next segment.

        Args:
            rows: which it has.
            judged: ``x`` and ``observed`` of these.
            columns: the other arrays of ``DTYPES``, the same ones for each segment.
        """
        given = {"x": judged.x, "observed": judged.observed, **columns}
        stored = {
            name: given[name].astype(code, copy=False)
            for name, code in DTYPES.items()
            if name in given
        }
        if not self._data:
            self._data = {
                name: self.file.create_dataset(name, (self.rows, *values.shape[1:]), values.dtype)
                for name, values in stored.items()
            }
        for name, values in stored.items():
            self._data[name][rows] = values
        self._digests.append([hash_array(values) for values in stored.values()])
        self._moments.append(Moments.of(judged.counted))
        self._notes.add(judged, rows.start)

    def finish(self, holes: Runs, attributes: Mapping[str, str | int]) -> None:
        """Write what the file says of itself.

        Args:
            holes: runs of rows for which there is no candle.
            attributes: all but the digest.
        """
        segments = (*zip(*self._moments, strict=True), stack_digests(self._digests))
        small: dict[str, NDArray[Any]] = {
            name: np.array(items, dtype=code)
            for (name, code), items in zip(SEGMENT_DTYPES.items(), segments, strict=True)
        }
        runs = {"holes": holes, **self._notes.collect()}
        small |= {name: found.astype("<i8") for name, found in runs.items()}
        for name, values in small.items():
            self.file[name] = values
        self.file.attrs.update(attributes)
        self.file.attrs["digest"] = combine_digests(
            small["segment_digest"], self._data["x"].shape, small, attributes
        )
