"""The audit covers what a Trainer hands to a model: transforms, hooks of batches, loaders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from btc_datamodule import Batch, BTCDataModule, FractionSplit
from btc_datamodule.audit.report import Audit
from btc_datamodule.audit.twins import compare, list_arrays
from btc_datamodule.errors import BTCDataError
from tests.factories import InMemory, make_datamodule, random_hourly

INPUTS = "inputs end at the origin"
TARGETS = "targets are made of their own bars"
ALLOWED = "windows are those allowed"
TRAIN_BLIND = "train is blind to val and test"
Kind = type[BTCDataModule]


def audit(folder: Path, kind: Kind = BTCDataModule, **arguments: Any) -> Audit:
    settings: dict[str, Any] = {
        "source": InMemory(random_hourly([True] * 400, seed=2)),
        "features": ["log_return"],
        "lookback": 8,
        "batch_size": 16,
        "split": FractionSplit(val=0.2, test=0.2),
    }
    return make_datamodule(folder, kind, **settings | arguments).audit()


# --- planted --------------------------------------------------------------------------------------


def put_target_into_inputs(batch: Batch) -> Batch:
    x = batch.x.clone()
    x[..., -1, 0] = batch.y.sum(dim=(-1, -2))
    return batch._replace(x=x)


def centre_by_batch(batch: Batch) -> Batch:
    return batch._replace(x=batch.x - batch.x.mean())


class BeforeTransfer(BTCDataModule):
    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return put_target_into_inputs(batch)


class AfterTransfer(BTCDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return put_target_into_inputs(batch)


class InTransfer(BTCDataModule):
    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return put_target_into_inputs(batch)


class IntoPairs(BTCDataModule):
    """Hands out (inputs, targets), as most models take them, the target among the inputs."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return put_target_into_inputs(batch).x, batch.y


class IntoDicts(BTCDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {"inputs": {"x": put_target_into_inputs(batch).x}, "target": batch.y}


class Standardising(BTCDataModule):
    """A setup of its own takes statistics of everything; a hook applies them."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self.level = float(np.log(self.table.bars("close")).mean())

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch._replace(x=batch.x - self.level)


class ValInTrain(BTCDataModule):
    """A train loader of its own goes over validation too."""

    def train_dataloader(self) -> Any:
        return [*super().train_dataloader(), *super().val_dataloader()]


class Unfinished(BTCDataModule):
    """A test loader of its own leaves out its last batch."""

    def test_dataloader(self) -> Any:
        return list(super().test_dataloader())[:-1]


PLANTED: dict[str, tuple[Kind, dict[str, Any], str]] = {
    "transform": (BTCDataModule, {"transform": put_target_into_inputs}, INPUTS),
    "transform on the device": (
        BTCDataModule,
        {"transform": put_target_into_inputs, "gather": "device"},
        INPUTS,
    ),
    "transform that mixes a batch": (BTCDataModule, {"transform": centre_by_batch}, INPUTS),
    "before the transfer": (BeforeTransfer, {}, INPUTS),
    "in the transfer": (InTransfer, {}, INPUTS),
    "after the transfer": (AfterTransfer, {}, INPUTS),
    "pairs": (IntoPairs, {}, INPUTS),
    "dicts": (IntoDicts, {}, INPUTS),
    "statistics of a setup of its own": (Standardising, {}, TRAIN_BLIND),
    "a loader that serves val to train": (ValInTrain, {}, TRAIN_BLIND),
    "a loader that drops a batch": (Unfinished, {}, ALLOWED),
}


@pytest.mark.parametrize(("kind", "arguments", "finds"), PLANTED.values(), ids=PLANTED)
def test_a_leak_in_what_a_trainer_hands_to_the_model_is_found(
    kind: Kind, arguments: dict[str, Any], finds: str, tmp_path: Path
) -> None:
    found = audit(tmp_path, kind, **arguments)
    assert finds in found.failed, str(found)


def test_a_transform_that_mixes_samples_is_told_as_such(tmp_path: Path) -> None:
    found = audit(tmp_path, transform=centre_by_batch)
    assert "x of " in str(found)
    assert "each without the rest of its batch, changes" in str(found)


class AsksItsTrainer(BTCDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch if self.trainer.training else None  # type: ignore[union-attr]


def test_hooks_that_cannot_run_without_a_trainer_are_a_finding_and_no_traceback(
    tmp_path: Path,
) -> None:
    found = audit(tmp_path, AsksItsTrainer)
    assert INPUTS in found.failed
    assert "the hooks of batches cannot be checked, as they fail without a Trainer" in str(found)


def test_chance_that_no_seed_decides_is_told_from_a_leak(tmp_path: Path) -> None:
    def add_unseeded(batch: Batch) -> Batch:
        return batch._replace(x=batch.x + np.random.default_rng().normal())

    found = audit(tmp_path, transform=add_unseeded)
    assert "comes out different each time, whatever the seed" in str(found)


# --- clean ----------------------------------------------------------------------------------------


def add_noise(batch: Batch) -> Batch:
    return batch._replace(x=batch.x + torch.randn_like(batch.x) * np.random.rand())  # noqa: NPY002


def square(batch: Batch) -> Batch:
    return batch._replace(x=torch.cat([batch.x, batch.x**2], dim=-1))


def halve(batch: Batch) -> Batch:
    return batch._replace(x=batch.x.to(torch.bfloat16))


class CleanPairs(BTCDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch.x, batch.y


class CleanLoader(BTCDataModule):
    def train_dataloader(self) -> Any:
        return DataLoader(self.dataset("train"), batch_size=16, shuffle=True)


class WithArgument(BTCDataModule):
    """Made with an argument that no other datamodule has."""

    def __init__(self, level: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.level = level

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch._replace(x=batch.x * self.level)


CLEAN: dict[str, tuple[Callable[..., BTCDataModule], dict[str, Any]]] = {
    "half precision": (BTCDataModule, {"transform": halve}),
    "random noise": (BTCDataModule, {"transform": add_noise}),
    "more features": (BTCDataModule, {"transform": square}),
    "on the device": (BTCDataModule, {"transform": square, "gather": "device"}),
    "pairs": (CleanPairs, {}),
    "a loader of its own": (CleanLoader, {}),
    "an argument of its own": (WithArgument, {"level": 2.0}),
    "workers": (BTCDataModule, {"num_workers": 2, "transform": square}),
}


@pytest.mark.parametrize(("kind", "arguments"), CLEAN.values(), ids=CLEAN)
def test_what_leaks_nothing_passes(kind: Any, arguments: dict[str, Any], tmp_path: Path) -> None:
    found = audit(tmp_path, kind, **arguments)
    assert found.passed, str(found)


def test_the_random_numbers_of_a_user_go_on_as_if_there_had_been_no_audit(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert audit(tmp_path, transform=add_noise).passed
    assert torch.equal(torch.rand(3), expected)


# --- how arrays are compared ----------------------------------------------------------------------


def test_arrays_are_found_in_any_nesting() -> None:
    x, y = torch.zeros(2, 3), np.ones(2)
    assert list(list_arrays({"a": [x, {"b": y}], "c": "text"})) == ["a.0", "a.1.b"]
    assert list(list_arrays(Batch(x, x, x, x))) == list(Batch._fields)
    assert list(list_arrays(x)) == ["batch"]


def test_a_difference_is_named_by_its_place_and_time() -> None:
    one = np.zeros((3, 2), dtype=np.float32)
    other = one.copy()
    other[1, 0] = 1
    with pytest.raises(BTCDataError, match=r"x changes in 1 of 3, the first at item 1"):
        compare("x", one, other, None)
    with pytest.raises(BTCDataError, match=r"the first at 1970-01-01T00:00:07Z"):
        compare("x", one, other, np.array([0, 7, 9]))
    with pytest.raises(BTCDataError, match=r"float32 \(3, 2\) becomes float64 \(3, 2\)"):
        compare("x", one, one.astype(np.float64), None)
