"""One feature file for all ranks, whatever another process makes of the candles meanwhile.

Each rank opens the feature file by the candles as they are then. Were a bar appended between the
first rank's look and the last one's, these would train on other windows with other statistics. So
the first rank chooses, and the others open the same.
"""

from pathlib import Path

from lightning.pytorch import Trainer

from btc_datamodule.errors import BTCDataError
from btc_datamodule.opening import find_table
from btc_datamodule.settings import Settings
from btc_datamodule.training.internals import is_at_work


def agree_on_table(
    trainer: Trainer | None, settings: Settings, prepared: Path | None
) -> Path | None:
    """The feature file to open: that of the first rank of a Trainer, or of ``prepare_data``.

    Args:
        trainer: whose ``setup`` it is; None outside of one.
        settings: which windows there are.
        prepared: the feature file that ``prepare_data`` of this very process has made, if it has.

    Returns:
        None where that of the candles as they are now is to be opened.
    """
    own = prepared if prepared is not None and prepared.exists() else None
    if trainer is None or not is_at_work(trainer) or trainer.world_size == 1:
        return own
    name = ""
    if trainer.is_global_zero:
        try:
            name = (own or find_table(settings)).name
        except BTCDataError:
            own = None  # it is raised again where the file is opened, after the others have heard
    name = trainer.strategy.broadcast(name)
    return settings.candle_path.with_name(name) if name else None
