"""Binance's public archive of klines."""

from btc_datamodule.sources.binance.source import BinanceArchive

__all__ = ["BinanceArchive"]
