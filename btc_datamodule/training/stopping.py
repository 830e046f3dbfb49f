"""A SIGTERM that reaches one rank of a fit stops all of them at the same batch.

Lightning answers the signal in its handler, wherever the process happens to be then: on several
ranks it starts a broadcast there. Ranks that are not interrupted at the same point of a step, or
not all, or twice, then wait for each other for ever, and no checkpoint is made. Here the handler
only notes the signal. After each batch the ranks tell each other whether one of them has, and from
there on Lightning takes its own course: the same exception on each, after that batch or, where a
validation follows it, after that.

``stop_checkpoint`` keeps what has been reached.
"""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from btc_datamodule.training import internals


class StopTogether(Callback):
    """Ends a fit on all ranks at once; ``BTCDataModule`` adds it to the Trainer of a fit."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put our handlers of signals in the place of Lightning's, before it registers them."""
        if trainer.world_size > 1:
            internals.take_over_signals(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Let the ranks agree on whether to stop."""
        signals = internals.get_signals(trainer)
        if signals is not None:
            signals.received_sigterm = signals.agreed = trainer.strategy.reduce_boolean_decision(
                signals.noted, all=False
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a validation come to its end: a rank may have a batch less than another."""
        self._stop(trainer, False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after a validation, if the ranks have agreed to."""
        self._stop(trainer, True)

    def _stop(self, trainer: Trainer, now: bool) -> None:
        signals = internals.get_signals(trainer)
        if signals is not None and internals.is_fitting(trainer):
            signals.received_sigterm = now and signals.agreed
