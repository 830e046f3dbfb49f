"""What is stored is told apart, and only what can be made again goes."""

import os
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from btc_datamodule import BTCDataModule, Candles, StoreError
from btc_datamodule.cleaning import LEFTOVER_SECONDS, Found, clean, list_stored, tell_stored
from btc_datamodule.cli.commands import main
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.features import layout
from btc_datamodule.features.layout import SCHEMA
from btc_datamodule.features.rows_file import is_rows_file, list_rows_files
from btc_datamodule.features.table import Table, list_tables
from tests.factories import InMemory, make_datamodule, random_hourly

CONFIG = str(Path(__file__).parents[1] / "configs/dummy.yaml")
LONG_AGO = 1_600_000_000
"""Seconds; when what is left behind was last written, and features last opened."""


def make(folder: Path, candles: Candles, feature: str) -> BTCDataModule:
    return make_datamodule(
        folder, ready=False, source=InMemory(candles), features=[feature], refresh=True
    )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with features of candles as they were, and of two settings."""
    folder = tmp_path_factory.mktemp("clean")
    candles = random_hourly([True] * 300, seed=4)
    shorter = candles.slice(candles.span[0], candles.span[1] - 3600)
    make(folder, shorter, "log_range").prepare_data()
    for name in ("log_return", "log_volume"):
        make(folder, candles, name).prepare_data()
    for path in folder.rglob("features-*.h5"):
        os.utime(path, (LONG_AGO, path.stat().st_mtime))
    return folder


@pytest.fixture
def dm(pristine: Path, tmp_path: Path) -> BTCDataModule:
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    return make(tmp_path, random_hourly([True] * 300, seed=4), "log_return")


def tell_apart(dm: BTCDataModule) -> dict[str, list[str]]:
    """For each kind of going, what each file is, in order."""
    found = list_stored(dm.settings)
    assert all(each.size == each.path.stat().st_size for each in found)
    return {
        goes: sorted(each.what.split(",")[0] for each in found if each.goes == goes)
        for goes in ("never", "stale", "all")
    }


def leave(path: Path, age: float = LEFTOVER_SECONDS + 60) -> Path:
    """Something that was last written to so many seconds ago."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_features_are_of_these_settings_of_others_or_of_candles_as_they_were(
    dm: BTCDataModule,
) -> None:
    assert tell_apart(dm) == {
        "never": ["candles"],
        "stale": ["features of candles as they were"],
        "all": ["features of other settings", "features of these settings"],
    }
    tables = sorted(dm.candle_path.parent.glob("features-*.h5"))
    assert [path.stat().st_atime for path in tables] == [LONG_AGO] * 3  # to look is not to use


def test_what_is_stale_goes_and_the_rest_if_that_is_wanted(dm: BTCDataModule) -> None:
    clean(list_stored(dm.settings), every=False)
    assert [*map(len, tell_apart(dm).values())] == [1, 0, 2]
    dm.setup()  # what these settings need is there


def test_all_that_can_be_made_again_goes_and_is_made_again(dm: BTCDataModule) -> None:
    removed = clean(list_stored(dm.settings), every=True)
    assert len(removed) == 3
    assert tell_apart(dm) == {"never": ["candles"], "stale": [], "all": []}
    dm.prepare_data()
    dm.setup()


def test_bars_go_with_the_last_of_the_features_that_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "LARGE_ROWS", 100)
    candles = random_hourly([True] * 300, seed=4)
    shorter = candles.slice(candles.span[0], candles.span[1] - 3600)
    for name, bars in (("log_range", shorter), ("log_return", candles), ("log_volume", candles)):
        dm = make(tmp_path, bars, name)
        dm.prepare_data()
    found = list_stored(dm.settings)
    assert sorted(each.goes for each in found if is_rows_file(each.path)) == ["all", "stale"]
    assert len(clean(found, every=False)) == 2, "features of candles as they were, and their bars"
    one, other = list_tables(dm.candle_path)
    (bars_of_both,) = list_rows_files(dm.candle_path.parent)
    held = Table.open(one)
    assert [each.path for each in clean(list_stored(dm.settings), every=True)] == [other]
    assert len(held.bars("close")) == 300
    del held
    assert {each.path for each in clean(list_stored(dm.settings), every=True)} == {
        one,
        bars_of_both,
    }


def test_what_is_in_use_stays(dm: BTCDataModule) -> None:
    found = list_stored(dm.settings)
    tables = [Table.open(path) for path in dm.candle_path.parent.glob("features-*.h5")]
    assert tell_apart(dm)["never"] == ["candles", *["features"] * 3]
    assert clean(found, every=True) == []
    assert all(table.path.exists() for table in tables)


def test_damaged_and_outdated_features_are_stale(dm: BTCDataModule) -> None:
    one, other, _ = sorted(dm.candle_path.parent.glob("features-*.h5"))
    os.truncate(one, one.stat().st_size // 2)
    with h5py.File(other, "r+") as file:
        file.attrs["schema"] = np.int64(SCHEMA - 1)
    found = {each.path: each for each in list_stored(dm.settings)}
    assert (found[one].goes, found[other].goes) == ("stale", "stale")
    assert found[other].what == "features as an earlier version wrote them"


def test_what_only_has_the_name_of_a_feature_file_is_listed_and_stays(dm: BTCDataModule) -> None:
    folder = dm.candle_path.parent
    kept = [leave(folder / f"features-{'2' * 16}.h5"), folder / f"features-{'3' * 16}.h5"]
    with h5py.File(kept[1], "w") as file:
        file["mine"] = [1, 2, 3]
    found = {each.path: each.what for each in list_stored(dm.settings)}
    assert {found[path] for path in kept} == {"no feature file, though it has the name of one"}
    clean(list_stored(dm.settings), every=True)
    assert all(path.exists() for path in kept)


def test_names_of_parts_count_in_a_folder_of_parts_alone(dm: BTCDataModule) -> None:
    folder = dm.candle_path.parent
    mine = leave(folder / "123456.h5.12.tmp")
    leave(folder / "candles.parts" / "candles.h5.12.tmp")
    assert tell_apart(dm)["stale"] == ["features of candles as they were"]
    clean(list_stored(dm.settings), every=True)
    assert mine.exists()


def test_tails_that_are_not_read_are_listed_and_stay(dm: BTCDataModule) -> None:
    folder = dm.candle_path.parent
    stray, aside = folder / "candles.tail.h5", leave(folder / "candles.tail.aside-1.h5")
    shutil.copy(dm.candle_path, stray)
    with h5py.File(stray, "r+") as file:
        file.attrs.update({"follows": "0" * 64, "series": "other"})
    found = {each.path: each.what for each in list_stored(dm.settings)}
    assert found[stray] == "candles that follow another file than `candles.h5`: not read"
    assert found[aside] == "candles set aside, which nothing reads"
    clean(list_stored(dm.settings), every=True)
    assert stray.exists()
    assert aside.exists()


def test_a_lock_beside_the_file_that_a_link_leads_to_is_respected(
    dm: BTCDataModule, tmp_path: Path
) -> None:
    shared = tmp_path / "shared.h5"
    dm.candle_path.rename(shared)
    dm.candle_path.symlink_to(shared)
    part = leave(dm.candle_path.parent / "candles.parts" / "000001.h5.17.tmp")
    with hold_lock(shared.with_suffix(".lock")):
        clean(list_stored(dm.settings), every=False)
    assert part.exists()
    clean(list_stored(dm.settings), every=False)
    assert not part.exists()


def test_what_a_killed_process_left_goes_unless_somebody_may_be_writing(dm: BTCDataModule) -> None:
    folder = dm.candle_path.parent
    features = leave(folder / f"features-{'0' * 16}.h5.17.tmp")
    part = leave(folder / "candles.parts" / "000001.h5.17.tmp")
    young = leave(folder / "candles.h5.18.tmp", age=10)
    assert tell_apart(dm)["stale"][1:] == ["left by a process that was ended"] * 2
    with hold_lock(folder / "candles.lock"):
        clean(list_stored(dm.settings), every=False)
    assert [path.exists() for path in (features, part, young)] == [False, True, True]
    clean(list_stored(dm.settings), every=False)
    assert [path.exists() for path in (part, young)] == [False, True]


def test_answers_and_what_is_not_ours_stay(dm: BTCDataModule) -> None:
    folder = dm.candle_path.parent
    kept = [
        leave(folder / name)
        for name in (
            *("candles.parts/000001.h5", "features-mine.h5", "candles.h5.bak", "notes.tmp"),
            "candles.csv.17.tmp",
        )
    ]
    (folder / f"features-{'1' * 16}.h5").symlink_to(folder / "nowhere")
    assert "answers" in tell_apart(dm)["never"]
    clean(list_stored(dm.settings), every=True)
    assert all(path.exists() for path in kept)
    assert (folder / f"features-{'1' * 16}.h5").is_symlink()


def test_nothing_stored_is_no_error(tmp_path: Path) -> None:
    dm = make(tmp_path, random_hourly([True] * 300, seed=4), "log_return")
    assert list_stored(dm.settings) == []
    assert tell_stored(tmp_path, [], []) == f"{tmp_path}: 0 files, 0.0 MB"


def test_a_table_says_what_went_and_what_else_may(tmp_path: Path) -> None:
    found = [
        Found(tmp_path / "a" / "candles.h5", 2_500_000, "candles"),
        Found(tmp_path / "a" / "f.h5", 1_000_000, "features, old", "stale"),
        Found(tmp_path / "a" / "g.h5", 1_200_000, "features", "all"),
    ]
    assert tell_stored(tmp_path, found, []).splitlines()[3:] == [
        f"{tmp_path}: 3 files, 4.7 MB",
        "--yes removes 1 file, 1.0 MB",
        "--yes --all removes 1 file, 1.2 MB more",
    ]
    assert tell_stored(tmp_path, found, found[1:2]).splitlines()[1:] == [
        "a/f.h5               1.0 MB  features, old: removed",
        "a/g.h5               1.2 MB  features",
        f"{tmp_path}: 2 files, 3.7 MB; removed: 1 file, 1.0 MB",
        "--yes --all removes 1 file, 1.2 MB more",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_error(dm: BTCDataModule) -> None:
    folder = dm.candle_path.parent
    folder.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            clean(list_stored(dm.settings), every=True)
    finally:
        folder.chmod(0o700)


def test_the_command_only_lists_until_it_is_told_to_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "--config", CONFIG, "--quiet"]) == 0
    (path,) = Path("data").rglob("features-*.h5")
    for options in ([], ["--all"], ["--yes"]):
        assert main(["clean", "--config", CONFIG, *options]) == 0
        assert path.exists()
    capsys.readouterr()
    assert main(["clean", "--config", CONFIG, "--yes", "--all"]) == 0
    assert not path.exists()
    assert capsys.readouterr().out.count(": removed") == 1
