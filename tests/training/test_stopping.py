"""Signals that stop a fit, on one device; those on several ranks are in ``test_ranks.py``."""

from pathlib import Path

from btc_datamodule.training.internals import Signals
from btc_datamodule.training.stopping import StopTogether
from tests.training.test_stop_checkpoint import datamodule, model_for, trainer


def test_one_device_keeps_the_handlers_of_lightning(tmp_path: Path) -> None:
    dm = datamodule(tmp_path)
    runner = trainer(tmp_path)
    for _ in range(2):
        runner.fit(model_for(dm), datamodule=dm)
    callbacks: list[object] = runner.callbacks  # type: ignore[attr-defined]
    assert sum(isinstance(each, StopTogether) for each in callbacks) == 1
    assert not isinstance(runner._signal_connector, Signals)
