"""Quantiles of the return of the next day, by the pinball loss.

btc-datamodule fit     --config examples/quantiles/quantiles.yaml
btc-datamodule predict --config examples/quantiles/quantiles.yaml \
    --ckpt_path runs/quantiles/best.ckpt
btc-datamodule score   --config examples/quantiles/quantiles.yaml \
    --forecasts runs/quantiles/forecasts.h5 --quantiles 0.05 0.25 0.5 0.75 0.95

``score`` says how often what came lay within the interval that should hold it, beside quantiles of
train alone and of train times the volatility of the moment.
"""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from btc_datamodule import Batch


class Quantiles(LightningModule):
    """A perceptron over the whole window. Its quantiles cannot cross: each adds to the one before.

    Args:
        n_features: F, which the datamodule fills in, as it does the next two.
        lookback: L.
        target_shape: of one target.
        levels: of the quantiles, rising.
        hidden: units of each of two layers.
        dropout: share of them that a training step leaves out.
        learning_rate: of AdamW.
    """

    levels: Tensor

    def __init__(
        self,
        n_features: int,
        lookback: int,
        target_shape: tuple[int, ...],
        levels: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95),
        hidden: int = 64,
        dropout: float = 0.2,
        learning_rate: float = 3e-4,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.target_shape, self.learning_rate = tuple(target_shape), learning_rate
        self.register_buffer("levels", torch.tensor(levels))
        self.net = nn.Sequential(
            nn.Flatten(),
            nn.Linear(lookback * n_features, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, torch.Size(self.target_shape).numel() * len(levels)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, *target_shape, q) for inputs (B, L, F)."""
        said = self.net(x).reshape(-1, *self.target_shape, len(self.levels))
        steps = nn.functional.softplus(said[..., 1:])
        return torch.cat([said[..., :1], steps], dim=-1).cumsum(dim=-1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The pinball loss of a batch."""
        loss = compute_pinball(self(batch.x), batch.y, self.levels)
        self.log("train_loss", loss, batch_size=len(batch.x), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the same of validation."""
        loss = compute_pinball(self(batch.x), batch.y, self.levels)
        self.log("val_loss", loss, batch_size=len(batch.x), prog_bar=True, sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Quantiles, with the times that identify them."""
        return {"origin_time": batch.origin_time, "forecast": self(batch.x)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)


def compute_pinball(forecast: Tensor, y: Tensor, levels: Tensor) -> Tensor:
    """The mean over samples and levels (Koenker & Bassett, 1978)."""
    above = y.unsqueeze(-1) - forecast
    return torch.maximum(levels * above, (levels - 1) * above).mean()
