"""The one palette of all pictures: a colour for each thing that is shown.

Of Okabe and Ito (2008), "Color Universal Design": they differ for people who are colour-blind, and
in grey too. What is left out of a stage is hatched besides. Each colour has two values, for a light
ground and a dark one.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from btc_datamodule.evaluation.splits import Stage


class Colour(NamedTuple):
    """A colour as ``#rrggbb``.

    Attributes:
        light: on a light ground.
        dark: on a dark one.
    """

    light: str
    dark: str


STAGE_COLOURS: Mapping[Stage, Colour] = MappingProxyType(
    {
        "train": Colour("#0072b2", "#56b4e9"),
        "val": Colour("#e69f00", "#f5c542"),
        "test": Colour("#009e73", "#2fc79b"),
        "predict": Colour("#cc79a7", "#e0a3c6"),
    }
)
"""Of the stages; ``predict`` where it reaches past test."""

PURGE = Colour("#7a7a7a", "#a8a8a8")
EMBARGO = Colour("#3b3b3b", "#dadada")
OUTAGE = Colour("#d55e00", "#f2622e")
PRICE = Colour("#222222", "#e6e6e6")
GROUND = Colour("#ffffff", "#16181d")
INK = Colour("#1b1b1b", "#ececec")
FAINT = Colour("#8c8c8c", "#8f959e")
"""Of lines and words that stand back."""

SERIES: tuple[Colour, ...] = (
    Colour("#0072b2", "#56b4e9"),
    Colour("#d55e00", "#f2622e"),
    Colour("#009e73", "#2fc79b"),
    Colour("#cc79a7", "#e0a3c6"),
    Colour("#e69f00", "#f5c542"),
    Colour("#56b4e9", "#9fd6f7"),
)
"""Of forecasts or features beside each other, in this order, and over again."""

SCALE: tuple[Colour, ...] = (
    Colour("#d55e00", "#f2622e"),
    Colour("#f0c9a5", "#7d4a28"),
    Colour("#dfe9f1", "#2a3a47"),
    Colour("#9cc3dd", "#31638a"),
    Colour("#0072b2", "#56b4e9"),
)
"""From nothing to everything, by equal steps."""


def pick_series(number: int) -> Colour:
    """The colour of the forecast or feature with a number, from 0."""
    return SERIES[number % len(SERIES)]
