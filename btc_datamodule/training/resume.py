"""Exact resume: what a checkpoint says has been done is put right when a Trainer reads it.

The Trainer goes on from the counts of epochs and batches in a checkpoint, and the loader follows
them (``windows.loader``). Some checkpoints count wrongly what was done, or kept:

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
from lightning.pytorch.utilities import rank_zero_info

from btc_datamodule.training import internals
from btc_datamodule.training.counts import (
    EPOCHS,
    correct_last_batch,
    correct_progress,
    rewind_accumulated,
)

KEY = "btc_datamodule.resume"
"""Under which a checkpoint has what Lightning does not keep; the name that 0.1 has given it."""


class ExactResume(Callback):
    """Puts the counts of a checkpoint right; ``BTCDataModule`` adds it to the Trainer of a fit."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Forget the checkpoint: what it has said concerns one start of a fit."""
        self._validated = self._stepped = self._validating = self._ended = False
        self._metrics: dict[str, Any] = {}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note in a checkpoint what its counts do not say."""
        checkpoint[KEY] = {
            "validating": trainer.validating and not self._validated,
            "metrics": internals.get_metrics(trainer),
        }
        state = internals.get_fit_state(checkpoint)
        if state is not None:
            state = correct_last_batch(state, trainer.num_training_batches)
            internals.set_fit_state(checkpoint, state)

    def on_train_batch_start(self, *_: Any) -> None:
        """No validation is over from here on."""
        self._validated = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checkpoints from here on have this validation behind them."""
        self._validated = True

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put right what a checkpoint says, before the Trainer reads its counts."""
        self._forget()
        state, noted = internals.get_fit_state(checkpoint), checkpoint.get(KEY, {})
        if state is None or not internals.is_fitting(trainer):
            return
        self._validating = noted.get("validating", False)
        self._metrics = noted.get("metrics", {})
        state, self._stepped, self._ended = correct_progress(state)
        if pl_module.automatic_optimization:  # otherwise the model alone knows when it steps
            epoch = state[EPOCHS]["current"]["completed"]
            state, again = rewind_accumulated(state, get_accumulation(trainer, epoch))
            if again:
                self._stepped = self._validating = False
                rank_zero_info(
                    f"batches seen again: {again}, the last before the checkpoint. Their gradients "
                    "were accumulated for the next optimizer step, and a checkpoint holds none"
                )
        internals.set_fit_state(checkpoint, state)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put right what the Trainer has made of a checkpoint."""
        internals.set_metrics(trainer, self._metrics)
        internals.forget_validation(trainer)
        if internals.is_restarting_amid_epoch(trainer):
            # How the epoch ends is not to depend on it.
            internals.end_restart(trainer, all_loops=False)
            self._go_on_amid_epoch(trainer)
        else:
            if self._ended:
                internals.step_epoch_schedulers(trainer)
            internals.complete_epochs(trainer)
            internals.end_restart(trainer, all_loops=True)
        self._forget()

    def _go_on_amid_epoch(self, trainer: Trainer) -> None:
        """Take up what was under way in a batch, or due after it, when the checkpoint was kept."""
        trainer.accumulate_grad_batches = get_accumulation(trainer, trainer.current_epoch)
        steps = not internals.is_accumulating(trainer)
        if internals.is_batch_begun(trainer):
            internals.discard_begun_batch(trainer)
            internals.count_steps(trainer, -steps)  # which the Trainer is about to add
        elif self._stepped or self._validating:
            if internals.is_validation_due(trainer):
                internals.begin_validation(trainer)
            else:  # what comes after the step where no validation does
                internals.step_schedulers(trainer)
                internals.count_steps(trainer, steps)


def get_accumulation(trainer: Trainer, epoch: int) -> int:
    """Batches to an optimizer step of a Trainer in an epoch."""
    for each in internals.get_callbacks(trainer):
        if isinstance(each, GradientAccumulationScheduler):
            return each.get_accumulate_grad_batches(epoch)
    return trainer.accumulate_grad_batches
