"""Candles to compute features on, and the built-in features in plain numpy."""

import math
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.series import COLUMNS, Candles, concatenate
from btc_datamodule.features.grid import Grid
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import CandleReader
from tests.factories import HOUR, T0
from tests.helpers import write

EVER = (0, 2**40)
ROWS = 2000
MAX_FILL = 3
Floats = NDArray[np.float64]


@cache
def simulated() -> Candles:
    source = Simulator(seed=11, no_trade=0.04, outages_per_year=60)
    return concatenate([b.candles for b in source.blocks(HOUR, (T0, T0 + ROWS * HOUR))])


@cache
def real_grid() -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """Open times and bars of the simulated series with its holes."""
    with TemporaryDirectory() as folder:
        path = write(Path(folder, "candles.h5"), simulated())
        with CandleReader(path) as reader:
            grid = Grid.of(reader, EVER, MAX_FILL)
            return grid.times(0, grid.rows), grid.read_bars(reader, 0, grid.rows)


def lagged(values: Floats) -> Floats:
    return np.concatenate([[np.nan], values[:-1]])


def trailing_mean(values: Floats, bars: int) -> Floats:
    means = [values[row - bars + 1 : row + 1].mean() for row in range(bars - 1, len(values))]
    return np.concatenate([np.full(bars - 1, np.nan), means])


def ago(values: Floats, bars: int) -> Floats:
    return np.concatenate([np.full(bars, np.nan), values[:-bars]])


def angle(times: NDArray[np.int64], weekly: bool) -> Floats:
    moments = [datetime.fromtimestamp(int(t), UTC) for t in times]
    hours = [m.hour + m.minute / 60 + 24 * m.weekday() * weekly for m in moments]
    return 2 * math.pi * np.array(hours) / (168 if weekly else 24)


def references(times: NDArray[np.int64], bars: dict[str, Floats]) -> dict[str, Floats]:
    """Every built-in feature in plain numpy."""
    o, h, l, c, v = (bars[name] for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    back = np.log(c) - np.log(lagged(c))
    with np.errstate(invalid="ignore"):
        share = np.where(v == 0, 0.5, bars["taker_buy_volume"] / v)
    return {
        "log_return": back,
        "log_open": np.log(o) - np.log(lagged(c)),
        "log_high": np.log(h) - np.log(c),
        "log_low": np.log(l) - np.log(c),
        "log_range": np.log(h) - np.log(l),
        "log_volume": np.log(1 + v),
        "relative_volume": np.log(1 + v) - trailing_mean(np.log(1 + v), 24),
        "parkinson": (np.log(h) - np.log(l)) ** 2 / (4 * np.log(2)),
        "garman_klass": 0.5 * np.log(h / l) ** 2 - (2 * np.log(2) - 1) * np.log(c / o) ** 2,
        "rogers_satchell": np.log(h / c) * np.log(h / o) + np.log(l / c) * np.log(l / o),
        "volatility": np.sqrt(trailing_mean(back**2, 24)),
        "momentum": np.log(c) - np.log(ago(c, 24)),
        "taker_share": share,
        "day_sin": np.sin(angle(times, weekly=False)),
        "day_cos": np.cos(angle(times, weekly=False)),
        "week_sin": np.sin(angle(times, weekly=True)),
        "week_cos": np.cos(angle(times, weekly=True)),
    }


class Market(NamedTuple):
    """Candles with holes, as a file, and as bars filled in by hand."""

    candles: Path
    max_fill: int
    times: NDArray[np.int64]
    bars: dict[str, Floats]


def by_hand(candles: Candles, max_fill: int) -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """The regular grid, one bar after the other: the first of a hole flat at the close before."""
    opens, interval = candles.open_time.tolist(), candles.interval
    known = [name for name in COLUMNS[1:] if name in candles.columns]
    find_row = {time: row for row, time in enumerate(opens)}
    times = list(range(opens[0], opens[-1] + interval, interval))
    bars = {name: np.full(len(times), np.nan) for name in COLUMNS[1:]}
    absent = 0
    for at, time in enumerate(times):
        absent = 0 if time in find_row else absent + 1
        for name in known:
            if not absent:
                bars[name][at] = candles[name][find_row[time]]
            elif absent <= max_fill:
                price = name in ("open", "high", "low", "close")
                bars[name][at] = bars["close"][at - 1] if price else 0.0
    return np.array(times), bars


REAL: dict[str, tuple[str, str | None, int, str, int]] = {
    # file, columns, interval, first instant, max_fill
    "kraken hours": ("kraken/XBTUSD_60.csv", "kraken", HOUR, "2013-10-01", 3),
    "binance hours": ("binance_spot_1h/BTCUSDT-1h-2023-03.csv", None, HOUR, "2023-03-01", 0),
    "bitfinex minutes": ("bitfinex_1m/BTCUSD_1m_2019.csv.gz", "bitfinex", 60, "2019-03-03", 2),
}
