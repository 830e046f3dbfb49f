"""Any exchange that the library ``ccxt`` knows."""

from btc_datamodule.sources.ccxt.source import Ccxt

__all__ = ["Ccxt"]
