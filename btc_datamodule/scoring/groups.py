"""Samples of a score by when they are: fold, path, year, hour of the week, how volatile it was."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from btc_datamodule.candles.runs import Mask
from btc_datamodule.checks import list_first
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.splits import CombinatorialPurged
from btc_datamodule.scoring.baselines import DAY, HOUR, WEEK_HOURS, measure_volatility
from btc_datamodule.scoring.beside import HOLD
from btc_datamodule.scoring.kinds import Measured
from btc_datamodule.scoring.ledger import LEAST_COMPARED, LEAST_PERIODS, Ledger
from btc_datamodule.scoring.measures import Interval
from btc_datamodule.scoring.money import compute_overfitting, compute_sharpe, compute_total
from btc_datamodule.scoring.samples import make_history
from btc_datamodule.scoring.score import Score, Verdict

if TYPE_CHECKING:
    import polars as pl

By = Literal["fold", "year", "volatility", "hour", "path"]

STRETCHES = ("fold", "year", "path")
"""Groups that a rule can be followed through."""

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


def score_groups(score: Score, by: By, ledger: Ledger | None = None) -> "pl.DataFrame":
    """A row for each group and forecast: its measures, and how it does against the best baseline.

    Args:
        score: of the forecasts.
        by: which groups.
        ledger: of the same score; None where nothing is traded.

    Returns:
        ``by``, ``forecast``, ``samples``, the measures, ``difference`` of the mean loss from that
        of the baseline that is best over all samples, and its interval; of distributions also those
        of ``Score.measure_spread`` and ``spread_difference``; of groups that are stretches of time
        also ``gross``, ``net``, ``hold`` (net) and ``sharpe`` (net, a year), None where a forecast
        has no direction.
    """
    import polars as pl

    rows = []
    for label, chosen in list_groups(score, by).items():
        money = _earn(ledger, chosen) if ledger is not None and by in STRETCHES else {}
        for name in score.forecasts:
            row: dict[str, object] = {by: label, "forecast": name, "samples": int(chosen.sum())}
            row |= _take_values(score.measure(name, chosen))
            row |= _take_difference("difference", score.judge(name, chosen))
            if name in score.spreads:
                row |= _take_values(score.measure_spread(name, chosen))
                row |= _take_difference("spread_difference", score.judge_spread(name, chosen))
            rows.append(row | money.get(name, {}))
    return pl.DataFrame(rows, infer_schema_length=None)


def compare_paths(ledger: Ledger) -> float | None:
    """The probability of backtest overfitting over the paths of a combinatorial split.

    Of several forecasts the mean over the paths of that among the forecasts. Of one that among its
    paths, in the periods that all have: whether the path that is best in one half of time is so in
    the other.

    Returns:
        None of one fold or path, of another split, or of too few periods.
    """
    score = ledger.score
    split = score.parts[0].samples.stages.settings.split
    if not isinstance(split, CombinatorialPurged) or split.n_paths < 2:
        return None
    if {*split.paths().reshape(-1).tolist()} != {*score.fold.tolist()}:
        return None
    of_paths = [replace(ledger, rows=chosen) for chosen in list_groups(score, "path").values()]
    if len(score.forecasts) > 1:
        found = [each.compute_overfitting() for each in of_paths]
        known = [each for each in found if each is not None]
        return float(np.mean(known)) if known else None
    (name,) = score.forecasts
    shared = reduce(np.intersect1d, [each.times for each in of_paths])
    if len(shared) < LEAST_COMPARED or any(name not in each.runs for each in of_paths):
        return None
    nets = [each.runs[name].net[np.isin(each.times, shared)] for each in of_paths]
    return compute_overfitting(np.stack(nets, axis=1))


def _earn(ledger: Ledger, chosen: Mask) -> dict[str, dict[str, object]]:
    """Money of some samples, by forecast."""
    part = replace(ledger, rows=chosen)
    if len(part.places) < LEAST_PERIODS:
        return {}
    root = np.sqrt(part.periods_a_year)
    held = compute_total(part.runs[HOLD].net)
    return {
        name: {
            "gross": compute_total(run.gross),
            "net": compute_total(run.net),
            "hold": held,
            "sharpe": compute_sharpe(run.net).ratio * root,
        }
        for name, run in part.runs.items()
    }


def _take_values(measured: Measured) -> dict[str, object]:
    return {
        what: value.value if isinstance(value, Interval) else value
        for what, value in measured.items()
    }


def _take_difference(name: str, verdict: Verdict | None) -> dict[str, object]:
    bounds = None if verdict is None else verdict.difference
    return {
        name: bounds and bounds.value,
        f"{name}_low": bounds and bounds.low,
        f"{name}_high": bounds and bounds.high,
    }


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


def _by_path(score: Score) -> Iterator[tuple[str, Mask]]:
    """By the path of a combinatorial split: of each group of time the forecasts of one fold.

    Raises:
        ConfigError: if the split has no paths, or forecasts of some folds are not there.
    """
    split = score.parts[0].samples.stages.settings.split
    if not isinstance(split, CombinatorialPurged) or score.stage != "test":
        raise ConfigError(
            f"by is 'path', which test of CombinatorialPurged has, and not {score.stage} of "
            f"{split!r}: choose another"
        )
    paths = split.paths()
    lacking = sorted({*paths.reshape(-1).tolist()} - {*score.fold.tolist()})
    if lacking:
        raise ConfigError(
            f"by is 'path', for which forecasts of all {split.n_folds} folds are needed: those of "
            f"{list_first([*map(str, lacking)])} are not there"
        )
    parts = []
    for part in score.parts:
        stages = part.samples.stages
        lead = (1 + stages.settings.shape.gap) * stages.table.interval
        starts = [start for start, _ in stages.fold.test]
        group = np.searchsorted(starts, part.samples.origin_time + lead, side="right") - 1
        tested = np.flatnonzero((paths == part.fold).any(axis=0))
        parts.append((paths[:, tested] == part.fold).argmax(axis=0)[group])
    path = np.concatenate(parts)[score.order]
    for number in range(split.n_paths):
        yield str(number), path == number


_GROUPS: Mapping[str, Callable[[Score], Iterator[tuple[str, Mask]]]] = {
    "fold": _by_fold,
    "year": _by_year,
    "volatility": _by_volatility,
    "hour": _by_hour,
    "path": _by_path,
}
