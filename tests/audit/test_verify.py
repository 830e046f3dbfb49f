"""Verification finds what is wrong with files, and nothing where nothing is."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from btc_datamodule import BTCDataModule, StoreError, read_candles
from btc_datamodule.audit.verify import verify_candles, verify_series, verify_table
from btc_datamodule.cli.commands import main
from btc_datamodule.features.layout import BAR_COLUMNS
from btc_datamodule.features.table import Table
from btc_datamodule.store.candle_file import read_header
from tests.factories import HOUR, START, InMemory, random_hourly

CONFIG = str(Path(__file__).parents[2] / "configs/dummy.yaml")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a candle file with holes and its feature file."""
    present = np.ones(500, dtype=bool)
    present[[40, 41, 200, 201, 202, 203, 204, 205, 300]] = False
    dm = BTCDataModule(
        source=InMemory(random_hourly(present.tolist(), seed=4)),
        data_dir=str(tmp_path_factory.mktemp("verify")),
    )
    dm.prepare_data()
    return dm.candle_path.parent


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "series"))


def feature_file(folder: Path) -> Path:
    (path,) = folder.glob("features-*.h5")
    return path


def contents(path: Path) -> list[Any]:
    """Everything that can be read of a file through the package, or the error that says no."""
    try:
        if path.name == "candles.h5":
            candles = read_candles(path)
            header = read_header(path)
            return [header, *(candles[name].tobytes() for name in header.columns)]
        table = Table.open(path)
        maps: list[Any] = [table.x, table.observed, *map(table.bars, BAR_COLUMNS)]
        facts = [table.key, table.first, table.interval, table.features, table.warm_up]
        facts += [table.outages.tolist(), table.unobserved.tolist(), table.present, table.max_fill]
        return [*facts, table.holes.tolist(), *(array.tobytes() for array in maps)]
    except StoreError as error:
        return [str(error)]


def test_nothing_is_wrong_with_what_was_just_written(folder: Path) -> None:
    assert verify_series(folder / "candles.h5") == []


@pytest.mark.parametrize("name", ["candles.h5", "features"])
@pytest.mark.parametrize("times", [50, pytest.param(400, marks=pytest.mark.stress)])
def test_each_flipped_byte_is_found_or_changes_nothing_that_can_be_read(
    folder: Path, name: str, times: int
) -> None:
    path = folder / name if name == "candles.h5" else feature_file(folder)
    whole = path.read_bytes()
    before = contents(path)
    rng = np.random.default_rng(7)
    found = harmless = 0
    for at in rng.integers(0, len(whole), times).tolist():
        spoiled = bytearray(whole)
        spoiled[at] ^= int(rng.integers(1, 256))
        path.write_bytes(spoiled)
        problems = verify_series(folder / "candles.h5")
        if problems:
            found += 1
            assert all(str(path) in problem for problem in problems)
            assert all("btc-datamodule prepare" in problem for problem in problems)
        else:
            harmless += 1
            assert contents(path) == before, f"byte {at} changes what is read, unnoticed"
    print(f"{name}: {found} of {times} flips found, {harmless} without effect")
    assert found > times // 2
    path.write_bytes(whole)
    assert verify_series(folder / "candles.h5") == []


def test_answers_that_wait_to_be_merged_are_looked_at_too(folder: Path) -> None:
    parts = folder / "candles.parts"
    parts.mkdir()
    part = Path(shutil.copy(folder / "candles.h5", parts / "000000.h5"))
    assert verify_series(folder / "candles.h5") == []
    with h5py.File(part, "r+") as file:
        file["candles/close"][7] += 1.0
    (problem,) = verify_series(folder / "candles.h5")
    assert problem.startswith(f"{part}: the candles are not those that were written")
    shutil.rmtree(parts)
    parts.write_text("no folder")
    (problem,) = verify_series(folder / "candles.h5")
    assert f"{parts} is no folder" in problem


def edit(path: Path, change: Callable[[Any], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def test_candles_that_were_edited_are_found(folder: Path) -> None:
    path = folder / "candles.h5"

    def nudge(file: Any) -> None:
        file["candles/volume"][7] += 1

    edit(path, nudge)
    (problem,) = verify_candles(path)
    assert "the candles are not those that were written: move it away and run" in problem


def test_an_impossible_candle_is_named_with_its_row(folder: Path) -> None:
    path = folder / "candles.h5"

    def upside_down(file: Any) -> None:
        file["candles/high"][3] = 1.0

    edit(path, upside_down)
    (problem,) = verify_candles(path)
    assert "row 3 (2020-01-01T03:00:00Z): high is below low" in problem


def test_candles_outside_the_spans_asked_for_are_counted(folder: Path) -> None:
    path = folder / "candles.h5"

    def shrink(file: Any) -> None:
        del file["covered"]
        file["covered"] = np.array([[START + 10 * HOUR, START + 600 * HOUR]], dtype="<i8")

    edit(path, shrink)
    (problem,) = verify_candles(path)
    assert "10 candles lie outside the spans asked for" in problem


def test_a_file_that_is_complete_until_a_time_to_come_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a clock that was fast once leaves behind."""
    path = folder / "candles.h5"
    until = read_header(path).covered[-1][1]
    monkeypatch.setattr("btc_datamodule.audit.verify.time.time", lambda: until)
    assert verify_candles(path) == []
    monkeypatch.setattr("btc_datamodule.audit.verify.time.time", lambda: until - 1)
    (problem,) = verify_candles(path)
    assert "which is yet to come: set the clock of this machine" in problem


def test_an_edited_feature_file_can_be_deleted_and_made_again(folder: Path) -> None:
    path = feature_file(folder)

    def nudge(file: Any) -> None:
        file["close"][9] *= 2

    edit(path, nudge)
    (problem,) = verify_table(path)
    assert problem.startswith(
        f"{path}: 'close' between 2020-01-01T00:00:00Z and 2020-01-21T20:00:00Z is not what was "
        "written: delete it and run"
    )


def test_a_missing_candle_file_is_no_traceback(tmp_path: Path) -> None:
    (problem,) = verify_series(tmp_path / "candles.h5")
    assert "does not exist: run `btc-datamodule prepare`" in problem


def test_the_command_says_so_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "--config", CONFIG]) == 0
    capsys.readouterr()
    assert main(["verify", "--config", CONFIG]) == 0
    assert capsys.readouterr().out.strip().endswith("nothing is wrong")
    path = feature_file(next(Path("data").rglob("candles.h5")).parent)
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["verify", "--config", CONFIG]) == 1
    assert str(path) in capsys.readouterr().err
