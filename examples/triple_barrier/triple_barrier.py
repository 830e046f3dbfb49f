"""Which barrier the price reaches first, as classes with weights.

btc-datamodule fit     --config examples/triple_barrier/triple_barrier.yaml
btc-datamodule predict --config examples/triple_barrier/triple_barrier.yaml \
    --ckpt_path runs/triple_barrier/best.ckpt
btc-datamodule score   --config examples/triple_barrier/triple_barrier.yaml \
    --forecasts runs/triple_barrier/forecasts.parquet

Classes that are rare in train weigh more, by ``dm.class_weights``. That costs accuracy, which
rewards who always says the most frequent class, and is for ``balanced_accuracy``.
"""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from btc_datamodule import Batch


class BarrierClassifier(LightningModule):
    """Convolutions over time, then the mean.

    Args:
        n_features: F, which the datamodule fills in.
        n_classes: C, likewise.
        width: channels of a convolution.
        dropout: share of units that a training step leaves out.
        learning_rate: of AdamW.
    """

    weights: Tensor

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        width: int = 32,
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.register_buffer("weights", torch.ones(n_classes))
        self.net = nn.Sequential(
            nn.Conv1d(n_features, width, kernel_size=5, stride=2),
            nn.GELU(),
            nn.Conv1d(width, width, kernel_size=5, stride=2),
            nn.GELU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(width, n_classes),
        )

    def setup(self, stage: str) -> None:
        """Take the weights of the classes from train; a checkpoint has them."""
        if stage == "fit":
            self.weights.copy_(self.trainer.datamodule.class_weights)  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) for inputs (B, L, F)."""
        logits: Tensor = self.net(x.transpose(1, 2))
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted cross entropy of a batch."""
        loss = nn.functional.cross_entropy(self(batch.x), batch.y, self.weights)
        self.log("train_loss", loss, batch_size=len(batch.x), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the same of validation."""
        loss = nn.functional.cross_entropy(self(batch.x), batch.y, self.weights)
        self.log("val_loss", loss, batch_size=len(batch.x), prog_bar=True, sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """How likely each class is, (B, C), with the times that identify the samples."""
        return {"origin_time": batch.origin_time, "forecast": self(batch.x).softmax(dim=1)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
