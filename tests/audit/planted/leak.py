"""What a planted leak is, and the candles and settings that leaks are planted on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BTCDataModule, Candles, FractionSplit
from tests.factories import InMemory, make_datamodule, random_hourly

ROWS = 600
FIRST_VAL_ROW, FIRST_TEST_ROW = 360, 480
TRAIN_BLIND = "train is blind to val and test"
VAL_BLIND = "val is blind to test"
INPUTS = "inputs end at the origin"
TARGETS = "targets are made of their own bars"
UNKNOWN = "targets are not known at the origin"
APART = "stages share no target bar"
ALLOWED = "windows are those allowed"
STATISTICS = "statistics are those of train"
TABLE = "the table is that of the candles"
FUNCTIONS = "features are functions of their bars"
SOURCE = "the source tells the same when asked for less"
KNOWN = "covariates enter when they are known"
AHEAD = "no covariate runs ahead"
BUILD = "the build"
"""Who finds a leak: the build of the feature file, or the guarantee of the audit of this name."""

Plant = Callable[[pytest.MonkeyPatch], None]
Kind = type[BTCDataModule]


def reads_later(name: str) -> str:
    """The guarantee of a feature."""
    return f"{name} reads no later bar"


def of_source(name: str) -> str:
    """The guarantee of the source of a covariate."""
    return f"the source of {name} tells the same when asked for less"


def make_candles(*more: tuple[int, int]) -> Candles:
    """``ROWS`` hours with holes: (first row, bars)."""
    present = np.ones(ROWS, dtype=bool)
    for start, length in ((100, 2), (200, 7), (420, 5), (530, 1), *more):
        present[start : start + length] = False
    return random_hourly(present.tolist(), seed=1)


def make(folder: Path, kind: Kind = BTCDataModule, **arguments: Any) -> BTCDataModule:
    """A datamodule over the candles, whose files are not there yet."""
    settings: dict[str, Any] = {
        "source": InMemory(make_candles()),
        "features": ["log_return"],
        "lookback": 8,
        "batch_size": 16,
        "split": FractionSplit(val=0.2, test=0.2),
    }
    return make_datamodule(folder, kind, ready=False, **settings | arguments)


@dataclass(frozen=True)
class Leak:
    """A leak: how it gets in, who must find it, and what is the same without it.

    Attributes:
        found_by: ``BUILD``, or the guarantees of the audit that must fail.
        arguments: of the datamodule.
        clean: arguments that differ in the clean twin.
        plant: what is changed inside the package.
        kind: class of the datamodule.
        clean_kind: that of the clean twin.
        change: of the datamodule before it is audited.
    """

    found_by: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    clean: dict[str, Any] = field(default_factory=dict)
    plant: Plant | None = None
    kind: Kind = BTCDataModule
    clean_kind: Kind = BTCDataModule
    change: Callable[[BTCDataModule], BTCDataModule] | None = None
