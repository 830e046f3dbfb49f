"""Scaling: statistics of the train rows, applied to batches.

Statistics are fitted on what is observed of the train rows, feature by feature, in float64, in
chunks: the mean and the variance from the ``Moments`` of chunks, which the feature file has at
hand; quartiles exactly, by counting the bits of float32 values in two passes. They are plain
numbers and travel in checkpoints.

Methods:
    train    (x - mean) / standard deviation, both of the train rows
    robust   (x - median) / (interquartile range / 1.349), both of the train rows; the divisor is
             1 standard deviation for a normal distribution. A feature whose quartiles are equal
             (forward-filled returns of a thin market) is divided by its standard deviation.
    window   each sample by the mean and standard deviation of what is observed of its input, the
             latter at least a hundredth of that of the train rows: an absolute floor would be
             larger than a calm hour's returns
    none     as it is
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btc_datamodule.checks import list_first
from btc_datamodule.errors import ConfigError
from btc_datamodule.features.moments import Moments

Scaling = Literal["train", "robust", "window", "none"]
"""Scaling of x: mean and deviation of the train rows, their median and quartiles, each sample by
itself, or none."""

SCALINGS: tuple[Scaling, ...] = get_args(Scaling)

WINDOW_FLOOR = 0.01
"""Least standard deviation of a window, as a share of that of the train rows."""

TILED_ROWS = 1 << 14
"""Scale and shift are kept for windows of up to so many rows; longer ones are scaled in parts."""

NORMAL_IQR = 1.3489795003921634
"""Interquartile range of the standard normal distribution."""

Chunks = Callable[[], Iterable[NDArray[np.float32]]]
"""Gives the rows anew each time it is called: chunks (n, F), NaN where a value does not count."""


@runtime_checkable
class Summarised(Protocol):
    """Rows whose moments are known without going through them."""

    def moments(self) -> Moments:
        """Moments of all that counts of the rows."""


@dataclass(frozen=True, repr=False)
class Scaler:
    """(x - center) / scale for each feature.

    Attributes:
        method: see the module. For "window" ``scale`` holds what the floor is a share of.
        center: F numbers.
        scale: F numbers above 0: a feature that is constant in train has 1.
    """

    method: Scaling
    center: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, method: Scaling, chunks: Chunks, n_features: int) -> "Scaler":
        """Statistics of each feature over the values that ``chunks`` gives of it."""
        if method == "none":
            return cls.identity(n_features)
        moments = _compute_moments(chunks(), n_features)
        center, deviation = moments.mean, moments.deviation
        scale = np.where(_exceeds_rounding(deviation, center), deviation, 1.0)
        if method == "robust":
            low, center, high = _compute_quantiles(chunks, (0.25, 0.5, 0.75), n_features)
            spread = (high - low) / NORMAL_IQR
            scale = np.where(_exceeds_rounding(spread, center), spread, scale)
        if method == "window":
            center = np.zeros(n_features)
        return cls(method, tuple(center.tolist()), tuple(scale.tolist()))

    @classmethod
    def from_state(cls, kept: Mapping[str, Any]) -> "Scaler":
        """From what a checkpoint has of one.

        Raises:
            ConfigError: if it cannot be that of any training: a scale that is not above 0, a
                centre that is no number, as many of one as of the other.
        """
        made = cls(kept["method"], tuple(kept["center"]), tuple(kept["scale"]))
        sound = np.isfinite([*made.center, *made.scale]).all() and min(made.scale, default=1) > 0
        if made.method not in SCALINGS or len(made.center) != len(made.scale) or not sound:
            raise ConfigError(
                f"the checkpoint has statistics that no training gives ({made!r}): it is damaged; "
                "take another one, or train again"
            )
        return made

    def __repr__(self) -> str:
        center, scale = (
            list_first([f"{x:.4g}" for x in each]) for each in (self.center, self.scale)
        )
        return f"Scaler({self.method}: center {center}; scale {scale})"

    @classmethod
    def identity(cls, n_features: int) -> "Scaler":
        """A scaler that changes nothing."""
        return cls("none", (0.0,) * n_features, (1.0,) * n_features)

    def apply_(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Scale a contiguous (..., L, F) float32 tensor in place.

        Args:
            x: the features.
            observed: (..., L) or (..., L, F) bool, what counts for the method "window"; None for
                all.
        """
        if self.method == "window":
            return self._apply_to_windows(x, observed)
        if self.method == "none":
            return x
        if x.shape[-2] > TILED_ROWS:
            for part in torch.split(x.view(-1, x.shape[-1]), TILED_ROWS):
                self.apply_(part)
            return x
        scale, shift = _tile_windows(self, x.shape[-2])
        rows = x.view(-1, len(scale))
        torch.addcmul(shift, rows, scale, out=rows)
        return x

    def _apply_to_windows(self, x: Tensor, observed: Tensor | None) -> Tensor:
        values = x.numpy().astype(np.float64)  # numpy adds bars in order, whatever the batch size
        if observed is None:
            seen = np.ones((*values.shape[:-1], 1), dtype=np.float64)
        else:
            mask = observed if observed.ndim == x.ndim else observed[..., None]
            seen = mask.numpy().astype(np.float64)
        absent = np.isnan(values)  # of features that are undefined there
        if absent.any():
            seen = seen * ~absent
            values[absent] = 0
        count = np.maximum(seen.sum(axis=-2, keepdims=True), 1.0)
        values -= (values * seen).sum(axis=-2, keepdims=True) / count
        variance = (values**2 * seen).sum(axis=-2, keepdims=True) / count
        values /= np.maximum(np.sqrt(variance), WINDOW_FLOOR * np.array(self.scale))
        values[absent] = 0
        x.numpy()[...] = values
        return x

    def invert(self, x: Tensor) -> Tensor:
        """Undo ``apply_``: a new tensor in the features' own units, through which gradients go.

        Args:
            x: (..., F), scaled, of any type, on any device; whole numbers become float32, if they
                were scaled at all.

        Raises:
            ConfigError: the method is "window".
        """
        if self.method == "window":
            raise ConfigError(
                "scaling 'window' cannot be undone: each sample is scaled by the mean and "
                "deviation of its own input bars, which are not kept: "
                "set `scaling` to train or robust"
            )
        if self.method == "none":
            return x.clone()
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        inverted = wide * wide.new_tensor(self.scale) + wide.new_tensor(self.center)
        return inverted.to(x.dtype) if x.is_floating_point() else inverted


def _compute_moments(rows: Iterable[NDArray[np.float32]], n_features: int) -> Moments:
    if isinstance(rows, Summarised):
        return rows.moments()
    return Moments.merge(map(Moments.of, rows), n_features)


def _exceeds_rounding(
    deviation: NDArray[np.float64], center: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether a spread is more than float32 loses beside the centre."""
    return deviation > np.finfo(np.float32).eps * np.abs(center)


def _compute_quantiles(
    chunks: Chunks, shares: tuple[float, ...], n_features: int
) -> NDArray[np.float64]:
    """(len(shares), F) exact quantiles, linear between neighbours as ``numpy.quantile``.

    Two passes of counting, in memory that does not depend on the number of values: the upper 16
    bits of every value, then the lower 16 of those that share their upper ones with a quantile.
    A feature without a value has 0.
    """
    upper = np.zeros((n_features, 1 << 16), dtype=np.int64)
    for chunk in chunks():
        for feature, keys in enumerate(_list_keys(chunk)):
            upper[feature] += np.bincount(keys >> 16, minlength=1 << 16)
    below = np.cumsum(upper, axis=1)
    at = np.outer(np.maximum(below[:, -1] - 1, 0), shares)
    ranks = [
        np.unique(np.concatenate([np.floor(each), np.ceil(each)])).astype(np.int64) for each in at
    ]
    bins = [np.searchsorted(*each, side="right") for each in zip(below, ranks, strict=True)]
    lower = [np.zeros((len(each), 1 << 16), dtype=np.int64) for each in ranks]
    for chunk in chunks():
        for feature, keys in enumerate(_list_keys(chunk)):
            for i, upper_bits in enumerate(bins[feature]):
                inside = keys[keys >> 16 == upper_bits] & 0xFFFF
                lower[feature][i] += np.bincount(inside, minlength=1 << 16)
    quantiles = np.zeros((len(shares), n_features))
    for feature in np.flatnonzero(below[:, -1]).tolist():
        found = []
        for i, (rank, upper_bits) in enumerate(zip(ranks[feature], bins[feature], strict=True)):
            before = below[feature][upper_bits] - upper[feature][upper_bits]
            low = np.searchsorted(np.cumsum(lower[feature][i]), rank - before, side="right")
            found.append(_from_sortable(int(upper_bits) << 16 | int(low)))
        quantiles[:, feature] = np.interp(at[feature], ranks[feature], found)
    return quantiles


def _list_keys(chunk: NDArray[np.float32]) -> Iterator[NDArray[np.uint32]]:
    """``_to_sortable`` of the values of each feature that count."""
    for keys, values in zip(_to_sortable(chunk), chunk.T, strict=True):
        absent = np.isnan(values)
        yield keys[~absent] if absent.any() else keys


def _to_sortable(chunk: NDArray[np.float32]) -> NDArray[np.uint32]:
    """(F, n) uint32 in the same order as the float32 values: the sign bit turned into an order."""
    bits = np.ascontiguousarray(chunk.T + np.float32(0.0)).view(np.uint32)  # -0.0 becomes 0.0
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _from_sortable(key: int) -> float:
    """The float32 value that ``_to_sortable`` made ``key`` of."""
    bits = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.uint32(bits).view(np.float32))


@lru_cache(maxsize=32)
def _tile_windows(scaler: Scaler, lookback: int) -> tuple[Tensor, Tensor]:
    """Scale and shift of a whole window, (L * F,) each: adding a short last axis is slow."""
    scale = 1.0 / np.array(scaler.scale)
    shift = -np.array(scaler.center) * scale
    tiled = np.tile(np.stack([scale, shift]), lookback).astype(np.float32)
    return torch.from_numpy(tiled[0]), torch.from_numpy(tiled[1])
