"""Candles and time: what a bar is, the time axis, and runs of rows."""

from btc_datamodule.candles.series import Candles

__all__ = ["Candles"]
