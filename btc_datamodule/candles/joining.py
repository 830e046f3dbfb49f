"""Joining short bars to long ones: which can be joined, and what becomes of their columns.

A long bar opens with its first short one, closes with its last, reaches from the lowest low to the
highest high, and its volumes and trades are sums. It is made of those short bars that there are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import format_interval, get_offset
from btc_datamodule.errors import ConfigError

_JOINED: dict[str, np.ufunc] = {
    "high": np.maximum,
    "low": np.minimum,
    **dict.fromkeys(("volume", "quote_volume", "trades", "taker_buy_volume"), np.add),
}
"""How the columns beside time, first open and last close are joined."""


def can_join(short: int, long: int) -> bool:
    """Whether bars of one interval fill bars of another: its length, and its grid."""
    return long % short == 0 == (get_offset(long) - get_offset(short)) % short


def check_join(short: int, long: int) -> None:
    """Raise ``ConfigError`` unless bars of interval ``short`` fill those of interval ``long``."""
    if can_join(short, long):
        return
    advice = "choose a multiple"
    if long % short == 0:  # the first offset that does, counted from the usual grid
        shift = (get_offset(short) - get_offset(int(long))) % short
        advice = f"set `offset` to {format_interval(shift)}" if shift else "leave `offset` out"
    raise ConfigError(
        f"bars of {format_interval(short)} cannot be joined to bars of {format_interval(long)}: "
        f"{advice}"
    )


def join_columns(
    columns: Mapping[str, NDArray[Any]], interval: int
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """The columns of long bars, and (M,) int64: from how many of the short ones each was made.

    Args:
        columns: of short bars in order of time, as ``Candles.columns``.
        interval: that of the long bars.
    """
    time, offset = columns["open_time"], get_offset(interval)
    bucket = (time - offset) // interval * interval + offset
    starts = np.flatnonzero(np.concatenate([[True], np.diff(bucket) > 0])[: len(time)])
    count = np.diff(np.append(starts, len(time)))
    joined: dict[str, NDArray[Any]] = {}
    for name, values in columns.items():
        if name in _JOINED:  # reduceat knows no empty run
            joined[name] = _JOINED[name].reduceat(values, starts) if len(starts) else values
        else:
            joined[name] = values[starts + count - 1] if name == "close" else values[starts]
    joined["open_time"] = bucket[starts]
    return joined, count
