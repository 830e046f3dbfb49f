"""Candles for tests: valid, reproducible, and absent where a test wants a hole."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from btc_datamodule.candles.series import Candles, ContentDigest
from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.store.candle_file import Provenance, write_candles

HOUR = 3600
T0 = parse_instant("2020-01-01")


def candles_of(
    bars: ArrayLike, interval: int = HOUR, seed: int = 0, optional: Sequence[str] = ()
) -> Candles:
    """Bars at the given open times, or at ``T0 + r * interval`` for each true row r of a mask.

    A bar's values depend on its open time and ``seed`` alone: parts of a series agree with it.
    """
    given = np.asarray(bars)
    time = T0 + interval * np.flatnonzero(given) if given.dtype == bool else given
    time = time.astype(np.int64)
    number = (time - T0) / interval

    def noise(stream: int) -> NDArray[np.float64]:
        return np.sin(number * 12.9898 + stream * 78.233 + seed * 37.719) * 43758.5453 % 1.0

    close = 7000 * np.exp(0.1 * np.sin(number / 40) + 0.01 * noise(0))
    opened = close * np.exp(0.01 * (noise(1) - 0.5))
    columns = {
        "open_time": time,
        "open": opened,
        "high": np.maximum(opened, close) * (1 + 0.005 * noise(2)),
        "low": np.minimum(opened, close) * (1 - 0.005 * noise(3)),
        "close": close,
        "volume": 0.1 + 50 * noise(4),
    }
    more = {
        "quote_volume": columns["volume"] * close,
        "trades": np.floor(1 + 100 * noise(5)),
        "taker_buy_volume": columns["volume"] * noise(6),
    }
    return Candles(interval, columns | {name: more[name] for name in optional})


def changed(candles: Candles, **columns: Any) -> Candles:
    """The same candles with some columns replaced, or taken out where None."""
    merged = {**candles.columns, **columns}
    return Candles(candles.interval, {k: v for k, v in merged.items() if v is not None})


def digest_of(*blocks: Candles) -> str:
    digest = ContentDigest(blocks[0].interval)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def write(
    path: Path,
    *blocks: Candles,
    covered: Iterable[Span] = (),
    provenance: Iterable[Provenance] = (),
    compress: bool = True,
) -> Path:
    """A candle file of the blocks."""
    write_candles(
        path,
        blocks,
        source="test",
        series="BTC",
        interval=blocks[0].interval,
        columns={name for block in blocks for name in block.columns},
        covered=covered,
        revision="",
        provenance=provenance,
        compress=compress,
    )
    return path


def assert_same(a: Candles, b: Candles) -> None:
    """The same bars bit for bit, in the same columns."""
    assert a.interval == b.interval
    assert set(a.columns) == set(b.columns)
    for name in a.columns:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
