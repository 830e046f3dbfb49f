"""``Simulator``: candles that look like Bitcoin's or Ether's, computed instead of downloaded.

For trying things out, for tests and for benchmarks without a network. The series is a pure
function of the parameters, the interval and the open time: any span asked for, in any order,
holds bit for bit the bars that any other span holds (on one machine; elsewhere ``exp`` may round
the last digit differently). Randomness is therefore counted, not drawn (``counted``): the uniform
number for bar i of stream s is a hash of (seed, s, i).

How a price comes about:

1. A daily random walk of log prices, from ``first`` to the end of the span, through 7,200 at the
   start of 2020. The day's volatility is noise over periods of two days to four years, lower on
   weekends; the day's return is that times a Student t variate.
2. Inside the day a bridge to the next day's price, so that bars of all lengths agree at midnight
   UTC (elsewhere they are unrelated). A bar's share of the day's variance is the rhythm of the
   day times noise over periods of five minutes to twelve hours; its return is Student t again.
3. A bar's high and low are drawn from the law of the extremes of a Brownian bridge from its open
   to its close. Volume grows with volatility and with the size of the bar's own move.

An ether's log price is that of the bitcoin of its seed plus a walk of its own, made in the same way
with 3/4 of bitcoin's volatility: returns of the two over the same time are correlated by
1 / sqrt(1 + 0.75**2) = 0.8. The walk of its own is pulled back to 1/18 of a bitcoin, by half in
ninety days: on nine days of ten the ratio is from 1/26 to 1/12.

Bars that are absent hide what the price did meanwhile: it moves on unseen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto
from functools import reduce
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import Candles, Columns, make_empty
from btc_datamodule.candles.timeline import Span, ceil_to, floor_to, format_interval, get_offset
from btc_datamodule.checks import unwrap
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source, check_path_part
from btc_datamodule.sources.counted import Floats, draw_noise, draw_student, draw_uniform

Coin = Literal["BTC", "ETH"]
"""What a simulated series looks like."""

DAY = 86400
HOUR = 3600
FIRST_DAY = 14610  # 2010-01-01, in days since the epoch
ANCHOR_DAY = 18262  # 2020-01-01
ANCHOR_PRICE = 7200.0

DAILY_VOLATILITY = 0.033  # median on a weekday
DAILY_DRIFT = 0.0005  # of the log price; 20 % a year
DAILY_PERIODS = tuple(DAY * 2**octave for octave in range(1, 11))
DAILY_NOISE = 0.18  # standard deviation of log volatility that each period adds
WEEKEND_CALM = 0.7  # volatility of a Saturday or Sunday, relative to other days

BAR_PERIODS = (300, 900, HOUR, 4 * HOUR, 12 * HOUR)
BAR_NOISE = 0.25
BUSY_HOUR = 15.0  # UTC: Europe and America both at work
RHYTHM = 0.35  # amplitude of log volatility over the day

ETHER_PRICE = 1 / 18  # in BTC, what the ratio is pulled back to
ETHER_VOLATILITY = 0.75  # of the ratio's walk, relative to bitcoin's
ETHER_PULL = 1 - 0.5 ** (1 / 90)  # of the ratio's distance, a day

OUTAGE_SHORTEST, OUTAGE_LONGEST = HOUR // 2, 12 * HOUR
BLOCK_BARS = 2**17  # whatever the span, memory holds some twenty arrays of this length


class _Market(NamedTuple):
    """How a coin is traded.

    Attributes:
        apart: added to the seed for what is drawn for this coin alone; seeds are below 2**63.
        volume: coins a day, about, on a weekday of median volatility.
        trade: coins of a trade, the mean of a bar.
    """

    apart: int
    volume: float
    trade: float


_MARKETS: dict[str, _Market] = {
    "BTC": _Market(0, 20_000.0, 0.02),
    "ETH": _Market(2**63, 200_000.0, 0.3),
}


class _Walk(NamedTuple):
    """Log prices (D + 1,) at the edges of D days, and volatility (D,) of each, under a seed."""

    seed: int
    log_price: Floats
    volatility: Floats

    def cut(self, days: range) -> "_Walk":
        """That of some days, counted from the epoch."""
        first, last = days.start - FIRST_DAY, days.stop - FIRST_DAY
        return _Walk(self.seed, self.log_price[first : last + 1], self.volatility[first:last])


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
    """Synthetic candles of any bar length that divides a day.

    Attributes:
        seed: another seed, another history; 0 <= seed < 2**63.
        no_trade: share of single bars that are absent, at random; 0 <= no_trade < 1.
        outages_per_year: mean number of outages, of half an hour to twelve hours each, that remove
            the bars lying wholly inside; 0 <= outages_per_year <= 365. They fall at the same
            times for all intervals and both coins.
        coin: BTC or ETH. Returns of the two of one seed are correlated by about 0.8, over a bar as
            over a week; an ether is worth about 1/18 of a bitcoin. Single absent bars fall where
            they fall for each coin.
    """

    seed: int = 0
    no_trade: float = 0.0
    outages_per_year: float = 0.0
    coin: Coin = field(default="BTC", metadata={"left_out_at": "BTC"})  # new in 0.2

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
        if self.coin not in get_args(Coin):
            raise ConfigError(f"coin {self.coin!r}: give {' or '.join(get_args(Coin))}")
        check_path_part(self.series, "series")

    @property
    def series(self) -> str:
        """``BTC-SIM-<seed>``, then ``-nt<no_trade>`` and ``-out<outages_per_year>`` unless 0."""
        series = f"{self.coin}-SIM-{self.seed}"
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
            f"{'' if self.coin == 'BTC' else f' coin={self.coin}'}"
        )
        if start < min(end, self.first):
            yield Block((start, min(end, self.first)), make_empty(interval), origin)
            start = self.first
        step = DAY * max(1, BLOCK_BARS * interval // DAY)
        walks = _walk_days(self.seed, self.coin, ceil_to(end, DAY) // DAY)
        while start < end:
            stop = min(end, floor_to(start, DAY) + step)
            days = range(start // DAY, ceil_to(stop, DAY) // DAY)
            columns = _make_bars(self.seed, self.coin, interval, days, walks)
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
            own = self.seed + _MARKETS[self.coin].apart
            kept = draw_uniform(bars, own, interval, _Stream.NO_TRADE) >= self.no_trade
        for outage in _draw_outages(self.seed, self.outages_per_year, begin // DAY, end // DAY):
            inside = [ceil_to(outage[0], interval), floor_to(outage[1], interval)]
            low, high = np.searchsorted(open_time, inside)
            kept[low:high] = False
        return columns if kept.all() else {name: data[kept] for name, data in columns.items()}


def walk_prices(seed: int, interval: int, days: range) -> Floats:
    """Walk bitcoin's log prices (N + 1,) at the edges of the N bars of some days, as its bars do.

    Args:
        seed: of the series.
        interval: seconds of a bar, of which a day is a multiple.
        days: counted from the epoch, from ``FIRST_DAY`` on.
    """
    (walk,) = _walk_days(seed, "BTC", days.stop)
    path, _ = _walk_bars(walk.cut(days), interval, _list_bars(interval, days))
    return np.append(path[:, :-1], path[-1, -1])


def _list_bars(interval: int, days: range) -> range:
    """Numbers of the bars of some days, counted from the epoch."""
    per_day = DAY // interval
    return range(days.start * per_day, days.stop * per_day)


def _walk_days(seed: int, coin: Coin, end_day: int) -> list[_Walk]:
    """Walk from ``FIRST_DAY`` to ``end_day`` in days since the epoch, past the anchor at least.

    The sum always starts at ``FIRST_DAY`` and goes past the anchor: the value at a day does not
    depend on where the span ends.

    Returns:
        The walks whose sum is the log price.
    """
    days = range(FIRST_DAY, max(end_day, ANCHOR_DAY))
    number = np.arange(days.start, days.stop)
    weekday = (number + 3) % 7  # Monday is 0; the epoch was a Thursday
    log_volatility = draw_noise(number * DAY, DAILY_PERIODS, DAILY_NOISE, seed, _Stream.DAY_NOISE)
    volatility = DAILY_VOLATILITY * np.exp(log_volatility)
    volatility *= np.where(weekday >= 5, WEEKEND_CALM, 1.0)
    log_price = np.concatenate([[0.0], np.cumsum(DAILY_DRIFT + _draw_days(days, seed, volatility))])
    anchored = log_price - log_price[ANCHOR_DAY - FIRST_DAY] + np.log(ANCHOR_PRICE)
    walks = [_Walk(seed, anchored, volatility)]
    if coin == "ETH":
        own, calmer = seed + _MARKETS[coin].apart, ETHER_VOLATILITY * volatility
        # What is left of a day's move n days later: (1 - pull)**n of it. A recursion as a sum.
        left = (1 - ETHER_PULL) ** np.arange(len(days) + 1)
        moved = np.cumsum(_draw_days(days, own, calmer) / left[1:])
        ratio = np.log(ETHER_PRICE) + left * np.concatenate([[0.0], moved])
        walks.append(_Walk(own, ratio, calmer))
    return walks


def _draw_days(days: range, seed: int, volatility: Floats) -> Floats:
    """Draw the moves (D,) of some days."""
    size = draw_uniform(days, seed, _Stream.DAY_SIZE)
    angle = draw_uniform(days, seed, _Stream.DAY_ANGLE)
    return volatility * draw_student(size, angle)


def _walk_bars(walk: _Walk, interval: int, bars: range) -> tuple[Floats, Floats]:
    """Walk inside D days: log prices (D, n + 1) at the edges of their n bars, and variances (D, n).

    Sums over a day are taken by ``cumsum``, which adds in order: the order in which ``sum`` adds
    may depend on the shape, and with it the last digit.

    Args:
        walk: over the days.
        interval: seconds.
        bars: numbers of the D n bars, counted from the epoch.
    """
    seed, log_price, volatility = walk
    days, per_day = len(volatility), DAY // interval
    hour = (np.arange(per_day) + 0.5) * interval / HOUR
    rhythm = RHYTHM * np.cos((hour - BUSY_HOUR) * (2 * np.pi / 24))
    open_time = np.arange(bars.start, bars.stop) * interval
    noise = draw_noise(open_time, BAR_PERIODS, BAR_NOISE, seed, _Stream.BAR_NOISE)
    weight = np.exp(2 * (noise.reshape(days, per_day) + rhythm))
    share = np.cumsum(weight, axis=1)
    variance = weight * (volatility**2 / share[:, -1])[:, None]

    size = draw_uniform(bars, seed, interval, _Stream.BAR_SIZE)
    angle = draw_uniform(bars, seed, interval, _Stream.BAR_ANGLE)
    student = draw_student(size, angle).reshape(days, per_day)
    moved = np.cumsum(np.sqrt(variance) * student, axis=1)
    missed = np.diff(log_price) - moved[:, -1]
    path = np.empty((days, per_day + 1))
    path[:, 0] = log_price[:-1]
    path[:, 1:] = log_price[:-1, None] + moved + (missed / share[:, -1])[:, None] * share
    path[:, -1] = log_price[1:]  # exactly, so that the next day opens where this one closed
    return path, variance


def _make_bars(
    seed: int, coin: Coin, interval: int, days: range, walks: Sequence[_Walk]
) -> Columns:
    """Make all columns of all bars of some days.

    Args:
        seed: of the series.
        coin: whose bars they are.
        interval: seconds of a bar.
        days: counted from the epoch.
        walks: whose sum is the log price, over these days and more.
    """
    bars = _list_bars(interval, days)
    market = _MARKETS[coin]
    key = (seed + market.apart, interval)
    walked = [_walk_bars(walk.cut(days), interval, bars) for walk in walks]
    path, variances = (reduce(np.add, parts) for parts in zip(*walked, strict=True))
    edges = _round_to_cents(np.exp(path))
    opened, close = edges[:, :-1].ravel(), edges[:, 1:].ravel()
    before, move, variance = path[:, :-1].ravel(), np.diff(path, axis=1).ravel(), variances.ravel()
    up = _draw_reach(move, variance, draw_uniform(bars, *key, _Stream.HIGH))
    down = _draw_reach(-move, variance, draw_uniform(bars, *key, _Stream.LOW))
    high = np.maximum(_round_to_cents(np.exp(before + up)), np.maximum(opened, close))
    low = np.minimum(_round_to_cents(np.exp(before - down)), np.minimum(opened, close))
    volumes = _draw_volumes(market, bars, key, move, np.sqrt(variance))
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
    market: _Market, bars: range, key: tuple[int, int], move: Floats, sigma: Floats
) -> dict[str, NDArray[np.float64]]:
    """Draw volume, number of trades and volume of taker buys for bars with given moves.

    Volume is proportional to sigma over its usual size, rises with the move in sigmas, and is
    scattered by a log-logistic factor. Buyers are the takers of more of it when the price rises.
    """
    fraction = key[1] / DAY
    surprise = move / sigma
    scatter = draw_uniform(bars, *key, _Stream.VOLUME)
    volume = (market.volume * fraction) * (sigma / (DAILY_VOLATILITY * np.sqrt(fraction)))
    volume *= (0.4 + 0.6 * np.abs(surprise)) * np.sqrt(np.sqrt(scatter / (1 - scatter)))
    volume = np.maximum(np.round(volume, 8), 1e-8)
    trade = market.trade * (0.5 + draw_uniform(bars, *key, _Stream.TRADES))
    lean = surprise / (1 + np.abs(surprise)) + draw_uniform(bars, *key, _Stream.TAKER) - 0.5
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
    happens = draw_uniform(days, seed, _Stream.OUTAGE) < per_year / 365.25
    begins = draw_uniform(days, seed, _Stream.OUTAGE_START)
    ratio = OUTAGE_LONGEST / OUTAGE_SHORTEST
    lasts = OUTAGE_SHORTEST * ratio ** draw_uniform(days, seed, _Stream.OUTAGE_LENGTH)
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
