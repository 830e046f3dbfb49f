"""Whatever happens to the candles between, what was prepared is opened, by all ranks alike."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerStatus
from torch._C._distributed_c10d import HashStore

from btc_datamodule import BTCDataModule, NotPreparedError
from btc_datamodule.training import agreeing
from tests.factories import make_datamodule


def make(folder: Path) -> BTCDataModule:
    return make_datamodule(folder, ready=False, end="2021-03-20")


def digest_longer(folder: Path) -> str:
    """Store more candles, as another process does; give the digest of all of them."""
    other = make_datamodule(folder, ready=False)
    other.prepare_data()
    return other.settings.read_candle_header().digest


@pytest.fixture
def dm(tmp_path: Path) -> BTCDataModule:
    return make(tmp_path)


def ranks(rank: int, said: list[Any]) -> Any:
    """A Trainer with two ranks, as far as agreeing asks it: the first one's word is in ``said``."""

    def broadcast(word: Any) -> Any:
        if rank == 0:
            said.append(word)
        return said[0]

    return SimpleNamespace(
        world_size=2,
        global_rank=rank,
        is_global_zero=rank == 0,
        state=SimpleNamespace(status=TrainerStatus.RUNNING, fn=None),
        strategy=SimpleNamespace(broadcast=broadcast),
        callbacks=[],
    )


def test_setup_opens_what_prepare_data_of_the_same_process_has_made(
    dm: BTCDataModule, tmp_path: Path
) -> None:
    dm.prepare_data()
    digest = digest_longer(tmp_path)
    dm.setup()
    assert dm.table.candles != digest
    with pytest.raises(NotPreparedError, match="no feature file for these settings"):
        make(tmp_path).setup()
    dm.prepare_data()
    dm.setup()
    assert dm.table.candles == digest


def test_all_ranks_open_what_the_first_has_opened(dm: BTCDataModule, tmp_path: Path) -> None:
    dm.prepare_data()
    said: list[Any] = []
    late, again = make(tmp_path), make(tmp_path)
    dm.trainer, late.trainer = ranks(0, said), ranks(1, said)
    dm.setup()
    digest_longer(tmp_path)
    again.prepare_data()  # so that there is one of the longer candles, too
    late.setup()
    again.setup()
    assert late.table.path == dm.table.path != again.table.path
    assert late.scaler == dm.scaler


def test_a_node_without_the_file_of_the_first_rank_says_so(
    dm: BTCDataModule, tmp_path: Path
) -> None:
    dm.prepare_data()
    said: list[Any] = []
    elsewhere = make_datamodule(tmp_path / "other", ready=False, start="2021-03-02")
    elsewhere.prepare_data()
    dm.trainer, elsewhere.trainer = ranks(0, said), ranks(1, said)
    dm.setup()
    with pytest.raises(NotPreparedError, match=r"which the first rank has opened.*`data_dir`"):
        elsewhere.setup()


def test_a_first_rank_without_a_file_ends_in_its_own_error_after_all_have_heard(
    dm: BTCDataModule,
) -> None:
    said: list[Any] = []
    dm.trainer = ranks(0, said)
    with pytest.raises(NotPreparedError, match="prepare"):
        dm.setup()
    assert said == [""]


def test_the_first_rank_waits_for_no_other(
    dm: BTCDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by the store of a process group, which both ranks have here in one process."""
    store = HashStore()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: store)
    dm.prepare_data()
    late = make(tmp_path)
    dm.trainer, late.trainer = ranks(0, []), ranks(1, [])
    for _ in range(2):  # each setup has a word of its own
        turns = itertools.count(store.num_keys())
        monkeypatch.setattr(agreeing, "_turns", turns)
        dm.setup()
        digest_longer(tmp_path)
        monkeypatch.setattr(agreeing, "_turns", itertools.count(next(turns) - 1))
        late.setup()
        assert late.table.path == dm.table.path
        dm.prepare_data()
