"""Crash safety, shown: killed at any moment, eight at once, read while replaced.

The processes killed here run the real thing, ``update`` and ``build`` against the loopback
exchange. They are forked from a server that has the imports behind it, so that a kill costs the
work and not the start. One setting is theirs alone: ``PART_SECONDS`` is 0.05 instead of 10, as
the whole download takes half a second here instead of minutes.
"""

import multiprocessing as mp
import os
import random
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule.audit.verify import verify_candles, verify_series
from btc_datamodule.candles.series import OPTIONAL, Candles
from btc_datamodule.candles.timeline import Span, parse_instant, subtract, unite
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.binance.source import BinanceArchive
from btc_datamodule.sources.coinbase import Coinbase
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store import parts
from btc_datamodule.store.candle_file import CandleReader, read_candles, read_header
from btc_datamodule.store.series_file import Header
from btc_datamodule.store.update import Update, update
from btc_datamodule.testing.exchange import (
    BinanceArchiveAnswers,
    CoinbaseAnswers,
    Exchange,
    Request,
    random_walk,
)
from tests.factories import HOUR, T0, candles_of
from tests.helpers import assert_same
from tests.marks import keep_some

ENDINGS = ("h5", "lock", "holder")
"""Of what a prepared series leaves in its folder, in the end."""

FORKED = mp.get_context("forkserver")
FORKED.set_forkserver_preload(
    ["tests.store.test_crash", "polars", "httpx", "tenacity", "h5py", "tqdm"]
)
NAMES = ("log_return", "log_range", "log_volume")


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
    return unite(span for file in files for span in read_header(file).covered)


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
            # A note on who held a lock may be left by who was killed right before letting go, and
            # parts by who had merged them: a run that has nothing to ask for leaves them there.
            left.discard("candles.parts")
            assert left <= {f"{of}.{end}" for of in ("candles", "features") for end in ENDINGS}
            (one,) = path.parent.glob("features-*.h5")
            (other,) = clean.parent.glob("features-*.h5")
            assert one.name == other.name
    return phases


@pytest.mark.parametrize("kind", keep_some(works(), 2))
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
    assert path.read_bytes() == before  # it is complete: the next writer forgets them
    alone = tmp_path / "alone" / "candles.h5"
    for end in (T0 + 86_400, T0 + 90_000):
        found = update(path, Simulator(seed=4), 60, T0, end)
        one = update(alone, Simulator(seed=4), 60, T0, end)
        assert facts(found.header) == facts(one.header)
    assert not path.with_suffix(".parts").exists()


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
    update(path, Simulator(seed=4), 60, T0, T0 + 20 * 86_400)
    candles = read_candles(path)
    table = Table.open(build(path, recipe()))
    x = np.fromfile(
        table.path, "<f4", table.x.size, offset=table.checks.find_place("x").extents["x"].offset
    )
    mapped = table.x
    with CandleReader(path) as reader:
        digest = reader.header.digest
        assert_same(reader.slice(T0, T0 + HOUR), candles.slice(T0, T0 + HOUR))
        worker = FORKED.Process(target=replaced, args=(path,))
        worker.start()
        while worker.is_alive():
            assert_same(next(reader.chunks()), candles)
            np.testing.assert_array_equal(mapped.ravel(), x)
        worker.join()
        assert worker.exitcode == 0
        assert_same(next(reader.chunks()), candles)
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
