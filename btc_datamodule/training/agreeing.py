"""One feature file for all ranks, whatever another process makes of the candles meanwhile.

Each rank opens the feature file by the candles as they are then. Were a bar appended between the
first rank's look and the last one's, these would train on other windows with other statistics. So
the first rank chooses, and the others open the same.
"""

import itertools
import time

import torch
from lightning.pytorch import Trainer

from btc_datamodule.errors import BTCDataError
from btc_datamodule.opening import Choice, find_table
from btc_datamodule.settings import Settings
from btc_datamodule.training.internals import is_at_work

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

    So a rank that is late keeps none but itself. Relies on ``_get_default_store`` of torch, which
    is no public name; where it is not there all wait for each other.
    """
    group = torch.distributed
    has_store = group.is_available() and group.is_initialized()
    find_store = getattr(group.distributed_c10d, "_get_default_store", None) if has_store else None
    if find_store is None:
        return trainer.strategy.broadcast(word)
    store, turn = find_store(), f"btc_datamodule/feature file/{next(_turns)}"
    if trainer.is_global_zero:
        store.set(turn, word)
        return word
    while not store.check([turn]):
        time.sleep(ASKED_SECONDS)
    heard: bytes = store.get(turn)
    return heard.decode()
