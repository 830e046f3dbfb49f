"""Datamodules over one month of simulated hours, under several splits, shared by all pictures."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

from btc_datamodule import BTCDataModule, CombinatorialPurged, Simulator, WalkForward
from tests.factories import make_datamodule

NAMES = [f"momentum_over_{n}_bars = close / close.shift({n}) - 1" for n in range(5, 21)]

SETTINGS: dict[str, dict[str, Any]] = {
    "once": {"purge": 4, "embargo": 5},
    "walk": {"split": WalkForward("10d", "2d", "2d", fold=1), "purge": 4, "embargo": 5},
    "paths": {"split": CombinatorialPurged(6, 2, fold=4), "purge": 4, "embargo": 5},
    "steps": {"split": WalkForward("10d", 0, "6h", fold=11), "lookback": 4},
    "few": {"end": "2021-03-11", "batch_size": 8},
    "features": {"features": ["log_return", *NAMES]},
    "unscaled": {"scaling": "none", "features": ["price = close", *NAMES[:7]]},
    "thin": {
        "source": Simulator(seed=1, outages_per_year=200),
        "min_observed": 0.5,
        "mask": "feature",
        "batch_size": 8,
    },
}

Make = Callable[[str], BTCDataModule]


@pytest.fixture(scope="package")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Give the datamodule of one of ``SETTINGS``, each made once."""
    folder = tmp_path_factory.mktemp("pictures")

    @cache
    def once(name: str) -> BTCDataModule:
        shared: dict[str, Any] = {"max_fill": 0}
        shared["source"] = Simulator(seed=1, outages_per_year=100)
        return make_datamodule(folder, **shared | SETTINGS[name])

    return once
