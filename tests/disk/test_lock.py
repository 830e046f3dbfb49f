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
from btc_datamodule.errors import StoreError
from btc_datamodule.features.build import Recipe, build
from btc_datamodule.features.builtin import resolve
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
