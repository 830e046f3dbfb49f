"""What loading costs a step is told by a clock, and measuring it changes nothing."""

import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from btc_datamodule import Batch, BTCDataModule, ConfigError, DummyModule, NotPreparedError
from btc_datamodule.training.headroom import Headroom, find_headroom
from tests.factories import make_datamodule, make_model


class Clock:
    """Goes on only when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class Slow(DummyModule):
    """Takes three seconds for a step."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        CLOCK.now += 3
        return super().training_step(batch, batch_idx)

    def configure_callbacks(self) -> Any:
        raise AssertionError("callbacks may write files")


class SlowLoading(BTCDataModule):
    """Takes one second for a batch, or half of one if it is gathered on the device."""

    seconds: ClassVar = {"host": 1.0, "device": 0.5}

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        CLOCK.now += self.seconds[self.gather]
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("headroom")
    make_datamodule(folder)
    return folder


@pytest.fixture
def dm(folder: Path) -> BTCDataModule:
    return make_datamodule(folder)


def test_the_share_of_loading_is_what_a_step_takes_longer_with_it(folder: Path) -> None:
    dm = make_datamodule(folder, SlowLoading, gather="device")
    serve = lambda: dm._serve(dm.stages)  # noqa: E731
    found = find_headroom(
        make_model(dm, Slow), dm, serve, seconds=120, precision="32-true", clock=CLOCK
    )
    assert {*found.share} >= {"host", "device"}
    assert (found.cached["host"], found.loaded["host"], found.share["host"]) == (3, 4, 0.25)
    assert (found.cached["device"], found.loaded["device"]) == (3, 3.5)
    assert (found.now, found.batch_size) == ("device", 32)
    assert found.gain == pytest.approx(3.5 / 3)


def test_it_is_told_in_one_line() -> None:
    found = Headroom(
        "cuda:0",
        1024,
        "pinned",
        {"host": 0.004, "pinned": 0.0025, "device": 0.00201},
        {"host": 0.002, "pinned": 0.002, "device": 0.002},
        {"host": 0.5, "pinned": 0.2, "device": 0.005},
    )
    assert str(found) == (
        "loading takes 20% of a training step (pinned, batches of 1,024 on cuda:0): 2.50 ms, 2.00 "
        "without; the most to be won is 1.25 times as many steps; host: 50%, 4.00 ms; device: 0%, "
        "2.01 ms"
    )


def test_measuring_changes_nothing(
    dm: BTCDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make_model(dm, Slow)
    log = logging.getLogger("lightning.pytorch")

    def list_states() -> Iterator[Any]:
        yield from (value.tolist() for value in model.state_dict().values())
        yield (torch.get_rng_state().tolist(), random.getstate())
        yield np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
        yield (dm.trainer, dm.gather, dm.num_workers, dm.pin_memory, log.level, model.training)

    before = [*list_states()]
    found = dm.headroom(model, seconds=0.01)
    assert [*list_states()] == before
    assert [*tmp_path.iterdir()] == []
    assert model._trainer is None
    assert found.now in found.loaded
    assert len(next(iter(dm.train_dataloader())).x) == 32


class Asking(DummyModule):
    """Looks at the datamodule of its Trainer."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        dm: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        assert batch.x.shape == (dm.batch_size, dm.lookback, len(dm.table.features))
        return super().training_step(batch, batch_idx)


def test_a_model_that_looks_at_the_datamodule_finds_it(dm: BTCDataModule) -> None:
    assert 0 <= dm.headroom(make_model(dm, Asking), seconds=0.01).share["host"] < 1


class Untrained(LightningModule):
    """Has no step of training."""


class Stopping(DummyModule):
    """Stops its Trainer."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.trainer.should_stop = True
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("model", "seconds", "message"),
    [
        (nn.Linear(1, 1), 1, "model is a Linear: give a LightningModule"),
        (Untrained(), 1, "model Untrained has no training_step"),
        (DummyModule(3, 12, 3), 0, "seconds is 0: give more than 0, at most 3,600"),
        (Stopping(3, 12, 3), 0.01, "model Stopping has stopped its Trainer"),
    ],
    ids=["no LightningModule", "no training_step", "no time", "stops"],
)
def test_what_cannot_be_trained_is_refused(
    dm: BTCDataModule, model: Any, seconds: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dm.headroom(model, seconds=seconds)


def test_there_must_be_something_to_load(folder: Path) -> None:
    dm = make_datamodule(folder, ready=False)
    with pytest.raises(NotPreparedError):
        dm.headroom(DummyModule(3, 12, 3))


class Fails(DummyModule):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        torch.rand(3)
        raise RuntimeError("no step")


def test_random_states_stay_as_they_are_if_the_model_fails(dm: BTCDataModule) -> None:
    model, before = make_model(dm, Fails), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no step"):
        dm.headroom(model, seconds=0.1)
    assert torch.equal(torch.get_rng_state(), before)
