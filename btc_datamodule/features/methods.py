"""The methods, functions and operators that a line of text can compute with.

Each is a function of float64 arrays with a value a row, NaN where it is not defined. The law of
this module: a value has the same bits in every frame that holds its bars. A window is therefore
computed from its own rows alone, always in the same steps, which neither a running sum nor rows
cut up from the frame's start would do. NaN makes a window NaN, and is forgotten after it.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Windows = tuple[Floats, ...]
"""What is known of all windows of one length: arrays with a value a window, in order of time."""

Merge = Callable[[Windows, Windows, int, int], Windows]
"""From older windows, the newer ones that follow them and the rows of each: both as one."""

BLOCK_ROWS = 1 << 16
"""Rows of windows that are computed at a time: half a MiB an array."""


def keep_defined(values: Floats, *operands: Any) -> Floats:
    """The values as float64, NaN where they are not finite or an operand is NaN."""
    undefined = ~np.isfinite(values)
    for operand in operands:
        undefined |= np.isnan(operand)
    return np.where(undefined, np.nan, values)


def _shift(values: Floats, n: int) -> Floats:
    kept = max(0, len(values) - n)
    return np.concatenate([np.full(len(values) - kept, np.nan), values[:kept]])


def _diff(values: Floats, n: int) -> Floats:
    return values - _shift(values, n)


def _pct_change(values: Floats, n: int) -> Floats:
    return values / _shift(values, n) - 1


def _extend_to_rows(of_windows: Callable[..., Floats]) -> Callable[..., Floats]:
    """A function of whole windows, one value each, as one of all rows: NaN before the first.

    Columns come first among its arguments, the length of a window last. It is given some rows at a
    time, which stay in the processor's cache: deviations take a third of the time, means half
    (``benchmarks/rolling.py --block 10000000``), and no value notices.
    """

    @wraps(of_windows)
    def of_rows(*given: Any) -> Floats:
        columns = [each for each in given if isinstance(each, np.ndarray)]
        numbers, rows = given[len(columns) :], len(columns[0])
        before = int(numbers[-1]) - 1
        found = np.full(rows, np.nan)
        step = max(BLOCK_ROWS, before)
        for first in range(before, rows, step):
            parts = (column[first - before : first + step] for column in columns)
            found[first : first + step] = of_windows(*parts, *numbers)
        return found

    return of_rows


def _fold_windows(rows: Windows, bars: int, merge: Merge) -> Windows:
    """What is known of each window of ``bars`` rows, from what is known of single rows.

    Two windows of k rows make one of 2k, and one more row makes one of 2k + 1: the binary digits
    of ``bars``, the first digit first. A value is thus made of the same rows in the same steps
    wherever its frame begins, in O(rows x log bars).
    """
    windows, length = rows, 1
    for digit in f"{bars:b}"[1:]:
        windows = _merge_neighbours(windows, windows, length, length, merge)
        length *= 2
        if digit == "1":
            windows = _merge_neighbours(windows, rows, length, 1, merge)
            length += 1
    return windows


def _merge_neighbours(
    older: Windows, newer: Windows, before: int, after: int, merge: Merge
) -> Windows:
    """Windows of ``before`` rows, each with the window of ``after`` rows that follows it."""
    newer = tuple(part[before:] for part in newer)
    older = tuple(part[: len(newer[0])] for part in older)
    return merge(older, newer, before, after)


def _merge_means(older: Windows, newer: Windows, before: float, after: float) -> Windows:
    """Means of windows that weigh ``before`` and ``after``; of equal values exactly that value."""
    (old,), (new,) = older, newer
    if before == after:
        return ((old + new) / 2,)
    if before > after:
        return (old + (new - old) * (after / (before + after)),)
    return (new + (old - new) * (before / (before + after)),)


def _merge_deviations(older: Windows, newer: Windows, before: int, after: int) -> Windows:
    """First value, mean less the first value, and sum of squared deviations from the mean.

    As Chan, Golub and LeVeque (1983) merge them. What is large and common to all values is in the
    first values alone, whose difference is exact if they are close; of equal values all is 0.
    """
    first, mean, squares = older
    apart, share = _measure_apart(older, newer), after / (before + after)
    return first, mean + apart * share, squares + newer[2] + apart * apart * (before * share)


def _measure_apart(older: Windows, newer: Windows) -> Floats:
    """From the mean of the older windows to that of the newer ones."""
    (first, mean, _), (first_new, mean_new, _) = older, newer
    return (first_new - first) + (mean_new - mean)


@_extend_to_rows
def compute_rolling_mean(values: Floats, bars: int) -> Floats:
    """Mean of each window; of equal values exactly that value."""
    return _fold_windows((values,), bars, _merge_means)[0]


@_extend_to_rows
def compute_rolling_sum(values: Floats, bars: int) -> Floats:
    """Sum of each window, added in pairs."""
    return _fold_windows((values,), bars, lambda older, newer, *_: (older[0] + newer[0],))[0]


@_extend_to_rows
def compute_rolling_var(values: Floats, bars: int) -> Floats:
    """Variance of each window, over bars - 1; of equal values exactly 0."""
    zeros = np.zeros_like(values)
    return _fold_windows((values, zeros, zeros), bars, _merge_deviations)[2] / (bars - 1)


def compute_rolling_std(values: Floats, bars: int) -> Floats:
    """Standard deviation of each window, over bars - 1; of equal values exactly 0."""
    deviation: Floats = np.sqrt(compute_rolling_var(values, bars))
    return deviation


def _merge_pairs(older: Windows, newer: Windows, before: int, after: int) -> Windows:
    """Sum of products of deviations, then of either column what ``_merge_deviations`` merges.

    Merged as the squares are; if all values of a column are equal, the sum is 0.
    """
    one, other = ((older[at : at + 3], newer[at : at + 3]) for at in (1, 4))
    apart = _measure_apart(*one) * _measure_apart(*other)
    return (
        older[0] + newer[0] + apart * (before * (after / (before + after))),
        *_merge_deviations(*one, before, after),
        *_merge_deviations(*other, before, after),
    )


def _fold_pairs(values: Floats, other: Floats, bars: int) -> Windows:
    """Of each window the sum of products of deviations, and those of the squares of either's."""
    zeros = np.zeros_like(values)
    rows = (zeros, values, zeros, zeros, other, zeros, zeros)
    products, _, _, squares, _, _, squares_other = _fold_windows(rows, bars, _merge_pairs)
    return products, squares, squares_other


@_extend_to_rows
def compute_rolling_cov(values: Floats, other: Floats, bars: int) -> Floats:
    """Covariance of each window, over bars - 1; if either's values are equal exactly 0."""
    return _fold_pairs(values, other, bars)[0] / (bars - 1)


@_extend_to_rows
def compute_rolling_corr(values: Floats, other: Floats, bars: int) -> Floats:
    """Pearson's correlation of each window, in [-1, 1]; NaN if either's values are equal."""
    products, squares, squares_other = _fold_pairs(values, other, bars)
    size = np.sqrt(squares) * np.sqrt(squares_other)
    defined = np.isfinite(products) & np.isfinite(size) & (size > 0)
    return np.where(defined, np.clip(products / size, -1, 1), np.nan)


@_extend_to_rows
def compute_rolling_min(values: Floats, bars: int) -> Floats:
    """Least value of each window."""
    return _fold_windows((values,), bars, lambda a, b, *_: (np.minimum(a[0], b[0]),))[0]


@_extend_to_rows
def compute_rolling_max(values: Floats, bars: int) -> Floats:
    """Largest value of each window."""
    return _fold_windows((values,), bars, lambda a, b, *_: (np.maximum(a[0], b[0]),))[0]


def compute_rolling_median(values: Floats, bars: int) -> Floats:
    """Median of each window.

    Polars never sees what is undefined: where values are missing, that of polars 1.31 depends on
    the rows before the window, and can be wrong.
    """
    import polars as pl

    undefined = np.isnan(compute_rolling_max(values, bars))
    medians = pl.Series(np.where(np.isnan(values), 0, values)).rolling_median(bars)
    return np.where(undefined, np.nan, medians.to_numpy())


@_extend_to_rows
def compute_ewm_mean(values: Floats, span: float, bars: int) -> Floats:
    """Mean of each window, weights (1 - 2 / (span + 1))^age; of equal values exactly that value."""
    decay = 1 - 2 / (span + 1)

    def weigh(rows: int) -> float:
        return float(np.sum(decay ** np.arange(rows)))

    def merge(older: Windows, newer: Windows, before: int, after: int) -> Windows:
        return _merge_means(older, newer, decay**after * weigh(before), weigh(after))

    return _fold_windows((values,), bars, merge)[0]


@dataclass(frozen=True)
class Method:
    """A method of the language.

    Attributes:
        apply: from values, of one column or of a pair, and the arguments to values of the same
            length.
        takes: the names of its arguments. ``n`` reaches n bars back, and is 1 if not given;
            ``bars`` is the length of a window; others are numbers that reach nowhere.
        least: the smallest ``bars`` for which it is defined.
        pair: whether it is of two columns: ``a.rolling_cov(b, bars)``.
    """

    apply: Callable[..., Floats]
    takes: tuple[str, ...] = ()
    least: int = 1
    pair: bool = False


METHODS: dict[str, Method] = {
    "log": Method(np.log),
    "log1p": Method(np.log1p),
    "exp": Method(np.exp),
    "abs": Method(np.abs),
    "sqrt": Method(np.sqrt),
    "sign": Method(np.sign),
    "sin": Method(np.sin),
    "cos": Method(np.cos),
    "tanh": Method(np.tanh),
    "clip": Method(np.clip, ("low", "high")),
    "shift": Method(_shift, ("n",)),
    "diff": Method(_diff, ("n",)),
    "pct_change": Method(_pct_change, ("n",)),
    "rolling_mean": Method(compute_rolling_mean, ("bars",)),
    "rolling_std": Method(compute_rolling_std, ("bars",), least=2),
    "rolling_var": Method(compute_rolling_var, ("bars",), least=2),
    "rolling_sum": Method(compute_rolling_sum, ("bars",)),
    "rolling_min": Method(compute_rolling_min, ("bars",)),
    "rolling_max": Method(compute_rolling_max, ("bars",)),
    "rolling_median": Method(compute_rolling_median, ("bars",)),
    "ewm_mean": Method(compute_ewm_mean, ("span", "bars")),
    "rolling_corr": Method(compute_rolling_corr, ("bars",), least=2, pair=True),
    "rolling_cov": Method(compute_rolling_cov, ("bars",), least=2, pair=True),
}
"""The methods of columns, and of anything made of columns."""

FUNCTIONS: dict[str, np.ufunc] = {"min": np.minimum, "max": np.maximum}

OPERATORS: dict[type[ast.AST], np.ufunc] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.UAdd: np.positive,
    ast.USub: np.negative,
}
