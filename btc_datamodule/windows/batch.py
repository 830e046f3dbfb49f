"""A batch: what a model receives, and what a user's transform makes of one."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public
from btc_datamodule.windows.arrays import Arrays, view_tensor


@public
class Batch(NamedTuple):
    """What a model receives. A single sample has the same fields without the first axis.

    Attributes:
        x: (B, L, F) float32, or with ``dtype`` bfloat16 that, scaled features of the input bars; 0
            where not observed.
        y: (B, *target shape) float32, scaled if there is a target scaling; NaN where the future
            is not known (predict only). Of a target of classes int64, -100 there.
        observed: (B, L) bool, which input bars were observed; with ``mask`` feature (B, L, F), of
            which features they were.
        origin_time: (B,) int64, open time of each last input bar, epoch seconds UTC. It
            identifies the sample: the forecast is made at the close of that bar.
    """

    x: Tensor
    y: Tensor
    observed: Tensor
    origin_time: Tensor

    def __repr__(self) -> str:
        parts = (
            f"{name} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
            if isinstance(value, Tensor)
            else f"{name} {type(value).__name__}"
            for name, value in zip(self._fields, self, strict=True)
        )
        return f"Batch({', '.join(parts)})"

    def numpy(self) -> Arrays:
        """The same as numpy arrays: views, without a copy, of what lies on the host."""
        x, y, observed, times = map(view_tensor, self)
        return Arrays(x, y, observed, times)


make_batch: Callable[[Iterable[Tensor]], Batch] = partial(tuple.__new__, Batch)
"""A batch of its fields in order, in less time than ``Batch._make``: small ones are many."""

Described = tuple[torch.dtype, tuple[int, ...]]
"""Type and shape of a field."""

Transform = Callable[[Batch], Batch]


def apply_transform(transform: Transform, batch: Batch) -> Batch:
    """What a transform makes of a batch.

    Raises:
        ConfigError: if that is nothing, as where a function changes the batch and ends.
    """
    made = transform(batch)
    if made is None:
        name = getattr(transform, "__name__", type(transform).__name__)
        raise ConfigError(f"transform {name} returned None: it must return a Batch")
    return made


def pass_through(batch: Any) -> Any:
    """The collate function of loaders whose dataset hands out whole batches."""
    return batch
