"""``follow``: forecasts of new bars as they close, from the YAML that a fit takes."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule, Trainer

from btc_datamodule.cli.parsing import fail, say
from btc_datamodule.datamodule import BTCDataModule
from btc_datamodule.errors import ConfigError
from btc_datamodule.live.follow import DELAY, follow
from btc_datamodule.training.internals import get_callbacks
from btc_datamodule.training.predictions import PredictionWriter


class FollowTrainer(Trainer):
    """A Trainer whose method ``follow`` says which options the command has."""

    def follow(
        self,
        model: LightningModule,
        datamodule: BTCDataModule,
        ckpt_path: str | None = None,
        output: str = "forecasts.csv",
        prices: bool = False,
        since: str | None = None,
        bars: int | None = None,
        delay: float = DELAY,
    ) -> None:
        """Forecast each bar when it has closed, append to a file, and print it.

        Args:
            model: with a ``predict_step``.
            datamodule: whose source has new bars.
            ckpt_path: the checkpoint of training.
            output: file that ends in .csv, .parquet or .h5; one that is there is gone on with.
            prices: also write the prices that forecasts stand for.
            since: where there is no file yet, the first bar to forecast; none for the newest.
            bars: how many forecasts to make; none for no end.
            delay: seconds after the close of a bar at which the source is asked for it.
        """
        raise NotImplementedError("the command calls follow itself")


def follow_from_config(
    trainer: Trainer, model: LightningModule, dm: BTCDataModule, options: dict[str, Any]
) -> None:
    """Follow with the model and the statistics of a checkpoint.

    Args:
        trainer: whose device and precision are used; a ``PredictionWriter`` is taken from it.
        model: as its class makes it.
        dm: as the configuration has it.
        options: those of ``FollowTrainer.follow``.
    """
    path = options.pop("ckpt_path")
    if path is None or not Path(path).is_file():
        fail(f"follow needs a checkpoint: give --ckpt_path FILE.ckpt, not {path}")
    restore(path, model, dm)
    callbacks = get_callbacks(trainer)
    callbacks[:] = [each for each in callbacks if not isinstance(each, PredictionWriter)]
    with Stops() as stops:
        for forecast in follow(dm, model, trainer=trainer, unbroken=stops.hold, **options):
            say(forecast)
            sys.stdout.flush()


def restore(path: str, model: LightningModule, dm: BTCDataModule) -> None:
    """Load the weights, the spans and the statistics of a checkpoint.

    Raises:
        ConfigError: if it is of another model, or has nothing of a ``BTCDataModule``.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = checkpoint.get(type(dm).__qualname__)
    if not state:
        raise ConfigError(f"{path} has no statistics of a {type(dm).__qualname__}: fit with one")
    dm.load_state_dict(state)
    model.configure_model()
    model.on_load_checkpoint(checkpoint)
    try:
        model.load_state_dict(checkpoint["state_dict"], strict=model.strict_loading)
    except RuntimeError as error:
        raise ConfigError(f"{path} has other weights: {' '.join(str(error).split())}") from error


class Stops:
    """SIGINT and SIGTERM end what is done inside at once, but where they are held back."""

    def __init__(self) -> None:
        self._noted: int | None = None
        self._holds = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            with suppress(TypeError):  # one that was not set by Python
                signal.signal(number, handler)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold signals back until what is done inside is done."""
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
        self._stop()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = number
        if not self._holds:
            self._stop()

    def _stop(self) -> None:
        if self._noted == signal.SIGINT:
            raise KeyboardInterrupt
        if self._noted == signal.SIGTERM:
            print("btc-datamodule: ended by a SIGTERM", file=sys.stderr)
            raise SystemExit(143)
