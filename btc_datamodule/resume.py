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
    last batch     What is saved in ``on_train_batch_end`` of the last batch of an epoch makes the
                   Trainer begin the next one without counting it: a second stop in that epoch
                   would go back an epoch. Here the epoch counts as over.
    begun, lost    A batch in which a fit was stopped, or that a hook ended an epoch at, stays in
                   the totals. Whether one was under way at a second stop is read off the totals:
                   it would repeat an epoch or leave out a batch. Here each is in them once.

And some counts are read wrongly:

    max_steps      With it a Trainer that goes on from the end of an epoch runs through that one
                   once more, without a batch, and counts it again. Here it begins the next.
    amid a batch   A batch in which a fit was stopped stays in the total of those begun, and counts
                   as a step for loggers: from then on validation by
                   ``check_val_every_n_epoch=None`` would come a batch early, and all that is
                   logged be a step late. Here it counts as not begun.
    scheduled      A ``GradientAccumulationScheduler`` speaks up only when an epoch starts, and the
                   rest of one would be trained without accumulation. Here it is asked.

All other checkpoints are left as they are.
"""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

COUNTS = ("ready", "started", "processed", "completed")


class ExactResume(Callback):
    """Puts the counts of a checkpoint right; ``BTCDataModule`` adds it to the Trainer of a fit."""

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put right what the checkpoint says."""
        loops = checkpoint.get("loops")
        if trainer.state.fn != TrainerFn.FITTING or not loops:
            return
        fit_loop = loops["fit_loop"]
        put_right(fit_loop)
        if not pl_module.automatic_optimization:  # the model alone knows when it steps
            return
        epoch = fit_loop["epoch_progress"]["current"]["completed"]
        again = see_again(fit_loop, accumulated(trainer, epoch))
        if again:
            rank_zero_info(
                f"batches seen again: {again}, the last before the checkpoint. Their gradients "
                "were accumulated for the next optimizer step, and a checkpoint holds none"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put right what the Trainer has made of the checkpoint."""
        loop = trainer.fit_loop
        if not loop.restarting:
            return
        epochs: Any = loop.epoch_progress  # its types are those of what all counts have
        batches: Any = loop.epoch_loop.batch_progress
        if epochs.current.ready == epochs.current.processed:
            # Past the setter of a fit loop, which says yes whenever there is a max_steps.
            _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
            return
        if batches.current.ready > batches.current.processed:
            batches.total.reset_on_restart()
            if not loop.epoch_loop._should_accumulate():  # the loop is about to count it so
                loop.epoch_loop._batches_that_stepped -= 1
        trainer.accumulate_grad_batches = accumulated(trainer, trainer.current_epoch)


def accumulated(trainer: Trainer, epoch: int) -> int:
    """Batches to an optimizer step in an epoch."""
    for each in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(each, GradientAccumulationScheduler):
            return each.get_accumulate_grad_batches(epoch)
    return trainer.accumulate_grad_batches


def put_right(fit_loop: dict[str, Any]) -> None:
    """Put the counts in the state of a fit loop right, in place.

    Args:
        fit_loop: as ``checkpoint["loops"]["fit_loop"]`` has it.
    """
    epochs, batches = fit_loop["epoch_progress"], fit_loop["epoch_loop.batch_progress"]
    total, current = epochs["total"], batches["current"]
    _count_once(batches)
    if total["ready"] > total["started"]:
        _move(epochs, ("ready",), -1)
        return
    over = total["processed"] == total["started"]
    if over and current["processed"] and not _ended(batches):
        complete = total["completed"] == total["processed"]
        _move(epochs, ("processed", "completed") if complete else ("processed",), -1)
        return
    if not over and _ended(batches) and current["completed"] < current["processed"]:
        _move(batches, ("completed",), 1)
        _move(epochs, ("processed",), 1)
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
        over = True
    if over and total["completed"] < total["processed"]:
        _move(epochs, ("completed",), 1)


def see_again(fit_loop: dict[str, Any], accumulate_grad_batches: int) -> int:
    """Count batches whose gradients are lost as not done, in place.

    Args:
        fit_loop: as ``put_right`` leaves it.
        accumulate_grad_batches: batches to an optimizer step.

    Returns:
        How many batches are to be seen again.
    """
    epochs, batches = fit_loop["epoch_progress"]["total"], fit_loop["epoch_loop.batch_progress"]
    if epochs["processed"] == epochs["started"] or _ended(batches):
        return 0
    steps = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    whole, again = divmod(int(batches["current"]["processed"]), accumulate_grad_batches)
    if not again or steps["current"]["completed"] != whole:  # it was another number of batches
        return 0
    for kind in ("total", "current"):
        batches[kind] |= dict.fromkeys(COUNTS, batches[kind]["processed"] - again)
    batches["is_last_batch"] = False
    return again


def _count_once(batches: dict[str, Any]) -> None:
    """Leave in the totals, beside what is complete, only what is under way now."""
    total, current = batches["total"], batches["current"]
    total |= {count: total["completed"] + current[count] - current["completed"] for count in COUNTS}


def _ended(batches: dict[str, Any]) -> bool:
    """Whether the last batch of an epoch has had its step."""
    current = batches["current"]
    return bool(batches["is_last_batch"] and current["processed"] == current["ready"])


def _move(progress: dict[str, Any], counts: Iterable[str], by: int) -> None:
    for kind in ("total", "current"):
        for count in counts:
            progress[kind][count] += by
