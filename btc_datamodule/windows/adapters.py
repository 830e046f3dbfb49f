"""Batches as models of other libraries are fed: views and small tensors of one batch at a time.

Both libraries call a feature a *channel*, and know of channels alone: what they forecast is how the
channels of the input go on. So a column of the target must continue a feature, in the same units
and the same scale: ``LogReturn`` continues ``log_return``, both scaled by ``train`` or not at all;
``ClosePath`` continues ``"price = close"`` with ``scaling: none``, which is what models want that
scale each window by themselves (Chronos-2, TimesFM). Features that no column of the target
continues are inputs alone.

What was not observed is never handed on: to a library with a mask the mean of what was observed of
that feature in that window goes in its place, which is 0 after such a model's own scaling (a 0 put
there would be a price of nothing); to one without a mask, NaN. What is not known of the future is
NaN in both, so that a loss which counts it cannot be a number.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public
from btc_datamodule.windows.batch import Batch


@public
def to_hf(batch: Batch, channels: Sequence[int] | None = None) -> dict[str, Tensor]:
    """A batch as PatchTST of Hugging Face's ``transformers`` and its kin take it.

    ``model(**to_hf(batch)).loss`` trains a ``PatchTSTForPrediction``, which forecasts all of its
    inputs, with a target that continues each feature. ``PatchTSMixerForPrediction`` calls the mask
    ``observed_mask`` and passes over the other name; with ``prediction_channel_indices`` it
    forecasts ``channels`` alone.

    Args:
        batch: of a target whose y is a path (B, H, T): ``LogReturn``, ``OHLCPath``, ``ClosePath``.
        channels: for each of the T columns of the target the feature that it continues; by default
            each its own, where there are as many.

    Returns:
        ``past_values`` (B, L, F) of the dtype of x; ``past_observed_mask`` (B, L, F) bool;
        ``future_values`` (B, H, F) of the dtype of y, NaN where it is not known and in features
        that the target does not continue; ``future_observed_mask`` (B, H, F) bool, where it is not
        NaN. All on the device of the batch.

    Raises:
        ConfigError: if y is no path, or ``channels`` does not fit it.
    """
    observed = _observe_features(batch)
    values = batch.x.masked_fill(~observed, 0.0)
    precise = torch.promote_types(values.dtype, torch.float32)
    total = values.sum(dim=1, keepdim=True, dtype=precise)
    mean = total / observed.sum(dim=1, keepdim=True).clamp_min(1)
    future = _continue_features(batch, channels)
    return {
        "past_values": torch.where(observed, values, mean.to(values.dtype)),
        "past_observed_mask": observed,
        "future_values": future,
        "future_observed_mask": ~future.isnan(),
    }


@public
def to_chronos2(
    batch: Batch, patch: int, channels: Sequence[int] | None = None
) -> dict[str, Tensor | int]:
    """A batch as ``Chronos2Model.forward`` takes it: each feature of a sample is a row.

    ``model(**to_chronos2(batch, model.chronos_config.output_patch_size)).loss`` trains it. The
    rows of a sample are a group, which the model looks at together: those of features that the
    target does not continue are covariates whose future is not known. Its ``quantile_preds``
    (B * F, q, at least H) have the rows in the order sample by sample, feature by feature:
    ``preds.unflatten(0, (-1, F))``.

    Args:
        batch: as of ``to_hf``. The model scales each row itself: give it values as they are.
        patch: bars of one output patch of the model.
        channels: as of ``to_hf``.

    Returns:
        ``context`` (B * F, L) float32, NaN where not observed; ``future_target`` (B * F, H)
        float32, NaN where it is not known and in rows of covariates; ``group_ids`` (B * F,) int64,
        the number of the sample; ``num_output_patches``, as many as hold H bars.

    Raises:
        ConfigError: as ``to_hf``; if ``patch`` is no whole number of 1 or more.
    """
    if isinstance(patch, bool) or not isinstance(patch, int) or patch < 1:
        raise ConfigError(f"patch {patch!r} must be a whole number of 1 or more")
    context = batch.x.float().masked_fill(~_observe_features(batch), torch.nan)
    future = _continue_features(batch, channels).float()
    samples, horizon, features = future.shape
    groups = torch.arange(samples, device=batch.x.device).repeat_interleave(features)
    return {
        "context": context.transpose(1, 2).flatten(0, 1),
        "future_target": future.transpose(1, 2).flatten(0, 1),
        "group_ids": groups,
        "num_output_patches": -(-horizon // patch),
    }


def _observe_features(batch: Batch) -> Tensor:
    """(B, L, F) bool, whether ``mask`` is bar or feature."""
    observed = batch.observed
    return observed if observed.ndim == 3 else observed.unsqueeze(-1).expand_as(batch.x)


def _continue_features(batch: Batch, channels: Sequence[int] | None) -> Tensor:
    """(B, H, F): the columns of y at the features that they continue, NaN in the others."""
    y, features = batch.y, batch.x.shape[-1]
    if y.ndim != 3 or not y.is_floating_point():
        raise ConfigError(
            f"y is {y.dtype} of shape {tuple(y.shape)}: a model that continues its inputs needs a "
            "target that is a path (B, H, columns), such as LogReturn or ClosePath"
        )
    columns = y.shape[-1]
    if channels is None and columns == features:
        return y
    if channels is None:
        raise ConfigError(
            f"the target has {columns} columns and x {features} features: say which feature each "
            "column continues, such as channels=[0]"
        )
    if len(set(channels)) != columns or not all(0 <= each < features for each in channels):
        raise ConfigError(
            f"channels {list(channels)} must name another feature, from 0 to {features - 1}, for "
            f"each of the {columns} columns of the target"
        )
    future = y.new_full((*y.shape[:2], features), torch.nan)
    future[..., list(channels)] = y
    return future
