"""What forecasts are made by, so that those of two models, or of other data, never mix."""

import hashlib
import json
from typing import Any

import torch
from lightning.pytorch import LightningModule

from btc_datamodule.candles.timeline import format_interval
from btc_datamodule.datamodule import BTCDataModule


def describe_maker(dm: BTCDataModule, model: LightningModule) -> dict[str, str]:
    """The interval, the series, the settings and the weights that forecasts come of, as texts."""
    settings = dm.settings
    kept = json.dumps([settings.comparable, dm.state_dict()], sort_keys=True, default=str)
    return {
        "interval": format_interval(settings.interval),
        "series": f"{settings.source.name} {settings.source.series}",
        "model": f"{type(model).__name__} {_hash_weights(model)}",
        "data settings": hashlib.sha256(kept.encode()).hexdigest()[:16],
    }


def _hash_weights(model: LightningModule) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {_describe(value)}".encode())
        if isinstance(value, torch.Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return type(value).__name__
