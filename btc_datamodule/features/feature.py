"""Features: named causal functions of candles, and the check that they are causal.

A feature turns a polars frame of bars into one series. The law: the value at row t depends on
rows (t - lookback, t] and nothing else. ``check_lookback`` tests the law on real rows by
computing the value again from those rows alone; a feature that looks ahead, or further back than
it declares, raises ``LookAheadError``.

The frame has one row per bar of the regular grid, in order: ``open_time`` (int64, epoch seconds
UTC) and ``open high low close volume quote_volume trades taker_buy_volume`` (float64; null
where the bar was not observed or the source has no such column). A value is known at the close
of its bar. Where a feature gives null, NaN or an infinity, the row counts as not observed.

A feature is named in one of three ways: a built-in one by its name, one of your own as a line of
text whose lookback follows from it (``expressions.py``), or as a ``Feature`` in Python, around a
function of the frame or a polars expression.

Sources of the volatility estimators: Parkinson (1980), Garman and Klass (1980), Rogers and
Satchell (1991), each the one-bar estimate of variance.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import OPTIONAL
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import ConfigError, LookAheadError, first_line
from btc_datamodule.features.fingerprint import fingerprint
from btc_datamodule.features.language import Expression, is_expression, parse

if TYPE_CHECKING:
    import polars as pl

Compute = Callable[["pl.DataFrame"], "pl.Series"]

DAY = 86_400
WEEK = 7 * DAY
MONDAY = 4 * DAY  # 1970-01-05, the first Monday after the epoch
TRAILING_BARS = 24


@dataclass(frozen=True)
class Feature:
    """A named causal function of bars.

    Attributes:
        name: what it is called in YAML, in errors and in the feature file.
        lookback: bars it needs, the current one included.
        compute: from a frame of bars (see the module) to a series of the same height, or a
            polars expression over the frame's columns.
        needs: optional columns without which it has no value; those of a polars expression are
            found by themselves.
    """

    name: str
    lookback: int
    compute: "Compute | pl.Expr"
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.lookback, bool) or not isinstance(self.lookback, int):
            raise ConfigError(f"feature {self.name!r}: lookback must be a whole number of bars")
        if self.lookback < 1:
            raise ConfigError(f"feature {self.name!r}: lookback must be at least 1 bar")
        if not callable(self.compute):
            selection = _Selection(self._expression())
            named = selection.expression.meta.root_names()
            needs = tuple(name for name in OPTIONAL if name in named or name in self.needs)
            object.__setattr__(self, "compute", selection)
            object.__setattr__(self, "needs", needs)

    def _expression(self) -> "pl.Expr":
        import polars as pl

        if isinstance(self.compute, pl.Expr):
            return self.compute
        raise ConfigError(
            f"feature {self.name!r}: compute is {self.compute!r}: it must be a function of a "
            "polars frame or a polars expression"
        )

    @property
    def text(self) -> str:
        """What stands for it in YAML: ``name = expression``, or else its name."""
        if isinstance(self.compute, Expression):
            return f"{self.name} = {self.compute.text}"
        return self.name

    def __call__(self, bars: "pl.DataFrame") -> NDArray[np.float64]:
        """Values of all rows: (rows,) float64, NaN where undefined.

        Raises:
            ConfigError: if ``compute`` fails, or gives no numbers, or not one for each bar.
        """
        import polars as pl

        try:
            series = cast("Compute", self.compute)(bars)
        except Exception as error:
            raise ConfigError(
                f"feature {self.name!r} failed: {type(error).__name__}: {first_line(error)}"
            ) from error
        if not isinstance(series, pl.Series) or not (
            series.dtype.is_numeric() or series.dtype == pl.Boolean
        ):
            gave = series.dtype if isinstance(series, pl.Series) else type(series).__name__
            raise ConfigError(f"feature {self.name!r} must give a polars Series of numbers: {gave}")
        if len(series) != bars.height:
            raise ConfigError(
                f"feature {self.name!r} gave {len(series)} values for {bars.height} bars"
            )
        return series.cast(pl.Float64).to_numpy()

    def definition(self) -> str:
        """A text that changes when the feature may compute something else."""
        return f"{self.name}:{self.lookback}:{fingerprint(self.compute)}"


@dataclass(frozen=True, eq=False)
class _Selection:
    """A polars expression as a function of a frame; unlike the expression it can be compared."""

    expression: "pl.Expr"

    def __call__(self, bars: "pl.DataFrame") -> "pl.Series":
        return bars.select(self.expression).to_series()


FEATURES: dict[str, Feature] = {}
"""The built-in features by name."""


def _builtin(lookback: int, *needs: str) -> Callable[[Compute], Compute]:
    def register(compute: Compute) -> Compute:
        FEATURES[compute.__name__] = Feature(compute.__name__, lookback, compute, needs)
        return compute

    return register


def _log_ratio(upper: "pl.Series", lower: "pl.Series") -> "pl.Series":
    return (upper / lower).log()


@_builtin(2)
def log_return(bars: "pl.DataFrame") -> "pl.Series":
    """ln(close / previous close)."""
    return _log_ratio(bars["close"], bars["close"].shift(1))


@_builtin(2)
def log_open(bars: "pl.DataFrame") -> "pl.Series":
    """ln(open / previous close)."""
    return _log_ratio(bars["open"], bars["close"].shift(1))


@_builtin(1)
def log_high(bars: "pl.DataFrame") -> "pl.Series":
    """ln(high / close)."""
    return _log_ratio(bars["high"], bars["close"])


@_builtin(1)
def log_low(bars: "pl.DataFrame") -> "pl.Series":
    """ln(low / close)."""
    return _log_ratio(bars["low"], bars["close"])


@_builtin(1)
def log_range(bars: "pl.DataFrame") -> "pl.Series":
    """ln(high / low)."""
    return _log_ratio(bars["high"], bars["low"])


@_builtin(1)
def log_volume(bars: "pl.DataFrame") -> "pl.Series":
    """ln(1 + volume)."""
    return bars["volume"].log1p()


@_builtin(TRAILING_BARS)
def relative_volume(bars: "pl.DataFrame") -> "pl.Series":
    """ln(1 + volume) less its mean over the last 24 bars."""
    volume = bars["volume"].log1p()
    return volume - volume.rolling_mean(TRAILING_BARS)


@_builtin(1)
def parkinson(bars: "pl.DataFrame") -> "pl.Series":
    """Variance of the bar from its range: ln(high / low)^2 / (4 ln 2)."""
    return _log_ratio(bars["high"], bars["low"]) ** 2 / (4 * math.log(2))


@_builtin(1)
def garman_klass(bars: "pl.DataFrame") -> "pl.Series":
    """Variance of the bar: ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2."""
    spread = _log_ratio(bars["high"], bars["low"]) ** 2 / 2
    return spread - (2 * math.log(2) - 1) * _log_ratio(bars["close"], bars["open"]) ** 2


@_builtin(1)
def rogers_satchell(bars: "pl.DataFrame") -> "pl.Series":
    """Variance of the bar: ln(H/C) ln(H/O) + ln(L/C) ln(L/O)."""
    opened, high, low, close = (bars[name] for name in ("open", "high", "low", "close"))
    above = _log_ratio(high, close) * _log_ratio(high, opened)
    return above + _log_ratio(low, close) * _log_ratio(low, opened)


@_builtin(TRAILING_BARS + 1)
def volatility(bars: "pl.DataFrame") -> "pl.Series":
    """Root mean square of the last 24 log returns."""
    return (log_return(bars) ** 2).rolling_mean(TRAILING_BARS).clip(lower_bound=0).sqrt()


@_builtin(TRAILING_BARS + 1)
def momentum(bars: "pl.DataFrame") -> "pl.Series":
    """Log return over the last 24 bars: ln(close / close 24 bars ago)."""
    return _log_ratio(bars["close"], bars["close"].shift(TRAILING_BARS))


@_builtin(1, "taker_buy_volume")
def taker_share(bars: "pl.DataFrame") -> "pl.Series":
    """Share of the volume that takers bought; 0.5 where nothing traded."""
    return (bars["taker_buy_volume"] / bars["volume"]).fill_nan(0.5)


def _phase(bars: "pl.DataFrame", period: int, origin: int = 0) -> "pl.Series":
    return (bars["open_time"] - origin) % period * (2 * math.pi / period)


@_builtin(1)
def day_sin(bars: "pl.DataFrame") -> "pl.Series":
    """Sine of the time of day, UTC."""
    return _phase(bars, DAY).sin()


@_builtin(1)
def day_cos(bars: "pl.DataFrame") -> "pl.Series":
    """Cosine of the time of day, UTC."""
    return _phase(bars, DAY).cos()


@_builtin(1)
def week_sin(bars: "pl.DataFrame") -> "pl.Series":
    """Sine of the time of week, UTC, from Monday."""
    return _phase(bars, WEEK, MONDAY).sin()


@_builtin(1)
def week_cos(bars: "pl.DataFrame") -> "pl.Series":
    """Cosine of the time of week, UTC, from Monday."""
    return _phase(bars, WEEK, MONDAY).cos()


def resolve(features: Sequence[str | Feature]) -> tuple[Feature, ...]:
    """The features that names and expressions stand for.

    Raises:
        ConfigError: for an unknown name (listing the known ones), an expression that is not in
            the language or has the name of a built-in feature, a name given twice, or no
            features at all.
        LookAheadError: for an expression that reads later bars.
    """
    if isinstance(features, str):
        raise ConfigError(f"features is the text {features!r}: give a list, such as [{features}]")
    if not features:
        raise ConfigError("features is empty: name at least one, such as log_return")
    resolved = tuple(_named(each) if isinstance(each, str) else each for each in features)
    names = [feature.name for feature in resolved]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"features names {', '.join(repeated)} more than once")
    return resolved


def _named(text: str) -> Feature:
    """The feature that a name or an expression stands for."""
    if text in FEATURES:
        return FEATURES[text]
    if is_expression(text):
        name, expression = parse(text)
        if name in FEATURES:
            raise ConfigError(f"feature {name!r} is built in: give yours another name")
        return Feature(name, expression.lookback, expression, expression.needs)
    close = get_close_matches(text, FEATURES, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(f"unknown feature {text!r}: {hint}known features: {', '.join(FEATURES)}")


def warm_up(features: Sequence[Feature]) -> int:
    """Bars before the first input bar that the features need."""
    return max(feature.lookback for feature in features) - 1


def frame(open_time: NDArray[np.int64], bars: Mapping[str, NDArray[np.float64]]) -> "pl.DataFrame":
    """The polars frame that features are computed on; NaN becomes null."""
    import polars as pl

    return pl.DataFrame({"open_time": open_time, **bars}).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )


def check_lookback(
    feature: Feature,
    bars: "pl.DataFrame",
    values: NDArray[np.float64],
    rows: Sequence[int],
) -> None:
    """Raise ``LookAheadError`` unless the feature keeps its law at ``rows``.

    Each value is computed again from the ``lookback`` bars that end at its row. The two may
    differ by rounding: 1e-10 of the value, 1e-6 of the feature's usual spread (its 5 % to 95 %
    range, which no single outlier widens), and 1e-13 of its largest value, which is what running
    sums leave behind.

    Args:
        feature: the feature under test.
        bars: real rows.
        values: the feature's values on all of ``bars``.
        rows: the rows to test.
    """
    defined = values[np.isfinite(values)]
    rounding = 0.0
    if len(defined):
        low, high = np.quantile(defined, [0.05, 0.95])
        rounding = float(1e-6 * (high - low) + 1e-13 * np.abs(defined).max())
    for row in rows:
        start = max(0, row - feature.lookback + 1)
        alone = feature(bars[start : row + 1])[-1]
        if _same(values[row], alone, rounding):
            continue
        past = feature(bars[: row + 1])[-1]
        when = format_instant(bars["open_time"][row])
        if _same(values[row], past, rounding):
            problem = f"it reads further back than its lookback of {feature.lookback}: raise it"
        else:
            problem = "it looks ahead"
        raise LookAheadError(
            f"feature {feature.name!r} at {when}: {values[row]:.8g} with all bars, {alone:.8g} "
            f"from its last {feature.lookback} alone (difference "
            f"{abs(values[row] - alone):.3g}): {problem}"
        )


def _same(one: float, other: float, rounding: float) -> bool:
    if not (np.isfinite(one) and np.isfinite(other)):
        return not (np.isfinite(one) or np.isfinite(other))
    return abs(one - other) <= 1e-10 * abs(one) + rounding
