"""``btc-datamodule folds`` as a person meets it."""

from pathlib import Path

import polars as pl
import pytest

from btc_datamodule.cli.commands import main
from tests.cli.test_commands import CONFIGS, error_of

WHERE = ["--config", str(CONFIGS / "walk_forward.yaml"), "--data.end", "2021-12-01"]
SHORT = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
QUIET = ["--trainer.enable_model_summary", "false"]


def test_every_fold_is_run_scored_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["folds", *WHERE, *SHORT, *QUIET, "--out", "runs", "--prices", "true"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("fold ")
    assert "test, fold 0, 1: " in told
    assert told.endswith(f"forecasts: {tmp_path}/runs/forecasts.parquet\n")
    written = (tmp_path / "runs" / "forecasts.parquet").read_bytes()
    assert pl.read_parquet(written)["fold"].unique().sort().to_list() == [0, 1]
    assert "forecast_price_0" in pl.read_parquet(written)
    models = [*(tmp_path / "runs").glob("fold_00*/checkpoints/*.ckpt")]
    assert len(models) == 2
    assert main(["folds", *WHERE, *SHORT, *QUIET, "--out", "runs", "--prices", "true"]) == 0
    assert "finished by an earlier run with the same settings: fold 0, 1" in capsys.readouterr().out
    assert (tmp_path / "runs" / "forecasts.parquet").read_bytes() == written
    assert main(["score", *WHERE, "--forecasts", "runs/forecasts.parquet", "--by", "fold"]) == 0
    assert "test, fold 0, 1: " in capsys.readouterr().out
    one = ["--out", "runs", "--folds", "[2]"]
    assert error_of(capsys, 1, ["folds", *WHERE, *SHORT, *one]) == (
        "folds names 2: there are 2, 0 to 1"
    )
    assert error_of(capsys, 2, ["folds", *WHERE, "--ckpt_path", "x"]) == (
        "folds takes no ckpt_path: each fold begins with a new model, and finished folds are kept "
        "in --out; leave it out"
    )
