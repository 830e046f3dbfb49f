"""``DummyModule``: the smallest model that runs through every loader."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from btc_datamodule.public import public
from btc_datamodule.windows.dataset import Batch


@public
class DummyModule(LightningModule):
    """One linear layer from the inputs to the target. For trying things out, not for profit.

    Args:
        n_features: F of the inputs.
        lookback: L, input bars.
        horizon: H, target bars.
        target_shape: shape of one target; by default (H, 1), the path of log returns.
        learning_rate: of plain SGD.
    """

    def __init__(
        self,
        n_features: int,
        lookback: int,
        horizon: int,
        target_shape: list[int] | tuple[int, ...] | None = None,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.target_shape = tuple(target_shape or (horizon, 1))
        outputs = int(torch.Size(self.target_shape).numel())
        self.linear = nn.Linear(lookback * n_features, outputs)
        self.learning_rate = learning_rate

    def forward(self, x: Tensor) -> Tensor:
        """Forecasts (B, *target_shape) for inputs x (B, L, F)."""
        forecast: Tensor = self.linear(x.flatten(1))
        return forecast.reshape(-1, *self.target_shape)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean squared error of a batch."""
        return self._log_loss("train", batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the mean squared error of a batch."""
        self._log_loss("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the mean squared error of a batch."""
        self._log_loss("test", batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forecasts of a batch with the times that identify them."""
        return {"origin_time": batch.origin_time, "forecast": self(batch.x)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)

    def _log_loss(self, stage: str, batch: Batch) -> Tensor:
        loss = nn.functional.mse_loss(self(batch.x), batch.y)
        self.log(f"{stage}_loss", loss, batch_size=len(batch.x), prog_bar=True)
        return loss
