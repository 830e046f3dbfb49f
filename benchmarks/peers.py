"""How fast windows come beside other packages and hand-written loaders; ratios from one run.

    pip install -r benchmarks/peers-requirements.txt   # any subset: what is absent is left out
    python benchmarks/peers.py                         # minutes
    python benchmarks/peers.py --only datasets darts   # some of the others
    python benchmarks/peers.py --no-workers            # half the time

The work: ``--rows`` x 6 float32 in memory or in a file, page cache warm. A sample is
``--lookback`` consecutive rows and one value of the row after them, in random order over all
windows; a batch is float32 torch tensors. One torch thread. Ours delivers more than that: rows
scaled, masks of what was observed, times, and targets made in float64.

There are four kinds of rows: ``limit`` is no loader at all, ``ours`` is
``BTCDataModule.train_dataloader()``, ``by hand`` is what a few lines of torch and numpy do, and
``package`` is another package, by the way that the comment on its function names. Those that have
to store each window, and so hold 256 times the series, get ``--stored`` windows instead of all.

Every contender is first run once: its batch must have the right shape, and every window in it must
be one of the series, followed by its value, and not in order of time. Then all take turns: one
stretch each in every round, in an order that rotates; shown is the median over the rounds, of
ratios the median of those within a round, and the faster of 0 and 2 worker processes (threads, for
grain) where there is a choice. A contender that fails shows the first line of its error.
"""

import argparse
import importlib
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loaders import (
    FEATURES,
    FOLLOWING,
    Contender,
    InMemory,
    KeepOpen,
    OpenEach,
    Series,
    datamodule,
    epochs,
    machine,
    measure,
    ratio,
    windows_of,
)
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from btc_datamodule import BTCDataModule
from btc_datamodule.windows import as_items

BATCHES = (64, 1024)
WORKERS = 2

Content = tuple[Tensor, Tensor]
"""x: (B, L, F) float32 and y: (B,) float32."""

Start = Callable[[int, int], Iterator[Any]]
"""An endless stream of batches, of a batch size and a number of workers."""


@dataclass(frozen=True)
class Work:
    """What all contenders are given.

    Attributes:
        rows: (T, F) float32: those that the windows are cut from, window i from row i on.
        mapped: the same, as a view of the memory-mapped file.
        lookback: L.
        series: the same windows as the file has them.
        stored: windows for those that store each one.
        folder: for files of their own.
        options: of the command line.
    """

    rows: NDArray[np.float32]
    mapped: NDArray[np.float32]
    lookback: int
    series: Series
    stored: int
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
        kind: see the module.
        make: prepares, and gives what starts a stream.
        content: what a batch of the stream holds; None where it cannot be told.
        package: the distribution that is needed.
        workers: whether it can load in other processes.
        stored: whether it stores each window, and so gets fewer.
    """

    name: str
    kind: str
    make: Callable[[Work], Start]
    content: Callable[[Any], Content] | None
    package: str | None = None
    workers: bool = True
    stored: bool = False


def pair(batch: Any) -> Content:
    """The content of a batch that is (x, y)."""
    return batch[0], batch[1].reshape(-1)


def following_row(batch: Any) -> Content:
    """The content of a batch of L + 1 rows."""
    return batch[:, :-1], batch[:, -1, FOLLOWING]


# The limits.


def bare_gather(work: Work) -> Start:
    """Numpy copies windows out of the memory-mapped file: a void item each, one memcpy each."""
    items, following = as_items(work.mapped, work.lookback)[: work.count], work.following
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


def ours(work: Work) -> Start:
    """``train_dataloader()`` with its defaults: scaled, shuffled, targets, masks and times."""

    @cache
    def made(batch: int) -> BTCDataModule:
        options = argparse.Namespace(**{**vars(work.options), "batch": batch})
        return datamodule(options, str(work.folder))

    def start(batch: int, _: int) -> Iterator[Any]:
        dm = made(batch)
        for each in epochs(dm.train_dataloader()):
            yield dm, each

    return start


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
    x = torch.from_numpy(np.array(windows_view(work)[: work.stored]))
    y = torch.from_numpy(work.following[: work.stored])

    def start(batch: int, _: int) -> Iterator[Any]:
        for at in batches_of(len(x), batch):
            yield x.index_select(0, at), y.index_select(0, at)

    return start


def per_item(kind: Callable[[Series], Dataset[Any]], work: Work) -> Start:
    """A ``Dataset`` that gives one sample at a time, in ``DataLoader(shuffle=True)``."""
    return shuffled(kind(work.series))


# Packages.


def hugging_face(work: Work) -> Start:
    """A dataset of starts and a batch transform; BatchSampler, as "Use with PyTorch" advises."""
    datasets = importlib.import_module("datasets")
    source = Indexed(work)
    data = datasets.Dataset.from_dict({"start": np.arange(work.count)})

    def gather(some: dict[str, Any]) -> dict[str, Tensor]:
        x, y = source.__getitems__(some["start"])
        return {"x": x, "y": y}

    data = data.with_transform(gather)

    def start(batch: int, workers: int) -> Iterator[Any]:
        sampler = BatchSampler(RandomSampler(data), batch, drop_last=True)
        return endless(DataLoader(data, None, sampler=sampler, num_workers=workers))

    return start


def torchdata(work: Work) -> Start:
    """StatefulDataLoader over the fast ``__getitems__``."""
    return getitems(
        work, importlib.import_module("torchdata.stateful_dataloader").StatefulDataLoader
    )


def tensorstore(work: Work) -> Start:
    """``ts.array`` of the strided windows, no copy; one indexed read a batch."""
    store = importlib.import_module("tensorstore").array(windows_view(work))
    following = torch.from_numpy(work.following)

    def start(batch: int, _: int) -> Iterator[Any]:
        for at in batches_of(work.count, batch):
            yield torch.from_numpy(store[at.numpy()].read().result()), following[at]

    return start


def darts(work: Work) -> Start:
    """SequentialTorchTrainingDataset in a DataLoader with the collate function of its models."""
    series = importlib.import_module("darts").TimeSeries.from_values(work.rows)
    model = importlib.import_module("darts.models.forecasting.torch_forecasting_model")
    data = importlib.import_module("darts.utils.data").SequentialTorchTrainingDataset(
        series, input_chunk_length=work.lookback, output_chunk_length=1
    )
    return shuffled(data, model.TorchForecastingModel._batch_collate_fn)


def gluonts(work: Work) -> Start:
    """TrainDataLoader with InstanceSplitter; its sampler draws 10,000 windows a pass, not one."""
    transform = importlib.import_module("gluonts.transform")
    loader = importlib.import_module("gluonts.dataset.loader").TrainDataLoader
    stack = importlib.import_module("gluonts.torch.batchify").batchify
    entry = {"target": np.ascontiguousarray(work.rows.T), "start": 0}
    split = transform.InstanceSplitter(
        target_field="target",
        is_pad_field="is_pad",
        start_field="start",
        forecast_start_field="forecast_start",
        instance_sampler=transform.NumInstanceSampler(
            N=10_000, min_past=work.lookback, min_future=1
        ),
        past_length=work.lookback,
        future_length=1,
    ) + transform.SelectFields(["past_target", "future_target"])
    return lambda batch, _: iter(loader([entry], transform=split, batch_size=batch, stack_fn=stack))


def whole_series(rows: str) -> dict[str, Any]:
    """What litdata stores of the whole series: one track."""
    return {"rows": np.load(rows)}


class LitdataWindows(Dataset[Any]):
    """One track, and ``read_window``: POSIX-fast, so each window is read from a mapping."""

    def __init__(self, folder: str, work: Work) -> None:
        litdata = importlib.import_module("litdata")
        self.data = litdata.StreamingDataset(folder, item_loader=litdata.TemporalArrayLoader())
        self.count, self.frames = work.count, work.lookback + 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.data.read_window(0, index, self.frames)["rows"]


def litdata_windows(work: Work) -> Start:
    """The series as one record of TemporalArrayLoader; ``read_window`` for each item."""
    os.environ["LITDATA_POSIX_FAST"] = "1"  # in place, from a mapping, whatever the file system
    litdata = importlib.import_module("litdata")
    rows, folder = work.folder / "rows.npy", str(work.folder / "litdata-series")
    np.save(rows, work.rows)
    litdata.optimize(
        whole_series,
        [str(rows)],
        folder,
        num_workers=1,
        chunk_bytes="256MB",
        item_loader=litdata.TemporalArrayLoader(),
        verbose=False,
    )
    return shuffled(LitdataWindows(folder, work))


def grain(work: Work) -> Start:
    """MapDataset of starts, shuffled, with a ``batch_fn`` that gathers; threads are its workers."""
    module = importlib.import_module("grain")
    source = Indexed(work)

    def start(batch: int, workers: int) -> Iterator[Any]:
        data = module.MapDataset.range(work.count).shuffle(seed=0).repeat()
        data = data.batch(batch, drop_remainder=True, batch_fn=source.__getitems__)
        reading = module.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
        return iter(data.to_iter_dataset(reading))

    return start


def webdataset(work: Work) -> Start:
    """Shards of stored windows; shuffled by shard and in a buffer of 1,000, batched inside."""
    module = importlib.import_module("webdataset")
    pattern = str(work.folder / "shard-%04d.tar")
    with redirect_stdout(sys.stderr), module.ShardWriter(pattern, maxcount=1000, verbose=0) as sink:
        for i in range(work.stored):
            sink.write({"__key__": f"{i:07}", "npy": work.rows[i : i + work.lookback + 1]})
    shards = [str(path) for path in sorted(work.folder.glob("shard-*.tar"))]

    def start(batch: int, workers: int) -> Iterator[Any]:
        data = module.WebDataset(shards, shardshuffle=len(shards)).shuffle(1000).decode()
        data = data.to_tuple("npy").batched(batch, partial=False)
        return endless(module.WebLoader(data, batch_size=None, num_workers=workers))

    return start


def xbatcher(work: Work) -> Start:
    """BatchGenerator with overlap, and its own torch ``MapDataset``."""
    rows = work.rows[: work.stored + work.lookback]
    array = importlib.import_module("xarray").DataArray(rows, dims=("time", "feature"))
    batches = importlib.import_module("xbatcher").BatchGenerator(
        array,
        input_dims={"time": work.lookback + 1, "feature": len(FEATURES)},
        input_overlap={"time": work.lookback},
        preload_batch=False,
    )
    return shuffled(importlib.import_module("xbatcher.loaders.torch").MapDataset(batches))


def pytorch_forecasting(work: Work) -> Start:
    """TimeSeriesDataSet of version 1 and its ``to_dataloader(train=True)``; scalers off."""
    module = importlib.import_module("pytorch_forecasting")
    normalizer = importlib.import_module("pytorch_forecasting.data").TorchNormalizer
    frame = importlib.import_module("pandas").DataFrame(work.rows, columns=list(FEATURES))
    frame["time"], frame["group"] = np.arange(len(frame)), "0"
    data = module.TimeSeriesDataSet(
        frame,
        time_idx="time",
        target=FEATURES[FOLLOWING],
        group_ids=["group"],
        max_encoder_length=work.lookback,
        max_prediction_length=1,
        time_varying_unknown_reals=list(FEATURES),
        target_normalizer=normalizer(method="identity", center=False),
        scalers=dict.fromkeys(name for name in FEATURES if name != FEATURES[FOLLOWING]),
    )
    return lambda batch, workers: endless(
        data.to_dataloader(train=True, batch_size=batch, num_workers=workers)
    )


def neuralforecast(work: Work) -> Start:
    """Its loader gives the whole series; the model's training step cuts and samples windows.

    The two calls below are that step's own; there is no public way to them alone.
    """
    tables = importlib.import_module("neuralforecast.tsdataset")
    model = importlib.import_module("neuralforecast.models").MLP
    names = ["y" if i == FOLLOWING else name for i, name in enumerate(FEATURES)]
    frame = importlib.import_module("pandas").DataFrame(work.rows, columns=names)
    frame["unique_id"], frame["ds"] = 0, np.arange(len(frame))
    data = tables.TimeSeriesDataset.from_df(frame)[0]
    columns = [data.temporal_cols.get_loc(name) for name in names]

    def start(batch: int, _: int) -> Iterator[Any]:
        others = [name for name in names if name != "y"]
        cutter = model(
            h=1, input_size=work.lookback, windows_batch_size=batch, hist_exog_list=others
        )
        for whole in endless(tables.TimeSeriesDataModule(data, batch_size=1).train_dataloader()):
            found, static, static_cols, usable, weight, cols = cutter._create_windows(
                whole, step="train"
            )
            at = torch.randperm(len(usable))[:batch]
            some = cutter._sample_windows(found, static, static_cols, cols, at, usable, weight)
            yield some["temporal"], columns

    return start


def neuralforecast_content(batch: Any) -> Content:
    """Its columns in our order."""
    rows, columns = batch
    return following_row(rows[..., 0][:, :, columns])


class ZarrWindows(Dataset[Any]):
    """One slice of a zarr array for each item."""

    def __init__(self, path: str, work: Work) -> None:
        self.array = importlib.import_module("zarr").open_array(path, mode="r")
        self.count, self.lookback = work.count, work.lookback

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(self.array[index : index + self.lookback + 1])


def zarr(work: Work) -> Start:
    """A local store in chunks of 4,096 rows, not compressed; a slice for each item."""
    path = str(work.folder / "rows.zarr")
    array = importlib.import_module("zarr").create_array(
        path, shape=work.rows.shape, chunks=(4096, len(FEATURES)), dtype="f4", compressors=None
    )
    array[:] = work.rows
    return shuffled(ZarrWindows(path, work))


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


OURS, BARE = "`dm.train_dataloader()`", "numpy gather, a void item per window"
PEERS = (
    Peer("memcpy of the same bytes", "limit", memcpy, None, workers=False),
    Peer(BARE, "limit", bare_gather, None, workers=False),
    Peer(OURS, "ours", ours, ours_content, workers=False),
    Peer("randperm + index_select, no loader", "by hand", randperm_loop, pair, workers=False),
    Peer("DataLoader, `__getitems__` + index_select", "by hand", getitems, pair),
    Peer("FastTensorDataLoader", "by hand", precomputed, pair, workers=False, stored=True),
    Peer("in memory, per-item Dataset", "by hand", partial(per_item, InMemory), pair),
    Peer("h5py kept open, slice per item", "by hand", partial(per_item, KeepOpen), pair),
    Peer("h5py opened per item, slice", "by hand", partial(per_item, OpenEach), pair),
    Peer("torchdata StatefulDataLoader", "by hand", torchdata, pair, "torchdata"),
    Peer("datasets", "package", hugging_face, lambda b: (b["x"], b["y"]), "datasets"),
    Peer("tensorstore", "package", tensorstore, pair, "tensorstore", workers=False),
    Peer("darts", "package", darts, lambda b: (b[0], b[-1][:, 0, FOLLOWING]), "darts"),
    Peer(
        "gluonts",
        "package",
        gluonts,
        lambda b: (b["past_target"], b["future_target"][:, 0, FOLLOWING]),
        "gluonts",
        workers=False,
    ),
    Peer(
        "litdata, `read_window`",
        "package",
        litdata_windows,
        following_row,
        "litdata",
        workers=False,
    ),
    Peer("grain", "package", grain, pair, "grain"),
    Peer(
        "webdataset",
        "package",
        webdataset,
        lambda b: following_row(torch.as_tensor(b[0])),
        "webdataset",
        stored=True,
    ),
    Peer("xbatcher", "package", xbatcher, following_row, "xbatcher", stored=True),
    Peer(
        "pytorch-forecasting v1",
        "package",
        pytorch_forecasting,
        lambda b: (b[0]["encoder_cont"], b[1][0][:, 0]),
        "pytorch-forecasting",
    ),
    Peer("zarr", "package", zarr, following_row, "zarr"),
    Peer(
        "neuralforecast",
        "package",
        neuralforecast,
        neuralforecast_content,
        "neuralforecast",
        workers=False,
    ),
)


def check(batch: Any, peer: Peer, work: Work, size: int, found: dict[bytes, int]) -> None:
    """Assert that a batch holds windows of the series, the values after them, and is shuffled."""
    if peer.content is None:
        return
    x, y = peer.content(batch)
    assert x.shape == (size, work.lookback, len(FEATURES)), f"x has the shape {tuple(x.shape)}"
    assert x.dtype == torch.float32, f"x is {x.dtype}"
    assert y.shape == (size,), f"y has the shape {tuple(y.shape)}"
    if peer.kind == "ours":  # scaling and its undoing leave no exact bytes; the times tell them
        dm, delivered = batch
        rows = (delivered.origin_time.numpy() - dm.table.first) // dm.table.interval
        starts = (rows - (work.lookback - 1) - work.series.first).tolist()
    else:
        starts = [found[np.asarray(each[0]).tobytes()] for each in x]
    for start, window, value in zip(starts, x.numpy(), y.numpy(), strict=True):
        expected = work.rows[start : start + work.lookback]
        tolerance = 1e-4 if peer.kind == "ours" else 0
        np.testing.assert_allclose(window, expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(
            value, work.rows[start + work.lookback, FOLLOWING], rtol=tolerance, atol=tolerance / 100
        )
    assert np.mean(np.diff(starts) == 1) < 0.5, "in order of time"


def installed(package: str | None) -> str | None:
    """The version of a distribution; None if it is not there."""
    for name in (package, f"u8{package}") if package else ():
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def prepared(work: Work, chosen: list[str] | None, workers: bool) -> tuple[Any, dict[str, str]]:
    """The streams to time, by batch size; and what is to be said of others."""
    found = {row.tobytes(): i for i, row in enumerate(work.rows[: work.count])}
    contenders: dict[int, list[Contender]] = {size: [] for size in BATCHES}
    notes: dict[str, str] = {}
    for peer in PEERS:
        if (
            chosen
            and peer.kind in ("package", "by hand")
            and not any(text in (peer.package or peer.name) for text in chosen)
        ):
            continue
        if peer.package and installed(peer.package) is None:
            notes[peer.name] = f"left out: {peer.package} is not installed"
            continue
        print(f"\r{peer.name:60}", end="", file=sys.stderr, flush=True)
        try:
            start = peer.make(work)
            multiprocessing.set_start_method("fork", force=True)  # some packages change it for all
            ways = (0, WORKERS) if workers and peer.workers else (0,)
            for size in BATCHES:
                for count in ways:
                    stream = start(size, count)
                    check(next(stream), peer, work, size, found)
                    del stream
            for size in BATCHES:
                contenders[size] += [
                    Contender(peer.name, count, size, partial(start, size, count)) for count in ways
                ]
        except Exception as error:  # whatever a package raises
            first = next(iter(str(error).strip().splitlines()), "")
            notes[peer.name] = f"failed: {type(error).__name__}: {first}"
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)
    return contenders, notes


Rates = dict[str, tuple[int, list[float]]]
"""By name: the number of workers that was faster, and windows per second in each round."""


def faster(contenders: list[Contender], measured: list[list[float]]) -> Rates:
    """The better number of workers for each name."""
    best: Rates = {}
    for contender, rates in zip(contenders, measured, strict=True):
        known = best.get(contender.name)
        if known is None or statistics.median(rates) > statistics.median(known[1]):
            best[contender.name] = contender.workers, rates
    return best


def report(tables: dict[int, Rates], notes: dict[str, str], work: Work) -> None:
    """Print the table, in Markdown, what was left out, and whether what is expected holds."""
    columns = "".join(f" batch {size}: windows/s | workers | ours is |" for size in BATCHES)
    print(f"| | |{columns}\n|---|---|{'---:|' * 3 * len(BATCHES)}")
    for peer in PEERS:
        if peer.name not in tables[BATCHES[0]]:
            continue
        known = installed(peer.package)
        name = f"{peer.name} {known}" if known else peer.name
        name += f" ({work.stored:,} windows)" if peer.stored else ""
        cells = ""
        for size in BATCHES:
            table = tables[size]
            count, rates = table[peer.name]
            times = ratio(table[OURS][1], rates)
            cells += f" {statistics.median(rates):,.0f} | {count} | {times:,.2f} x |"
        print(f"| {name} | {peer.kind} |{cells}")
    print()
    for name, note in notes.items():
        print(f"{name}: {note}")

    kinds = {peer.name: peer.kind for peer in PEERS}
    for size in BATCHES:
        table = tables[size]
        mine = table[OURS][1]
        print(f"\nbatch {size}")
        verdict("ours is at least 60 % of the bare gather", ratio(mine, table[BARE][1]), 0.6)
        for kind, bound in (("package", 3.0), ("by hand", 1.0)):
            rivals = {name: rates for name, (_, rates) in table.items() if kinds[name] == kind}
            if rivals:
                best = max(rivals, key=lambda name: statistics.median(rivals[name]))
                text = f"ours is at least {bound:g} x the fastest {kind} ({best})"
                verdict(text, ratio(mine, rivals[best]), bound)


def verdict(text: str, got: float, bound: float) -> None:
    print(f"{text}: {'holds' if got >= bound else 'DOES NOT HOLD'} ({got:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Windows per second, ours beside other packages.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="bars in the series")
    parser.add_argument("--lookback", type=int, default=256, help="rows in a window")
    parser.add_argument("--stored", type=int, default=20_000, help="windows of those that store")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each stretch")
    parser.add_argument("--rounds", type=int, default=5, help="stretches of each contender")
    parser.add_argument("--no-workers", action="store_true", help="0 workers only")
    parser.add_argument("--only", nargs="+", help="parts of names of the others to run")
    options = parser.parse_args()

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the packages' own; what fails is reported
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(machine())
    print(
        f"windows of {options.lookback} x {len(FEATURES)} float32 from {options.rows:,} rows, "
        f"{options.rounds} rounds of {options.seconds} s each\n"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        dm = datamodule(argparse.Namespace(**vars(options), batch=BATCHES[-1]), folder)
        series = windows_of(dm)
        mapped = dm.table.x[series.first : series.first + series.count + series.lookback]
        work = Work(
            rows=np.array(mapped),
            mapped=mapped,
            lookback=options.lookback,
            series=series,
            stored=min(options.stored, series.count),
            folder=Path(folder),
            options=options,
        )
        contenders, notes = prepared(work, options.only, not options.no_workers)
        flat = [each for size in BATCHES for each in contenders[size]]
        measured = measure(flat, options.seconds, options.rounds)
        tables: dict[int, Rates] = {}
        for size in BATCHES:
            some = [i for i, each in enumerate(flat) if each.batch == size]
            tables[size] = faster([flat[i] for i in some], [measured[i] for i in some])
        report(tables, notes, work)


if __name__ == "__main__":
    main()
