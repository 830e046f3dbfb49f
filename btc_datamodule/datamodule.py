"""``BTCDataModule``: the wiring from a source of candles to the loaders, and only that.

``prepare_data`` brings the candle file and the feature file up to date on disk. ``setup`` opens
them, splits them by time and fits the scaler on train. The loaders hand out ``Batch``es.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning_utilities.core.apply_func import apply_to_collection
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from btc_datamodule.candles.timeline import format_interval, parse_instant, parse_interval
from btc_datamodule.checks import check_arguments, check_stages
from btc_datamodule.disk.hdf5 import mend
from btc_datamodule.errors import ConfigError, NotPreparedError, StoreError
from btc_datamodule.evaluation.fitted import Fitted, digest_of, observed_rows, train_runs
from btc_datamodule.evaluation.origins import Origins, Reckoning, SampleShape, eligible
from btc_datamodule.evaluation.scaling import Scaler, Scaling
from btc_datamodule.evaluation.splits import END_OF_TIME, STAGES, Fold, FractionSplit, Split, Stage
from btc_datamodule.evaluation.targets import LogReturn, Target
from btc_datamodule.features.build import Recipe, build
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.table import Table, table_path
from btc_datamodule.hparams import plain
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import Header, check_series, read_header
from btc_datamodule.store.update import series_folder, update
from btc_datamodule.training.resume import ExactResume
from btc_datamodule.training.stopping import StopTogether
from btc_datamodule.windows.dataset import Batch, WindowDataset, as_is
from btc_datamodule.windows.device import DeviceGather, Places
from btc_datamodule.windows.loader import InOrderSampler, WindowLoader
from btc_datamodule.windows.memory import Memory
from btc_datamodule.windows.sampler import BLOCK_WINDOWS, Shuffle, WindowSampler

if TYPE_CHECKING:
    import polars as pl

    from btc_datamodule.audit.report import Audit

StartMethod = Literal["fork", "spawn", "forkserver"]


class BTCDataModule(LightningDataModule):
    """Bitcoin candles as train, validation, test and predict windows.

    Args:
        source: where candles come from: Simulator, Coinbase, BinanceArchive, Ccxt, CandleFile, or
            a Source of yours.
        interval: length of a bar: 1m, 5m, 1h, 1d and so on.
        start: first instant, ISO 8601, UTC; none for as early as the source has.
        end: instant past the last one; none for up to the latest closed bar.
        features: columns of x: names (see README), expressions such as
            "momentum_10 = close / close.shift(10) - 1", or Feature objects.
        target: what y is: LogReturn, CumulativeReturn, OHLCPath, Direction, TripleBarrier,
            RealisedVolatility, or a Target of yours.
        lookback: input bars of a sample (L).
        horizon: target bars of a sample (H).
        gap: bars between the last input bar and the first target bar.
        split: how time is divided: FractionSplit, DateSplit, WalkForward, CombinatorialPurged,
            or a Split of yours.
        purge: bars to leave out at the end of train and of val, beyond what the target needs.
        embargo: bars to leave out where train follows a val or test span.
        context: whether inputs of val and test may reach back over the start of their span
            (allow) or not (strict). Those of train never do.
        batch_size: windows in a batch of one device.
        stride: bars from one train sample to the next.
        eval_stride: likewise for val and test; none for the horizon, so that each bar is scored
            once. The last window of every unbroken stretch is always among them.
        shuffle: order of train windows: full (random, anew each epoch), block (likewise, but
            mixed only within a million windows at a time: for files larger than memory) or none
            (by time).
        seed: of that order.
        scaling: of x: train (z-score with statistics of the train rows), robust (median and
            quartiles of the train rows), window (each sample by itself) or none.
        target_scaling: of y: train or robust, with statistics of the train targets, or none.
        max_fill: longest hole, in bars, that is taken as time without trades and filled flat;
            longer ones are outages, which no target touches.
        min_observed: least share of a sample's input bars that must be observed, in (0, 1].
        num_workers: processes that load batches; 0, in this process, is the fastest for most.
        start_method: how these processes start: fork, spawn or forkserver; none for the
            platform's default.
        pin_memory: have batches in pinned memory, for faster transfer to a GPU; none: where a
            Trainer trains on one, with ``gather`` host.
        gather: where windows are put together: host, or device, which holds the rows in its own
            memory, if they fit. What the loaders hand out is made a Batch by
            ``transfer_batch_to_device`` then, which a Trainer calls by itself.
        data_dir: folder under which the HDF5 files lie.
        refresh: ask the source again for everything, and let its answers replace what is stored.
        transform: a function from Batch to Batch, called with every batch handed out; on the
            device, with ``gather`` device.

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
        embargo: int = 0,
        context: Literal["allow", "strict"] = "allow",
        batch_size: int = 256,
        stride: int = 1,
        eval_stride: int | None = None,
        shuffle: Shuffle = "full",
        seed: int = 0,
        scaling: Scaling = "train",
        target_scaling: Literal["train", "robust", "none"] = "none",
        max_fill: int = 3,
        min_observed: float = 1.0,
        num_workers: int = 0,
        start_method: StartMethod | None = None,
        pin_memory: bool | None = None,
        gather: Literal["host", "device"] = "host",
        data_dir: str = "data",
        refresh: bool = False,
        transform: Callable[[Batch], Batch] | None = None,
    ) -> None:
        given = locals()
        super().__init__()
        self._given = {name: given[name] for name in _ARGUMENTS}
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
        self.embargo = embargo
        self.context = context
        self.batch_size = batch_size
        self.stride = stride
        self.eval_stride = horizon if eval_stride is None else eval_stride
        self.shuffle: Shuffle = shuffle
        self.seed = seed
        self.scaling: Scaling = scaling
        self.target_scaling: Scaling = target_scaling
        self.max_fill = max_fill
        self.min_observed = min_observed
        self.num_workers = num_workers
        self.start_method = start_method
        self.pin_memory = pin_memory
        self.gather = gather
        if not isinstance(data_dir, str | Path):
            raise ConfigError(f"data_dir is {data_dir!r}: name a folder")
        self.data_dir = Path(data_dir).expanduser()
        self.refresh = refresh
        self.transform = transform
        check_arguments(self)
        if gather == "device" and scaling == "window":
            rank_zero_warn("with `scaling: window` windows are gathered on the host")
        self._table: Table | None = None
        self._fitted: Fitted | None = None
        self._verified_key: str | None = None
        self._device_gather: DeviceGather | None = None
        self.save_hyperparameters(self._plain_arguments())

    def with_fold(self, fold: int) -> "BTCDataModule":
        """A datamodule with the same settings for another fold of the split.

        It uses the same files; the statistics are its own, fitted by its ``setup``.

        Raises:
            ConfigError: if the split has only one fold, or ``fold`` is no whole number.
        """
        if isinstance(fold, bool) or not isinstance(fold, int):
            raise ConfigError(f"fold is {fold!r}: it must be a whole number")
        if "fold" not in signature(type(self.split)).parameters:
            raise ConfigError(f"split {self.split!r} has only one fold")
        return type(self)(**self._given | {"split": replace(self.split, fold=fold)})  # type: ignore[type-var]

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

    def candle_header(self) -> Header:
        """What the candle file says of itself.

        Raises:
            NotPreparedError: if there is none.
            StoreError: if it is damaged, or holds another series than that of ``source``.
        """
        if not self.candle_path.exists():
            raise NotPreparedError(
                f"{self.candle_path} does not exist: run `btc-datamodule prepare`, or "
                "prepare_data(), first"
            )
        header = read_header(self.candle_path)
        source, series = self.source.name, self.source.series
        check_series(self.candle_path, header, source, series, self.interval)
        return header

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
        path = table_path(self.candle_path, self.recipe.key(self.candle_header()))
        if not path.exists():
            raise NotPreparedError(
                f"there is no feature file for these settings beside {self.candle_path}: "
                "run `btc-datamodule prepare`, or prepare_data(), first"
            )
        self._table = Table.open(path)
        if table_path(path, self._table.key) != path:
            raise StoreError(f"{path} is another feature file under this name: {mend(path)}")
        if self._fitted is None:
            self._fitted = self._fit(self._table)
            self._verified_key = self._table.key
        self._verify()
        self._device_gather = None
        check_stages(self)
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
            given = {type(each) for each in callbacks}
            callbacks += [kind() for kind in (ExactResume, StopTogether) if kind not in given]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of train windows."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of validation windows, in order of time, each window once.

        None at all if the split has no validation.
        """
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of test windows, in order of time, each window once."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of every origin whose target begins in test, in order of time.

        Where test reaches the end of the candles, also of those whose target begins after them:
        what is not known yet is NaN in y.
        """
        return self._loader("predict")

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device | str, dataloader_idx: int
    ) -> Any:
        """The batch on the device; with ``gather`` device the ``Batch`` is made only here.

        A Trainer calls it by itself; in plain PyTorch call it with a ``dataloader_idx`` of 0.
        Where datamodule and model share a hook a Trainer asks the datamodule alone: this one
        passes every batch on to the model's.
        """
        device, trainer = torch.device(device), self.trainer

        def made(places: Places) -> Batch:
            one = self._gather_of_all()(places, device)
            if self.transform is not None:
                one = self.transform(one)
            if trainer is not None:  # as it has done, before the transfer, with other batches
                one = trainer.precision_plugin.convert_input(one)
            return one

        if self.gather == "device":  # a model may have put loaders into lists or dicts
            batch = apply_to_collection(batch, Places, made)
        if trainer is not None and trainer.lightning_module is not None:
            return trainer.lightning_module.transfer_batch_to_device(batch, device, dataloader_idx)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def teardown(self, stage: str | None = None) -> None:
        """Let go of the rows on the device, if they are there."""
        if self._device_gather is not None:
            self._device_gather.release()

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
            path = getattr(self.trainer, "ckpt_path", None) or "the checkpoint"
            raise ConfigError(
                f"{path} was trained with other data settings: {'; '.join(changed)}. Give those, "
                "or begin anew without it"
            )
        self._fitted = Fitted.of_state(state_dict)
        self._verified_key = None
        self._verify()
        self._device_gather = None

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
        windows = self._windows(stage, table, fitted.fold, fitted.scaler)
        windows.target_scaler = fitted.target_scaler
        windows.transform = self.transform
        return windows

    def reckonings(self, stage: Stage) -> tuple[Reckoning, ...]:
        """How many origins are eligible, and why not the others, for each span of a stage."""
        table, fitted = self._ready()
        return self._reckonings(stage, table, fitted.fold)

    def describe(self) -> "pl.DataFrame":
        """The stages span by span: how many windows there are, and what was left out and why.

        Returns:
            One row for each span: ``stage``, ``from``, ``to`` (UTC), ``bars``, ``windows`` (at
            the stage's stride), ``eligible`` (origins that may be used), and how many were left
            out: ``end``, ``purge``, ``history``, ``embargo``, ``target``, ``origin``, ``inputs``
            (see ``origins``).
        """
        from btc_datamodule.cli.info import stages

        return stages(self)

    def audit(self) -> "Audit":
        """Check on these very candles and settings that nothing of the future leaks.

        Runs the whole way again on candles in which every bar that must not matter has other
        values; calls ``setup``. Asks no source, and changes nothing.

        Returns:
            What was found: ``passed``, ``findings``, and as text a report.
        """
        from btc_datamodule.audit.report import audit

        return audit(self)

    def inverse_transform(self, y: Tensor) -> Tensor:
        """Targets or forecasts, (..., C), in the units of the target: undo ``target_scaling``."""
        return self._ready()[1].target_scaler.invert(y)

    def to_prices(self, y: Tensor, origin_time: Tensor) -> NDArray[np.float64]:
        """Prices that targets or forecasts stand for.

        Args:
            y: (B, *target shape), scaled as ``Batch.y`` is.
            origin_time: (B,) int64, epoch seconds, of their origins.

        Returns:
            What ``target.prices`` makes of them, in the quote currency. They are measured from
            the close before the first target bar, which with a gap comes after the origin: NaN
            where it is not known yet.

        Raises:
            ConfigError: if the target is not one of prices.
        """
        table, _ = self._ready()
        rows = (origin_time.numpy() - table.first) // table.interval + self.shape.gap
        known = (rows >= 0) & (rows < table.rows)
        close = np.where(known, table.bars("close")[np.where(known, rows, 0)], np.nan)
        return self.target.prices(self.inverse_transform(y).numpy().astype(np.float64), close)

    @property
    def table(self) -> Table:
        """The feature file."""
        return self._ready()[0]

    @property
    def fold(self) -> Fold:
        """The spans of the stages."""
        return self._ready()[1].fold

    @property
    def n_folds(self) -> int:
        """How many folds the split makes of the candles."""
        table, _ = self._ready()
        return len(self.split.folds(table.span, table.interval))

    @property
    def scaler(self) -> Scaler:
        """The statistics of the train rows."""
        return self._ready()[1].scaler

    @property
    def target_scaler(self) -> Scaler:
        """The statistics of the train targets."""
        return self._ready()[1].target_scaler

    def _ready(self) -> tuple[Table, Fitted]:
        if self._table is None or self._fitted is None:
            raise NotPreparedError("call prepare_data() and setup() first")
        return self._table, self._fitted

    def _loader(self, stage: Stage) -> DataLoader[Batch]:
        """The one factory of loaders: whole batches of positions in, whole batches out."""
        dataset = self.dataset(stage)
        train = stage == "train"
        on_device = self.gather == "device" and self.scaling != "window"
        overfits = bool(getattr(self.trainer, "overfit_batches", 0))
        shuffle = self.shuffle if train and not overfits else "none"
        pinned = self._pinned(on_device)
        if pinned and not self.num_workers and torch.cuda.is_available():
            dataset.memory = Memory(pinned=True)
        ranks, rank = self.ranks
        sampler = (InOrderSampler if shuffle == "none" else WindowSampler)(
            len(dataset),
            self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            drop_last=train,
            num_replicas=ranks,
            rank=rank,
            block=max(1, BLOCK_WINDOWS // self.stride),  # the same length of the file
        )
        loader = WindowLoader(
            # What a model is handed are batches in either case: see transfer_batch_to_device.
            cast("Dataset[Batch]", self._gather_of_all().of(dataset)) if on_device else dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=as_is,
            pin_memory=pinned,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context=self.start_method if self.num_workers else None,
        )
        loader.trainer = self.trainer if train else None
        return loader

    def _pinned(self, on_device: bool) -> bool:
        """Whether batches are to lie in pinned memory."""
        if self.pin_memory is not None:
            return self.pin_memory
        if on_device or self.trainer is None:
            return False
        return self.trainer.strategy.root_device.type == "cuda"

    def _gather_of_all(self) -> DeviceGather:
        """The gather of all stages on the device, made anew after setup and load_state_dict."""
        if self._device_gather is None:
            self._device_gather = DeviceGather.over([self.dataset(stage) for stage in STAGES])
        return self._device_gather

    @property
    def ranks(self) -> tuple[int, int]:
        """How many ranks there are, and which this is."""
        if self.trainer is not None:
            return self.trainer.world_size, self.trainer.global_rank
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_world_size(), torch.distributed.get_rank()
        return 1, 0

    def _fit(self, table: Table) -> Fitted:
        """Split the table's time, and take the statistics of what train may see."""
        fold = self.split.chosen(table.span, table.interval)
        rows = train_runs(table, fold, self.embargo)
        scaler = Scaler.fit(self.scaling, lambda: observed_rows(table, rows), self.n_features)
        windows = self._windows("train", table, fold, scaler)
        targets = Scaler.fit(self.target_scaling, windows.target_blocks, self.target_shape[-1])
        return Fitted(fold, scaler, targets, digest_of(table, rows, self.target.columns))

    def _windows(self, stage: Stage, table: Table, fold: Fold, scaler: Scaler) -> WindowDataset:
        found = self._reckonings(stage, table, fold)
        runs = np.concatenate([np.zeros((0, 2), dtype=np.int64), *(each.runs for each in found)])
        stride = {"train": self.stride, "predict": 1}.get(stage, self.eval_stride)
        origins = Origins.of(runs, stride, last=stage in ("val", "test"))
        complete = self.min_observed == 1
        return WindowDataset(table, origins, self.shape, self.target, scaler, complete=complete)

    def _reckonings(self, stage: Stage, table: Table, fold: Fold) -> tuple[Reckoning, ...]:
        train = stage == "train"
        return tuple(
            eligible(
                self.shape,
                span=(table.row_of(span[0]), table.row_of(span[1])),
                rows=table.rows,
                warm_up=table.warm_up,
                min_observed=self.min_observed,
                outages=table.outages,
                unobserved=table.unobserved,
                purge=self.purge if stage in ("train", "val") else 0,
                inside=train or self.context == "strict",
                embargo=self.embargo if train and fold.follows_evaluation(span) else 0,
                need_target=stage != "predict",
            )
            for span in fold.spans(stage)
        )

    def _verify(self) -> None:
        """Make sure, once per feature file, that the train rows are those that were fitted on."""
        table, fitted = self._table, self._fitted
        if table and fitted and self._verified_key != table.key:
            rows = train_runs(table, fitted.fold, self.embargo)
            fitted.verify(digest_of(table, rows, self.target.columns), table)
            self._verified_key = table.key

    def _settings(self) -> dict[str, Any]:
        """The settings that a checkpoint and a datamodule must share, in plain values.

        The source is not among them: the digest of the train rows says whether it has the same
        candles, wherever its files lie.
        """
        return {
            "interval": format_interval(self.interval),
            "features": [feature.text for feature in self.features],
            "target": repr(self.target),
            "lookback": self.lookback,
            "horizon": self.horizon,
            "gap": self.shape.gap,
            "split": repr(self.split),
            "embargo": self.embargo,
            "scaling": self.scaling,
            "target_scaling": self.target_scaling,
        }

    def _plain_arguments(self) -> dict[str, Any]:
        """The arguments as plain values: what a checkpoint may hold under weights_only=True."""
        objects = {"source": self.source, "target": self.target, "split": self.split}
        arguments = {name: plain(value) for name, value in (self._given | objects).items()}
        return arguments | {"_instantiator": "lightning.pytorch.cli.instantiate_module"}


_ARGUMENTS = tuple(signature(BTCDataModule).parameters)
_EXAMPLES = {"source": "Simulator()", "target": "LogReturn()", "split": "FractionSplit()"}
