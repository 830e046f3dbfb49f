"""Windows: batches gathered from the feature file, in an order that a seed decides."""

from btc_datamodule.windows.batch import Batch
from btc_datamodule.windows.dataset import WindowDataset

__all__ = ["Batch", "WindowDataset"]
