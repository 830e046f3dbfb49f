"""HDF5 files of others: what is read, what is refused, and the process that reads them."""

import datetime
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files import child_limits, hdf5_nodes, hdf5_values
from btc_datamodule.sources.files.foreign_hdf5 import read_hdf5
from btc_datamodule.sources.files.hdf5_values import Budget, Column
from btc_datamodule.sources.files.pickled import OPAQUE, read_pickled
from tests.sources.files.helpers import ORDER, TIME, TRADES, VALUES, matrix
from tests.sources.files.pandas_hdf5 import UTC, Index, pickled, put, write_fixed, write_table

MICROSECONDS = np.array(TIME) * 1_000_000
INSTANTS = [datetime.datetime.fromtimestamp(t, UTC) for t in TIME]
CLOCK = [instant.replace(tzinfo=None) for instant in INSTANTS]
BLOCK = {name: VALUES[name] for name in ORDER}


def load(path: Path, dataset: str | None = None) -> list[Column]:
    """What the process would find, without a process."""
    return hdf5_nodes.read_columns(path, dataset, Budget(2**26, 2**26)).columns


def names(columns: list[Column]) -> list[str]:
    return [column.name for column in columns]


def expect_values(columns: list[Column]) -> None:
    found = {column.name: column.values.tolist() for column in columns}
    assert {name: found[name] for name in ORDER} == VALUES


# ---------------------------------------------------------------------------------------- pandas


@pytest.mark.parametrize(("zone", "is_utc"), [(None, False), (UTC, True), ("Europe/Berlin", True)])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_an_index_of_pandas_gives_the_right_instants(
    tmp_path: Path, layout: str, unit: str, zone: Any, is_utc: bool
) -> None:
    stored = MICROSECONDS.view("M8[us]").astype(f"M8[{unit}]").view(np.int64)
    write = write_fixed if layout == "fixed" else write_table
    write(tmp_path / "a.h5", "BTC", Index(stored, f"datetime64[{unit}]", "date", zone), [BLOCK])
    columns = load(tmp_path / "a.h5")
    assert names(columns) == ["date", *ORDER]
    assert columns[0].unit == unit
    assert columns[0].is_utc == is_utc
    assert columns[0].values.tolist() == stored.tolist()
    expect_values(columns)


@pytest.mark.parametrize(("zone", "expected"), [(None, CLOCK), (UTC, INSTANTS)])
def test_instants_arrive_as_instants(tmp_path: Path, zone: Any, expected: list[Any]) -> None:
    write_fixed(tmp_path / "a.h5", "BTC", Index(TIME, "datetime64[s]", None, zone), [BLOCK])
    table = read_hdf5(tmp_path / "a.h5", None)
    assert table.names == ["", *ORDER]
    assert table.first_row == 1
    assert table.frame.columns == [str(i) for i in range(6)]
    assert table.frame["0"].to_list() == expected
    assert table.frame["4"].to_list() == VALUES["close"]


def test_a_table_of_freqtrade_is_read_under_its_key(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for key in ("ohlcv", "ETH/ohlcv/tf_1h"):
        write_table(
            path, key, Index(np.arange(3)), [{name: VALUES[name] for name in sorted(ORDER)}],
            {"date": MICROSECONDS.view("M8[us]")}, {"date": UTC}, ["date", *ORDER],
            is_indexed=True, compression="gzip",
        )  # fmt: skip
    for dataset in ("ohlcv", "ohlcv/table", "/ETH/ohlcv/tf_1h"):
        columns = load(path, dataset)
        assert names(columns) == ["", "date", *ORDER]
        assert columns[0].values.tolist() == [0, 1, 2]
        assert (columns[1].unit, columns[1].is_utc) == ("us", True)
        assert columns[1].values.tolist() == MICROSECONDS.tolist()
        expect_values(columns)
    with pytest.raises(SourceError, match=r"set `dataset`: the file has ETH/ohlcv/tf_1h, ohlcv$"):
        load(path)


def test_a_fixed_table_has_columns_in_their_order_and_leaves_pickled_ones_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.h5"
    times = {"date": MICROSECONDS.view("M8[us]")}
    write_fixed(path, "BTC", Index(np.arange(3)), [BLOCK, times, {"trades": np.array([3, 0, 1])}])
    with h5py.File(path, "a") as file:
        group = file["BTC"]
        put(group, "nblocks", np.int64(4))
        del group["axis0"]
        group["axis0"] = np.array([b"date", *(name.encode() for name in ORDER), b"sym", b"trades"])
        put(group["axis0"], "kind", "string")
        put(group["axis0"], "transposed", np.uint8(1))
        group["block3_items"] = np.array([b"sym"])
        put(group["block3_items"], "transposed", np.uint8(1))
        made = group.create_dataset("block3_values", (1,), h5py.vlen_dtype(np.uint8))
        made[0] = np.frombuffer(pickle.dumps(["BTC"] * 3), np.uint8)
    columns = load(path)
    assert names(columns) == ["", "date", *ORDER, "trades"]
    assert columns[1].values.tolist() == MICROSECONDS.tolist()
    assert columns[1].unit == "us"
    assert columns[-1].values.tolist() == [3, 0, 1]
    expect_values(columns)


def test_a_table_of_pandas_that_is_damaged_or_none_is_refused(tmp_path: Path) -> None:
    def refuse(problem: str, **attributes: Any) -> None:
        path = tmp_path / "a.h5"
        path.unlink(missing_ok=True)
        write_table(path, "BTC", Index(TIME, "datetime64[s]"), [BLOCK])
        with h5py.File(path, "a") as file:
            for name, value in attributes.items():
                put(file["BTC/table" if name.startswith("values") else "BTC"], name, value)
        with pytest.raises(SourceError, match=problem):
            load(path)

    refuse("pandas wrote a series there: write a DataFrame", pandas_type="series")
    refuse("a.h5:BTC: damaged, its axis1 is missing", pandas_type="frame")
    refuse("does not tell the names of 5 columns", values_block_0_kind=pickled(["open"]))
    refuse("does not tell the names of 5 columns", values_block_0_kind=pickled(np.arange(5)))
    write_fixed(tmp_path / "b.h5", "BTC", Index(np.arange(3)), [BLOCK])
    with h5py.File(tmp_path / "b.h5", "a") as file:
        put(file["BTC/axis1"], "index_class", "period")
    with pytest.raises(SourceError, match=r"its index is of periods.*to_timestamp\(\)"):
        load(tmp_path / "b.h5")


@pytest.mark.parametrize("name", ["fixed.h5", "table.h5", "blosc.h5"])
def test_files_that_pandas_wrote(real_data: Path, name: str) -> None:
    path = real_data.parent / "cases" / "files" / "11-pandas-hdf" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    if name == "blosc.h5":
        pytest.importorskip("hdf5plugin")
    table = read_hdf5(path, None)
    first = 1 if name == "blosc.h5" else 0
    assert table.names == ["", "date", *ORDER][1 - first :]
    assert table.frame.height == 300
    day = datetime.datetime(2025, 3, 1, tzinfo=None if first else UTC)
    assert table.frame.row(0)[first:] == (day, 84349.95, 84628.93, 83824.78, 83857.92, 636.60016)
    hours = table.frame[str(first)].diff().drop_nulls().unique().to_list()
    assert hours == [datetime.timedelta(hours=1)]


def test_a_pickle_is_read_and_never_run() -> None:
    for protocol in range(6):
        value = {
            1: ["open", ("a", 2, None, True)],
            "x": {"y": 1.5},
            "z": b"raw" if protocol > 2 else 0,
        }
        assert read_pickled(pickle.dumps(value, protocol)) == value
    evil = b"cos\nsystem\n(S'touch /tmp/owned'\ntR."
    assert read_pickled(evil) is OPAQUE
    assert read_pickled(pickle.dumps({"tz": UTC}, 0)) == {"tz": OPAQUE}
    for bad in (b"", b".", b"open.", b"(lp0\n", b"a.", b"g5\n.", b"(."):
        with pytest.raises(ValueError, match="pickle"):
            read_pickled(bad)


# ----------------------------------------------------------------------------------- other shapes


def test_a_matrix_has_no_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("BTC-USD/1h", data=matrix(), chunks=True, compression="gzip")
        file["BTC-USD/1d"] = np.zeros((4, 6))
    table = read_hdf5(tmp_path / "a.h5", "/BTC-USD/1h/")
    assert table.names is None
    np.testing.assert_array_equal(table.frame.to_numpy(), matrix())


def test_records_bring_their_names_and_types(tmp_path: Path) -> None:
    made = np.zeros(3, [("Date", "S20"), *((k.title(), ">f4") for k in ORDER), ("Count", "<u2")])
    made["Date"] = [b"2020-01-01", b"", "Mär".encode()]
    made["Count"] = TRADES
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["bars"] = made
    table = read_hdf5(tmp_path / "a.hdf5", None)
    assert table.names == list(made.dtype.names or ())
    assert table.frame["0"].to_list() == ["2020-01-01", "", "Mär"]
    assert table.frame.dtypes == [pl.String, *[pl.Float64] * 5, pl.UInt16]
    assert table.frame["6"].to_list() == TRADES


def test_a_group_gives_all_columns_that_hold_plain_values(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        node = file.require_group("spot/BTC")
        for name in ORDER:
            node[name] = np.array(VALUES[name])
        node["note"] = np.array(["a", "", "ü"], dtype=h5py.string_dtype())
        node["version"] = np.array([2])
        node.create_dataset("pickled", (3,), h5py.vlen_dtype(np.uint8))
        node["when"] = MICROSECONDS.view("M8[us]").astype(h5py.opaque_dtype("M8[us]"))
    table = read_hdf5(tmp_path / "a.h5", None)
    assert table.names == sorted([*ORDER, "note", "when"])
    assert table.frame["4"].to_list() == VALUES["open"]
    assert table.frame["3"].to_list() == ["a", "", "ü"]
    assert table.frame["6"].to_list() == CLOCK


@pytest.fixture
def odd_hdf5(tmp_path: Path) -> Path:
    """A file with good bars and one of each thing that is not read."""
    with h5py.File(tmp_path / "outside.h5", "w") as other:
        other["bars"] = matrix()
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["spot/1h"] = matrix()
        file["soft"] = h5py.SoftLink("/spot/1h")
        file["softgroup"] = h5py.SoftLink("/spot")
        file["external"] = h5py.ExternalLink("outside.h5", "/bars")
        layout = h5py.VirtualLayout((3, 6), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "outside.h5", "bars", (3, 6))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (3, 6), "f8", external=[(tmp_path / "raw.bin", 0, 144)])
        file.create_dataset("pickled", (3, 6), dtype=h5py.vlen_dtype(np.uint8))
        file.create_dataset("opaque", data=np.zeros((3, 6), "V8"))
        file.create_dataset("flags", data=np.zeros((3, 6), bool))
        file["nested"] = np.zeros(3, [("time", "i8"), ("open", "f8", (2,))])
        file["column/alone"] = np.zeros(3)
        file["cube"] = np.zeros((2, 2, 2))
        file.create_dataset("nothing", data=h5py.Empty("f8"))
        file.create_group("linked")["open"] = h5py.SoftLink("/column/alone")
        file.create_group("hollow")
        file.create_dataset("only/texts", (3,), dtype=h5py.vlen_dtype(np.uint8))
        ragged = file.create_group("ragged")
        for i, name in enumerate(("time", *ORDER)):
            ragged[name] = np.ones(2 + i)
    return path


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        ("soft", "'soft' leads through a soft or external link"),
        ("softgroup/1h", "'softgroup/1h' leads through a soft or external link"),
        ("external", "'external' leads through a soft or external link"),
        ("linked", "odd.h5:linked/open: a soft or external link"),
        ("virtual", "odd.h5:virtual: its data lie in other files"),
        ("raw", "odd.h5:raw: its data lie in other files"),
        ("pickled", "odd.h5:pickled: holds object, not plain numbers (nothing is unpickled)"),
        ("opaque", "odd.h5:opaque: holds |V8, not plain numbers"),
        ("flags", "odd.h5:flags: holds bool, not plain numbers"),
        ("nested", "odd.h5:nested: holds ('<f8', (2,)), not plain numbers"),
        ("cube", "odd.h5:cube: has the shape (2, 2, 2), which is no table"),
        ("nothing", "odd.h5:nothing: has the shape None, which is no table"),
        ("column/alone", "odd.h5:column/alone: has the shape (3,), which is no table"),
        ("only", "odd.h5:only/texts: holds object, not plain numbers"),
        ("hollow", "odd.h5:hollow: a group without columns: set `dataset`"),
        ("ragged", "odd.h5:ragged: its columns differ in length (close 6, high 4"),
        ("spot/1d", "no dataset 'spot/1d', set `dataset`: the file has column, cube,"),
        ("spot/1h/x", "no dataset 'spot/1h/x'"),
        (None, "set `dataset`: the file has column, cube, flags, nested, nothing, only, opaque, "
         "pickled, ragged, raw, spot/1h, virtual"),
    ],
)  # fmt: skip
def test_a_node_that_is_no_table_of_this_file_is_refused(
    odd_hdf5: Path, dataset: str | None, problem: str
) -> None:
    with pytest.raises(SourceError) as caught:
        load(odd_hdf5, dataset)
    assert problem in str(caught.value)
    assert "odd.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["spot/bars"] = matrix()
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"SNOD", b"SNAP").replace(b"TREE", b"TRAP"))
    for dataset in (None, "spot/bars"):
        with pytest.raises(SourceError, match=r"a\.h5: damaged HDF5 data"):
            load(path, dataset)
    for damaged in (raw[:900], b"no HDF5 at all"):
        path.write_bytes(damaged)
        with pytest.raises(SourceError, match=r"a\.h5: not a readable HDF5 file"):
            read_hdf5(path, None)
    h5py.File(path, "w").close()
    with pytest.raises(SourceError, match="set `dataset`: the file has none"):
        load(path)


# ------------------------------------------------------------ filters, locks, sizes: not damaged


@pytest.mark.parametrize(
    ("code", "plugins", "advice"),
    [
        (
            32001,
            False,
            "32001 (blosc), which is not installed: run pip install hdf5plugin",
        ),
        (32015, False, "32015 (zstd), which is not installed: run pip install hdf5plugin"),
        (32001, True, "32001 (blosc), which is not installed: write it anew packed with zlib"),
        (305, False, "305 (lzo), which is not installed: write it anew packed with zlib"),
        (33333, False, "33333 (unknown), which is not installed: write it anew packed with zlib"),
    ],
)
def test_a_filter_that_is_missing_is_named_with_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, plugins: bool, advice: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((3, 6))
        properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((3, 6))
        h5py.h5d.create(file.id, b"bars", h5py.h5t.NATIVE_DOUBLE, space, properties)
    monkeypatch.setattr(hdf5_values, "load_plugins", lambda: plugins)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    with pytest.raises(SourceError) as caught:
        load(tmp_path / "a.h5")
    assert f"a.h5:bars: is packed with the HDF5 filter {advice}" in str(caught.value)


def test_a_file_that_claims_to_be_huge_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("bars", (2**40, 6), "f8", chunks=(1024, 6), compression="gzip")
        file.create_dataset("text", (2**40,), h5py.string_dtype(), chunks=(1024,))
    with pytest.raises(SourceError, match=r"a\.h5:bars: unpacks to 48 TiB, .* to 64 MiB: it is"):
        read_hdf5(tmp_path / "a.h5", "bars")
    with pytest.raises(SourceError, match=r"unpacks to 64 TiB, and a file of this size may"):
        read_hdf5(tmp_path / "a.h5", "/")


def test_what_a_file_may_unpack_to_grows_with_its_size() -> None:
    limits = [child_limits.limit_bytes(size) / 2**20 for size in (0, 10_000, 2**20, 2**30, 2**34)]
    assert limits == [64, 64, 100, 16 * 1024, 16 * 2**14]
    assert [child_limits.limit_seconds(size) for size in (0, 10_000, 2**30)] == [4, 4, 432]


def test_a_file_that_is_being_written_is_not_called_damaged(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["bars"] = matrix()
        file.flush()
        with pytest.raises(SourceError, match=r"a\.h5: another program has it open for writing"):
            read_hdf5(tmp_path / "a.h5", None)
    assert read_hdf5(tmp_path / "a.h5", None).frame.height == 3


@pytest.mark.parametrize(
    ("raised", "problem"),
    [
        (PermissionError(13, "x"), "may not be read by this user, change its permissions"),
        (FileNotFoundError(2, "x"), "no such file, check `path`"),
        (OSError("... file is already open for write / SWMR write ..."), "has not closed it"),
    ],
)
def test_a_file_that_cannot_be_opened_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: OSError, problem: str
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise raised

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(SourceError, match=problem):
        load(tmp_path / "a.h5")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.h5: cannot be read \(No such file"):
        read_hdf5(tmp_path / "a.h5", None)
