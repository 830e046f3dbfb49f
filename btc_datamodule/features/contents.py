"""What a feature file says of itself: all but its large arrays, read and checked.

What lies where is told in ``layout``. Nothing that the file declares is believed: sizes are those
of bytes in the file, what it says of itself has the digest that was written with it, and its parts
agree with each other.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Runs, subtract_runs
from btc_datamodule.candles.timeline import LONGEST_DURATION, Interval
from btc_datamodule.disk.hdf5 import (
    advise_repair,
    check_schema,
    explain_damage,
    find_dataset,
    open_hdf5,
    read_attribute,
)
from btc_datamodule.disk.in_use import leave_unused
from btc_datamodule.disk.stored import SMALL_BYTES, Stored
from btc_datamodule.errors import StoreError
from btc_datamodule.features.cells import split_cells, unite_cells
from btc_datamodule.features.layout import (
    ATTRIBUTES,
    CELLS,
    DTYPES,
    FLAG,
    MASKS,
    REACH,
    RUNS,
    SCHEMA,
    SEGMENT_DTYPES,
    SIZED,
    combine_digests,
    find_edges,
    shape_array,
)
from btc_datamodule.features.rows_file import Arrays, find_arrays, open_rows, read_claims

if TYPE_CHECKING:
    import h5py

BESIDE_BYTES = 1 << 26
"""What a file may hold beside its arrays, with as much again as these."""

PACKED = 16
"""How often as large as on a disk a file may be that this disk packs."""

LAST = 1 << 40
"""Instants are less than this: the year 36,812."""

MOST_ROWS = 1 << 36
"""Two thousand years of seconds: what says that it has more is damaged."""


class Contents(NamedTuple):
    """What a feature file says of itself, checked.

    Attributes:
        told: its attributes, by name.
        shape: of ``x``, (T, F).
        features: names of the columns of ``x``.
        beside: path and digest of each file of another series.
        checked: see ``Recipe.list_identities``.
        interval: seconds, and the grid.
        edges: (s + 1,) int64, the rows at which segments begin, and the one past the last.
        names: of ``DTYPES`` that it has.
        arrays: where these lie, file by file.
        small: the datasets of ``SMALL``, by name.
    """

    told: dict[str, Any]
    shape: tuple[int, int]
    features: tuple[str, ...]
    beside: tuple[tuple[str, str], ...]
    checked: tuple[str, ...]
    interval: Interval
    edges: NDArray[np.int64]
    names: tuple[str, ...]
    arrays: tuple[Arrays, ...]
    small: dict[str, NDArray[Any]]


@contextmanager
def look_into(path: Path) -> Iterator["h5py.File"]:
    """A feature file of this schema, open, which does not count as used for that.

    Raises:
        StoreError: if it is none, or damaged.
    """
    with leave_unused(path), open_hdf5(path) as file, explain_damage(path):
        check_schema(path, file, SCHEMA, "feature file")
        yield file


def read_contents(path: Path, file: "h5py.File") -> Contents:
    """Read an open feature file of this schema, all but its large arrays.

    Raises:
        StoreError: if it is not as it was written.
    """
    told = {name: read_attribute(path, file, name, kind) for name, kind in ATTRIBUTES.items()}
    if len(file.attrs) != len(ATTRIBUTES):
        raise _refuse(path, f"it has {len(file.attrs)} attributes in place of {len(ATTRIBUTES)}")
    if told["mask"] not in MASKS:
        raise _refuse(path, f"its mask is none of {', '.join(MASKS)}")
    names = tuple(name for name in DTYPES if name != REACH or name in file)
    arrays, shape = _find_arrays(path, file, names, told["mask"])
    last = told["first"] + shape[0] * told["interval"]
    if not (0 < told["interval"] <= LONGEST_DURATION and abs(last) + abs(told["first"]) < LAST):
        raise _refuse(path, f"a grid of {told['interval']} s from {told['first']} on cannot be")
    interval = Interval(told["interval"], told["first"])
    edges = find_edges(told["first"], interval, shape[0])
    number = len(edges) - 1
    features, checked = (_read_texts(path, told, name) for name in ("features", "checked"))
    if len(features) != shape[1]:
        raise _refuse(path, "'features' disagrees with the rest of it")
    beside = _read_beside(path, told["beside"])
    if told["flag"] not in (0, 1) or (told["flag"] and features[-1] != FLAG):
        raise _refuse(path, "'flag' disagrees with the rest of it")
    sizes: dict[str, tuple[int, ...]] = dict.fromkeys(SEGMENT_DTYPES, (number, shape[1]))
    sizes |= {
        "segment_digest": (number, len(names), 32),
        "valued": (shape[1] - told["flag"],),
    }
    small = _read_small(path, file, sizes, shape)
    if told["digest"] != combine_digests(small["segment_digest"], shape, small, told):
        raise _refuse(path, "what it says of itself is not what was written")
    _check_facts(path, told, small, edges)
    return Contents(told, shape, features, beside, checked, interval, edges, names, arrays, small)


def _read_texts(path: Path, told: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """An attribute that is a list of texts."""
    texts = json.loads(told[name])
    if not isinstance(texts, list) or not {*map(type, texts)} <= {str}:
        raise _refuse(path, f"{name!r} is no list of texts")
    return tuple(texts)


def _read_beside(path: Path, text: str) -> tuple[tuple[str, str], ...]:
    """Path and digest of each file of another series."""
    pairs = json.loads(text)
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and [*map(type, pair)] == [str, str] for pair in pairs
    ):
        raise _refuse(path, "'beside' is no list of files")
    return tuple((name, digest) for name, digest in pairs)


def _find_arrays(
    path: Path, file: "h5py.File", names: Sequence[str], mask: str
) -> tuple[tuple[Arrays, ...], tuple[int, int]]:
    """Where arrays lie, all of them inside a file, and the shape of ``x``."""
    claims = read_claims(path, file)
    elsewhere = {name for claim in claims for name in claim.names}
    x = file["x"] if "x" in elsewhere else find_dataset(path, file, "x")
    shape: tuple[int, ...] = x.shape or ()
    if len(shape) != 2 or not 0 < shape[0] <= MOST_ROWS or not shape[1]:
        raise _refuse(path, f"'x' is not a contiguous array of rows and features, but {shape}")
    due = {name: shape_array(name, shape, mask)[1:] for name in names}
    inside = [name for name in names if name not in elsewhere]
    extents, rows = find_arrays(path, file, inside, due)
    own = Arrays(path, None, extents, rows, rows)
    size = rows * sum(extent.width for extent in extents.values())
    beside = path.stat().st_size - size
    if beside > BESIDE_BYTES + size:
        raise _refuse(path, f"it has {beside:,} bytes beside its arrays")
    if {claim.rows for claim in claims} | ({rows} if inside else set()) != {shape[0]}:
        raise _refuse(path, "its arrays are of several lengths")
    arrays = (*[own] * bool(inside), *(open_rows(claim, due) for claim in claims))
    return arrays, (shape[0], shape[1])


def _read_small(
    path: Path, file: "h5py.File", sizes: Mapping[str, tuple[int, ...]], shape: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    """The datasets of ``SMALL``, by name.

    Args:
        path: of the file.
        file: opened.
        sizes: the shapes of those that are no runs.
        shape: of ``x``.
    """
    found: dict[str, NDArray[Any]] = {}
    most = max(SMALL_BYTES, PACKED * _count_bytes(path))
    for name, code in SIZED.items():
        data, due = Stored(path, file, name), sizes[name]
        if data.shape != due or data.dtype != np.dtype(code):
            raise _refuse(path, f"{name!r} is not a {due} array of {np.dtype(code).name}")
        if prod(due) * data.dtype.itemsize > most:
            raise _refuse(path, f"{name!r} is larger than what the disk holds of the file")
        found[name] = data[:]
    found |= {name: _read_runs(path, file, name, shape[0]) for name in RUNS}
    return found | {name: _read_runs(path, file, name, *shape) for name in CELLS}


def _count_bytes(path: Path) -> int:
    """Bytes that the disk holds of a file: of what was never written it holds none."""
    found = path.stat()
    return 512 * found.st_blocks if hasattr(found, "st_blocks") else found.st_size


def _read_runs(
    path: Path, file: "h5py.File", name: str, rows: int, features: int | None = None
) -> NDArray[np.int64]:
    """A dataset of runs of the rows of a table: in order, apart from each other, none empty.

    Args:
        path: of the file.
        file: opened.
        name: of the dataset.
        rows: of the table.
        features: where each run follows the number of one of so many features, each of which has
            runs of its own: (k, 3). None for runs alone: (n, 2).
    """
    data, width = Stored(path, file, name), 2 if features is None else 3
    most = rows * (features or 1)
    if data.dtype != np.dtype("<i8") or data.shape[1:] != (width,) or len(data) > most:
        raise _refuse(path, f"{name!r} is not an array of runs of {rows:,} rows")
    limits = ([] if features is None else [features - 1]) + [rows, rows]
    found = [np.zeros((0, width), dtype=np.int64)]
    last = -1
    for piece in data.read_small():  # a million of nothing ends with the first piece
        outside = (piece < 0).any() or (piece > limits).any()
        # Rows counted on from feature to feature: each run lies after the one before it.
        before = piece[:, :-2] * (rows + 1) if width == 3 else 0
        edges = np.concatenate([[last], (piece[:, -2:] + before).ravel()])
        if outside or (edges[1:] <= edges[:-1]).any():
            raise _refuse(path, f"{name!r} has runs that overlap, or lie outside the table")
        last = int(edges[-1])
        found.append(piece)
    return np.concatenate(found)


def _check_facts(
    path: Path,
    told: Mapping[str, Any],
    small: Mapping[str, NDArray[Any]],
    edges: NDArray[np.int64],
) -> None:
    """Raise ``StoreError`` unless what a file says of itself agrees with itself."""
    rows, holes, unobserved = int(edges[-1]), small["holes"], small["unobserved"]
    mean, squares = small["segment_mean"], small["segment_squares"]
    by_feature, valued = told["mask"] == "feature", small["valued"]
    counted = small["segment_count"].sum(axis=0)[: len(valued)]
    cells = _join_overlapping(unite_cells(small["unobserved_cells"]), rows)
    absent = _count_before(holes, edges)[-1]
    agrees = {
        "warm_up": 0 <= told["warm_up"] < rows
        and _count_before(unobserved, np.array([told["warm_up"]]))[0] == told["warm_up"],
        "max_fill": told["max_fill"] >= 0,
        "present": told["present"] == rows - absent,
        "holes": not len(holes) or (holes[0, 0] > 0 and holes[-1, 1] < rows),
        "unobserved_cells": np.array_equal(cells, unobserved) if by_feature else not len(cells),
        "segment_count": np.array_equal(small["segment_count"], _count_values(told, small, edges)),
        "segment_mean": np.isfinite(mean).all(),
        "segment_squares": np.isfinite(squares).all() and (squares >= 0).all(),
        "valued": (valued == counted if by_feature else valued >= counted).all()
        and (valued <= rows).all(),
    }
    wrong = [name for name, right in agrees.items() if not right]
    if wrong:
        raise _refuse(path, f"{wrong[0]!r} disagrees with the rest of it")


def _count_values(
    told: Mapping[str, Any], small: Mapping[str, NDArray[Any]], edges: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(s, F) how many values of each feature count in each segment, by the runs of the others."""
    size, undefined = small["segment_count"].shape, small["undefined"]
    left_out = [(small["unobserved"], unite_cells(undefined))]
    if told["mask"] == "feature":
        without = split_cells(undefined, size[1])
        without[-1] = unite_cells(undefined) if told["flag"] else without[-1]
        left_out = list(zip(split_cells(small["unobserved_cells"], size[1]), without, strict=True))
    columns = []
    for runs in left_out:
        taken = np.concatenate(runs)
        counted = subtract_runs(np.array([[0, edges[-1]]]), taken[np.argsort(taken[:, 0])])
        columns.append(np.diff(_count_before(counted, edges)))
    return np.broadcast_to(np.stack(columns, axis=1), size)


def _join_overlapping(runs: Runs, rows: int) -> Runs:
    """The runs of the rows, of ``rows`` in all, that lie in one of some that may overlap."""
    every = np.array([[0, rows]])
    return subtract_runs(every, subtract_runs(every, runs))


def _count_before(runs: Runs, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows of some runs lie before each of ``rows``, which are in order."""
    counted = np.append(0, np.cumsum(runs[:, 1] - runs[:, 0]))
    begun = runs[:, 0].searchsorted(rows)
    last = np.append(0, runs[:, 1])[begun]
    found: NDArray[np.int64] = counted[begun] - np.maximum(last - rows, 0)
    return found


def _refuse(path: Path, what: str) -> StoreError:
    return StoreError(f"{path}: {what}: {advise_repair(path)}")
