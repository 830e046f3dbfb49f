"""Fracast, a foundation model whose weights come in its wheel, zero-shot on prices.

btc-datamodule predict --config examples/foundation/foundation.yaml
btc-datamodule score   --config examples/foundation/foundation.yaml \
    --forecasts foundation.h5 --quantiles 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9

Nothing is trained. The model scales each window itself, so it is given the closes as they are:
``features: ["price = close"]``, ``scaling: none``, and ``ClosePath`` as what is scored. Another
model of that kind takes the place of two lines.
"""

import torch
from fracast import FracastModel
from lightning.pytorch import LightningModule
from torch import Tensor

from btc_datamodule import Batch


class Foundation(LightningModule):
    """Quantiles of the next closes, each window by itself; for ``predict`` alone.

    Args:
        horizon: H, which the datamodule fills in.
    """

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.horizon = horizon
        self.model = FracastModel.from_pretrained()

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """(B, H, 1, 9): the deciles of each close, with the times that identify them."""
        observed = batch.observed.reshape(len(batch.x), -1)
        prices = batch.x[..., 0].masked_fill(~observed, torch.nan)
        deciles = self.model.forecast_batch(prices.float().cpu().numpy(), horizon=self.horizon)
        forecast = torch.from_numpy(deciles).float().sort(dim=-1).values
        return {"origin_time": batch.origin_time, "forecast": forecast.unsqueeze(2)}
