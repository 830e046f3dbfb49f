"""Windows gathered on a device are the host's, bit for bit; the CPU stands in for one."""

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from btc_datamodule import Batch, BTCDataModule, ConfigError, DummyModule, Simulator, WalkForward
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.device import COPIED_BYTES, DEVICE_SHARE, WindowStarts, gather_nested
from tests.factories import make_datamodule

CPU = torch.device("cpu")
STAGES = ("train", "val", "test", "predict")


def centred(batch: Batch) -> Batch:
    """A transform: x less its last input bar."""
    return batch._replace(x=batch.x - batch.x[..., -1:, :])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("device")


def datamodule(folder: Path, gather: Any = "device", **arguments: Any) -> BTCDataModule:
    settings: dict[str, Any] = {
        "source": Simulator(seed=3, outages_per_year=100, no_trade=0.01),
        "start": "2021-01-01",
        "end": "2021-02-15",
        "lookback": 24,
        "horizon": 2,
        "batch_size": 50,
        "min_observed": 0.5,
    }
    return make_datamodule(folder, gather=gather, **settings | arguments)


def batches(dm: BTCDataModule, stage: str, epoch: int = 1) -> Iterator[Batch]:
    """What a model would be handed."""
    loader: DataLoader[Batch] = getattr(dm, f"{stage}_dataloader")()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    for batch in loader:
        yield dm.transfer_batch_to_device(batch, CPU, 0)


def assert_same(one: BTCDataModule, other: BTCDataModule) -> None:
    """All batches of all stages have the same bits, those of NaN too."""
    for stage in STAGES:
        count = 0
        for a, b in zip(batches(one, stage), batches(other, stage), strict=True):
            assert type(a) is type(b) is Batch
            for left, right in zip(a, b, strict=True):
                assert (left.dtype, left.shape) == (right.dtype, right.shape)
                assert torch.equal(
                    left.contiguous().view(torch.uint8), right.contiguous().view(torch.uint8)
                )
            count += 1
        assert count > 0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"min_observed": 1.0},
        {"scaling": "robust", "target_scaling": "robust", "transform": centred},
        {"scaling": "none", "shuffle": "block"},
        {"shuffle": "none", "features": ["log_return"], "stride": 3, "gap": 2},
    ],
    ids=["masked", "complete", "robust", "block", "strided"],
)
def test_every_batch_has_the_bits_of_the_hosts(folder: Path, settings: dict[str, Any]) -> None:
    assert_same(datamodule(folder, "host", **settings), datamodule(folder, **settings))


def test_predict_gives_nan_where_the_future_is_not_known(folder: Path) -> None:
    *_, last = batches(datamodule(folder), "predict")
    assert torch.isnan(last.y[-1]).all()
    assert torch.isfinite(last.x).all()


def test_rows_copied_in_many_blocks_are_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert COPIED_BYTES > 10**6
    monkeypatch.setattr("btc_datamodule.windows.device.COPIED_BYTES", 100 * 12)
    assert_same(datamodule(folder, "host"), datamodule(folder))


def test_batches_are_gathered_inside_any_nesting_and_changed_in_order(folder: Path) -> None:
    dm = datamodule(folder)
    starts: Any = next(iter(dm.train_dataloader()))
    plain = dm.transfer_batch_to_device(starts, CPU, 0)

    def add(batch: Batch) -> Batch:
        return batch._replace(x=batch.x + 1)

    nested = gather_nested(
        [{"a": starts}, (3, starts)], dm._get_device_gather, CPU, centred, None, add
    )
    due = add(centred(plain)).x
    assert torch.equal(nested[0]["a"].x, due)
    assert torch.equal(nested[1][1].x, due)
    assert nested[1][0] == 3


def test_nothing_is_set_up_where_there_is_nothing_to_gather(folder: Path) -> None:
    def fail() -> Any:
        raise AssertionError("asked for")

    assert gather_nested({"a": [1, 2]}, fail, CPU) == {"a": [1, 2]}


def test_loaders_hand_out_no_inputs(folder: Path) -> None:
    dm = datamodule(folder, num_workers=1)
    starts: Any = next(iter(dm.train_dataloader()))
    assert isinstance(starts, WindowStarts)
    assert [field.shape for field in (starts.rows, starts.y, starts.origin_time)] == [
        (50,),
        (50, 2, 1),
        (50,),
    ]
    assert len(pickle.dumps(starts)) < 50 * (8 + 8 + 8) + 1500
    assert_same(datamodule(folder, "host"), dm)


def test_a_dataset_gathers_on_the_host_in_either_mode(folder: Path) -> None:
    sample = datamodule(folder).dataset("train")[3]
    assert isinstance(sample, Batch)
    assert sample.x.shape == (24, 3)


class Kept(DummyModule):
    """Keeps what it is handed."""

    def __init__(self) -> None:
        super().__init__(3, 24, 2)
        self.kept: list[Batch] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.kept.append(batch)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.kept.append(batch)
        super().validation_step(batch, batch_idx)


def fitted(dm: BTCDataModule, folder: Path, model: Kept, **options: Any) -> Kept:
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=3,
        limit_val_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(model, datamodule=dm)
    return model


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
def test_a_trainer_gives_the_model_the_same_in_any_precision(folder: Path, precision: str) -> None:
    host, device = (
        fitted(
            datamodule(folder, gather, transform=centred),
            folder,
            Kept(),
            precision=precision,
        ).kept
        for gather in ("host", "device")
    )
    assert len(host) == len(device) > 5
    for a, b in zip(host, device, strict=True):
        assert a.x.dtype == b.x.dtype
        assert all(torch.equal(left, right) for left, right in zip(a, b, strict=True))


class Own(Kept):
    """Has a hook of its own."""

    moved = 0

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        assert isinstance(batch, Batch)
        self.moved += 1
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


@pytest.mark.parametrize("gather", ["host", "device"])
def test_the_models_own_hook_is_called_in_either_mode(folder: Path, gather: str) -> None:
    model = Own()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, that it asks the datamodule
        fitted(datamodule(folder, gather), folder, model)
    assert model.moved == len(model.kept) > 5


def test_the_rows_go_to_a_device_once_and_are_let_go_at_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale_rows = WindowDataset.scale_rows
    copies: list[tuple[int, int]] = []

    def counted(self: WindowDataset, low: int, high: int) -> Any:
        copies.append((low, high))
        return scale_rows(self, low, high)

    monkeypatch.setattr(WindowDataset, "scale_rows", counted)
    dm = datamodule(folder)
    for _ in range(2):
        for stage in STAGES:
            next(batches(dm, stage))
    assert dm._device_gather is not None
    assert copies == [(1, 1 + dm._device_gather.rows)]  # row 0 is warm-up
    assert list(dm._device_gather._rows) == [CPU]
    assert pickle.loads(pickle.dumps(dm._device_gather))._rows == {}
    dm.teardown("fit")
    assert dm._device_gather._rows == {}


def test_rows_that_do_not_fit_stay_on_the_host_and_one_message_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm = datamodule(folder)
    gather = dm._get_device_gather()
    need = gather.rows * (4 * 3 + 1)
    asked = "btc_datamodule.windows.device.count_free_bytes"
    monkeypatch.setattr(asked, lambda _: need / DEVICE_SHARE - 1)
    with pytest.warns(UserWarning, match="rows do not fit on cpu") as found:
        assert_same(datamodule(folder, "host"), dm)
    assert len(found) == 1
    gather.release()
    monkeypatch.setattr(asked, lambda _: need / DEVICE_SHARE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(batches(dm, "train"))


def test_a_device_that_runs_out_of_memory_on_the_way_is_as_one_without_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    dm = datamodule(folder)
    monkeypatch.setattr("btc_datamodule.windows.device.DeviceGather._copy", full)
    with pytest.warns(UserWarning, match="do not fit"):
        assert_same(datamodule(folder, "host"), dm)


def test_windows_scaled_each_by_itself_are_gathered_on_the_host(folder: Path) -> None:
    with pytest.warns(UserWarning, match="windows are gathered on the host"):
        dm = datamodule(folder, scaling="window")
    assert isinstance(next(iter(dm.train_dataloader())), Batch)
    assert_same(datamodule(folder, "host", scaling="window"), dm)


def test_each_fold_has_rows_and_statistics_of_its_own(folder: Path) -> None:
    split = WalkForward(train="20d", val="3d", test="3d", step="10d")
    one, two = (datamodule(folder, split=split).with_fold(fold) for fold in (0, 1))
    host = datamodule(folder, "host", split=split)
    for fold, dm in enumerate((one, two)):
        dm.setup()
        same = host.with_fold(fold)
        same.setup()
        assert_same(same, dm)
    assert one._get_device_gather().rows < one.table.rows
    stale = next(iter(one.train_dataloader()))
    with pytest.raises(ConfigError, match="ask the datamodule for its loader again"):
        two.transfer_batch_to_device(stale, CPU, 0)


def test_setting_up_again_keeps_the_batches_of_earlier_loaders_good(folder: Path) -> None:
    dm = datamodule(folder)
    starts: Any = next(iter(dm.val_dataloader()))
    before = dm.transfer_batch_to_device(starts, CPU, 0)
    dm.setup()
    after = dm.transfer_batch_to_device(starts, CPU, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_batch_owns_its_memory(folder: Path) -> None:
    dm = datamodule(folder, min_observed=1.0)
    starts: Any = next(iter(dm.val_dataloader()))
    first = dm.transfer_batch_to_device(starts, CPU, 0)
    first.x.fill_(99)
    first.observed.fill_(False)
    again = dm.transfer_batch_to_device(starts, CPU, 0)
    assert again.x.abs().max() < 99
    assert again.observed.all()


def test_a_wrong_gather_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="gather is 'gpu': choose one of host, device"):
        BTCDataModule(gather="gpu")  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="no accelerator")
def test_an_accelerator_holds_the_same_bits(folder: Path) -> None:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    host, dm = datamodule(folder, "host"), datamodule(folder, pin_memory=True)
    for a, starts in zip(batches(host, "val"), dm.val_dataloader(), strict=True):
        b = dm.transfer_batch_to_device(starts, device, 0)
        assert {field.device.type for field in b} == {device.type}
        assert all(torch.equal(left, right.cpu()) for left, right in zip(a, b, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_trainer_on_a_gpu_is_handed_batches_from_pinned_memory(
    folder: Path, workers: int
) -> None:
    pinned, seen = [], []

    class Looks(DummyModule):
        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            pinned.append(all(field.is_pinned() for field in batch))
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            seen.append(batch.x.cpu())
            return super().training_step(batch, batch_idx)

    dm = datamodule(folder, "host", num_workers=workers)
    due = [batch.x for batch in dm.train_dataloader()]
    runner = Trainer(accelerator="gpu", devices=1, max_epochs=1, logger=False)
    model = Looks(dm.n_features, dm.lookback, dm.horizon, dm.target_shape)
    runner.fit(model, datamodule=dm)
    assert pinned
    assert all(pinned)
    assert all(torch.equal(a, b) for a, b in zip(due, seen, strict=True))
