"""The guarantee of clocks: no price beside the candles moves before they do.

Nothing inside a file tells that its times are an hour off, or that a bar is said to be known when
it opens. But what moves with the candles moves at the same time, give or take some minutes: a
series whose returns go with those that the candles have an hour later has seen them. Of series
without prices, and of those that do not go with the candles at all, nothing can be told.
"""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.audit.compare import LeakError
from btc_datamodule.audit.series import list_files
from btc_datamodule.candles.records import RecordSet
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import format_interval
from btc_datamodule.covariates import Covariate
from btc_datamodule.stages import Stages
from btc_datamodule.store.candle_file import CandleReader
from btc_datamodule.store.record_file import RecordReader

MOST = 50_000
"""Returns that are compared, the latest ones."""

FEWEST = 100
"""Returns with which anything can be told."""

FARTHEST = 15 * 3600
"""Seconds that times may be off and be found so: more than two places on Earth are apart."""

NEAREST = 900
"""Seconds by which one market may well move before another."""

LEAST = 0.2
"""Correlation of returns from which on series go with each other."""

ERRORS = 6.0
"""Standard errors that it is from chance, at least."""

TIMES = 2.0
"""How much more returns must go with later ones than with those of the same time."""

OUTLIERS = 0.01
"""Share of the returns that are cut at each end: a single crash must not decide."""


def list_priced(used: Stages) -> list[tuple[Covariate, Path]]:
    """The series beside the candles that may have prices."""
    return [
        (covariate, path)
        for covariate, path in list_files(used.settings)
        if "close" in covariate.beside.columns
    ]


def check_nothing_runs_ahead(used: Stages) -> Counter[str]:
    """Returns of series with prices go with no later returns of the candles.

    Raises:
        LeakError: naming the series and by how long it runs ahead.
    """
    count = Counter[str]()
    for covariate, path in list_priced(used):
        instants, prices, step = _read_prices(covariate, path, used)
        if (prices <= 0).any() or len(prices) < FEWEST:
            continue
        count["series"] += 1
        both = _sample(used, instants, prices, step)
        found = _correlate(*both, max(2, -(-FARTHEST // step)))
        now, ahead = abs(found.get(0, 0.0)), {lag: abs(each) for lag, each in found.items()}
        count["alike"] += now >= LEAST
        lag = max(ahead, key=lambda lag: ahead[lag], default=0)
        if lag * step >= NEAREST and ahead[lag] > TIMES * now:
            raise LeakError(
                f"covariate {covariate.name!r} runs ahead: its returns go with those that the "
                f"candles have {format_interval(lag * step)} later (correlation "
                f"{found[lag]:.2f}, with those of the same time {found.get(0, 0.0):.2f}): the "
                "times of one are off, by a time zone for instance, or its bars are said to be "
                "known before they are over"
            )
    return count


def _read_prices(
    covariate: Covariate, path: Path, used: Stages
) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """When prices became known, in order, the prices, and seconds from one to the next."""
    step = int(covariate.stored or covariate.beside.interval or 0)
    end = used.table.span[1]
    content: Candles | RecordSet
    if covariate.beside.is_candles:
        with CandleReader(path) as reader:
            content = reader.slice(end - (MOST + 1) * step, end)
        return content.open_time + step, content["close"], step
    with RecordReader(path) as records:
        high = records.find(end)
        content = records.rows(high - MOST - 1, high)
    content = content.take(np.diff(content.time, prepend=content.time[:1] - 1) > 0)
    content = content.take(np.isfinite(content["close"]))
    order = np.argsort(content.known_at, kind="stable")
    content = content.take(order[content.time[order] >= np.maximum.accumulate(content.time[order])])
    if not step and len(content) > 1:
        step = int(np.median(np.diff(content.known_at)))
    return content.known_at, content["close"], max(1, step)


def _sample(
    used: Stages, instants: NDArray[np.int64], prices: NDArray[np.float64], step: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log returns of a series and of the candles over the same times, NaN where one has none."""
    table = used.table
    rows = slice(max(0, table.find_row(int(instants[0]))), table.rows)
    close = np.array(table.read("close", rows))
    closes = table.find_time(rows.start + 1) + table.interval * np.arange(len(close))
    apart = max(step, int(table.interval))
    grid = closes if apart == table.interval else instants
    if not len(grid):
        return np.zeros(0), np.zeros(0)
    grid = np.arange(grid[0], grid[-1] + 1, apart)
    found = []
    for when, what, age in ((instants, prices, step), (closes, close, table.interval)):
        at = np.searchsorted(when, grid, side="right") - 1
        fresh = (at >= 0) & (grid - when[at] < age) if len(when) else np.zeros(len(grid), bool)
        value = np.where(fresh, what[at], np.nan) if len(when) else np.full(len(grid), np.nan)
        found.append(np.diff(np.log(value)))
    return found[0], found[1]


def _correlate(
    one: NDArray[np.float64], other: NDArray[np.float64], farthest: int
) -> dict[int, float]:
    """Correlations that are no chance, by how much later the returns of the other are."""
    found: dict[int, float] = {}
    ours, theirs = map(_tame, (one, other))
    for lag in range(-farthest, farthest + 1):
        first, second = (
            (ours[: len(ours) - lag], theirs[lag:])
            if lag >= 0
            else (
                ours[-lag:],
                theirs[:lag],
            )
        )
        both = np.isfinite(first) & np.isfinite(second)
        if both.sum() < FEWEST or not np.ptp(first[both]) or not np.ptp(second[both]):
            continue
        value = float(np.corrcoef(first[both], second[both])[0, 1])
        if lag == 0 or abs(value) >= max(LEAST, ERRORS / np.sqrt(both.sum())):
            found[lag] = value
    return found


def _tame(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns without outliers."""
    if not np.isfinite(returns).any():
        return returns
    low, high = np.nanquantile(returns, [OUTLIERS, 1 - OUTLIERS])
    tamed: NDArray[np.float64] = returns.clip(low, high)
    return tamed
