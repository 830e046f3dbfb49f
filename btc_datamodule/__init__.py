"""Bitcoin candles as training windows that never show the future.

Names are imported when they are first used, so that ``import btc_datamodule`` costs next to
nothing.
"""

from importlib import import_module
from sys import modules
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from btc_datamodule.candles.records import RecordSet
    from btc_datamodule.candles.series import Candles
    from btc_datamodule.datamodule import BTCDataModule
    from btc_datamodule.errors import (
        BTCDataError,
        CandleError,
        ConfigError,
        LookAheadError,
        NotPreparedError,
        RecordError,
        SourceError,
        StoreError,
    )
    from btc_datamodule.evaluation.splits import (
        CombinatorialPurged,
        DateSplit,
        Fold,
        FractionSplit,
        Split,
        WalkForward,
    )
    from btc_datamodule.evaluation.targets import (
        ClosePath,
        CumulativeReturn,
        Direction,
        LogReturn,
        OHLCPath,
        RealisedVolatility,
        Target,
        TripleBarrier,
    )
    from btc_datamodule.features.builtin import FEATURES
    from btc_datamodule.features.feature import Feature
    from btc_datamodule.folds.results import FoldRuns
    from btc_datamodule.folds.run import run_folds
    from btc_datamodule.live.clock import Clock
    from btc_datamodule.live.follow import follow
    from btc_datamodule.live.forecast import Forecast
    from btc_datamodule.scoring.card import ScoreCard
    from btc_datamodule.sources.base import Block, Source
    from btc_datamodule.sources.binance.funding import BinanceFunding
    from btc_datamodule.sources.binance.kline_kinds import BinanceKlines
    from btc_datamodule.sources.binance.metrics import BinanceMetrics
    from btc_datamodule.sources.binance.source import BinanceArchive
    from btc_datamodule.sources.ccxt.source import Ccxt
    from btc_datamodule.sources.coinbase import Coinbase
    from btc_datamodule.sources.files.frame import CandleFrame
    from btc_datamodule.sources.files.records import Records
    from btc_datamodule.sources.files.source import CandleFile
    from btc_datamodule.sources.records import RecordBlock, RecordSource
    from btc_datamodule.sources.resampled import Resampled
    from btc_datamodule.sources.simulated import (
        SimulatedFunding,
        SimulatedOpenInterest,
        SimulatedPremium,
    )
    from btc_datamodule.sources.simulator import Simulator
    from btc_datamodule.store.candle_file import read_candles
    from btc_datamodule.training.dummy import DummyModule
    from btc_datamodule.training.predictions import PredictionWriter
    from btc_datamodule.training.stop_checkpoint import StopCheckpoint
    from btc_datamodule.windows.adapters import to_chronos2, to_hf
    from btc_datamodule.windows.arrays import Arrays
    from btc_datamodule.windows.batch import Batch
    from btc_datamodule.windows.dataset import WindowDataset

_MODULES = {
    "candles.records": ("RecordSet",),
    "candles.series": ("Candles",),
    "datamodule": ("BTCDataModule",),
    "training.dummy": ("DummyModule",),
    "errors": (
        "BTCDataError",
        "CandleError",
        "ConfigError",
        "LookAheadError",
        "NotPreparedError",
        "RecordError",
        "SourceError",
        "StoreError",
    ),
    "features.builtin": ("FEATURES",),
    "features.feature": ("Feature",),
    "training.predictions": ("PredictionWriter",),
    "folds.results": ("FoldRuns",),
    "folds.run": ("run_folds",),
    "live.clock": ("Clock",),
    "live.follow": ("follow",),
    "live.forecast": ("Forecast",),
    "scoring.card": ("ScoreCard",),
    "sources.base": ("Block", "Source"),
    "sources.binance.funding": ("BinanceFunding",),
    "sources.binance.kline_kinds": ("BinanceKlines",),
    "sources.binance.metrics": ("BinanceMetrics",),
    "sources.binance.source": ("BinanceArchive",),
    "sources.ccxt.source": ("Ccxt",),
    "sources.coinbase": ("Coinbase",),
    "sources.files.frame": ("CandleFrame",),
    "sources.files.records": ("Records",),
    "sources.files.source": ("CandleFile",),
    "sources.records": ("RecordBlock", "RecordSource"),
    "sources.resampled": ("Resampled",),
    "sources.simulated": ("SimulatedFunding", "SimulatedOpenInterest", "SimulatedPremium"),
    "sources.simulator": ("Simulator",),
    "evaluation.splits": (
        "CombinatorialPurged",
        "DateSplit",
        "Fold",
        "FractionSplit",
        "Split",
        "WalkForward",
    ),
    "training.stop_checkpoint": ("StopCheckpoint",),
    "store.candle_file": ("read_candles",),
    "evaluation.targets": (
        "ClosePath",
        "CumulativeReturn",
        "Direction",
        "LogReturn",
        "OHLCPath",
        "RealisedVolatility",
        "Target",
        "TripleBarrier",
    ),
    "windows.adapters": ("to_chronos2", "to_hf"),
    "windows.arrays": ("Arrays",),
    "windows.dataset": ("Batch", "WindowDataset"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [  # noqa: RUF022  # in the order of the way of the data
    "BTCDataModule",
    "DummyModule",
    "Source",
    "Simulator",
    "Coinbase",
    "BinanceArchive",
    "Ccxt",
    "CandleFile",
    "CandleFrame",
    "Resampled",
    "Records",
    "RecordSource",
    "SimulatedFunding",
    "SimulatedOpenInterest",
    "SimulatedPremium",
    "BinanceFunding",
    "BinanceMetrics",
    "BinanceKlines",
    "Block",
    "RecordBlock",
    "Candles",
    "read_candles",
    "RecordSet",
    "FEATURES",
    "Feature",
    "Split",
    "Fold",
    "FractionSplit",
    "DateSplit",
    "WalkForward",
    "CombinatorialPurged",
    "Target",
    "LogReturn",
    "CumulativeReturn",
    "OHLCPath",
    "ClosePath",
    "Direction",
    "TripleBarrier",
    "RealisedVolatility",
    "Batch",
    "WindowDataset",
    "Arrays",
    "to_hf",
    "to_chronos2",
    "PredictionWriter",
    "ScoreCard",
    "run_folds",
    "FoldRuns",
    "follow",
    "Forecast",
    "Clock",
    "StopCheckpoint",
    "BTCDataError",
    "CandleError",
    "ConfigError",
    "LookAheadError",
    "NotPreparedError",
    "RecordError",
    "SourceError",
    "StoreError",
]


class _MovedModule(ModuleType):
    """A module of version 0.1 that is no more: its public names, for what names them by it."""

    def __getattr__(self, name: str) -> Any:
        if name in _HOME:
            return __getattr__(name)
        raise AttributeError(
            f"module {self.__name__!r} of version 0.1 is no more, and {name!r} is not public: "
            "docs/architecture.md says where things lie"
        )


for _name in ("dummy", "predictions", "splits", "stopping", "targets"):
    modules.setdefault(f"{__name__}.{_name}", _MovedModule(f"{__name__}.{_name}"))


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("btc-datamodule")
    if name not in _HOME:
        raise AttributeError(f"module 'btc_datamodule' has no attribute {name!r}")
    return getattr(import_module(f"btc_datamodule.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
