"""Unusual set-ups that leak nothing pass the audit."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, default_collate

from btc_datamodule import (
    Batch,
    BTCDataModule,
    CandleFile,
    CombinatorialPurged,
    CumulativeReturn,
    DateSplit,
    Direction,
    Feature,
    Fold,
    FractionSplit,
    OHLCPath,
    RealisedVolatility,
    Simulator,
    Split,
    Target,
    TripleBarrier,
    WalkForward,
)
from btc_datamodule.audit import report as audit
from btc_datamodule.candles.timeline import Span
from tests.audit import peeks
from tests.audit.planted.handed import OwnLoader
from tests.audit.planted.leak import FUNCTIONS, Kind, make, make_candles
from tests.factories import InMemory

# --- what a model is handed -----------------------------------------------------------------------


def add_noise(batch: Batch) -> Batch:
    return batch._replace(x=batch.x + torch.randn_like(batch.x) * np.random.rand())  # noqa: NPY002


def square(batch: Batch) -> Batch:
    return batch._replace(x=torch.cat([batch.x, batch.x**2], dim=-1))


def halve(batch: Batch) -> Batch:
    return batch._replace(x=batch.x.to(torch.bfloat16))


def standardise_sample(batch: Batch) -> Batch:
    return batch._replace(x=batch.x - batch.x.mean(dim=-2, keepdim=True))


def flip_half(batch: Batch) -> Batch:
    """Turns the signs of some samples, inputs and targets alike."""
    sign = torch.randint(0, 2, batch.x.shape[:-2]) * 2.0 - 1
    return batch._replace(x=batch.x * sign[..., None, None], y=batch.y * sign[..., None, None])


class Pairs(BTCDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch.x, batch.y


class Dicts(BTCDataModule):
    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {"inputs": batch.x, "target": batch.y, "origin_time": batch.origin_time}


class AsksItsTrainer(BTCDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        assert self.trainer is not None
        return add_noise(batch) if self.trainer.training else batch


class PairLoader(OwnLoader):
    def collate(self, samples: list[Batch]) -> Any:
        batch = Batch(*default_collate(samples))
        return batch.x, batch.y


class TwoTestLoaders(BTCDataModule):
    """Tests the first half, then the second, by loaders of their own."""

    def test_dataloader(self) -> Any:
        windows = self.dataset("test")
        halves = np.array_split(np.arange(len(windows)), 2)
        return [
            DataLoader([windows[int(at)] for at in half], batch_size=8)  # type: ignore[arg-type]
            for half in halves
        ]


class TakesStatistics(BTCDataModule):
    """A setup of its own, which takes statistics of train alone."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        windows = self.dataset("train")
        self.level = windows[np.arange(len(windows))].x.mean()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch._replace(x=batch.x - self.level)


class WithArgument(BTCDataModule):
    """Made with an argument that no other datamodule has."""

    def __init__(self, level: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.level = level

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch._replace(x=batch.x * self.level)


# --- splits and targets ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Scattered(Split):
    """Two spans of test amid train, with gaps that nobody owns."""

    def folds(self, span: Span, interval: int) -> tuple[Fold, ...]:
        at = [span[0] + row * interval for row in (0, 150, 170, 230, 250, 400, 401, 480, 510)]
        train = [(at[0], at[1]), (at[4], at[5]), (at[8], span[1])]
        return (Fold.of(train, [], [(at[2], at[3]), (at[6], at[7])], span[1]),)


@dataclass(frozen=True)
class MaximumDrawdown(Target):
    """A target of one's own that looks at highs and lows, and back at a day."""

    columns = ("high", "low", "close")
    reference_bars = 24

    def shape(self, horizon: int) -> tuple[int, ...]:
        return (2,)

    def __call__(self, bars: NDArray[np.float64]) -> NDArray[np.floating]:
        level = bars[:, :24, 2].mean(axis=1)
        return np.stack(
            [bars[:, 24:, 1].min(axis=1) / level, bars[:, 24:, 0].max(axis=1) / level], axis=1
        )


SIGNS = "s = close.log().diff().rolling_mean(24).sign()"
CLEAN: dict[str, tuple[Kind | Callable[..., BTCDataModule], dict[str, Any]]] = {
    "half precision": (BTCDataModule, {"transform": halve}),
    "random noise": (BTCDataModule, {"transform": add_noise}),
    "samples flipped at random": (BTCDataModule, {"transform": flip_half}),
    "more features by a transform": (BTCDataModule, {"transform": square}),
    "a sample by its own mean": (BTCDataModule, {"transform": standardise_sample}),
    "on the device": (BTCDataModule, {"transform": square, "gather": "device"}),
    "pairs": (Pairs, {}),
    "dicts": (Dicts, {}),
    "a hook that asks its Trainer": (AsksItsTrainer, {}),
    "loaders of torch's own": (OwnLoader, {}),
    "loaders that hand out pairs": (PairLoader, {}),
    "two test loaders": (TwoTestLoaders, {}),
    "statistics of train in a setup of its own": (TakesStatistics, {}),
    "an argument of its own": (WithArgument, {"level": 2.0}),
    "workers": (BTCDataModule, {"num_workers": 2, "transform": square}),
    "a gap, purge and robust targets": (
        BTCDataModule,
        {"gap": 2, "purge": 3, "target_scaling": "robust"},
    ),
    "strict, half observed": (
        BTCDataModule,
        {"context": "strict", "scaling": "robust", "min_observed": 0.5},
    ),
    "a rolling walk, window scaling": (
        BTCDataModule,
        {
            "split": WalkForward(train=200, val=60, test=60, fold=1),
            "scaling": "window",
            "target_scaling": "train",
            "horizon": 5,
            "eval_stride": 2,
        },
    ),
    "a growing walk without val": (
        BTCDataModule,
        {
            "split": WalkForward(train=200, val=0, test=60, expanding=True, fold=-1),
            "scaling": "none",
        },
    ),
    "dates": (
        BTCDataModule,
        {"split": DateSplit("2020-01-15", "2020-01-20T07:00:00Z"), "stride": 7},
    ),
    "combinations, purged": (
        BTCDataModule,
        {
            "split": CombinatorialPurged(n_groups=5, n_test_groups=2, fold=6),
            "embargo": 12,
            "purge": 2,
            "scaling": "robust",
            "target_scaling": "train",
            "stride": 3,
        },
    ),
    "a hole across a wall": (
        BTCDataModule,
        {
            "source": InMemory(make_candles((238, 4), (360, 3))),
            "split": CombinatorialPurged(5, 1, fold=2),
            "embargo": 4,
        },
    ),
    "holes at both ends of val": (
        BTCDataModule,
        {"source": InMemory(make_candles((357, 5), (478, 4))), "max_fill": 1},
    ),
    "test spans amid train": (BTCDataModule, {"split": Scattered(), "embargo": 5, "horizon": 3}),
    "no bar is ever filled": (BTCDataModule, {"max_fill": 0}),
    "every hole is filled": (BTCDataModule, {"max_fill": 40, "horizon": 4}),
    "a long horizon, overlapping": (BTCDataModule, {"horizon": 24, "eval_stride": 1}),
    "a long horizon, bar by bar": (BTCDataModule, {"horizon": 24, "lookback": 1}),
    "samples far apart": (BTCDataModule, {"horizon": 2, "eval_stride": 9}),
    "barriers": (BTCDataModule, {"target": TripleBarrier(volatility_bars=30), "horizon": 6}),
    "barriers that nothing reaches": (BTCDataModule, {"target": TripleBarrier(up=1e6, down=1e6)}),
    "a wide dead zone": (BTCDataModule, {"target": Direction(dead_zone=0.5)}),
    "volatility": (BTCDataModule, {"target": RealisedVolatility(), "horizon": 3}),
    "whole bars after a gap": (BTCDataModule, {"target": OHLCPath(), "gap": 5, "horizon": 2}),
    "the return of a day": (BTCDataModule, {"target": CumulativeReturn(), "horizon": 24}),
    "a target of one's own": (BTCDataModule, {"target": MaximumDrawdown(), "horizon": 3}),
    "the sign of a mean": (BTCDataModule, {"features": [SIGNS, f"b{SIGNS} * 2"]}),
    "comparisons of windows": (
        BTCDataModule,
        {"features": ["up = close.rolling_mean(5) > close.rolling_mean(24)", "volatility"]},
    ),
    "polars' running sums": (
        BTCDataModule,
        {
            "features": [
                Feature("mean", 24, pl.col("close").rolling_mean(24) / pl.col("close") - 1),
                Feature("deviation", 24, pl.col("close").rolling_std(24)),
            ],
            "split": CombinatorialPurged(5, 2, fold=4),
        },
    ),
    "a convolution": (BTCDataModule, {"features": [Feature("c", 3, peeks.convolve)]}),
    "a cached constant": (BTCDataModule, {"features": [Feature("w", 4, peeks.weigh)]}),
    "the hour": (BTCDataModule, {"features": ["log_return", Feature("hour", 1, peeks.name_hour)]}),
    "a lambda": (
        BTCDataModule,
        {"features": [Feature("l", 1, lambda bars: (bars["high"] / bars["low"]).log())]},
    ),
    "a marker of what is absent": (
        BTCDataModule,
        {"features": [Feature("m", 1, pl.col("close").is_null().cast(pl.Float64))]},
    ),
    "a constant": (BTCDataModule, {"features": ["log_return", "one = close / close"]}),
    "a year of days": (
        BTCDataModule,
        {"source": Simulator(no_trade=0.1), "interval": "1d", "start": "2018-01-01"}
        | {"end": "2020-01-01", "features": ["log_return", "week_sin"]},
    ),
}


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        pytest.param(*each, id=name, marks=[pytest.mark.stress] if number % 4 else [])
        for number, (name, each) in enumerate(CLEAN.items())
    ],
)
def test_what_leaks_nothing_passes(kind: Any, arguments: dict[str, Any], tmp_path: Path) -> None:
    dm = make(tmp_path, kind, **arguments)
    dm.prepare_data()
    found = dm.audit()
    assert found.passed, str(found)
    assert not found.unchecked, str(found)


def test_what_cannot_be_checked_is_said_and_is_no_failure(tmp_path: Path) -> None:
    """The values of a feature depend on the time, beyond the hour and the day of the week."""
    feature = Feature(
        "hour", 1, lambda bars: (bars["open_time"] // 3600 % 24 // 7).cast(pl.Float64)
    )
    years = Feature("years", 1, lambda bars: (bars["open_time"] // 31_557_600).cast(pl.Float64))
    dm = make(tmp_path, features=[feature, years, "log_return"])
    dm.prepare_data()
    found = dm.audit()
    assert found.passed
    assert found.unchecked == (FUNCTIONS,)
    assert "????  features are functions of their bars" in str(found)
    assert "the same bars at another time give another value of years:" in str(found)
    assert str(found).endswith("could not be checked")


REAL: dict[str, dict[str, Any]] = {
    "strict": {"context": "strict", "scaling": "robust", "min_observed": 0.7},
    "walk": {"split": WalkForward(train="60d", val="20d", test="20d", fold=1), "horizon": 5},
    "purged": {"split": CombinatorialPurged(6, 2, fold=6), "embargo": 24, "stride": 3},
}


@pytest.mark.parametrize("arguments", REAL.values(), ids=REAL)
def test_real_candles_with_holes_pass(
    arguments: dict[str, Any], real_data: Path, tmp_path: Path
) -> None:
    dm = BTCDataModule(
        source=CandleFile(str(real_data / "kraken" / "XBTUSD_60.csv"), columns="kraken"),
        start="2016-01-01",
        end="2016-07-01",
        features=["log_return", "relative_volume", "m = close / close.shift(10) - 1"],
        lookback=24,
        batch_size=64,
        data_dir=str(tmp_path),
        **arguments,
    )
    dm.prepare_data()
    dm.setup()
    assert (len(dm.table.holes), len(dm.table.outages)) == (105, 5)
    found = dm.audit()
    assert found.passed, str(found)


FOLDS = [(5, 2, fold) for fold in range(10)] + [(6, 2, fold) for fold in range(15)]


@pytest.mark.parametrize(
    ("groups", "tested", "fold"),
    [pytest.param(*each, marks=[] if each[2] == 7 else pytest.mark.stress) for each in FOLDS]
    + [pytest.param(10, 2, fold, marks=pytest.mark.stress) for fold in range(45)],
)
def test_all_folds_of_a_thin_market_pass(
    groups: int, tested: int, fold: int, real_data: Path, tmp_path: Path
) -> None:
    """A filled bar after a test group repeats its last close: train must not have it."""
    dm = BTCDataModule(
        CandleFile(str(real_data / "kraken" / "XBTUSD_60.csv"), columns="kraken"),
        start="2015-01-01",
        end="2016-01-01",
        features=["log_return"],
        lookback=4,
        split=CombinatorialPurged(groups, tested, fold),
        embargo=4 if fold % 2 else 0,
        batch_size=64,
        data_dir=str(tmp_path),
    )
    dm.prepare_data()
    found = dm.audit()
    assert found.passed, str(found)


def test_of_a_long_history_windows_around_the_boundaries_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "BARS", 400)
    splits = (FractionSplit(), CombinatorialPurged(5, 2, fold=4), WalkForward("60d", "5d", "5d"))
    for number, split in enumerate(splits):
        dm = make(
            tmp_path / str(number),
            source=Simulator(outages_per_year=20),
            start="2021-01-01",
            end="2021-07-01",
            split=split,
        )
        dm.prepare_data()
        found = dm.audit()
        assert found.passed, str(found)
        looked_at = int(found.scope.split("windows on ")[1].split(" of")[0])
        assert 300 < looked_at <= 400, found.scope
