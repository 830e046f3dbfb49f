"""Windows: batches gathered from the feature file, in an order that a seed decides."""

from btc_datamodule.windows.dataset import Batch, WindowDataset

__all__ = ["Batch", "WindowDataset"]
