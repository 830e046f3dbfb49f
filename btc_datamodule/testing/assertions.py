"""Assertions about features and datamodules, for any test runner."""

import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from btc_datamodule.candles.series import Candles, concatenate
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.errors import LookAheadError
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.causality import check_every_row
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.grid import Grid
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import CandleReader, write_series

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule

HOUR = 3600
SIMULATED_BARS = 2000


def assert_causal(
    feature: Feature | str, candles: Candles | None = None, *, max_fill: int = 3
) -> None:
    """Fail unless a feature reads nothing but the bars of its lookback.

    Every row is computed again with all other bars changed, before and after.

    Args:
        feature: a ``Feature``, the name of a built-in one, or ``"name = expression"``.
        candles: what the feature is computed from; None for 2,000 simulated hours, with bars
            without trades and outages. A feature that peeks only at certain events needs candles
            that have such events.
        max_fill: longest hole, in bars, that is filled as time without trades.

    Raises:
        AssertionError: naming the feature, the time of a row where it peeks, and how much of its
            value comes from bars that it must not read.
        ConfigError: if the feature fails, or gives no numbers.
    """
    series = simulate_candles() if candles is None else candles
    try:
        (resolved,) = resolve([feature])
        with TemporaryDirectory() as folder:
            path = Path(folder) / "candles.h5"
            write_series(path, series, source="test", series="test")
            with CandleReader(path) as reader:
                grid = Grid.of(reader, series.span, max_fill)
                bars = grid.read_bars(reader, 0, grid.rows)
        check_every_row(resolved, grid.times(0, grid.rows), bars)
    except LookAheadError as error:
        raise AssertionError(str(error)) from None


def assert_no_leakage(dm: "BTCDataModule") -> None:
    """Fail unless the audit of a datamodule passes; see ``BTCDataModule.audit``.

    Calls ``prepare_data`` if there are no candles yet, so that a datamodule on a source of yours
    can be given as it is.

    Warns with the report where a guarantee could not be checked.

    Raises:
        AssertionError: with the report of the audit.
    """
    if not dm.candle_path.exists():
        with suppress(LookAheadError):  # the audit reports it
            dm.prepare_data()
    found = dm.audit()
    if not found.passed:
        raise AssertionError(str(found))
    if found.unchecked:
        warnings.warn(f"not all could be checked:\n{found}", stacklevel=2)


def simulate_candles() -> Candles:
    """2,000 hours of candles with every column, some hours without trades and some outages."""
    start = parse_instant("2021-01-01")
    source = Simulator(seed=1, no_trade=0.02, outages_per_year=60)
    blocks = source.blocks(HOUR, (start, start + SIMULATED_BARS * HOUR))
    return concatenate([block.candles for block in blocks])
