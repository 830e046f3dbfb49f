"""``BTCDataModule``: Lightning's hooks, and delegation to the rooms that do the work.

``prepare_data`` brings the candle file and the feature file up to date on disk. ``setup`` opens
them, splits them by time and fits the scaler on train (``stages``). The loaders hand out
``Batch``es (``windows``).
"""

from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from btc_datamodule.arguments import Arguments
from btc_datamodule.data import Data
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.evaluation.splits import STAGES, Stage
from btc_datamodule.options import (
    DTYPES,
    list_hyperparameters,
)
from btc_datamodule.public import public
from btc_datamodule.stages import Stages
from btc_datamodule.training.agreeing import agree_on_table
from btc_datamodule.training.batch_size import correct_found_size
from btc_datamodule.training.internals import get_callbacks, is_at_work, is_fitting, is_overfitting
from btc_datamodule.training.progress import FitProgress, count_ranks, trains_on_gpu
from btc_datamodule.training.resume import ExactResume
from btc_datamodule.training.stopping import StopTogether
from btc_datamodule.windows.batch import Batch
from btc_datamodule.windows.device import DeviceGather, gather_nested
from btc_datamodule.windows.loader import make_loader
from btc_datamodule.windows.starts import WindowStarts

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from btc_datamodule.audit.report import Audit
    from btc_datamodule.scoring.card import ScoreCard
    from btc_datamodule.training.headroom import Headroom


@public
class BTCDataModule(Arguments):  # noqa: D101
    __doc__ = Data.__doc__

    _device_gather: DeviceGather | None = None

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

    def setup(self, stage: str | None = None) -> None:
        """Open the files, split them by time, and fit the scaler on train; the same for any stage.

        What was fitted once stays: a later call with longer candles keeps the spans and the
        statistics, after making sure that the train rows are still the same. With a checkpoint's
        the candles may begin after them: ``predict`` is served then. What
        ``prepare_data`` has made is what is opened, and on all ranks of a Trainer what the first
        one opens, whatever another process has made of the candles meanwhile.

        Raises:
            NotPreparedError: if the files are not there.
            ConfigError: if a stage would be left without windows.
        """
        trainer, is_new = self.trainer, self._fitted is None
        fits = trainer is not None and is_fitting(trainer)
        self._refusal = None
        try:
            self._open_agreed()
        except ConfigError as error:
            if not is_new or fits or trainer is None or not is_at_work(trainer):
                raise
            # The spans of a checkpoint, which a Trainer restores after this, may do.
            self._stages, self._fitted, self._verified_key = None, None, None
            self._refusal = error
        if trainer is not None and fits:
            self.stages.require("train")
            callbacks = get_callbacks(trainer)
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
            ConfigError: if the checkpoint was trained with other features, or another shape; in a
                fit, if the candles begin after the train rows.
            StoreError: if the train rows are no longer those that it was trained on.
        """
        if not state_dict:
            return
        where = getattr(self.trainer, "ckpt_path", None) or "the checkpoint"
        self.settings.check_same(state_dict["settings"], where)
        self._fitted, self._verified_key = Fitted.from_state(state_dict), None
        if self._refusal is not None:
            self._refusal = None
            self._open_agreed()
        elif self._stages is not None:
            stages = replace(self._stages, fitted=self._fitted)
            stages.verify()
            self._take(stages, self.batch_size, checks=stages.is_partial)
        if self._stages is not None and self.trainer is not None and is_fitting(self.trainer):
            self._stages.require("train")

    # For plain PyTorch, and for looking around.

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

    def headroom(
        self, model: "LightningModule", *, seconds: float = 3.0, precision: Any = "32-true"
    ) -> "Headroom":
        """Measure how much of a training step loading takes, and the most that could be won.

        A Trainer trains a copy of the model on one device, by turns on batches of train and on one
        batch again and again. Model, datamodule and random states stay as they are. Where there is
        a GPU all ways are tried: windows from the host, from pinned memory, and gathered there.

        Args:
            model: whose ``training_step`` and optimizer are used.
            seconds: about how long each way takes.
            precision: of the Trainer.

        Returns:
            What was found; printed, one line.

        Raises:
            NotPreparedError: before ``setup()``.
            ConfigError: if the model is none that a Trainer can train, or ``seconds`` no time.
        """
        from btc_datamodule.training.headroom import find_headroom

        serve = partial(self._serve, self.stages)
        return find_headroom(model, self, serve, seconds=seconds, precision=precision)

    def _open_agreed(self) -> None:
        """Open the feature file that all ranks of the Trainer open, if there is one."""
        table = agree_on_table(self.trainer, self.settings, self._prepared)
        self._open(table, self.batch_size * count_ranks(self.trainer)[0])

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
            whole = (stage for stage in STAGES if not self.stages.find_lacking(stage))
            gather = DeviceGather({stage: self.dataset(stage) for stage in whole})
            self._device_gather = gather
        return gather

    def _use(self, stages: Stages) -> None:
        """Serve these stages from here on."""
        super()._use(stages)
        self._device_gather = None

    def _use_alone(self, stages: Stages) -> None:
        """The same for a twin, which may have stages without windows, and prepares nothing."""
        self._use(stages)
        self._is_twin, self._prepared = True, None

    def _keep_arguments(self) -> None:
        self.save_hyperparameters(list_hyperparameters(self._given, self.settings))

    def _tell(self, line: str) -> None:
        rank_zero_info(line)

    def _warn(self, doubt: str) -> None:
        rank_zero_warn(doubt, stacklevel=5)

    def _serve(self, stages: Stages, fitted: Self | None = None) -> Self:
        """The same loaders and hooks over other stages, in this process; see ``handing.Serve``."""
        other = copy(self if fitted is None else fitted)
        other.settings, other.trainer = stages.settings, None
        other.num_workers, other.pin_memory = 0, False
        other._use_alone(stages)
        if fitted is None and type(self).setup is not BTCDataModule.setup:
            other.setup()
        return other
