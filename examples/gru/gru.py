"""A GRU that forecasts the return of the next hour.

btc-datamodule fit     --config examples/gru/gru.yaml
btc-datamodule predict --config examples/gru/gru.yaml --ckpt_path runs/gru/best.ckpt
btc-datamodule score   --config examples/gru/gru.yaml --forecasts runs/gru/forecasts.parquet

With ``--config examples/binance.yaml`` after the first, on hours of Binance.
"""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from btc_datamodule import Batch


class GRU(LightningModule):
    """One layer over the input bars; its last state says the target.

    Args:
        n_features: F, which the datamodule fills in.
        target_shape: likewise.
        hidden: units of the state.
        dropout: share of them that a training step leaves out.
        learning_rate: of AdamW.
    """

    def __init__(
        self,
        n_features: int,
        target_shape: tuple[int, ...],
        hidden: int = 32,
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.target_shape = tuple(target_shape)
        self.learning_rate = learning_rate
        self.gru = nn.GRU(n_features, hidden, batch_first=True)
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(hidden, torch.Size(self.target_shape).numel())
        )

    def forward(self, x: Tensor) -> Tensor:
        """Forecasts (B, *target_shape) for inputs (B, L, F)."""
        _, last = self.gru(x)
        forecast: Tensor = self.head(last[-1])
        return forecast.reshape(-1, *self.target_shape)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean squared error of a batch."""
        loss = nn.functional.mse_loss(self(batch.x), batch.y)
        self.log("train_loss", loss, batch_size=len(batch.x), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the same of validation."""
        loss = nn.functional.mse_loss(self(batch.x), batch.y)
        self.log("val_loss", loss, batch_size=len(batch.x), prog_bar=True, sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forecasts, with the times that identify them."""
        return {"origin_time": batch.origin_time, "forecast": self(batch.x)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
