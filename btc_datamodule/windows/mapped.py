"""The rows that the windows of a stage are made of, as one process maps them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.evaluation.origins import Origins, SampleShape
from btc_datamodule.evaluation.scaling import Scaler
from btc_datamodule.evaluation.targets import Target
from btc_datamodule.features.checking import Unread
from btc_datamodule.features.table import Table
from btc_datamodule.windows.overlapping import Overlapping, view_items


class Windows(Protocol):
    """What of a ``WindowDataset`` says which rows its windows are made of."""

    table: Table
    origins: Origins
    shape: SampleShape
    target: Target
    scaler: Scaler
    complete: bool
    ahead_bytes: int

    def scale_rows(self, low: int, high: int) -> NDArray[np.float32]:
        """Rows [low, high) of ``x`` scaled."""


class Mapped(NamedTuple):
    """Views of the rows with one item for each window, in one process."""

    x: Overlapping  # windows of L * F float32
    first: int  # the row of the table that ``x`` begins at
    scaled: bool  # whether ``x`` is
    observed: Overlapping  # of L uint8, or L * F
    bars: tuple[NDArray[Any], ...]  # of each column of the target, an item for each origin
    beyond: bool  # whether a target may need bars that the table does not have
    inputs: Unread  # what of the rows behind ``x`` and ``observed`` is still to be checked
    outputs: Unread  # of those behind ``bars``


def map_rows(windows: Windows) -> Mapped:
    """Map the rows of a dataset; where they are few enough, scale them and check them all."""
    table, shape, names = windows.table, windows.shape, windows.target.columns
    low, high = windows.origins.span
    low -= shape.lookback - 1
    fits = (high - low) * table.map("x").strides[0] <= windows.ahead_bytes
    ahead = fits and windows.scaler.method != "window"
    x = windows.scale_rows(low, high) if ahead else table.map("x")
    length = shape.reference_bars + shape.horizon
    first, last = windows.origins.span[0] + shape.reach - length, windows.origins.span[1] - 1
    read = () if windows.complete else ("observed",)
    mapped = Mapped(
        x=Overlapping(x, shape.lookback),
        first=low if ahead else 0,
        scaled=ahead,
        observed=Overlapping(table.map("observed"), shape.lookback),
        bars=tuple(view_items(table.map(name), length) for name in names),
        beyond=first < 0 or last + shape.reach > table.rows,
        inputs=_watch(windows, read if ahead else ("x", *read), 1 - shape.lookback, 1),
        outputs=_watch(windows, names, shape.reach - length, shape.reach),
    )
    if fits:
        mapped.inputs.check_all()
        mapped.outputs.check_all()
    return mapped


def _watch(windows: Windows, names: Sequence[str], back: int, reach: int) -> Unread:
    """What is still to be checked of arrays in rows from ``back`` to ``reach`` of origins."""
    return windows.table.watch(names, windows.origins.runs + np.array([back, reach - 1]))
