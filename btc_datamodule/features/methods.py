"""The methods, functions and operators that a line of text can compute with.

Each is a function of float64 arrays with a value a row, NaN where it is not defined. A window is
computed from its own bars alone, never by adding to and taking from a running sum.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
    """A function of whole windows, one value each, as one of all rows: NaN before the first."""

    def of_rows(values: Floats, *arguments: Any) -> Floats:
        bars = int(arguments[-1])
        if len(values) < bars:
            return np.full(len(values), np.nan)
        return np.concatenate([np.full(bars - 1, np.nan), of_windows(values, *arguments)])

    return of_rows


def _cut_stretches(values: Floats, bars: int) -> Floats:
    """The rows cut into stretches of ``bars``, (stretches, bars), the last filled up with NaN.

    Every window of ``bars`` rows is the tail of one stretch and the head of the next, or one whole
    stretch. Running values along the stretches, forwards and backwards, thus give all windows in
    linear time, each from its own rows alone (van Herk 1992, Gil and Werman 1993).
    """
    count = -(-len(values) // bars)
    padded = np.full(count * bars, np.nan)
    padded[: len(values)] = values
    return padded.reshape(count, bars)


def _find_extremes(values: Floats, bars: int, of_two: np.ufunc) -> Floats:
    """Least or largest value of each window."""
    stretches = _cut_stretches(values, bars)
    heads = of_two.accumulate(stretches, axis=1).ravel()
    tails = of_two.accumulate(stretches[:, ::-1], axis=1)[:, ::-1].ravel()
    extremes: Floats = of_two(tails[: len(values) - bars + 1], heads[bars - 1 : len(values)])
    return extremes


def _measure_windows(values: Floats, bars: int) -> tuple[Floats, Floats]:
    """Mean and sum of squared deviations of each window: head and tail, merged as Chan does."""
    stretches = _cut_stretches(values, bars)
    heads = [part.ravel() for part in _accumulate_moments(stretches)]
    tails = [part[:, ::-1].ravel() for part in _accumulate_moments(stretches[:, ::-1])]
    mean, squares = (part[bars - 1 : len(values)] for part in heads)
    mean_before, squares_before = (part[: len(values) - bars + 1] for part in tails)
    inside = np.arange(len(mean)) % bars  # a window's first row within its stretch
    before = np.where(inside == 0, 0, bars - inside)  # its rows in the earlier of two stretches
    apart = mean_before - mean
    deviations = squares + squares_before * (before > 0)
    deviations += apart**2 * (before * (bars - before) / bars)
    return mean + apart * (before / bars), deviations


def _accumulate_moments(stretches: Floats) -> tuple[Floats, Floats]:
    """Mean and sum of squared deviations of the first 1, 2, 3, ... values of each stretch.

    Taken from the first value, which belongs to all of them: what makes the sums of squares
    cancel is then in the window itself, and equal values give exactly 0.
    """
    first = stretches[:, :1]
    count = np.arange(1, stretches.shape[1] + 1)
    total = np.cumsum(stretches - first, axis=1)
    squares = np.cumsum((stretches - first) ** 2, axis=1)
    return first + total / count, np.maximum(squares - total**2 / count, 0)


@_extend_to_rows
def _rolling_mean(values: Floats, bars: int) -> Floats:
    return _measure_windows(values, bars)[0]


@_extend_to_rows
def _rolling_sum(values: Floats, bars: int) -> Floats:
    return _measure_windows(values, bars)[0] * bars


@_extend_to_rows
def _rolling_var(values: Floats, bars: int) -> Floats:
    return _measure_windows(values, bars)[1] / (bars - 1)


@_extend_to_rows
def _rolling_std(values: Floats, bars: int) -> Floats:
    deviation: Floats = np.sqrt(_measure_windows(values, bars)[1] / (bars - 1))
    return deviation


@_extend_to_rows
def _rolling_min(values: Floats, bars: int) -> Floats:
    return _find_extremes(values, bars, np.minimum)


@_extend_to_rows
def _rolling_max(values: Floats, bars: int) -> Floats:
    return _find_extremes(values, bars, np.maximum)


def _rolling_median(values: Floats, bars: int) -> Floats:
    import polars as pl

    return pl.Series(values).fill_nan(None).rolling_median(bars).cast(pl.Float64).to_numpy()


@_extend_to_rows
def _ewm_mean(values: Floats, span: float, bars: int) -> Floats:
    """Mean of each window, weights (1 - 2 / (span + 1))^age; they add up to 1."""
    weights = (1 - 2 / (span + 1)) ** np.arange(bars)
    return np.convolve(values, weights / weights.sum(), mode="valid")


@dataclass(frozen=True)
class Method:
    """A method of the language.

    Attributes:
        apply: from values and the arguments to values of the same length.
        takes: the names of its arguments. ``n`` reaches n bars back, and is 1 if not given;
            ``bars`` is the length of a window; others are numbers that reach nowhere.
        least: the smallest ``bars`` for which it is defined.
    """

    apply: Callable[..., Floats]
    takes: tuple[str, ...] = ()
    least: int = 1


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
    "rolling_mean": Method(_rolling_mean, ("bars",)),
    "rolling_std": Method(_rolling_std, ("bars",), least=2),
    "rolling_var": Method(_rolling_var, ("bars",), least=2),
    "rolling_sum": Method(_rolling_sum, ("bars",)),
    "rolling_min": Method(_rolling_min, ("bars",)),
    "rolling_max": Method(_rolling_max, ("bars",)),
    "rolling_median": Method(_rolling_median, ("bars",)),
    "ewm_mean": Method(_ewm_mean, ("span", "bars")),
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
