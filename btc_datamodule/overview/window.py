"""``Window``: one sample taken apart: its bars, what a model is given, and what was known when."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.runs import Mask
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.features.joined import open_series
from btc_datamodule.features.table import Table
from btc_datamodule.overview.pyramid import PRICES
from btc_datamodule.stages import Stages
from btc_datamodule.windows.batch import Batch
from btc_datamodule.windows.dataset import WindowDataset

NEVER = -1
"""In the place of an instant: nothing was known."""


class Known(NamedTuple):
    """What was known of a series at the close of each input bar of a sample.

    Attributes:
        name: of the covariate.
        time: (L,) int64, epoch seconds, what the newest row is about; ``NEVER`` for none.
        known_at: (L,) int64, from when on it was known; ``NEVER`` for none.
        age: (L,) float64, seconds since then at the close; NaN for none.
    """

    name: str
    time: NDArray[np.int64]
    known_at: NDArray[np.int64]
    age: NDArray[np.float64]


class Window(NamedTuple):
    """A sample. L input bars, G bars of the gap, H target bars.

    Attributes:
        stage: to which it belongs.
        position: of it among the windows of the stage.
        origin_time: opening of the last input bar, epoch seconds.
        first: opening of the first bar.
        prices: (4, L + G + H) open, high, low and close; NaN where not known.
        x: (L, F) float32, as the model is given it.
        observed: (L, F) bool.
        y: float32 or int64, the target as the model is given it.
        truth: float64, the same in the unit of the target; NaN where not known.
        known: of each covariate that a feature sees.
        is_transformed: whether a transform of the user's has made x, observed and y.
    """

    stage: Stage
    position: int
    origin_time: int
    first: int
    prices: NDArray[np.float64]
    x: NDArray[np.float32]
    observed: Mask
    y: NDArray[np.floating | np.integer]
    truth: NDArray[np.float64]
    known: tuple[Known, ...]
    is_transformed: bool


def take_apart(
    stages: Stages,
    stage: Stage,
    position: int,
    transform: Callable[[Batch], Batch] | None = None,
) -> Window:
    """A sample and all that it is made of.

    Args:
        stages: of one fold.
        stage: which.
        position: of the sample among the windows of the stage, from 0.
        transform: of batches. What it makes of x is taken only if that has the same shape.

    Raises:
        IndexError: if there is no such window.
    """
    windows = stages.windows(stage)
    windows.ahead_bytes = 0  # of all rows one window is read
    batch, is_transformed = windows[[position]], False
    if transform is not None:
        plain = Batch(*(each.clone() for each in batch))
        made = transform(batch)
        is_transformed = _fits(made, plain)
        batch = made if is_transformed else plain
    x, y = batch.x[0].numpy(), batch.y[0].numpy()
    observed = np.broadcast_to(_widen(batch.observed[0].numpy(), x.ndim), x.shape)
    table, shape = stages.table, windows.shape
    row = int(windows.origins[np.array([position], dtype=np.int64)][0])
    low, high = row - shape.lookback + 1, row + shape.reach
    return Window(
        stage,
        position,
        table.find_time(row),
        table.find_time(low),
        _read_prices(table, low, high),
        x,
        observed,
        y,
        windows.compute_targets(np.array([row], dtype=np.int64))[0],
        _find_known(stages, low, row),
        is_transformed,
    )


def find_position(windows: WindowDataset, instant: int) -> int:
    """The position of the last window whose origin opens at an instant or before; or the first.

    Args:
        windows: of a stage that has some.
        instant: epoch seconds.
    """
    table, low, high = windows.table, 0, len(windows)
    while high - low > 1:
        middle = (low + high) // 2
        row = int(windows.origins[np.array([middle], dtype=np.int64)][0])
        low, high = (middle, high) if table.find_time(row) <= instant else (low, middle)
    return low


def _fits(made: object, plain: Batch) -> bool:
    """Whether what a transform made can be shown in the place of a batch."""
    return isinstance(made, Batch) and all(
        getattr(made, name).shape == getattr(plain, name).shape for name in ("x", "observed", "y")
    )


def _widen(observed: Mask, axes: int) -> Mask:
    return observed if observed.ndim == axes else observed[:, np.newaxis]


def _read_prices(table: Table, low: int, high: int) -> NDArray[np.float64]:
    """(4, high - low) prices of rows, NaN of those past the table."""
    prices = np.full((len(PRICES), high - low), np.nan)
    end = min(high, table.rows)
    for number, name in enumerate(PRICES):
        prices[number, : end - low] = table.read(name, slice(low, end))
    return prices


def _find_known(stages: Stages, low: int, row: int) -> tuple[Known, ...]:
    """What was known of each covariate at the closes of rows [low, row]."""
    beside, table = stages.settings.recipe.beside, stages.table
    if not beside:
        return ()
    closes = table.first + table.interval * np.arange(low + 1, row + 2, dtype=np.int64)
    found = []
    with open_series(beside, int(closes[-1])) as series:
        for name in series.clocks:
            joined = series.join(name, closes)
            time = np.where(joined.some, joined.rows.time, NEVER)
            known_at = np.where(joined.some, joined.rows.known_at, NEVER)
            found.append(Known(name, time, known_at, joined.age))
    return tuple(found)
