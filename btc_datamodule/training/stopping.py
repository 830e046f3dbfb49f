"""A SIGTERM that reaches one rank of a fit stops all of them at the same batch.

Lightning answers the signal in its handler, wherever the process happens to be then: on several
ranks it starts a broadcast there. Ranks that are not interrupted at the same point of a step, or
not all, or twice, then wait for each other for ever, and no checkpoint is made. Here the handler
only notes the signal. After each batch the ranks tell each other whether one of them has, and from
there on Lightning takes its own course: the same exception on each, after that batch or, where a
validation follows it, after that.

``stop_checkpoint`` keeps what has been reached.
"""

from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.trainer.states import TrainerFn


class StopTogether(Callback):
    """Ends a fit on all ranks at once; ``BTCDataModule`` adds it to the Trainer of a fit."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the place of Lightning's handlers, which it is about to register."""
        if trainer.world_size > 1 and not isinstance(trainer._signal_connector, Signals):
            trainer._signal_connector = Signals(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Agree on whether to stop."""
        signals = trainer._signal_connector
        if isinstance(signals, Signals):
            signals.received_sigterm = signals.agreed = trainer.strategy.reduce_boolean_decision(
                signals.noted, all=False
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have the validation end: a rank may have a batch less, and would not stop amid it."""
        self._stop(trainer, False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after it."""
        self._stop(trainer, True)

    def _stop(self, trainer: Trainer, now: bool) -> None:
        signals = trainer._signal_connector
        if isinstance(signals, Signals) and trainer.state.fn == TrainerFn.FITTING:
            signals.received_sigterm = now and signals.agreed


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
        if self.trainer.state.fn != TrainerFn.FITTING:  # nothing to keep: each rank ends by itself
            self.received_sigterm = True
