"""Other packages, each by the way that the comment on its function names; another may be faster.

    pip install -r benchmarks/peers-requirements.txt   # any subset: what is absent is left out

``benchmarks/loaders.py`` times them. Those that store each window, and so hold 256 times the
series, get ``--stored`` windows instead of all.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from contenders import (
    FEATURES,
    FOLLOWING,
    Content,
    Indexed,
    Peer,
    Start,
    Work,
    batches_of,
    endless,
    following_row,
    getitems,
    pair,
    shuffled,
    windows_view,
)
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler


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


PEERS = (
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
