"""Windows gathered on a device are the host's, bit for bit.

The CPU stands in for one; where there is an accelerator the same tests run on it as well.
"""

import pickle
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from btc_datamodule import (
    Batch,
    BTCDataModule,
    ConfigError,
    CumulativeReturn,
    DummyModule,
    Simulator,
    TripleBarrier,
    WalkForward,
)
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.device import (
    COPIED_BYTES,
    DEVICE_SHARE,
    DeviceGather,
    gather_nested,
)
from btc_datamodule.windows.starts import WindowStarts
from tests.factories import make_datamodule

CPU = torch.device("cpu")
DEVICES = [CPU]
if torch.accelerator.is_available():
    DEVICES.append(torch.device(str(torch.accelerator.current_accelerator())))
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


def batches(
    dm: BTCDataModule, stage: str, device: torch.device = CPU, **sampler: Any
) -> Iterator[Batch]:
    """What a model would be handed."""
    loader: DataLoader[Batch] = getattr(dm, f"{stage}_dataloader")()
    for name, value in {"epoch": 1, **sampler}.items():
        setattr(loader.sampler, name, value)
    for batch in loader:
        yield dm.transfer_batch_to_device(batch, device, 0)


def assert_same_bits(one: Batch, other: Batch) -> None:
    """Two batches have the same bits, those of NaN too, wherever they lie."""
    assert type(one) is type(other) is Batch
    for left, right in zip(one, other, strict=True):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        bits = (each.cpu().contiguous().flatten().view(torch.uint8) for each in (left, right))
        assert torch.equal(*bits)


def assert_same(
    one: BTCDataModule, other: BTCDataModule, device: torch.device = CPU, **sampler: Any
) -> None:
    """All batches of all stages have the same bits."""
    for stage in STAGES:
        count = 0
        pairs = (batches(one, stage, **sampler), batches(other, stage, device, **sampler))
        for a, b in zip(*pairs, strict=True):
            assert {field.device.type for field in b} == {device.type}
            assert_same_bits(a, b)
            count += 1
        assert count > 0


OPTIONS: dict[str, dict[str, Any]] = {
    "masked": {},
    "complete": {"min_observed": 1.0},
    "robust": {"scaling": "robust", "target_scaling": "robust", "transform": centred},
    "block": {"scaling": "none", "shuffle": "block"},
    "strided": {"shuffle": "none", "features": ["log_return"], "stride": 3, "gap": 2},
    "by feature": {"mask": "feature", "features": ["log_return", "volatility"]},
    "by feature, complete": {"mask": "feature", "min_observed": 1.0},
    "classes": {"target": TripleBarrier(classes=True, volatility_bars=8)},
    "one number": {"target": CumulativeReturn(), "target_scaling": "train"},
    "bfloat16": {"dtype": "bfloat16", "transform": centred},
    "bfloat16 of four": {
        "dtype": "bfloat16",
        "features": ["log_return", "log_range", "day_sin", "day_cos"],
        "mask": "feature",
        "shuffle": "block",
    },
}


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("settings", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_batch_has_the_bits_of_the_hosts(
    folder: Path, settings: dict[str, Any], device: torch.device
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`mask: feature` with `min_observed")
        host, dm = datamodule(folder, "host", **settings), datamodule(folder, **settings)
    assert_same(host, dm, device)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("shuffle", ["full", "block"])
def test_every_rank_gets_its_own_batches(
    folder: Path, device: torch.device, shuffle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btc_datamodule.windows.starts.STRETCH_WINDOWS", 120)  # two batches
    host, dm = (datamodule(folder, gather, shuffle=shuffle) for gather in ("host", "device"))
    for rank in (0, 2):
        assert_same(host, dm, device, ranks=lambda rank=rank: (3, rank))


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
def test_an_epoch_begun_anywhere_goes_on_with_the_very_next_batch(
    folder: Path, device: torch.device, shuffle: str
) -> None:
    host, dm = (datamodule(folder, gather, shuffle=shuffle) for gather in ("host", "device"))
    whole = list(batches(host, "train"))
    for skipped in (1, len(whole) - 1):
        rest = list(batches(dm, "train", device, _skipped=skipped))
        assert len(rest) == len(whole) - skipped
        for one, other in zip(whole[skipped:], rest, strict=True):
            assert_same_bits(one, other)


def test_bfloat16_is_float32_rounded(folder: Path) -> None:
    for gather in ("host", "device"):
        pairs = (
            batches(datamodule(folder, gather, dtype=each), "train")
            for each in ("float32", "bfloat16")
        )
        wide, narrow = map(next, pairs)
        assert_same_bits(narrow, wide._replace(x=wide.x.to(torch.bfloat16)))
        assert not torch.equal(narrow.x.float(), wide.x)
    sample = datamodule(folder, "host", dtype="bfloat16").dataset("train")[0]
    assert sample.x.dtype == torch.bfloat16


def test_the_type_may_change_until_a_loader_is_made(folder: Path) -> None:
    dm = datamodule(folder)
    stale = next(iter(dm.train_dataloader()))
    dm.dtype = "bfloat16"
    assert next(batches(dm, "train")).x.dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="ask the datamodule for its loader again"):
        dm.transfer_batch_to_device(stale, CPU, 0)


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


def test_loaders_hand_out_positions_alone_and_need_no_processes(folder: Path) -> None:
    dm = datamodule(folder, num_workers=2, pin_memory=True)
    loader = dm.train_dataloader()
    starts: Any = next(iter(loader))
    assert isinstance(starts, WindowStarts)
    assert (starts.stage, starts.at, len(starts)) == ("train", 0, 50)
    assert (loader.num_workers, loader.pin_memory) == (0, False)
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
    (held,) = dm._device_gather._held.values()
    assert held is not None
    assert list(held.stages) == list(STAGES)
    assert pickle.loads(pickle.dumps(dm._device_gather))._held == {}
    dm.teardown("fit")
    assert dm._device_gather._held == {}


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


def test_targets_that_do_not_fit_are_made_on_the_host_and_one_message_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm = datamodule(folder, target_scaling="train")
    next(batches(dm, "val"))
    monkeypatch.setattr("btc_datamodule.windows.device.count_free_bytes", lambda _: 1)
    host = datamodule(folder, "host", target_scaling="train")
    with pytest.warns(UserWarning, match="0 MB of targets do not fit on cpu") as found:
        assert_same(host, dm)
    assert len(found) == 3, "of all stages but val"


def test_a_device_that_runs_out_of_memory_on_the_way_is_as_one_without_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    dm = datamodule(folder)
    monkeypatch.setattr("btc_datamodule.windows.device.DeviceGather._copy", full)
    with pytest.warns(UserWarning, match="do not fit"):
        assert_same(datamodule(folder, "host"), dm)


def test_blocks_are_read_ahead_where_rows_do_not_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("btc_datamodule.windows.device.DEVICE_SHARE", 0.0)
    monkeypatch.setattr(
        "btc_datamodule.features.table.Table.read_ahead", lambda *given: asked.extend(given[3])
    )
    dm = datamodule(folder, shuffle="block")
    dm._get_device_gather().stages["train"].ahead_bytes = 0
    with pytest.warns(UserWarning, match="do not fit"):
        next(batches(dm, "train"))
    assert asked == ["x", "observed", "close"]


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


@pytest.mark.parametrize("what", ["scaler", "target_scaler"])
def test_statistics_that_differ_by_little_are_others(folder: Path, what: str) -> None:
    dm = datamodule(folder, target_scaling="train")
    stages = {stage: dm.dataset(stage) for stage in dm._get_device_gather().stages}  # type: ignore[arg-type]
    assert DeviceGather(stages).key == dm._get_device_gather().key
    for windows in stages.values():
        scaler = getattr(windows, what)
        close = tuple(value * (1 + 1e-12) for value in scaler.scale)
        setattr(windows, what, replace(scaler, scale=close))
    assert DeviceGather(stages).key != dm._get_device_gather().key


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


def test_a_wrong_gather_or_type_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="gather is 'gpu': choose one of host, device"):
        BTCDataModule(gather="gpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="dtype is 'bf16': choose one of float32, bfloat16"):
        BTCDataModule(dtype="bf16")  # type: ignore[arg-type]


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
