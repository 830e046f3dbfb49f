"""``Pyramid``: all of a history's prices at any zoom, in few numbers.

A *level* is the lowest low and the highest high of stretches of equal length, from the first bar
to the last. Each level has half the points of the one below, so that a picture takes the one that
has about as many as it can show. Bars themselves are there one by one: all of a short history, of
a longer one in *pieces* around what a person looks for, such as its end, the boundaries of stages
and outages.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.features.table import Table

POINTS = 1 << 15
"""Stretches of the finest level: 3 hours each of ten years."""

WHOLE_BARS = 40_000
"""A history of up to so many bars is there bar by bar: four years of hours."""

PIECE_BARS = 400

PRICES = ("open", "high", "low", "close")

Numbers = NDArray[np.float64]


class Level(NamedTuple):
    """Lows and highs of stretches of equal length that follow each other.

    Attributes:
        first: opening of the first stretch, epoch seconds.
        seconds: length of a stretch; the last may be shorter.
        low: (n,) lowest low, NaN where no bar is known.
        high: (n,) highest high.
    """

    first: int
    seconds: int
    low: Numbers
    high: Numbers


class Piece(NamedTuple):
    """Bars one by one.

    Attributes:
        label: what there is to see.
        first: opening of the first bar, epoch seconds.
        seconds: length of a bar.
        prices: (4, n) open, high, low and close; NaN where the bar is not known.
        at: the instant that the label speaks of.
    """

    label: str
    first: int
    seconds: int
    prices: Numbers
    at: int


@dataclass(frozen=True, eq=False)
class Pyramid:
    """Prices of a history.

    Attributes:
        finest: the level of most points.
        pieces: in order of time; one of all bars where there are few.
    """

    finest: Level
    pieces: tuple[Piece, ...]

    def list_levels(self) -> Iterator[Level]:
        """The levels from the finest up, each of half the points of the one before."""
        level = self.finest
        yield level
        while len(level.low) > 1:
            level = join_pairs(level)
            yield level

    def choose_level(self, points: int) -> Level:
        """The finest level of at most so many points."""
        return next(level for level in self.list_levels() if len(level.low) <= max(1, points))


def build_pyramid(
    table: Table,
    marks: Sequence[tuple[str, int]] = (),
    *,
    points: int = POINTS,
    whole_bars: int = WHOLE_BARS,
    piece_bars: int = PIECE_BARS,
) -> Pyramid:
    """The pyramid of a feature file's bars.

    Args:
        table: the feature file.
        marks: what is worth seeing bar by bar, and the instant, the most important first. One that
            lies in the middle half of a piece that is there already has none of its own.
        points: most stretches of the finest level.
        whole_bars: up to how many bars all are there one by one.
        piece_bars: bars of a piece.
    """
    finest = measure_level(table, points)
    if table.rows <= whole_bars:
        return Pyramid(finest, (read_piece(table, "all bars", table.first, table.rows),))
    pieces: list[Piece] = []
    for label, at in marks:
        row = min(max((at - table.first) // table.interval, 0), table.rows - 1)
        if not any(_shows(piece, table.find_time(row)) for piece in pieces):
            pieces.append(read_piece(table, label, at, piece_bars))
    return Pyramid(finest, tuple(sorted(pieces, key=lambda piece: (piece.first, piece.label))))


def measure_level(table: Table, points: int) -> Level:
    """The lows and highs of a feature file's bars in at most so many stretches."""
    each = -(-table.rows // points)
    edges = np.arange(0, table.rows, each)
    low = np.fmin.reduceat(table.array("low"), edges)
    high = np.fmax.reduceat(table.array("high"), edges)
    return Level(table.first, each * table.interval, low, high)


def read_piece(table: Table, label: str, at: int, bars: int) -> Piece:
    """The bars around an instant, as many as are asked for or there are."""
    bars = min(bars, table.rows)
    middle = int(at - table.first) // int(table.interval)
    low = min(max(middle - bars // 2, 0), table.rows - bars)
    rows = slice(low, low + bars)
    prices = np.stack([table.read(name, rows) for name in PRICES]).astype(np.float64)
    return Piece(label, table.find_time(low), int(table.interval), prices, at)


def join_pairs(level: Level) -> Level:
    """The level above one: of each two stretches the lower low and the higher high."""
    edges = np.arange(0, len(level.low), 2)
    low, high = np.fmin.reduceat(level.low, edges), np.fmax.reduceat(level.high, edges)
    return Level(level.first, 2 * level.seconds, low, high)


def _shows(piece: Piece, instant: int) -> bool:
    """Whether an instant lies well within a piece."""
    length = piece.prices.shape[1] * piece.seconds
    return bool(length // 4 <= instant - piece.first <= length - length // 4)
