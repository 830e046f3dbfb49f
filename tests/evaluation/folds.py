"""Candles with holes, datamodules over them, and what each of their samples reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule import BTCDataModule, Split
from btc_datamodule.candles.timeline import Span
from btc_datamodule.evaluation.splits import Fold, Stage
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


def repeated_rows(present: Sequence[bool]) -> list[int]:
    """For each row the one whose bar it shows, if it is filled: the last present one up to it."""
    rows: list[int] = []
    for row, here in enumerate(present):
        rows.append(row if here else rows[-1])
    return rows


def outages_of(present: Sequence[bool], max_fill: int) -> NDArray[np.bool_]:
    """The rows of an outage: absent, and more than ``max_fill`` rows after the last present one."""
    rows = np.arange(len(present))
    known: NDArray[np.bool_] = rows - np.array(repeated_rows(present)) <= max_fill
    return ~known


def next_present(present: Sequence[bool], row: int) -> int:
    """The first row at or after ``row`` that has a candle."""
    return next(later for later in range(row, len(present) + 1) if all(present[later:][:1]))


@dataclass(frozen=True)
class Gapped(Split):
    """Trains on both sides of val and test; some bars after each of them belong to no stage."""

    after_train: int = 0
    after_val: int = 0
    after_test: int = 0

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        start, end = span
        bars = (end - start) // interval
        val, test, late = (start + bars * tenths // 10 * interval for tenths in (3, 5, 7))
        return (
            Fold.of(
                [(start, val), (late + self.after_test * interval, end)],
                [(val + self.after_train * interval, test)],
                [(test + self.after_val * interval, late)],
                end,
            ),
        )


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
