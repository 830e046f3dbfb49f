"""Series beside the candles, and frames of what is known of them, put together by hand."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from btc_datamodule.candles.series import COLUMNS
from btc_datamodule.candles.timeline import Interval
from btc_datamodule.features.beside import Beside
from btc_datamodule.features.feature import Feature
from tests.factories import HOUR, T0

NAN = math.nan
MINUTES = Interval(300)
RECORDS = ("sum_open_interest", "ratio")


def list_beside(*given: Beside) -> dict[str, Beside]:
    return {each.name: each for each in given}


def of_candles(name: str, interval: Interval = Interval(HOUR)) -> Beside:  # noqa: B008
    return Beside(name, interval, COLUMNS[1:], True, 2 * interval)


def of_records(name: str, interval: Interval | None, *columns: str) -> Beside:
    return Beside(name, interval, columns, False, None)


BESIDE = list_beside(
    of_candles("eth"),
    of_candles("perp"),
    of_candles("day", Interval(86_400)),
    of_candles("shifted", Interval(HOUR, 60)),
    of_candles("sol", Interval(86_400)),
    of_records("oi", MINUTES, *RECORDS),
    of_records("premium", MINUTES, "close", "age"),
    of_records("hourly", Interval(HOUR), "value"),
    of_records("funding", None, "rate", "mark_price"),
)
"""Beside candles of an hour."""


def frame_of(rows: int, **columns: Sequence[float]) -> pl.DataFrame:
    """Hours of the candles: open times and columns, NaN as null."""
    values = {name: np.array(each, dtype=np.float64) for name, each in columns.items()}
    frame = pl.DataFrame({"open_time": T0 + HOUR * np.arange(rows), **values})
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def frame_beside(ages: Sequence[float], **columns: Sequence[float]) -> pl.DataFrame:
    """What is known of a series at the close of each hour; nothing where the age is NaN."""
    known_at = [
        None if math.isnan(age) else T0 + HOUR * (row + 1) - round(age * HOUR)
        for row, age in enumerate(ages)
    ]
    instants = {
        "time": [None if each is None else each - HOUR for each in known_at],
        "known_at": known_at,
    }
    frame = pl.DataFrame(instants, schema=dict.fromkeys(instants, pl.Int64))
    gone = np.isnan(np.array(ages, dtype=np.float64))
    values = {"age": np.array(ages, dtype=np.float64)}
    values |= {
        name: np.where(gone, np.nan, np.array(each, dtype=np.float64))
        for name, each in columns.items()
    }
    return frame.with_columns(pl.Series(name, each).fill_nan(None) for name, each in values.items())


def values_of(feature: Feature, *frames: pl.DataFrame) -> list[float | None]:
    """Values of a feature, None where it has none."""
    return [None if math.isnan(each) else each for each in feature(*frames).tolist()]
