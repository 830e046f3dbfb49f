"""What lies beside a candle file, or in place of what is written there; and what has no candle."""

import errno
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from filelock import FileLock

from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.errors import SourceError, StoreError
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import FEATURES
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.sources.files.source import CandleFile
from btc_datamodule.store.candle_file import read_candles, write_candles
from btc_datamodule.store.update import update, use_stored
from tests.factories import HOUR, candles_of, make_datamodule
from tests.helpers import assert_same
from tests.store.test_update import HOLED, Scripted, rows, run

RECIPE = Recipe((FEATURES["log_return"],), 0, (0, 1 << 62))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scripted" / "BTC" / "1h" / "candles.h5"


# --- what lies beside a candle file ---------------------------------------------------------------


def put_part(path: Path, name: str, **given: Any) -> Path:
    part = path.with_suffix(".parts") / name
    candles = candles_of(HOLED).slice(*rows(30, 40))
    about: dict[str, Any] = {"source": "scripted", "series": "BTC", "interval": HOUR} | given
    about |= {"columns": candles.columns, "covered": [rows(30, 40)]}
    write_candles(part, [candles], revision="", provenance=[], **about)
    return part


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"source": "kraken"}, "kraken BTC 1h"),
        ({"series": "ETH"}, "scripted ETH 1h"),
        ({"interval": 1800}, "scripted BTC 30m"),
    ],
)
def test_a_part_of_another_series_is_named_and_not_merged(
    path: Path, other: dict[str, Any], told: str
) -> None:
    for span in ((0, 10), (0, 50)):  # one that it could be taken for merged into, and one to merge
        part = put_part(path, "000000.h5", **other)
        with pytest.raises(StoreError) as caught:
            run(path, Scripted(), *span)
        assert str(caught.value) == (
            f"{part} holds {told} bars, not scripted BTC 1h: delete it, and run "
            "`btc-datamodule prepare`"
        )
        part.unlink()
        run(path, Scripted(), *span)
    assert_same(read_candles(path), Scripted().candles.slice(*rows(0, 50)))


def test_a_part_of_this_series_is_merged_and_what_is_no_part_stays(path: Path) -> None:
    put_part(path, "000007.h5")
    other = put_part(path, "old.h5", series="ETH")
    source = Scripted()
    run(path, source, 0, 60)
    assert source.asked == [rows(0, 30), rows(40, 60)]
    assert [*path.with_suffix(".parts").iterdir()] == [other]


@pytest.mark.parametrize("junk", [b"", b"no part"])
def test_a_complete_file_is_used_whatever_lies_beside_it_and_whoever_writes(
    path: Path, junk: bytes
) -> None:
    before = run(path, Scripted(), 0, 30).header
    path.with_name("candles.h5.77.tmp").write_bytes(b"half a file")
    path.with_suffix(".parts").mkdir()
    path.with_suffix(".parts").joinpath("000000.h5").write_bytes(junk)
    source = Scripted()
    with FileLock(path.with_suffix(".lock")):
        found = update(path, source, HOUR, *rows(0, 30), lock_timeout=0)
    assert (found.header, found.added, found.notes, source.asked) == (before, 0, (), [])
    with pytest.raises(StoreError, match=r"000000\.h5 is not an HDF5 file: move it away"):
        run(path, source, 0, 40)


def test_a_file_where_the_folder_of_parts_belongs_is_named(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.with_suffix(".parts").write_text("mine")
    with pytest.raises(StoreError, match=r"candles\.parts is no folder, .*: move it away and run"):
        run(path, Scripted(), 0, 10)
    assert path.with_suffix(".parts").read_text() == "mine"


# --- a source without a candle ------------------------------------------------------------------


def test_a_first_download_without_a_candle_settles_nothing(path: Path) -> None:
    source = Scripted(candles_of(np.zeros(3, dtype=bool)))
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            run(path, source, 5, 30)
        assert str(caught.value) == (
            "scripted BTC: asked from 2020-01-01T05:00:00Z to 2020-01-02T06:00:00Z, the source has "
            "no candles there (script): check the name of the market and `start` and `end`"
        )
        assert not path.parent.exists()
    assert source.asked == [rows(5, 30)] * 2
    assert run(path, Scripted(), 5, 30).header.rows == HOLED[5:30].sum()


def test_a_candle_file_of_before_that_has_no_candle_settles_nothing(path: Path) -> None:
    nothing = candles_of(np.zeros(3, dtype=bool))
    write_candles(
        path,
        [nothing],
        source="scripted",
        series="BTC",
        interval=HOUR,
        columns=(),
        covered=[rows(0, 60)],
        revision="",
        provenance=[],
    )
    with pytest.raises(SourceError, match="the source has no candles there"):
        run(path, Scripted(nothing), 0, 30)
    assert run(path, Scripted(), 0, 30).added == HOLED[:30].sum()


# --- what is told ---------------------------------------------------------------------------------


def test_what_is_used_offline_is_told_in_letters_that_steer_no_terminal(path: Path) -> None:
    run(path, Scripted(), 0, 10)
    found = use_stored(path, Scripted(), *rows(0, 10), name="file-\x1b[2J")
    (note,) = found.notes
    assert note.startswith("scripted file-\\x1b[2J: stored as BTC, from script, ")


@pytest.mark.parametrize("stored", [True, False])
def test_a_folder_that_cannot_be_written_says_what_is_missing(
    path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    path.parent.mkdir(parents=True)
    if stored:
        run(path, Scripted(), 0, 10)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StoreError) as caught:
        run(path, Scripted(), 0, 20)
    assert str(caught.value) == (
        f"{path} lacks bars from 2020-01-01T10:00:00Z to 2020-01-01T20:00:00Z that are wanted, and "
        "its folder cannot be written: set `offline: true` to take what is stored, or a `data_dir` "
        "that can be written"
        if stored
        else f"{path} does not exist, and its folder cannot be written: set a `data_dir` that can, "
        "or that has the candles"
    )


# --- candles that are not those that were written -------------------------------------------------


def edit(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["candles/volume"][3] = 5e9


def cut(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for column in file["candles"].values():
            column.resize((20,))
        file.attrs["rows"] = 20


@pytest.mark.parametrize("alter", [edit, cut])
def test_altered_candles_are_neither_read_nor_built_on(path: Path, alter: Any) -> None:
    run(path, Scripted(), 0, 60)
    alter(path)
    told = rf"{path}: the candles are not those that were written: move it away and run"
    with pytest.raises(StoreError, match=told):
        read_candles(path)
    with pytest.raises(StoreError, match=told):
        build(path, RECIPE)
    assert not [*path.parent.glob("features-*")]


# --- a folder of somebody else --------------------------------------------------------------------


@pytest.mark.parametrize("shut", ["data", "data/simulator"])
def test_a_folder_that_this_user_may_not_look_into_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shut: str
) -> None:
    ready = make_datamodule(tmp_path)
    look = Path.stat

    def refuse(path: Path, **given: Any) -> os.stat_result:
        if tmp_path / shut in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, **given)

    monkeypatch.setattr(Path, "stat", refuse)
    told = r"candles\.h5: this user may not look into a folder on the way to it: change its"
    for offline in (False, True):
        dm = make_datamodule(tmp_path, ready=False, offline=offline)
        for act in (dm.prepare_data, dm.setup):
            with pytest.raises(StoreError, match=told):
                act()
    with pytest.raises(StoreError, match=told):
        update(ready.candle_path, Scripted(), HOUR, *rows(0, 10))


# --- what is no file of ours ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["candles.lock", "features.lock"])
@pytest.mark.parametrize("leads_to", [None, "itself.lock", "no/where"])
def test_what_lies_in_place_of_a_lock_is_named(
    tmp_path: Path, name: str, leads_to: str | None
) -> None:
    lock = tmp_path / name
    if leads_to is None:
        lock.mkdir()
    else:
        lock.symlink_to(name if leads_to == "itself.lock" else leads_to)
    told = rf"{name} is no file that can be locked .*: move it away"
    with pytest.raises(StoreError, match=told), hold_lock(lock, 1.0):
        pass


def test_a_build_leaves_alone_what_is_no_feature_file(path: Path) -> None:
    run(path, Scripted(), 0, 60)
    path.with_name("features-aa.h5.9.tmp").mkdir()
    path.with_name("features-bb.h5").symlink_to("features-bb.h5")
    path.with_name("features-cc.h5").symlink_to("nowhere")
    path.with_name("features-dd.h5").mkdir()
    built = build(path, RECIPE)
    names = {file.name for file in path.parent.glob("features-*")} - {built.name}
    assert names == {"features-aa.h5.9.tmp", "features-bb.h5", "features-cc.h5", "features-dd.h5"}


def test_a_feature_file_that_cannot_be_kept_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(path, Scripted(), 0, 60)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StoreError, match="has no feature file for these features and this span"):
        build(path, RECIPE)


# --- a file of several that has gone --------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["months", "months/*.csv"])
def test_of_a_file_of_several_that_is_gone_what_is_stored_is_used(
    path: Path, tmp_path: Path, pattern: str
) -> None:
    candles, folder = candles_of(np.ones(60, dtype=bool)), tmp_path / "months"
    folder.mkdir()
    for number in range(3):
        part = candles.slice(*rows(20 * number, 20 * number + 20)).to_polars()
        part.write_csv(folder / f"{number}.csv")
    source = CandleFile(tmp_path / pattern)
    before = update(path, source, HOUR, None, None).header
    (folder / "1.csv").rename(tmp_path / "1.csv")
    for _ in range(2):
        found = update(path, source, HOUR, None, None)
        assert (found.header, found.header.rows, found.added) == (before, 60, 0)
        assert found.notes == (
            f"file {source.series}: 1.csv is not there any more, and the other files are as they "
            "were: what is stored is used, up to 2020-01-03T12:00:00Z; `refresh: true` takes out "
            "for good what is gone",
        )
    without = update(path, source, HOUR, None, None, refresh=True)
    assert without.header.rows == 40
    assert "20 candles are gone" in without.notes[-1]
    assert update(path, source, HOUR, None, None).notes == ()
    (folder / "2.csv").unlink()
    (folder / "0.csv").write_bytes((tmp_path / "1.csv").read_bytes())  # another content: read anew
    assert update(path, source, HOUR, None, None).header.span == rows(20, 40)
