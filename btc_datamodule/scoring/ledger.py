"""What each forecast would have earned by the plain rule of ``money``, beside buy and hold."""

from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.checks import check_whole_number
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.targets import Direction, Target
from btc_datamodule.scoring.baselines import NO_CHANGE
from btc_datamodule.scoring.beside import HOLD
from btc_datamodule.scoring.kinds import find_kind, to_classes
from btc_datamodule.scoring.measures import Numbers
from btc_datamodule.scoring.money import (
    BLOCKS,
    Run,
    compute_deflated_sharpe,
    compute_drawdown,
    compute_overfitting,
    compute_probabilistic_sharpe,
    compute_sharpe,
    compute_total,
    follow_sign,
    hold,
)
from btc_datamodule.scoring.score import Score

if TYPE_CHECKING:
    import polars as pl

BASIS_POINT = 1e-4

YEAR = 365.25 * 86_400
"""Seconds: this market never closes."""

LEAST_PERIODS = 2

LEAST_COMPARED = 2 * BLOCKS
"""Periods below which nothing is said of overfitting."""

WHAT_IT_IS = (
    "one unit in the direction of the forecast, held until the target is over; a yardstick and no "
    "backtester: any size is filled at the close"
)


@dataclass(frozen=True, eq=False)
class Ledger:
    """Returns of the rule by each forecast, in periods that do not overlap.

    Attributes:
        score: of the forecasts.
        cost: of one side, in basis points of the price.
        trials: models and settings that were tried to come to these, which the deflated Sharpe
            ratio allows for.
        rows: (n,) which samples count; None for all.
    """

    score: Score
    cost: float
    trials: int = 1
    rows: Mask | None = None

    def __post_init__(self) -> None:
        is_number = isinstance(self.cost, Real) and not isinstance(self.cost, bool)
        if not is_number or not 0 <= self.cost < 1 / BASIS_POINT:
            raise ConfigError(
                f"cost is {self.cost!r}: give basis points of one side, from 0 to below 10,000"
            )
        object.__setattr__(self, "cost", float(self.cost))
        check_whole_number("trials", self.trials, 1)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Numbers of the samples that are traded: none begins before the one before is over."""
        times, seconds = self.score.origin_time, self.score.horizon_seconds
        chosen = np.arange(len(times)) if self.rows is None else np.flatnonzero(self.rows)
        following = np.searchsorted(times[chosen], times[chosen] + seconds).tolist()
        found, at = list[int](), 0
        while at < len(following):
            found.append(at)
            at = following[at]
        return chosen[found]

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """(m,) origins of the samples that are traded, epoch seconds."""
        return self.score.origin_time[self.places]

    @cached_property
    def runs(self) -> dict[str, Run]:
        """What comes of each forecast and baseline that has a direction, and of holding."""
        score, cost, places = self.score, self.cost * BASIS_POINT, self.places
        returns, reference = score.returns[places], score.reference[places]
        held = np.append(np.log(reference[1:] / reference[:-1]), returns[-1:])
        follows = np.diff(self.times, prepend=0) == score.horizon_seconds
        found = {HOLD: hold(held, cost)}
        for name, values in (score.forecasts | score.baselines).items():
            if name == NO_CHANGE:  # of classes, too: what does not move has no direction
                continue
            direction = find_direction(score.target, values[places], reference)
            if direction is not None and direction.any():
                found[name] = follow_sign(direction, returns, cost, follows)
        return found

    @property
    def counted_trials(self) -> int:
        """``trials``, and no fewer than there are forecasts: they were all tried."""
        return max(self.trials, len(self.score.forecasts))

    @property
    def pauses(self) -> int:
        """How often a period does not begin where the one before ends."""
        return int((np.diff(self.times) > self.score.horizon_seconds).sum())

    @property
    def periods_a_year(self) -> float:
        """How many of the periods there are in a year."""
        years = float(self.times[-1] - self.times[0] + self.score.horizon_seconds) / YEAR
        return len(self.times) / years

    def to_polars(self) -> "pl.DataFrame":
        """A row for each run: gross and net of costs, and how far that can be trusted.

        Returns:
            ``forecast``, ``periods``, ``gross``, ``net`` (what 1 comes to, less 1), ``turnover``
            (units a period), ``drawdown`` (net), ``sharpe`` (net, a year), ``sharpe_error``,
            ``probabilistic`` and ``deflated`` (probability that the true ratio is above 0, and
            above what luck gives the best of all that were tried).
        """
        import polars as pl

        root = np.sqrt(self.periods_a_year)
        rows = []
        for name, run in self.runs.items():
            sharpe = compute_sharpe(run.net)
            rows.append(
                {
                    "forecast": name,
                    "periods": len(run.net),
                    "gross": compute_total(run.gross),
                    "net": compute_total(run.net),
                    "turnover": run.turnover,
                    "drawdown": compute_drawdown(run.net),
                    "sharpe": sharpe.ratio * root,
                    "sharpe_error": sharpe.error * root,
                    "probabilistic": compute_probabilistic_sharpe(sharpe),
                    "deflated": compute_deflated_sharpe(sharpe, self.counted_trials),
                }
            )
        return pl.DataFrame(rows)

    def compute_overfitting(self) -> float | None:
        """The probability of backtest overfitting among the forecasts.

        None of fewer than two, or of too few periods for ``money.BLOCKS`` blocks of two.
        """
        runs = [self.runs[name].net for name in self.score.forecasts if name in self.runs]
        if len(runs) < 2 or len(self.places) < LEAST_COMPARED:
            return None
        return compute_overfitting(np.stack(runs, axis=1))


def make_ledger(score: Score, cost: float, trials: int = 1) -> Ledger | None:
    """The ledger of forecasts that have a direction; None if no target of theirs has."""
    ledger = Ledger(score, cost, trials)
    first = next(iter(score.forecasts.values()))
    has_direction = find_direction(score.target, first[:1], score.reference[:1]) is not None
    return ledger if has_direction and len(ledger.places) >= LEAST_PERIODS else None


def find_direction(target: Target, forecast: Numbers, reference: Numbers) -> Numbers | None:
    """(n,) numbers whose sign is the direction over the whole horizon; None if a target has none.

    A triple barrier has none: its rule ends at a barrier and not with the horizon.

    Args:
        target: what was forecast.
        forecast: (n, ...).
        reference: (n,) closes from which targets are measured.
    """
    if isinstance(target, Direction):
        classes = to_classes(target, forecast).astype(np.float64)
        return 2 * classes - 1 if target.n_classes == 2 else classes - 1
    if find_kind(target) != "value" or type(target).prices is Target.prices:
        return None
    with np.errstate(all="ignore"):
        prices = np.asarray(target.prices(forecast, reference), dtype=np.float64)
        last: Numbers = np.log(prices.reshape(len(forecast), -1)[:, -1] / reference)
    return last
