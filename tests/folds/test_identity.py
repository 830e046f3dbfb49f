"""What tells one model, callback or Trainer from another."""

import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from btc_datamodule import BTCDataModule, DummyModule, LogReturn, Simulator, StopCheckpoint
from btc_datamodule.folds.identity import identify
from btc_datamodule.folds.record import identify_training
from tests.factories import make_trainer


def scale_by(factor: float) -> Callable[[Any], Any]:
    return lambda values: values * factor


class Held:
    def __init__(self, value: Any) -> None:
        self.value = value


class ScaledReturn(LogReturn):
    def __init__(self, factor: float) -> None:
        self.factor = factor


class Watch(Callback):
    level = 1


def tell(thing: Any) -> str:
    digest, unknown = identify(thing)
    assert unknown == ()
    return digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: lambda x: x * 2, lambda: lambda x: x * 3),
        (lambda: scale_by(2), lambda: scale_by(3)),
        (lambda: [scale_by(2), len], lambda: [scale_by(3), len]),
        (lambda: {"loss": Held(scale_by(2))}, lambda: {"loss": Held(scale_by(3))}),
        (lambda: Held(2).__init__, lambda: Held(3).__init__),  # type: ignore[misc]
        (lambda: np.random.default_rng(1), lambda: np.random.default_rng(2)),
        (lambda: torch.Generator().manual_seed(1), lambda: torch.Generator().manual_seed(2)),
        (lambda: nn.Dropout(0.1), lambda: nn.Dropout(0.2)),
        (lambda: torch.zeros(2), lambda: torch.zeros(2, dtype=torch.bfloat16)),
        (lambda: torch.zeros(2), lambda: torch.zeros(2, requires_grad=True)),
        (lambda: {1, "a"}, lambda: {1, "b"}),
    ],
)
def test_things_are_alike_if_they_are_made_alike(
    one: Callable[[], Any], other: Callable[[], Any]
) -> None:
    assert tell(one()) == tell(one())
    assert tell(one()) != tell(other())


def test_a_class_that_was_changed_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(self: DummyModule, batch: Any, batch_idx: int) -> Any:
        return batch

    things = [Watch(), DummyModule(3, 4, 1, (1,)), EarlyStopping("val_loss")]
    before = [tell(each) for each in things]
    monkeypatch.setattr(Watch, "level", 2)
    monkeypatch.setattr(DummyModule, "training_step", train)
    monkeypatch.setattr(EarlyStopping, "patience", 2, raising=False)
    for thing, known in zip(things, before, strict=True):
        assert tell(thing) != known


def test_what_cannot_be_told_is_named() -> None:
    assert identify({"model": Held(threading.Lock())}).unknown == ("model.value: lock",)
    assert identify(Held(x for x in [1])).unknown == ("value: generator",)
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    assert identify(deep).unknown == ("what lies deeper, or comes later, than is looked at",)
    deep.append(deep)
    assert len(identify([Held(deep), deep]).digest) == 64


def make_training(
    folder: Path, *, transform: Any = None, target: Any = None, **options: Any
) -> str:
    torch.manual_seed(0)
    model = DummyModule(3, 4, 1, (1,))
    model.more = nn.ModuleList([nn.LazyLinear(2), nn.BatchNorm1d(2)])
    callbacks = [Watch(), ModelCheckpoint(folder, monitor="val_loss"), StopCheckpoint(str(folder))]
    trainer = make_trainer(folder, *callbacks, **{"max_epochs": 1, **options})
    dm = BTCDataModule(Simulator(), target=target, transform=transform)
    digest, unknown = identify_training(model, trainer, dm)
    assert unknown == ()
    return digest


def test_a_training_is_the_same_in_every_process_and_another_with_other_arguments() -> None:
    folder = Path("checkpoints")
    here = make_training(folder)
    code = (
        "from pathlib import Path; from tests.folds.test_identity import make_training; "
        "print(make_training(Path('checkpoints')))"
    )
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert told.stdout.split()[-1] == here == make_training(folder)
    for option in (
        {"limit_val_batches": 2},
        {"num_sanity_val_steps": 0},
        {"max_time": "00:01:00:00"},
        {"precision": "bf16-mixed"},
        {"reload_dataloaders_every_n_epochs": 1},
    ):
        assert make_training(folder, **option) != here
    halved, doubled = (
        make_training(folder, transform=scale_by(factor), target=ScaledReturn(factor))
        for factor in (0.5, 2.0)
    )
    assert len({here, halved, doubled}) == 3


def test_a_transform_that_cannot_be_told_is_named(tmp_path: Path) -> None:
    transform: Any = partial(max, Held(threading.Lock()))
    dm = BTCDataModule(Simulator(), transform=transform)
    model, trainer = DummyModule(3, 4, 1, (1,)), make_trainer(tmp_path, max_epochs=1)
    assert [each.split(":")[1] for each in identify_training(model, trainer, dm).unknown] == [
        " lock"
    ]
