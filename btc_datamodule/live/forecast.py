"""``Forecast``: what a model says at the close of one bar."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.public import public
from btc_datamodule.training.predictions import Predictions, flatten_columns

SHOWN = 8
"""Numbers of a forecast that are shown in a line."""


@public
class Forecast(NamedTuple):
    """What ``predict_step`` gave for one origin; as text a line of its time and numbers.

    Attributes:
        origin_time: open time of the last input bar, epoch seconds UTC.
        values: by name, as ``PredictionWriter`` names them, arrays of the shape of one sample.
    """

    origin_time: int
    values: dict[str, NDArray[Any]]

    def __str__(self) -> str:
        rows = {name: each[np.newaxis] for name, each in self.values.items()}
        numbers = [f"{name} {values[0]:.8g}" for name, values in flatten_columns(rows)]
        more = [f"and {len(numbers) - SHOWN} more"] * (len(numbers) > SHOWN)
        return "  ".join([format_instant(self.origin_time), *numbers[:SHOWN], *more])


def list_forecasts(columns: Predictions) -> list[Forecast]:
    """The rows of columns one by one."""
    values = {name: each for name, each in columns.items() if name != "origin_time"}
    return [
        Forecast(time, {name: each[row] for name, each in values.items()})
        for row, time in enumerate(columns["origin_time"].tolist())
    ]
