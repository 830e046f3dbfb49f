"""Candles that already lie in files."""

from btc_datamodule.sources.files.source import CandleFile

__all__ = ["CandleFile"]
