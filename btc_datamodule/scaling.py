"""Scaling: statistics of the train rows, applied to batches.

Statistics are fitted on observed rows of the train span in float64, block by block with the
merge of Chan, Golub and LeVeque (1979), which does not lose the variance in the mean's square.
They are plain numbers and travel in checkpoints.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Scaler:
    """Z-score per feature: (x - mean) / std.

    Attributes:
        mean: F numbers.
        std: F numbers, none of them 0: a feature that is constant in train has 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, blocks: Iterable[NDArray[np.float32]], n_features: int) -> "Scaler":
        """Statistics of the rows of all blocks, each (n, F)."""
        count = 0
        mean = np.zeros(n_features)
        squares = np.zeros(n_features)
        for block in blocks:
            if not len(block):
                continue
            rows = block.astype(np.float64)
            block_mean = rows.mean(axis=0)
            delta = block_mean - mean
            total = count + len(rows)
            squares += ((rows - block_mean) ** 2).sum(axis=0)
            squares += delta**2 * count * len(rows) / total
            mean += delta * len(rows) / total
            count = total
        std = np.sqrt(squares / max(count, 1))
        # Less spread than float32 can hold beside the mean is rounding, not a signal.
        constant = std <= np.finfo(np.float32).eps * np.abs(mean)
        std[constant] = 1.0
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    @classmethod
    def identity(cls, n_features: int) -> "Scaler":
        """A scaler that changes nothing."""
        return cls((0.0,) * n_features, (1.0,) * n_features)

    @property
    def is_identity(self) -> bool:
        """Whether scaling changes nothing."""
        return not any(self.mean) and set(self.std) == {1.0}

    def apply_(self, x: Tensor) -> Tensor:
        """Scale a contiguous (..., L, F) float32 tensor in place, in one pass."""
        if self.is_identity:
            return x
        scale, shift = _tiled(self, x.shape[-2])
        rows = x.view(-1, len(scale))
        torch.addcmul(shift, rows, scale, out=rows)
        return x

    def invert(self, x: Tensor) -> Tensor:
        """Undo ``apply_``: a new tensor of features in their own units."""
        return x * x.new_tensor(self.std) + x.new_tensor(self.mean)


@lru_cache(maxsize=32)
def _tiled(scaler: Scaler, lookback: int) -> tuple[Tensor, Tensor]:
    """Scale and shift of a whole window, (L * F,) each: adding a short last axis is slow."""
    scale = 1.0 / np.array(scaler.std)
    shift = -np.array(scaler.mean) * scale
    tiled = np.tile(np.stack([scale, shift]), lookback).astype(np.float32)
    return torch.from_numpy(tiled[0]), torch.from_numpy(tiled[1])
