"""Features: causal functions of bars, and the feature file that they are computed into."""

from btc_datamodule.features.builtin import FEATURES
from btc_datamodule.features.feature import Feature

__all__ = ["FEATURES", "Feature"]
