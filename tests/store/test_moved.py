"""A prepared store trains anywhere: files gone or renamed, the folder on another machine."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BTCDataModule, CandleFile
from btc_datamodule.candles.series import Candles
from btc_datamodule.errors import ConfigError, NotPreparedError, SourceError
from btc_datamodule.preparing import prepare
from btc_datamodule.sources.files import paths
from btc_datamodule.store.candle_file import read_header
from tests.factories import candles_of, make_datamodule, make_model, make_trainer
from tests.helpers import digest_of

CANDLES = candles_of(np.ones(300, dtype=bool))
OTHERS = candles_of(np.ones(300, dtype=bool), seed=1)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with btc.csv, of which everything is prepared under data."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    put(CANDLES, "btc.csv")
    prepare(make("btc.csv").settings)
    return folder


def put(candles: Candles, path: str) -> None:
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    candles.to_polars().write_csv(path)


def make(path: str | Path | list[str], **arguments: Any) -> BTCDataModule:
    fields = arguments.pop("fields", {})
    settings: dict[str, Any] = {"lookback": 8, "batch_size": 16, "data_dir": "data"}
    return BTCDataModule(CandleFile(path, **fields), **settings | arguments)


def list_series() -> list[str]:
    return sorted(folder.name for folder in Path("data/file").iterdir())


def get_notes(lines: list[str]) -> list[str]:
    return [line.removeprefix("note:     ") for line in lines if line.startswith("note:")]


def holds(dm: BTCDataModule) -> str:
    """The digest of the candles that a datamodule serves."""
    dm.setup()
    return read_header(dm.candle_path).digest


# --- the file -------------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_told_and_what_is_stored_is_used(project: Path) -> None:
    (series,) = list_series()
    record = read_header(make("btc.csv").candle_path).provenance[0]
    Path("btc.csv").unlink()
    dm = make("btc.csv")
    assert get_notes(prepare(dm.settings).told) == [
        f"file {series}: {project / 'btc.csv'}: no such file, check `path`: what is stored is "
        f"used, up to 2020-01-13T12:00:00Z (from file btc.csv, {record.retrieved}, "
        f"{record.checksum}); `offline: true` asks nothing"
    ]
    assert holds(dm) == digest_of(CANDLES)
    with pytest.raises(SourceError, match=r"no such file, check `path`$"):
        prepare(dm.settings, refresh=True)


@pytest.mark.parametrize("path", ["other.csv", "deep/er/btc.csv", "o*.csv", "deep"])
def test_the_same_content_under_another_name_or_path_is_the_same_series(path: str) -> None:
    place = {"o*.csv": "other.csv", "deep": "deep/btc.csv"}.get(path, path)
    before = list_series()
    put(CANDLES, place)
    for gone in (False, True):
        if gone:
            Path("btc.csv").unlink()
        dm = make(path)
        lines = prepare(dm.settings).told
        assert get_notes(lines) == []
        assert "(300 bars, 0 new)" in lines[0]
        assert holds(dm) == digest_of(CANDLES)
        assert list_series() == before


def test_a_file_that_cannot_be_told_from_another_is_read_once_it_changes() -> None:
    """Its series is then its own; that of the other file stays as it was."""
    put(CANDLES, "other.csv")
    dm, first = make("other.csv"), make("btc.csv")
    assert dm.candle_path == first.candle_path
    put(OTHERS, "other.csv")
    assert "(300 bars, 300 new)" in prepare(dm.settings).told[0]
    assert holds(dm) == digest_of(OTHERS)
    assert holds(first) == digest_of(CANDLES)
    assert dm.candle_path != first.candle_path


def test_the_same_content_read_with_other_settings_is_another_series() -> None:
    put(CANDLES, "other.csv")
    dm = make("other.csv", fields={"stamp": "close"})
    prepare(dm.settings)
    assert read_header(dm.candle_path).span[0] == CANDLES.span[0] - 3600
    assert len(list_series()) == 2


def test_a_file_that_has_changed_or_cannot_be_read_is_no_file_that_is_gone() -> None:
    Path("btc.csv").write_text("neither times nor prices\n1\n")
    with pytest.raises(SourceError, match=r"btc\.csv"):
        prepare(make("btc.csv").settings)
    Path("btc.csv").unlink()
    Path("btc.csv").mkdir()
    (Path("btc.csv") / "x.csv").mkdir()
    with pytest.raises(SourceError, match="no file in this folder can be read"):
        prepare(make("btc.csv", fields={"timezone": "Europe/Berlin"}).settings)


def test_content_is_looked_at_only_where_the_own_name_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[Path] = []
    real = paths.hash_file

    def count(path: Path) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(paths, "hash_file", count)
    dm = make("btc.csv")
    assert [dm.candle_path for _ in range(5)]
    dm.setup()
    assert read == []
    put(CANDLES, "other.csv")
    dm = make("other.csv")
    assert [dm.candle_path for _ in range(5)]
    dm.setup()
    assert len(read) == 1


# --- the folder -----------------------------------------------------------------------------------


def move(project: Path, *without: str) -> None:
    """Go to a copy of the project with other times, which lacks some files."""
    there = project.parent / "elsewhere"
    shutil.copytree(project, there, copy_function=shutil.copyfile)
    for path in there.rglob("*"):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    for name in without:
        (there / name).unlink()
    os.chdir(there)


def test_a_project_that_was_copied_whole_is_prepared(project: Path) -> None:
    move(project)
    before = list_series()
    lines = prepare(make("btc.csv").settings).told
    assert get_notes(lines) == []
    assert "(300 bars, 0 new)" in lines[0]
    assert list_series() == before


@pytest.mark.parametrize("absolute", [False, True])
def test_a_project_that_was_copied_without_its_file_says_what_it_uses(
    project: Path, absolute: bool
) -> None:
    move(project, "btc.csv")
    path = Path("btc.csv").absolute() if absolute else "btc.csv"
    dm = make(path)
    (note,) = get_notes(prepare(dm.settings).told)
    assert "no such file, check `path`: what is stored is used" in note
    assert "(from file btc.csv, 20" in note
    assert holds(dm) == digest_of(CANDLES)
    (note,) = get_notes(prepare(dm.settings, offline=True).told)
    assert f": stored as {list_series()[0]}, from file btc.csv, 20" in note


def test_with_other_settings_or_another_name_what_is_stored_is_another_series(
    project: Path,
) -> None:
    move(project, "btc.csv")
    for dm in (make("btc.csv", fields={"symbol": "ETH/USD"}), make("bitcoin.csv")):
        with pytest.raises(SourceError, match="no such file"):
            prepare(dm.settings)
        with pytest.raises(NotPreparedError, match="`offline: true` asks no source: put"):
            prepare(dm.settings, offline=True)
    assert len(list_series()) == 1


def test_of_two_files_of_one_name_none_is_guessed(project: Path) -> None:
    put(OTHERS, "q/btc.csv")
    prepare(make("q/btc.csv").settings)
    shutil.rmtree("q")
    one, two = list_series()
    move(project, "btc.csv")
    with pytest.raises(ConfigError) as caught:
        make("btc.csv").setup()
    told = str(caught.value)
    assert told.startswith("btc.csv: no such file, and several series that are stored were read")
    assert f"{one} (from file btc.csv, 20" in told
    assert f"{two} (from file btc.csv, 20" in told
    assert told.endswith(": set `source.product` to the one that is meant")
    digests = set()
    for product in (one, two):  # the advice works
        dm = make("btc.csv", fields={"product": product})
        assert len(get_notes(prepare(dm.settings).told)) == 1
        digests.add(holds(dm))
    assert digests == {digest_of(CANDLES), digest_of(OTHERS)}


def test_a_folder_of_files_may_be_gone_too(project: Path) -> None:
    for month in range(3):
        put(CANDLES.slice(*(CANDLES.span[0] + 360_000 * each for each in (month, month + 1))),
            f"months/{month}.csv")  # fmt: skip
    dm = make("months", data_dir="more")
    prepare(dm.settings)
    shutil.rmtree("months")
    move(project, "btc.csv")
    dm = make("months", data_dir="more")
    (note,) = get_notes(prepare(dm.settings).told)
    assert "months: there is no such folder, and a file must end in .csv" in note
    assert "(from file 0.csv, file 1.csv, file 2.csv, 20" in note
    assert holds(dm) == digest_of(CANDLES)


def test_a_relative_path_is_that_of_the_folder_in_which_it_was_given(project: Path) -> None:
    source = CandleFile("btc.csv")
    (project / "[run]").mkdir()
    os.chdir("[run]")
    Path("btc.csv").write_text("another file\n")
    assert source.series == CandleFile(project / "btc.csv").series
    assert source.revision == CandleFile(project / "btc.csv").revision
    put(OTHERS, "inner/a.csv")
    pattern = CandleFile("inner/*.csv")
    os.chdir("/")
    (block,) = pattern.blocks(3600, (0, 1 << 40))
    assert digest_of(block.candles) == digest_of(OTHERS)
    dm = BTCDataModule(source, data_dir=project / "data")
    assert dm.hparams["source"]["init_args"]["path"] == "btc.csv"
    assert "(300 bars, 0 new)" in prepare(dm.settings).told[0]


# --- training -------------------------------------------------------------------------------------


def test_a_fit_is_resumed_and_tested_on_a_copy_that_may_not_be_asked(project: Path) -> None:
    dm = make("btc.csv", horizon=1)
    trainer = make_trainer(project, max_epochs=1)
    trainer.fit(make_model(dm), datamodule=dm)
    trainer.save_checkpoint(project / "last.ckpt")
    kept = [batch.x.numpy() for batch in dm.test_dataloader()]
    move(project, "btc.csv")
    dm = make("btc.csv", horizon=1, offline=True)
    again = make_trainer(project, max_epochs=2)
    again.fit(make_model(dm), datamodule=dm, ckpt_path="last.ckpt")
    assert again.global_step == 2 * trainer.global_step
    again.test(make_model(dm), datamodule=dm, ckpt_path="last.ckpt")
    for one, other in zip(kept, dm.test_dataloader(), strict=True):
        np.testing.assert_array_equal(one, other.x.numpy())
    found = dm.audit()
    assert found.passed
    assert "the source tells the same when asked for less" not in str(found)


def test_offline_asks_neither_source_nor_files(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(CandleFile, "revision", property(fail))
    monkeypatch.setattr(CandleFile, "blocks", fail)
    put(OTHERS, "btc.csv")
    dm = make("btc.csv", offline=True)
    dm.prepare_data()
    assert holds(dm) == digest_of(CANDLES)
    made = make_datamodule(project, source=dm.source, data_dir="data", ready=False, offline=True)
    assert made.hparams["offline"] is True
    with pytest.raises(ConfigError, match=r"^refresh asks the source for everything, and offline"):
        make("btc.csv", offline=True, refresh=True)
