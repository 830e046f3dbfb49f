"""Forecasts as they are held: files that ``PredictionWriter`` or ``follow`` wrote, frames, dicts.

Gives ``Forecasts``: times of origins in order, and for each prediction an array of the shape of the
target, or of what stands for it. Parquet and CSV have a column for each number, by its place; HDF5
and dicts have arrays. What is no number, such as a column of names, is no forecast.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.checks import list_first, name_type
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.forecasts import PRICES, UNKNOWN_TIME, read_times, to_numpy

TIME = "origin_time"

FOLD = "fold"
"""A column that says to which fold each forecast belongs, where several are in one file."""

Shape = tuple[int, ...]

ANY = -1
"""Stands in a shape for any number of at least 2."""


class Forecasts(NamedTuple):
    """Forecasts of one or several predictions.

    Attributes:
        origin_time: (n,) int64, epoch seconds, rising.
        values: (n, ...) float64 of each prediction, by name.
        spreads: (n, ..., q) float64 of each that tells a distribution, by name.
        unused: columns that are no forecast of such a shape.
    """

    origin_time: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    spreads: Mapping[str, NDArray[np.float64]]
    unused: tuple[str, ...]


def read_forecasts(given: Any, shapes: Sequence[Shape], spread: Sequence[Shape] = ()) -> Forecasts:
    """Read forecasts of whatever holds them.

    Args:
        given: a path that ends in .parquet, .h5 or .csv, a frame of polars or pandas, or a mapping
            of arrays; with ``origin_time``.
        shapes: that the forecast of a sample may have, those with more axes first.
        spread: that the forecast of a distribution may have, likewise; () if there is none.

    Raises:
        ConfigError: if there is no such file, no ``origin_time``, a time twice, arrays of different
            lengths, or no forecast of any of these shapes: of ``spread``, if that is given.
    """
    label = str(given) if isinstance(given, str | Path) else f"the {name_type(given)}"
    arrays = _read_arrays(given, label)
    if TIME not in arrays:
        raise ConfigError(
            f"{label} has no {TIME} (it has {list_first([*arrays])}): give what PredictionWriter "
            "wrote, or the times of the origins beside the forecasts"
        )
    times = read_times(arrays.pop(TIME)).reshape(-1)
    for name, each in arrays.items():
        if each.shape[:1] != times.shape:
            raise ConfigError(
                f"{label} has {len(times):,} times in {TIME}, and {name} has shape {each.shape}: "
                "give one forecast of each"
            )
    order = np.argsort(times, kind="stable")
    times = times[order]
    again = np.flatnonzero(np.diff(times) == 0)
    if len(again) or (len(times) and times[0] == UNKNOWN_TIME):
        what = f"an {TIME} that is none"
        if len(times) and times[0] != UNKNOWN_TIME:
            what = f"two forecasts of {TIME} {format_instant(int(times[again[0]]))}"
        raise ConfigError(f"{label} has {what}: give one of each origin")
    spreads, left = gather_predictions(arrays, spread)
    values, unused = gather_predictions(left, shapes)
    if not (spreads if spread else values):
        wanted = " or ".join(
            f"({', '.join(['n', *('any number' if size == ANY else str(size) for size in shape)])})"
            for shape in spread or shapes
        )
        there = list_first([f"{name} {each.shape}" for name, each in arrays.items()])
        more = "" if spread else ", or say what `quantiles` they are, or `draws`"
        raise ConfigError(
            f"{label} has no forecast of shape {wanted} (it has {there}): score it with the "
            f"settings that it was made with{more}"
        )
    return Forecasts(
        times,
        {name: each[order] for name, each in values.items()},
        {name: each[order] for name, each in spreads.items()},
        tuple(unused),
    )


def split_folds(given: Any) -> dict[int, dict[str, NDArray[Any]]]:
    """Forecasts of several folds by the number of the fold; {} of what has no column ``fold``.

    Args:
        given: as of ``read_forecasts``; of files Parquet alone can have that column.

    Raises:
        ConfigError: if it does not hold whole numbers from 0 up.
    """
    if not _has_folds(given):
        return {}
    arrays = _read_arrays(given, str(given) if isinstance(given, str | Path) else name_type(given))
    folds = arrays.pop(FOLD)
    if folds.dtype.kind not in "iu" or (folds < 0).any():
        raise ConfigError(f"{FOLD} holds {folds.dtype}: it must hold whole numbers from 0 up")
    return {
        int(fold): {name: values[folds == fold] for name, values in arrays.items()}
        for fold in np.unique(folds)
    }


def _has_folds(given: Any) -> bool:
    import polars as pl

    if not isinstance(given, str | Path):
        return FOLD in (given if isinstance(given, Mapping) else getattr(given, "columns", ()))
    path = Path(given).expanduser()
    try:
        return path.suffix == ".parquet" and FOLD in pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError):
        return False  # it is told when it is read


def gather_predictions(
    arrays: Mapping[str, NDArray[Any]], shapes: Sequence[Shape]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[Any]]]:
    """Forecasts of one of some shapes, out of arrays and of columns with a number each.

    Prices that ``PredictionWriter`` made of forecasts are left out.

    Returns:
        The forecasts by name, and the arrays that are none.
    """
    left = {name: each for name, each in arrays.items() if not re.search(PRICES, name)}
    found: dict[str, NDArray[np.float64]] = {}
    for shape in shapes:
        for name in [name for name, each in left.items() if _fits(each.shape[1:], shape)]:
            numbers = _read_numbers(left[name]) if shape else None
            if numbers is not None:
                found[name] = numbers
                del left[name]
        columns = [name for name, each in left.items() if each.ndim == 1]
        for name, places in _find_places(columns, shape).items():
            parts = [_read_numbers(left[each]) for each in places]
            known = [each for each in parts if each is not None and each.ndim == 1]
            if len(known) == len(parts):
                whole = np.stack(known, axis=1) if shape else known[0]
                axes = [-1 if size == ANY else size for size in shape]
                found[name] = whole.reshape(len(whole), *axes)
                left = {each: values for each, values in left.items() if each not in places}
    return found, left


def _fits(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(
        size == due or (due == ANY and size > 1) for size, due in zip(shape, wanted, strict=True)
    )


def _read_numbers(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """Numbers as float64, NaN where there is none; None if something else is among them."""
    if values.dtype.kind in "fiu":
        return values.astype(np.float64)
    if values.dtype.kind != "O":
        return None
    if any(isinstance(each, str | bytes) for each in values.tolist()):
        return None
    try:
        plain = [np.nan if str(each) in ("None", "<NA>") else each for each in values.tolist()]
        return np.array(plain, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _find_places(columns: Iterable[str], shape: Shape) -> dict[str, list[str]]:
    """Columns by the prediction that they are parts of, those of each in order of their places."""
    pattern = re.compile("(.*?)" + r"_(\d+)" * len(shape))
    places: dict[str, dict[Shape, str]] = {}
    for column in columns:
        match = pattern.fullmatch(column)
        if match:
            place = tuple(map(int, match.groups()[1:]))
            places.setdefault(match[1], {})[place] = column
    found = {}
    for name, each in places.items():
        whole = tuple(size if size != ANY else max(p[-1] for p in each) + 1 for size in shape)
        if _fits(whole, shape) and len(each) == prod(whole) and {*each} == {*np.ndindex(whole)}:
            found[name] = [each[place] for place in np.ndindex(whole)]
    return found


def collect(given: Any) -> Any:
    """A lazy frame of polars as a frame; anything else as it is."""
    return given.collect() if type(given).__name__ == "LazyFrame" else given


def _read_arrays(given: Any, label: str) -> dict[str, NDArray[Any]]:
    if isinstance(given, str | Path):
        return _read_file(Path(given).expanduser())
    if isinstance(given, Mapping):
        return {str(name): to_numpy(str(name), values) for name, values in given.items()}
    given = collect(given)
    if hasattr(given, "columns"):
        held = {str(name): given[name].to_numpy() for name in given.columns}
        if TIME not in held and getattr(getattr(given, "index", None), "name", "") == TIME:
            held[TIME] = given.index.to_numpy()
        return held
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
        if path.suffix == ".csv":
            return {each.name: each.to_numpy() for each in pl.read_csv(path)}
    except (pl.exceptions.PolarsError, OSError, KeyError, RuntimeError) as error:
        raise ConfigError(f"{path} cannot be read as forecasts: {error}") from None
    raise ConfigError(
        f"{path} must end in .parquet, .h5 or .csv, as PredictionWriter and follow write them"
    )


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    import h5py

    with h5py.File(path) as file:
        return {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}
