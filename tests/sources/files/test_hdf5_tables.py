"""HDF5 files: the shapes that are read, and what is refused."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import SourceError
from tests.sources.files.helpers import ORDER, TIME, TRADES, VALUES, expect_bars, matrix, read


def records() -> np.ndarray[Any, Any]:
    """The bars as records, big-endian and with texts for times, to be awkward."""
    made = np.zeros(3, [("Date", "S25"), *((k.title(), ">f8") for k in ORDER), ("Count", "<u2")])
    made["Date"] = [format_instant(t).encode() for t in TIME]
    for name in ORDER:
        made[name.title()] = VALUES[name]
    made["Count"] = TRADES
    return made


def test_an_hdf5_matrix_is_read_in_the_order_that_columns_says(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("BTC-USD/1h", data=matrix(), chunks=True, compression="gzip")
        file["BTC-USD/1d"] = np.zeros((4, 6))
    expect_bars(read(tmp_path / "a.h5", dataset="BTC-USD/1h", columns="coinbase").candles)
    expect_bars(read(tmp_path / "a.h5", dataset="/BTC-USD/1h/", columns="coinbase").candles)


def test_an_hdf5_compound_dataset_brings_its_own_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["bars"] = records()
    expect_bars(read(tmp_path / "a.hdf5").candles, trades=TRADES)
    expect_bars(read(tmp_path / "a.hdf5", dataset="bars").candles, trades=TRADES)


@pytest.mark.parametrize("group", ["/", "spot/BTC"])
def test_an_hdf5_group_of_columns_brings_its_own_names(tmp_path: Path, group: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        node = file.require_group(group)
        node["unix"] = np.array(TIME) * 1000
        for name in ORDER:
            node[name] = np.array(VALUES[name])
        node["comment"] = np.array(["a", "b", "c"], dtype=h5py.string_dtype())
    expect_bars(read(tmp_path / "a.h5").candles)
    expect_bars(read(tmp_path / "a.h5", dataset=group).candles)


# ------------------------------------------------------------------------------------ HDF5 errors


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
        ("column", "odd.h5:column: no column open_time"),
        ("ragged", "odd.h5:ragged: its columns differ in length (close 6, high 4"),
        ("spot/1d", "no dataset 'spot/1d', set `dataset`: the file has column, cube,"),
        ("spot/1h/x", "no dataset 'spot/1h/x'"),
        (None, "set `dataset`: the file has column, cube, flags, nested, nothing, opaque, "
         "pickled, ragged, raw, spot/1h, virtual"),
    ],
)  # fmt: skip
def test_an_hdf5_node_that_is_no_table_of_this_file_is_refused(
    odd_hdf5: Path, dataset: str | None, problem: str
) -> None:
    with pytest.raises(SourceError) as caught:
        read(odd_hdf5, dataset=dataset, columns="coinbase" if dataset != "column" else None)
    assert problem in str(caught.value)
    assert "odd.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_hdf5_matrix_needs_columns_that_fit(odd_hdf5: Path) -> None:
    expect_bars(read(odd_hdf5, dataset="spot/1h", columns="coinbase").candles)
    with pytest.raises(SourceError, match="a matrix has no names: set `columns` to the names of"):
        read(odd_hdf5, dataset="spot/1h")
    with pytest.raises(SourceError, match="the file has 6 columns and `columns` names 7"):
        read(odd_hdf5, dataset="spot/1h", columns="kraken")


def test_an_hdf5_chunk_that_fails_its_checksum_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("bars", data=matrix(), chunks=True, fletcher32=True)
        offset = data.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[offset + 9] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(SourceError, match=r"a\.h5: damaged HDF5 data"):
        read(path, columns="coinbase")


def test_a_damaged_hdf5_structure_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["spot/bars"] = matrix()
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"SNOD", b"SNAP").replace(b"TREE", b"TRAP"))
    for dataset in (None, "spot/bars"):
        with pytest.raises(SourceError, match=r"a\.h5: damaged HDF5 data"):
            read(path, columns="coinbase", dataset=dataset)


def test_a_group_without_anything_has_no_dataset_to_offer(tmp_path: Path) -> None:
    h5py.File(tmp_path / "a.h5", "w").close()
    with pytest.raises(SourceError, match="set `dataset`: the file has none"):
        read(tmp_path / "a.h5")
