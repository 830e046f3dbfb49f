"""When bars open: what a time in a file is to its bar."""

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.sources.files.naming import Roles, Stamp
from btc_datamodule.sources.files.times import MICRO, Times


def find_spacing(times: Times) -> int:
    """Seconds between most bars, of two as frequent ones the more; 0 where there are none two."""
    steps = np.diff(np.sort(times.micros[times.known]))  # np.unique takes ten times as long
    steps = steps[steps > 0]
    if not len(steps):
        return 0
    lengths, counts = np.unique(steps, return_counts=True)
    return int(lengths[counts == counts.max()][-1] // MICRO)


def find_openings(
    times: Times, roles: Roles, said: Stamp | None, spacing: int, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """When bars open, in microseconds since 1970, of times that may be those of their close."""
    micros = times.micros
    length = spacing * MICRO
    short = length - micros[times.known] % length  # of the next bar
    limit = 120 * MICRO if spacing >= 3600 else MICRO
    # A moment before the next bar, each time the same: nobody would open a bar then.
    ends = (
        len(short) > 1 and spacing >= 60 and bool(np.ptp(short) < MICRO and (short <= limit).all())
    )
    stamp = said or roles.stamp or ("close" if ends else "open")
    if stamp == "open":
        return micros, ()
    closes = -(-micros // length) * spacing if ends else -(-micros // MICRO)
    note = (
        f"{where}: times are those at which bars close, so each opens {spacing} seconds before "
        "(`stamp: open` if they open then)"
    )
    return (closes - spacing) * MICRO, () if said else (note,)
