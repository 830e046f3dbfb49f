"""``BTCDataModule``: Lightning's hooks, and delegation to the rooms that do the work.

``prepare_data`` brings the candle file and the feature file up to date on disk. ``setup`` opens
them, splits them by time and fits the scaler on train (``stages``). The loaders hand out
``Batch``es (``windows``).
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from btc_datamodule.arguments import Arguments
from btc_datamodule.candles.timeline import Instant
from btc_datamodule.checks import unwrap
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.evaluation.scaling import Scaling
from btc_datamodule.evaluation.splits import STAGES, Split, Stage
from btc_datamodule.evaluation.targets import Target
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.layout import MaskOf
from btc_datamodule.features.undefined import Undefined
from btc_datamodule.opening import Choice
from btc_datamodule.options import (
    DTYPES,
    DType,
    check_options,
    list_doubts,
    list_hyperparameters,
)
from btc_datamodule.preparing import SIMULATES, prepare
from btc_datamodule.public import public
from btc_datamodule.settings import Settings
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.records import RecordSource
from btc_datamodule.sources.resampled import Resampled
from btc_datamodule.stages import Stages
from btc_datamodule.training.agreeing import agree_on_table
from btc_datamodule.training.batch_size import correct_found_size
from btc_datamodule.training.internals import get_callbacks, is_fitting, is_overfitting
from btc_datamodule.training.progress import FitProgress, count_ranks, trains_on_gpu
from btc_datamodule.training.resume import ExactResume
from btc_datamodule.training.stopping import StopTogether
from btc_datamodule.windows.dataset import Batch, WindowDataset
from btc_datamodule.windows.device import DeviceGather, gather_nested
from btc_datamodule.windows.loader import StartMethod, make_loader
from btc_datamodule.windows.sampler import Shuffle
from btc_datamodule.windows.starts import WindowStarts

if TYPE_CHECKING:
    from btc_datamodule.audit.report import Audit
    from btc_datamodule.scoring.card import ScoreCard


@public
class BTCDataModule(Arguments):
    """Bitcoin candles as train, validation, test and predict windows.

    Args:
        source: where candles come from: Simulator, Coinbase, BinanceArchive, Ccxt, CandleFile, or
            a Source of yours.
        interval: length of a bar: 1m, 5m, 1h, 1d, 1w and so on.
        start: first instant, ISO 8601, UTC, a date or epoch seconds; none for as early as can be.
        end: instant past the last one; none for up to the latest closed bar.
        features: columns of x: names (see README), expressions such as
            "momentum_10 = close / close.shift(10) - 1", or Feature objects.
        target: what y is: LogReturn, CumulativeReturn, OHLCPath, ClosePath, Direction,
            TripleBarrier, RealisedVolatility, or a Target of yours.
        lookback: input bars of a sample (L).
        horizon: target bars of a sample (H).
        gap: bars between the last input bar and the first target bar.
        split: how time is divided: FractionSplit, DateSplit, WalkForward, CombinatorialPurged,
            or a Split of yours.
        purge: bars to leave out at the end of train and of val, beyond what the target needs.
        embargo: bars after each val or test span that no later train sample may read.
        context: whether inputs of val and test may reach back over the start of their span
            (allow) or not (strict). Those of train never do.
        batch_size: windows in a batch of one device.
        stride: bars from one train sample to the next.
        eval_stride: likewise for val and test; none for the horizon, so that no bar is scored
            twice. What is left over at the end of an unbroken stretch ``describe`` counts.
        shuffle: order of train windows: full (random, anew each epoch), block (so too, within a
            million windows at a time: for files larger than memory) or none (by time).
        seed: of that order.
        scaling: of x: train (z-score with statistics of the train rows), robust (median and
            quartiles of the train rows), window (each sample by itself) or none.
        target_scaling: of y: train or robust, with statistics of the train targets, or none.
        max_fill: absent bars in a row that are taken as time without trades and filled flat;
            those after them are an outage, which no target touches.
        min_observed: least share of a sample's input bars that must be observed, in (0, 1].
        num_workers: processes that load batches; 0, in this process, is the fastest for most. With
            ``gather`` device there are none.
        start_method: how these start: fork, spawn or forkserver; none for the platform's default.
        pin_memory: have batches in pinned memory, for faster transfer to a GPU; none: where a
            Trainer trains on one, with ``gather`` host.
        gather: where windows are put together: host, or device, which holds rows and targets in its
            own memory, if they fit. What the loaders hand out is made a Batch by
            ``transfer_batch_to_device`` then, which a Trainer calls by itself.
        data_dir: folder under which the HDF5 files lie.
        refresh: ask the source again for everything, and let its answers replace what is stored.
        transform: from Batch to Batch, of every batch handed out; on the device if gathered there.
        offset: how long past midnight UTC, or past Monday, bars open, such as 8h; none for 0.
        undefined: what becomes of a bar that is known and for which a feature has no value, such as
            the logarithm of no volume: drop (it counts as not observed, and a warning tells how
            many windows that costs), flag (0 takes the place of the scaled value, and a last
            column of x, ``undefined``, is 1 there) or fail (an error).
        offline: ask no source: use the candles that are stored.
        covariates: series beside the candles, by the names that features call them by: sources of
            candles or records, or ``Resampled``. See docs/beside.md.
        max_age: how old a value of a covariate may be to stand for the present, such as
            {funding: 8h}, by its name; none there for never too old. By default twice the interval
            of the series, and never of records without one.
        mask: what ``Batch.observed`` tells of: bar (a bar counts as observed if all of its features
            do) or feature (each does by itself, and of each at least ``min_observed`` of the input
            bars must).
        dtype: of x: float32, or bfloat16, which is that rounded, for a model in that precision.

    Raises:
        ConfigError: if an argument is wrong on the face of it.
    """

    def __init__(
        self,
        source: Source | None = None,
        interval: str = "1h",
        start: Instant | None = None,
        end: Instant | None = None,
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
        data_dir: str | Path = "data",
        refresh: bool = False,
        transform: Callable[[Batch], Batch] | None = None,
        offset: str | None = None,
        undefined: Undefined = "drop",
        offline: bool = False,
        covariates: dict[str, Source | RecordSource | Resampled] | None = None,
        max_age: dict[str, str | None] | None = None,
        mask: MaskOf = "bar",
        dtype: DType = "float32",
    ) -> None:
        given = locals()
        super().__init__()
        self._given = {name: unwrap(given[name]) for name in _ARGUMENTS}
        self.settings = Settings.parse(self._given)
        check_options(self._given)
        self.batch_size, self.num_workers, self.seed = map(int, (batch_size, num_workers, seed))
        self.shuffle: Shuffle = shuffle
        self.start_method, self.pin_memory = start_method, pin_memory
        self.gather, self.transform, self.dtype = gather, transform, dtype
        self.refresh, self.offline = refresh, offline
        self._fitted: Fitted | None = None
        self._verified_key: str | None = None
        self._prepared: Choice | None = None
        self._is_twin = False  # with fewer bars than there are, a stage may have no windows
        self._device_gather: DeviceGather | None = None
        for doubt in list_doubts(self._given, self.settings):
            rank_zero_warn(doubt)
        self.save_hyperparameters(list_hyperparameters(self._given, self.settings))

    def with_fold(self, fold: int) -> Self:
        """A datamodule with the same settings for another fold of the split.

        It uses the same files; the statistics are its own, fitted by its ``setup``.

        Raises:
            ConfigError: if the split has only one fold, ``fold`` is no whole number, or, after
                ``setup``, there is no such fold.
        """
        fixed: dict[str, Any] = {
            "split": self.split.with_fold(fold),
            "data_dir": self.settings.data_dir,
        }
        if self._stages is not None:
            fixed["split"].select_fold(self.table.span, self.table.interval)
        return type(self)(**self._given | fixed)

    # The hooks of a LightningDataModule.

    def prepare_data(self) -> None:
        """Bring the candle file and the feature file up to date, and say where they lie.

        Raises:
            SourceError: if the source cannot answer; what it had answered is kept.
            StoreError: if a file is damaged or locked.
            LookAheadError: if a feature looks ahead.
        """
        source, self._given["source"] = self._given["source"], self.settings.source
        said = [] if source is not None else [SIMULATES]  # once: not by its folds again
        prepared = prepare(self.settings, refresh=self.refresh, offline=self.offline)
        self._prepared = prepared.table
        for line in said + prepared.told:
            rank_zero_info(line)

    def setup(self, stage: str | None = None) -> None:
        """Open the files, split them by time, and fit the scaler on train; the same for any stage.

        What was fitted once stays: a later call with longer candles keeps the spans and the
        statistics, after making sure that the train rows are still the same. What
        ``prepare_data`` has made is what is opened, and on all ranks of a Trainer what the first
        one opens, whatever another process has made of the candles meanwhile.

        Raises:
            NotPreparedError: if the files are not there.
            ConfigError: if a stage would be left without windows.
        """
        table = agree_on_table(self.trainer, self.settings, self._prepared)
        stages = Stages.open(
            self.settings, self._fitted, verified_key=self._verified_key, table=table
        )
        self._use(stages)
        if not self._is_twin:
            stages.check(self.batch_size * count_ranks(self.trainer)[0])
            for doubt in stages.list_doubts():
                rank_zero_warn(doubt)
        if self.trainer is not None and is_fitting(self.trainer):
            callbacks = get_callbacks(self.trainer)
            given = {type(each) for each in callbacks}
            callbacks += [kind() for kind in (ExactResume, StopTogether) if kind not in given]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of train windows."""
        return self._make_loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of validation windows, in order of time, each window once.

        None at all if the split has no validation.
        """
        return self._make_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of test windows, in order of time, each window once."""
        return self._make_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of every origin whose target begins in test, in order of time.

        Where test reaches the end of the candles, also of those whose target begins after them:
        what is not known yet is NaN in y.
        """
        return self._make_loader("predict")

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device | str, dataloader_idx: int
    ) -> Any:
        """The batch on the device; with ``gather`` device the ``Batch`` is made only here.

        A Trainer calls it by itself; in plain PyTorch call it with a ``dataloader_idx`` of 0.
        Where datamodule and model share a hook a Trainer asks the datamodule alone: this one
        passes every batch on to the model's.
        """
        device, trainer = torch.device(device), self.trainer
        if self.gather == "device":
            # A Trainer has done so before the transfer with other batches.
            convert = None if trainer is None else trainer.precision_plugin.convert_input
            given = batch
            batch = gather_nested(batch, self._get_device_gather, device, self.transform, convert)
            if trainer is None and self.transform is None and isinstance(given, WindowStarts):
                return batch  # it lies there: to look for what does not takes as long as to gather
        if trainer is not None and trainer.lightning_module is not None:
            return trainer.lightning_module.transfer_batch_to_device(batch, device, dataloader_idx)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def teardown(self, stage: str | None = None) -> None:
        """Let go of the rows on the device, if they are there."""
        if self.trainer is not None:
            correct_found_size(self.trainer, self.batch_size)
        if self._device_gather is not None:
            self._device_gather.release()

    def state_dict(self) -> dict[str, Any]:
        """What training has fixed, in plain lists, numbers and texts."""
        if self._fitted is None:
            return {}
        return {"settings": self.settings.comparable, **self._fitted.to_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take spans and statistics from a checkpoint.

        Raises:
            ConfigError: if the checkpoint was trained with other features, or another shape.
            StoreError: if the train rows are no longer those that it was trained on.
        """
        if not state_dict:
            return
        where = getattr(self.trainer, "ckpt_path", None) or "the checkpoint"
        self.settings.check_same(state_dict["settings"], where)
        self._fitted, self._verified_key = Fitted.from_state(state_dict), None
        if self._stages is not None:
            stages = replace(self._stages, fitted=self._fitted)
            stages.verify()
            self._use(stages)

    # For plain PyTorch, and for looking around.

    def dataset(self, stage: Stage) -> WindowDataset:
        """The windows of a stage: a map-style dataset for any DataLoader.

        Raises:
            NotPreparedError: before ``setup()``.
            ConfigError: if there is no such stage.
        """
        windows = self.stages.windows(stage)
        windows.transform, windows.dtype = self.transform, DTYPES[self.dtype]
        return windows

    def audit(self, *, ask_source: bool = True) -> "Audit":
        """Check on these very candles and settings that nothing of the future leaks.

        Changes nothing; builds the feature file if need be, and asks the source again for some of
        its bars unless ``ask_source`` is False or the datamodule ``offline``. Before there are
        candles it raises ``NotPreparedError``, and ``ConfigError`` if a stage has no windows.

        Returns:
            What was found: ``passed``, ``findings``, and as text a report. See ``audit.report``.
        """
        from btc_datamodule.audit.report import audit

        asks = ask_source and not self.offline
        return audit(self.settings, self._fitted, self._serve, ask_source=asks)

    def report(
        self, path: str | Path, *, card: "ScoreCard | None" = None, audit: "Audit | bool" = False
    ) -> Path:
        """Write one HTML file that shows all of the data, to be opened by any browser.

        Prices with the stages, holes, features, targets, single windows, folds, and where it all
        comes from; without a network, a few hundred kilobytes.

        Args:
            path: the file; its name ends in .html.
            card: what ``score`` gave, to be shown too.
            audit: what ``audit`` gave, likewise; True runs it, and without it the page says so.

        Returns:
            The path.

        Raises:
            NotPreparedError: before ``setup()``.
            ConfigError: if the name does not end in .html, its folder is not there, or score or
                audit are of other data.
            StoreError: if the file cannot be written.
        """
        from btc_datamodule.report.page import write_report

        run = self.audit if audit is True else audit or None
        return write_report(self.stages, path, transform=self.transform, audit=run, card=card).path

    def _make_loader(self, stage: Stage) -> DataLoader[Batch]:
        """The one factory of loaders: whole batches of positions in, whole batches out."""
        windows, train = self.dataset(stage), stage == "train"
        on_device = self.gather == "device" and self.settings.scaling != "window"
        pays = not on_device and trains_on_gpu(self.trainer)
        pinned = pays if self.pin_memory is None else self.pin_memory
        loader = make_loader(
            windows,
            self,
            shuffle=self.shuffle if train and not is_overfitting(self.trainer) else "none",
            drop_last=train,
            ranks=partial(count_ranks, self.trainer),
            stride=self.settings.stride,
            starts=self._get_device_gather().make_dataset(stage) if on_device else None,
            pinned=pinned,
        )
        loader.may_be_empty = self._is_twin
        if train and self.trainer is not None:
            loader.progress = FitProgress(self.trainer)
        return loader

    def _get_device_gather(self) -> DeviceGather:
        """The gather of all stages on the device, made anew after setup and load_state_dict."""
        gather = self._device_gather
        if gather is None or gather.windows.dtype != DTYPES[self.dtype]:
            gather = DeviceGather({stage: self.dataset(stage) for stage in STAGES})
            self._device_gather = gather
        return gather

    def _use(self, stages: Stages) -> None:
        """Serve these stages from here on."""
        self._stages, self._fitted = stages, stages.fitted
        self._verified_key, self._device_gather = stages.table.key, None

    def _serve(self, stages: Stages, fitted: Self | None = None) -> Self:
        """The same loaders and hooks over other stages, in this process; see ``handing.Serve``."""
        other = copy(self if fitted is None else fitted)
        other.settings, other.trainer = stages.settings, None
        other.num_workers, other.pin_memory = 0, False
        other._use(stages)
        other._is_twin, other._prepared = True, None
        if fitted is None and type(self).setup is not BTCDataModule.setup:
            other.setup()
        return other


_ARGUMENTS = tuple(signature(BTCDataModule).parameters)
