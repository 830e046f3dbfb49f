"""Where the marks of an axis lie, and how they and other numbers are written."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from btc_datamodule.candles.timeline import Span

DAY = 86_400
STEPS = (
    *(60, 300, 900, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600),
    *(DAY, 2 * DAY, 3 * DAY, 7 * DAY, 14 * DAY),
)
"""Seconds from one mark of a time axis to the next, below a month."""

MONTHS = (1, 2, 3, 6, 12, 24, 60, 120)
MONTH = 30.5 * DAY


MOST_PLACES, SMALL = 5, 1e-3
"""Decimals beyond which marks of numbers below this are written with a power of ten."""


class Tick(NamedTuple):
    """A mark of an axis: where it is, and what stands there."""

    at: float
    text: str


def list_times(span: Span, most: int = 6) -> list[Tick]:
    """Marks of a time axis, UTC, at most about ``most``."""
    start, end = span
    seconds = (end - start) / max(1, most)
    step = next((each for each in STEPS if each >= seconds), None)
    if step is None:
        months = next((each for each in MONTHS if each * MONTH >= seconds), MONTHS[-1])
        return [*_list_months(span, months)]
    first = math.ceil(start / step) * step
    pattern = "%Y-%m-%d" if step >= DAY else "%m-%d %H:%M"
    if step < DAY and end - start <= DAY:
        pattern = "%H:%M"
    return [Tick(at, _format(at, pattern)) for at in range(first, end + 1, step)]


def _list_months(span: Span, months: int) -> Iterator[Tick]:
    """The beginnings of every so many months."""
    at = datetime.fromtimestamp(span[0], UTC)
    number = -(-(at.year * 12 + at.month - 1) // months) * months
    while True:
        year, month = divmod(number, 12)
        begin = int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp())
        if begin > span[1]:
            return
        if begin >= span[0]:
            yield Tick(begin, f"{year}" if months >= 12 else f"{year}-{month + 1:02d}")
        number += months


def list_numbers(low: float, high: float, most: int = 5) -> list[Tick]:
    """Marks at 1, 2 or 5 times a power of ten, about ``most``, and no fewer than three or that."""
    if not low < high:
        return [Tick(low, write_number(low))]
    raw = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(raw))
    factors = (10, 5, 2, 1, 0.5, 0.2)
    for factor in factors[max(k for k in range(4) if factors[k] * power >= raw * 0.999) :]:
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 >= min(3, most):
            break
    places = [k * step + 0.0 for k in range(first, last + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    largest = max(map(abs, places), default=0.0)
    if digits > MOST_PLACES and 0 < largest < SMALL:
        digits = max(0, digits + math.floor(math.log10(largest) + 1e-9))
        return [Tick(at, write_power(at, digits)) for at in places]
    return [Tick(at, f"{at:,.{digits}f}") for at in places]


def list_prices(low: float, high: float, most: int = 5) -> list[Tick]:
    """Marks of a logarithmic axis: 1, 2 and 5 times powers of ten where these are enough."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
        if len(found) >= most - 1:
            break
    if len(found) < 3:
        return list_numbers(low, high, most)
    while len(found) > most:
        found = found[::2]
    return [Tick(each, write_number(each)) for each in found]


def write_number(value: float, digits: int = 4) -> str:
    """A number to some significant digits, without an exponent where that can be read."""
    if not np.isfinite(value):
        return "-"
    if value == 0 or 1e-4 <= abs(value) < 1000:
        return f"{value:.{digits}g}"
    return f"{value:,.0f}" if 1 <= abs(value) < 1e15 else write_power(value, digits - 1)


def write_power(value: float, digits: int) -> str:
    """``1.5e-9``: a number times a power of ten, to so many decimals or fewer; 0 as such."""
    factor, _, power = f"{value:.{digits}e}".partition("e")
    factor = factor.rstrip("0").rstrip(".") if "." in factor else factor
    return f"{factor}e{int(power)}" if value else "0"


def write_count(number: int, what: str) -> str:
    """``1 bar``, ``1,200 bars``."""
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def write_share(share: float) -> str:
    """A share in per cent: 0 % only where it is none, and 100 % only where it is all."""
    if not np.isfinite(share):
        return "-"
    if 0 < share < 0.0001:
        return "< 0.01 %"
    if 0.9999 < share < 1:
        return "> 99.99 %"
    digits = 2 if min(share, 1 - share) < 0.01 and share not in (0, 1) else 1
    return f"{100 * share:.{0 if share in (0, 1) else digits}f} %"


def write_time(instant: float) -> str:
    """``2020-01-01 13:00``, UTC; seconds only where there are any."""
    return _format(instant, "%Y-%m-%d %H:%M" if instant % 60 == 0 else "%Y-%m-%d %H:%M:%S")


def write_length(seconds: float) -> str:
    """A length of time, in the largest unit of which there are two: ``36 h``."""
    units = (("d", DAY), ("h", 3600), ("min", 60))
    unit, size = next(((u, s) for u, s in units if seconds >= 2 * s or seconds == s), ("s", 1))
    many = seconds / size
    return f"{many:,.0f} {unit}" if many >= 1000 else f"{many:.3g} {unit}"


def _format(instant: float, pattern: str) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime(pattern)
