"""The real classes of transformers and chronos, at random weights, are fed by the adapters."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from btc_datamodule import (
    Batch,
    BTCDataModule,
    ClosePath,
    LogReturn,
    Simulator,
    StopCheckpoint,
    Target,
    to_chronos2,
    to_hf,
)
from tests.factories import make_datamodule, make_trainer

LOOKBACK, HORIZON, PATCH = 16, 4, 4


class Adapted(LightningModule):
    """A model of another library, trained by its own loss."""

    def __init__(self, model: torch.nn.Module, adapt: Callable[[Batch], dict[str, Any]]) -> None:
        super().__init__()
        self.model, self.adapt = model, adapt

    def forward(self, batch: Batch) -> Any:
        return self.model(**self.adapt(batch))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss: Tensor = self(batch).loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def make_patchtst(channels: int) -> Adapted:
    transformers = pytest.importorskip("transformers", reason="extra: examples")
    config = transformers.PatchTSTConfig(
        num_input_channels=channels,
        context_length=LOOKBACK,
        prediction_length=HORIZON,
        patch_length=PATCH,
        patch_stride=PATCH,
        d_model=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        ffn_dim=8,
        scaling="std",
    )
    torch.manual_seed(0)
    return Adapted(transformers.PatchTSTForPrediction(config), to_hf)


def make_mixer(channels: int) -> Adapted:
    transformers = pytest.importorskip("transformers", reason="extra: examples")
    config = transformers.PatchTSMixerConfig(
        num_input_channels=channels,
        context_length=LOOKBACK,
        prediction_length=HORIZON,
        patch_length=PATCH,
        patch_stride=PATCH,
        d_model=8,
        num_layers=1,
        dropout=0.0,  # Lightning keeps no state of random numbers
        head_dropout=0.0,
        scaling="std",
        prediction_channel_indices=[0],
    )

    def adapt(batch: Batch) -> dict[str, Tensor]:
        inputs = to_hf(batch, channels=[0])
        return inputs | {"observed_mask": inputs.pop("past_observed_mask")}

    torch.manual_seed(0)
    return Adapted(transformers.PatchTSMixerForPrediction(config), adapt)


def make_chronos2(channels: int) -> Adapted:
    chronos2 = pytest.importorskip("chronos.chronos2", reason="pip install chronos-forecasting")
    config = chronos2.config.Chronos2CoreConfig(
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        chronos_config={
            "context_length": 64,
            "input_patch_size": PATCH,
            "input_patch_stride": PATCH,
            "output_patch_size": PATCH,
            "quantiles": [0.1, 0.5, 0.9],
            "use_reg_token": True,
            "use_arcsinh": True,
            "max_output_patches": 4,
        },
    )
    torch.manual_seed(0)
    adapt = partial(to_chronos2, patch=PATCH, channels=[0])
    return Adapted(chronos2.Chronos2Model(config), adapt)


Make = Callable[[int], Adapted]

# Each with the features that it is fed, the first of which the target continues.
CASES: list[Any] = [
    pytest.param(make_patchtst, ["log_return"], LogReturn(), id="PatchTST"),
    pytest.param(make_mixer, ["log_return", "log_range"], LogReturn(), id="PatchTSMixer"),
    pytest.param(make_chronos2, ["price = close", "size = volume"], ClosePath(), id="Chronos-2"),
]


def make_data(folder: Path, features: list[str], target: Target) -> BTCDataModule:
    """Windows with holes, whose values are what they are."""
    return make_datamodule(
        folder,
        source=Simulator(seed=6, outages_per_year=300),
        features=features,
        scaling="none",
        target=target,
        lookback=LOOKBACK,
        horizon=HORIZON,
        min_observed=0.5,
        batch_size=64,
        mask="feature",
    )


def find_outputs(found: Any) -> Tensor:
    """What a model has forecast."""
    name = "quantile_preds" if "quantile_preds" in found else "prediction_outputs"
    outputs: Tensor = found[name]
    return outputs


def have_same_weights(one: LightningModule, other: LightningModule) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize(("make", "features", "target"), CASES)
def test_its_loss_is_a_number_and_a_step_changes_its_weights(
    make: Make, features: list[str], target: Target, tmp_path: Path
) -> None:
    model, dm = make(len(features)), make_data(tmp_path, features, target)
    batch = next(iter(dm.train_dataloader()))
    assert not batch.observed.all(), "a batch with holes"
    loss = model.training_step(batch, 0)
    assert torch.isfinite(loss)
    before = {name: value.clone() for name, value in model.named_parameters()}
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is None or each.grad.isfinite().all() for each in model.parameters())
    model.configure_optimizers().step()
    changed = [name for name, value in model.named_parameters() if not value.equal(before[name])]
    assert len(changed) > len(before) / 2


@pytest.mark.parametrize(("make", "features", "target"), CASES)
def test_what_was_not_observed_does_not_matter_to_it(
    make: Make, features: list[str], target: Target, tmp_path: Path
) -> None:
    model = make(len(features)).eval()
    batch = next(iter(make_data(tmp_path, features, target).train_dataloader()))
    wild = batch._replace(x=batch.x.masked_fill(~batch.observed, 1e9))
    with torch.no_grad():
        said, again = find_outputs(model(batch)), find_outputs(model(wild))
        moved = find_outputs(model(batch._replace(x=batch.x * 1.01 + batch.observed)))
    assert said.isfinite().all()
    assert said.equal(again)
    assert not said.equal(moved), "and what was observed does"


class Stops(Callback):
    """Tells the Trainer to stop after some steps, as a kill would."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.steps:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("make", "features", "target"), CASES)
def test_a_fit_that_was_killed_goes_on_bit_by_bit(
    make: Make, features: list[str], target: Target, tmp_path: Path
) -> None:
    fit = partial(make_trainer, max_epochs=2, num_sanity_val_steps=0, limit_val_batches=0)

    def run(*callbacks: Callback, resume: Path | None = None) -> Adapted:
        model, dm = make(len(features)), make_data(tmp_path, features, target)
        fit(tmp_path, *callbacks).fit(model, datamodule=dm, ckpt_path=resume)
        return model

    whole = run()
    with pytest.raises(SystemExit):
        run(Stops(3), StopCheckpoint(str(tmp_path / "kept")))
    (kept,) = (tmp_path / "kept").glob("*.ckpt")
    assert have_same_weights(run(resume=kept), whole)
