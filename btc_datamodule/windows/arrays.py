"""``Arrays``: samples as numpy arrays, for models that are no torch: scikit-learn, LightGBM."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public


@public
@dataclass(frozen=True, eq=False, repr=False)
class Arrays:
    """The samples of a stage in order of time, or those of a batch; N of them.

    Attributes:
        x: (N, L, F) float32, as of ``Batch``; the last of the L bars is the origin.
        y: (N, *target shape) float32, or of classes int64.
        observed: (N, L) bool, with ``mask`` feature (N, L, F).
        origin_time: (N,) int64, epoch seconds UTC.
        features: names of the F columns; () where they are not known, as of a batch.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    observed: NDArray[Any]
    origin_time: NDArray[Any]
    features: tuple[str, ...] = ()

    def __repr__(self) -> str:
        named = {"x": self.x, "y": self.y, "observed": self.observed}
        parts = [f"{name} {each.shape} {each.dtype}" for name, each in named.items()]
        return f"Arrays({', '.join(parts)})"

    def __len__(self) -> int:
        return len(self.origin_time)

    @property
    def x_table(self) -> NDArray[Any]:
        """(N, L * F), a view of ``x``: bar by bar, as ``columns`` says."""
        return self.x.reshape(len(self), prod(self.x.shape[1:]))

    @property
    def y_table(self) -> NDArray[Any]:
        """(N,) where a target is one number, else (N, numbers): a view of ``y``."""
        table = self.y.reshape(len(self), prod(self.y.shape[1:]))
        return table[:, 0] if table.shape[1] == 1 else table

    @property
    def columns(self) -> list[str]:
        """Names of the columns of ``x_table``: ``log_return_lag0`` is that of the origin.

        ``_lag1`` is of the bar before it, and so on; the first column is that of the oldest bar. No
        brackets or colons are in the names but those of features: LightGBM takes none.

        Raises:
            ConfigError: if the names of the features are not known, or a transform has made ``x``
                another shape.
        """
        if self.x.ndim != 3 or self.x.shape[2] != len(self.features):
            raise ConfigError(
                f"x has shape {self.x.shape} and {len(self.features)} names of features: only "
                "dm.arrays(stage) knows them, where no transform has changed the shape of x"
            )
        lags = range(self.x.shape[1] - 1, -1, -1)
        return [f"{name}_lag{lag}" for lag in lags for name in self.features]


def view_tensor(values: Tensor) -> NDArray[Any]:
    """A tensor as an array: a view where it lies on the host, but float32 of bfloat16."""
    values = values.detach().cpu()
    array: NDArray[Any] = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array
