"""A small Transformer over patches of bars that forecasts the volatility of the next day.

btc-datamodule fit     --config examples/patch_transformer/patch_transformer.yaml
btc-datamodule predict --config examples/patch_transformer/patch_transformer.yaml \
    --ckpt_path runs/patch_transformer/best.ckpt
btc-datamodule score   --config examples/patch_transformer/patch_transformer.yaml \
    --forecasts runs/patch_transformer/forecasts.parquet

Patches as in PatchTST (Nie et al., 2023), but of all features together. The loss is QLIKE
(Patton, 2011), by which ``score`` compares volatilities too.
"""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from btc_datamodule import Batch

TYPICAL = 0.02
"""Of a day's volatility: where an untrained model begins."""


class PatchTransformer(LightningModule):
    """Each patch is a token; the mean of what comes out of the encoder says the logarithm.

    The features of the last bar go past the encoder too: a regression on the volatility of a day
    and a week, which is hard to beat, is there from the start.

    Args:
        n_features: F, which the datamodule fills in.
        lookback: L, likewise; a whole number of patches.
        patch: bars of a patch.
        width: of a token.
        depth: layers of the encoder.
        dropout: share of units that a training step leaves out.
        learning_rate: of AdamW.
    """

    def __init__(
        self,
        n_features: int,
        lookback: int,
        patch: int = 12,
        width: int = 32,
        depth: int = 2,
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.embed = nn.Linear(patch * n_features, width)
        self.position = nn.Parameter(0.02 * torch.randn(lookback // patch, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, 1)
        self.past = nn.Linear(n_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Volatilities (B, 1) for inputs (B, L, F)."""
        tokens = self.embed(x.reshape(len(x), len(self.position), -1)) + self.position
        logarithm: Tensor = self.head(self.encoder(tokens).mean(dim=1)) + self.past(x[:, -1])
        return TYPICAL * logarithm.exp()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """QLIKE of a batch."""
        loss = compute_qlike(self(batch.x), batch.y)
        self.log("train_loss", loss, batch_size=len(batch.x), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the same of validation."""
        loss = compute_qlike(self(batch.x), batch.y)
        self.log("val_loss", loss, batch_size=len(batch.x), prog_bar=True, sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forecasts, with the times that identify them."""
        return {"origin_time": batch.origin_time, "forecast": self(batch.x)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)


def compute_qlike(forecast: Tensor, y: Tensor) -> Tensor:
    """The mean of h/f - ln(h/f) - 1, of variances."""
    ratio = (y / forecast).square().clamp_min(1e-12)
    return (ratio - ratio.log() - 1).mean()
