"""Forecasts as they are held: files that ``PredictionWriter`` wrote, frames, dicts of arrays.

Gives ``Forecasts``: times of origins in order, and for each prediction an array of the shape of the
target, or of what stands for it. Parquet has a column for each number, by its place; HDF5 and dicts
have arrays.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.checks import list_first, name_type
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.forecasts import PRICES, UNKNOWN_TIME, read_times

TIME = "origin_time"

Shape = tuple[int, ...]


class Forecasts(NamedTuple):
    """Forecasts of one or several predictions.

    Attributes:
        origin_time: (n,) int64, epoch seconds, rising.
        values: (n, ...) float64 of each prediction, by name.
        unused: columns that are no forecast of such a shape.
    """

    origin_time: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    unused: tuple[str, ...]


def read_forecasts(given: Any, shapes: Sequence[Shape]) -> Forecasts:
    """Read forecasts of whatever holds them.

    Args:
        given: a path that ends in .parquet or .h5, a frame of polars or pandas, or a mapping of
            arrays; with ``origin_time``.
        shapes: that the forecast of a sample may have, those with more axes first.

    Raises:
        ConfigError: if there is no such file, no ``origin_time``, a time twice, or no forecast of
            any of these shapes.
    """
    label = str(given) if isinstance(given, str | Path) else f"the {name_type(given)}"
    arrays = _read_arrays(given, label)
    if TIME not in arrays:
        raise ConfigError(
            f"{label} has no {TIME} (it has {list_first([*arrays])}): give what PredictionWriter "
            "wrote, or the times of the origins beside the forecasts"
        )
    times = read_times(arrays.pop(TIME)).reshape(-1)
    order = np.argsort(times, kind="stable")
    times = times[order]
    again = np.flatnonzero(np.diff(times) == 0)
    if len(again) or (len(times) and times[0] == UNKNOWN_TIME):
        what = "an origin_time that is none" if not len(again) else (
            f"two forecasts of origin_time {times[again[0]]}"
        )  # fmt: skip
        raise ConfigError(f"{label} has {what}: give one of each origin")
    values, unused = gather_predictions(arrays, shapes)
    if not values:
        wanted = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in shapes)
        raise ConfigError(
            f"{label} has no forecast of shape {wanted} (it has "
            f"{list_first([f'{name} {each.shape}' for name, each in arrays.items()])}): score it "
            "with the settings that it was made with"
        )
    return Forecasts(times, {name: each[order] for name, each in values.items()}, unused)


def gather_predictions(
    arrays: Mapping[str, NDArray[Any]], shapes: Sequence[Shape]
) -> tuple[dict[str, NDArray[np.float64]], tuple[str, ...]]:
    """Forecasts of one of some shapes, out of arrays and of columns with a number each.

    Prices that ``PredictionWriter`` made of forecasts are left out.

    Returns:
        The forecasts by name, and the names of the arrays that are none.
    """
    left = {name: each for name, each in arrays.items() if not re.search(PRICES, name)}
    found: dict[str, NDArray[np.float64]] = {}
    for shape in shapes:
        for name in [name for name, each in left.items() if each.shape[1:] == shape and shape]:
            found[name] = left.pop(name).astype(np.float64)
        columns = [name for name, each in left.items() if each.ndim == 1]
        for name, places in _find_places(columns, shape).items():
            parts = [left.pop(each) for each in places]
            whole = np.stack(parts, axis=1) if shape else parts[0]
            found[name] = whole.astype(np.float64).reshape(len(whole), *shape)
    return found, tuple(left)


def _find_places(columns: Iterable[str], shape: Shape) -> dict[str, list[str]]:
    """Columns by the prediction that they are parts of, those of each in order of their places."""
    pattern = re.compile("(.*?)" + r"_(\d+)" * len(shape))
    places: dict[str, dict[Shape, str]] = {}
    for column in columns:
        match = pattern.fullmatch(column)
        if match:
            place = tuple(map(int, match.groups()[1:]))
            places.setdefault(match[1], {})[place] = column
    order = [*np.ndindex(shape)]
    return {
        name: [each[place] for place in order]
        for name, each in places.items()
        if len(each) == prod(shape) and {*each} == {*order}
    }


def _read_arrays(given: Any, label: str) -> dict[str, NDArray[Any]]:
    if isinstance(given, str | Path):
        return _read_file(Path(given).expanduser())
    if isinstance(given, Mapping):
        return {str(name): np.asarray(values) for name, values in given.items()}
    if hasattr(given, "columns"):
        return {str(name): given[name].to_numpy() for name in given.columns}
    raise ConfigError(f"{label} holds no forecasts: give a file, a frame or a dict of arrays")


def _read_file(path: Path) -> dict[str, NDArray[Any]]:
    import polars as pl

    if not path.is_file():
        raise ConfigError(f"{path}: no such file of forecasts")
    try:
        if path.suffix == ".parquet":
            return {each.name: each.to_numpy() for each in pl.read_parquet(path)}
        if path.suffix == ".h5":
            return _read_hdf5(path)
    except (pl.exceptions.PolarsError, OSError, KeyError, RuntimeError) as error:
        raise ConfigError(f"{path} cannot be read as forecasts: {error}") from None
    raise ConfigError(f"{path} must end in .parquet or .h5, as PredictionWriter writes them")


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    import h5py

    with h5py.File(path) as file:
        return {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}
