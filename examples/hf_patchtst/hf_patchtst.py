"""PatchTST of Hugging Face's transformers, made from a config: no hub is asked.

btc-datamodule fit     --config examples/hf_patchtst/hf_patchtst.yaml
btc-datamodule predict --config examples/hf_patchtst/hf_patchtst.yaml \
    --ckpt_path runs/hf_patchtst/best.ckpt
btc-datamodule score   --config examples/hf_patchtst/hf_patchtst.yaml \
    --forecasts runs/hf_patchtst/forecasts.parquet

It forecasts the path of its own inputs, so the only feature is what the target continues: the log
return, with both scaled by the datamodule. The model's own scaling is off: it would add 1e-5 to the
variance, a quarter to a half of what hourly returns have.
"""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from transformers import PatchTSTConfig, PatchTSTForPrediction

from btc_datamodule import Batch, to_hf


class HFPatchTST(LightningModule):
    """``PatchTSTForPrediction`` of random weights.

    Args:
        n_features: F, which the datamodule fills in, as it does the next two.
        lookback: L.
        horizon: H.
        patch: bars of a patch.
        width: of a token.
        depth: layers.
        dropout: share of units that a training step leaves out.
        learning_rate: of AdamW.
    """

    def __init__(
        self,
        n_features: int,
        lookback: int,
        horizon: int,
        patch: int = 12,
        width: int = 32,
        depth: int = 2,
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        config = PatchTSTConfig(
            num_input_channels=n_features,
            context_length=lookback,
            prediction_length=horizon,
            patch_length=patch,
            patch_stride=patch,
            d_model=width,
            num_attention_heads=4,
            num_hidden_layers=depth,
            ffn_dim=2 * width,
            ff_dropout=dropout,
            head_dropout=dropout,
            scaling=None,
        )
        self.model = PatchTSTForPrediction(config)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The model's own loss, a mean squared error."""
        loss: Tensor = self.model(**to_hf(batch)).loss
        self.log("train_loss", loss, batch_size=len(batch.x), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the same of validation."""
        loss = self.model(**to_hf(batch)).loss
        self.log("val_loss", loss, batch_size=len(batch.x), prog_bar=True, sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forecasts (B, H, 1), with the times that identify them."""
        inputs = to_hf(batch)
        said = self.model(inputs["past_values"], inputs["past_observed_mask"])
        return {"origin_time": batch.origin_time, "forecast": said.prediction_outputs}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
