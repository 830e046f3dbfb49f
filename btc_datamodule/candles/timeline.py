"""Instants, intervals and spans on the UTC time axis.

An *instant* is an ``int``: epoch seconds, UTC. An *interval* is the length of a bar in seconds;
bars open at its multiples, counted from the epoch, which puts them on UTC edges, or ``offset``
seconds later: weeks on Mondays, and whatever an ``Interval`` says. A *span* is a half-open pair of
instants ``(start, end)``. Everything here is a pure function.
"""

import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from btc_datamodule.checks import unwrap
from btc_datamodule.errors import ConfigError

Instant = str | int | float | date | np.integer | np.datetime64
"""What a user may give as an instant, on a whole second: an ISO 8601 text, UTC if it names no
offset; a date or time of any library, such as a pandas ``Timestamp``; or epoch seconds."""

Span = tuple[int, int]
"""The first instant and the one past the last, in epoch seconds, UTC."""

LONGEST_DURATION = 1_000_000 * 86_400

PLAUSIBLE: Span = (1_230_768_000, 4_102_444_800)
"""Epoch seconds that a number given as an instant may be: 2009, before which there was no Bitcoin,
to 2100."""

TIMES: Span = (-2_208_988_800, 7_258_118_400)
"""Instants that stored rows may be of, 1900 to 2200: two of them a billion years apart would be a
grid without end."""

WEEK = 7 * 86_400
MONDAY = 4 * 86_400
"""Epoch seconds of the first Monday."""

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": WEEK}
_UNITS_DOWN = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


class Interval(int):
    """Length of a bar in seconds that knows its grid: at which instants bars open.

    It is a whole number in every sum. Equal are intervals of one length and one grid; a plain
    ``int`` has the grid that ``get_offset`` gives it. What is computed of one is a plain ``int``.

    Attributes:
        offset: seconds past the multiples of the interval, counted from the epoch, at which bars
            open; at least 0 and less than the interval.
    """

    offset: int

    def __new__(cls, seconds: int, offset: int | None = None) -> "Interval":
        """An interval with an offset; None for that of a plain number."""
        made = super().__new__(cls, seconds)
        made.offset = get_offset(int(seconds)) if offset is None else int(offset) % made
        return made

    def __reduce__(self) -> tuple[type["Interval"], tuple[int, int]]:
        return Interval, (int(self), self.offset)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, int):
            return NotImplemented
        return int(self) == int(other) and self.offset == get_offset(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


def get_offset(interval: int) -> int:
    """Seconds past the multiples of an interval since the epoch at which its bars open.

    0 of a plain number, but for weeks, which begin on Mondays: the epoch was a Thursday.
    """
    if isinstance(interval, Interval):
        return interval.offset
    return MONDAY if interval % WEEK == 0 else 0


def parse_interval(text: str, offset: str | None = None) -> Interval:
    """The bar length written as ``"1s"``, ``"5m"``, ``"1h"``, ``"1d"`` or ``"1w"``, and its grid.

    H, D and W are hours, days and weeks too.

    Args:
        text: the length; also as ``format_interval`` writes it, such as "1d+8h".
        offset: how long past the usual grid bars open, a text such as "8h": past midnight UTC, or
            past Monday; None for not at all.

    Raises:
        ConfigError: if the text is not a whole number and a unit, or the offset no length of time
            shorter than that.
    """
    length, _, past = str(text).partition("+")
    match = re.fullmatch(r"([1-9]\d{0,5})([smhdwHDW])", length)
    if match is None:
        months = " (1M is a month elsewhere, and months are not of one length)"
        raise ConfigError(
            f"interval {text!r} is not understood: write a number and a unit, such as "
            f"1s, 1m, 5m, 1h, 1d or 1w (m is minutes)"
            f"{months if re.fullmatch('[0-9]+M', length) else ''}"
        )
    seconds = int(match[1]) * _UNIT_SECONDS[match[2].lower()]
    if past and offset is not None:
        raise ConfigError(f"offset {offset!r} and interval {text!r} name one each: leave one out")
    shift = 0 if not past and offset is None else _parse_offset(past or offset, length, seconds)
    return Interval(seconds, get_offset(seconds) + shift)


def _parse_offset(text: Any, length: str, seconds: int) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhd])", str(text))
    shift = int(match[1]) * _UNIT_SECONDS[match[2]] if match else seconds
    if shift >= seconds:
        if seconds == 1:
            raise ConfigError(
                f"offset {text!r} is not shorter than the interval, {length}: leave it out"
            )
        fits = next(
            each
            for each in ("8h", "1h", "15m", "1m", "15s", "1s")
            if parse_duration(each) < seconds
        )
        raise ConfigError(
            f"offset {text!r} is no length of time such as {fits}, shorter than the interval, "
            f"{length}"
        )
    return shift


def parse_duration(text: str) -> int:
    """Seconds of a length of time such as "60d" or "12h"; up to ``LONGEST_DURATION``.

    Raises:
        ConfigError: if the text is no whole number followed by s, m, h, d or w, or more than that.
    """
    match = re.fullmatch(r"0*(\d{1,15})([smhdw])", str(text))
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST_DURATION:
        raise ConfigError(f"{text!r} is no duration such as 60d or 12h, of at most a million days")
    return seconds


def format_interval(interval: int) -> str:
    """The shortest text that ``parse_interval`` reads back: ``3600`` becomes ``"1h"``.

    A grid that is not the usual one is added to it: ``"1d+8h"``.
    """
    seconds = int(interval)
    unit, size = next((u, size) for u, size in _UNITS_DOWN if seconds % size == 0)
    text = f"{seconds // size}{unit}"
    shift = (get_offset(interval) - get_offset(seconds)) % seconds
    return f"{text}+{format_interval(shift)}" if shift else text


def parse_instant(when: Instant, argument: str = "time") -> int:
    """Epoch seconds, UTC, of an ISO 8601 text, a date or time of any library, or epoch seconds.

    Without an offset the time is taken as UTC. A number, also one in a text, is epoch seconds, and
    must be one of ``PLAUSIBLE``: one in milliseconds would be an instant that never comes.

    Args:
        when: what a user gave.
        argument: what the error calls it.

    Raises:
        ConfigError: if it is no time, not on a whole second, or a number that is no plausible one.
    """
    if isinstance(when, np.datetime64):
        return _read_datetime64(when, argument)
    number = unwrap(when)
    if isinstance(when, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?", when) and len(when) != 8:
        number = float(when) if "." in when else int(when)  # of eight digits it is a date
    if isinstance(number, int | float) and not isinstance(number, bool):
        return _check_plausible(number, when, argument)
    try:
        text = when.isoformat() if isinstance(when, date) else str(when)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{argument} {when!r} is not an ISO 8601 time: write 2020-01-01 or "
            "2020-01-01T12:00:00Z (UTC unless it says otherwise)"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment.microsecond or re.search(r"\.\d{6}\d*[1-9]", text):
        raise ConfigError(f"{argument} {when!r} is not on a whole second")
    return int(moment.timestamp())


def to_plain_instant(when: Instant) -> str | int:
    """What a user gave as an instant, as a text or a whole number, which YAML can hold.

    Raises:
        ConfigError: as ``parse_instant``.
    """
    if isinstance(when, str) or type(when) is int:
        return when
    if isinstance(when, date) and not isinstance(when, datetime):
        return when.isoformat()
    instant = parse_instant(when)
    return format_instant(instant) if isinstance(when, date | np.datetime64) else instant


def _read_datetime64(when: np.datetime64, argument: str) -> int:
    """Epoch seconds of a numpy time."""
    seconds = when.astype("datetime64[s]")
    if np.isnat(when) or abs(year := int(seconds.astype("datetime64[Y]").astype(int))) > 8000:
        what = "no time" if np.isnat(when) else f"in the year {1970 + year}"
        raise ConfigError(f"{argument} {when!r} is {what}: write 2020-01-01")
    if seconds != when:
        raise ConfigError(f"{argument} {when!r} is not on a whole second")
    return int(seconds.astype(np.int64))


def _check_plausible(seconds: float, when: Instant, argument: str) -> int:
    """The whole number that stands for an instant, if it can be one in epoch seconds.

    Raises:
        ConfigError: saying what the number may be instead, and what to write.
    """
    low, high = PLAUSIBLE
    if low <= seconds < high:
        if seconds != int(seconds):
            raise ConfigError(f"{argument} {when!r} is not on a whole second")
        return int(seconds)
    for unit, ticks in (("milli", 10**3), ("micro", 10**6), ("nano", 10**9)):
        if low <= seconds / ticks < high:
            there = int(seconds / ticks)
            text = format_instant(there).removesuffix("T00:00:00Z")
            raise ConfigError(
                f"{argument} {when} looks like {unit}seconds, and whole numbers are epoch "
                f'seconds: write {there}, or "{text}"'
            )
    raise ConfigError(
        f"{argument} {when} is no epoch second between {format_instant(low)[:10]} and "
        f'{format_instant(high)[:10]}: write the time as a text, such as "2020-01-01"'
    )


def format_instant(instant: int) -> str:
    """ISO 8601 text of epoch seconds: ``"2020-01-01T00:00:00Z"``."""
    try:
        return datetime.fromtimestamp(int(instant), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"epoch second {instant}"


def format_span(span: Span) -> str:
    """``"2020-01-01T00:00:00Z to 2020-06-15T00:00:00Z"``; a span beyond all time has no end."""
    start, end = span
    last = format_instant(end) if end < PLAUSIBLE[1] else "the end"
    return f"{format_instant(start)} to {last}"


def ceil_to(instant: float, interval: int) -> int:
    """The first instant at or after another at which a bar opens."""
    offset = get_offset(interval)
    return math.ceil((instant - offset) / interval) * interval + offset


def floor_to(instant: float, interval: int) -> int:
    """The last instant at or before another at which a bar opens."""
    offset = get_offset(interval)
    return math.floor((instant - offset) / interval) * interval + offset


def unite(spans: Iterable[Span]) -> list[Span]:
    """The instants of any of ``spans``, as sorted spans that neither overlap nor touch.

    Empty spans vanish.
    """
    joined: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def is_covered(spans: Iterable[Span], taken: Iterable[Span]) -> bool:
    """Whether every instant of some spans lies in one of ``taken``."""
    taken = unite(taken)
    return unite([*taken, *spans]) == taken


def subtract(span: Span, taken: Iterable[Span]) -> list[Span]:
    """The parts of ``span`` that no span in ``taken`` covers, in order."""
    left: list[Span] = []
    start, end = span
    for taken_start, taken_end in unite(taken):
        if start < min(taken_start, end):
            left.append((start, min(taken_start, end)))
        start = max(start, taken_end)
    if start < end:
        left.append((start, end))
    return left
