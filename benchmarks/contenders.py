"""What the benchmark of loaders times beside other packages: limits, ours, a few lines by hand.

All are given the same ``Work`` and deliver the same content: for windows in random order ``x``
(B, L, F) float32 and one following value of each, as torch tensors. Ours delivers more than that:
rows scaled, masks of what was observed, times, and targets made in float64.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from btc_datamodule import BTCDataModule, FractionSplit
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.windows.overlapping import view_items

FIRST = "2018-01-01"
FEATURES = ("log_return", "log_range", "log_volume", "taker_share", "day_sin", "day_cos")
FOLLOWING = FEATURES.index("log_return")
"""The value to forecast: the next bar's."""

RAM_SHARE = 0.3
"""Of the machine's memory that windows stored by hand may take."""

Content = tuple[Tensor, Tensor]
"""x: (B, L, F) float32 and y: (B,) float32."""

Start = Callable[[int, int], Iterator[Any]]
"""An endless stream of batches, of a batch size and a number of workers."""


@dataclass(frozen=True)
class Series:
    """Where the rows lie, and which windows are to be had: starts [first, first + count)."""

    path: str
    lookback: int
    first: int
    count: int


@dataclass(frozen=True)
class Work:
    """What all contenders are given.

    Attributes:
        rows: (T, F) float32: those that the windows are cut from, window i from row i on.
        mapped: the same, as a view of the memory-mapped file.
        lookback: L.
        series: the same windows as the file has them.
        stored: windows for those that store each one.
        data_dir: for ours.
        folder: for files of the others, which is empty.
        options: of the command line.
    """

    rows: NDArray[np.float32]
    mapped: NDArray[np.float32]
    lookback: int
    series: Series
    stored: int
    data_dir: str
    folder: Path
    options: argparse.Namespace

    @property
    def count(self) -> int:
        return len(self.rows) - self.lookback

    @property
    def following(self) -> NDArray[np.float32]:
        """(count,): the value to forecast, of each window."""
        return np.ascontiguousarray(self.rows[self.lookback :, FOLLOWING])


@dataclass(frozen=True)
class Peer:
    """A contender.

    Attributes:
        name: as shown.
        kind: limit, ours, bare loop, by hand, or package.
        make: prepares, and gives what starts a stream.
        content: what a batch of the stream holds; None where it cannot be told.
        package: the distribution that is needed.
        workers: whether it can load in other processes.
        stored: whether it stores each window, and so may get fewer.
        batch: the largest batch that it is given.
        threads: whether torch may use all cores; one otherwise.
    """

    name: str
    kind: str
    make: Callable[[Work], Start]
    content: Callable[[Any], Content] | None
    package: str | None = None
    workers: bool = True
    stored: bool = False
    batch: int | None = None
    threads: bool = False


def pair(batch: Any) -> Content:
    """The content of a batch that is (x, y)."""
    return batch[0], batch[1].reshape(-1)


def following_row(batch: Any) -> Content:
    """The content of a batch of L + 1 rows."""
    return batch[:, :-1], batch[:, -1, FOLLOWING]


def datamodule(
    rows: int, lookback: int, batch: int, data_dir: str, **changes: Any
) -> BTCDataModule:
    """Ours, set up: almost all rows are train."""
    dm = BTCDataModule(
        interval="1m",
        start=FIRST,
        end=format_instant(parse_instant(FIRST, "start") + 60 * rows),
        features=FEATURES,
        lookback=lookback,
        split=FractionSplit(val=0.005, test=0.005),
        batch_size=batch,
        data_dir=data_dir,
        **changes,
    )
    dm.prepare_data()
    dm.setup()
    return dm


def windows_of(dm: BTCDataModule) -> Series:
    """The train windows of a series without holes."""
    dataset = dm.dataset("train")
    starts = dataset.origins[np.arange(len(dataset))] - (dm.lookback - 1)
    first, count = int(starts[0]), len(starts)
    assert np.array_equal(starts, np.arange(first, first + count))
    return Series(str(dm.table.path), dm.lookback, first, count)


# The limits.


def bare_gather(work: Work) -> Start:
    """Numpy copies windows out of the memory-mapped file: a void item each, one memcpy each."""
    items, following = view_items(work.mapped, work.lookback)[: work.count], work.following
    order = np.random.default_rng(0).permutation(work.count)

    def start(batch: int, _: int) -> Iterator[Any]:
        while True:
            for at in range(0, len(order) - batch + 1, batch):
                starts = order[at : at + batch]
                yield items[starts], following[starts]

    return start


def memcpy(work: Work) -> Start:
    """One memcpy of as many bytes, from rows that follow each other into the same memory."""

    def start(batch: int, _: int) -> Iterator[Any]:
        source = np.random.default_rng(0).random((batch, work.lookback, len(FEATURES)), np.float32)
        target = np.empty_like(source)
        while True:
            np.copyto(target, source)
            yield target

    return start


# Ours.


def ours(work: Work, workers: int = 0) -> Start:
    """``train_dataloader()`` with its defaults: scaled, shuffled, targets, masks and times."""

    @cache
    def made(batch: int) -> BTCDataModule:
        options = (work.options.rows, work.lookback, batch, work.data_dir)
        return datamodule(*options, num_workers=workers)

    def start(batch: int, _: int) -> Iterator[Any]:
        dm = made(batch)
        for each in epochs(dm.train_dataloader()):
            yield dm, each

    return start


def epochs(loader: DataLoader[Any]) -> Iterator[object]:
    """A loader's batches without end, in a new order each epoch."""
    epoch = 0
    while True:
        if isinstance(loader.sampler, DistributedSampler):
            loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def ours_content(pairs: Any) -> Content:
    """The same, with the scaling undone."""
    dm, batch = pairs
    assert bool(batch.observed.all())
    mean, std = torch.tensor(dm.scaler.center), torch.tensor(dm.scaler.scale)
    return (batch.x * std + mean).float(), dm.inverse_transform(batch.y).reshape(-1)


# By hand.


class Indexed(Dataset[Any]):
    """In memory: a whole batch by one ``index_select`` on a strided view of the series."""

    def __init__(self, work: Work) -> None:
        rows = torch.from_numpy(work.rows)
        self.windows = rows.unfold(0, work.lookback, 1).transpose(1, 2)[: work.count]
        self.following = torch.from_numpy(work.following)

    def __len__(self) -> int:
        return len(self.following)

    def __getitem__(self, index: int) -> Content:
        return self.windows[index], self.following[index]

    def __getitems__(self, indices: list[int]) -> Content:
        at = torch.tensor(indices)
        return self.windows.index_select(0, at), self.following.index_select(0, at)


def as_is(batch: Any) -> Any:
    return batch


def batches_of(count: int, batch: int) -> Iterator[Tensor]:
    """Slices of a random order, a new one each epoch, without end."""
    while True:
        order = torch.randperm(count)
        for at in range(0, count - batch + 1, batch):
            yield order[at : at + batch]


def randperm_loop(work: Work) -> Start:
    """No loader: ``randperm`` once an epoch, ``index_select`` on a strided view for each slice."""
    data = Indexed(work)

    def start(batch: int, _: int) -> Iterator[Any]:
        for at in batches_of(len(data), batch):
            yield data.windows.index_select(0, at), data.following.index_select(0, at)

    return start


def getitems(work: Work, loader: Callable[..., Any] = DataLoader) -> Start:
    """``DataLoader(shuffle=True)`` over ``__getitems__``, which torch calls with a batch."""
    data = Indexed(work)
    return lambda batch, workers: endless(
        loader(data, batch, shuffle=True, drop_last=True, num_workers=workers, collate_fn=as_is)
    )


def precomputed(work: Work) -> Start:
    """FastTensorDataLoader: all windows in one tensor, ``randperm``, ``index_select``."""
    each = 4 * work.lookback * len(FEATURES)
    fit = int(RAM_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / each)
    count = min(work.count, fit)
    x = torch.from_numpy(np.array(windows_view(work)[:count]))
    y = torch.from_numpy(work.following[:count])

    def start(batch: int, _: int) -> Iterator[Any]:
        for at in batches_of(len(x), batch):
            yield x.index_select(0, at), y.index_select(0, at)

    return start


def per_item(kind: Callable[[Series], Dataset[Any]], work: Work) -> Start:
    """A ``Dataset`` that gives one sample at a time, in ``DataLoader(shuffle=True)``."""
    return shuffled(kind(work.series))


class PerItem(Dataset[Content]):
    """Sample i: the rows of the i-th window and the value that follows it."""

    def __init__(self, series: Series) -> None:
        self.series = series

    def __len__(self) -> int:
        return self.series.count

    def __getitem__(self, index: int) -> Content:
        start = self.series.first + index
        rows = self._rows(start, start + self.series.lookback + 1)
        return rows[:-1], rows[-1, FOLLOWING]

    def _rows(self, start: int, end: int) -> Tensor:
        """Rows [start, end) of the table, (n, F) float32."""
        raise NotImplementedError


class ReadWhole(PerItem):
    """The tutorial: opens the file and reads all of it, for each item."""

    def _rows(self, start: int, end: int) -> Tensor:
        with h5py.File(self.series.path, "r") as file:
            data = file["x"][:]
        return torch.from_numpy(data[start:end])


class OpenEach(PerItem):
    """Opens the file for each item and reads what is needed."""

    def _rows(self, start: int, end: int) -> Tensor:
        with h5py.File(self.series.path, "r") as file:
            return torch.from_numpy(file["x"][start:end])


class KeepOpen(PerItem):
    """Opens the file once in each process."""

    def __init__(self, series: Series) -> None:
        super().__init__(series)
        self.process = 0
        self.data: Any = None

    def _rows(self, start: int, end: int) -> Tensor:
        if self.process != os.getpid():
            self.process, self.data = os.getpid(), h5py.File(self.series.path, "r")["x"]
        return torch.from_numpy(self.data[start:end])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "process": 0, "data": None}


class InMemory(PerItem):
    """Holds the whole table as a tensor."""

    def __init__(self, series: Series) -> None:
        super().__init__(series)
        with h5py.File(series.path, "r") as file:
            self.data = torch.from_numpy(file["x"][:])

    def _rows(self, start: int, end: int) -> Tensor:
        return self.data[start:end]


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def shuffled(data: Any, collate: Callable[..., Any] | None = None) -> Start:
    """``DataLoader(shuffle=True)`` over a dataset of single samples."""
    return lambda batch, workers: endless(
        DataLoader(
            data, batch, shuffle=True, drop_last=True, num_workers=workers, collate_fn=collate
        )
    )


def windows_view(work: Work) -> NDArray[np.float32]:
    """(count, L, F): all windows, no copy."""
    shape = (work.lookback, work.rows.shape[1])
    return sliding_window_view(work.rows, shape)[: work.count, 0]


OURS = "`dm.train_dataloader()`"
ALL_CORES = "`dm.train_dataloader()`, torch on all cores"
IN_WORKERS = "`dm.train_dataloader()`, `num_workers=2`"
BARE = "numpy gather, a void item per window"
CONTENDERS = (
    Peer("memcpy of the same bytes", "limit", memcpy, None, workers=False),
    Peer(BARE, "limit", bare_gather, None, workers=False),
    Peer(OURS, "ours", ours, ours_content, workers=False),
    Peer(ALL_CORES, "ours", ours, ours_content, workers=False, threads=True),
    Peer(IN_WORKERS, "ours", partial(ours, workers=2), ours_content, workers=False),
    Peer("randperm + index_select, no loader", "bare loop", randperm_loop, pair, workers=False),
    Peer("DataLoader, `__getitems__` + index_select", "by hand", getitems, pair),
    Peer("FastTensorDataLoader", "by hand", precomputed, pair, workers=False, stored=True),
    Peer("in memory, per-item Dataset", "by hand", partial(per_item, InMemory), pair),
    Peer("h5py kept open, slice per item", "by hand", partial(per_item, KeepOpen), pair),
    Peer("h5py opened per item, slice", "by hand", partial(per_item, OpenEach), pair),
    Peer(
        "whole dataset read per item (the tutorial)",
        "by hand",
        partial(per_item, ReadWhole),
        pair,
        batch=32,  # 24 MB are read for every item
    ),
)
