"""Whether two arrays are the same, and the arrays of whatever a model is handed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import BTCDataError
from btc_datamodule.features.causality import measure_spread

ROUNDING = 1e-5
"""What the rounding of running sums may come to, beside a float32 value and beside the spread of
its column: they carry what they round of bars before along (polars' rolling means)."""

Arrays = dict[str, NDArray[Any]]


class LeakError(BTCDataError):
    """Something depends on bars that it must not see; the message says what and where."""


class UncheckedError(BTCDataError):
    """A guarantee could not be checked; the message says why."""


def compare(
    what: str,
    one: NDArray[Any],
    other: NDArray[Any],
    when: NDArray[np.int64] | None,
    *,
    exact: bool = True,
) -> None:
    """Raise ``LeakError`` unless two arrays agree: bit for bit, or up to rounding.

    Args:
        what: what they are, for the message.
        one: (n, ...) as it is.
        other: likewise, after bars were changed that it must not depend on.
        when: (n,) the time of each item, for the message; None where it is not known.
        exact: False to allow for rounding of floats.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        raise LeakError(f"{what}: {one.dtype} {one.shape} becomes {other.dtype} {other.shape}")
    if not one.size:
        return
    one, other = (each.reshape(1) if not each.ndim else each for each in (one, other))
    bad = np.flatnonzero(find_differences(one, other, exact=exact))
    if len(bad):
        known = when is not None and len(when) == len(one)
        at = format_instant(when[bad[0]]) if known and when is not None else f"item {bad[0]}"
        raise LeakError(f"{what} changes in {len(bad):,} of {len(one):,}, the first at {at}")


def find_differences(one: NDArray[Any], other: NDArray[Any], *, exact: bool) -> NDArray[np.bool_]:
    """(n,) which items of two arrays (n, ...) of one shape and type differ; see ``compare``."""
    bits = (np.ascontiguousarray(each).view(np.uint8) for each in (one, other))
    mine, theirs = (each.reshape(len(one), -1) for each in bits)
    differs: NDArray[np.bool_] = np.logical_or.reduce(mine != theirs, axis=1)
    if exact or one.dtype.kind != "f" or not differs.any():
        return differs
    columns = [each.reshape(-1, each.shape[-1]).astype(np.float64) for each in (one, other)]
    spread = np.array([measure_spread(column) for column in columns[0].T])
    like = np.isclose(columns[1], columns[0], ROUNDING, ROUNDING * spread, equal_nan=True)
    unlike: NDArray[np.bool_] = np.logical_or.reduce(~like.reshape(len(one), -1), axis=1)
    return unlike


def list_arrays(batch: Any, name: str = "") -> Arrays:
    """The tensors and arrays of a batch by name, whatever a transform or a hook has made of it.

    Those of a dict or a named tuple have their names, those of a tuple or list their numbers.
    """
    if isinstance(batch, Tensor):
        values = batch.detach().cpu()
        half = values.dtype in (torch.bfloat16, torch.float16)
        return {name or "batch": (values.float() if half else values).numpy()}
    if isinstance(batch, np.ndarray):
        return {name or "batch": batch}
    if isinstance(batch, Mapping):
        parts = {str(key): value for key, value in batch.items()}
    elif isinstance(batch, tuple | list):
        names = getattr(batch, "_fields", None) or map(str, range(len(batch)))
        parts = dict(zip(names, batch, strict=True))
    else:
        parts = vars(batch) if hasattr(batch, "__dict__") else {}
    arrays: Arrays = {}
    for key, value in parts.items():
        arrays |= list_arrays(value, f"{name}.{key}" if name else key)
    return arrays


def is_target(name: str) -> bool:
    """Whether a field of what a model is handed is what it is to forecast, by its name.

    In a plain tuple or list it is the second: (inputs, targets), as most have it.
    """
    return name.split(".", maxsplit=1)[0] in ("y", "target", "targets", "label", "labels", "1")
