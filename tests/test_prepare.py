"""``prepare`` where it may neither write nor ask, and what it says of itself."""

import logging
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from lightning.pytorch import Trainer

from btc_datamodule import (
    BTCDataError,
    BTCDataModule,
    CandleFile,
    Ccxt,
    Coinbase,
    Resampled,
    SimulatedFunding,
    Simulator,
    Source,
    WalkForward,
)
from btc_datamodule.cli.commands import main
from btc_datamodule.preparing import SIMULATES
from tests.disk.trouble import FORKED
from tests.factories import make_datamodule, make_model, make_trainer

NOBODY = 65_534


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What has been said at rank zero."""
    lines: list[str] = []
    monkeypatch.setattr("btc_datamodule.datamodule.rank_zero_info", lines.append)
    return lambda: lines


# --- a disk that may not be written ---------------------------------------------------------------


BESIDE: dict[str, Any] = {
    "covariates": {"day": Resampled("1d"), "funding": SimulatedFunding(seed=1)},
    "features": ["log_return", "day.close", "funding.rate"],
}


def train(folder: Path) -> dict[str, object]:
    """All that a user does with data that are complete."""
    dm = make_datamodule(folder, **BESIDE)
    trainer = make_trainer(folder, max_epochs=1)
    trainer.fit(make_model(dm), datamodule=dm)
    trainer.test(make_model(dm), datamodule=dm, verbose=False)
    return {"steps": trainer.global_step, "audit": dm.audit().failed}


def train_as_nobody(folder: Path, told: Connection) -> None:
    logging.disable(logging.WARNING)
    if os.geteuid() == 0:  # who may write anywhere
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.chdir("/")
    try:
        (folder / "data" / "probe").write_text("")
        told.send("the folder can be written")
    except PermissionError:
        told.send(train(folder))


def test_complete_data_of_another_user_on_a_disk_that_may_only_be_read_are_trained_on() -> None:
    """A process of another user: of all that this file tests the slowest, some ten seconds."""
    open_to_all = all(each.stat().st_mode & 0o001 for each in Path(__file__).resolve().parents)
    if os.geteuid() == 0 and not open_to_all:
        pytest.skip("this package lies in a folder that other users may not look into")
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_datamodule(folder, **BESIDE)
        folder.chmod(0o755)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.chmod(0o555 if path.is_dir() else 0o444)
        here, there = FORKED.Pipe()
        process = FORKED.Process(target=train_as_nobody, args=(folder, there))
        process.start()
        found = here.recv() if here.poll(300) else "nothing came back"
        process.join()
        files = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert found == {"steps": 15, "audit": ()}
    assert files <= {".h5", ".lock"}


# --- what is said ---------------------------------------------------------------------------------


def test_without_a_source_it_is_said_once_that_the_candles_are_simulated(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    dm = make_datamodule(
        tmp_path,
        source=None,
        split=WalkForward("7d", "3d", "3d"),
        ready=False,
        start="2021-03-01",
        end="2021-04-01",
    )
    Trainer(
        max_epochs=1, limit_train_batches=1, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(make_model(dm), datamodule=dm)  # fmt: skip
    dm.prepare_data()
    dm.with_fold(1).prepare_data()
    assert said()[0] == SIMULATES
    assert said().count(SIMULATES) == 1
    assert dm.source == Simulator()


def test_a_simulator_that_is_meant_is_not_spoken_of(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    make_datamodule(tmp_path, source=Simulator(seed=3))
    assert [line.split(":")[0] for line in said()] == ["candles", "features"]


# --- the command line -----------------------------------------------------------------------------


def write_config(folder: Path, source: str, more: str = "") -> list[str]:
    config = folder / "config.yaml"
    config.write_text(
        f"data:\n  class_path: btc_datamodule.BTCDataModule\n  init_args:\n    source: {source}\n"
        f"    end: '2020-02-01'\n    start: '2020-01-01'\n    data_dir: {folder / 'data'}\n{more}"
    )
    return ["prepare", "--config", str(config)]


def test_offline_is_a_setting_of_yaml_and_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(tmp_path / "data").mkdir()
    for config in (
        [*write_config(tmp_path, "Coinbase"), "--data.offline", "true"],
        write_config(tmp_path, "Coinbase", "    offline: true\n"),
    ):
        assert main(config) == 1
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert "candles.h5 does not exist, and `offline: true` asks no source: put" in last
    assert list((tmp_path / "data").iterdir()) == []
    assert main([*write_config(tmp_path, "Simulator")]) == 0
    assert main([*write_config(tmp_path, "Simulator"), "--data.offline", "true"]) == 0


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Coinbase(base_url="http://127.0.0.1:1", attempts=1), "ConnectError"),
        (lambda: Ccxt("krakken"), "ccxt"),
        (lambda: CandleFile("gone.csv"), "no such file"),
    ],
)
def test_a_prepare_that_fails_leaves_no_folder(
    tmp_path: Path, make: Callable[[], Source], problem: str
) -> None:
    dm = BTCDataModule(make(), data_dir=tmp_path / "data")
    with pytest.raises(BTCDataError, match=problem):
        dm.prepare_data()
    assert list(tmp_path.iterdir()) == []
