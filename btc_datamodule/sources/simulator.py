"""``Simulator``: candles that look like Bitcoin's, computed instead of downloaded.

For trying things out, for tests and for benchmarks without a network. The series is a pure
function of the parameters, the interval and the open time: any span asked for, in any order,
holds bit for bit the bars that any other span holds (on one machine; elsewhere ``exp`` may round
the last digit differently). Randomness is therefore counted, not drawn: the uniform number for
bar i of stream s is a hash of (seed, s, i), as in SplitMix64 (Steele, Lea & Flood 2014).

How a price comes about:

1. A daily random walk of log prices, from ``first`` to the end of the span, through 7,200 at the
   start of 2020. The day's volatility is noise over periods of two days to four years, lower on
   weekends; the day's return is that times a Student t variate.
2. Inside the day a bridge to the next day's price, so that bars of all lengths agree at midnight
   UTC (elsewhere they are unrelated). A bar's share of the day's variance is the rhythm of the
   day times noise over periods of five minutes to twelve hours; its return is Student t again.
3. A bar's high and low are drawn from the law of the extremes of a Brownian bridge from its open
   to its close. Volume grows with volatility and with the size of the bar's own move.

Bars that are absent hide what the price did meanwhile: it moves on unseen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import Candles, Columns, make_empty
from btc_datamodule.candles.timeline import Span, ceil_to, floor_to, format_interval, get_offset
from btc_datamodule.checks import unwrap
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source, check_path_part

Floats = NDArray[np.float64]

DAY = 86400
HOUR = 3600
FIRST_DAY = 14610  # 2010-01-01, in days since the epoch
ANCHOR_DAY = 18262  # 2020-01-01
ANCHOR_PRICE = 7200.0

# Of the Student variates. The spread of volatility fattens the tails too: hourly returns come to an
# excess kurtosis of about 16 (median of 30 seeds). With 6 it reached 377, an hour of +80 %.
FREEDOM = 8.0

DAILY_VOLATILITY = 0.033  # median on a weekday
DAILY_DRIFT = 0.0005  # of the log price; 20 % a year
DAILY_PERIODS = tuple(DAY * 2**octave for octave in range(1, 11))
DAILY_NOISE = 0.18  # standard deviation of log volatility that each period adds
WEEKEND_CALM = 0.7  # volatility of a Saturday or Sunday, relative to other days

BAR_PERIODS = (300, 900, HOUR, 4 * HOUR, 12 * HOUR)
BAR_NOISE = 0.25
BUSY_HOUR = 15.0  # UTC: Europe and America both at work
RHYTHM = 0.35  # amplitude of log volatility over the day

DAILY_VOLUME = 20_000.0  # BTC, about, on a weekday of median volatility
TRADE_SIZE = 0.02  # BTC, the mean of a bar

OUTAGE_SHORTEST, OUTAGE_LONGEST = HOUR // 2, 12 * HOUR
BLOCK_BARS = 2**17  # whatever the span, memory holds some twenty arrays of this length


class _Stream(IntEnum):
    """What a uniform number is for: each use has its own, independent of the others."""

    DAY_SIZE = auto()
    DAY_ANGLE = auto()
    DAY_NOISE = auto()
    BAR_SIZE = auto()
    BAR_ANGLE = auto()
    BAR_NOISE = auto()
    HIGH = auto()
    LOW = auto()
    VOLUME = auto()
    TRADES = auto()
    TAKER = auto()
    NO_TRADE = auto()
    OUTAGE = auto()
    OUTAGE_START = auto()
    OUTAGE_LENGTH = auto()


@public
@dataclass(frozen=True)
class Simulator(Source):
    """Synthetic BTC candles of any bar length that divides a day.

    Attributes:
        seed: another seed, another history; 0 <= seed < 2**63.
        no_trade: share of single bars that are absent, at random; 0 <= no_trade < 1.
        outages_per_year: mean number of outages, of half an hour to twelve hours each, that remove
            the bars lying wholly inside; 0 <= outages_per_year <= 365. They fall at the same
            times for all intervals.
    """

    seed: int = 0
    no_trade: float = 0.0
    outages_per_year: float = 0.0

    name: ClassVar[str] = "simulator"
    first: ClassVar[int] = FIRST_DAY * DAY

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", unwrap(self.seed))
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**63):
            raise ConfigError(f"seed {self.seed!r}: give a whole number, 0 <= seed < 2**63")
        if not 0 <= self.no_trade < 1:
            raise ConfigError(f"no_trade {self.no_trade!r}: give a share, 0 <= no_trade < 1")
        if not 0 <= self.outages_per_year <= 365:
            raise ConfigError(
                f"outages_per_year {self.outages_per_year!r}: give 0 <= outages_per_year <= 365"
            )
        check_path_part(self.series, "series")

    @property
    def series(self) -> str:
        """``BTC-SIM-<seed>``, then ``-nt<no_trade>`` and ``-out<outages_per_year>`` unless 0."""
        series = f"BTC-SIM-{self.seed}"
        for tag, value in (("nt", self.no_trade), ("out", self.outages_per_year)):
            if value:  # repr, not a rounded text: two different shares must not share a folder
                series += f"-{tag}{float(value)!r}".removesuffix(".0")
        return series

    def check_interval(self, interval: int) -> None:
        """Raise ``SourceError`` unless bars of this length fill a day evenly."""
        if DAY % interval or get_offset(interval):
            raise SourceError(
                f"{self.name} has no bars of {format_interval(interval)}: "
                "set `interval` to one that divides a day evenly, such as 1m, 15m, 1h or 1d"
            )

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield the bars of ``span`` in blocks of some 100,000; before ``first`` there are none."""
        start, end = span
        origin = (
            f"simulator seed={self.seed} no_trade={self.no_trade} "
            f"outages_per_year={self.outages_per_year}"
        )
        if start < min(end, self.first):
            yield Block((start, min(end, self.first)), make_empty(interval), origin)
            start = self.first
        step = DAY * max(1, BLOCK_BARS * interval // DAY)
        log_price, volatility = _walk_days(self.seed, ceil_to(end, DAY) // DAY)
        while start < end:
            stop = min(end, floor_to(start, DAY) + step)
            day, last = start // DAY, ceil_to(stop, DAY) // DAY
            inside = slice(day - FIRST_DAY, last - FIRST_DAY)
            ends = slice(inside.start, inside.stop + 1)
            columns = _make_bars(self.seed, interval, day, log_price[ends], volatility[inside])
            whole = Candles(interval, self._drop_absent(interval, columns))
            yield Block((start, stop), whole.slice(start, stop), origin)
            start = stop

    def _drop_absent(self, interval: int, columns: Columns) -> Columns:
        """Drop bars of whole days: single ones at random, and those that lie in an outage."""
        open_time = columns["open_time"]
        begin, end = int(open_time[0]), int(open_time[-1]) + interval
        kept = np.ones(len(open_time), dtype=bool)
        if self.no_trade:
            bars = range(begin // interval, end // interval)
            kept = _draw_uniform(bars, self.seed, interval, _Stream.NO_TRADE) >= self.no_trade
        for outage in _draw_outages(self.seed, self.outages_per_year, begin // DAY, end // DAY):
            inside = [ceil_to(outage[0], interval), floor_to(outage[1], interval)]
            low, high = np.searchsorted(open_time, inside)
            kept[low:high] = False
        return columns if kept.all() else {name: data[kept] for name, data in columns.items()}


def _walk_days(seed: int, end_day: int) -> tuple[Floats, Floats]:
    """Walk from ``FIRST_DAY`` to ``end_day`` in days since the epoch, past the anchor at least.

    The sum always starts at ``FIRST_DAY`` and goes past the anchor: the value at a day does not
    depend on where the span ends.

    Returns:
        Log price (D + 1,) at each midnight, and volatility (D,) of each of the D days.
    """
    days = range(FIRST_DAY, max(end_day, ANCHOR_DAY))
    number = np.arange(days.start, days.stop)
    weekday = (number + 3) % 7  # Monday is 0; the epoch was a Thursday
    log_volatility = _draw_noise(number * DAY, DAILY_PERIODS, DAILY_NOISE, seed, _Stream.DAY_NOISE)
    volatility = DAILY_VOLATILITY * np.exp(log_volatility)
    volatility *= np.where(weekday >= 5, WEEKEND_CALM, 1.0)
    size = _draw_uniform(days, seed, _Stream.DAY_SIZE)
    angle = _draw_uniform(days, seed, _Stream.DAY_ANGLE)
    moves = DAILY_DRIFT + volatility * _draw_student(size, angle)
    log_price = np.concatenate([[0.0], np.cumsum(moves)])
    return log_price - log_price[ANCHOR_DAY - FIRST_DAY] + np.log(ANCHOR_PRICE), volatility


def _walk_bars(
    seed: int, interval: int, bars: range, log_price: Floats, volatility: Floats
) -> tuple[Floats, Floats]:
    """Walk inside D days: log prices (D, n + 1) at the edges of their n bars, and variances (D, n).

    Sums over a day are taken by ``cumsum``, which adds in order: the order in which ``sum`` adds
    may depend on the shape, and with it the last digit.

    Args:
        seed: of the series.
        interval: seconds.
        bars: numbers of the D n bars, counted from the epoch.
        log_price: (D + 1,) at the edges of the days.
        volatility: (D,) of the days.
    """
    days, per_day = len(volatility), DAY // interval
    hour = (np.arange(per_day) + 0.5) * interval / HOUR
    rhythm = RHYTHM * np.cos((hour - BUSY_HOUR) * (2 * np.pi / 24))
    open_time = np.arange(bars.start, bars.stop) * interval
    noise = _draw_noise(open_time, BAR_PERIODS, BAR_NOISE, seed, _Stream.BAR_NOISE)
    weight = np.exp(2 * (noise.reshape(days, per_day) + rhythm))
    share = np.cumsum(weight, axis=1)
    variance = weight * (volatility**2 / share[:, -1])[:, None]

    size = _draw_uniform(bars, seed, interval, _Stream.BAR_SIZE)
    angle = _draw_uniform(bars, seed, interval, _Stream.BAR_ANGLE)
    student = _draw_student(size, angle).reshape(days, per_day)
    moved = np.cumsum(np.sqrt(variance) * student, axis=1)
    missed = np.diff(log_price) - moved[:, -1]
    path = np.empty((days, per_day + 1))
    path[:, 0] = log_price[:-1]
    path[:, 1:] = log_price[:-1, None] + moved + (missed / share[:, -1])[:, None] * share
    path[:, -1] = log_price[1:]  # exactly, so that the next day opens where this one closed
    return path, variance


def _make_bars(
    seed: int, interval: int, first_day: int, log_price: Floats, volatility: Floats
) -> Columns:
    """Make all columns of all bars of D days.

    Args:
        seed: of the series.
        interval: seconds of a bar.
        first_day: the first of the days, counted from the epoch.
        log_price: (D + 1,) at the edges of the days.
        volatility: (D,) of the days.
    """
    per_day = DAY // interval
    bars = range(first_day * per_day, (first_day + len(volatility)) * per_day)
    key = (seed, interval)
    path, variances = _walk_bars(seed, interval, bars, log_price, volatility)
    edges = _round_to_cents(np.exp(path))
    opened, close = edges[:, :-1].ravel(), edges[:, 1:].ravel()
    before, move, variance = path[:, :-1].ravel(), np.diff(path, axis=1).ravel(), variances.ravel()
    up = _draw_reach(move, variance, _draw_uniform(bars, *key, _Stream.HIGH))
    down = _draw_reach(-move, variance, _draw_uniform(bars, *key, _Stream.LOW))
    high = np.maximum(_round_to_cents(np.exp(before + up)), np.maximum(opened, close))
    low = np.minimum(_round_to_cents(np.exp(before - down)), np.minimum(opened, close))
    volumes = _draw_volumes(bars, key, move, np.sqrt(variance))
    return {
        "open_time": np.arange(bars.start, bars.stop) * interval,
        "open": opened,
        "high": high,
        "low": low,
        "close": close,
        "quote_volume": volumes["volume"] * ((opened + high + low + close) / 4),
        **volumes,
    }


def _draw_volumes(
    bars: range, key: tuple[int, int], move: Floats, sigma: Floats
) -> dict[str, NDArray[np.float64]]:
    """Draw volume, number of trades and volume of taker buys for bars with given moves.

    Volume is proportional to sigma over its usual size, rises with the move in sigmas, and is
    scattered by a log-logistic factor. Buyers are the takers of more of it when the price rises.
    """
    fraction = key[1] / DAY
    surprise = move / sigma
    scatter = _draw_uniform(bars, *key, _Stream.VOLUME)
    volume = (DAILY_VOLUME * fraction) * (sigma / (DAILY_VOLATILITY * np.sqrt(fraction)))
    volume *= (0.4 + 0.6 * np.abs(surprise)) * np.sqrt(np.sqrt(scatter / (1 - scatter)))
    volume = np.maximum(np.round(volume, 8), 1e-8)
    trade = TRADE_SIZE * (0.5 + _draw_uniform(bars, *key, _Stream.TRADES))
    lean = surprise / (1 + np.abs(surprise)) + _draw_uniform(bars, *key, _Stream.TAKER) - 0.5
    return {
        "volume": volume,
        "trades": np.ceil(volume / trade),
        "taker_buy_volume": np.round(volume * (0.5 + 0.2 * lean), 8),
    }


def _draw_outages(seed: int, per_year: float, first_day: int, end_day: int) -> Iterator[Span]:
    """Yield the outages that begin on a day of [first_day - 1, end_day), at most one a day.

    The day before is included because its outage can last past midnight.
    """
    days = range(first_day - 1, end_day)
    happens = _draw_uniform(days, seed, _Stream.OUTAGE) < per_year / 365.25
    begins = _draw_uniform(days, seed, _Stream.OUTAGE_START)
    ratio = OUTAGE_LONGEST / OUTAGE_SHORTEST
    lasts = OUTAGE_SHORTEST * ratio ** _draw_uniform(days, seed, _Stream.OUTAGE_LENGTH)
    for i in np.flatnonzero(happens):
        start = int((days[i] + begins[i]) * DAY)
        yield start, start + int(lasts[i])


def _round_to_cents(price: Floats) -> Floats:
    """Round prices to the exchange's tick of 0.01, and never to zero."""
    return np.maximum(np.round(price, 2), 0.01)


def _draw_reach(move: Floats, variance: Floats, uniform: Floats) -> Floats:
    """Draw how far a Brownian bridge from 0 to ``move`` gets above 0, by inversion of its law.

    P(max > m) = exp(-2 m (m - move) / variance); Borodin & Salminen, Handbook of Brownian Motion.
    """
    return (move + np.sqrt(move**2 - 2 * variance * np.log(uniform))) / 2


def _draw_student(size: Floats, angle: Floats) -> Floats:
    """Draw Student t variates of variance one from two uniforms each (Bailey 1994, polar form)."""
    radius = np.sqrt((FREEDOM - 2) * (size ** (-2 / FREEDOM) - 1))
    return radius * np.cos(2 * np.pi * angle)


def _draw_noise(time: NDArray[np.int64], periods: Sequence[int], scale: float, *key: int) -> Floats:
    """Draw value noise at sorted times: for each period, values on its grid, joined by lines.

    ``scale`` is the standard deviation of the values on the grids. Sums over octaves vary on all
    scales, as the volatility of markets does: its memory fades slowly.
    """
    total = np.zeros(len(time))
    for period in periods:
        grid = range(int(time[0]) // period, int(time[-1]) // period + 2)
        values = (_draw_uniform(grid, *key, period) - 0.5) * (scale * np.sqrt(12))
        total += np.interp(time, np.arange(grid.start, grid.stop) * period, values)
    return total


def _draw_uniform(index: range, *key: int) -> Floats:
    """Draw uniform numbers in the open interval (0, 1), each a function of index and key."""
    state = np.zeros(1, np.uint64)
    for part in key:
        state = _mix(state + np.uint64(part) + np.uint64(0x9E3779B97F4A7C15))
    counter = np.arange(index.start, index.stop, dtype=np.uint64)
    counter *= np.uint64(0x9E3779B97F4A7C15)
    bits = _mix(counter + state)
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64, in place: each bit in stirs each bit out."""
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state
