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

A feature of a series beside the candles is computed of that series' own rows: of bars as above, or
of records, whose frame has ``time`` and ``known_at`` in place of ``open_time``. A function may ask
for further frames, of series beside the first: a row for each of its rows, with what was known of
the series at the close. They have the series' columns, null where nothing is known or it is too
old, its ``time`` and ``known_at``, and ``age``, how many bars before the close it became known.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import OPTIONAL
from btc_datamodule.checks import MOST_COUNT, unwrap
from btc_datamodule.errors import ConfigError, get_first_line
from btc_datamodule.features.beside import TIMES
from btc_datamodule.features.fingerprint import fingerprint
from btc_datamodule.features.language import Expression
from btc_datamodule.public import public

if TYPE_CHECKING:
    import polars as pl

Compute = Callable[..., "pl.Series"]
"""From a frame, and one for each series beside it, to a series of the first one's height."""


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
        if not 1 <= self.lookback <= MOST_COUNT:
            raise ConfigError(
                f"feature {self.name!r}: lookback must be at least 1 bar, and at most "
                f"{MOST_COUNT:,}: it is {self.lookback}"
            )
        self._check_series()
        if not callable(self.compute):
            selection = _Selection(self._check_expression())
            named = selection.expression.meta.root_names()
            needs = tuple(name for name in OPTIONAL if name in named or name in self.needs)
            object.__setattr__(self, "compute", selection)
            object.__setattr__(self, "needs", needs)

    def _check_series(self) -> None:
        names = (self.beside,) if isinstance(self.beside, str) else tuple(self.beside or ())
        object.__setattr__(self, "beside", names)
        if not all(isinstance(name, str) for name in (self.series, *names)) or "" in names:
            raise ConfigError(
                f"feature {self.name!r}: series and beside are {self.series!r} and {names!r}: give "
                "names of covariates"
            )
        if len({self.series, *names}) <= len(names):
            raise ConfigError(f"feature {self.name!r} names a series twice: {names!r}")

    def _check_expression(self) -> "pl.Expr":
        import polars as pl

        if isinstance(self.compute, pl.Expr):
            if self.beside:
                raise ConfigError(
                    f"feature {self.name!r}: a polars expression is of one frame: make compute a "
                    f"function of the frames, to see {', '.join(self.beside)} beside it"
                )
            return self.compute
        raise ConfigError(
            f"feature {self.name!r}: compute is {self.compute!r}: it must be a function of a "
            "polars frame or a polars expression"
        )

    @property
    def text(self) -> str:
        """How YAML writes the feature: ``name = expression``, or else its name.

        A column of a series as it is has itself for a name.
        """
        if isinstance(self.compute, Expression) and self.compute.text != self.name:
            return f"{self.name} = {self.compute.text}"
        return self.name

    def __repr__(self) -> str:
        return f"Feature({self.text!r}, lookback={self.lookback})"

    def __call__(self, bars: "pl.DataFrame", *others: "pl.DataFrame") -> NDArray[np.float64]:
        """Values of all rows of ``bars``: (rows,) float64, NaN where undefined.

        Args:
            bars: rows of the feature's series.
            others: frames of the series in ``beside``, a row for each row of ``bars``.

        Raises:
            ConfigError: if ``compute`` fails, or gives no numbers, or not one for each bar; if
                there are not as many frames as the feature needs.
        """
        import polars as pl

        if len(others) != len(self.beside):
            named = ", ".join(self.beside) or "none"
            raise ConfigError(
                f"feature {self.name!r} needs frames beside the first of {named}: given "
                f"{len(others)}"
            )
        try:
            series = cast("Compute", self.compute)(bars, *others)
        except Exception as error:
            said = get_first_line(error)
            if isinstance(error, pl.exceptions.ColumnNotFoundError):
                frames = zip((self.series, *self.beside), (bars, *others), strict=True)
                said = _explain_column(said, {name: each.columns for name, each in frames})
            raise ConfigError(
                f"feature {self.name!r} failed: {type(error).__name__}: {said}"
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
        text = f"{self.name}:{self.lookback}:{fingerprint(self.compute)}"
        if self.series or self.beside:
            text += f":{':'.join((self.series, *self.beside))}"
        return text

    def list_columns(self, series: str) -> tuple[str, ...] | None:
        """The columns of a series that the feature reads, beside instants and ages.

        None where that is not known, as of a Python function that is given the series.
        """
        if series not in (self.series, *self.beside):
            return ()
        if isinstance(self.compute, Expression):
            return tuple(column for name, column in self.compute.columns if name == series)
        if isinstance(self.compute, _Selection):
            named = self.compute.expression.meta.root_names()
            return tuple(name for name in dict.fromkeys(named) if name not in TIMES)
        return None


@dataclass(frozen=True, eq=False)
class _Selection:
    """A polars expression as a function of a frame; unlike the expression it can be compared."""

    expression: "pl.Expr"

    def __call__(self, bars: "pl.DataFrame") -> "pl.Series":
        return bars.select(self.expression).to_series()


def _explain_column(said: str, frames: Mapping[str, Sequence[str]]) -> str:
    """What to say where a function asks for a column that a frame of its own lacks.

    Args:
        said: by polars, which quotes the column first; older ones say nothing else.
        frames: the columns of each, by the series; "" for the candles.
    """
    found = re.search(r'"([^"]+)"', said) or re.fullmatch(r"(\S+)", said)
    absent = found and found[1]
    lacking = {
        f"{name!r}" if name else "the candles": columns
        for name, columns in frames.items()
        if absent and absent not in columns
    }
    if not absent or not lacking:
        return said
    owners = {column: whose for whose, columns in lacking.items() for column in columns}
    close = get_close_matches(absent, owners, n=1)
    guess = f": did you mean {close[0]!r} of {owners[close[0]]}?" if close else ";"
    there = "; ".join(f"of {whose} {', '.join(columns)}" for whose, columns in lacking.items())
    return f"there is no column {absent!r} of {' or '.join(lacking)}{guess} there are {there}"


def is_own(feature: Feature) -> bool:
    """Whether a feature is a function that does not come from this package."""
    module = getattr(feature.compute, "__module__", None) or type(feature.compute).__module__
    return module.partition(".")[0] != __name__.partition(".")[0]


def count_warm_up(features: Sequence[Feature]) -> int:
    """Bars before the first input bar that the features need."""
    return max((feature.lookback for feature in features), default=1) - 1


def make_frame(
    open_time: NDArray[np.int64], bars: Mapping[str, NDArray[np.float64]]
) -> "pl.DataFrame":
    """The polars frame that features are computed on; NaN becomes null."""
    import polars as pl

    return pl.DataFrame({"open_time": open_time, **bars}).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )
