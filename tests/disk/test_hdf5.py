"""HDF5 files whose writing fails, or is interrupted, at any moment."""

import gc
import random
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule.candles.timeline import Span
from btc_datamodule.errors import StoreError
from btc_datamodule.sources.base import Block
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import read_candles, read_header
from btc_datamodule.store.update import update
from tests.disk.trouble import FORKED, days, nothing_lost, one_line
from tests.factories import HOUR, T0, candles_of
from tests.helpers import write


@dataclass(frozen=True)
class Last(Simulator):
    """From the second block on, this process can write to no file any more."""

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        for number, block in enumerate(super().blocks(interval, span)):
            if number == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            yield block


def stopped_midway(path: Path) -> None:
    days(path, 1)
    before = path.read_bytes()
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with pytest.raises(StoreError) as caught:
        update(path, Last(seed=4), 60, T0, T0 + 400 * 86_400)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    one_line(caught.value, r"candles.parts/\d+.h5", "File too large")
    nothing_lost(path, before)
    assert days(path, 3).digest == days(path.parent / "undisturbed" / "candles.h5", 3).digest
    candles = read_candles(path)
    size = write(path, candles, covered=[candles.span]).stat().st_size
    whole = path.read_bytes()
    for limit in (*range(0, 4096, 512), *range(4096, size, size // 6), size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with pytest.raises(StoreError, match=r"candles.h5 cannot be written \(File too large\)"):
            write(path, candles, covered=[candles.span])
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        nothing_lost(path, whole)


def test_a_write_that_fails_at_any_byte_of_the_file_ends_in_one_error(tmp_path: Path) -> None:
    worker = FORKED.Process(target=stopped_midway, args=(tmp_path / "candles.h5",))
    worker.start()
    worker.join()
    assert worker.exitcode == 0  # and no segmentation fault at the end of the process


class Interrupted(Exception):  # noqa: N818 - named as KeyboardInterrupt is
    """Raised by a signal's handler, between any two steps."""


def interrupt(number: int, frame: Any) -> None:
    raise Interrupted


# Raised inside a finalizer, an exception is reported and lost, here as anywhere.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_of_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "candles.h5", candles_of(np.ones(10, dtype=bool)))
    before = path.read_bytes()
    blocks = [candles_of(T0 + HOUR * np.arange(at, at + 10_000)) for at in range(0, 20_000, 10_000)]
    rng, interrupted = random.Random(3), 0
    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(25):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.001, 0.03))
                write(path, *blocks)
                signal.setitimer(signal.ITIMER_REAL, 0)
                before = path.read_bytes()
            except Interrupted:
                interrupted += 1
            assert path.read_bytes() == before or read_header(path).rows == 20_000
            before = path.read_bytes()
            assert [file.name for file in tmp_path.iterdir()] == ["candles.h5"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert signal.signal(signal.SIGALRM, old) is interrupt
    gc.collect()
    assert interrupted >= 5
