"""Crash safety, shown: killed at any moment, eight at once, no room left, read while replaced.

The processes killed here run the real thing, ``update`` and ``build`` against the loopback
exchange. They are forked from a server that has the imports behind it, so that a kill costs the
work and not the start. One setting is theirs alone: ``PART_SECONDS`` is 0.05 instead of 10, as
the whole download takes half a second here instead of minutes.
"""

import gc
import multiprocessing as mp
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from btc_datamodule.audit.verify import verify_candles, verify_series
from btc_datamodule.candles.series import OPTIONAL, Candles
from btc_datamodule.candles.timeline import Span, parse_instant, subtract, union
from btc_datamodule.errors import StoreError
from btc_datamodule.features.build import Recipe, build
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.table import Table
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store import parts
from btc_datamodule.store.candle_file import CandleReader, Header, read_candles, read_header
from btc_datamodule.store.export import export_candles
from btc_datamodule.store.update import Update, update
from btc_datamodule.testing.exchange import (
    BinanceArchiveAnswers,
    CoinbaseAnswers,
    Exchange,
    Request,
    random_walk,
)
from tests.helpers import HOUR, T0, assert_same, candles_of, write

FORKED = mp.get_context("forkserver")
FORKED.set_forkserver_preload(["test_crash", "polars", "httpx", "tenacity", "h5py", "tqdm"])
NAMES = ("log_return", "log_range", "log_volume")
CONFIG = Path(__file__).parents[2] / "configs/dummy.yaml"


def recipe(*names: str) -> Recipe:
    return Recipe(resolve(names or NAMES), 3, (0, 1 << 62))


@dataclass(frozen=True)
class Work:
    """A series to prepare from a source at a URL."""

    held: Candles
    binance: bool

    def answers(self) -> Any:
        return BinanceArchiveAnswers(self.held) if self.binance else CoinbaseAnswers(self.held)

    def source(self, url: str) -> Source:
        if self.binance:
            return BinanceArchive(base_url=url, requests_per_second=5000.0, retry_wait=0.01)
        return Coinbase(base_url=url, requests_per_second=5000.0, retry_wait=0.01)

    def prepare(self, path: Path, url: str, share: float = 1.0) -> Update:
        start, end = self.held.span
        bars = int(share * ((end - start) // self.held.interval))
        found = update(
            path, self.source(url), self.held.interval, start, start + bars * self.held.interval
        )
        build(path, recipe())
        return found

    def span_of(self, request: Request) -> Span:
        """What a request asked for."""
        if not self.binance:
            start, last = (parse_instant(request.query[name]) for name in ("start", "end"))
            return start, last + self.held.interval
        date = re.search(r"-(\d{4}-\d\d(?:-\d\d)?)\.zip", request.path)
        assert date is not None
        if len(date[1]) == 10:
            start = parse_instant(date[1])
            return start, start + 86_400
        year, month = map(int, date[1].split("-"))
        after = f"{year + month // 12}-{month % 12 + 1:02d}"
        return parse_instant(f"{date[1]}-01"), parse_instant(f"{after}-01")


def works() -> dict[str, Work]:
    hours = np.arange(parse_instant("2019-02-01"), parse_instant("2019-12-10"), HOUR)
    return {
        "paged": Work(random_walk("2020-01-01", 6_000, 60), binance=False),
        "archive": Work(candles_of(hours, optional=OPTIONAL), binance=True),
    }


def prepare(work: Work, path: Path, url: str, ready: Any) -> None:
    parts.PART_SECONDS = 0.05
    ready.send("go")
    work.prepare(path, url)


# --- killed -------------------------------------------------------------------------------------


def phase(path: Path, final: str) -> str:
    """What a process was at when it was killed, by the files that it left."""
    if any(path.parent.glob("features-*.tmp")):
        return "feature file half built"
    if any(path.parent.glob("candles.h5.*.tmp")):
        return "parts being merged"
    if any(path.with_suffix(".parts").glob("*.tmp")):
        return "part half written"
    merged = path.exists() and read_header(path).digest == final
    if merged and any(path.parent.glob("features-*.h5")):
        return "feature file renamed"
    if merged:
        return "merged, feature file not begun"
    return "asking, with parts" if any(path.with_suffix(".parts").glob("*")) else "asking, no parts"


def stored_spans(path: Path) -> list[Span]:
    files = [path] * path.exists() + sorted(path.with_suffix(".parts").glob("*.h5"))
    return union(span for file in files for span in read_header(file).covered)


def facts(header: Header) -> Header:
    """A header without the times of retrieval."""
    records = tuple(replace(record, retrieved="") for record in header.provenance)
    return replace(header, provenance=records)


def kill_at_random(work: Work, folder: Path, kills: int, seed: int) -> Counter[str]:
    """Kill ``kills`` runs, a few for each file, and check what is left after each; the phases."""
    rng = random.Random(seed)
    phases: Counter[str] = Counter()
    with Exchange(work.answers()) as exchange:
        clean = folder / "clean" / "candles.h5"
        here, there = FORKED.Pipe(duplex=False)
        worker = FORKED.Process(target=prepare, args=(work, clean, exchange.url, there))
        worker.start()
        assert here.recv() == "go"
        began = time.monotonic()
        worker.join()
        duration = time.monotonic() - began
        whole = read_header(clean)
        number = 0
        while phases.total() < kills:
            number += 1
            path = folder / str(number) / "candles.h5"
            if number % 2:  # there is a file already, of the first half
                work.prepare(path, exchange.url, 0.5)
                for table in path.parent.glob("features-*.h5"):
                    table.unlink()
            for _ in range(8):
                known = stored_spans(path)
                exchange.requests.clear()
                worker = FORKED.Process(target=prepare, args=(work, path, exchange.url, there))
                worker.start()
                assert here.recv() == "go"
                time.sleep(rng.uniform(0, duration))
                worker.kill()
                worker.join()
                time.sleep(0.02)  # what it had asked for last may still be arriving
                for request in exchange.requests:
                    asked = work.span_of(request)
                    assert not any(a < asked[1] and asked[0] < b for a, b in known), asked
                if worker.exitcode != -signal.SIGKILL:
                    assert worker.exitcode == 0
                    break
                phases[phase(path, whole.digest)] += 1
                if path.exists():
                    assert verify_series(path) == []
                for part in path.with_suffix(".parts").glob("*.h5"):
                    assert verify_candles(part) == []
                if phases.total() == kills:
                    break
            known = stored_spans(path)
            exchange.requests.clear()
            found = work.prepare(path, exchange.url)
            missing = subtract(work.held.span, known)
            for start, end in map(work.span_of, exchange.requests):
                assert any(a < end and start < b for a, b in missing), (start, end)
                assert not any(a < end and start < b for a, b in known), (start, end)
            assert found.header.digest == whole.digest
            assert found.header.covered == whole.covered
            assert sum(record.rows for record in found.header.provenance) == whole.rows
            assert verify_series(path) == []
            left = {re.sub(r"-\w{16}", "", file.name) for file in path.parent.iterdir()}
            assert left <= {"candles.h5", "candles.lock", "features.h5", "features.lock"}
            (one,) = path.parent.glob("features-*.h5")
            (other,) = clean.parent.glob("features-*.h5")
            assert one.name == other.name
    return phases


@pytest.mark.parametrize("kind", works())
def test_a_few_kills_at_random_moments_lose_nothing_that_was_stored(
    kind: str, tmp_path: Path
) -> None:
    assert kill_at_random(works()[kind], tmp_path, 4, seed=1).total() == 4


@pytest.mark.stress
def test_a_hundred_kills_at_random_moments_lose_nothing_that_was_stored(tmp_path: Path) -> None:
    phases: Counter[str] = Counter()
    for kind, work in works().items():
        found = kill_at_random(work, tmp_path / kind, 50, seed=7)
        print(f"{kind}: {dict(sorted(found.items()))}")
        phases += found
    assert phases.total() == 100
    for hit in ("asking, with parts", "parts being merged", "feature file half built"):
        assert phases[hit] > 0, phases


def end(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_before_forgetting(path: Path) -> None:
    parts.Parts.discard = end  # type: ignore[method-assign,assignment]
    update(path, Simulator(seed=4), 60, T0, T0 + 86_400)


def test_parts_that_are_merged_but_still_there_are_not_merged_again(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    worker = FORKED.Process(target=killed_before_forgetting, args=(path,))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert list(path.with_suffix(".parts").glob("*.h5"))
    before = path.read_bytes()
    found = update(path, Simulator(seed=4), 60, T0, T0 + 86_400)
    assert path.read_bytes() == before
    assert not path.with_suffix(".parts").exists()
    alone = update(tmp_path / "alone" / "candles.h5", Simulator(seed=4), 60, T0, T0 + 86_400)
    assert facts(found.header) == facts(alone.header)


# --- several at once ----------------------------------------------------------------------------


def prepare_at(work: Work, path: Path, url: str, gate: Any, results: Any) -> None:
    gate.wait(60)
    found = work.prepare(path, url)
    results.put((found.added, found.header.digest, verify_series(path)))


def test_eight_processes_at_once_download_once_and_end_with_the_same_files(tmp_path: Path) -> None:
    work = works()["paged"]
    path = tmp_path / "candles.h5"
    gate, results = FORKED.Barrier(8), FORKED.Queue()
    with Exchange(work.answers()) as exchange:
        arguments = (work, path, exchange.url, gate, results)
        workers = [FORKED.Process(target=prepare_at, args=arguments) for _ in range(8)]
        for worker in workers:
            worker.start()
        found = [results.get(timeout=120) for _ in workers]
        for worker in workers:
            worker.join()
        asked = Counter(work.span_of(request) for request in exchange.requests)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert (len(asked), set(asked.values())) == (20, {1})
    assert sorted(added for added, _, _ in found) == [0] * 7 + [6_000]
    assert {digest for _, digest, _ in found} == {read_header(path).digest}
    assert [problems for _, _, problems in found] == [[]] * 8
    assert_same(read_candles(path), work.held)
    assert len(list(path.parent.glob("features-*.h5"))) == 1
    assert list(path.parent.glob("*.tmp")) == []


# --- the lock -----------------------------------------------------------------------------------


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


# --- no room ------------------------------------------------------------------------------------


def one_line(error: StoreError, file: str, reason: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert re.search(
        rf"{file} cannot be written \({reason}\): make room, or make the folder writable, and run "
        r"it again; what was stored before is as it was$",
        text,
    ), text


def nothing_lost(path: Path, before: bytes) -> None:
    gc.collect()  # handles that HDF5 still had would be closed here
    assert path.read_bytes() == before
    assert verify_series(path) == []
    assert list(path.parent.rglob("*.tmp")) == []
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [name for name in opened if ".tmp" in str(name)] == []


def fill(folder: Path, leave: int) -> Path:
    """Take all the room of a file system but ``leave`` bytes."""
    state = os.statvfs(folder)
    filler = folder / "filler"
    filler.write_bytes(b"x" * (state.f_bavail * state.f_frsize - leave))
    return filler


def days(path: Path, count: int) -> Header:
    return update(path, Simulator(seed=4), 60, T0, T0 + count * 86_400).header


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


def without_room(folder: Path, stage: str) -> None:
    """Run in a process of its own, on a file system of its own."""
    leave, file, action = STAGES[stage]
    path = folder / "candles.h5"
    days(path, 1)
    build(path, recipe())
    before = path.read_bytes()
    filler = fill(folder, leave)
    for _ in range(2):  # and again, in the same process
        with pytest.raises(StoreError) as caught:
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
    for action, file in (
        (lambda: days(path, 2), r"candles.lock"),
        (lambda: build(path, recipe("log_return")), r"features.lock"),
        (lambda: export_candles(path, (0, 1 << 62), folder / "out.csv"), r"out.csv"),
    ):
        with pytest.raises(StoreError) as caught:
            action()
        one_line(caught.value, file, "Read-only file system")
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
    code = f"from pathlib import Path; import tests.store.test_crash as t; t.{function.__name__}"
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


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_ends_in_one_error_loses_nothing_and_is_gone_on_from(
    stage: str, tmp_path: Path
) -> None:
    on_own_disk(tmp_path, "16m", without_room, stage)


def test_a_disk_that_has_become_read_only_is_named(tmp_path: Path) -> None:
    on_own_disk(tmp_path, "16m", read_only, "")


def test_prepare_on_a_full_disk_prints_one_line(tmp_path: Path) -> None:
    on_own_disk(tmp_path, "16m", command_line, "")


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
    for limit in (*range(0, 4096, 512), *range(4096, size, size // 15), size - 1):
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


# --- read while replaced ------------------------------------------------------------------------


@dataclass(frozen=True)
class Drifted(Simulator):
    """The series of seed 4 with the candles of another."""

    @property
    def series(self) -> str:
        return Simulator(seed=4).series


def replaced(path: Path) -> None:
    """Every candle another, and other feature files in place of those that were there."""
    for table in path.parent.glob("features-*.h5"):
        table.unlink()
    update(path, Drifted(seed=5), 60, T0, T0 + 20 * 86_400, refresh=True)
    build(path, recipe())


def test_what_is_open_goes_on_being_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "candles.h5"
    days(path, 20)
    candles = read_candles(path)
    table = Table.open(build(path, recipe()))
    x = np.fromfile(table.path, "<f4", table.x.size, offset=table.offsets["x"])
    mapped = table.x
    with CandleReader(path) as reader:
        digest = reader.header.digest
        assert_same(reader.slice(T0, T0 + HOUR), candles.slice(T0, T0 + HOUR))
        worker = FORKED.Process(target=replaced, args=(path,))
        worker.start()
        while worker.is_alive():
            assert_same(next(reader.blocks()), candles)
            np.testing.assert_array_equal(mapped.ravel(), x)
        worker.join()
        assert worker.exitcode == 0
        assert_same(next(reader.blocks()), candles)
        np.testing.assert_array_equal(mapped.ravel(), x)
    assert read_header(path).digest != digest
    assert not table.path.exists()
    assert verify_series(path) == []


def test_a_loader_in_another_process_keeps_its_batches(tmp_path: Path) -> None:
    import torch  # here, as the processes above shall start without it

    from btc_datamodule import BTCDataModule

    data = BTCDataModule(
        *(Simulator(seed=4), "1m", "2020-01-01", "2020-01-21"),
        num_workers=1,
        data_dir=str(tmp_path),
    )
    data.prepare_data()
    data.setup()
    expected = list(data.train_dataloader())
    batches = iter(data.train_dataloader())
    found = [next(batches)]
    worker = FORKED.Process(target=replaced, args=(data.candle_path,))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    found += batches
    assert len(found) == len(expected) > 50
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)
