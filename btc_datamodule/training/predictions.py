"""``PredictionWriter``: what ``predict_step`` returns, in one file, by time.

Each rank gathers its predictions a few megabytes at a time in a folder beside the output. In the
end rank 0 merges them, by time and each origin once, and the file takes its place whole. Memory
does not depend on how many there are, as the predict loader goes through time in order; nor does
the file depend on the number of ranks.

The columns: ``origin_time``, and one for each number of a prediction. A tensor (B, ...) is called
``prediction``; tensors of a dict or a named tuple are called by their names, tensors of a tuple
``prediction_0``, ``prediction_1`` and so on. HDF5 keeps the shapes: ``forecast`` (N, H, C).
Parquet has a column for each number: ``forecast_0_0``, ``forecast_1_0`` and so on. ``prices`` adds
``forecast_price``, or ``forecast_price_0_0`` and so on.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from btc_datamodule.disk.atomic import check_output, explain_write_errors, replace_file
from btc_datamodule.disk.hdf5 import replace_hdf5
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.targets import Target, check_prices
from btc_datamodule.public import public

SUFFIXES = (".parquet", ".h5")
PART_BYTES = 1 << 25

_PART = re.compile(r"(\d{5}-\d{6}\.npz|\d{6}\.parquet)$")
"""What parts are named: those that ranks write, and those that are merged of them."""
"""Predictions that all ranks together gather in memory: 32 MiB. The merge takes twice that."""

Predictions = dict[str, NDArray[Any]]
"""By name (n, ...), with ``origin_time``: (n,) int64, epoch seconds."""


@runtime_checkable
class Prices(Protocol):
    """What turns forecasts into prices: a ``BTCDataModule``."""

    @property
    def target(self) -> Target:
        """What is forecast."""

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one sample's target."""

    def to_prices(self, y: Any, origin_time: Any) -> NDArray[np.float64]:
        """Prices that forecasts stand for."""


@public
class PredictionWriter(Callback):
    r"""Writes predictions to a Parquet or HDF5 file, keyed by ``origin_time`` and in its order.

    For ``Trainer(callbacks=[...])``, or from the command line:

        btc-datamodule predict --config FILE.yaml \
            --trainer.callbacks=btc_datamodule.PredictionWriter \
            --trainer.callbacks.output=forecasts.parquet --trainer.callbacks.prices=true \
            --return_predictions=false

    ``return_predictions=False`` keeps the Trainer from holding them all in memory as well. With
    several nodes the output must lie where all of them can write. ``origin_time`` is int64, epoch
    seconds; in Parquet a timestamp in UTC. (It is not a ``BasePredictionWriter``, since Lightning
    asks for those which indices a batch has, and warns that a loader of ours does not say.)

    Args:
        output: a name that ends in .parquet or .h5; a file of that name is replaced. A relative one
            is meant from where the process is now, whatever folder it changes to later.
        prices: also write the prices, float64, that predictions stand for as targets do
            (``BTCDataModule.to_prices``), under their names with ``_price`` at the end: of each
            prediction that has the shape of the target, or of those named.

    Raises:
        ConfigError: if the name ends in something else; from ``predict``, if the folder is not
            there or not writable, if predictions have no ``origin_time`` or other rows, or if there
            are no prices to be told from the target, or no such predictions.
        StoreError: from ``predict``, if the disk is full.
    """

    def __init__(self, output: str, prices: bool | list[str] = False) -> None:
        self.output = Path(output).expanduser().absolute()
        self.prices = prices
        if self.output.suffix not in SUFFIXES:
            raise ConfigError(f"output {output!r} must end in one of {', '.join(SUFFIXES)}")
        self.folder = self.output.with_name(f"{self.output.name}.parts")
        self._gathered: list[Predictions] = []
        self._parts = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See that prices can be told, before anything is predicted."""
        if stage == "predict" and self.prices:
            check_prices(find_prices(trainer).target)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder of the parts, without what a killed run may have left in it."""
        self._gathered, self._parts = [], 0
        if trainer.is_global_zero:
            check_output(self.output, SUFFIXES)
            self._remove_parts()
            self.folder.mkdir(exist_ok=True)
        trainer.strategy.barrier("PredictionWriter: folder")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the predictions of a batch."""
        columns = extract_columns(outputs, batch)
        if self.prices:
            columns |= compute_prices(columns, self.prices, find_prices(trainer))
        self._gathered.append(columns)
        if sum(map(_count_bytes, self._gathered)) >= PART_BYTES // trainer.world_size:
            self._flush(trainer.global_rank)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the parts of all ranks into the output."""
        self._flush(trainer.global_rank)
        parts = torch.tensor(self._parts, device=pl_module.device)
        total = int(trainer.strategy.reduce(parts, reduce_op="sum"))  # and all have flushed
        if trainer.is_global_zero:
            self._merge(total)
        trainer.strategy.barrier("PredictionWriter: merged")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave nothing behind."""
        self._remove_parts()

    def _flush(self, rank: int) -> None:
        """Write the predictions gathered so far as a part, in order of time."""
        if not self._gathered:
            return
        columns = _sort(_join(self._gathered))
        path = self.folder / f"{rank:05d}-{self._parts:06d}.npz"
        with explain_write_errors(self.output):
            np.savez(path, **columns)  # type: ignore[arg-type]  # no column is an argument of it
        self._gathered = []
        self._parts += 1

    def _merge(self, total: int) -> None:
        parts = []
        for path in self._list_parts(".npz"):
            with np.load(path) as part:
                parts.append((int(part["origin_time"][0]), path))
        if len(parts) != total:
            raise ConfigError(
                f"output {str(self.output)!r}: {len(parts)} of {total} parts are in {self.folder}: "
                "give an output in a folder that all nodes share"
            )
        chunks = merge_parts(parts)
        if self.output.suffix == ".h5":
            write_hdf5(self.output, chunks)
        else:
            _write_parquet(self.output, chunks, self.folder)
        self._remove_parts()

    def _list_parts(self, suffix: str) -> list[Path]:
        """The parts on disk: a file of another name is not ours."""
        return sorted(each for each in self.folder.glob(f"*{suffix}") if _PART.match(each.name))

    def _remove_parts(self) -> None:
        """Remove the parts, and their folder unless there is something else in it."""
        for part in self._list_parts(""):
            part.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()


def extract_columns(prediction: Any, batch: Any) -> Predictions:
    """Name what ``predict_step`` has returned: arrays (B, ...), ``origin_time`` first.

    Raises:
        ConfigError: if there is no ``origin_time``, or something else than a tensor with B rows.
    """
    named = _name_values(prediction)
    times = getattr(batch, "origin_time", named.get("origin_time"))
    if not isinstance(times, Tensor):
        raise ConfigError(
            "PredictionWriter finds no origin_time in the batch: give batches of BTCDataModule, or "
            "return origin_time from predict_step"
        )
    named["origin_time"] = times
    for name, value in named.items():
        if not isinstance(value, Tensor) or value.shape[:1] != times.shape:
            kind = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(
                f"predict_step gave {name!r} as {kind} for {len(times)} samples: PredictionWriter "
                "takes a tensor of shape (B, ...), or a dict or a tuple of them"
            )
    order = ["origin_time", *(name for name in named if name != "origin_time")]
    return {name: _convert_tensor(named[name]) for name in order}


def find_prices(trainer: Trainer) -> Prices:
    """The datamodule of a Trainer.

    Raises:
        ConfigError: if it has none, or another kind.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, Prices):
        raise ConfigError(
            "PredictionWriter(prices=...) needs the BTCDataModule, which knows the closes: call "
            "`trainer.predict(model, datamodule=dm)`"
        )
    return data


def compute_prices(columns: Predictions, wanted: bool | Sequence[str], data: Prices) -> Predictions:
    """The prices that predictions stand for, by their names with ``_price`` at the end.

    Args:
        columns: what a batch was predicted, with ``origin_time``.
        wanted: names of predictions; or True for those of the target's shape, and if there are none
            for those with as many numbers.
        data: makes the prices.

    Raises:
        ConfigError: if there are no such predictions.
    """
    times, shape, size = columns["origin_time"], data.target_shape, prod(data.target_shape)
    values = {name: each for name, each in columns.items() if name != "origin_time"}
    if isinstance(wanted, bool):
        flat = [(size,), *([()] if size == 1 else [])]
        names = [name for name, each in values.items() if each.shape[1:] == shape]
        names = names or [name for name, each in values.items() if each.shape[1:] in flat]
    else:
        names = [name for name in wanted if name in values]
    if not names or (not isinstance(wanted, bool) and len(names) < len(wanted)):
        there = ", ".join(f"{name} {each.shape}" for name, each in values.items())
        raise ConfigError(
            f"PredictionWriter(prices={wanted}): predict_step must give what is to become prices, "
            f"with as many numbers a sample as a target of shape {shape} has; it gave {there}"
        )
    return {f"{name}_price": data.to_prices(values[name], times) for name in names}


def merge_parts(parts: list[tuple[int, Path]]) -> Iterator[Predictions]:
    """Read parts in order of time, each origin once, a few at a time.

    Args:
        parts: the first time of each part, and its path. Each part is in order of time.
    """
    waiting: list[Predictions] = []
    for first, path in sorted(parts):
        if waiting:
            columns = _sort(_join(waiting))
            done = int(np.searchsorted(columns["origin_time"], first))
            if done:
                yield {name: values[:done] for name, values in columns.items()}
            waiting = [{name: values[done:] for name, values in columns.items()}]
        with np.load(path) as part:
            waiting.append(dict(part))
    if waiting:
        yield _sort(_join(waiting))


def _name_values(prediction: Any) -> dict[str, Any]:
    if isinstance(prediction, Mapping):
        return {str(name): value for name, value in prediction.items()}
    if isinstance(prediction, tuple | list):
        names = getattr(prediction, "_fields", None)
        names = names or [f"prediction_{i}" for i in range(len(prediction))]
        return dict(zip(names, prediction, strict=True))
    return {"prediction": prediction}


def _convert_tensor(values: Tensor) -> NDArray[Any]:
    values = values.detach().cpu()
    if values.dtype in (torch.bfloat16, torch.float16):
        values = values.float()
    return values.numpy()


def _count_bytes(columns: Predictions) -> int:
    return sum(values.nbytes for values in columns.values())


def _join(chunks: list[Predictions]) -> Predictions:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _sort(columns: Predictions) -> Predictions:
    """Sort predictions by time; of several for one time the first is kept."""
    _, rows = np.unique(columns["origin_time"], return_index=True)
    return {name: values[rows] for name, values in columns.items()}


def write_hdf5(path: Path, chunks: Iterator[Predictions]) -> None:
    """Write an HDF5 file of chunks with the same columns, in their order."""
    with replace_hdf5(path) as (file, check):
        rows = 0
        for chunk in chunks:
            count = len(chunk["origin_time"])
            for name, values in chunk.items():
                if name not in file:
                    shape = (0, *values.shape[1:])
                    file.create_dataset(
                        name, shape, values.dtype, maxshape=(None, *values.shape[1:]), chunks=True
                    )
                file[name].resize(rows + count, axis=0)
                file[name][rows:] = values
            rows += count
            check()


def _write_parquet(path: Path, chunks: Iterator[Predictions], folder: Path) -> None:
    """Write a file for each chunk, then one of them all: polars cannot add to a file."""
    import polars as pl

    files = []
    with replace_file(path) as temporary:
        for number, chunk in enumerate(chunks):
            frame = pl.DataFrame(dict(flatten_columns(chunk)))
            frame = frame.with_columns(pl.from_epoch("origin_time").dt.replace_time_zone("UTC"))
            files.append(folder / f"{number:06d}.parquet")
            frame.write_parquet(files[-1])
        pl.scan_parquet(files).sink_parquet(temporary)


def flatten_columns(columns: Predictions) -> Iterator[tuple[str, NDArray[Any]]]:
    """Give each number of a prediction a column of its own, named by its place."""
    for name, values in columns.items():
        for place in np.ndindex(values.shape[1:]):
            label = "_".join([name, *map(str, place)])
            yield label, np.ascontiguousarray(values[(slice(None), *place)])
