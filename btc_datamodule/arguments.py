"""What a datamodule was given: fixed arguments, hyper-parameters, and back from a checkpoint.

``Arguments`` is ``BTCDataModule`` without its work. What decides the windows is read from
``settings``, and what follows from the data from ``stages``; neither is ever set. The arguments are
in checkpoints as plain values, under their own names; loggers are told them as ``data/lookback``
and so on, since a model has arguments of its own and may call them the same: a PatchTST has a
``stride``.
"""

import re
from argparse import ArgumentError
from dataclasses import fields
from multiprocessing.context import get_spawning_popen
from typing import IO, TYPE_CHECKING, Any, Self

from lightning.pytorch import LightningDataModule, Trainer

from btc_datamodule.data import Data
from btc_datamodule.errors import ConfigError
from btc_datamodule.settings import KINDS, Settings
from btc_datamodule.training.batch_size import bound_batch_size
from btc_datamodule.training.stop_checkpoint import silence_advice
from btc_datamodule.windows.sending import check_sendable

if TYPE_CHECKING:
    from pathlib import Path

FIXED = {field.name for field in fields(Settings)} - {"shape"} | {"lookback", "horizon", "gap"}
FIXED |= {"offset", "max_age"}
"""Arguments that decide the windows."""

LOGGED_AS = "data/"
"""What stands before the name of an argument in a logger."""


class Arguments(Data, LightningDataModule):
    """A LightningDataModule whose windows are decided by ``settings``, once and for all."""

    @property
    def trainer(self) -> Trainer | None:
        """The Trainer that the datamodule was last given to."""
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        self._trainer = trainer
        if trainer is not None:
            silence_advice(trainer)

    @property
    def batch_size(self) -> int:
        """Windows in a batch of one device; read when a loader is made."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._batch_size = bound_batch_size(size, self.trainer, self._count_train_windows)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in FIXED and "settings" in vars(self):
                return getattr(self.settings, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and "settings" in vars(self):
            raise ConfigError(
                f"{name} decides the windows and is fixed once a datamodule is made: make another "
                f"one, BTCDataModule({name}=...)"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """The attributes, also for a rank that ``ddp_spawn`` starts.

        Raises:
            ConfigError: if that rank cannot be sent an argument.
        """
        if get_spawning_popen() is not None:
            names = ("transform", "features", "covariates", *KINDS)
            parts = {name: getattr(self, name) for name in names}
            check_sendable(parts, "spawn", "set the Trainer's `strategy` to ddp")
        return vars(self).copy()

    @property
    def hparams(self) -> Any:
        """The arguments, as checkpoints keep them; ``batch_size`` as it is now.

        A search for a batch size reads it here, and a checkpoint is to say what was trained with.
        """
        kept = super().hparams
        if "batch_size" in kept and "_batch_size" in vars(self):
            kept["batch_size"] = self.batch_size
        return kept

    @property
    def hparams_initial(self) -> Any:
        """The arguments as loggers are told them, ``data/lookback`` and so on.

        ``hparams`` has them by their own names. Were these merged with the model's, as Lightning
        does with what this property gives, one that both have would end the fit.
        """
        given = super().hparams_initial
        named = {f"{LOGGED_AS}{name}": each for name, each in given.items() if name[:1] != "_"}
        return type(given)(named)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: "str | Path | IO[bytes]",
        map_location: Any = None,
        hparams_file: "str | Path | None" = None,
        weights_only: bool | None = None,
        **arguments: Any,
    ) -> Self:
        """The datamodule that a checkpoint was trained with, its spans and statistics.

        Args:
            checkpoint_path: of a checkpoint of a Trainer.
            map_location: where its tensors go, as ``torch.load`` takes it.
            hparams_file: a YAML file of arguments to take in place of those in the checkpoint.
            weights_only: as ``torch.load`` takes it.
            arguments: go before those in the checkpoint. A Feature around a function or an
                expression of polars, a frame, a lambda and what is made within a function are in
                none.

        Raises:
            ConfigError: if an argument cannot be made again of what the checkpoint says, or it was
                trained with other settings than those given.
            StoreError: if the train rows are no longer those that it was trained on.
        """
        try:
            return super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, weights_only, **arguments
            )
        except ArgumentError as error:
            found = re.search(r'"module\.(\w+)', str(error))
            if found is None:
                raise
            name, kept = found[1], re.search(r"Given value: (.+)", str(error))
            what = f" ({kept[1]})" if kept else ""
        except ConfigError as error:
            if "features" in arguments or not str(error).startswith("unknown feature"):
                raise
            name, what = "features", f" ({str(error).partition(':')[0]})"
        except ValueError as error:
            found = re.search(r"frame is '(<frame of [^']+>)'", str(error))
            if found is None:
                raise
            name, what = "covariates" if "source" in arguments else "source", f" ({found[1]})"
        raise ConfigError(
            f"what the checkpoint says of {name}{what} cannot be made again: give {name}=... to "
            "load_from_checkpoint, as it was given to the datamodule"
        )

    def _count_train_windows(self) -> int | None:
        return None if self._stages is None else len(self._stages.windows("train"))
