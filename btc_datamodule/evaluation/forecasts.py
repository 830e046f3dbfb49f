"""Forecasts and their times as people hold them: tensors, arrays, tables; one shape out of many.

A forecast comes from a model (a tensor, of any precision, on any device, with its gradient), from a
file that ``PredictionWriter`` wrote (columns ``forecast_0_0`` and so on), or from a notebook (an
array, a list). Here each becomes an array (B, *target shape) of the numbers as they are; what does
not fit is an error that says what would.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.scaling import Scaler

UNKNOWN_TIME = int(np.iinfo(np.int64).min)
"""Stands for a time that is not there, or is on no whole second."""

PRICES = r"_price(_\d+)*$"
"""Columns that ``PredictionWriter`` has made of others: no forecasts."""


def read_forecasts(y: Any, times: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Forecasts as an array.

    Args:
        y: a tensor, an array, a table of columns, or what numpy makes an array of: of shape
            (B, *shape), (B, prod(shape)), or (B,) where that is one number.
        times: shape of the times of the origins, (B,); () for a single sample without that axis.
        shape: of one sample's target.

    Returns:
        (*times, *shape) float64.

    Raises:
        ConfigError: if it has another shape, or is no numbers.
    """
    values = _read_numbers(y, shape)
    size = prod(shape)
    due = dict.fromkeys([(*times, *shape), (*times, size), *([times] if size == 1 else [])])
    if values.shape not in due:
        count = f"{times[0]:,} origins" if times else "one origin"
        raise ConfigError(
            f"y has shape {values.shape}, for {count} and a target of shape {shape}: give "
            f"{' or '.join(map(str, due))}"
        )
    return values.astype(np.float64).reshape(*times, *shape)


def read_times(origin_time: Any) -> NDArray[np.int64]:
    """Times of origins as int64 epoch seconds, of any shape; ``UNKNOWN_TIME`` for none.

    Args:
        origin_time: whole epoch seconds, times of numpy, polars or Python (UTC, unless they say
            otherwise), or texts: a tensor, an array, a column, a list, or one alone.

    Raises:
        ConfigError: if they are no times.
    """
    if len(getattr(origin_time, "columns", ())) == 1:
        origin_time = origin_time[origin_time.columns[0]]
    times = to_numpy("origin_time", origin_time, ())
    if times.dtype.kind == "M":
        seconds = times.astype("datetime64[s]")
        known = seconds == times  # NaT equals nothing
        return np.where(known, seconds.astype(np.int64), UNKNOWN_TIME)
    if times.dtype.kind in "iu" or not times.size:
        return times.astype(np.int64)
    if times.dtype.kind in "OUS":
        parsed = [
            UNKNOWN_TIME
            if str(when) in ("None", "NaT", "nan")
            else parse_instant(when, "origin_time")
            for when in times.reshape(-1).tolist()
        ]
        return np.array(parsed, dtype=np.int64).reshape(times.shape)
    raise ConfigError(
        f"origin_time is {times.dtype}: give whole epoch seconds (int64), as batches have them, or "
        "times"
    )


def invert(scaler: Scaler, y: Any, shape: tuple[int, ...]) -> Any:
    """Targets or forecasts in the units of the target, as the kind of thing that was given.

    Args:
        scaler: of the target.
        y: as for ``read_forecasts``, or of any shape whose last axis is that of ``shape``.
        shape: of one sample's target.

    Returns:
        For a tensor one of its type and on its device, through which its gradient goes (float32 and
        dense, if it is quantised, sparse or of 8 bits a number); for a table
        or a column of polars such a one; else an array, of the type of floats that was given.

    Raises:
        ConfigError: if it has another shape, or is no numbers.
    """
    if isinstance(y, Tensor):
        return _apply_in_shape(scaler.invert, _make_plain("y", y), shape)
    values = to_numpy("y", y, shape)
    numbers = torch.from_numpy(_read_numbers(y, shape).astype(np.float64))
    found = _apply_in_shape(scaler.invert, numbers, shape).numpy()
    found = found.astype(values.dtype if values.dtype.kind == "f" else np.float64)
    if type(y).__module__.startswith("polars"):
        import polars as pl

        if isinstance(y, pl.DataFrame):
            return y.with_columns(pl.DataFrame(found, schema=_sort_columns(y, shape).columns))
        return pl.Series(y.name, found)
    return found


def _apply_in_shape(
    change: Callable[[Tensor], Tensor], y: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """Apply what works along the last axis of ``shape`` to numbers that may lie in one row."""
    last, size = (shape or (1,))[-1], prod(shape)
    if last == 1 or y.shape[-1:] == (last,):
        return change(y)
    if y.shape[-1:] == (size,):
        return change(y.reshape(*y.shape[:-1], *shape)).reshape(y.shape)
    raise ConfigError(
        f"y has shape {tuple(y.shape)}, for a target of shape {shape}: give (B, "
        f"{', '.join(map(str, shape))}) or (B, {size})"
    )


def _read_numbers(y: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """What a user gave as an array of numbers, its columns in their order."""
    values = to_numpy("y", _sort_columns(y, shape), shape)
    if values.dtype.kind == "O":  # lists in a column; numbers of which some are absent
        with suppress(TypeError, ValueError):
            if type(y).__module__.startswith("pandas"):  # whose pd.NA is no number
                values = _sort_columns(y, shape).to_numpy(dtype=np.float64, na_value=np.nan)
            else:
                values = np.array(values.tolist(), dtype=np.float64)
    if values.dtype.kind not in "fiub":
        raise ConfigError(
            f"y is {values.dtype}: give numbers alone, in a tensor, an array or columns"
        )
    return values


def _sort_columns(table: Any, shape: tuple[int, ...]) -> Any:
    """A table of a prediction's numbers with its columns in the order of their places.

    ``forecast_10_0`` comes before ``forecast_2_0`` in the order of texts. Columns beside them, such
    as their prices, are left out; if none has such a name all stay in the order that they have.
    """
    if not hasattr(table, "columns") or not shape:
        return table
    pattern = re.compile("(.*)" + r"_(\d+)" * len(shape))
    names = [name for name in map(str, table.columns) if not re.search(PRICES, name)]
    found = [pattern.fullmatch(name) for name in names]
    places = {tuple(map(int, each.groups()[1:])): each[0] for each in found if each}
    if len({each[1] for each in found if each}) != 1 or set(places) != set(np.ndindex(shape)):
        return table
    return table[[places[place] for place in np.ndindex(shape)]]


def _make_plain(name: str, tensor: Tensor) -> Tensor:
    """A tensor that torch can compute with and numpy can hold: dense, its numbers not packed.

    Raises:
        ConfigError: if it cannot be made one, as a nested one of several lengths.
    """
    try:
        if tensor.is_quantized:
            return tensor.dequantize()
        dense = tensor if tensor.layout == torch.strided else tensor.to_dense()
        packed = dense.is_floating_point() and dense.itemsize == 1
        return dense.float() if packed else dense
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{name} is a tensor of {tensor.dtype} and {tensor.layout}, which makes no array: give "
            "a dense one of float32"
        ) from error


def to_numpy(name: str, thing: Any, shape: tuple[int, ...] = ()) -> NDArray[Any]:
    """An array of whatever holds numbers or times.

    Args:
        name: what an error calls it.
        thing: what a user gave; of a list of tensors each is a batch, or a sample.
        shape: of a sample.

    Raises:
        ConfigError: if it makes none.
    """
    if isinstance(thing, Tensor):
        if thing.is_meta:
            raise ConfigError(f"{name} is on the device meta, which holds no numbers")
        values = _make_plain(name, thing.detach().cpu())
        return (values.float() if values.dtype == torch.bfloat16 else values).resolve_neg().numpy()
    if isinstance(thing, np.ma.MaskedArray):
        return np.ma.filled(thing.astype(np.float64), np.nan)
    if isinstance(thing, list | tuple) and thing:
        if all(isinstance(each, Tensor) for each in thing):
            parts = [to_numpy(name, each, shape) for each in thing]
            samples = all(each.shape == shape for each in parts)
            return np.stack(parts) if samples else np.concatenate(parts)
        thing = thing[0] if isinstance(thing[0], Mapping) else thing
    if isinstance(thing, Mapping):
        raise ConfigError(
            f"{name} is made of dicts with {', '.join(map(str, thing))}: give one of these, of all "
            "batches, such as torch.cat([each['forecast'] for each in predictions])"
        )
    try:
        return np.asarray(thing.to_numpy() if hasattr(thing, "to_numpy") else thing)
    except ValueError as error:
        raise ConfigError(f"{name} makes no array: {error}") from None
