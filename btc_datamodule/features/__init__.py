"""Features: causal functions of bars, and the feature file that they are computed into."""

from btc_datamodule.features.feature import FEATURES, Feature

__all__ = ["FEATURES", "Feature"]
