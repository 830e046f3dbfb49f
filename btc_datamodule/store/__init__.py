"""The candle file: its layout, how it is brought up to date, and how it is given away."""

from btc_datamodule.store.candle_file import read_candles

__all__ = ["read_candles"]
