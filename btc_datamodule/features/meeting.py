"""Clocks: on whose rows an expression over several series is computed, and who meets there.

An expression has the rows of one series, its *clock*, and names columns of any number of others,
as they were known at the close of each row. Two series meet bar by bar: what one says of a bar
stands beside what the other says of the same bar, or there is no value. That needs bars of one
length on one grid. How old the newest value of a series is, its age, can be told beside any bar.
"""

from collections.abc import Iterable, Mapping

from btc_datamodule.candles.timeline import format_interval
from btc_datamodule.features.beside import AGE, Beside

MAIN = ""
"""How the series of the candles is named where those beside it have names."""

Named = tuple[str, str]
"""A series and a column of it; the column ``AGE`` stands for ``age(series)``."""


def choose_clock(named: Iterable[Named]) -> tuple[str, tuple[str, ...]]:
    """The series whose rows an expression has, and the others that it names, in order.

    That is the candles' if it names a column of theirs or an age, which is counted in their bars,
    and else the first that it names.
    """
    named = list(named)
    of_candles = any(series == MAIN or column == AGE for series, column in named)
    clock = MAIN if of_candles else named[0][0]
    return clock, tuple(dict.fromkeys(series for series, _ in named if series != clock))


def explain_age(named: Iterable[Named]) -> str:
    """The end of an error on an expression that has the candles' rows because of an age alone.

    Empty where it names a column of the candles, or no age.
    """
    named = list(named)
    ages = [series for series, column in named if column == AGE]
    if not ages or any(series == MAIN for series, _ in named):
        return ""
    others = tuple(dict.fromkeys(series for series, _ in named))
    return (
        f". {AGE}({ages[0]}) is counted in bars of the candles, so that all beside it is wanted "
        f"on their rows; a Feature in Python with beside={others!r} is given all of it there"
    )


def list_meeting(named: Iterable[Named]) -> list[str]:
    """The series beside the clock whose columns an expression names, and not their age alone."""
    named = list(named)
    _, others = choose_clock(named)
    return [
        name for name in others if any((name, AGE) != each for each in named if each[0] == name)
    ]


def find_obstacle(
    clock: str, other: str, beside: Mapping[str, Beside], interval: int | None
) -> str | None:
    """Why a series does not meet the clock bar by bar, and what to do; None if it does.

    Args:
        clock: the series whose rows an expression has.
        other: one whose columns it names.
        beside: all covariates by name.
        interval: of the candles; None if that is not known, and they may be of any.
    """
    whom = "the candles" if clock == MAIN else repr(clock)
    ours = interval if clock == MAIN else beside[clock].interval
    theirs = beside[other].interval
    if theirs is None:
        problem = f"{other!r} has no interval, its rows are no bars"
    elif ours is None and clock != MAIN:
        problem = f"{whom} has no interval, its rows are no bars"
    elif ours is None or theirs == ours:
        return None
    else:
        lengths = format_interval(theirs), format_interval(ours)
        problem = f"{other!r} is in bars of {lengths[0]}, {whom} in bars of {lengths[1]}"
    return (
        f"{other!r} and {whom} do not meet bar by bar: {problem}. Make a feature of each, which "
        "enters a row once it is known"
    )
