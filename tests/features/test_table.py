"""The feature file: exact bytes to map, zeros where nothing was seen, a name that tells content."""

import multiprocessing as mp
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from btc_datamodule.audit.verify import verify_series, verify_table
from btc_datamodule.errors import StoreError
from btc_datamodule.features import layout
from btc_datamodule.features.build import build
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.layout import BAR_COLUMNS, SCHEMA, SIZED
from btc_datamodule.features.table import Table, locate_table
from btc_datamodule.sources.files.source import CandleFile
from btc_datamodule.store.candle_file import read_candles, read_header
from btc_datamodule.store.update import update
from tests.factories import HOUR, T0
from tests.features.tables import LONG, NO_TRADE, OUTAGE, ROWS, recipe, series

FILLED = slice(LONG.start, OUTAGE.start)

# --- content ------------------------------------------------------------------------------------


def test_the_table_says_what_it_holds(table: Table, candles: Path) -> None:
    assert table.key == recipe().compute_key(read_header(candles))
    assert table.path == locate_table(candles, table.key)
    assert table.path.name == f"features-{table.key}.h5"
    assert (table.first, table.interval, table.rows) == (T0, HOUR, ROWS)
    assert table.features == ("log_return", "log_volume")
    assert (table.warm_up, table.present, table.max_fill, table.filled) == (1, ROWS - 12, 3, 2 + 3)
    assert table.holes.tolist() == [[30, 32], [60, 70]]
    assert table.outages.tolist() == [[63, 70]]
    assert table.unobserved.tolist() == [[0, 1], [63, 71]]


def test_values_are_those_of_the_features_and_zero_where_not_observed(table: Table) -> None:
    close = np.full(ROWS, np.nan)
    volume = np.full(ROWS, np.nan)
    at = (series().open_time - T0) // HOUR
    close[at], volume[at] = series()["close"], series()["volume"]
    for filled, before in ((NO_TRADE, 29), (FILLED, 59)):
        close[filled], volume[filled] = close[before], 0
    x = np.stack([np.log(close / np.roll(close, 1)), np.log1p(volume)], axis=1)
    x[0] = np.nan
    seen = np.isfinite(x).all(axis=1)
    np.testing.assert_allclose(table.x, np.where(seen[:, None], x, 0), rtol=1e-6)
    assert table.observed.tolist() == seen.astype(int).tolist()


def test_warm_up_outage_and_the_first_return_after_it_are_not_observed(table: Table) -> None:
    unseen = np.flatnonzero(table.observed == 0).tolist()
    assert unseen == [0, *range(63, 71)]
    assert not table.x[unseen].any()
    assert table.x[71, 0] != 0
    assert table.x[70, 1] == 0  # one feature without a value hides the row for all


def test_filled_bars_are_observed_as_flat_in_a_hole_of_any_length(table: Table) -> None:
    for filled in (NO_TRADE, FILLED):
        count = filled.stop - filled.start
        assert table.observed[filled].tolist() == [1] * count
        assert table.x[filled].tolist() == [[0, 0]] * count
    assert table.x[32, 0] == pytest.approx(np.log(series()["close"][30] / series()["close"][29]))


def test_without_history_even_a_defined_value_is_not_observed(candles: Path) -> None:
    loose = Feature("loose", 20, lambda bars: bars["close"].log())
    table = Table.open(build(candles, recipe("log_volume", loose)))
    assert table.warm_up == 19
    assert table.unobserved.tolist() == [[0, 19], [63, 70]]
    assert not table.x[:19].any()


def test_bars_are_the_prices_in_full_precision(table: Table) -> None:
    names = ("open", "high", "low", "close", "volume")
    at = (series().open_time - T0) // HOUR
    for name in names:
        np.testing.assert_array_equal(table.bars(name)[at], series()[name])
        assert np.isnan(table.bars(name)[OUTAGE]).all()
        for filled in (NO_TRADE, FILLED):
            flat = 0 if name == "volume" else table.bars("close")[filled.start - 1]
            assert table.bars(name)[filled].tolist() == [flat] * (filled.stop - filled.start)


@pytest.mark.parametrize(("name", "dtype"), [("x", "<f4"), ("observed", "|u1"), ("low", "<f8")])
def test_the_bytes_at_the_offset_are_the_array(table: Table, name: str, dtype: str) -> None:
    mapped: np.ndarray[Any, Any] = table.bars(name) if name == "low" else getattr(table, name)
    with h5py.File(table.path) as file:
        data = file[name]
        stored, offset = data[()], data.id.get_offset()
        assert data.dtype.str == dtype
        assert (data.chunks, data.compression, data.shuffle, data.fletcher32) == (
            None,
            None,
            False,
            False,
        )
        assert data.external is None
    raw = table.path.read_bytes()[offset : offset + stored.nbytes]
    assert raw == stored.tobytes()
    assert raw == mapped.tobytes()
    assert mapped.dtype.str == dtype
    assert mapped.shape == stored.shape
    assert mapped.flags.c_contiguous
    assert isinstance(mapped, np.memmap)


def test_mapped_arrays_cannot_be_written(table: Table) -> None:
    for mapped in (table.x, table.observed, table.bars("open")):
        assert not mapped.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            mapped[0] = 1


def test_infinite_and_too_large_values_are_not_observed(candles: Path) -> None:
    def odd(bars: pl.DataFrame) -> pl.Series:
        row = (bars["open_time"] - T0) // HOUR
        scale = pl.Series([{40: 0.0, 45: 1e-50, 50: -0.0}.get(r, 1.0) for r in row])
        return bars["close"] / scale

    table = Table.open(build(candles, recipe("log_volume", Feature("odd", 1, odd))))
    runs = [[40, 41], [45, 46], [50, 51], [63, 70]]
    assert table.unobserved.tolist() == runs
    assert not table.x[[40, 45, 50]].any()
    assert np.isfinite(table.x).all()


def test_the_first_present_row_from_any_row_on_is_the_end_of_its_hole(table: Table) -> None:
    absent = {*range(30, 32), *range(60, 70)}
    for row in range(-3, ROWS + 3):
        wanted = next(later for later in range(row, ROWS + 4) if later not in absent)
        assert table.find_present(row) == wanted


def test_rows_and_instants_convert(table: Table) -> None:
    assert [table.find_row(T0 + s) for s in (-HOUR, -1, 0, 1, HOUR, HOUR + 1)] == [
        -1,
        0,
        0,
        1,
        1,
        2,
    ]
    assert [table.find_time(row) for row in (0, 5)] == [T0, T0 + 5 * HOUR]


# --- one file, many processes -------------------------------------------------------------------


def values(table: Table, results: Any) -> None:
    results.put((table.x[40:50].tolist(), int(table.observed.sum()), float(table.bars("high")[5])))


def test_a_table_pickles_as_a_path_and_works_after(table: Table) -> None:
    total = table.x.sum()
    text = pickle.dumps(table)
    assert len(text) < 1000
    assert b"memmap" not in text
    again = pickle.loads(text)
    assert again._maps == {}
    assert again.x.sum() == total
    assert (again.key, again.rows, again.features) == (table.key, table.rows, table.features)
    np.testing.assert_array_equal(again.unobserved, table.unobserved)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_read_the_same_values(table: Table, method: str) -> None:
    wanted = (table.x[40:50].tolist(), int(table.observed.sum()), float(table.bars("high")[5]))
    context: Any = mp.get_context(method)
    results = context.Queue()
    child = context.Process(target=values, args=(table, results))
    child.start()
    assert results.get(timeout=60) == wanted
    child.join()
    assert child.exitcode == 0


def test_nobody_writes_to_a_file_in_use_and_others_read_it(candles: Path) -> None:
    table = Table.open(build(candles, recipe()))
    path = table.path
    with h5py.File(path) as file:
        assert file["x"].shape == (ROWS, 2)
    with pytest.raises(BlockingIOError):
        h5py.File(path, "r+")
    del table
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "mine"


# --- other files --------------------------------------------------------------------------------


def swap(name: str, **how: Any) -> Callable[["h5py.File"], None]:
    def spoil(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **how)

    return spoil


def set_attribute(name: str, value: Any) -> Callable[["h5py.File"], None]:
    def spoil(file: h5py.File) -> None:
        file.attrs[name] = value

    return spoil


def soft_link(file: h5py.File) -> None:
    file.move("x", "elsewhere")
    file["x"] = h5py.SoftLink("/elsewhere")


def array(dtype: str, *shape: int) -> NDArray[Any]:
    return np.ones(shape, dtype=dtype)


SPOILS: dict[str, tuple[Callable[["h5py.File"], None], str]] = {
    "another schema": (set_attribute("schema", 9), r"no.* feature file of schema 7 \(it has 9\)"),
    "x in float64": (swap("x", data=array("<f8", ROWS, 2)), "'x' is not a contiguous"),
    "x big-endian": (swap("x", data=array(">f4", ROWS, 2)), "'x' is not a contiguous"),
    "x in chunks": (swap("x", data=array("<f4", ROWS, 2), chunks=(10, 2)), "'x' is not a contig"),
    "x compressed": (
        swap("x", data=array("<f4", ROWS, 2), compression="gzip"),
        "'x' is not a contiguous",
    ),
    "x never written": (swap("x", shape=(ROWS, 2), dtype="<f4"), "'x' is not in the file as a wh"),
    "x of three features": (
        swap("x", data=array("<f4", ROWS, 3)),
        "'features' disagrees with the rest of it",
    ),
    "x of one number": (swap("x", data=np.float32(1)), "x"),
    "fewer rows": (swap("x", data=array("<f4", 5, 2)), "'observed' is not a contiguous"),
    "observed as numbers": (swap("observed", data=array("<i8", ROWS)), "'observed' is not a con"),
    "no volume": (lambda file: file.pop("volume"), "no dataset 'volume'"),
    "short close": (swap("close", data=array("<f8", ROWS - 1)), "'close' is not a contiguous"),
    "features as text": (set_attribute("features", "log_return,"), "is damaged: delete it"),
    "no key": (lambda file: file.attrs.pop("key"), "no attribute 'key'"),
    "no holes": (lambda file: file.pop("holes"), "no dataset 'holes'"),
    "no max_fill": (lambda file: file.attrs.pop("max_fill"), "no attribute 'max_fill'"),
    "soft link": (soft_link, "no dataset 'x'"),
    "no means": (lambda file: file.pop("segment_mean"), "no dataset 'segment_mean'"),
    "two blocks": (
        swap("segment_count", data=array("<i8", 2)),
        r"'segment_count' is not a \(1, 2\) array",
    ),
    "other digests": (
        swap("segment_digest", data=array("u1", 1, 7, 20)),
        "'segment_digest' is not a",
    ),
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_file_that_is_not_as_built_is_refused(table: Table, what: str) -> None:
    spoil, problem = SPOILS[what]
    with h5py.File(table.path, "r+", locking=False) as file:
        spoil(file)
    with pytest.raises(StoreError, match=problem) as caught:
        Table.open(table.path)
    assert str(table.path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x", "observed", *BAR_COLUMNS, *SIZED, "holes", "unobserved"])
def test_one_other_byte_in_any_dataset_gives_another_digest(
    name: str, candles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SEGMENT_ROWS", 50)
    path = build(candles, recipe())
    assert verify_table(path) == []
    with h5py.File(path, "r") as file:
        offset, size = file[name].id.get_offset(), file[name].nbytes
        assert len(file["segment_count"]) == 4
    whole = path.read_bytes()
    for at in {offset, offset + size // 2, offset + size - 1}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert verify_table(path)
    path.write_bytes(whole)
    assert verify_table(path) == []


@pytest.mark.parametrize("name", ["key", "candles", "warm_up", "present", "max_fill", "digest"])
def test_another_attribute_gives_another_digest(table: Table, name: str) -> None:
    with h5py.File(table.path, "r+", locking=False) as file:
        file.attrs[name] = file.attrs[name] + type(file.attrs[name])(1)
    assert verify_table(table.path)


def test_a_file_of_an_earlier_schema_is_not_called_damaged(candles: Path, table: Table) -> None:
    of_candles = verify_series(candles)
    set_attributes(table.path, schema=SCHEMA - 1)
    assert verify_series(candles) == of_candles
    for other in (SCHEMA + 1, 0, "2", [1, 2]):
        set_attributes(table.path, schema=other)
        assert len(verify_series(candles)) == len(of_candles) + 1


def set_attributes(path: Path, **values: Any) -> None:
    with h5py.File(path, "r+", locking=False) as file:
        file.attrs.update(values)


def test_a_candle_file_is_no_feature_file(candles: Path) -> None:
    with pytest.raises(StoreError, match=r"candles\.h5"):
        Table.open(candles)


def test_a_missing_a_foreign_and_a_cut_file_are_refused(table: Table, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist: run"):
        Table.open(tmp_path / "features-none.h5")
    whole = table.path.read_bytes()
    for content in (b"", b"x,y\n", whole[: len(whole) // 2], whole[:-1]):
        table.path.write_bytes(content)
        with pytest.raises(StoreError, match="HDF5 file") as caught:
            Table.open(table.path)
        assert str(table.path) in str(caught.value)


# --- real candles -------------------------------------------------------------------------------


def test_the_holes_of_real_candles_are_counted(real_data: Path, tmp_path: Path) -> None:
    source = CandleFile(str(real_data / "kraken" / "XBTUSD_60.csv"), columns="kraken")
    path = tmp_path / "candles.h5"
    header = update(path, source, HOUR, None, None).header
    table = Table.open(build(path, recipe("log_return", "volatility", max_fill=6)))
    assert header.rows == table.present == 70_253
    assert table.rows - table.present == 10_856
    length = np.diff(read_candles(path).open_time) // HOUR - 1
    assert len(table.holes) == (length > 0).sum() == 3_254
    assert table.filled == np.minimum(length, 6).sum()
    assert np.isnan(table.bars("close")).sum() == np.maximum(length - 6, 0).sum()
    assert table.filled + np.isnan(table.bars("close")).sum() == 10_856
    assert (table.outages[:, 1] - table.outages[:, 0]).tolist() == (length[length > 6] - 6).tolist()
    assert np.isfinite(table.x).all()
