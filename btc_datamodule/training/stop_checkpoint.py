"""``StopCheckpoint``: what a fit that was stopped had reached is kept, and gone on from."""

import shutil
from contextlib import suppress
from pathlib import Path
from zipfile import is_zipfile

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import OnExceptionCheckpoint, Timer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from btc_datamodule.errors import StoreError
from btc_datamodule.escaping import escape
from btc_datamodule.public import public
from btc_datamodule.training import internals


@public
class StopCheckpoint(OnExceptionCheckpoint):
    """Keeps a checkpoint when a SIGTERM, Ctrl-C, an error or ``max_time`` stops a fit.

    ``fit`` without a ``ckpt_path`` goes on from it, and deletes it when it has come to its end.

    It differs from Lightning's ``OnExceptionCheckpoint`` where that loses what it has kept, or
    never ends. A fit that fails before it has trained anything (a mistyped argument is enough)
    leaves it as it is, and so does all that is no whole fit: ``validate``, ``test``, ``predict``,
    ``fast_dev_run``, a search for a learning rate. It is replaced whole, or not at all on a full
    disk, where the fit's own error is still the one that is raised. And an error on one of several
    ranks, which the others do not know of, is waited for by none: rank 0 keeps what it has, where
    a rank has the whole model (``ddp``).

    Args:
        dirpath: the folder to keep the checkpoint in; a relative one is meant from where the
            process is now, whatever folder it changes to later.
        filename: name of the checkpoint, without ``.ckpt``.
    """

    def __init__(self, dirpath: str = "checkpoints", filename: str = "stopped") -> None:
        super().__init__(Path(dirpath).expanduser().absolute(), filename)
        self._training = self._ended = False

    @property
    def ckpt_path(self) -> str:
        """The file of the checkpoint; Lightning asks for it to go on from there.

        Raises:
            StoreError: if the file is damaged.
        """
        if self._path.is_file() and not is_zipfile(self._path):
            raise StoreError(
                f"{self._path}, which a fit goes on from, is damaged: delete it to begin anew, or "
                "give another checkpoint as `ckpt_path`"
            )
        return str(self._path)

    @property
    def _path(self) -> Path:
        return Path(super().ckpt_path)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to keep."""
        self._training = not trainer.fast_dev_run  # type: ignore[attr-defined]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the end of a fit from the end of its time, at which a checkpoint is kept."""
        timers = [each for each in internals.get_callbacks(trainer) if isinstance(each, Timer)]
        times = [each.time_remaining() for each in timers]
        over = any(left is not None and left <= 0 for left in times)
        whole = internals.is_last_batch(trainer)
        reached = (whole and trainer.current_epoch == trainer.max_epochs) or (
            -1 < trainer.max_steps <= trainer.global_step
        )
        # The clocks of the ranks differ: it is that of rank 0 which has stopped them.
        self._ended = self._training and (reached or not trainer.strategy.broadcast(over))
        if self._training and not self._ended:
            self._keep(trainer, together=True)
        self._training = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Keep a checkpoint, in the place of the one before it."""
        if self._training:
            together = trainer.world_size == 1 or internals.is_sigterm(exception)
            if together or isinstance(trainer.strategy, DDPStrategy):
                self._keep(trainer, together)
        self._training = False

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Delete the checkpoint after a whole fit."""
        if self._ended:
            trainer.strategy.remove_checkpoint(self._path)
        self._ended = False

    def _keep(self, trainer: Trainer, together: bool) -> None:
        """Write a checkpoint beside its place, and move it there.

        Args:
            trainer: whose checkpoint it is.
            together: on all ranks together, or on rank 0 alone.
        """
        partial = self._path.with_name(f"{self._path.name}.part")
        try:
            if together:
                trainer.save_checkpoint(partial)
            elif trainer.is_global_zero:
                content = internals.dump_checkpoint(trainer)
                trainer.strategy.save_checkpoint(content, partial)
            if trainer.is_global_zero:
                if self._path.is_dir():  # as strategies write that shard a model
                    shutil.rmtree(self._path)
                partial.replace(self._path)
                rank_zero_info(f"kept {escape(str(self._path))}: `fit` goes on from it")
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            rank_zero_warn(escape(f"{self._path} could not be kept: {error}"))


def silence_advice(trainer: Trainer) -> None:
    """Keep a Trainer that has a ``StopCheckpoint`` from advising to name a checkpoint.

    To be called before a fit looks for one, which is before the first hook of a callback:
    ``BTCDataModule`` does so when it is given to the Trainer.
    """
    if any(isinstance(each, StopCheckpoint) for each in internals.get_callbacks(trainer)):
        internals.silence_advice(trainer)
