"""``btc-datamodule follow`` as a person, a service manager and cron meet it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from btc_datamodule import BTCDataModule, DateSplit, Simulator
from btc_datamodule.cli.commands import main
from btc_datamodule.cli.follow import Stops
from tests.cli.test_commands import error_of
from tests.factories import make_model, make_trainer

CONFIG = """\
model: {class_path: DummyModule}
trainer: {accelerator: cpu}
data:
  class_path: BTCDataModule
  init_args:
    source: {class_path: Simulator, init_args: {seed: 3}}
    start: "2021-03-01"
    end: "2021-03-10"
    lookback: 6
    horizon: 2
    target_scaling: train
    batch_size: 32
    split: {class_path: DateSplit, init_args: {val: "2021-03-06", test: "2021-03-08"}}
    data_dir: data
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and the checkpoint of a fit with it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "my.yaml").write_text(CONFIG)
    dm = BTCDataModule(
        Simulator(seed=3),
        start="2021-03-01",
        end="2021-03-10",
        lookback=6,
        horizon=2,
        target_scaling="train",
        split=DateSplit(val="2021-03-06", test="2021-03-08"),
        batch_size=32,
        data_dir=folder / "data",
    )
    model = make_model(dm)
    trainer = make_trainer(folder, max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    trainer.fit(model, datamodule=dm)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder


@pytest.fixture(autouse=True)
def in_its_folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my.yaml", "model.ckpt"):
        (tmp_path / name).symlink_to(trained / name)


FOLLOW = ["follow", "--config", "my.yaml", "--ckpt_path", "model.ckpt"]


def test_it_prints_and_keeps_what_predict_gives_and_goes_on_where_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    since = ["--since", "2021-03-09T20:00", "--prices", "true"]
    assert main([*FOLLOW, *since, "--bars", "2"]) == 0
    first = capsys.readouterr().out.splitlines()
    assert [line[:20] for line in first] == ["2021-03-09T20:00:00Z", "2021-03-09T21:00:00Z"]
    assert "forecast_price_0" in first[0]
    assert main(["--quiet", *FOLLOW, *since, "--data.end", "2021-03-10T04:00"]) == 0
    rest = capsys.readouterr()
    assert [line[11:13] for line in rest.out.splitlines()] == ["22", "23", "00", "01", "02", "03"]
    assert rest.err == ""
    writer = ["--trainer.callbacks=PredictionWriter", "--trainer.callbacks.output=whole.parquet"]
    late = ["--data.end", "2021-03-10T04:00", "--data.batch_size", "1"]
    command = ["predict", *FOLLOW[1:], *late, *writer, "--trainer.callbacks.prices=true"]
    assert main([*command, "--return_predictions=false", "--trainer.logger=false"]) == 0
    whole = pl.read_parquet("whole.parquet")[-8:]
    found = pl.read_csv("forecasts.csv", try_parse_dates=True)
    assert found.columns == whole.columns
    for name in whole.columns[1:]:
        assert found[name].to_list() == whole[name].to_list()
    assert (
        found["origin_time"].dt.epoch("s").to_list() == whole["origin_time"].dt.epoch("s").to_list()
    )
    capsys.readouterr()
    scored = ["score", "--config", "my.yaml", "--data.end", "2021-03-10T04:00"]
    assert main([*scored, "--forecasts", "forecasts.csv"]) == 0
    assert "forecast" in capsys.readouterr().out


def test_a_slip_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    told = error_of(capsys, 2, FOLLOW[:3])
    assert told == "follow needs a checkpoint: give --ckpt_path FILE.ckpt, not None"
    assert "--ckpt_path: there is no file gone.ckpt" in error_of(
        capsys, 1, [*FOLLOW[:3], "--ckpt_path", "gone.ckpt"]
    )
    assert "must end in one of .csv" in error_of(capsys, 1, [*FOLLOW, "--output", "x.txt"])
    checkpoint = torch.load("model.ckpt", weights_only=True)
    del checkpoint["BTCDataModule"]
    torch.save(checkpoint, "bare.ckpt")
    told = error_of(capsys, 1, [*FOLLOW[:3], "--ckpt_path", "bare.ckpt"])
    assert told == "bare.ckpt has no statistics of a BTCDataModule: fit with one"


def test_a_sigterm_ends_it_while_it_waits(tmp_path: Path) -> None:
    """By an open end it waits for a bar of the clock on the wall."""
    live = ["--data.interval", "1h", "--data.end", "null", "--data.start", "2021-03-08"]
    code = (
        "import sys; from btc_datamodule.store import update; from types import SimpleNamespace\n"
        "update.time = SimpleNamespace(time=lambda: 1615305600.0)\n"
        "from btc_datamodule.cli import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *FOLLOW, *live],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("2021-03-09T15:00:00Z  forecast_0")
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert told.splitlines()[-1] == "btc-datamodule: ended by a SIGTERM"
    assert "Traceback" not in told
    assert len((tmp_path / "forecasts.csv").read_text().splitlines()) == 2


def test_a_signal_is_answered_at_once_and_held_back_while_a_forecast_is_written() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stops(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    with Stops() as stops:
        held = stops.hold()
        held.__enter__()
        os.kill(os.getpid(), signal.SIGTERM)  # nothing comes of it yet
        with pytest.raises(SystemExit, match="143"):
            held.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGINT) is before
