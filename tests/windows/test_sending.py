"""What a loader process cannot be sent is one line, before any process starts."""

import functools
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from btc_datamodule import Batch, ConfigError, LogReturn
from btc_datamodule.windows.sending import check_sendable, find_obstacle
from tests.factories import make_datamodule


def double(batch: Batch, by: float = 2.0) -> Batch:
    return batch._replace(x=batch.x * by)


class Doubling:
    def __call__(self, batch: Batch) -> Batch:
        return double(batch)

    def apply(self, batch: Batch) -> Batch:
        return double(batch)


def make_local() -> Callable[[Batch], Batch]:
    def inside(batch: Batch) -> Batch:
        return batch

    return inside


class Open:
    """Holds what no process can be sent."""

    def __init__(self) -> None:
        self.file = Path(__file__).open()  # noqa: SIM115

    def __call__(self, batch: Batch) -> Batch:
        return batch


@pytest.mark.each_value
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("transform", "told"),
    [
        (lambda batch: batch, "transform is a lambda, which a process started by"),
        (make_local(), "transform cannot be pickled .*inside"),
        (functools.partial(lambda batch, by: batch, by=2), "transform cannot be pickled .*lambda"),
        (Open(), "transform cannot be pickled .*TextIOWrapper"),
    ],
    ids=["lambda", "local", "partial of a lambda", "file"],
)
def test_a_function_that_cannot_be_sent_is_named_with_what_to_do(
    tmp_path: Path, method: Any, transform: Any, told: str
) -> None:
    dm = make_datamodule(tmp_path, transform=transform, num_workers=1, start_method=method)
    with pytest.raises(ConfigError, match=f"{told}.* top level.* or set `num_workers: 0` or"):
        dm.train_dataloader()
    dm.start_method = "fork"
    assert next(iter(dm.train_dataloader())).x.shape == (32, 12, 3)
    dm.num_workers = 0
    assert next(iter(dm.train_dataloader())).x.shape == (32, 12, 3)


def test_a_transform_on_the_device_need_not_be_sent(tmp_path: Path) -> None:
    dm = make_datamodule(
        tmp_path,
        transform=lambda batch: batch._replace(x=batch.x * 2),
        num_workers=1,
        start_method="spawn",
        gather="device",
    )
    sent = pickle.loads(pickle.dumps(dm.val_dataloader().dataset))
    batch = dm.transfer_batch_to_device(sent[np.arange(32)], "cpu", 0)
    plain = make_datamodule(tmp_path).dataset("val")[:32]
    assert batch.x.equal(plain.x * 2)


@pytest.mark.parametrize(
    "part", [None, double, functools.partial(double, by=3.0), Doubling(), Doubling().apply]
)
def test_what_has_a_path_can_be_sent(part: Any) -> None:
    assert find_obstacle(part) is None


def test_a_target_made_within_a_function_is_named(tmp_path: Path) -> None:
    class Local(LogReturn):
        pass

    dm = make_datamodule(tmp_path, target=Local(), num_workers=1, start_method="spawn")
    with pytest.raises(ConfigError, match="target cannot be pickled"):
        dm.val_dataloader()


def test_what_was_typed_into_a_notebook_is_known_to_no_other_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its ``__main__`` has no file that another process could run."""
    notebook: Any = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    exec("def typed(batch):\n    return batch", notebook.__dict__)
    check_sendable({"transform": notebook.typed}, "fork", "")
    with pytest.raises(ConfigError, match="transform was typed into a notebook or an interpreter"):
        check_sendable({"transform": notebook.typed}, "spawn", "")
    notebook.__file__ = "script.py"
    check_sendable({"transform": notebook.typed}, "spawn", "")
