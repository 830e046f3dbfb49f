"""Candles as Parquet and CSV."""

from pathlib import Path

import polars as pl
import pytest

from btc_datamodule import CandleFile, read_candles
from btc_datamodule.cli.commands import main

CONFIG = str(Path(__file__).parents[2] / "configs/dummy.yaml")


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "--config", CONFIG]) == 0


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_what_is_exported_reads_back_the_same(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["export", "--config", CONFIG, "--output", name]) == 0
    assert capsys.readouterr().out.strip() == name
    stored = read_candles(next(Path("data").rglob("candles.h5")))
    (block,) = CandleFile(name).blocks(3600, (0, 2_000_000_000))
    assert set(block.candles.columns) == set(stored.columns)
    for column, values in stored.columns.items():
        assert block.candles.columns[column].tolist() == values.tolist()
    assert list(Path().glob("*.tmp")) == []


def test_times_are_utc_timestamps_and_only_the_asked_span_is_written() -> None:
    end = ["--data.end", "2020-01-02"]
    assert main(["export", "--config", CONFIG, "--output", "out.parquet", *end]) == 0
    frame = pl.read_parquet("out.parquet")
    assert frame.height == 24
    assert str(frame["open_time"][0]) == "2020-01-01 00:00:00+00:00"
    assert main(["export", "--config", CONFIG, "--output", "out.csv", *end]) == 0
    assert Path("out.csv").read_text().splitlines()[1].startswith("2020-01-01T00:00:00Z,")


@pytest.mark.parametrize(
    ("output", "message"),
    [("out.xlsx", "must end in one of .parquet, .csv"), ("no/out.csv", "there is no folder no")],
)
def test_a_name_that_cannot_be_written_is_refused(
    output: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--config", CONFIG, "--output", output]) == 1
    assert message in capsys.readouterr().err
