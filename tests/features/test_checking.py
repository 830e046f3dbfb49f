"""Rows are compared with their digests before they are used, each segment once, and no others."""

import multiprocessing as mp
import os
import pickle
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from btc_datamodule import BTCDataModule, FractionSplit, StoreError
from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.disk.in_use import use_file
from btc_datamodule.errors import UnreadableError
from btc_datamodule.features import checking, layout
from btc_datamodule.features.build import build
from btc_datamodule.features.checking import Place
from btc_datamodule.features.layout import BAR_COLUMNS
from btc_datamodule.features.table import Table
from btc_datamodule.windows.dataset import WindowDataset
from tests.factories import T0, make_datamodule
from tests.features.tables import recipe, series
from tests.helpers import write

SEGMENT = 50
ARRAYS = ("x", "observed", *BAR_COLUMNS)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SEGMENT_ROWS", SEGMENT)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Offset and size of what is hashed."""
    found: list[tuple[int, int]] = []
    real = Place.hash

    def noted(self: Place, offset: int, size: int) -> bytes:
        found.append((offset, size))
        return real(self, offset, size)

    monkeypatch.setattr(Place, "hash", noted)
    return found


def spoil(table: Table, name: str, row: int) -> None:
    """Change one bit of a row of an array, the times of the file being as they were."""
    offset, width = table.checks.find_place(name).extents[name]
    before = table.path.stat()
    with table.path.open("r+b") as file:
        file.seek(offset + row * width)
        byte = file.read(1)[0]
        file.seek(offset + row * width)
        file.write(bytes([byte ^ 1]))
    os.utime(table.path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table.open(build(write(tmp_path / "candles.h5", series()), recipe()))


@pytest.mark.parametrize("name", ARRAYS)
def test_a_row_that_is_not_as_written_is_named_with_its_array_and_times(
    table: Table, name: str
) -> None:
    edges = table.checks.edges.tolist()
    row = edges[1] + 3
    spoil(table, name, row)
    start, end = (table.find_time(edge) for edge in edges[1:3])
    first, after = (format_instant(each) for each in (start, end))
    reads: tuple[Callable[[], Any], ...] = (
        lambda: table.array(name),
        lambda: table.read(name, slice(row + 1, row + 2)),
        lambda: table.pick(name, np.array([row - 1, row - 2])),
    )
    for read in reads:
        with pytest.raises(StoreError) as caught:
            read()
        assert str(caught.value) == (
            f"{table.path}: {name!r} between {first} and {after} is not what was written: delete "
            "it and run `btc-datamodule prepare`, which makes it again from the candles"
        )
    for other in set(ARRAYS) - {name}:
        assert len(table.array(other)) == table.rows
    table.read(name, slice(0, edges[1]))
    table.read(name, slice(edges[2], table.rows))
    table.path.unlink()
    assert build(table.path.with_name("candles.h5"), recipe()) == table.path
    assert Table.open(table.path).array(name)[row].any() or name in ("x", "observed")


def test_rows_that_are_picked_again_are_those_that_were_written(table: Table) -> None:
    rows = np.array([3, 4])
    before = table.pick("close", rows)
    spoil(table, "volume", 3)
    os.utime(table.path, ns=(1, 1))  # it was written to, however fast
    np.testing.assert_array_equal(table.pick("close", rows), before)
    spoil(table, "close", 3)
    os.utime(table.path, ns=(2, 2))
    with pytest.raises(StoreError, match=r"'close' between .* is not what was written"):
        table.pick("close", rows)


def test_each_segment_of_each_array_is_hashed_once(
    table: Table, hashed: list[tuple[int, int]]
) -> None:
    edges = table.checks.edges.tolist()
    for _ in range(3):
        table.read("close", slice(edges[1] - 1, edges[1] + 1))
    assert len(hashed) == 2
    for _ in range(3):
        assert table.bars("close").shape == (table.rows,)
        assert table.observed.shape == (table.rows,)
    assert len(hashed) == len(set(hashed)) == 2 * (len(edges) - 1)


def test_pieces_of_a_segment_are_read_at_once_and_hashed_as_one(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "READ_BYTES", 7)
    assert len(table.x) == table.rows


def test_a_file_that_is_written_to_is_checked_again(table: Table) -> None:
    close = table.bars("close")[7]
    spoil(table, "close", 7)
    assert table.bars("close")[7] != close, "nobody can see a change that leaves no trace"
    os.utime(table.path)
    with pytest.raises(StoreError, match="'close' between"):
        table.bars("close")


def test_a_file_that_was_touched_is_checked_again_and_fine(
    table: Table, hashed: list[tuple[int, int]]
) -> None:
    table.array("open")
    os.utime(table.path)
    table.array("open")
    assert len(hashed) == 2 * (len(table.checks.edges) - 1)


def test_a_file_cut_short_under_a_process_is_an_error_and_no_crash(table: Table) -> None:
    table.array("close")
    offset, width = table.checks.find_place("close").extents["close"]
    os.truncate(table.path, offset + 3 * width)
    with pytest.raises(StoreError, match="'close' between"):
        table.array("close")


def test_a_file_that_is_removed_or_replaced_is_read_on_by_who_has_opened_it(
    table: Table, tmp_path: Path
) -> None:
    wanted = table.bars("close").copy()
    table._maps.clear()
    table.path.unlink()
    np.testing.assert_array_equal(table.bars("close"), wanted)
    table.path.write_bytes(b"something else")
    np.testing.assert_array_equal(table.bars("low").shape, wanted.shape)


def test_a_disk_that_fails_is_not_called_damage(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(UnreadableError, match=r"cannot be read \(Input/output error\): that is"):
        table.array("x")


def report(table: Table, results: Any) -> None:
    results.put(int(table.checks.fine.sum()))


def test_a_fork_knows_what_its_parent_has_checked_and_a_pickle_does_not(table: Table) -> None:
    table.array("close")
    context: Any = mp.get_context("fork")
    results = context.Queue()
    child = context.Process(target=report, args=(table, results))
    child.start()
    assert results.get(timeout=60) == len(table.checks.edges) - 1
    child.join()
    assert pickle.loads(pickle.dumps(table)).checks.fine.sum() == 0


def test_a_process_that_is_given_a_table_reads_that_file_and_no_other(table: Table) -> None:
    opened, arguments = table.__reduce__()
    assert opened(*arguments).digest == table.digest
    other = write(table.path.with_name("other.h5"), series().slice(T0, T0 + 100 * 3600))
    build(other, recipe()).replace(table.path)
    with pytest.raises(StoreError, match=f"{re.escape(str(table.path))} is another file than"):
        opened(*arguments)


# --- windows -------------------------------------------------------------------------------------


def ways(folder: Path, **options: Any) -> Iterator[BTCDataModule]:
    given: dict[str, dict[str, Any]] = {
        "scaled ahead": {},
        "scaled by window": {"scaling": "window"},
        "in blocks": {"shuffle": "block"},
        "on the device": {"gather": "device"},
        "robust": {"scaling": "robust"},
        "targets scaled": {"target_scaling": "robust"},
        "in a worker": {"num_workers": 1, "start_method": "fork"},
    }
    for each in given.values():
        split = FractionSplit(0.2, 0.2)
        yield make_datamodule(folder, ready=False, split=split, **options | each)


def use(dm: BTCDataModule, *, ahead: bool) -> None:
    """Set up and go through the batches of every stage."""
    dm.setup()
    for stage in ("train", "val", "test", "predict"):
        loader = getattr(dm, f"{stage}_dataloader")()
        if not ahead and isinstance(loader.dataset, WindowDataset):
            loader.dataset.ahead_bytes = 0
        for batch in loader:
            dm.transfer_batch_to_device(batch, torch.device("cpu"), 0)


@pytest.mark.each_value
@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("name", ["x", "observed", "close"])
def test_no_way_to_batches_uses_rows_that_are_not_as_written(
    tmp_path: Path, name: str, ahead: bool
) -> None:
    dm = make_datamodule(tmp_path)
    table = dm.table
    used = table.checks.find_segments(np.array([table.find_row(dm.fold.train[0][0]) + 300]))[0]
    row = int(table.checks.edges[used]) + 3
    less = {"min_observed": 0.5} if name == "observed" else {}  # else no mask is read
    spoil(table, name, row)
    for damaged in ways(tmp_path, **less):
        with pytest.raises(StoreError, match=f"'{name}' between .* is not what was written"):
            use(damaged, ahead=ahead)
    spoil(table, name, row)
    use(make_datamodule(tmp_path, ready=False), ahead=ahead)


def test_arrays_that_nothing_reads_are_not_checked(
    tmp_path: Path, hashed: list[tuple[int, int]]
) -> None:
    dm = make_datamodule(tmp_path)
    spoil(dm.table, "high", 5)
    use(make_datamodule(tmp_path, ready=False), ahead=True)
    extents = dm.table.checks.find_place("high").extents
    unread = {range(extents[n].offset, extents[n].offset + 8 * dm.table.rows) for n in ("high",)}
    assert hashed
    assert not [at for at, _ in hashed for each in unread if at in each]


def test_windows_check_the_segments_that_they_reach_into_and_no_others(
    tmp_path: Path, hashed: list[tuple[int, int]]
) -> None:
    dm = make_datamodule(tmp_path, lookback=2 * SEGMENT + 10)
    windows = dm.dataset("train")
    windows.ahead_bytes = 0
    dm.table.checks.fine[:] = False
    hashed.clear()
    windows[0]
    origin = int(windows.origins[np.array([0])][0])
    low, high = dm.table.checks.find_segments(
        np.array([origin - windows.shape.lookback + 1, origin])
    ).tolist()
    assert high - low >= 2
    offset, width = dm.table.checks.find_place("x").extents["x"]
    size = width * dm.table.rows
    edges = dm.table.checks.edges
    due = {offset + int(edges[each]) * width for each in range(low, high + 1)}
    assert {at for at, _ in hashed if offset <= at < offset + size} == due
    hashed.clear()
    windows[0]
    assert hashed == []


def test_a_batch_costs_one_test_once_all_is_checked(tmp_path: Path) -> None:
    dm = make_datamodule(tmp_path)
    windows = dm.dataset("train")
    windows[np.arange(4)]
    inputs, outputs = windows._get_views().inputs, windows._get_views().outputs
    assert not inputs.left
    assert not outputs.left
    begin = time.perf_counter()
    for _ in range(1000):
        inputs.check(np.zeros(1, dtype=np.int64), 1)
    assert time.perf_counter() - begin < 0.1


def test_a_table_in_use_is_held(table: Table) -> None:
    assert table.checks.head is use_file(table.path)
