"""``BTCDataModule``: the wiring from a source of candles to the loaders, and only that.

``prepare_data`` brings the candle file and the feature file up to date on disk. ``setup`` opens
them, splits them by time and fits the scaler on train. The loaders hand out ``Batch``es.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from btc_datamodule.acquire import series_folder, update
from btc_datamodule.build import Recipe, build
from btc_datamodule.errors import ConfigError, NotPreparedError
from btc_datamodule.features import Feature, resolve
from btc_datamodule.fitted import Fitted, fit
from btc_datamodule.hparams import class_path, import_path
from btc_datamodule.origins import Origins, Reckoning, SampleShape, eligible
from btc_datamodule.sampling import Shuffle, WindowSampler
from btc_datamodule.scaling import Scaler
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.splits import STAGES, Fold, FractionSplit, Split, Stage
from btc_datamodule.store import read_header
from btc_datamodule.table import Table, table_path
from btc_datamodule.targets import LogReturn, Target
from btc_datamodule.timeline import (
    format_instant,
    format_interval,
    parse_instant,
    parse_interval,
)
from btc_datamodule.windows import Batch, WindowDataset, as_is

END_OF_TIME = 1 << 62
StartMethod = Literal["fork", "spawn", "forkserver"]


class BTCDataModule(LightningDataModule):
    """Bitcoin candles as train, validation, test and predict windows.

    Args:
        source: where candles come from: Simulator, Coinbase, CandleFile, or a Source of yours.
        interval: length of a bar: 1m, 5m, 1h, 1d and so on.
        start: first instant, ISO 8601, UTC; none for as early as the source has.
        end: instant past the last one; none for up to the latest closed bar.
        features: columns of x, by name (see README) or as Feature objects.
        target: what y is: LogReturn, Direction, or a Target of yours.
        lookback: input bars of a sample (L).
        horizon: target bars of a sample (H).
        gap: bars between the last input bar and the first target bar.
        split: how time is divided: FractionSplit, DateSplit, or a Split of yours.
        purge: bars to leave out at the end of train and of val, beyond what the target needs.
        batch_size: windows in a batch of one device.
        stride: bars from one train sample to the next.
        eval_stride: likewise for val and test; none for the horizon, so that each bar is scored
            once. The last window of every unbroken stretch is always among them.
        shuffle: order of train windows: full (random, anew each epoch) or none (by time).
        seed: of that order.
        scaling: train (z-score with statistics of the train rows) or none.
        max_fill: longest hole, in bars, that is taken as time without trades and filled flat;
            longer ones are outages, which no target touches.
        min_observed: least share of a sample's input bars that must be observed, in (0, 1].
        num_workers: processes that load batches; 0, in this process, is the fastest for most.
        start_method: how these processes start: fork, spawn or forkserver; none for the
            platform's default.
        pin_memory: copy batches into pinned memory, for faster transfer to a GPU.
        data_dir: folder under which the HDF5 files lie.
        refresh: ask the source again for everything, and let its answers replace what is stored.
        transform: a function from Batch to Batch, called with every batch handed out.

    Raises:
        ConfigError: if an argument is wrong on the face of it.
    """

    def __init__(
        self,
        source: Source | None = None,
        interval: str = "1h",
        start: str | None = None,
        end: str | None = None,
        features: Sequence[str | Feature] = ("log_return", "log_range", "log_volume"),
        target: Target | None = None,
        lookback: int = 48,
        horizon: int = 1,
        gap: int = 0,
        split: Split | None = None,
        purge: int = 0,
        batch_size: int = 256,
        stride: int = 1,
        eval_stride: int | None = None,
        shuffle: Shuffle = "full",
        seed: int = 0,
        scaling: Literal["train", "none"] = "train",
        max_fill: int = 3,
        min_observed: float = 1.0,
        num_workers: int = 0,
        start_method: StartMethod | None = None,
        pin_memory: bool = False,
        data_dir: str = "data",
        refresh: bool = False,
        transform: Callable[[Batch], Batch] | None = None,
    ) -> None:
        super().__init__()
        self.source = Simulator() if source is None else source
        self.target = LogReturn() if target is None else target
        self.split = FractionSplit() if split is None else split
        for name, kind in (("source", Source), ("target", Target), ("split", Split)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}: it must be an object such as "
                    f"{_EXAMPLES[name]}"
                )
        self.features = resolve(features)
        self.interval = parse_interval(interval)
        self.source.check_interval(self.interval)
        self.start = None if start is None else parse_instant(start, "start")
        self.end = None if end is None else parse_instant(end, "end")
        self.shape = SampleShape(lookback, horizon, gap, self.target.context)
        self.purge = purge
        self.batch_size = batch_size
        self.stride = stride
        self.eval_stride = horizon if eval_stride is None else eval_stride
        self.shuffle: Shuffle = shuffle
        self.seed = seed
        self.scaling = scaling
        self.max_fill = max_fill
        self.min_observed = min_observed
        self.num_workers = num_workers
        self.start_method = start_method
        self.pin_memory = pin_memory
        self.data_dir = Path(data_dir)
        self.refresh = refresh
        self.transform = transform
        self._check_arguments()
        self._table: Table | None = None
        self._fitted: Fitted | None = None
        self._verified_key: str | None = None
        self.save_hyperparameters(self._plain_arguments())

    # What sizes a model: known without any data.

    @property
    def n_features(self) -> int:
        """F, the last axis of ``Batch.x``."""
        return len(self.features)

    @property
    def lookback(self) -> int:
        """L, input bars."""
        return self.shape.lookback

    @property
    def horizon(self) -> int:
        """H, target bars."""
        return self.shape.horizon

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one sample's target."""
        return self.target.shape(self.horizon)

    # Where the files lie.

    @property
    def candle_path(self) -> Path:
        """The candle file."""
        folder = series_folder(self.data_dir, self.source, format_interval(self.interval))
        return folder / "candles.h5"

    @property
    def recipe(self) -> Recipe:
        """What the feature file is made by."""
        end = END_OF_TIME if self.end is None else self.end
        return Recipe(self.features, self.max_fill, (self.start or 0, end))

    # The hooks of a LightningDataModule.

    def prepare_data(self) -> None:
        """Bring the candle file and the feature file up to date, and say where they lie.

        Raises:
            SourceError: if the source cannot answer; what it had answered is kept.
            StoreError: if a file is damaged or locked.
            LookAheadError: if a feature looks ahead.
        """
        found = update(
            self.candle_path,
            self.source,
            self.interval,
            self.start,
            self.end,
            refresh=self.refresh,
        )
        for note in found.notes:
            rank_zero_info(f"note:     {note}")
        path = build(self.candle_path, self.recipe)
        rank_zero_info(
            f"candles:  {self.candle_path} ({found.header.rows:,} bars, {found.added:,} new)\n"
            f"features: {path}"
        )

    def setup(self, stage: str | None = None) -> None:
        """Open the files, split them by time, and fit the scaler on train; the same for any stage.

        What was fitted once stays: a later call with longer candles keeps the spans and the
        statistics, after making sure that the train rows are still the same.

        Raises:
            NotPreparedError: if the files are not there.
            ConfigError: if a stage would be left without windows.
        """
        if not self.candle_path.exists():
            raise NotPreparedError(
                f"{self.candle_path} does not exist: run `btc-datamodule prepare`, or "
                "prepare_data(), first"
            )
        path = table_path(self.candle_path, self.recipe.key(read_header(self.candle_path)))
        if not path.exists():
            raise NotPreparedError(
                f"there is no feature file for these settings beside {self.candle_path}: "
                "run `btc-datamodule prepare`, or prepare_data(), first"
            )
        self._table = Table.open(path)
        if self._fitted is None:
            self._fitted = fit(self._table, self.split, scale=self.scaling == "train")
            self._verified_key = self._table.key
        self._verify()
        self._check_stages()

    def teardown(self, stage: str | None = None) -> None:
        """Let go of the feature file; ``setup`` opens it again."""
        self._table = None

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of train windows."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of validation windows, in order of time, each window once."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of test windows, in order of time, each window once."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of every origin from the first test bar on; y is NaN where still unknown."""
        return self._loader("predict")

    def state_dict(self) -> dict[str, Any]:
        """What training has fixed, in plain lists, numbers and texts."""
        if self._fitted is None:
            return {}
        return {"settings": self._settings(), **self._fitted.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take spans and statistics from a checkpoint.

        Raises:
            ConfigError: if the checkpoint was trained with other features, or another shape.
            StoreError: if the train rows are no longer those that it was trained on.
        """
        if not state_dict:
            return
        now = self._settings()
        changed = [
            f"{name} was {was!r}, is {now.get(name)!r}"
            for name, was in state_dict["settings"].items()
            if now.get(name) != was
        ]
        if changed:
            raise ConfigError(
                f"the checkpoint was trained with other data settings: {'; '.join(changed)}"
            )
        self._fitted = Fitted.of_state(state_dict)
        self._verified_key = None
        self._verify()

    # For plain PyTorch, and for looking around.

    def dataset(self, stage: Stage) -> WindowDataset:
        """The windows of a stage: a map-style dataset for any DataLoader.

        Raises:
            NotPreparedError: before ``setup()``.
            ConfigError: if there is no such stage.
        """
        if stage not in STAGES:
            raise ConfigError(f"there is no stage {stage!r}: choose one of {', '.join(STAGES)}")
        table, fitted = self._ready()
        last = stage in ("val", "test")
        stride = {"train": self.stride, "predict": 1}.get(stage, self.eval_stride)
        origins = Origins.of(self.reckoning(stage).runs, stride, last=last)
        return WindowDataset(
            table,
            origins,
            self.shape,
            self.target,
            fitted.scaler,
            complete=self.min_observed == 1,
            transform=self.transform,
        )

    def reckoning(self, stage: Stage) -> Reckoning:
        """How many origins of a stage are eligible, and what became of the others."""
        table, fitted = self._ready()
        start, end = fitted.fold.span(stage)
        return eligible(
            self.shape,
            stage=(max(0, table.row_of(start)), table.row_of(end)),
            rows=table.rows,
            warm_up=table.warm_up,
            purge=self.purge if stage in ("train", "val") else 0,
            min_observed=self.min_observed,
            outages=table.outages,
            unobserved=table.unobserved,
            need_target=stage != "predict",
        )

    @property
    def table(self) -> Table:
        """The feature file."""
        return self._ready()[0]

    @property
    def fold(self) -> Fold:
        """The spans of the stages."""
        return self._ready()[1].fold

    @property
    def scaler(self) -> Scaler:
        """The statistics of the train rows."""
        return self._ready()[1].scaler

    def _ready(self) -> tuple[Table, Fitted]:
        if self._table is None or self._fitted is None:
            raise NotPreparedError("call prepare_data() and setup() first")
        return self._table, self._fitted

    def _loader(self, stage: Stage) -> DataLoader[Batch]:
        """The one factory of loaders: whole batches of positions in, whole batches out."""
        dataset = self.dataset(stage)
        train = stage == "train"
        ranks, rank = self._ranks()
        sampler = WindowSampler(
            len(dataset),
            self.batch_size,
            shuffle=self.shuffle if train else "none",
            seed=self.seed,
            drop_last=train,
            num_replicas=ranks,
            rank=rank,
        )
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=as_is,
            pin_memory=self.pin_memory,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context=self.start_method if self.num_workers else None,
        )

    def _ranks(self) -> tuple[int, int]:
        """How many ranks there are, and which this is."""
        if self.trainer is not None:
            return self.trainer.world_size, self.trainer.global_rank
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_world_size(), torch.distributed.get_rank()
        return 1, 0

    def _verify(self) -> None:
        """Make sure, once per feature file, that the train rows are those that were fitted on."""
        if self._table and self._fitted and self._verified_key != self._table.key:
            self._fitted.verify(self._table)
            self._verified_key = self._table.key

    def _check_stages(self) -> None:
        """Raise ``ConfigError`` if a stage has no window, or train not even one batch."""
        counts = {stage: len(self.dataset(stage)) for stage in STAGES if stage != "predict"}
        table, _ = self._ready()
        shown = ", ".join(f"{stage} {count:,}" for stage, count in counts.items())
        need = table.warm_up + self.lookback + self.shape.gap + self.horizon
        if table.rows < need:
            raise ConfigError(
                f"a sample needs {need} bars (warm-up {table.warm_up}, lookback {self.lookback}, "
                f"gap {self.shape.gap}, horizon {self.horizon}) and there are {table.rows}: "
                "shorten `lookback` or widen `start` and `end`"
            )
        if not all(counts.values()):
            raise ConfigError(
                f"the split leaves a stage without windows ({shown}, of {table.rows:,} bars): "
                "give it more time in `split`, shorten `lookback` or `horizon`, or, if holes are "
                "the cause, raise `max_fill` or lower `min_observed`"
            )
        whole = self.batch_size * self._ranks()[0]
        if counts["train"] < whole:
            raise ConfigError(
                f"train has fewer windows than one batch ({shown}, batch {whole}): "
                "lower `batch_size` or `stride`, or widen `start` and `end`"
            )

    def _check_arguments(self) -> None:
        least = {"lookback": 1, "horizon": 1, "gap": 0, "purge": 0, "batch_size": 1, "stride": 1}
        least |= {"eval_stride": 1, "max_fill": 0, "num_workers": 0}
        for name, bound in least.items():
            value = getattr(self.shape, name, None)
            value = getattr(self, name) if value is None else value
            if isinstance(value, bool) or not isinstance(value, int) or value < bound:
                raise ConfigError(f"{name} is {value!r}: it must be a whole number from {bound} up")
        if not 0 < self.min_observed <= 1:
            raise ConfigError(f"min_observed is {self.min_observed}: it must be in (0, 1]")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ConfigError(
                f"the range is empty: start {format_instant(self.start)} is not before "
                f"end {format_instant(self.end)}"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                offered = ", ".join(map(str, choices))
                raise ConfigError(f"{name} is {getattr(self, name)!r}: choose one of {offered}")

    def _settings(self) -> dict[str, Any]:
        """The settings that a checkpoint and a datamodule must share, in plain values.

        The source is not among them: the digest of the train rows says whether it has the same
        candles, wherever its files lie.
        """
        return {
            "interval": format_interval(self.interval),
            "features": [feature.name for feature in self.features],
            "target": repr(self.target),
            "lookback": self.lookback,
            "horizon": self.horizon,
            "gap": self.shape.gap,
        }

    def _plain_arguments(self) -> dict[str, Any]:
        """The arguments as plain values: what a checkpoint may hold under weights_only=True."""
        plain: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                *("lookback", "horizon", "purge", "batch_size", "stride", "eval_stride"),
                *("shuffle", "seed", "scaling", "max_fill", "min_observed", "num_workers"),
                *("start_method", "pin_memory", "refresh"),
            )
        }
        for name in ("start", "end"):
            instant = getattr(self, name)
            plain[name] = None if instant is None else format_instant(instant)
        for name in ("source", "target", "split"):
            plain[name] = class_path(getattr(self, name))
        plain["features"] = [feature.name for feature in self.features]
        plain["interval"] = format_interval(self.interval)
        plain["gap"] = self.shape.gap
        plain["data_dir"] = str(self.data_dir)
        plain["transform"] = None if self.transform is None else import_path(self.transform)
        plain["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
        return plain


_EXAMPLES = {"source": "Simulator()", "target": "LogReturn()", "split": "FractionSplit()"}
_CHOICES: Mapping[str, tuple[str | None, ...]] = {
    "shuffle": ("full", "none"),
    "scaling": ("train", "none"),
    "start_method": (None, "fork", "spawn", "forkserver"),
}
