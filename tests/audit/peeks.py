"""What the planted features compute. It imports little, as a fresh process imports it."""

import functools
from pathlib import Path

import numpy as np
import polars as pl

HOUR = 3600
START = 1_577_836_800


def trailing(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].log().diff().rolling_mean(5)


def centred(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].log().diff().rolling_mean(5, center=True)


def previous(bars: pl.DataFrame) -> pl.Series:
    return (bars["close"].shift(1) / bars["close"]).log()


def following(bars: pl.DataFrame) -> pl.Series:
    return (bars["close"].shift(-1) / bars["close"]).log()


def forward_filled(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].forward_fill(4).log().diff()


def back_filled(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].backward_fill().log()


def standardised(bars: pl.DataFrame) -> pl.Series:
    return (bars["close"] - bars["close"].mean()) / bars["close"].std()


def volume(bars: pl.DataFrame) -> pl.Series:
    return bars["volume"].log1p()


def quiet_ahead(bars: pl.DataFrame) -> pl.Series:
    """Whether the next bar has no trades."""
    return volume(bars) + (bars["volume"].shift(-1).fill_null(1.0) == 0).cast(pl.Float64)


def absent_ahead(bars: pl.DataFrame) -> pl.Series:
    """Whether the next bar is not known."""
    return volume(bars) + bars["close"].shift(-1, fill_value=1.0).is_null().cast(pl.Float64)


def peek(bars: pl.DataFrame, row: int) -> pl.Series:
    """Looks one bar ahead, in one row of the whole history."""
    there = bars["open_time"] == START + row * HOUR
    return bars.select(
        pl.when(there).then(pl.col("close").shift(-1)).otherwise(pl.col("close")).log()
    ).to_series()


def mark(bars: pl.DataFrame, sentinel: float, ahead: int) -> pl.Series:
    """A return, next or last, and a number that stands for something else in every fifth row."""
    move = (bars["close"].shift(-ahead) / bars["close"]).log()
    return pl.select(
        pl.when(bars["open_time"] // HOUR % 5 == 0).then(sentinel).otherwise(move)
    ).to_series()


def look_back(bars: pl.DataFrame, bars_back: int) -> pl.Series:
    return (bars["close"] / bars["close"].shift(bars_back)).log()


KEPT: dict[int, float] = {}


def remember(bars: pl.DataFrame) -> pl.Series:
    """The next return where it was ever seen: in the first, longest frame."""
    ahead = zip(bars["open_time"].to_list(), following(bars).fill_null(0.0).to_list(), strict=True)
    for time, value in ahead:
        KEPT.setdefault(time, value)
    return pl.Series([KEPT[time] for time in bars["open_time"].to_list()])


@functools.cache
def make_memory() -> dict[int, float]:
    return {}


def remember_in_cache(bars: pl.DataFrame) -> pl.Series:
    """Likewise, hidden in what a function caches."""
    kept = make_memory()
    ahead = zip(bars["open_time"].to_list(), following(bars).fill_null(0.0).to_list(), strict=True)
    for time, value in ahead:
        kept.setdefault(time, value)
    return pl.Series([kept[time] for time in bars["open_time"].to_list()])


@functools.cache
def make_weights() -> tuple[float, ...]:
    return (0.5, 0.3, 0.2)


def weigh(bars: pl.DataFrame) -> pl.Series:
    """Caches a constant, which is no memory."""
    move = bars["close"].log().diff()
    return sum((w * move.shift(n) for n, w in enumerate(make_weights())), start=0.0 * move)


def read_by_python(bars: pl.DataFrame, path: str) -> pl.Series:
    lines = [line.split(",") for line in Path(path).read_text().splitlines()[1:]]
    known = {int(time): float(value or "nan") for time, value in lines}
    return pl.Series([known.get(time, 0.0) for time in bars["open_time"].to_list()])


def read_by_polars(bars: pl.DataFrame, path: str) -> pl.Series:
    return bars.join(pl.read_csv(path), "open_time", "left", maintain_order="left")["ahead"]


# --- series beside the candles --------------------------------------------------------------------


def resample(bars: pl.DataFrame) -> pl.Series:
    """The close of the four hours that a bar lies in, as a join by their label gives it."""
    return bars.select(
        (pl.col("close").last().over(pl.col("open_time") // (4 * HOUR)) / pl.col("close")).log()
    ).to_series()


def resample_closed(bars: pl.DataFrame) -> pl.Series:
    return (bars["close"].shift(4) / bars["close"]).log()


def standardise_beside(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return (eth["close"] - eth["close"].mean()) / bars["close"]


def compare_beside(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return eth["close"] / bars["close"]


def back_fill_beside(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    """Fills an outage of the other market from after it."""
    return eth["close"].backward_fill() / bars["close"]


def shift_ratio(bars: pl.DataFrame, eth: pl.DataFrame) -> pl.Series:
    return (eth["close"] / bars["close"]).shift(-1)


def blend_series(bars: pl.DataFrame, oi: pl.DataFrame, funding: pl.DataFrame) -> pl.Series:
    held = oi["sum_open_interest"].fill_null(0.0).rolling_max(3).log1p()
    return held + funding["rate"].fill_null(0.0) * 0.5 ** (funding["age"].fill_null(0.0) / 32)


def lean_on_funding(bars: pl.DataFrame, funding: pl.DataFrame) -> pl.Series:
    return bars["close"].log().diff() - funding["rate"].fill_null(0.0)


# --- what leaks nothing ---------------------------------------------------------------------------


def name_hour(bars: pl.DataFrame) -> pl.Series:
    return (bars["open_time"] // 3600 % 24).cast(pl.Float64)


def convolve(bars: pl.DataFrame) -> pl.Series:
    close = bars["close"].to_numpy()
    return pl.Series(np.convolve(close, [0.5, 0.3, 0.2])[: len(close)])
