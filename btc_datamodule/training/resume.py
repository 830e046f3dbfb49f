"""Exact resume: what a checkpoint says has been done is put right when a Trainer reads it.

The Trainer goes on from the counts of epochs and batches in a checkpoint, and the loader follows
them (``loading``). Some checkpoints count wrongly what was done, or kept:

    cut short      ``max_time``, or whatever else sets ``should_stop``, ends a fit in the middle of
                   an epoch, and the epoch counts as over in what is saved from then on. Its rest
                   would be left out. Here it counts as begun.
    accumulation   A checkpoint holds no gradients: those that have been accumulated for the next
                   optimizer step are lost. Here their batches, at most
                   ``accumulate_grad_batches`` - 1, count as not done, and are seen again.
    epoch start    What is saved in ``on_train_epoch_start`` has the batches of the epoch before as
                   those of the new one, which would end before its first. Here it counts as not
                   begun.
    begun, lost    A batch in which a fit was stopped, or that a hook ended an epoch at, stays in
                   the totals, and so does an epoch that the same Trainer had begun before. Whether
                   one was under way at a second stop is read off the totals: it would repeat an
                   epoch or leave out a batch. Here each is in them once.
    last, fetched  What is saved while the last batch of an epoch is on its way to the device takes
                   it for done. Here it does not.

Some are read wrongly:

    validation     One that was due or under way would be left out, or run on the first of its
                   batches only, as many as were left. Here it is run whole.
    max_steps      With it a Trainer that goes on from the end of an epoch runs through that one
                   once more, without a batch, and counts it again. Here it begins the next.
    amid a batch   A batch in which a fit was stopped stays in the total of those begun, and counts
                   as a step for loggers: from then on validation by
                   ``check_val_every_n_epoch=None`` would come a batch early, and all that is
                   logged be a step late. Here it counts as not begun.
    scheduled      A ``GradientAccumulationScheduler`` speaks up only when an epoch starts, and the
                   rest of one would be trained without accumulation. Here it is asked.

And what ``EarlyStopping`` and ``ReduceLROnPlateau`` watch is in no checkpoint: here the last
metrics are, and the scheduler takes its step at the end of an epoch that was resumed too.
"""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.loops.evaluation_loop import RestartStage
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from btc_datamodule.training.counts import COUNTS, put_right, see_again

KEY = "btc_datamodule.resume"
"""Under which a checkpoint has what Lightning does not keep; the name that 0.1 has given it."""


class ExactResume(Callback):
    """Puts the counts of a checkpoint right; ``BTCDataModule`` adds it to the Trainer of a fit."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """What a checkpoint has said concerns one start of a fit."""
        self._validated = self._stepped = self._validating = self._ended = False
        self._metrics: dict[str, Any] = {}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note what the counts do not say."""
        checkpoint[KEY] = {
            "validating": trainer.validating and not self._validated,
            "metrics": dict(trainer._logger_connector._callback_metrics),
        }
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        ready, started = batches["current"]["ready"], batches["current"]["started"]
        if ready == started and ready < trainer.num_training_batches < float("inf"):
            batches["is_last_batch"] = False

    def on_train_batch_start(self, *_: Any) -> None:
        """No validation is over from here on."""
        self._validated = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is kept from here on has this one behind it."""
        self._validated = True

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put right what the checkpoint says."""
        self._forget()
        loops = checkpoint.get("loops")
        if trainer.state.fn != TrainerFn.FITTING or not loops:
            return
        fit_loop, noted = loops["fit_loop"], checkpoint.get(KEY, {})
        self._validating = noted.get("validating", False)
        self._metrics = noted.get("metrics", {})
        self._stepped, self._ended = put_right(fit_loop)
        if not pl_module.automatic_optimization:  # the model alone knows when it steps
            return
        epoch = fit_loop["epoch_progress"]["current"]["completed"]
        again = see_again(fit_loop, accumulated(trainer, epoch))
        if again:
            self._stepped = self._validating = False
            rank_zero_info(
                f"batches seen again: {again}, the last before the checkpoint. Their gradients "
                "were accumulated for the next optimizer step, and a checkpoint holds none"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put right what the Trainer has made of the checkpoint."""
        loop, epochs = trainer.fit_loop, trainer.fit_loop.epoch_progress
        current: Any = epochs.current  # its type is that of what all counts have
        trainer._logger_connector._callback_metrics.update(self._metrics)
        loop.epoch_loop.val_loop._has_run = False
        if loop.restarting and current.ready != current.processed:
            loop._restarting = False  # how the epoch ends is not to depend on it
            self._go_on_amid_epoch(trainer)
        else:
            if self._ended:
                _step_plateau_schedulers(trainer)
            for counts in (epochs.total, current):
                counts.__dict__.update(dict.fromkeys(COUNTS, current.processed))
            # Past the setter of a fit loop, which says yes whenever there is a max_steps.
            _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
        self._forget()

    def _go_on_amid_epoch(self, trainer: Trainer) -> None:
        loop = trainer.fit_loop.epoch_loop
        batches: Any = loop.batch_progress
        trainer.accumulate_grad_batches = accumulated(trainer, trainer.current_epoch)
        steps = not loop._should_accumulate()
        if batches.current.ready > batches.current.processed:
            batches.total.reset_on_restart()
            loop._batches_that_stepped -= steps  # which the loop is about to add
        elif self._stepped or self._validating:
            fetcher = trainer.fit_loop._data_fetcher
            assert fetcher is not None
            if loop._should_check_val_fx(fetcher):
                loop.val_loop.batch_progress.reset_on_run()
                loop.val_loop._restart_stage = RestartStage.RESTARTED_MID_EVALUATION
            else:  # what comes after the step where no validation does
                loop.update_lr_schedulers("step", update_plateau_schedulers=True)
                loop._batches_that_stepped += steps


def accumulated(trainer: Trainer, epoch: int) -> int:
    """Batches to an optimizer step in an epoch."""
    for each in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(each, GradientAccumulationScheduler):
            return each.get_accumulate_grad_batches(epoch)
    return trainer.accumulate_grad_batches


def _step_plateau_schedulers(trainer: Trainer) -> None:
    """Do what comes after ``on_train_epoch_end``, for the epoch that was ended there."""
    epochs = trainer.fit_loop.epoch_progress.current
    epochs.completed -= 1  # the epoch of the schedulers' frequency
    trainer.fit_loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
    epochs.completed += 1
