"""A small series with a hole that is filled and one that is not to its end, and recipes."""

import numpy as np
import polars as pl

from btc_datamodule.candles.series import Candles
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.layout import MaskOf
from btc_datamodule.features.recipe import Recipe
from tests.factories import HOUR, T0, candles_of

EVER = (0, 2**40)
ROWS = 120
NO_TRADE = slice(30, 32)
LONG = slice(60, 70)
OUTAGE = slice(63, 70)
"""What ``recipe`` leaves of the longer hole: it fills three bars."""


def recipe(
    *names: str | Feature,
    max_fill: int = 3,
    span: tuple[int, int] = EVER,
    flag: bool = False,
    mask: MaskOf = "bar",
) -> Recipe:
    return Recipe(resolve(names or ("log_return", "log_volume")), max_fill, span, flag, mask)


def patchy(bars: pl.DataFrame) -> pl.Series:
    """Known two bars in five: a feature that is undefined in places."""
    row = (bars["open_time"] - T0) // HOUR
    frame = pl.DataFrame({"row": row, "close": bars["close"]})
    return frame.select(pl.when(pl.col("row") % 5 < 2).then("close")).to_series()


PATCHY = Feature("patchy", 1, patchy)


def series() -> Candles:
    present = np.ones(ROWS, dtype=bool)
    present[LONG] = present[NO_TRADE] = False
    return candles_of(present, optional=["trades"])
