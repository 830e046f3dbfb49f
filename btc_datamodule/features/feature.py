"""Features: named causal functions of candles.

A feature turns a polars frame of bars into one series. The law: the value at row t depends on
rows (t - lookback, t] and nothing else. ``causality`` tests the law on real rows.

The frame has one row per bar of the regular grid, in order: ``open_time`` (int64, epoch seconds
UTC) and ``open high low close volume quote_volume trades taker_buy_volume`` (float64; null
where the bar was not observed or the source has no such column). A value is known at the close
of its bar. Where a feature gives null, NaN or an infinity, the row counts as not observed.

A feature is named in one of three ways: a built-in one by its name, one of your own as a line of
text whose lookback follows from it (``language``), or as a ``Feature`` in Python, around a
function of the frame or a polars expression.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import OPTIONAL
from btc_datamodule.checks import unwrap
from btc_datamodule.errors import ConfigError, get_first_line
from btc_datamodule.features.fingerprint import fingerprint
from btc_datamodule.features.language import Expression
from btc_datamodule.public import public

if TYPE_CHECKING:
    import polars as pl

Compute = Callable[["pl.DataFrame"], "pl.Series"]


@public
@dataclass(frozen=True, repr=False)
class Feature:
    """A named causal function of bars.

    Attributes:
        name: what it is called in YAML, in errors and in the feature file.
        lookback: bars it needs, the current one included.
        compute: from a frame of bars (see the module) to a series of the same height, or a
            polars expression over the frame's columns.
        needs: optional columns without which it has no value; those of a polars expression are
            found by themselves.
        series: the covariate that it is a feature of: rows are those of this series, ``lookback``
            counts them, and what it gives enters a bar once it is known. "" for the candles.
        beside: covariates whose frames ``compute`` is given after the first one, in this order.
            Each has a row for each row of the first: what was known of it at the close.
    """

    name: str
    lookback: int
    compute: "Compute | pl.Expr"
    needs: tuple[str, ...] = ()
    series: str = ""
    beside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "lookback", unwrap(self.lookback))
        if isinstance(self.lookback, bool) or not isinstance(self.lookback, int):
            raise ConfigError(f"feature {self.name!r}: lookback must be a whole number of bars")
        if self.lookback < 1:
            raise ConfigError(f"feature {self.name!r}: lookback must be at least 1 bar")
        if not callable(self.compute):
            selection = _Selection(self._check_expression())
            named = selection.expression.meta.root_names()
            needs = tuple(name for name in OPTIONAL if name in named or name in self.needs)
            object.__setattr__(self, "compute", selection)
            object.__setattr__(self, "needs", needs)

    def _check_expression(self) -> "pl.Expr":
        import polars as pl

        if isinstance(self.compute, pl.Expr):
            return self.compute
        raise ConfigError(
            f"feature {self.name!r}: compute is {self.compute!r}: it must be a function of a "
            "polars frame or a polars expression"
        )

    @property
    def text(self) -> str:
        """How YAML writes the feature: ``name = expression``, or else its name."""
        if isinstance(self.compute, Expression):
            return f"{self.name} = {self.compute.text}"
        return self.name

    def __repr__(self) -> str:
        return f"Feature({self.text!r}, lookback={self.lookback})"

    def __call__(self, bars: "pl.DataFrame") -> NDArray[np.float64]:
        """Values of all rows of ``bars``: (rows,) float64, NaN where undefined.

        Raises:
            ConfigError: if ``compute`` fails, or gives no numbers, or not one for each bar.
        """
        import polars as pl

        try:
            series = cast("Compute", self.compute)(bars)
        except Exception as error:
            raise ConfigError(
                f"feature {self.name!r} failed: {type(error).__name__}: {get_first_line(error)}"
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


def count_warm_up(features: Sequence[Feature]) -> int:
    """Bars before the first input bar that the features need."""
    return max(feature.lookback for feature in features) - 1


def make_frame(
    open_time: NDArray[np.int64], bars: Mapping[str, NDArray[np.float64]]
) -> "pl.DataFrame":
    """The polars frame that features are computed on; NaN becomes null."""
    import polars as pl

    return pl.DataFrame({"open_time": open_time, **bars}).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )
