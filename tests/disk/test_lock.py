"""The lock: who holds it is named, waited for, and let go when killed."""

import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from btc_datamodule.candles.timeline import Span
from btc_datamodule.disk import lock
from btc_datamodule.disk.lock import hold_lock
from btc_datamodule.errors import ConfigError, StoreError
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import read_header
from btc_datamodule.store.update import update
from tests.disk.trouble import FORKED
from tests.factories import HOUR, T0, candles_of
from tests.helpers import write


@dataclass(frozen=True)
class Held(Source):
    """Answers when it is told to."""

    told: Any = None

    name: ClassVar[str] = "held"

    @property
    def series(self) -> str:
        return "BTC"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        self.told.send("asked")
        self.told.recv()
        yield Block(span, candles_of(np.arange(*span, interval), interval), "held")


def hold(path: Path, pipe: Any) -> None:
    update(path, Held(pipe), HOUR, T0, T0 + HOUR)


def test_who_holds_the_lock_is_named_and_when_killed_lets_go_at_once(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    here, there = FORKED.Pipe()
    holder = FORKED.Process(target=hold, args=(path, there))
    holder.start()
    try:
        assert here.recv() == "asked"
        named = rf"has been held for 0 s by process {holder.pid} on \S+ since 20\d\d-\S+Z: wait"
        with pytest.raises(StoreError, match=named):
            update(path, Simulator(), HOUR, T0, T0 + HOUR, lock_timeout=0.1)
    finally:
        holder.kill()
        holder.join()
    note = path.with_suffix(".holder")
    assert str(holder.pid) in note.read_text()
    mine, other = FORKED.Pipe()
    successor = FORKED.Process(target=hold, args=(path, other))
    successor.start()
    assert mine.recv() == "asked"  # it did not wait for the dead, which would be an hour
    assert note.read_text().startswith(f"process {successor.pid} on ")
    mine.send("go on")
    successor.join()
    assert not note.exists()
    assert read_header(path).rows == 1


def test_who_waits_for_another_builder_is_told_who_that_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "candles.h5", candles_of(np.ones(50, dtype=bool)))
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.1)
    let_go = threading.Event()
    threading.Thread(target=hold_until, args=(tmp_path / "features.lock", let_go)).start()
    while not (tmp_path / "features.holder").exists():
        time.sleep(0.01)
    threading.Timer(1, let_go.set).start()
    table = build(path, Recipe(resolve(["log_return"]), 3, (0, 1 << 62)))
    assert let_go.is_set()
    assert table.exists()
    (message,) = caplog.messages
    waiting = rf"waiting for process {os.getpid()} on \S+ since 20\S+Z, which holds .*features.lock"
    assert re.fullmatch(waiting, message), message
    assert not (tmp_path / "features.holder").exists()


def hold_until(path: Path, let_go: threading.Event) -> None:
    with hold_lock(path):
        let_go.wait(60)


# --- folders --------------------------------------------------------------------------------------


def fail_holding(path: Path, leaving: Path | None = None) -> None:
    def fail() -> None:
        with hold_lock(path):
            assert path.parent.is_dir()
            if leaving is not None:
                leaving.write_text("mine")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_a_writer_that_fails_before_it_writes_leaves_no_folder(tmp_path: Path) -> None:
    fail_holding(tmp_path / "data" / "coinbase" / "BTC" / "1h" / "candles.lock")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_there_before_and_those_with_something_in_them_stay(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data" / "coinbase" / "BTC" / "1h" / "candles.lock"
    (tmp_path / "data").mkdir()
    fail_holding(path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "data"]
    fail_holding(path, path.parent.parent / "notes.txt")
    kept = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")}
    start = "data/coinbase"
    assert kept == {"data", start, f"{start}/BTC", f"{start}/BTC/notes.txt"}
    with hold_lock(path):
        path.with_name("candles.h5").write_text("written")
    assert path.exists()  # it is in use from here on, and stays


def test_who_waits_while_the_lock_is_removed_with_its_folder_gets_one_that_others_respect(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data" / "BTC" / "candles.lock"
    let_go, got, finish = threading.Event(), threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with hold_lock(path):
            got.set()
            finish.wait(60)
            path.with_name("candles.h5").write_text("written")

    first = threading.Thread(target=hold_until, args=(path, let_go))
    first.start()
    while not path.with_suffix(".holder").exists():
        time.sleep(0.01)
    second = threading.Thread(target=wait_for_it)
    second.start()
    time.sleep(0.2)
    assert not got.is_set()
    let_go.set()
    first.join()
    assert got.wait(60)
    with pytest.raises(StoreError, match="has been held for 0 s by process"), hold_lock(path, 0.1):
        pass
    finish.set()
    second.join()
    assert path.with_name("candles.h5").read_text() == "written"
    assert path.exists()


def test_many_writers_that_fail_in_turn_never_hold_it_together(tmp_path: Path) -> None:
    """Each makes the folders and removes them; no two are inside at a time."""
    path = tmp_path / "a" / "b" / "candles.lock"
    inside, worst, done = [0], [0], [0]

    def fail_often() -> None:
        for _ in range(6):
            with hold_lock(path):
                inside[0] += 1
                worst[0] = max(worst[0], inside[0])
                time.sleep(0.002)
                inside[0] -= 1
        done[0] += 1

    threads = [threading.Thread(target=fail_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (worst, done) == ([1], [4])


def test_a_link_to_nowhere_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "nowhere")
    with (
        pytest.raises(ConfigError, match=r"the folder .*data cannot be made"),
        hold_lock(tmp_path / "data" / "candles.lock"),
    ):
        pass
