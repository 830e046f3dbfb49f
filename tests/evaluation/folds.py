"""Candles with holes, datamodules over them, and what each of their samples reads."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from btc_datamodule import (
    BTCDataModule,
)
from btc_datamodule.evaluation.splits import Stage
from tests.factories import InMemory, random_hourly

ROWS = 240
STAGES: tuple[Stage, ...] = ("train", "val", "test")


def holed(seed: int) -> list[bool]:
    """Which of ``ROWS`` bars are present: a few holes of 1 to 6 bars, none for seed 0."""
    random = np.random.default_rng(seed)
    present = np.ones(ROWS, dtype=bool)
    for start in random.integers(1, ROWS - 7, size=4 * (seed > 0)):
        present[start : start + random.integers(1, 7)] = False
    return present.tolist()


PRESENT = [holed(seed) for seed in range(4)]
SOURCES = [InMemory(random_hourly(present, 7), f"holes{i}") for i, present in enumerate(PRESENT)]
FEATURES = [["log_return"], ["log_return", "volatility"]]


def opened(folder: str, **arguments: Any) -> BTCDataModule:
    """A datamodule of files that are there."""
    dm = BTCDataModule(data_dir=folder, **{"batch_size": 1, **arguments})
    dm.setup()
    return dm


@dataclass
class Sample:
    """The rows of a sample, told from its origin by the definitions alone."""

    dm: BTCDataModule
    origin: int
    first_target: int = field(init=False)
    last_target: int = field(init=False)
    first_read: int = field(init=False)

    def __post_init__(self) -> None:
        warm_up = max(feature.lookback for feature in self.dm.features) - 1
        self.first_target = self.origin + 1 + self.dm.shape.gap
        self.last_target = self.first_target + self.dm.horizon - 1
        first_input = self.origin - self.dm.lookback + 1
        self.first_read = min(
            first_input - warm_up, self.first_target - self.dm.target.reference_bars
        )


def samples(dm: BTCDataModule, stage: Stage) -> list[Sample]:
    dataset = dm.dataset(stage)
    origins = dataset.origins[np.arange(len(dataset))]
    return [Sample(dm, origin) for origin in origins.tolist()]


def first_targets(dm: BTCDataModule, stage: Stage) -> list[int]:
    return [sample.first_target for sample in samples(dm, stage)]
