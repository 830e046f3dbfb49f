"""Positions: what may stand in the brackets of a dataset, as numpy understands it.

What a loader asks for, an int64 array, needs none of this. Anything else is read here: what numpy
would take for one dimension means here what it means there, and what it would not is an error,
never a guess. (``np.asarray(index, dtype=np.int64)`` would take a mask for positions 0 and 1.)
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

Index = int | slice | Sequence[int] | Sequence[bool] | NDArray[Any] | torch.Tensor
"""One position, or several: whole numbers, a slice, or a mask with a bool for each window."""


def read_positions(index: Index, size: int) -> tuple[NDArray[np.int64], bool]:
    """The positions that an index stands for, negative ones as they are given.

    Args:
        index: what stands in the brackets.
        size: how many windows there are, which is the length that a mask must have.

    Returns:
        (n,) int64, and whether they are the one position of a single sample.

    Raises:
        IndexError: if it is none of these: a float, a bool alone, a mask of another length, an
            array of more than one dimension.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(size), dtype=np.int64), False
    if isinstance(index, str | bytes) or index is None:
        _refuse(index)
    if isinstance(index, torch.Tensor):
        index = index.detach().cpu().numpy()
    try:
        given = np.asarray(index)
    except ValueError:  # lists of unequal length
        _refuse(index)
    if not given.size and not isinstance(index, np.ndarray) and given.ndim == 1:
        given = given.astype(np.int64)  # numpy takes an empty list for one of floats
    if given.dtype.kind == "b" and given.ndim == 1:
        if len(given) != size:
            raise IndexError(
                f"a mask of {len(given)} for a dataset of {size} windows: give one bool for each"
            )
        return np.flatnonzero(given), False
    if given.dtype.kind not in "iu" or given.ndim > 1:
        _refuse(index)
    if given.dtype == np.uint64:  # which int64 does not hold all of
        given = np.minimum(given, np.uint64(np.iinfo(np.int64).max))
    return given.astype(np.int64).reshape(-1), given.ndim == 0


def _refuse(index: Any) -> NoReturn:
    shape = getattr(index, "shape", ())
    shown = repr(index) if len(repr(index)) < 50 else type(index).__name__
    if len(shape) > 1:
        shown = f"an array of shape {tuple(shape)}"
    raise IndexError(
        f"{' '.join(shown.split())} is no position: give a whole number, a slice, a list or an "
        "array (n,) of whole numbers, or a mask with a bool for each window"
    )
