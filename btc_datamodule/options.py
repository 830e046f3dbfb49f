"""Arguments of a datamodule beside ``settings``: checked, doubted, and as plain values.

What a loader is made with may change later; here it is checked as it was given. What of all
arguments will not do as it says is told, and what a checkpoint is to keep is put in plain values.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch

from btc_datamodule.checks import check_choice, check_whole_number
from btc_datamodule.errors import ConfigError
from btc_datamodule.plain import UNKNOWN, to_plain, to_plain_function
from btc_datamodule.settings import KINDS, Settings
from btc_datamodule.sources.resampled import Resampled

DType = Literal["float32", "bfloat16"]
"""The type of ``x``."""

DTYPES: dict[DType, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The types that ``x`` may have, by the name of ``dtype``."""


def check_options(given: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for the first argument of the loaders that is wrong on the face of it.

    Args:
        given: the arguments of a ``BTCDataModule``, by name.
    """
    check_whole_number("batch_size", given["batch_size"], 1)
    check_whole_number("num_workers", given["num_workers"], 0)
    check_whole_number("seed", given["seed"])
    check_choice("shuffle", given["shuffle"], ("full", "block", "none"))
    check_choice("gather", given["gather"], ("host", "device"))
    check_choice("dtype", given["dtype"], tuple(DTYPES))
    transform = given["transform"]
    if transform is not None and not callable(transform):
        raise ConfigError(
            f"transform is {transform!r:.80}: give a function itself, from Batch to Batch; its "
            "import path as a text is for YAML and the command line"
        )
    check_choice("start_method", given["start_method"], (None, "fork", "spawn", "forkserver"))
    if given["refresh"] and given["offline"]:
        raise ConfigError(
            "refresh asks the source for everything, and offline asks it for nothing: leave one out"
        )


def list_doubts(given: Mapping[str, Any], settings: Settings) -> list[str]:
    """What of the arguments of a ``BTCDataModule`` will not do as it says, a sentence each."""
    doubts = [
        f"{name} is {settings.comparable[name]}: a checkpoint cannot tell what is unknown there "
        f"from another, and goes on with it unchecked. Make {name} of numbers, texts, arrays "
        "and named functions alone"
        for name in ("target", "split")
        if UNKNOWN in settings.comparable[name]
    ]
    if settings.target.is_label and settings.target_scaling != "none":
        doubts.append(
            f"`target_scaling: {settings.target_scaling}` leaves the labels of target "
            f"{settings.target!r} as they are: leave it out"
        )
    used: list[Any] = [each.name for each in settings.named_covariates]
    used += [each.given.of for each in settings.covariates if isinstance(each.given, Resampled)]
    unused = [each for each in settings.covariates if each.name not in used]
    if unused:
        names, first = ", ".join(each.name for each in unused), unused[0].beside
        column = "close" if first.is_candles else first.values[0]
        doubts.append(
            f"no feature names {names}: add one such as '{first.name}.{column}' to `features`, or "
            f"take {'them' if len(unused) > 1 else 'it'} out of `covariates`"
        )
    if settings.mask == "feature" and settings.min_observed == 1:
        doubts.append(
            "`mask: feature` with `min_observed: 1.0` gives the windows in which all features are "
            "observed: lower `min_observed` for those in which some are not"
        )
    if given["gather"] == "device" and settings.scaling == "window":
        doubts.append("with `scaling: window` windows are gathered on the host")
    return doubts


def list_hyperparameters(given: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The arguments of a datamodule in plain values, which ``weights_only=True`` loads again."""
    objects = {name: getattr(settings, name) for name in KINDS}
    arguments = {name: to_plain(value) for name, value in {**given, **objects}.items()}
    arguments["transform"] = to_plain_function(given["transform"])
    return arguments | {"_instantiator": "lightning.pytorch.cli.instantiate_module"}
