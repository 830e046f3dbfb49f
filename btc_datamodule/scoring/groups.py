"""Samples of a score by when they are: fold, year, hour of the week, how volatile it was."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from btc_datamodule.candles.runs import Mask
from btc_datamodule.errors import ConfigError
from btc_datamodule.scoring.baselines import DAY, HOUR, WEEK_HOURS, measure_volatility
from btc_datamodule.scoring.measures import Interval
from btc_datamodule.scoring.samples import make_history
from btc_datamodule.scoring.score import Score

if TYPE_CHECKING:
    import polars as pl

By = Literal["fold", "year", "volatility", "hour"]

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

MONDAY = 4 * 24
"""Hours from the epoch, a Thursday, to the first Monday."""

TERCILES = ("low", "middle", "high")


def list_groups(score: Score, by: By) -> dict[str, Mask]:
    """(n,) which samples are in each group, by its name, in order; none of them is empty.

    Raises:
        ConfigError: if there is no such grouping.
    """
    if by not in _GROUPS:
        raise ConfigError(f"by is {by!r}: choose one of {', '.join(get_args(By))}")
    return {name: rows for name, rows in _GROUPS[by](score) if rows.any()}


def score_groups(score: Score, by: By) -> "pl.DataFrame":
    """A row for each group and forecast: its measures, and how it does against the best baseline.

    Returns:
        ``by``, ``forecast``, ``samples``, the measures, ``difference`` of the mean loss from that
        of the baseline that is best over all samples, and its interval.
    """
    import polars as pl

    rows = []
    for label, chosen in list_groups(score, by).items():
        for name in score.forecasts:
            row: dict[str, object] = {by: label, "forecast": name, "samples": int(chosen.sum())}
            for what, value in score.measure(name, chosen).items():
                row[what] = value.value if isinstance(value, Interval) else value
            verdict = score.judge(name, chosen)
            row["difference"] = verdict and verdict.difference.value
            row["difference_low"] = verdict and verdict.difference.low
            row["difference_high"] = verdict and verdict.difference.high
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _by_fold(score: Score) -> Iterator[tuple[str, Mask]]:
    for fold in np.unique(score.fold).tolist():
        yield str(fold), score.fold == fold


def _by_year(score: Score) -> Iterator[tuple[str, Mask]]:
    years = score.origin_time.astype("datetime64[s]").astype("datetime64[Y]")
    for year in np.unique(years):
        yield str(year), years == year


def _by_hour(score: Score) -> Iterator[tuple[str, Mask]]:
    """By the hour of the week, UTC, in which the bar of the origin opens."""
    hours = (score.origin_time // HOUR - MONDAY) % WEEK_HOURS
    for hour in range(WEEK_HOURS):
        yield f"{DAYS[hour // 24]} {hour % 24:02d}", hours == hour


def _by_volatility(score: Score) -> Iterator[tuple[str, Mask]]:
    """By terciles of the volatility of the last day up to the origin, of all samples."""
    parts = []
    for part in score.parts:
        history = make_history(part.samples.stages)
        bars = history.count_bars(DAY)
        parts.append(measure_volatility(history, part.samples.rows, bars, bars))
    volatility = np.nan_to_num(np.concatenate(parts)[score.order])
    low, high = np.quantile(volatility, [1 / 3, 2 / 3])
    places = np.searchsorted([low, high], volatility, side="left")
    for place, name in enumerate(TERCILES):
        yield name, places == place


_GROUPS: Mapping[str, Callable[[Score], Iterator[tuple[str, Mask]]]] = {
    "fold": _by_fold,
    "year": _by_year,
    "volatility": _by_volatility,
    "hour": _by_hour,
}
