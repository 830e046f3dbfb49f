"""Candle files that lie: what they declare is not believed, and costs neither memory nor time."""

import json
import os
import resource
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from btc_datamodule import StoreError, read_candles
from btc_datamodule.audit.verify import verify_candles
from btc_datamodule.disk import atomic
from btc_datamodule.disk.in_use import claim_unused, use_file
from btc_datamodule.features.build import build
from btc_datamodule.features.table import Table
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import read_header
from btc_datamodule.store.export import export_candles
from btc_datamodule.store.update import update
from tests.factories import HOUR, T0, candles_of
from tests.features.tables import EVER, recipe, series
from tests.helpers import assert_same, write

Lie = Callable[[h5py.File], Any]
RECORD = {"origin": "o", "span": [0, 1], "rows": 1, "retrieved": "r", "checksum": "c"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "candles.h5", series(), covered=[series().span])


@contextmanager
def bounded(seconds: float = 5, mebibytes: int = 200) -> Iterator[None]:
    """Neither much time nor much memory."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - begun < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < mebibytes * 1024


def swap(name: str, **how: Any) -> Lie:
    def lie(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **how)

    return lie


def set_attribute(name: str, value: Any) -> Lie:
    def lie(file: h5py.File) -> None:
        file.attrs[name] = value

    return lie


def records(**changes: Any) -> Lie:
    return swap("provenance", data=np.array([json.dumps(RECORD | changes).encode()]))


def columns_of(rows: int) -> Lie:
    """Every column of so many rows, none of which was ever written."""

    def lie(file: h5py.File) -> None:
        for name in file["candles"]:
            kind = file["candles"][name].dtype
            swap(f"candles/{name}", shape=(rows,), dtype=kind, chunks=(min(rows, 32_768),))(file)
        file.attrs["rows"] = rows

    return lie


def chunk(data: bytes, **how: Any) -> Lie:
    """A column with a chunk that holds other bytes than it says."""

    def lie(file: h5py.File) -> None:
        rows = len(file["candles/close"])
        swap("candles/close", shape=(rows,), dtype="<f8", chunks=(rows,), **how)(file)
        file["candles/close"].id.write_direct_chunk((0,), data)

    return lie


def zeros(size: int, times: int = 1) -> bytes:
    """So many zeros, packed by gzip, and that again."""
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    return packed if times == 1 else zlib.compress(packed)


def pack_twice(file: h5py.File) -> None:
    rows = len(file["candles/close"])
    del file["candles/close"]
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk((rows,))
    how.set_deflate(4)
    how.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_OPTIONAL, (4,))
    space = h5py.h5s.create_simple((rows,))
    made = h5py.h5d.create(file["candles"].id, b"close", h5py.h5t.IEEE_F64LE, space, how)
    made.write_direct_chunk((0,), zeros(1 << 28, 2))


def two_in_a_billion_years(file: h5py.File) -> None:
    times = file["candles/open_time"][()]
    times[-1] = 2**55 - 2**55 % HOUR
    swap("candles/open_time", data=times)(file)


def in_time(start: int, end: int) -> Lie:
    return swap("covered", data=np.array([[start, end]], dtype="<i8"))


def behind_a_pipe(name: str) -> Lie:
    """Something that lies in another file, in whose place is a pipe that nobody writes to."""

    def lie(file: h5py.File) -> None:
        os.mkfifo(f"{file.filename}.pipe")
        file.pop(name)
        file[name] = h5py.ExternalLink(f"{file.filename}.pipe", name)

    return lie


LIES: dict[str, Lie] = {
    "candles behind a pipe": behind_a_pipe("candles"),
    "open times behind a pipe": behind_a_pipe("candles/open_time"),
    "spans behind a pipe": behind_a_pipe("covered"),
    "a billion covered spans": swap("covered", shape=(10**9, 2), dtype="<i8", chunks=(4096, 2)),
    "a billion spans beyond the end": swap("covered", shape=(10**9, 2), dtype="<i8"),
    "a million spans in gzip": swap(
        "covered",
        data=T0 - HOUR * np.arange(2 * 10**6, dtype="<i8")[::-1].reshape(-1, 2),
        chunks=(4096, 2),
        compression="gzip",
    ),
    "covered of numbers with a point": swap("covered", data=np.ones((3, 2))),
    "a span that ends before it begins": in_time(T0, T0 - HOUR),
    "provenance of 300 GB": swap("provenance", shape=(3 * 10**8,), dtype="S1000", chunks=(500,)),
    "provenance of 30 GB in gzip": swap(
        "provenance", shape=(3 * 10**7,), dtype="S1000", chunks=(500,), compression="gzip"
    ),
    "provenance of references": swap("provenance", shape=(3,), dtype=h5py.ref_dtype),
    "provenance of records": swap("provenance", data=np.zeros(3, dtype=[("a", "i8")])),
    "provenance of any length": swap("provenance", data=["{}"]),
    "provenance in a matrix": swap("provenance", data=np.array([[b"{}"]])),
    "brackets without end": swap("provenance", data=np.array([b"[" * 60_000])),
    "rows that are a text": records(rows="many"),
    "a number of many digits": swap(
        "provenance", data=np.array([json.dumps(RECORD).replace("1,", "9" * 5000 + ",").encode()])
    ),
    "a span of three": records(span=[0, 1, 2]),
    "a span of texts": records(span="ab"),
    "columns of a billion rows": columns_of(10**9),
    "columns of ten rows that were never written": columns_of(10),
    "no rows, it says": set_attribute("rows", 0),
    "fewer than no rows": set_attribute("rows", -1),
    "interval 0": set_attribute("interval", 0),
    "interval 2**62": set_attribute("interval", 2**62),
    "an interval below 0": set_attribute("interval", -HOUR),
    "an interval of many": set_attribute("interval", np.full(10**5, HOUR)),
    "a source of a megabyte": lambda file: file.attrs.create("source", np.bytes_(b"x" * 60_000)),
    "a source that clears the screen": set_attribute("source", "\x1b[2J"),
    "a source that is no text": set_attribute("source", b"\xff\xfe"),
    "a digest of another type": set_attribute("digest", np.zeros(2, dtype=[("a", "i8")])),
    "a chunk shorter than its checksum": chunk(b"xx", fletcher32=True),
    "a chunk shorter than its rows": chunk(b"\0" * 100),
    "a chunk that unpacks to 256 MiB": chunk(zeros(1 << 28), compression="gzip"),
    "a chunk that is packed twice": pack_twice,
    "chunks of a gigabyte": swap(
        "candles/close", shape=(108,), maxshape=(None,), dtype="<f8", chunks=(1 << 27,)
    ),
    "candles a billion years apart": two_in_a_billion_years,
}


@pytest.mark.parametrize("what", LIES)
def test_a_lie_ends_every_way_of_reading_in_one_line_soon(path: Path, what: str) -> None:
    with h5py.File(path, "r+") as file:
        LIES[what](file)
    output = path.with_name("out.csv")
    reads: dict[str, Callable[[], Any]] = {
        "header": lambda: (read_header(path), read_candles(path)),
        "candles": lambda: read_candles(path),
        "update": lambda: update(path, Simulator(), HOUR, T0, T0 + HOUR),
        "export": lambda: export_candles(path, EVER, output),
        "build": lambda: build(path, recipe()),
    }
    with bounded():
        for name, read in reads.items():
            with pytest.raises(StoreError) as caught:
                read()
            told = str(caught.value)
            assert str(path) in told, name
            assert "\n" not in told
            assert "\x1b" not in told
            assert len(told) < 500 + len(str(path))
        (problem,) = verify_candles(path)
        assert str(path) in problem
    assert not output.exists()


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name, advice in (("candles.h5", "move it away"), ("features-0.h5", "delete it")):
        os.mkfifo(tmp_path / name)
        for read in (read_header, Table.open):
            with pytest.raises(StoreError, match=f"{name} is no regular file: {advice} and run"):
                read(tmp_path / name)
        assert use_file(tmp_path / name) is None
        with claim_unused(tmp_path / name):  # at once
            pass


def test_an_honest_series_of_flat_prices_that_packs_a_thousandfold_is_read(tmp_path: Path) -> None:
    times = T0 + 60 * np.arange(400_000)
    flat = candles_of(times, 60)
    columns = {name: np.full(len(times), 7000.0) for name in flat.columns}
    whole = type(flat)(60, {**columns, "open_time": times, "volume": np.zeros(len(times))})
    path = write(tmp_path / "candles.h5", whole, covered=[whole.span])
    assert path.stat().st_size < whole.open_time.nbytes * 6 / 50
    assert_same(read_candles(path), whole)
    assert verify_candles(path) == []


@pytest.mark.parametrize("many", [50_000, pytest.param(99_999, marks=pytest.mark.stress)])
def test_as_many_covered_spans_as_may_be_are_read_verified_and_used_soon(
    path: Path, many: int
) -> None:
    starts = np.arange(many) * 600 + T0 - 600 * many
    spans = np.concatenate(
        [np.stack([starts, starts + 300], axis=1), [[T0, series().span[1]]]], dtype=np.int64
    )
    with h5py.File(path, "r+") as file:
        swap("covered", data=spans.astype("<i8"))(file)
        file.attrs.update({"source": "simulator", "series": Simulator().series})
    with bounded(seconds=20, mebibytes=700):
        assert len(read_header(path).covered) == len(spans)
        assert verify_candles(path) == []
        found = update(path, Simulator(), HOUR, T0, T0 + 10 * HOUR)
        assert found.added == 0


def test_candles_outside_of_any_number_of_spans_are_counted(path: Path) -> None:
    times = series().open_time
    every_other = np.stack([times[::2], times[::2] + HOUR], axis=1)
    with h5py.File(path, "r+") as file:
        swap("covered", data=every_other.astype("<i8"))(file)
    inside = int(np.isin(times, every_other[:, 0]).sum())
    problems = verify_candles(path)
    assert f"{len(times) - inside} candles lie outside the spans asked for" in problems[-1]


def test_a_table_that_no_disk_has_room_for_is_refused_before_it_is_built(tmp_path: Path) -> None:
    far = candles_of(np.array([T0, T0 + 60, T0 + 100 * 365 * 86_400]), interval=60)
    path = write(tmp_path / "candles.h5", far, covered=[far.span])
    free = shutil.disk_usage(tmp_path).free
    with bounded(seconds=10):
        if free < 49 * 100 * 365 * 1440:
            with pytest.raises(StoreError, match="MB are free: make room, or narrow `start`"):
                build(path, recipe())
    atomic.check_room(path, free // 2)
    with pytest.raises(StoreError, match=r"candles.h5 would take [\d.,]+ MB, and [\d.,]+ MB are"):
        atomic.check_room(path, 10 * free)
