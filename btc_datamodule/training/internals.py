"""Every part of Lightning, and of torch, that it does not promise to keep: a function for each.

No other module of the package touches a private name of these, or an attribute of loops.
Each function says what it relies on, in Lightning 2.6.6, and what breaks without it;
``tests/training/test_internals.py`` tries each alone on a real Trainer, so that another version of
Lightning is answered by the name of the function to look at.

The counts: an epoch and a batch are each *ready*, *started*, *processed* and *completed*, in this
order, ``current`` since the fit or the epoch has begun and ``total`` over all. An epoch is
processed before ``on_train_epoch_end``, and completed after it; a batch is processed before
``on_train_batch_end``, and completed after it.
"""

import warnings
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loops.evaluation_loop import RestartStage
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from btc_datamodule.training.counts import COUNTS

# What a Trainer is doing.


def get_callbacks(trainer: Trainer) -> list[Callback]:
    """The callbacks of a Trainer: the very list, to which more can be added.

    Relies on ``Trainer.callbacks``, which is set from outside its class: type checkers do not see
    it. Without it nothing of ours would be added to a fit.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def starts_ranks_in_call(trainer: Trainer) -> bool:
    """Whether each fit, test or prediction starts ranks by spawn or fork, and ends them again.

    Relies on ``strategy.launcher`` and on ``_MultiProcessingLauncher``, that of ``ddp_spawn``,
    ``ddp_fork`` and ``ddp_notebook``. Without it ``run_folds`` would lose what a fit has learned.
    """
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def find_store() -> Any:
    """The store of the process group, which all ranks read and write; None where there is none.

    Relies on ``torch.distributed.distributed_c10d._get_default_store``. Without it ranks wait for
    each other where one could tell the others.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    find = getattr(torch.distributed.distributed_c10d, "_get_default_store", None)
    return find() if find else None


def is_fitting(trainer: Trainer) -> bool:
    """Whether a Trainer runs a fit; its validations are part of it.

    Relies on ``Trainer.state.fn`` and on ``TrainerFn``, whose module is no public one. Without
    them ``validate`` and ``test`` would be taken for fits.
    """
    return trainer.state.fn == TrainerFn.FITTING


def is_at_work(trainer: Trainer) -> bool:
    """Whether a Trainer is in a fit, an evaluation or a prediction now.

    Relies on ``Trainer.state.status``: a Trainer keeps its arguments, and its datamodule, when it
    is done. Without it a loader made by hand after a fit would be that of the fit's ranks.
    """
    return trainer.state.status == TrainerStatus.RUNNING


def is_overfitting(trainer: Trainer | None) -> bool:
    """Whether a Trainer is at work on a few batches again and again (``overfit_batches``).

    Relies on ``Trainer.overfit_batches``, which is set from outside its class. Without it such a
    fit would have other batches in each epoch.
    """
    at_work = trainer is not None and is_at_work(trainer)
    return at_work and bool(getattr(trainer, "overfit_batches", 0))


def is_sigterm(exception: BaseException) -> bool:
    """Whether an exception is the one by which a Trainer ends on a SIGTERM, on all ranks at once.

    Relies on ``SIGTERMException``, whose module is no public one. Without it rank 0 would keep a
    checkpoint alone where all ranks could do so together.
    """
    return isinstance(exception, SIGTERMException)


# How far a fit has come.


def list_train_loaders(trainer: Trainer) -> list[object]:
    """The loaders that a Trainer trains with, in whatever a hook has nested them; none before.

    Relies on ``fit_loop._combined_loader`` and its ``flattened``. ``Trainer.train_dataloader`` has
    the loaders as they were given instead, and asks for them. Without it a loader cannot know that
    it is trained with, and begins an epoch anew that a checkpoint was in the middle of.
    """
    combined = trainer.fit_loop._combined_loader
    return [] if combined is None else list(combined.flattened)


def is_cycling_loaders(trainer: Trainer) -> bool:
    """Whether the shorter ones of several train loaders begin again until the longest has ended.

    Relies on ``CombinedLoader._mode`` of ``fit_loop._combined_loader``. Without it a short loader
    would be resumed past its own end.
    """
    combined = trainer.fit_loop._combined_loader
    return combined is not None and combined._mode == "max_size_cycle"


def count_batches_done(trainer: Trainer) -> int:
    """How many batches of the running epoch are completed.

    Relies on ``fit_loop.epoch_loop.batch_progress``. Without it nothing says where in an epoch a
    checkpoint was made.
    """
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.completed)


def is_amid_epoch(trainer: Trainer) -> bool:
    """Whether an epoch has begun, and batches of it are left.

    Relies on ``fit_loop.epoch_progress`` and ``fit_loop.epoch_loop.batch_progress``, as they are
    when a checkpoint has been read. Without them a warning of a changed order would come at the
    end of an epoch too, or not at all.
    """
    epochs: Any = trainer.fit_loop.epoch_progress.current  # its type is that of what all have
    batches = trainer.fit_loop.epoch_loop.batch_progress
    over = batches.is_last_batch and batches.current.completed == batches.current.ready
    return epochs.ready != epochs.processed and not over


def is_last_batch(trainer: Trainer) -> bool:
    """Whether the batch that a Trainer was last given is the last one of its epoch.

    Relies on ``batch_progress.is_last_batch``, which is set before the batch is used. Without it
    the end of a fit could not be told from the end of its time.
    """
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


# What a checkpoint says, and a Trainer makes of it.


def get_fit_state(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """The counts of a fit in a checkpoint, by their paths; None in one that has none.

    Relies on their place, ``["loops"]["fit_loop"]``, and on the paths by which ``training.counts``
    knows those of epochs, batches and steps. Without them no count can be put right.
    """
    loops = checkpoint.get("loops")
    state: dict[str, Any] | None = loops["fit_loop"] if loops else None
    return state


def set_fit_state(checkpoint: dict[str, Any], state: dict[str, Any]) -> None:
    """Put counts of a fit into a checkpoint, in the place of those that it has.

    Relies on their place, as ``get_fit_state`` does, and on hooks being given the very checkpoint
    that is written then, or that the Trainer reads its counts from.
    """
    checkpoint["loops"]["fit_loop"] = state


def get_metrics(trainer: Trainer) -> dict[str, Tensor]:
    """The metrics that callbacks have last been shown, as they stand: nothing is computed.

    Relies on ``_logger_connector._callback_metrics``. ``Trainer.callback_metrics`` would bring them
    up to date first, which some ranks alone must not do. Without it ``EarlyStopping`` and
    ``ReduceLROnPlateau`` find nothing to watch right after a stop.
    """
    return dict(trainer._logger_connector._callback_metrics)


def set_metrics(trainer: Trainer, metrics: dict[str, Tensor]) -> None:
    """Show callbacks the metrics that a checkpoint has kept.

    Relies on ``_logger_connector._callback_metrics``, as ``get_metrics`` does.
    """
    trainer._logger_connector._callback_metrics.update(metrics)


def is_restarting_amid_epoch(trainer: Trainer) -> bool:
    """Whether a fit is about to go on from a checkpoint whose last epoch is not processed.

    Relies on ``fit_loop.restarting``, which with a ``max_steps`` is true of any checkpoint, and on
    ``fit_loop.epoch_progress``. Without them a fit goes on as Lightning would.
    """
    epochs: Any = trainer.fit_loop.epoch_progress.current
    return bool(trainer.fit_loop.restarting and epochs.ready != epochs.processed)


def end_restart(trainer: Trainer, *, all_loops: bool) -> None:
    """Let a fit that goes on from a checkpoint be one like any other.

    Args:
        trainer: in ``on_train_start``.
        all_loops: whether the loops of batches within it are to forget the checkpoint too. Where
            it goes on in the middle of an epoch they need it.

    Relies on ``fit_loop._restarting`` for the one, and for the other on the setter of
    ``_Loop.restarting``, which hands the value down: that of a fit loop says yes whenever there is
    a ``max_steps``. Without them the end of a resumed epoch would take no step of its schedulers,
    and a fit by ``max_steps`` run through an epoch without a batch.
    """
    if all_loops:
        _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]
    else:
        trainer.fit_loop._restarting = False


def complete_epochs(trainer: Trainer) -> None:
    """Count every epoch that was begun as over, so that the next begins.

    Relies on ``fit_loop.epoch_progress``. Without it an epoch that was begun and lost would be
    repeated or left out at a second stop.
    """
    epochs = trainer.fit_loop.epoch_progress
    processed = epochs.current.processed  # type: ignore[attr-defined]
    for counts in (epochs.total, epochs.current):
        counts.__dict__.update(dict.fromkeys(COUNTS, processed))


# A batch that was begun, and what comes after its step.


def is_batch_begun(trainer: Trainer) -> bool:
    """Whether a checkpoint was made in a batch that was begun, and has had no step.

    Relies on ``fit_loop.epoch_loop.batch_progress``. Without it a validation may come a batch
    early.
    """
    current: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(current.ready > current.processed)


def discard_begun_batch(trainer: Trainer) -> None:
    """Take a batch that was begun out of the total of those begun: it is seen again.

    Relies on ``reset_on_restart`` of ``batch_progress.total``; Lightning calls that of ``current``
    alone. Without it a validation by ``check_val_every_n_epoch=None`` comes a batch early.
    """
    trainer.fit_loop.epoch_loop.batch_progress.total.reset_on_restart()


def is_accumulating(trainer: Trainer) -> bool:
    """Whether the gradients of the last batch wait for those of the next.

    Relies on ``fit_loop.epoch_loop._should_accumulate``. Without it steps would be counted where
    the optimizer takes none.
    """
    return trainer.fit_loop.epoch_loop._should_accumulate()


def count_steps(trainer: Trainer, by: int) -> None:
    """Move on the step that loggers are told.

    Relies on ``fit_loop.epoch_loop._batches_that_stepped``. Without it all that is logged after a
    stop is a step late.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped += by


def step_schedulers(trainer: Trainer) -> None:
    """Have schedulers that watch a metric take the step that comes after a batch.

    Relies on ``fit_loop.epoch_loop.update_lr_schedulers``, which takes none where gradients are
    accumulated. Without it ``ReduceLROnPlateau`` by step misses one.
    """
    loop = trainer.fit_loop.epoch_loop
    loop.update_lr_schedulers("step", update_plateau_schedulers=True)


def step_epoch_schedulers(trainer: Trainer) -> None:
    """Have schedulers that watch a metric take the step that comes after ``on_train_epoch_end``.

    Relies on ``fit_loop.epoch_loop.update_lr_schedulers``, and on ``fit_loop.epoch_progress``: the
    epoch is that of the schedulers' frequency, and counts as completed already. Without it
    ``ReduceLROnPlateau`` misses the epoch in whose end a checkpoint was made.
    """
    epochs = trainer.fit_loop.epoch_progress.current
    epochs.completed -= 1
    trainer.fit_loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
    epochs.completed += 1


# A validation amid a fit.


def forget_validation(trainer: Trainer) -> None:
    """Let no validation that this Trainer has run before pass for the one that is due.

    Relies on ``val_loop._has_run``, which Lightning resets only when the next validation begins.
    Without it a Trainer that fits again leaves out a validation at the end of an epoch.
    """
    trainer.fit_loop.epoch_loop.val_loop._has_run = False


def is_validation_due(trainer: Trainer) -> bool:
    """Whether a validation follows the batch that was last processed.

    Relies on ``fit_loop.epoch_loop._should_check_val_fx`` and ``fit_loop._data_fetcher``, which is
    there from the set-up of the data on. Without them a validation in which, or before which, a
    fit was stopped would be left out.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def begin_validation(trainer: Trainer) -> None:
    """Have a fit go on with a validation, whole and before the next batch.

    Relies on ``val_loop.batch_progress`` and on ``val_loop._restart_stage``: Lightning takes the
    validation up first only if it was in the middle of one. Without them it would be left out, or
    run on some of its batches only.
    """
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.batch_progress.reset_on_run()
    loop._restart_stage = RestartStage.RESTARTED_MID_EVALUATION


# Signals.


class Signals(_SignalConnector):
    """Lightning's handlers of signals, of which that of SIGTERM sends nothing between ranks.

    Attributes:
        noted: whether this rank has got the signal.
        agreed: whether any has, as far as the ranks have told each other.
    """

    noted = agreed = False

    def register_signal_handlers(self) -> None:
        """As Lightning does at the start of each run."""
        self.noted = self.agreed = False
        super().register_signal_handlers()

    def _sigterm_notifier_fn(self, signum: int, _: FrameType | None) -> None:
        launcher = self.trainer.strategy.launcher
        if launcher is not None and not self.noted:
            launcher.kill(signum)  # to the ranks that it has started
        self.noted = True
        if not is_fitting(self.trainer):  # nothing to keep: each rank ends by itself
            self.received_sigterm = True


def take_over_signals(trainer: Trainer) -> None:
    """Put ``Signals`` in the place of a Trainer's handlers, which it is about to register.

    Relies on ``Trainer._signal_connector``, whose ``register_signal_handlers`` comes after
    ``setup``, on ``_sigterm_notifier_fn``, which it registers for SIGTERM, and on
    ``received_sigterm``, at which loops stop. Without them ranks that are not interrupted at the
    same point wait for each other for ever.
    """
    if not isinstance(trainer._signal_connector, Signals):
        trainer._signal_connector = Signals(trainer)


def get_signals(trainer: Trainer) -> Signals | None:
    """The ``Signals`` of a Trainer, if they have taken the place of its handlers.

    Relies on ``Trainer._signal_connector``, as ``take_over_signals`` does.
    """
    signals = trainer._signal_connector
    return signals if isinstance(signals, Signals) else None


# Checkpoints.


def dump_checkpoint(trainer: Trainer) -> dict[str, Any]:
    """The content of a checkpoint, made on this rank alone: no rank waits for another.

    Relies on ``_checkpoint_connector.dump_checkpoint``, which ``Trainer.save_checkpoint`` wraps in
    barriers. Without it nothing can be kept of an error that other ranks do not know of.
    """
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


class QuietCheckpoints(_CheckpointConnector):
    """Lightning's way to the checkpoint of a fit, without its advice to name one."""

    def _parse_ckpt_path(self, *args: Any, **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r".*fit\(ckpt_path=None\)` was called without a model"
            )
            return super()._parse_ckpt_path(*args, **options)


def silence_advice(trainer: Trainer) -> None:
    """Keep a Trainer from saying of a fit without ``ckpt_path`` that it was called without a model.

    It says so of every such fit with an ``OnExceptionCheckpoint`` among the callbacks, and it is
    never true of one.

    Relies on ``Trainer._checkpoint_connector``, whose ``_parse_ckpt_path`` says it, on its words,
    and on a datamodule being given its Trainer before. Without them it is said, and nothing else.
    """
    connector = trainer._checkpoint_connector
    if type(connector) is _CheckpointConnector:
        connector.__class__ = QuietCheckpoints


def make_lone_environment() -> LightningEnvironment:
    """For ``Trainer(plugins=...)``: one process, whatever a scheduler has begun this one for.

    Relies on ``LightningEnvironment``. Without it a Trainer under SLURM would wait for ranks.
    """
    return LightningEnvironment()
