"""``btc-datamodule score`` as a person meets it."""

from pathlib import Path

import polars as pl
import pytest

from btc_datamodule.cli.commands import main
from tests.cli.test_commands import CONFIGS, error_of

WHERE = ["--config", str(CONFIGS / "dummy.yaml"), "--data.end", "2020-07-01"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what ``predict`` wrote, and quantiles beside it."""
    folder = tmp_path_factory.mktemp("score")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        writer = ["--trainer.callbacks", "PredictionWriter"]
        writer += ["--trainer.callbacks.output", "model.parquet"]
        quiet = ["--trainer.enable_progress_bar", "false", "--return_predictions", "false"]
        assert main(["prepare", *WHERE]) == 0
        assert main(["predict", *WHERE, *quiet, *writer]) == 0
    frame = pl.read_parquet(folder / "model.parquet")
    point = pl.col("forecast_0_0")
    spread = [point - 0.01, point, point + 0.01]
    columns = [
        each.alias(f"q_{step}_0_{level}") for step in range(4) for level, each in enumerate(spread)
    ]
    frame.select("origin_time", *columns).write_parquet(folder / "spread.parquet")
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_a_file_of_predictions_is_scored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *WHERE, "--forecasts", "model.parquet", "--cost", "3"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("test, fold 0: ")
    assert "samples of LogReturn(), whose origins are the bars from 2020-06" in told
    assert "Up to 4 targets overlap" in told
    assert "model is worse than " in told
    assert "3 basis points a side, 1 tried: one unit in the direction of the forecast" in told


def test_several_models_by_name_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["one=model.parquet", "two=model.parquet@0"]
    assert main(["score", *WHERE, "--forecasts", *files, "--by", "volatility"]) == 0
    told = capsys.readouterr().out
    *_, head, first, second = told.splitlines()[:-4]
    assert head.split(maxsplit=3)[:3] == ["volatility", "forecast", "samples"]
    assert first.split(maxsplit=2)[:2] == ["low", "one"]
    assert second.split(maxsplit=2)[:2] == ["low", "two"]
    assert "shape: " not in told, "a table of ours and none of polars"


def test_quantiles_have_measures_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    spread = ["--forecasts", "spread.parquet", "--quantiles", "0.1", "0.5", "0.9"]
    assert main(["score", *WHERE, *spread, "--level", "0.9"]) == 0
    told = capsys.readouterr().out
    assert "within 80 %" in told
    assert "the best baseline: its mean pinball loss is " in told
    assert "(90 % interval " in told
    assert main(["score", *WHERE, "--forecasts", "spread.parquet", "--draws", "true"]) == 0
    assert "its mean CRPS is " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--forecasts", "other.parquet"], "other.parquet: no such file of forecasts"),
        (["--forecasts", "model.parquet", "--stage", "tset"], "stage is 'tset': choose one of"),
        (["--forecasts", "model.parquet", "--stage", "val"], "known in val of fold 0"),
        (["--forecasts", "model.parquet", "--by", "month"], "by is 'month': choose one of"),
        (["--forecasts", "model.parquet@3"], "has only one fold"),
        (["--forecasts", "model.parquet", "model.parquet"], "of fold 0 by model already"),
        (["--forecasts", "model.parquet", "--quantiles", "0.9", "0.1"], "give the levels in the"),
        (["--forecasts", "spread.parquet", "--quantiles", "0.4", "0.6"], "no forecast of shape"),
        (["--forecasts", "model.parquet", "--cost", "-1"], "cost is -1"),
        (["--forecasts", "model.parquet", "--data.horizon", "6"], "no forecast of shape"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert problem in error_of(capsys, 1, ["score", *WHERE, *arguments])


def test_without_scipy_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btc_datamodule.scoring.card.find_spec", lambda name: None)
    told = error_of(capsys, 1, ["score", *WHERE, "--forecasts", "model.parquet"])
    assert told == "scores need scipy: pip install scipy"


def test_without_forecasts_it_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --forecasts FILE.parquet" in error_of(capsys, 1, ["score", *WHERE])
