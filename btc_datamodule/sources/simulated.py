"""Records beside ``Simulator``'s bitcoin: funding, open interest, a premium, computed.

As with its candles each record is a function of the parameters and its time alone, whatever span is
asked for. Records of a seed go with the price of that seed's candles, as they move in bars of an
hour (funding), of five minutes (open interest) or of the premium's own interval; bars of other
lengths agree with those at midnight UTC only. No record is made of a price after it could be known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.records import RecordSet, make_empty, trust
from btc_datamodule.candles.timeline import (
    Span,
    ceil_to,
    floor_to,
    format_interval,
    get_offset,
    parse_interval,
)
from btc_datamodule.checks import unwrap
from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public
from btc_datamodule.sources import simulator
from btc_datamodule.sources.base import check_path_part
from btc_datamodule.sources.counted import Floats, draw_noise, draw_uniform
from btc_datamodule.sources.records import RecordBlock, RecordSource
from btc_datamodule.sources.simulator import DAY, FIRST_DAY, HOUR, walk_prices

Make = Callable[[range], RecordSet]
"""Makes all records of some days, counted from the epoch."""

FUNDING = 8 * HOUR
FUNDING_OFTEN = 4 * HOUR
OFTEN = (11, 20)  # days of each month, the first and the last, on which funding is paid often
RATE = 0.0001  # of eight hours
RATE_PERIODS = tuple(DAY * 2**octave for octave in range(6))
RATE_NOISE = 0.00004  # standard deviation that each period adds
RATE_LEAN = 0.004  # of a rate, on the log return of the eight hours before
RATE_CAP = 0.003

METRICS = 300  # seconds from one record of open interest to the next
OPEN_INTEREST = 60_000.0  # BTC, about, at a price of 7,200
INTEREST_PERIODS = (HOUR, 4 * HOUR, DAY, 4 * DAY, 16 * DAY, 64 * DAY)
INTEREST_NOISE = 0.015
INTEREST_LEAN = 0.5  # of its logarithm, on that of the price
LONGS = 1.2  # accounts that are long, for one that is short
LONGS_NOISE = 0.08
LONGS_LEAN = -2.0  # of its logarithm, on the log return of the day before
LATEST = HOUR  # that a late record is late, at most
REVISED_AFTER = DAY  # at most
REVISED_BY = 0.02  # of a value, at most

PREMIUM_PERIODS = (HOUR, 4 * HOUR, DAY, 4 * DAY)
PREMIUM_NOISE = 0.00012
PREMIUM_LEAN = 0.03  # on the log return of the hour before
PREMIUM_REACH = 0.00004  # mean distance from open and close to high and low


class _Stream(IntEnum):
    """What a uniform number is for, beside what ``Simulator`` draws."""

    RATE = 101
    INTEREST = 102
    LONGS = 103
    MISSING = 104
    LATE = 105
    LATE_BY = 106
    REVISED = 107
    REVISED_AFTER = 108
    REVISED_BY = 109
    PREMIUM = 110
    HIGH = 111
    LOW = 112


@public
@dataclass(frozen=True)
class SimulatedFunding(RecordSource):
    """Funding rates: every eight hours, from the 11th to the 20th of each month every four.

    The rate is a fraction, about 0.0001 for eight hours and half of it for four. It wanders about
    that, leans with the price's move over the eight hours before, and is known at its time.

    Attributes:
        seed: that of the candles; 0 <= seed < 2**63.
    """

    seed: int = 0

    name: ClassVar[str] = "simulator"
    first: ClassVar[int] = FIRST_DAY * DAY
    covers: ClassVar[int] = FUNDING

    def __post_init__(self) -> None:
        _check_seed(self)

    @property
    def series(self) -> str:
        """``BTC-SIM-<seed>-funding``."""
        return f"BTC-SIM-{self.seed}-funding"

    @property
    def columns(self) -> tuple[str, ...]:
        """The rate, and the hours that it is for: those since the record before."""
        return ("rate", "interval_hours")

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        """Yield the records of ``span`` in blocks; before ``first`` there are none."""
        return _make_blocks(self, span, FUNDING_OFTEN, self._make)

    def _make(self, days: range) -> RecordSet:
        every = np.arange(days.start * DAY, days.stop * DAY, FUNDING_OFTEN)
        time = every[_is_paid(every)]
        hours = np.where(_is_paid(time - FUNDING_OFTEN), FUNDING_OFTEN, FUNDING) // HOUR
        path = _walk_from_day_before(self.seed, HOUR, days)
        at = (time - (days.start - 1) * DAY) // HOUR
        rate = RATE + draw_noise(time, RATE_PERIODS, RATE_NOISE, self.seed, _Stream.RATE)
        rate += RATE_LEAN * (path[at] - path[at - FUNDING // HOUR])
        rate = np.clip(rate, -RATE_CAP, RATE_CAP) * (hours * HOUR / FUNDING)
        values = {"rate": np.round(rate, 8), "interval_hours": hours.astype(np.float64)}
        return trust({"time": time, "known_at": time.copy(), **values})


@public
@dataclass(frozen=True)
class SimulatedOpenInterest(RecordSource):
    """Open interest and the ratio of long accounts to short ones, every five minutes.

    A record's time is the beginning of the five minutes at whose end the values were taken, and
    from whose end on they are known. Open interest follows the price; the ratio falls as the price
    of the last day rises.

    Attributes:
        seed: that of the candles; 0 <= seed < 2**63.
        missing: share of times for which there is no record; 0 <= missing < 1.
        late: share of records that become known up to an hour later than others; 0 <= late <= 1.
        revised: share of records that become known with values up to 2 % off, and up to a day later
            with the right ones, as a second record of their time; 0 <= revised <= 1.
    """

    seed: int = 0
    missing: float = 0.0
    late: float = 0.0
    revised: float = 0.0

    name: ClassVar[str] = "simulator"
    first: ClassVar[int] = FIRST_DAY * DAY

    def __post_init__(self) -> None:
        _check_seed(self)
        if not 0 <= self.missing < 1:
            raise ConfigError(f"missing {self.missing!r}: give a share, 0 <= missing < 1")
        for name in ("late", "revised"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)!r}: give a share, 0 <= {name} <= 1")
        check_path_part(self.series, "series")

    @property
    def series(self) -> str:
        """``BTC-SIM-<seed>-oi``, then ``-missing<missing>`` and so on unless 0."""
        series = f"BTC-SIM-{self.seed}-oi"
        for name in ("missing", "late", "revised"):
            if value := getattr(self, name):
                series += f"-{name}{float(value)!r}".removesuffix(".0")
        return series

    @property
    def interval(self) -> int:
        """300 seconds."""
        return METRICS

    @property
    def columns(self) -> tuple[str, ...]:
        """Open interest in BTC, its worth in USD, and long accounts for each short one."""
        return ("sum_open_interest", "sum_open_interest_value", "count_long_short_ratio")

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        """Yield the records of ``span`` in blocks; before ``first`` there are none."""
        return _make_blocks(self, span, METRICS, self._make)

    def _make(self, days: range) -> RecordSet:
        index = range(days.start * DAY // METRICS, days.stop * DAY // METRICS)
        time = np.arange(index.start, index.stop) * METRICS
        known_at = time + METRICS
        is_late = self._draw(index, _Stream.LATE) < self.late
        known_at += np.where(is_late, self._draw_seconds(index, _Stream.LATE_BY, LATEST), 0)
        is_missing = self._draw(index, _Stream.MISSING) < self.missing
        is_revised = self._draw(index, _Stream.REVISED) < self.revised
        after = self._draw_seconds(index, _Stream.REVISED_AFTER, REVISED_AFTER)
        error = 1 + REVISED_BY * (2 * self._draw(index, _Stream.REVISED_BY) - 1)

        row = np.repeat(np.arange(len(time)), np.where(is_missing, 0, 1 + is_revised))
        is_second = np.zeros(len(row), dtype=bool)
        is_second[1:] = row[1:] == row[:-1]
        wrong = np.where(is_revised[row] & ~is_second, error[row], 1.0)
        return trust(
            {
                "time": time[row],
                "known_at": known_at[row] + np.where(is_second, after[row], 0),
                **{
                    name: np.round(values[row] * wrong, digits)
                    for name, (values, digits) in self._compute(time, days).items()
                },
            }
        )

    def _compute(self, time: NDArray[np.int64], days: range) -> dict[str, tuple[Floats, int]]:
        """The right values (N,) of each column for all times of some days, and their digits."""
        path = _walk_from_day_before(self.seed, METRICS, days)
        per_day = DAY // METRICS
        price, before = path[per_day + 1 :], path[1 : len(path) - per_day]
        end = time + METRICS
        noise = draw_noise(end, INTEREST_PERIODS, INTEREST_NOISE, self.seed, _Stream.INTEREST)
        lean = INTEREST_LEAN * (price - np.log(simulator.ANCHOR_PRICE))
        interest = OPEN_INTEREST * np.exp(noise + lean)
        noise = draw_noise(end, INTEREST_PERIODS, LONGS_NOISE, self.seed, _Stream.LONGS)
        longs = LONGS * np.exp(noise + LONGS_LEAN * (price - before))
        columns = ((interest, 3), (interest * np.exp(price), 2), (longs, 6))
        return dict(zip(self.columns, columns, strict=True))

    def _draw(self, index: range, stream: _Stream) -> Floats:
        return draw_uniform(index, self.seed, METRICS, stream)

    def _draw_seconds(self, index: range, stream: _Stream, most: int) -> NDArray[np.int64]:
        """Whole seconds from 1 to ``most``."""
        return 1 + (self._draw(index, stream) * most).astype(np.int64)


@public
@dataclass(frozen=True)
class SimulatedPremium(RecordSource):
    """The premium of a perpetual future over the index, in bars without a volume.

    Signed fractions about 0. It leans with the price's move over the hour before, or over the bar
    where that is longer. A record's time is the opening of the bar; it is known at the close.

    Attributes:
        seed: that of the candles; 0 <= seed < 2**63.
        interval: length of a bar, which divides a day evenly, such as 5m; held in seconds.
    """

    seed: int = 0
    interval: str | int = "5m"  # type: ignore[assignment]  # of a text the seconds are held

    name: ClassVar[str] = "simulator"
    first: ClassVar[int] = FIRST_DAY * DAY

    def __post_init__(self) -> None:
        _check_seed(self)
        given: Any = unwrap(self.interval)
        is_number = isinstance(given, int) and not isinstance(given, bool)
        step = given if is_number else parse_interval(given)
        if step < 1 or DAY % step or get_offset(step):
            text = format_interval(step) if step > 0 else step
            raise ConfigError(f"interval {text}: give one that divides a day evenly, such as 5m")
        object.__setattr__(self, "interval", int(step))

    @property
    def series(self) -> str:
        """``BTC-SIM-<seed>-premium-<interval>``."""
        return f"BTC-SIM-{self.seed}-premium-{format_interval(int(self.interval))}"

    @property
    def columns(self) -> tuple[str, ...]:
        """First, highest, lowest and last premium of the bar."""
        return ("open", "high", "low", "close")

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        """Yield the records of ``span`` in blocks; before ``first`` there are none."""
        return _make_blocks(self, span, int(self.interval), self._make)

    def _make(self, days: range) -> RecordSet:
        step = int(self.interval)
        per_day, back = DAY // step, max(1, HOUR // step)
        index = range(days.start * per_day, days.stop * per_day)
        edge = np.arange(index.start, index.stop + 1) * step
        path = _walk_from_day_before(self.seed, step, days)
        value = draw_noise(edge, PREMIUM_PERIODS, PREMIUM_NOISE, self.seed, _Stream.PREMIUM)
        value += PREMIUM_LEAN * (path[per_day:] - path[per_day - back : len(path) - back])
        opened, close = value[:-1], value[1:]
        up, down = (
            -PREMIUM_REACH * np.log(draw_uniform(index, self.seed, step, stream))
            for stream in (_Stream.HIGH, _Stream.LOW)
        )
        bars = (opened, np.maximum(opened, close) + up, np.minimum(opened, close) - down, close)
        rounded = (np.round(values, 8) for values in bars)
        return trust(
            {
                "time": edge[:-1],
                "known_at": edge[1:],
                **dict(zip(self.columns, rounded, strict=True)),
            }
        )


def _check_seed(source: Any) -> None:
    """Hold the seed as a plain number; ``ConfigError`` if the simulator would not have it."""
    object.__setattr__(source, "seed", simulator.Simulator(source.seed).seed)


def _make_blocks(source: RecordSource, span: Span, step: int, make: Make) -> Iterator[RecordBlock]:
    """Yield the records of a span in blocks of whole days, made of some 100,000 records each.

    Args:
        source: whose records they are.
        span: of their times.
        step: seconds from one record to the next, at least.
        make: makes those of some days.
    """
    start, end = span
    origin = f"simulator {source.series}"
    if start < min(end, source.first):
        yield RecordBlock((start, min(end, source.first)), make_empty(source.columns), origin)
        start = source.first
    at_once = DAY * max(1, simulator.BLOCK_BARS * step // DAY)
    while start < end:
        stop = min(end, floor_to(start, DAY) + at_once)
        records = make(range(start // DAY, ceil_to(stop, DAY) // DAY))
        yield RecordBlock((start, stop), records.slice(start, stop), origin)
        start = stop


def _walk_from_day_before(seed: int, interval: int, days: range) -> Floats:
    """Log prices at the edges of the bars of some days and of the day before them.

    Before the simulator's first day the price is what it is there.
    """
    known = range(max(days.start - 1, FIRST_DAY), days.stop)
    path = walk_prices(seed, interval, known)
    return np.pad(path, ((known.start - days.start + 1) * DAY // interval, 0), mode="edge")


def _is_paid(time: NDArray[np.int64]) -> NDArray[np.bool_]:
    """At which multiples of ``FUNDING_OFTEN`` funding is paid."""
    date = (time // DAY).astype("datetime64[D]")
    day = (date - date.astype("datetime64[M]")).astype(np.int64) + 1
    is_often = (day >= OFTEN[0]) & (day <= OFTEN[1])
    return np.asarray(is_often | (time % FUNDING == 0))
