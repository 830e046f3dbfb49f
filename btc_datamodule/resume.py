"""Exact resume: what a checkpoint says has been done is put right before the Trainer reads it.

The Trainer goes on from the counts of epochs and batches in a checkpoint, and the loader follows
them (``loading``). Five kinds of checkpoint count wrongly what was done, or kept:

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
    second stop    A batch in which a fit was stopped stays in the totals of the fit that goes on
                   with it, which has begun it again. Whether another one was under way at a second
                   stop is read off the totals. Here each is in them once.

All other checkpoints are left as they are.
"""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

COUNTS = ("ready", "started", "processed", "completed")


class ExactResume(Callback):
    """Puts the counts of a checkpoint right; ``BTCDataModule`` adds it to the Trainer of a fit."""

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See the module."""
        loops = checkpoint.get("loops")
        if trainer.state.fn == TrainerFn.FITTING and loops:
            # With manual optimization the model alone knows when it steps.
            accumulated = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            again = put_right(loops["fit_loop"], accumulated)
            if again:
                rank_zero_info(
                    f"batches seen again: {again}, the last before the checkpoint. Their gradients "
                    "were accumulated for the next optimizer step, and a checkpoint holds none"
                )


def put_right(fit_loop: dict[str, Any], accumulate_grad_batches: int) -> int:
    """Put the counts in the state of a fit loop right, in place.

    Args:
        fit_loop: as ``checkpoint["loops"]["fit_loop"]`` has it.
        accumulate_grad_batches: batches to an optimizer step.

    Returns:
        How many batches are to be seen again.
    """
    epochs, batches = fit_loop["epoch_progress"], fit_loop["epoch_loop.batch_progress"]
    _count_once(batches)
    done, ended = batches["current"]["processed"], batches["is_last_batch"]
    if epochs["total"]["ready"] > epochs["total"]["started"]:
        _move(epochs, ("ready",), -1)
        return 0
    over = epochs["total"]["processed"] == epochs["total"]["started"]
    if ended and done == batches["current"]["ready"]:
        if batches["current"]["completed"] < done and not over:
            _move(batches, ("completed",), 1)
            _move(epochs, ("processed", "completed"), 1)
        return 0
    if done and over:
        complete = epochs["total"]["completed"] == epochs["total"]["processed"]
        _move(epochs, ("processed", "completed") if complete else ("processed",), -1)
    steps = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    whole, again = divmod(int(done), accumulate_grad_batches)
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


def _move(progress: dict[str, Any], counts: Iterable[str], by: int) -> None:
    for kind in ("total", "current"):
        for count in counts:
            progress[kind][count] += by
