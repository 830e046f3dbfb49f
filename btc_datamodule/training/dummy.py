"""``DummyModule``: the smallest model that runs through every loader."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from btc_datamodule.public import public
from btc_datamodule.windows.dataset import Batch


@public
class DummyModule(LightningModule):
    """One linear layer from the inputs to the target. For trying things out, not for profit.

    Logs ``train_loss`` of each step, and ``val_loss`` and ``test_loss`` of each epoch: mean squared
    errors over the windows of all ranks, however these share them. The latter two are there from
    ``on_validation_end`` and ``on_test_end`` of callbacks on.

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
        self._forget_errors()

    def forward(self, x: Tensor) -> Tensor:
        """Forecasts (B, *target_shape) for inputs x (B, L, F)."""
        weight = self.linear.weight  # of torch's default dtype, which need not be float32
        forecast: Tensor = self.linear(x.flatten(1).to(weight.dtype))
        return forecast.reshape(-1, *self.target_shape)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean squared error of a batch; log that of all ranks, whose batches are as long."""
        loss = nn.functional.mse_loss(self(batch.x), batch.y)
        self.log("train_loss", loss, batch_size=len(batch.x), prog_bar=True, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget what a sanity check, or an epoch that was cut short, has added up."""
        self._forget_errors()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the squared errors of a batch."""
        self._add_errors(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the mean squared error of all windows."""
        self._log_mean_error("val")

    def on_test_epoch_start(self) -> None:
        """Forget what an epoch that was cut short has added up."""
        self._forget_errors()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the squared errors of a batch."""
        self._add_errors(batch)

    def on_test_epoch_end(self) -> None:
        """Log the mean squared error of all windows."""
        self._log_mean_error("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forecasts of a batch with the times that identify them."""
        return {"origin_time": batch.origin_time, "forecast": self(batch.x)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)

    def _forget_errors(self) -> None:
        on_mps = self.device.type == "mps"  # which has no float64
        where = torch.device("cpu") if on_mps else self.device
        self._errors = torch.zeros((), dtype=torch.float64, device=where)  # in no state_dict
        self._values = 0

    def _add_errors(self, batch: Batch) -> None:
        forecast, y = (
            each.to(self._errors.device).double() for each in (self(batch.x).detach(), batch.y)
        )
        self._errors = self._errors + nn.functional.mse_loss(forecast, y, reduction="sum")
        self._values += y.numel()

    def _log_mean_error(self, stage: str) -> None:
        """Log the mean of what all ranks have added up; nothing if that is nothing.

        Each rank logs its share, and Lightning adds the shares up. Were each to log its own mean,
        Lightning would weight it by a number of windows that it averages over ranks and rounds
        down (issue 21859). Runs on ranks without a batch too: none waits for another.
        """
        mine = torch.tensor(self._values, device=self.device)
        values = int(self.trainer.strategy.reduce(mine, reduce_op="sum"))
        if values:
            share = self._errors / values
            self.log(f"{stage}_loss", share, reduce_fx="sum", sync_dist=True, prog_bar=True)
