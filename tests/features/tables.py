"""A small series with a hole that is filled and one that is not to its end, and recipes."""

import numpy as np

from btc_datamodule.candles.series import Candles
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.feature import Feature
from tests.factories import candles_of

EVER = (0, 2**40)
ROWS = 120
NO_TRADE = slice(30, 32)
LONG = slice(60, 70)
OUTAGE = slice(63, 70)
"""What ``recipe`` leaves of the longer hole: it fills three bars."""


def recipe(*names: str | Feature, max_fill: int = 3, span: tuple[int, int] = EVER) -> Recipe:
    return Recipe(resolve(names or ("log_return", "log_volume")), max_fill, span)


def series() -> Candles:
    present = np.ones(ROWS, dtype=bool)
    present[LONG] = present[NO_TRADE] = False
    return candles_of(present, optional=["trades"])
