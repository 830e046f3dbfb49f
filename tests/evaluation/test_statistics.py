"""Statistics and digests of any run of rows, made of what the feature file knows of its blocks."""

import hashlib
import math
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from btc_datamodule import BTCDataModule, Candles, FractionSplit, LogReturn, Simulator
from btc_datamodule.audit.verify import verify_table
from btc_datamodule.candles.timeline import format_instant, parse_instant
from btc_datamodule.evaluation.fitted import ObservedRows, compute_digest
from btc_datamodule.evaluation.origins import Origins, SampleShape
from btc_datamodule.evaluation.scaling import Scaler
from btc_datamodule.features import layout
from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.layout import BAR_COLUMNS, DTYPES, SCHEMA, SEGMENT_DTYPES
from btc_datamodule.features.moments import Moments
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table
from btc_datamodule.features.varying import change_bars
from btc_datamodule.windows.dataset import WindowDataset
from btc_datamodule.windows.sampler import WindowSampler
from tests.factories import HOUR, T0, InMemory, candles_of, changed, make_datamodule
from tests.helpers import write

BLOCK = 64
ROWS = 1000
FEATURES = ("log_return", "log_range", "log_volume")
EVER = (0, 2**40)
ARRAYS = ("x", "observed", *BAR_COLUMNS)
Run = tuple[int, int]


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """Blocks of 64 rows, so that a short table has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SEGMENT_ROWS", BLOCK)
        yield


def series(first: int = 0, last: int = ROWS) -> Candles:
    """Hourly bars from row ``first`` to ``last`` of one history, an outage and no trades in it."""
    present = np.ones(last, dtype=bool)
    present[:first] = present[300:420] = present[700:702] = False
    return candles_of(present)


def table_of(folder: Path, candles: Candles) -> Table:
    path = write(folder / "candles.h5", candles)
    return Table.open(build(path, Recipe(resolve(FEATURES), 3, EVER)))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table_of(tmp_path_factory.mktemp("statistics"), series())


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The table after newer candles came."""
    return table_of(tmp_path_factory.mktemp("longer"), series(0, ROWS + 3 * BLOCK))


def runs_of(edges: list[int]) -> list[Run]:
    edges = sorted(edges)
    return list(zip(edges[::2], edges[1::2], strict=False))


RUNS = st.lists(st.integers(0, ROWS), min_size=2, max_size=6).map(runs_of)


def rows_in(table: Table, runs: list[Run]) -> NDArray[np.float64]:
    """The observed rows, taken without any block."""
    inside = np.zeros(table.rows, dtype=bool)
    for low, high in runs:
        inside[low:high] = True
    rows: NDArray[np.float64] = table.x[inside & (table.observed == 1)].astype(np.float64)
    return rows


# --- blocks -------------------------------------------------------------------------------------


def test_blocks_are_cut_by_the_clock_whatever_else_the_table_holds(table: Table) -> None:
    before = T0 // HOUR % BLOCK
    assert before == 16
    cut = list(table.segments(0, ROWS))
    assert [rows.start for rows in cut] == [0, *range(BLOCK - before, ROWS, BLOCK)]
    assert [rows.stop for rows in cut] == [*range(BLOCK - before, ROWS, BLOCK), ROWS]
    assert len(table.moments) == len(table.digests) == len(cut) == 16
    assert list(table.segments(20, 90)) == [slice(20, 48), slice(48, 90)]
    assert list(table.segments(48, 112)) == [slice(48, 112)]
    assert list(table.segments(30, 30)) == []


def test_what_is_kept_of_a_block_is_of_the_very_bytes_in_the_file(table: Table) -> None:
    with h5py.File(table.path) as file:
        stored = {name: file[name][()] for name in (*ARRAYS, *SEGMENT_DTYPES)}
    for block, rows in enumerate(table.segments(0, ROWS)):
        for i, name in enumerate(ARRAYS):
            digest = hashlib.sha256(stored[name][rows].tobytes()).digest()
            assert stored["segment_digest"][block, i].tobytes() == digest
        seen = stored["x"][rows][stored["observed"][rows] == 1].astype(np.float64)
        assert stored["segment_count"][block].tolist() == [len(seen)] * 3
        if len(seen):
            mean = seen.mean(axis=0)
            np.testing.assert_allclose(stored["segment_mean"][block], mean, rtol=1e-12, atol=1e-17)
            squares = ((seen - mean) ** 2).sum(axis=0)
            np.testing.assert_allclose(stored["segment_squares"][block], squares, rtol=1e-12)
        else:
            assert not stored["segment_mean"][block].any()
            assert not stored["segment_squares"][block].any()
    assert stored["segment_count"].min() == 0, "a block inside the outage"


@pytest.mark.parametrize("name", SEGMENT_DTYPES)
def test_a_change_of_what_is_kept_of_a_block_is_found(tmp_path: Path, name: str) -> None:
    path = table_of(tmp_path, series()).path
    assert verify_table(path) == []
    with h5py.File(path, "r+") as file:
        file[name][3] = file[name][4]
    (problem,) = verify_table(path)
    assert "what it says of itself is not what was written" in problem


# --- statistics ---------------------------------------------------------------------------------


@given(RUNS)
@settings(max_examples=60)
def test_statistics_of_any_runs_are_those_of_their_observed_rows(
    table: Table, runs: list[Run]
) -> None:
    rows = rows_in(table, runs)
    found = ObservedRows(table, runs).moments()
    assert found.n.tolist() == [len(rows)] * 3
    for feature, values in enumerate(rows.T.tolist()):
        mean = math.fsum(values) / max(len(values), 1)
        squares = math.fsum((value - mean) ** 2 for value in values)
        spread = math.sqrt(squares / max(len(values), 1))
        assert math.isclose(found.mean[feature], mean, rel_tol=1e-12, abs_tol=1e-14 * spread)
        assert math.isclose(found.squares[feature], squares, rel_tol=1e-12)
    blocks = list(ObservedRows(table, runs))
    np.testing.assert_array_equal(np.concatenate([np.zeros((0, 3)), *blocks]), rows)


@given(RUNS)
@settings(max_examples=60)
def test_a_block_that_reaches_past_a_boundary_is_never_used(table: Table, runs: list[Run]) -> None:
    whole = {(rows.start, rows.stop) for rows in table.segments(0, ROWS)}
    inside = [any(a <= low and high <= b for a, b in runs) for low, high in sorted(whole)]
    poison = Moments(np.full(3, 10**9), np.full(3, np.nan), np.full(3, np.nan))
    kept = zip(inside, table.moments, strict=True)
    digests = table.digests.copy()
    digests[~np.array(inside)] = 0
    poisoned = replace(
        table, moments=tuple(known if use else poison for use, known in kept), digests=digests
    )
    wanted, found = (ObservedRows(each, runs).moments() for each in (table, poisoned))
    np.testing.assert_array_equal(found.n, wanted.n)
    np.testing.assert_array_equal(found.mean, wanted.mean)
    np.testing.assert_array_equal(found.squares, wanted.squares)
    assert compute_digest(poisoned, runs, ["close"]) == compute_digest(table, runs, ["close"])


@pytest.mark.each_value
@pytest.mark.parametrize("purge", [0, 1, 200])
@pytest.mark.parametrize("method", ["train", "window"])
def test_the_scaler_of_a_datamodule_is_that_of_its_train_rows(
    tmp_path: Path, method: str, purge: int
) -> None:
    dm = BTCDataModule(
        source=Simulator(seed=1, no_trade=0.01, outages_per_year=100),
        start="2020-01-01",
        end="2020-03-15",
        scaling=method,  # type: ignore[arg-type]
        purge=purge,
        data_dir=str(tmp_path),
    )
    dm.prepare_data()
    dm.setup()
    ((start, end),) = dm.fold.train
    assert start == dm.table.first
    rows = rows_in(dm.table, [(0, (end - start) // HOUR - purge)])
    center = rows.mean(axis=0) if method == "train" else np.zeros(3)
    np.testing.assert_allclose(dm.scaler.center, center, rtol=1e-12, atol=1e-17)
    np.testing.assert_allclose(dm.scaler.scale, rows.std(axis=0), rtol=1e-12)
    direct = Scaler.fit(dm.settings.scaling, lambda: [rows.astype(np.float32)], 3)
    np.testing.assert_allclose(dm.scaler.scale, direct.scale, rtol=1e-12)


@pytest.mark.parametrize("scaling", ["train", "robust"])
def test_what_is_purged_is_in_no_statistic_nor_in_the_digest_and_the_row_before_is(
    tmp_path: Path, scaling: Literal["train", "robust"]
) -> None:
    def fitted(first: int, end: int) -> dict[str, Any]:
        """With other bars in rows [first, end)."""
        rows = np.arange(400)
        candles = candles_of(rows >= 0)
        columns = change_bars(candles.columns, 2.0, (rows >= first) & (rows < end))
        dm = make_datamodule(
            tmp_path / f"{first}-{end}",
            source=InMemory(Candles(HOUR, columns)),
            split=FractionSplit(0.2, 0.3),  # train owns rows 0 to 199
            purge=7,
            scaling=scaling,
            target_scaling=scaling,
        )
        assert dm.fold.train == ((T0, T0 + 200 * HOUR),)
        return {**dm.state_dict(), "settings": None}

    clean = fitted(0, 0)
    assert fitted(193, 200) == fitted(193, 194) == fitted(200, 400) == clean
    assert fitted(192, 193)["train_digest"] != clean["train_digest"]
    other = fitted(150, 193)
    for name in ("train_digest", "scaler", "target_scaler"):
        assert other[name] != clean[name]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1.0, 6e4]),
    st.lists(st.integers(0, 500), max_size=5),
)
@settings(max_examples=50)
def test_moments_merge_in_any_parts_and_keep_a_small_variance(
    seed: int, center: float, cuts: list[int]
) -> None:
    rows = np.random.default_rng(seed).normal(center, 1e-2, (500, 2)).astype(np.float32)
    parts = [Moments.of(part) for part in np.split(rows, sorted(cuts))]
    whole = Moments.merge(parts, 2)
    again = Moments.merge([Moments.merge(parts[:2], 2), *parts[2:]], 2)
    exact = rows.astype(np.float64)
    for found in (whole, again):
        assert found.n.tolist() == [500, 500]
        np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(found.deviation, exact.std(axis=0), rtol=1e-10)


def test_moments_of_equal_rows_have_no_deviation_and_those_of_none_are_zero() -> None:
    equal = Moments.of(np.full((1001, 2), 0.1, dtype=np.float32))
    assert equal.mean.tolist() == [float(np.float32(0.1))] * 2
    assert (equal.squares >= 0).all()
    assert (equal.deviation < 1e-15).all()
    for none in (Moments.merge([], 2), Moments.of(np.zeros((0, 2), dtype=np.float32))):
        assert [each.tolist() for each in (*none, none.deviation)] == [[0, 0]] * 4


# --- the digest of the train rows ---------------------------------------------------------------


@pytest.mark.parametrize("end", [ROWS, 10 * BLOCK + 48, 10 * BLOCK + 49])
def test_the_digest_of_rows_is_the_same_after_newer_candles_came(
    table: Table, longer: Table, tmp_path: Path, end: int
) -> None:
    short = table_of(tmp_path, series(0, end)) if end < ROWS else table
    for run in ((1, end), (1, end - 1), (70, end - 50)):
        wanted = compute_digest(short, [run], ["close", "high"])
        assert compute_digest(longer, [run], ["close", "high"]) == wanted
        assert compute_digest(longer, [(run[0], run[1] + 1)], ["close", "high"]) != wanted


def test_older_candles_leave_the_digest_of_rows_alone_too(table: Table, tmp_path: Path) -> None:
    late = table_of(tmp_path, series(first=123))
    assert late.first == table.find_time(123)
    same = [(124, 290), (450, 900)]
    moved = [(low - 123, high - 123) for low, high in same]
    assert compute_digest(late, moved, ["open"]) == compute_digest(table, same, ["open"])


def test_any_change_inside_the_rows_changes_their_digest_and_none_outside_does(
    table: Table, tmp_path: Path
) -> None:
    runs = [(10, 200), (430, 600)]
    for i, row in enumerate((9, 10, 199, 200, 430, 599, 600)):
        candles = series()
        close = candles["close"].copy()
        at = int(np.searchsorted(candles.open_time, T0 + row * HOUR))
        close[at] = (candles["low"][at] + candles["high"][at]) / 2
        other = table_of(tmp_path / str(i), changed(candles, close=close))
        # The return of the row after it is made of this close too.
        touched = any(low <= row < high or low <= row + 1 < high for low, high in runs)
        assert (
            compute_digest(other, runs, ["close"]) != compute_digest(table, runs, ["close"])
        ) == touched


def test_the_digest_tells_columns_and_rows_apart(table: Table) -> None:
    given = [
        ([(0, 200)], ["close"]),
        ([(0, 200)], ["open"]),
        ([(0, 200)], ["close", "open"]),
        ([(0, 200)], []),
        ([(1, 200)], ["close"]),
        ([(0, 90), (100, 200)], ["close"]),
        ([(310, 340)], ["close"]),
        ([(310, 341)], ["close"]),
    ]
    assert len({compute_digest(table, runs, columns) for runs, columns in given}) == len(given)


# --- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1_000, 6_000])
def test_setup_reads_the_two_ends_of_train_however_long_the_history_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    end = format_instant(parse_instant("2019-01-01") + rows * HOUR)
    dm = BTCDataModule(source=Simulator(), start="2019-01-01", end=end, data_dir=str(tmp_path))
    dm.prepare_data()
    read: list[int] = []
    observed, sha256 = Table.observed_rows, layout.hash_array

    def counted_rows(self: Table, rows: slice) -> NDArray[np.float32]:
        read.append(rows.stop - rows.start)
        return observed(self, rows)

    def counted_bytes(values: NDArray[np.float32]) -> bytes:
        read.append(len(values))
        return sha256(values)

    monkeypatch.setattr(Table, "observed_rows", counted_rows)
    monkeypatch.setattr(layout, "hash_array", counted_bytes)
    dm.setup()
    assert dm.table.rows == rows
    assert len(read) <= 2 * (1 + 2 + len(dm.target.columns))
    assert max(read) < BLOCK


def test_a_pass_over_windows_takes_the_same_memory_however_long_the_history_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SEGMENT_ROWS", 1 << 12)  # numpy counts its memory to tracemalloc

    def peak(rows: int) -> int:
        (block,) = Simulator().blocks(60, (T0, T0 + rows * 60))
        table = table_of(tmp_path / str(rows), block.candles)
        origins = Origins.of(np.array([[100, rows - 2]], dtype=np.int64), 1)
        shape = SampleShape(lookback=64, horizon=1)
        dataset = WindowDataset(
            table, origins, shape, LogReturn(), Scaler.identity(3), ahead_bytes=0
        )
        sampler = WindowSampler(len(dataset), 256, shuffle="full", drop_last=True)
        tracemalloc.start()
        for _, positions in zip(range(40), sampler, strict=False):
            assert torch.isfinite(dataset[positions].x).all()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20_000)  # what is imported and kept on first use
    few, many = peak(30_000), peak(120_000)
    assert abs(many - few) < 0.05 * few, (few, many)
    assert many < 120_000 * 3 * 4, "less than the rows themselves"


# --- files of before ----------------------------------------------------------------------------


def test_a_file_of_another_schema_is_made_again_and_the_train_rows_are_the_same(
    tmp_path: Path,
) -> None:
    def datamodule() -> BTCDataModule:
        return BTCDataModule(
            source=Simulator(),
            start="2020-01-01",
            end="2020-03-01",
            split=FractionSplit(0.2, 0.2),
            data_dir=str(tmp_path),
        )

    dm, again = datamodule(), datamodule()
    dm.prepare_data()
    dm.setup()
    with h5py.File(dm.table.path, "r+", locking=False) as file:
        file.attrs["schema"] = 1
        for name in SEGMENT_DTYPES:
            del file[name]
    assert f"schema {SCHEMA} (it has 1)" in verify_table(dm.table.path)[0]
    dm.prepare_data()
    assert verify_table(dm.table.path) == []
    again.setup()
    assert again.state_dict() == dm.state_dict()


def test_all_bar_columns_have_a_digest() -> None:
    assert tuple(DTYPES) == (*ARRAYS, "reach")
