"""Binance's public archive: candles, and what is known beside them."""

from btc_datamodule.sources.binance.source import BinanceArchive

__all__ = ["BinanceArchive"]
