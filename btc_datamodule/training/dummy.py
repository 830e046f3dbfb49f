"""``DummyModule``: the smallest model that runs through every loader."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public
from btc_datamodule.windows.batch import Batch


@public
class DummyModule(LightningModule):
    """One linear layer from the inputs to the target. For trying things out, not for profit.

    Logs ``train_loss`` of each step, and ``val_loss`` and ``test_loss`` of each epoch: mean squared
    errors, or with ``n_classes`` cross entropies, over the windows of all ranks, however these
    share them. The latter two are there from ``on_validation_end`` and ``on_test_end`` of callbacks
    on.

    Args:
        n_features: F of the inputs.
        lookback: L, input bars.
        horizon: H, target bars.
        target_shape: shape of one target; by default (H, 1), the path of log returns.
        learning_rate: of plain SGD.
        n_classes: C, of a target of classes, whose forecasts are logits (B, C, *target_shape);
            None for any other.
    """

    def __init__(
        self,
        n_features: int,
        lookback: int,
        horizon: int,
        target_shape: list[int] | tuple[int, ...] | None = None,
        learning_rate: float = 1e-3,
        n_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.target_shape = (horizon, 1) if target_shape is None else tuple(target_shape)
        self.n_classes = n_classes
        self._output_shape = (*([] if n_classes is None else [n_classes]), *self.target_shape)
        outputs = int(torch.Size(self._output_shape).numel())
        self.linear = nn.Linear(lookback * n_features, outputs)
        self.learning_rate = learning_rate
        self._forget_errors()

    def forward(self, x: Tensor) -> Tensor:
        """Forecasts (B, *target_shape), or logits of classes, for inputs x (B, L, F)."""
        weight = self.linear.weight  # of torch's default dtype, which need not be float32
        forecast: Tensor = self.linear(x.flatten(1).to(weight.dtype))
        return forecast.reshape(-1, *self._output_shape)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean error of a batch; log that of all ranks, whose batches are as long."""
        loss = self._measure(self(batch.x), batch.y, "mean")
        self.log("train_loss", loss, batch_size=len(batch.x), prog_bar=True, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget what a sanity check, or an epoch that was cut short, has added up."""
        self._forget_errors()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the errors of a batch."""
        self._add_errors(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the mean error of all windows."""
        self._log_mean_error("val")

    def on_test_epoch_start(self) -> None:
        """Forget what an epoch that was cut short has added up."""
        self._forget_errors()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the errors of a batch."""
        self._add_errors(batch)

    def on_test_epoch_end(self) -> None:
        """Log the mean error of all windows."""
        self._log_mean_error("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forecasts of a batch with the times that identify them.

        Of classes ``forecast`` is the likeliest one, (B, *target_shape) int64, and ``probability``
        has those of all: (B, C, *target_shape).
        """
        forecast = self(batch.x)
        if self.n_classes is None:
            return {"origin_time": batch.origin_time, "forecast": forecast}
        return {
            "origin_time": batch.origin_time,
            "forecast": forecast.argmax(dim=1),
            "probability": forecast.softmax(dim=1),
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)

    def _measure(self, forecast: Tensor, y: Tensor, reduction: str) -> Tensor:
        """The errors of forecasts, added up or their mean.

        Raises:
            ConfigError: if the targets are classes and ``n_classes`` was not given, or not so.
        """
        if (self.n_classes is None) == (y.dtype == torch.int64):
            raise ConfigError(
                f"y is {y.dtype} and DummyModule was made with n_classes {self.n_classes}: give it "
                "`n_classes=dm.n_classes`"
            )
        if self.n_classes is None:
            return nn.functional.mse_loss(forecast, y, reduction=reduction)
        return nn.functional.cross_entropy(forecast, y, reduction=reduction)

    def _forget_errors(self) -> None:
        on_mps = self.device.type == "mps"  # which has no float64
        where = torch.device("cpu") if on_mps else self.device
        self._errors = torch.zeros((), dtype=torch.float64, device=where)  # in no state_dict
        self._values = 0

    def _add_errors(self, batch: Batch) -> None:
        forecast, y = (each.to(self._errors.device) for each in (self(batch.x).detach(), batch.y))
        y = y.double() if y.is_floating_point() else y
        self._errors = self._errors + self._measure(forecast.double(), y, "sum")
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
