"""Two fits, a refresher and one that is killed at random, on one folder: nobody is disturbed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from btc_datamodule import BTCDataModule, LogReturn, Simulator
from btc_datamodule.audit.verify import verify_series
from btc_datamodule.candles.digest import ContentDigest
from btc_datamodule.store.candle_file import CandleReader
from tests.factories import make_model, make_trainer

ROOT = Path(__file__).parents[2]
SECOND = 1
BEFORE = 90_000
"""Seconds of history when they begin: so many that new bars are added, not all rewritten."""


def make(folder: Path) -> BTCDataModule:
    """Bars of a second up to now: there are others each time that somebody looks."""
    return BTCDataModule(
        Simulator(seed=3, outages_per_year=365),
        interval="1s",
        start=int((folder / "start").read_text()),
        target=LogReturn(),
        lookback=8,
        batch_size=512,
        data_dir=folder / "data",
    )


class NoteTable(Callback):
    """Each rank notes the table that it trains on."""

    def __init__(self, folder: Path, ranks: int) -> None:
        self.folder, self.ranks = folder, ranks

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        table = trainer.datamodule.table  # type: ignore[attr-defined]  # which Lightning sets
        name = f"{self.ranks}-{trainer.global_rank}"
        (self.folder / name).write_text(f"{table.key} {table.digest} {table.rows}")


def fit(folder: Path, ranks: int) -> None:
    """Fit once on what there is now."""
    dm = make(folder)
    options = {"devices": ranks, "strategy": "ddp_spawn"} if ranks > 1 else {}
    limits = {"max_epochs": 2, "limit_train_batches": 40, "limit_val_batches": 10}
    trainer = make_trainer(folder, NoteTable(folder, ranks), **limits, **options)
    dm.prepare_data()
    dm.setup()
    trainer.fit(make_model(dm), datamodule=dm)


def refresh(folder: Path) -> None:
    """Bring the files up to date over and over."""
    while True:
        make(folder).prepare_data()
        time.sleep(0.2)


def run(folder: Path, call: str) -> "subprocess.Popen[str]":
    code = (
        "from pathlib import Path; from btc_datamodule.features import {module}; "
        "{module}.KEPT_SECONDS = 5; "  # files of older candles go at once when nobody uses them
        "from tests.training.test_four_processes import fit, refresh; {call}"
    ).format(module="stale", call=call.format(folder=f"Path({str(folder)!r})"))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> str:
    process.send_signal(signal.SIGKILL)
    return process.communicate()[0]


@pytest.mark.parametrize("seconds", [pytest.param(600, marks=pytest.mark.stress)])
def test_nobody_loses_a_file_and_all_ranks_see_one_table(tmp_path: Path, seconds: int) -> None:
    began = int(time.time())
    (tmp_path / "start").write_text(str(began - BEFORE))
    make(tmp_path).prepare_data()
    chance = random.Random(1)
    refresher, killed = run(tmp_path, "refresh({folder})"), run(tmp_path, "refresh({folder})")
    fits, kills = 0, 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        alone, both = (run(tmp_path, f"fit({{folder}}, {ranks})") for ranks in (1, 2))
        while alone.poll() is None or both.poll() is None:
            time.sleep(chance.uniform(0.1, 6.0))
            end(killed)
            killed, kills = run(tmp_path, "refresh({folder})"), kills + 1
        for process in (alone, both):
            said = process.communicate()[0]
            assert process.returncode == 0, said
        first, second = ((tmp_path / f"2-{rank}").read_text() for rank in (0, 1))
        assert first == second
        fits += 2
        assert refresher.poll() is None, refresher.communicate()[0]
    end(killed)
    end(refresher)
    make(tmp_path).prepare_data()
    assert verify_series(make(tmp_path).candle_path) == []
    with CandleReader(make(tmp_path).candle_path) as reader:
        header = reader.header
    undisturbed = ContentDigest(SECOND)
    start, stop = began - BEFORE, header.covered[-1][1]
    for block in Simulator(seed=3, outages_per_year=365).blocks(SECOND, (start, stop)):
        undisturbed.update(block.candles)
    assert header.digest == undisturbed.hexdigest()
    print(f"{fits} fits, {kills} kills, {header.rows:,} bars, ranks on {first}")
