"""One feature file for all ranks, whatever another process makes of the candles meanwhile.

Each rank opens the feature file by the candles as they are then. Were a bar appended between the
first rank's look and the last one's, these would train on other windows with other statistics. So
the first rank chooses, and the others open the same.
"""

import itertools
import time

from lightning.pytorch import Trainer

from btc_datamodule.errors import BTCDataError
from btc_datamodule.opening import Choice, find_table
from btc_datamodule.settings import Settings
from btc_datamodule.training.internals import find_store, is_at_work

ASKED_SECONDS = 0.02
"""How often a rank looks whether the first one has chosen."""

_turns = itertools.count()


def agree_on_table(
    trainer: Trainer | None, settings: Settings, prepared: Choice | None
) -> Choice | None:
    """The feature file to open: that of the first rank of a Trainer, or of ``prepare_data``.

    Args:
        trainer: whose ``setup`` it is; None outside of one.
        settings: which windows there are.
        prepared: the feature file that ``prepare_data`` of this very process has made, if it has.

    Returns:
        None where that of the candles as they are now is to be opened.
    """
    own = prepared if prepared is not None and prepared.path.exists() else None
    if trainer is None or not is_at_work(trainer) or trainer.world_size == 1:
        return own
    word = ""
    if trainer.is_global_zero:
        try:
            path, candles = own or find_table(settings)
            word = f"{path.name} {candles}"
        except BTCDataError:
            own = None  # it is raised again where the file is opened, after the others have heard
    name, _, candles = _pass_on(trainer, word).partition(" ")
    return Choice(settings.candle_path.with_name(name), candles) if name else None


def _pass_on(trainer: Trainer, word: str) -> str:
    """A word of the first rank, on all ranks; the first one does not wait for the others.

    So a rank that is late keeps none but itself. Where there is no store all wait for each other.
    """
    store, turn = find_store(), f"btc_datamodule/feature file/{next(_turns)}"
    if store is None:
        return trainer.strategy.broadcast(word)
    if trainer.is_global_zero:
        store.set(turn, word)
        return word
    while not store.check([turn]):
        time.sleep(ASKED_SECONDS)
    heard: bytes = store.get(turn)
    return heard.decode()
