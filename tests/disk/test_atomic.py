"""Disks that are full, or have become read-only: one error, nothing lost, gone on from."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from btc_datamodule.audit.verify import verify_series
from btc_datamodule.disk.atomic import forgo_sync, replace_file
from btc_datamodule.errors import StoreError
from btc_datamodule.features import build as building
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.store.export import export_candles
from tests.disk.trouble import days, nothing_lost, one_line
from tests.marks import keep_some

CONFIG = Path(__file__).parents[2] / "configs/dummy.yaml"


def recipe(*names: str) -> Recipe:
    return Recipe(resolve(names or ("log_return", "log_range", "log_volume")), 3, (0, 1 << 62))


def fill(folder: Path, leave: int) -> Path:
    """Take all the room of a file system but ``leave`` bytes."""
    state = os.statvfs(folder)
    filler = folder / "filler"
    filler.write_bytes(b"x" * (state.f_bavail * state.f_frsize - leave))
    return filler


STAGES: dict[str, tuple[int, str, Callable[[Path], Any]]] = {
    "no byte at all": (0, r"candles.parts/000000.h5", lambda path: days(path, 20)),
    "part": (300_000, r"candles.parts/000000.h5", lambda path: days(path, 20)),
    "merge": (2_600_000, r"candles.h5", lambda path: days(path, 20)),
    "feature file": (20_000, r"features-\w+.h5", lambda path: build(path, recipe("log_return"))),
    "parquet": (
        8_192,
        r"out.parquet",
        lambda path: export_candles(path, (0, 1 << 62), path.with_name("out.parquet")),
    ),
    "csv": (
        8_192,
        r"out.csv",
        lambda path: export_candles(path, (0, 1 << 62), path.with_name("out.csv")),
    ),
}


def test_a_file_that_is_a_link_is_replaced_where_it_lies_and_the_link_stays(
    tmp_path: Path,
) -> None:
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real.h5", tmp_path / "candles.h5"
    real.write_text("old")
    link.symlink_to(real)
    with replace_file(link) as temporary:
        assert temporary.parent == real.parent
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    link.unlink()
    link.symlink_to(link.name)  # which leads to itself
    with replace_file(link) as temporary:
        temporary.write_text("plain")
    assert (link.read_text(), link.is_symlink()) == ("plain", False)


def without_room(folder: Path, stage: str) -> None:
    """Run in a process of its own, on a file system of its own."""
    leave, file, action = STAGES[stage]
    path = folder / "candles.h5"
    days(path, 1)
    build(path, recipe())
    before = path.read_bytes()
    filler = fill(folder, leave)
    for _ in range(2):  # and again, in the same process
        # Another program takes the room after it was looked whether there is any.
        with patch.object(building, "check_room"), pytest.raises(StoreError) as caught:
            action(path)
        one_line(caught.value, file, "No space left on device")
        nothing_lost(path, before)
    filler.unlink()
    action(path)
    again = days(path, 20)
    assert again.digest == days(folder / "undisturbed" / "candles.h5", 20).digest
    assert verify_series(path) == []
    assert not path.with_suffix(".parts").exists()


def read_only(folder: Path, _: str) -> None:
    path = folder / "candles.h5"
    days(path, 1)
    build(path, recipe())
    before = path.read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    for action, said in (
        (lambda: days(path, 2), "lacks bars .*, and its folder cannot be written: set `offline"),
        (lambda: build(path, recipe("log_return")), "feature file .*cannot be written"),
        (
            lambda: export_candles(path, (0, 1 << 62), folder / "out.csv"),
            r"out.csv cannot be written \(Read-only file system\)",
        ),
    ):
        with pytest.raises(StoreError, match=said) as caught:
            action()
        assert "\n" not in str(caught.value)
        nothing_lost(path, before)
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    assert days(path, 2).rows == 2880


def command_line(folder: Path, _: str) -> None:
    fill(folder, 30_000)
    command = [sys.executable, "-m", "btc_datamodule", "prepare", "--config", str(CONFIG)]
    command += ["--data.data_dir", str(folder / "data")]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    (folder / "filler").unlink()
    assert shown.returncode == 1, shown
    lines = [line for line in shown.stderr.splitlines() if "error" in line.lower()]
    assert "Traceback" not in shown.stderr
    (line,) = lines
    assert line.startswith("btc-datamodule: error: ")
    assert "cannot be written (No space left on device): make room" in line


def on_own_disk(folder: Path, size: str, function: Callable[[Path, str], None], what: str) -> None:
    """Call a function of this module in a process that has a file system of ``size`` alone."""
    code = f"from pathlib import Path; import tests.disk.test_atomic as t; t.{function.__name__}"
    code += f"(Path({str(folder)!r}), {what!r}); print('all is well')"
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no `unshare`")
    probe = subprocess.run([unshare, "-Urm", *mount], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no file system of one's own to be had: {probe.stderr.decode().strip()}")
    script = " ".join(mount[:-1]) + ' "$0" && exec "$1" -c "$2"'
    command = [unshare, "-Urm", "sh", "-c", script, str(folder), sys.executable, code]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (shown.returncode, shown.stdout.strip()[-11:]) == (0, "all is well"), shown.stderr


@pytest.mark.parametrize("stage", keep_some(STAGES, 2))
def test_a_full_disk_ends_in_one_error_loses_nothing_and_is_gone_on_from(
    stage: str, tmp_path: Path
) -> None:
    on_own_disk(tmp_path, "16m", without_room, stage)


def test_a_disk_that_has_become_read_only_is_named(tmp_path: Path) -> None:
    on_own_disk(tmp_path, "16m", read_only, "")


def test_prepare_on_a_full_disk_prints_one_line(tmp_path: Path) -> None:
    on_own_disk(tmp_path, "16m", command_line, "")


def test_files_that_need_not_last_are_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for lasting in (False, True):
        with nullcontext() if lasting else forgo_sync(), replace_file(tmp_path / "a") as temporary:
            temporary.write_text(str(lasting))
        assert (tmp_path / "a").read_text() == str(lasting)
        assert len(synced) == 2 * lasting
